//! Output of earlier turns that waits for a connection that is still sending, within bounds.
//!
//! At a bound the policy decides of the message that has come: that of its topic, or else the connection's. What may
//! be dropped by its topic's policy makes room for what may not. Where messages are missing there is a *gap*, an entry
//! of the queue like others, which is announced when it is its turn to leave:
//!
//! ```text
//! at the end    [a1 b1 a2]  a3 and a4 are dropped ──►  [a1 b1 a2 gap(a, 2)]
//! at the front  [a1 a2 b1]  a1 and a2 make room ────►  [gap(a, 2) b1 …]
//! by its key    [x1 y1]     x2 replaces x1 ─────────►  [x2 y1]
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use super::corks::{Corks, Parcel};
use super::held::owned_bytes;
use super::label::{Label, Policy};
use super::lossy::Lossy;
use crate::driver::Outgoing;
use crate::limits::{CORK_BYTES_MAX, JOIN_COPY_BYTES_MAX, Limits, SlowConsumer};

/// Bytes that a gap counts for: without them a peer that reads one message at a time could have any number of gaps
/// between the others.
const GAP_BYTES: usize = size_of::<Parcel>();

/// Whether an outbox with so much in it is half full, by either bound.
pub(super) const fn half_full(bytes: usize, messages: usize, limits: &Limits) -> bool {
    bytes > limits.outbox_bytes_max / 2 || messages > limits.outbox_messages_max / 2
}

/// What an outbox made of a parcel.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// What does not wait any more, or has never come to that: the parcel itself, or older ones.
    pub(super) gone: Vec<Parcel>,
    /// How many of its messages were replaced by newer ones; the others are dropped.
    pub(super) conflated: u32,
    /// The connection is too slow to be kept.
    pub(super) too_slow: bool,
}

/// What is next to leave.
#[derive(Debug)]
pub(super) enum Next {
    Parcel(Parcel),
    /// So many messages are missing here.
    Gap {
        label: Option<Rc<Label>>,
        dropped: u32,
    },
}

