//! Output of one turn: corks, which join what it has for a connection.

use std::rc::Rc;

use super::connection::{Connection, NONE};
use super::label::{Label, LabelBytes, Labelling};
use crate::driver::{FrameBytes, Outgoing, SharedBytes};
use crate::free_list::FreeList;
use crate::limits::{
    CORK_BYTES_MAX, JOIN_COPY_BYTES_MAX, LIST_ENTRIES_KEPT_MAX, SEND_BUFFER_KEPT_BYTES_MAX, SEND_BUFFERS_KEPT_MAX,
};

/// Bytes on their way, and how many messages they hold.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) outgoing: Outgoing,
    /// Messages of the application in it; none means control frames, which are exempt from bounds.
    pub(super) messages: u32,
    /// Which of its label's keys is that of a message that is by itself.
    pub(super) index: u32,
    /// Where its messages come from, if they have to wait and their topic has a policy of its own.
    pub(super) label: Option<Rc<Label>>,
}

impl Parcel {
    /// What is for this connection alone, or whose topic has no policy of its own, or what does not have to wait.
    pub(super) const fn new(outgoing: Outgoing, messages: u32) -> Self {
        Self { outgoing, messages, index: 0, label: None }
    }
}

const _: () = assert!(size_of::<Parcel>() <= 48, "an outbox may hold thousands");

/// Output of one turn for one connection.
pub(super) struct Cork {
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) parcel: Parcel,
    /// What the turn has for the same connection before it, in bytes and in messages: it will have to wait.
    before: (usize, usize),
}

/// The corks of one turn, and empty buffers for the next ones.
#[derive(Default)]
pub(super) struct Corks {
    pub(super) list: Vec<Cork>,
    buffers: FreeList<Vec<u8>, SEND_BUFFERS_KEPT_MAX>,
    /// What can be shared and has no bytes.
    shells: FreeList<SharedBytes, SEND_BUFFERS_KEPT_MAX>,
    /// Frames that several connections are sent, each counted once. What another core has encoded is counted on
    /// every core that refers to it.
    shared_bytes: usize,
    label_bytes: LabelBytes,
}

