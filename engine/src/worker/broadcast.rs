//! What a turn publishes: joined once for each topic, and one send for each subscriber.
//!
//! All that a connection is sent keeps its order, but for messages of different topics. What is joined leaves at the end
//! of the turn; so a connection that is sent something else before gets what is joined for it *ahead* of the others, and
//! at the end the rest. For the others it stays joined.

use std::time::Duration;

use hashbrown::HashMap;

use super::Worker;
use super::coalesce::{Coalescer, Output};
use super::connection::{Connection, NONE, Phase};
use super::label::{Labelling, Policy};
use super::variants::{Variants, frames_in};
use crate::driver::{Driver, Outgoing, SharedBytes};
use crate::handler::{Handler, Publication};
use crate::id::{ConnectionId, CoreId, TopicId};
use crate::limits::{CORK_BYTES_MAX, LIST_ENTRIES_KEPT_MAX};
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
    /// How much of it connections have got before the others, by their slots, which no peer chooses.
    ahead: HashMap<u32, Ahead, foldhash::fast::FixedState>,
}

/// The first messages of a join.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    messages: u32,
    bytes: usize,
}

/// What a connection gets of joined messages, if that is not all.
#[derive(Clone, Copy)]
struct Part<'p> {
    /// Those before this one it has got.
    from: u32,
    /// Of the others, those that it does not get, in order.
    excepted: &'p [(u32, u32)],
}