/// Parcels of earlier turns that wait for the send in flight, bounded in bytes and messages.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Parcel>,
    bytes: usize,
    messages: usize,
    /// Memory that its parcels alone refer to.
    owned_bytes: usize,
    /// The part of it that may be dropped by the policies of topics, and what is missing: most have none.
    lossy: Option<Box<Lossy>>,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that wait.
    pub(super) const fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something waits that may not be dropped by the policy of its topic.
    pub(super) fn holds_more_than_lossy(&self) -> bool {
        self.bytes > self.lossy.as_ref().map_or(0, |lossy| lossy.bytes)
    }

    /// Bytes of heap that it takes, but for the frames that it shares with others.
    pub(super) fn heap_bytes(&self) -> usize {
        let lossy = self.lossy.as_ref().map_or(0, |lossy| lossy.heap_bytes());
        self.owned_bytes + self.queue.capacity() * size_of::<Parcel>() + lossy
    }

    /// Whether half of either bound is reached, once so much `more` is stored, in bytes and in messages. What may be
    /// dropped does not count: it is in nobody's way.
    pub(super) fn is_half_full(&self, more: (usize, usize), limits: &Limits) -> bool {
        let (bytes, messages) = self.lossy.as_ref().map_or((0, 0), |lossy| (lossy.bytes, lossy.messages));
        half_full(self.bytes - bytes + more.0, self.messages - messages + more.1, limits)
    }

    /// Stores a parcel within the bounds; control frames are exempt. Of messages that are conflated each comes by
    /// itself.
    pub(super) fn store(&mut self, mut parcel: Parcel, limits: &Limits) -> Stored {
        let mut stored = Stored::default();
        if let Outgoing::Owned { bytes, .. } = &mut parcel.outgoing {
            fit(bytes);
        }
        let policy = policy_of(&parcel, limits);
        if policy.is_replacing()
            && let Some(place) = self.place_of_older(&parcel)
        {
            self.replace(place, parcel, limits, &mut stored);
            return stored;
        }
        while parcel.messages > 0 && !self.has_room(limits) {
            match self.evict(policy, parcel.label.is_some(), limits) {
                Some(evicted) => stored.gone.push(evicted),
                None => {
                    stored.too_slow = policy == Policy::Disconnect;
                    if !stored.too_slow {
                        self.note_missing(&parcel);
                    }
                    stored.gone.push(parcel);
                    return stored;
                }
            }
        }
        self.push(parcel);
        stored
    }

    /// Puts control frames behind what waits. Of several pongs only the last needs to be sent (RFC
    /// 6455, section 5.5.3), so one that still waits at the end is replaced: a peer that pings and
    /// never reads does not fill the outbox.
    pub(super) fn store_control(&mut self, mut frames: Vec<u8>) {
        fit(&mut frames);
        if let Some(parcel) = self.queue.back_mut()
            && !is_gap(parcel)
            && let Parcel { outgoing: Outgoing::Owned { bytes, .. }, messages: 0, .. } = parcel
        {
            self.bytes = self.bytes - bytes.len() + frames.len();
            self.owned_bytes = self.owned_bytes - bytes.capacity() + frames.capacity();
            *bytes = frames;
            return;
        }
        self.push(Parcel::new(Outgoing::Owned { bytes: frames, start: 0 }, 0));
    }

    /// What is next to send: a parcel, or several small ones that were kept apart while they might have been dropped
    /// or replaced.
    pub(super) fn next(&mut self, corks: &mut Corks) -> Option<Next> {
        let first = self.pop()?;
        if is_gap(&first) {
            return Some(Next::Gap { label: first.label, dropped: first.index });
        }
        let joins =
            |parcel: &Parcel| parcel.label.is_some() && !is_gap(parcel) && parcel.outgoing.len() <= JOIN_COPY_BYTES_MAX;
        if !joins(&first) || !self.queue.front().is_some_and(joins) {
            return Some(Next::Parcel(first));
        }
        let mut joined = Parcel::new(Outgoing::Owned { bytes: Vec::new(), start: 0 }, first.messages);
        let mut bytes = corks.buffer();
        corks.move_into(&mut bytes, first.outgoing);
        while let Some(next) = self.queue.front().filter(|next| joins(next))
            && bytes.len() + next.outgoing.len() <= CORK_BYTES_MAX
            && let Some(next) = self.pop()
        {
            joined.messages += next.messages;
            corks.move_into(&mut bytes, next.outgoing);
        }
        joined.outgoing = Outgoing::Owned { bytes, start: 0 };
        Some(Next::Parcel(joined))
    }

    /// Everything that waits, to be given up.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Parcel> + use<> {
        std::mem::take(self).queue.into_iter().filter(|parcel| !is_gap(parcel))
    }

    /// Whether one more parcel is taken, whatever its size: else a message larger than the bound could be sent
    /// only while nothing else is.
    const fn has_room(&self, limits: &Limits) -> bool {
        self.bytes < limits.outbox_bytes_max && self.messages < limits.outbox_messages_max
    }

    fn push(&mut self, parcel: Parcel) {
        self.queue.push_back(parcel);
        self.note_come(self.queue.len() - 1);
    }

    fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.queue.pop_front()?;
        self.note_gone(&parcel);
        if let Some(lossy) = &mut self.lossy {
            lossy.note_pop();
        }
        Some(parcel)
    }

    /// Makes room for a message with this policy, which has a label or not: drops the oldest that may be dropped for it.
    fn evict(&mut self, policy: Policy, labelled: bool, limits: &Limits) -> Option<Parcel> {
        let place = match (policy, labelled) {
            (Policy::DropNewest, true) => return None,
            // The connection's own policy, which means all that it is sent.
            (Policy::DropOldest, false) => {
                let may_go = |parcel: &Parcel| parcel.messages > 0 && policy_of(parcel, limits).is_lossy();
                self.queue.iter().position(may_go)?
            }
            _ => {
                let from = self.lossy.as_ref().filter(|lossy| lossy.messages > 0)?.oldest_place();
                from + self.queue.range(from..).position(is_lossy)?
            }
        };
        Some(self.drop_at(place))
    }

    /// Drops a message before which there is none of a topic that may be dropped, and notes that it is missing.
    fn drop_at(&mut self, place: usize) -> Parcel {
        if let Some(lossy) = &mut self.lossy {
            lossy.note_dropped(place);
        }
        let topic = topic_of(&self.queue[place]);
        let dropped = self.queue[place].messages;
        let mut gaps = (0..place).rev().take_while(|before| is_gap(&self.queue[*before]));
        if let Some(gap) = gaps.find(|gap| topic_of(&self.queue[*gap]) == topic) {
            self.queue[gap].index = self.queue[gap].index.saturating_add(dropped);
            let parcel = self.queue.remove(place).expect("it has been looked at");
            self.note_gone(&parcel);
            if let Some(lossy) = &mut self.lossy {
                // Those before it, which move, have no numbers that anybody keeps.
                lossy.note_pop();
            }
            return parcel;
        }
        let gap = gap_of(&self.queue[place]);
        let parcel = std::mem::replace(&mut self.queue[place], gap);
        self.note_come(place);
        self.note_gone(&parcel);
        parcel
    }

    /// Notes that messages are missing behind all that waits.
    fn note_missing(&mut self, parcel: &Parcel) {
        let topic = topic_of(parcel);
        let mut gaps = self.queue.iter_mut().rev().take_while(|other| is_gap(other));
        match gaps.find(|gap| topic_of(gap) == topic) {
            Some(gap) => gap.index = gap.index.saturating_add(parcel.messages),
            None => self.push(gap_of(parcel)),
        }
    }

    /// Where the message waits whose place this one is to take.
    fn place_of_older(&self, parcel: &Parcel) -> Option<usize> {
        self.lossy.as_ref()?.place_of(key_of(parcel)?)
    }

    fn replace(&mut self, place: usize, parcel: Parcel, limits: &Limits, stored: &mut Stored) {
        let bytes = parcel.outgoing.len();
        let older = std::mem::replace(&mut self.queue[place], parcel);
        // In this order, for the key is the same.
        self.note_gone(&older);
        self.note_come(place);
        stored.conflated += older.messages;
        stored.gone.push(older);
        // It may be larger than the one before it. What waits is less than the bound and one message.
        while self.bytes.saturating_sub(bytes) >= limits.outbox_bytes_max
            && let Some(evicted) = self.evict(Policy::Conflate, true, limits)
        {
            stored.gone.push(evicted);
        }
    }

    fn note_come(&mut self, place: usize) {
        let parcel = &self.queue[place];
        let bytes = counted_bytes(parcel);
        self.bytes += bytes;
        self.messages += parcel.messages as usize;
        self.owned_bytes += owned_bytes(&parcel.outgoing);
        if is_lossy(parcel) {
            self.lossy.get_or_insert_default().note_come(place, key_of(parcel), bytes, parcel.messages);
        } else if is_gap(parcel) {
            let lossy = self.lossy.get_or_insert_default();
            lossy.bytes += bytes;
            lossy.gaps += 1;
        }
    }

    fn note_gone(&mut self, parcel: &Parcel) {
        let bytes = counted_bytes(parcel);
        self.bytes -= bytes;
        self.messages -= parcel.messages as usize;
        self.owned_bytes -= owned_bytes(&parcel.outgoing);
        let Some(lossy) = &mut self.lossy else { return };
        if is_lossy(parcel) {
            lossy.note_gone(key_of(parcel), bytes, parcel.messages);
        } else if is_gap(parcel) {
            lossy.bytes -= bytes;
            lossy.gaps -= 1;
        }
        if lossy.is_empty() {
            self.lossy = None;
        }
    }
}

