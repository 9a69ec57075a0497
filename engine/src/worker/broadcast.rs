//! What a turn publishes: joined once for each topic, and one send for each subscriber.

use super::Worker;
use super::coalesce::Output;
use super::connection::{NONE, Phase};
use super::corks::Corks;
use super::label::{Labelling, Policy};
use super::variants::{Variants, frames_in};
use crate::driver::{Driver, FrameBytes, Outgoing, SharedBytes};
use crate::handler::{Handler, Publication};
use crate::id::{ConnectionId, TopicId};
use crate::limits::{CORK_BYTES_MAX, LIST_ENTRIES_KEPT_MAX};
use crate::protocol::frame::WrittenFrame;
use crate::topics::NO_MARK;

/// The messages that this turn has for one topic.
struct Join {
    /// `None` once its subscribers have changed: what comes later in the turn is another join.
    topic: Option<TopicId>,
    frames: Vec<u8>,
    messages: u32,
    /// Connections that do not get a message, which is named by its place among the others: those who
    /// sent it.
    exceptions: Vec<(u32, u32)>,
    /// What happens to the messages where they have to wait, if the topic has a policy of its own.
    policy: Option<Policy>,
    /// Their keys, if they have any.
    keys: Vec<u64>,
}

/// The topics that this turn has published to.
#[derive(Default)]
pub(super) struct Broadcasts {
    joins: Vec<Join>,
}