/// Where what is delivered goes.
struct Delivery<'w> {
    output: Output<'w>,
    coalescer: &'w mut Coalescer,
    now: Duration,
    core: CoreId,
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
            if policy.is_none() && self.publish_to_only(topic, frame, publication.except) {
                return;
            }
            mark = u32::try_from(self.broadcasts.joins.len()).expect("fewer joins than topics");
            self.topics.set_turn_mark(topic, mark);
            let frames = self.corks.buffer();
            let (topic, exceptions, keys, ahead) = (Some(topic), Vec::new(), Vec::new(), HashMap::default());
            self.broadcasts.joins.push(Join { topic, frames, messages: 0, exceptions, policy, keys, ahead });
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

    /// Hands a frame to the only subscriber of a topic, if there is no more than one and it is sent what it is as it is:
    /// nothing is to be joined for others.
    #[inline]
    fn publish_to_only(&mut self, topic: TopicId, frame: &[u8], except: Option<ConnectionId>) -> bool {
        let [slot] = *self.topics.subscribers(topic) else { return false };
        let connection = self.connections.at(slot);
        if connection.coalesces || connection.deflate.is_agreed() {
            return false;
        }
        if except.is_none_or(|id| self.connections.slot_of(id) != Some(slot)) {
            self.stats.messages_sent += 1;
            self.corks.append(slot, self.connections.at(slot), frame, 1);
        }
        true
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

    /// Whether a connection subscribes to something that is joined.
    #[inline]
    pub(super) fn is_joined_for(&mut self, slot: u32) -> bool {
        !self.broadcasts.joins.is_empty() && self.first_join(slot, 0).is_some()
    }

    /// Delivers to a connection what is joined for it: something follows that is not.
    #[inline]
    pub(super) fn deliver_ahead(&mut self, slot: u32) {
        let mut from = 0;
        while from < self.broadcasts.joins.len()
            && let Some(index) = self.first_join(slot, from)
        {
            self.deliver_to(index, slot);
            from = index + 1;
        }
    }

    /// The first of the joins, from one on, whose topic a connection subscribes to.
    fn first_join(&mut self, slot: u32, from: usize) -> Option<usize> {
        let connection = self.connections.at(slot);
        if connection.topic != NONE {
            let mark = self.topics.turn_mark(TopicId(connection.topic));
            return (mark != NO_MARK && mark as usize >= from).then_some(mark as usize);
        }
        let topics = connection.rare().map(|rare| &rare.topics).filter(|topics| !topics.is_empty())?;
        let joins = &self.broadcasts.joins;
        if topics.len() < joins.len() - from {
            let marks = topics.iter().map(|topic| self.topics.turn_mark(TopicId(*topic)) as usize);
            return marks.filter(|mark| (from..joins.len()).contains(mark)).min();
        }
        let subscribes = |join: &Join| join.topic.is_some_and(|topic| topics.contains(&topic.0));
        joins[from..].iter().position(subscribes).map(|index| from + index)
    }

    /// Hands one subscriber what is joined, which stays joined for the others.
    fn deliver_to(&mut self, index: usize, slot: u32) {
        let Self { broadcasts, topics, connections, corks, deflating, held, stats, coalescer, clock, core, .. } = self;
        let Join { topic, frames, messages, exceptions, policy, keys, ahead } = &mut broadcasts.joins[index];
        let Some(topic) = *topic else { return };
        let Ahead { messages: from, bytes } = ahead.get(&slot).copied().unwrap_or_default();
        let new = exceptions.iter().rev().take_while(|(_, message)| *message >= from);
        let excepted = new.filter(|(other, _)| *other == slot).count();
        // The sender of all there is, in most cases.
        if excepted == (*messages - from) as usize {
            return;
        }
        let excepted: Vec<(u32, u32)> = exceptions
            .iter()
            .filter(|(other, message)| excepted > 0 && *other == slot && *message >= from)
            .map(|(other, message)| (*other, *message - from))
            .collect();
        let keys = keys.get(from as usize..).unwrap_or_default();
        let mut own = corks.buffer();
        own.extend_from_slice(&frames[bytes..]);
        ahead.insert(slot, Ahead { messages: *messages, bytes: frames.len() });
        let labelling = policy.map(|policy| Labelling::new(topics.name(topic), topics.hash(topic), policy, keys));
        let mut variants = Variants::new(corks.share(own));
        let output = Output { corks, deflating: deflating.as_mut(), held, stats };
        let mut delivery = Delivery { output, coalescer, now: clock.now(), core: *core };
        let part = Part { from: 0, excepted: &excepted };
        delivery.hand_part(slot, connections.at(slot), &mut variants, labelling.as_ref(), part);
        variants.recycle(corks);
    }

    /// Hands what is joined to every subscriber, and empties the join.
    fn deliver(&mut self, index: usize, only: bool) {
        let Self {
            broadcasts, topics, connections, corks, driver, deflating, held, stats, coalescer, clock, core, ..
        } = self;
        let Join { topic, frames, messages, exceptions, policy, keys, ahead } = &mut broadcasts.joins[index];
        let Some(topic) = topic.filter(|_| *messages > 0) else { return };
        let (frames, messages) = (std::mem::take(frames), std::mem::take(messages));
        let (mut exceptions, keys, ahead) = (std::mem::take(exceptions), std::mem::take(keys), std::mem::take(ahead));
        let mut labelling =
            policy.map(|policy| Labelling::new(topics.name(topic), topics.hash(topic), policy, keys.as_slice()));
        let replaceable = policy.is_some_and(Policy::is_replacing);
        exceptions.sort_unstable();
        for slot in apart(&exceptions, &ahead) {
            connections.at(slot).apart = true;
        }
        let mut variants = Variants::new(corks.share(frames));
        let output = Output { corks, deflating: deflating.as_mut(), held, stats };
        let mut delivery = Delivery { output, coalescer, now: clock.now(), core: *core };
        for &slot in topics.subscribers(topic) {
            let connection = connections.at(slot);
            if connection.apart {
                let from = ahead.get(&slot).map_or(0, |ahead| ahead.messages);
                if from < messages {
                    let part = Part { from, excepted: excepted_from(slot, from, &exceptions) };
                    delivery.hand_part(slot, connection, &mut variants, labelling.as_ref(), part);
                }
                continue;
            }
            let Output { corks, deflating, held, stats } = &mut delivery.output;
            let variant = variants.choose(connection, deflating.as_deref_mut(), stats);
            let frames = variants.frames(variant);
            stats.messages_sent += u64::from(messages);
            Variants::note_sent(variant, replaceable, connection, held);
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
        for slot in apart(&exceptions, &ahead) {
            let connection = connections.at(slot);
            connection.apart = connection.coalesces;
        }
        variants.recycle(corks);
    }

    /// Sends an encoded frame to every open connection of this core that hears what is broadcast.
    pub(super) fn broadcast_here(&mut self, frame: SharedBytes, except: Option<ConnectionId>) {
        // It follows what was published before, and most are sent it.
        for index in 0..self.broadcasts.joins.len() {
            self.deliver(index, false);
        }
        let mut variants = Variants::new(frame);
        for slot in self.connections.slots() {
            let id = self.connections.id_at(slot);
            let connection = self.connections.at(slot);
            if connection.phase == Phase::Open && connection.hears_broadcasts && Some(id) != except {
                self.hand_whole(slot, &mut variants);
            }
        }
        variants.recycle(&mut self.corks);
    }

    /// Hands a connection one message that others are sent, too. What is joined for it has been delivered.
    pub(super) fn hand_whole(&mut self, slot: u32, variants: &mut Variants) {
        self.stats.messages_sent += 1;
        let connection = self.connections.at(slot);
        if connection.coalesces {
            return self.join(slot, variants.plain());
        }
        let variant = variants.choose(connection, self.deflating.as_mut(), &mut self.stats);
        Variants::note_sent(variant, false, connection, &mut self.held);
        self.corks.append_shared(slot, connection, variants.frames(variant), 1);
    }
}

impl Delivery<'_> {
    /// Hands a connection joined messages that it is not sent as others are.
    fn hand_part<S>(
        &mut self,
        slot: u32,
        connection: &mut Connection<S>,
        variants: &mut Variants,
        labelling: Option<&Labelling<'_>>,
        part: Part<'_>,
    ) {
        let Self { output, coalescer, now, core } = self;
        if connection.coalesces {
            // What has to wait is kept by itself where its topic has a policy for that.
            if labelling.is_none() || !connection.has_waiting() {
                let id = ConnectionId::new(*core, slot, connection.generation);
                for frame in part.of(frames_in(variants.plain())) {
                    output.stats.messages_sent += 1;
                    coalescer.add(id, connection, &frame, *now, output);
                }
                return;
            }
            coalescer.flush(slot, connection, output);
        }
        let variant = variants.choose(connection, output.deflating.as_deref_mut(), output.stats);
        let Output { corks, held, stats, .. } = output;
        let (mut own, mut count) = (corks.buffer(), 0);
        for frame in part.of(frames_in(variants.frames(variant).as_slice())) {
            own.extend_from_slice(frame.bytes);
            count += 1;
        }
        if count == 0 {
            return corks.recycle(own);
        }
        let replaceable = labelling.is_some_and(|labelling| labelling.policy.is_replacing());
        Variants::note_sent(variant, replaceable, connection, held);
        stats.messages_sent += u64::from(count);
        match labelling {
            None => {
                corks.append(slot, connection, &own, count);
                corks.recycle(own);
            }
            Some(labelling) => {
                let keys: Vec<u64> = part.of(labelling.keys.iter().copied()).collect();
                let own = corks.share(own);
                corks.append_labelled(slot, connection, &own, count, &mut labelling.with_keys(&keys));
                corks.keep_shared(own);
            }
        }
    }
}

impl Part<'_> {
    /// What of all messages, or of something else that there is for each of them, is in it.
    fn of<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        let mut excepted = self.excepted.iter().map(|(_, message)| *message).peekable();
        let rest = (0..).zip(all).skip(self.from as usize);
        rest.filter(move |(message, _)| excepted.next_if_eq(message).is_none()).map(|(_, one)| one)
    }
}

/// The exceptions of one connection, from a message on; all of them are sorted.
fn excepted_from(slot: u32, from: u32, exceptions: &[(u32, u32)]) -> &[(u32, u32)] {
    let start = exceptions.partition_point(|exception| *exception < (slot, from));
    let end = exceptions.partition_point(|(other, _)| *other <= slot);
    &exceptions[start..end]
}

/// Connections that are not sent all that is joined, or have got some of it; some of them twice.
fn apart<'j>(
    exceptions: &'j [(u32, u32)],
    ahead: &'j HashMap<u32, Ahead, foldhash::fast::FixedState>,
) -> impl Iterator<Item = u32> {
    exceptions.iter().map(|(slot, _)| *slot).chain(ahead.keys().copied())
}