fn policy_of(parcel: &Parcel, limits: &Limits) -> Policy {
    match (&parcel.label, limits.slow_consumer) {
        (Some(label), _) => label.policy,
        (None, SlowConsumer::Disconnect) => Policy::Disconnect,
        (None, SlowConsumer::DropNewest) => Policy::DropNewest,
        (None, SlowConsumer::DropOldest) => Policy::DropOldest,
    }
}

/// Whether it holds messages that may be dropped by their topic's policy.
fn is_lossy(parcel: &Parcel) -> bool {
    parcel.messages > 0 && parcel.label.as_ref().is_some_and(|label| label.policy.is_lossy())
}

/// Whether messages are missing here.
fn is_gap(parcel: &Parcel) -> bool {
    parcel.messages == 0 && parcel.outgoing.is_empty()
}

/// What is there in place of messages: their number lies where their key's did.
fn gap_of(parcel: &Parcel) -> Parcel {
    let outgoing = Outgoing::Owned { bytes: Vec::new(), start: 0 };
    Parcel { outgoing, messages: 0, index: parcel.messages, label: parcel.label.clone() }
}

fn topic_of(parcel: &Parcel) -> Option<u64> {
    parcel.label.as_ref().map(|label| label.hash)
}

fn key_of(parcel: &Parcel) -> Option<(u64, u64)> {
    parcel.label.as_ref()?.key(parcel.index)
}

fn counted_bytes(parcel: &Parcel) -> usize {
    if is_gap(parcel) { GAP_BYTES } else { parcel.outgoing.len() }
}

/// Frees what a buffer has beyond its contents. Buffers of the turn are used again and may be large: with a
/// few bytes in each of its thousands of parcels, an outbox would keep many times what it counts.
fn fit(bytes: &mut Vec<u8>) {
    if bytes.capacity() / 2 > bytes.len() {
        bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