impl Corks {
    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.take().unwrap_or_default()
    }

    /// Takes a buffer back for reuse, if it is worth keeping.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if (1..=SEND_BUFFER_KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.buffers.give_back(buffer);
        }
    }

    /// Frames that several connections are to be sent.
    pub(super) fn share(&mut self, bytes: Vec<u8>) -> SharedBytes {
        let Some(mut shell) = self.shells.take() else { return SharedBytes::new(FrameBytes::Local(bytes)) };
        *SharedBytes::get_mut(&mut shell).expect("nobody else refers to a shell") = FrameBytes::Local(bytes);
        shell
    }

    /// Lets go of frames of which others may have been sent, and have not been sent all.
    pub(super) fn keep_shared(&mut self, mut frames: SharedBytes) {
        match SharedBytes::get_mut(&mut frames) {
            Some(_) => self.recycle_shared(frames),
            // From here on it is counted, until the last one lets go.
            None => self.shared_bytes += heap_bytes(&frames),
        }
    }

    /// Lets go of frames that are counted as shared.
    pub(super) fn release_shared(&mut self, mut frames: SharedBytes) {
        if SharedBytes::get_mut(&mut frames).is_some() {
            self.shared_bytes -= heap_bytes(&frames);
            self.recycle_shared(frames);
        }
    }

    /// Takes back what nobody else refers to.
    fn recycle_shared(&mut self, mut frames: SharedBytes) {
        if let Some(FrameBytes::Local(bytes)) = SharedBytes::get_mut(&mut frames) {
            self.recycle(std::mem::take(bytes));
            self.shells.give_back(frames);
        }
    }

    /// Moves what lies elsewhere behind other bytes, and lets go of it.
    pub(super) fn move_into(&mut self, bytes: &mut Vec<u8>, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Owned { bytes: own, start } => {
                append_joined(bytes, &own[start..]);
                self.recycle(own);
            }
            Outgoing::Shared { bytes: shared, start } => {
                append_joined(bytes, &shared.as_slice()[start..]);
                self.release_shared(shared);
            }
            Outgoing::Received { .. } => unreachable!("a receive buffer does not wait in an outbox"),
        }
    }

    /// Frames that several connections are sent and that have not left yet, each counted once, and their labels.
    pub(super) fn shared_bytes(&self) -> usize {
        self.shared_bytes + self.label_bytes.get()
    }

    /// Bytes of heap that output shares, or that are kept for the output to come.
    pub(super) fn heap_bytes(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Vec::capacity).sum();
        let shells = self.shells.iter().count() * size_of::<FrameBytes>();
        self.shared_bytes() + buffers + shells
    }

    /// Frees what has not been needed since the last time.
    pub(super) fn trim(&mut self) {
        self.buffers.trim();
        self.shells.trim();
        self.list.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }

    /// Appends a copy of `frames` to what the turn has for the connection.
    pub(super) fn append<S>(&mut self, slot: u32, connection: &mut Connection<S>, frames: &[u8], messages: u32) {
        if !self.join(connection, frames, messages) {
            let mut bytes = self.buffer();
            bytes.extend_from_slice(frames);
            self.push(slot, connection, Parcel::new(Outgoing::Owned { bytes, start: 0 }, messages));
        }
    }

    /// Appends frames that other connections are sent too: copied if that spares a send, else shared.
    pub(super) fn append_shared<S>(
        &mut self,
        slot: u32,
        connection: &mut Connection<S>,
        frames: &SharedBytes,
        messages: u32,
    ) {
        if !self.join_shared(connection, frames, messages) {
            let outgoing = Outgoing::Shared { bytes: SharedBytes::clone(frames), start: 0 };
            self.push(slot, connection, Parcel::new(outgoing, messages));
        }
    }

    /// The same for a topic with a policy of its own. What leaves at once needs no policy; what has to wait is kept
    /// apart, with a label.
    pub(super) fn append_labelled<S>(
        &mut self,
        slot: u32,
        connection: &mut Connection<S>,
        frames: &SharedBytes,
        messages: u32,
        labelling: &mut Labelling<'_>,
    ) {
        let waits = connection.sending || self.waiting_before(connection) > 0;
        if !waits && self.join_shared(connection, frames, messages) {
            return;
        }
        let waits = waits || connection.cork != NONE;
        let label = waits.then(|| labelling.label(&self.label_bytes));
        let outgoing = Outgoing::Shared { bytes: SharedBytes::clone(frames), start: 0 };
        self.push(slot, connection, Parcel { outgoing, messages, index: 0, label });
    }

    fn join_shared<S>(&mut self, connection: &Connection<S>, frames: &SharedBytes, messages: u32) -> bool {
        let bytes = frames.as_slice();
        bytes.len() <= JOIN_COPY_BYTES_MAX && self.join(connection, bytes, messages)
    }

    fn join<S>(&mut self, connection: &Connection<S>, frames: &[u8], messages: u32) -> bool {
        let Some((bytes, count)) = self.joinable(connection, frames.len(), messages) else { return false };
        append_joined(bytes, frames);
        *count += messages;
        true
    }

    /// Bytes that the turn has for the connection before the cork that may be joined.
    fn waiting_before<S>(&self, connection: &Connection<S>) -> usize {
        self.list.get(connection.cork as usize).map_or(0, |cork| cork.before.0)
    }

    /// Adds a parcel behind what the turn has for the connection.
    pub(super) fn push<S>(&mut self, slot: u32, connection: &mut Connection<S>, parcel: Parcel) {
        let before = self.waiting(connection);
        connection.cork = u32::try_from(self.list.len()).expect("a turn has fewer corks than 2^32");
        self.list.push(Cork { slot, generation: connection.generation, parcel, before });
    }

    /// Bytes and messages that the turn has for the connection so far.
    pub(super) fn waiting<S>(&self, connection: &Connection<S>) -> (usize, usize) {
        if connection.cork == NONE {
            return (0, 0);
        }
        let Cork { parcel, before: (bytes, messages), .. } = &self.list[connection.cork as usize];
        (bytes + parcel.outgoing.len(), messages + parcel.messages as usize)
    }

    fn joinable<S>(
        &mut self,
        connection: &Connection<S>,
        more: usize,
        messages: u32,
    ) -> Option<(&mut Vec<u8>, &mut u32)> {
        if connection.cork == NONE {
            return None;
        }
        let Cork { parcel, before, .. } = &self.list[connection.cork as usize];
        if parcel.label.is_some() || (before.0 > 0 || connection.sending) && (messages == 0) != (parcel.messages == 0) {
            // What will go to the outbox is bounded there, and control frames are exempt from that: a
            // close frame must not be dropped with a message. Nor any message with those of a topic that may be.
            return None;
        }
        if let Outgoing::Shared { bytes, .. } = &parcel.outgoing
            && bytes.as_slice().len() <= JOIN_COPY_BYTES_MAX
        {
            // A small shared parcel becomes the connection's own, to be joined with what follows.
            let shared = SharedBytes::clone(bytes);
            let mut own = self.buffer();
            own.extend_from_slice(shared.as_slice());
            let index = connection.cork as usize;
            self.list[index].parcel.outgoing = Outgoing::Owned { bytes: own, start: 0 };
            self.release_shared(shared);
        }
        let Cork { parcel, .. } = &mut self.list[connection.cork as usize];
        match &mut parcel.outgoing {
            Outgoing::Owned { bytes, .. } if bytes.len() + more <= CORK_BYTES_MAX => {
                Some((bytes, &mut parcel.messages))
            }
            _ => None,
        }
    }
}

