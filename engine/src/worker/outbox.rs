//! Output: corks, which join what one turn has for a connection, and outboxes, where it waits.

use std::collections::VecDeque;

use super::connection::{Connection, NONE};
use super::held::owned_bytes;
use crate::driver::{FrameBytes, Outgoing, SharedBytes};
use crate::free_list::FreeList;
use crate::limits::{
    CORK_BYTES_MAX, JOIN_COPY_BYTES_MAX, LIST_ENTRIES_KEPT_MAX, Limits, SEND_BUFFER_KEPT_BYTES_MAX,
    SEND_BUFFERS_KEPT_MAX, SlowConsumer,
};

/// Bytes on their way, and how many messages they hold.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) outgoing: Outgoing,
    /// Messages of the application in it; none means control frames, which are exempt from bounds.
    pub(super) messages: u32,
}

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
    /// Frames that several connections are sent, each counted once. What another core has encoded is counted on
    /// every core that refers to it.
    shared_bytes: usize,
}

impl Corks {
    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.take().unwrap_or_default()
    }

    /// Takes a buffer back for reuse, if it is worth keeping.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SEND_BUFFER_KEPT_BYTES_MAX {
            buffer.clear();
            self.buffers.give_back(buffer);
        }
    }

    /// Lets go of frames of which others may have been sent, and have not been sent all.
    pub(super) fn keep_shared(&mut self, frames: SharedBytes) {
        match SharedBytes::try_unwrap(frames) {
            Ok(FrameBytes::Local(bytes)) => self.recycle(bytes),
            Ok(FrameBytes::Foreign(_)) => {}
            // From here on it is counted, until the last one lets go.
            Err(frames) => self.shared_bytes += heap_bytes(&frames),
        }
    }

    /// Lets go of frames that are counted as shared.
    pub(super) fn release_shared(&mut self, frames: SharedBytes) {
        let Ok(frames) = SharedBytes::try_unwrap(frames) else { return };
        self.shared_bytes -= heap_bytes(&frames);
        if let FrameBytes::Local(bytes) = frames {
            self.recycle(bytes);
        }
    }

    /// Frames that several connections are sent and that have not left yet, each counted once.
    pub(super) const fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Bytes of heap that output shares, or that are kept for the output to come.
    pub(super) fn heap_bytes(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Vec::capacity).sum();
        self.shared_bytes + buffers
    }

    /// Frees what has not been needed since the last time.
    pub(super) fn trim(&mut self) {
        self.buffers.trim();
        self.list.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }

    /// Appends a copy of `frames` to what the turn has for the connection.
    pub(super) fn append<S>(&mut self, slot: u32, connection: &mut Connection<S>, frames: &[u8], messages: u32) {
        if let Some(joined) = self.joinable(connection, frames.len(), messages) {
            joined.0.extend_from_slice(frames);
            *joined.1 += messages;
            return;
        }
        let mut bytes = self.buffer();
        bytes.extend_from_slice(frames);
        self.push(slot, connection, Parcel { outgoing: Outgoing::Owned { bytes, start: 0 }, messages });
    }

    /// Appends frames that other connections are sent too: copied if that spares a send, else shared.
    pub(super) fn append_shared<S>(
        &mut self,
        slot: u32,
        connection: &mut Connection<S>,
        frames: &SharedBytes,
        messages: u32,
    ) {
        let bytes = frames.as_slice();
        if bytes.len() <= JOIN_COPY_BYTES_MAX
            && let Some(joined) = self.joinable(connection, bytes.len(), messages)
        {
            joined.0.extend_from_slice(bytes);
            *joined.1 += messages;
            return;
        }
        let outgoing = Outgoing::Shared { bytes: SharedBytes::clone(frames), start: 0 };
        self.push(slot, connection, Parcel { outgoing, messages });
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
        if (before.0 > 0 || connection.sending) && (messages == 0) != (parcel.messages == 0) {
            // What will go to the outbox is bounded there, and control frames are exempt from that: a
            // close frame must not be dropped with a message.
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

fn heap_bytes(frames: &FrameBytes) -> usize {
    match frames {
        FrameBytes::Local(bytes) => bytes.capacity(),
        FrameBytes::Foreign(bytes) => bytes.len(),
    }
}

/// Whether an outbox with so much in it is half full, by either bound.
pub(super) const fn half_full(bytes: usize, messages: usize, limits: &Limits) -> bool {
    bytes > limits.outbox_bytes_max / 2 || messages > limits.outbox_messages_max / 2
}

/// What an outbox made of a parcel.
#[derive(Debug)]
pub(super) enum Stored {
    /// It waits.
    Waiting,
    /// Parcels were dropped, this one or older ones.
    Dropped(Vec<Parcel>),
    /// The connection is too slow to be kept; the parcel comes back.
    TooSlow(Parcel),
}

/// Parcels of earlier turns that wait for the send in flight, bounded in bytes and messages.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Parcel>,
    bytes: usize,
    messages: usize,
    /// Memory that its parcels alone refer to.
    owned_bytes: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of heap that it takes, but for the frames that it shares with others.
    pub(super) fn heap_bytes(&self) -> usize {
        self.owned_bytes + self.queue.capacity() * size_of::<Parcel>()
    }

    /// Whether half of either bound is reached, once so much `more` is stored, in bytes and in messages.
    pub(super) const fn is_half_full(&self, more: (usize, usize), limits: &Limits) -> bool {
        half_full(self.bytes + more.0, self.messages + more.1, limits)
    }

    /// Stores a parcel within the bounds; control frames are exempt.
    pub(super) fn store(&mut self, mut parcel: Parcel, limits: &Limits) -> Stored {
        let mut dropped = Vec::new();
        while parcel.messages > 0 && !self.has_room(limits) {
            match limits.slow_consumer {
                SlowConsumer::Disconnect => return Stored::TooSlow(parcel),
                SlowConsumer::DropNewest => return Stored::Dropped(vec![parcel]),
                SlowConsumer::DropOldest => match self.pop_oldest_message() {
                    Some(oldest) => dropped.push(oldest),
                    // What waits is exempt, or the bound is nothing.
                    None => {
                        dropped.push(parcel);
                        return Stored::Dropped(dropped);
                    }
                },
            }
        }
        self.bytes += parcel.outgoing.len();
        self.messages += parcel.messages as usize;
        if let Outgoing::Owned { bytes, .. } = &mut parcel.outgoing {
            fit(bytes);
        }
        self.owned_bytes += owned_bytes(&parcel.outgoing);
        self.queue.push_back(parcel);
        if dropped.is_empty() { Stored::Waiting } else { Stored::Dropped(dropped) }
    }

    /// Puts control frames behind what waits. Of several pongs only the last needs to be sent (RFC
    /// 6455, section 5.5.3), so one that still waits at the end is replaced: a peer that pings and
    /// never reads does not fill the outbox.
    pub(super) fn store_control(&mut self, mut frames: Vec<u8>) {
        fit(&mut frames);
        if let Some(Parcel { outgoing: Outgoing::Owned { bytes, .. }, messages: 0 }) = self.queue.back_mut() {
            self.bytes = self.bytes - bytes.len() + frames.len();
            self.owned_bytes = self.owned_bytes - bytes.capacity() + frames.capacity();
            *bytes = frames;
            return;
        }
        self.bytes += frames.len();
        self.owned_bytes += frames.capacity();
        self.queue.push_back(Parcel { outgoing: Outgoing::Owned { bytes: frames, start: 0 }, messages: 0 });
    }

    /// The next parcel to send.
    pub(super) fn next(&mut self) -> Option<Parcel> {
        let parcel = self.queue.pop_front()?;
        self.note_gone(&parcel);
        Some(parcel)
    }

    /// Everything that waits, to be given up.
    pub(super) fn take(&mut self) -> VecDeque<Parcel> {
        std::mem::take(self).queue
    }

    /// Whether one more parcel is taken, whatever its size: else a message larger than the bound could be sent
    /// only while nothing else is.
    const fn has_room(&self, limits: &Limits) -> bool {
        self.bytes < limits.outbox_bytes_max && self.messages < limits.outbox_messages_max
    }

    fn pop_oldest_message(&mut self) -> Option<Parcel> {
        let index = self.queue.iter().position(|parcel| parcel.messages > 0)?;
        let parcel = self.queue.remove(index)?;
        self.note_gone(&parcel);
        Some(parcel)
    }

    fn note_gone(&mut self, parcel: &Parcel) {
        self.bytes -= parcel.outgoing.len();
        self.messages -= parcel.messages as usize;
        self.owned_bytes -= owned_bytes(&parcel.outgoing);
    }
}

/// Frees what a buffer has beyond its contents. Buffers of the turn are used again and may be large: with a
/// few bytes in each of its thousands of parcels, an outbox would keep many times what it counts.
fn fit(bytes: &mut Vec<u8>) {
    if bytes.capacity() / 2 > bytes.len() {
        bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(bytes: &[u8], messages: u32) -> Parcel {
        Parcel { outgoing: Outgoing::Owned { bytes: bytes.to_vec(), start: 0 }, messages }
    }

    fn limits(slow_consumer: SlowConsumer) -> Limits {
        Limits { outbox_bytes_max: 10, outbox_messages_max: 3, slow_consumer, ..Limits::default() }
    }

    fn contents(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| outbox.next())
            .map(|parcel| match parcel.outgoing {
                Outgoing::Owned { bytes, .. } => bytes,
                other => panic!("not owned: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_newest_is_dropped_at_either_bound() {
        let limits = limits(SlowConsumer::DropNewest);
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            assert!(matches!(outbox.store(parcel(b"ab", 1), &limits), Stored::Waiting));
        }
        assert!(matches!(outbox.store(parcel(b"c", 1), &limits), Stored::Dropped(dropped) if dropped.len() == 1));
        assert_eq!(contents(&mut outbox), [b"ab", b"ab", b"ab"]);
        assert_eq!((outbox.bytes(), outbox.is_empty()), (0, true));
    }

    #[test]
    fn the_oldest_makes_room_and_control_frames_stay() {
        let limits = limits(SlowConsumer::DropOldest);
        let mut outbox = Outbox::default();
        outbox.store_control(b"ping".to_vec());
        assert!(matches!(outbox.store(parcel(b"old", 1), &limits), Stored::Waiting));
        assert!(matches!(outbox.store(parcel(b"newer", 1), &limits), Stored::Waiting));
        assert!(matches!(outbox.store(parcel(b"newest", 1), &limits), Stored::Dropped(dropped) if dropped.len() == 1));
        assert_eq!(contents(&mut outbox), [b"ping".to_vec(), b"newer".to_vec(), b"newest".to_vec()]);
    }

    #[test]
    fn what_finds_room_is_taken_whole() {
        let limits = limits(SlowConsumer::Disconnect);
        let mut outbox = Outbox::default();
        assert!(matches!(outbox.store(parcel(&[0; 9], 1), &limits), Stored::Waiting));
        assert!(matches!(outbox.store(parcel(&[0; 1000], 1), &limits), Stored::Waiting));
        assert!(matches!(outbox.store(parcel(b"x", 1), &limits), Stored::TooSlow(_)));
    }

    #[test]
    fn a_slow_consumer_is_named() {
        let limits = limits(SlowConsumer::Disconnect);
        let mut outbox = Outbox::default();
        assert!(matches!(outbox.store(parcel(&[0; 10], 1), &limits), Stored::Waiting));
        assert!(matches!(outbox.store(parcel(b"x", 1), &limits), Stored::TooSlow(_)));
        assert!(matches!(outbox.store(parcel(b"close", 0), &limits), Stored::Waiting), "control frames are exempt");
    }

    #[test]
    fn pongs_do_not_pile_up() {
        let mut outbox = Outbox::default();
        for round in 0..1000u32 {
            outbox.store_control(round.to_be_bytes().to_vec());
        }
        assert_eq!(contents(&mut outbox), [999u32.to_be_bytes().to_vec()]);
    }

    #[test]
    fn what_waits_takes_no_more_memory_than_is_counted() {
        let mut outbox = Outbox::default();
        let large = || {
            let mut bytes = Vec::with_capacity(SEND_BUFFER_KEPT_BYTES_MAX);
            bytes.push(1);
            bytes
        };
        for _ in 0..2 {
            let parcel = Parcel { outgoing: Outgoing::Owned { bytes: large(), start: 0 }, messages: 1 };
            assert!(matches!(outbox.store(parcel, &Limits::default()), Stored::Waiting));
            outbox.store_control(large());
            outbox.store_control(large());
        }
        let kept: usize = outbox
            .queue
            .iter()
            .map(|parcel| match &parcel.outgoing {
                Outgoing::Owned { bytes, .. } => bytes.capacity(),
                other => panic!("not owned: {other:?}"),
            })
            .sum();
        assert!(kept < 1024, "{kept} bytes are kept for {}", outbox.bytes());
    }
}