impl Broadcasts {
    /// Frees the room of a turn that published to more topics than most.
    pub(super) fn trim(&mut self) {
        self.joins.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Adds an encoded frame to what the turn has for a topic's subscribers on this core.
    pub(super) fn publish_here(&mut self, topic: TopicId, frame: &[u8], publication: &Publication) {
        let (policy, key) = Policy::of(publication.overflow);
        let mut mark = self.topics.turn_mark(topic);
        if mark == NO_MARK {
            mark = u32::try_from(self.broadcasts.joins.len()).expect("fewer joins than topics");
            self.topics.set_turn_mark(topic, mark);
            let frames = self.corks.buffer();
            let (topic, exceptions, keys) = (Some(topic), Vec::new(), Vec::new());
            self.broadcasts.joins.push(Join { topic, frames, messages: 0, exceptions, policy, keys });
        } else {
            let join = &self.broadcasts.joins[mark as usize];
            if join.frames.len() + frame.len() > CORK_BYTES_MAX || join.policy != policy {
                self.deliver(mark as usize, false);
            }
        }
        let join = &mut self.broadcasts.joins[mark as usize];
        join.frames.extend_from_slice(frame);
        join.policy = policy;
        join.keys.extend(key);
        if let Some(slot) = publication.except.and_then(|id| self.connections.slot_of(id)) {
            join.exceptions.push((slot, join.messages));
        }
        join.messages += 1;
    }

    /// Delivers what was published to a topic before its subscribers change.
    pub(super) fn deliver_before_change(&mut self, topic: TopicId) {
        let mark = self.topics.turn_mark(topic);
        if mark != NO_MARK {
            self.deliver(mark as usize, false);
            self.topics.set_turn_mark(topic, NO_MARK);
            self.broadcasts.joins[mark as usize].topic = None;
        }
    }

    /// At the end of the turn.
    pub(super) fn flush_broadcasts(&mut self) {
        // With one topic nothing can come in between: its sends are queued without a detour.
        let only = self.broadcasts.joins.len() == 1;
        for index in 0..self.broadcasts.joins.len() {
            self.deliver(index, only);
        }
        for join in self.broadcasts.joins.drain(..) {
            if let Some(topic) = join.topic {
                self.topics.set_turn_mark(topic, NO_MARK);
            }
            self.corks.recycle(join.frames);
        }
    }

    /// Hands what is joined to every subscriber, and empties the join.
    fn deliver(&mut self, index: usize, only: bool) {
        let Self {
            broadcasts, topics, connections, corks, driver, deflating, held, stats, coalescer, clock, core, ..
        } = self;
        let Join { topic, frames, messages, exceptions, policy, keys } = &mut broadcasts.joins[index];
        let Some(topic) = topic.filter(|_| *messages > 0) else { return };
        let (frames, messages) = (std::mem::take(frames), std::mem::take(messages));
        let (mut exceptions, keys) = (std::mem::take(exceptions), std::mem::take(keys));
        let mut labelling =
            policy.map(|policy| Labelling::new(topics.name(topic), topics.hash(topic), policy, keys.as_slice()));
        exceptions.sort_unstable();
        for (slot, _) in &exceptions {
            connections.at(*slot).apart = true;
        }
        let mut variants = Variants::new(SharedBytes::new(FrameBytes::Local(frames)));
        for &slot in topics.subscribers(topic) {
            let connection = connections.at(slot);
            if connection.apart {
                let excepted = excepted_from(slot, &exceptions);
                if connection.coalesces {
                    let mut output = Output { corks, deflating: deflating.as_mut(), held, stats };
                    // What has to wait is kept by itself where its topic has a policy for that.
                    if labelling.is_none() || !connection.has_waiting() {
                        let id = ConnectionId::new(*core, slot, connection.generation);
                        for frame in left_of(variants.plain(), excepted) {
                            output.stats.messages_sent += 1;
                            coalescer.add(id, connection, &frame, clock.now(), &mut output);
                        }
                        continue;
                    }
                    coalescer.flush(slot, connection, &mut output);
                }
                let variant = variants.choose(connection, deflating.as_mut(), stats);
                Variants::note_sent(variant, connection, held);
                let (own, count) = without(variants.frames(variant).as_slice(), excepted, corks);
                stats.messages_sent += u64::from(count);
                match &labelling {
                    _ if count == 0 => corks.recycle(own),
                    None => {
                        corks.append(slot, connection, &own, count);
                        corks.recycle(own);
                    }
                    Some(labelling) => {
                        let keys = others(&keys, excepted);
                        let own = SharedBytes::new(FrameBytes::Local(own));
                        corks.append_labelled(slot, connection, &own, count, &mut labelling.with_keys(&keys));
                        corks.keep_shared(own);
                    }
                }
                continue;
            }
            let variant = variants.choose(connection, deflating.as_mut(), stats);
            let frames = variants.frames(variant);
            stats.messages_sent += u64::from(messages);
            Variants::note_sent(variant, connection, held);
            if only && connection.cork == NONE && !connection.sending {
                connection.sending = true;
                let outgoing = Outgoing::Shared { bytes: SharedBytes::clone(frames), start: 0 };
                driver.send(connection.socket, Self::token(slot), outgoing);
            } else if let Some(labelling) = &mut labelling {
                corks.append_labelled(slot, connection, frames, messages, labelling);
            } else {
                corks.append_shared(slot, connection, frames, messages);
            }
        }
        for (slot, _) in exceptions {
            let connection = connections.at(slot);
            connection.apart = connection.coalesces;
        }
        variants.recycle(corks);
    }

    /// Sends an encoded frame to every open connection of this core that hears what is broadcast.
    pub(super) fn broadcast_here(&mut self, frame: SharedBytes, except: Option<ConnectionId>) {
        let mut variants = Variants::new(frame);
        for slot in self.connections.slots() {
            let id = self.connections.id_at(slot);
            let connection = self.connections.at(slot);
            if connection.phase == Phase::Open && connection.hears_broadcasts && Some(id) != except {
                self.stats.messages_sent += 1;
                if connection.coalesces {
                    self.join(slot, variants.plain());
                    continue;
                }
                let variant = variants.choose(connection, self.deflating.as_mut(), &mut self.stats);
                Variants::note_sent(variant, connection, &mut self.held);
                self.corks.append_shared(slot, connection, variants.frames(variant), 1);
            }
        }
        variants.recycle(&mut self.corks);
    }
}

/// The exceptions of one connection; all of them are sorted.
fn excepted_from(slot: u32, exceptions: &[(u32, u32)]) -> &[(u32, u32)] {
    let start = exceptions.partition_point(|(other, _)| *other < slot);
    let end = exceptions.partition_point(|(other, _)| *other <= slot);
    &exceptions[start..end]
}

/// The joined frames without some, and how many messages are left.
fn without(frames: &[u8], excepted: &[(u32, u32)], corks: &mut Corks) -> (Vec<u8>, u32) {
    let mut own = corks.buffer();
    let mut count = 0;
    for frame in left_of(frames, excepted) {
        own.extend_from_slice(frame.bytes);
        count += 1;
    }
    (own, count)
}

/// The joined frames without some.
fn left_of<'f>(frames: &'f [u8], excepted: &[(u32, u32)]) -> impl Iterator<Item = WrittenFrame<'f>> {
    let mut excepted = excepted.iter().map(|(_, index)| *index).peekable();
    (0..).zip(frames_in(frames)).filter(move |(index, _)| excepted.next_if_eq(index).is_none()).map(|(_, frame)| frame)
}

/// The keys of joined messages without those of some.
fn others(keys: &[u64], excepted: &[(u32, u32)]) -> Vec<u64> {
    let mut excepted = excepted.iter().map(|(_, index)| *index).peekable();
    (0..).zip(keys).filter(|(index, _)| excepted.next_if_eq(index).is_none()).map(|(_, key)| *key).collect()
}