/// Appends to what leaves in one send, of which there is no more than [`CORK_BYTES_MAX`] with this: nor is there more room.
#[inline]
fn append_joined(bytes: &mut Vec<u8>, more: &[u8]) {
    let grows = bytes.capacity() - bytes.len() < more.len();
    if grows && bytes.capacity() > CORK_BYTES_MAX / 2 {
        bytes.reserve_exact(CORK_BYTES_MAX.saturating_sub(bytes.len()).max(more.len()));
    }
    bytes.extend_from_slice(more);
}

fn heap_bytes(frames: &FrameBytes) -> usize {
    match frames {
        FrameBytes::Local(bytes) => bytes.capacity(),
        FrameBytes::Foreign(bytes) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_without_room_is_not_kept_in_place_of_one_that_has_some() {
        let mut corks = Corks::default();
        corks.recycle(Vec::with_capacity(100));
        corks.recycle(Vec::new());
        assert!(corks.buffer().capacity() >= 100);
        assert_eq!(corks.heap_bytes(), 0);
    }

    #[test]
    fn what_was_shared_comes_back_for_reuse_once_the_last_one_lets_go() {
        let mut corks = Corks::default();
        let frames = corks.share(vec![1; 100]);
        let (sent, place) = (SharedBytes::clone(&frames), SharedBytes::as_ptr(&frames));
        corks.keep_shared(frames);
        assert_eq!(corks.shared_bytes(), 100);
        let other = corks.share(vec![2; 10]);
        assert_ne!(SharedBytes::as_ptr(&other), place, "it is being sent");
        corks.release_shared(sent);
        assert_eq!(corks.shared_bytes(), 0);
        let again = corks.share(vec![3]);
        assert_eq!((SharedBytes::as_ptr(&again), again.as_slice()), (place, &[3][..]));
        assert!(corks.buffer().capacity() >= 100);
        corks.release_shared(SharedBytes::clone(&again));
        assert_eq!(again.as_slice(), [3], "others refer to it");
    }
}
