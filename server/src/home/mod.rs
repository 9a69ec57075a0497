//! Where a channel is at home: the one core that numbers what is published there, and keeps it.
//!
//! ```text
//! publisher's core ── Publish ──► home ── publish ──► subscribers, on all cores
//! subscriber's core ── Follow ──► home ── Following ──► the connection: replies, catches up, subscribes
//!                   ── Read ────► home ── response ──► the connection
//! server API ── Publish, Read ──► home ── Position, Kept ──► the server API
//! ```
//!
//! One core alone decides the order, so that all subscribers see the same. What a core is told and what is published
//! come to it in the order in which the home has sent them; and a core that is about to follow has
//! [raised its interest](crore_engine::CoreContext::raise_interest) before it asks. So the connection subscribes when it
//! is told where the channel stands, and everything behind that place is still to come: nothing is lost on the way,
//! and nothing comes twice.
//!
//! Only channels with a history have a home. All others are published from the core that a message comes to.

mod follow;
mod notice;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crore_engine::clock::unix_ms;
use crore_engine::{CoreContext, CoreId};

pub(crate) use self::follow::{Pending, Purpose, Waiting};
pub(crate) use self::notice::{Asker, Caught, Follow, Following, HomeNotice, Kept, Publish, Read};
use crate::channel::ChannelOptions;
use crate::config::HistoryConfig;
use crate::history::{Bounds, Found, History, Retention, SWEEP_INTERVAL_MS, Since};
use crate::wire::Envelope;

/// What of a history is handed out at once, at most: a part of what may wait for a connection, so that whoever catches
/// up is no slow consumer for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOut {
    /// Bytes of messages.
    pub(crate) bytes: usize,
    /// Messages.
    pub(crate) messages: usize,
}

/// The channels whose home a core is.
#[derive(Debug)]
pub(crate) struct Home {
    history: History,
    hand_out: HandOut,
    /// When to look again for what is too old.
    sweep_at: Option<Duration>,
}

impl Home {
    /// `cores` share what `config` allows.
    pub(crate) fn new(config: &HistoryConfig, cores: usize, hand_out: HandOut) -> Self {
        let bounds = Bounds {
            bytes: usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX) / cores,
            channels: (config.channels_max / cores).max(1),
        };
        Self { history: History::new(bounds, RandomState::new().hash_one(0)), hand_out, sweep_at: None }
    }

    /// Bytes of heap, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.history.memory_bytes()
    }

    /// Publications that are kept, and those given up for want of room since the start.
    pub(crate) const fn publications(&self) -> (usize, u64) {
        (self.history.len(), self.history.evicted())
    }

    /// Does what another core, or this one, asks for.
    pub(crate) fn obey(
        &mut self,
        context: &mut CoreContext<'_>,
        notice: HomeNotice,
        options: impl Fn(&str) -> ChannelOptions,
        text: &mut String,
    ) {
        let now_ms = unix_ms();
        let channel = match &notice {
            HomeNotice::Publish(Publish { channel, .. })
            | HomeNotice::Follow(Follow { channel, .. })
            | HomeNotice::Read(Read { channel, .. }) => channel,
        };
        // Of a channel that has had a history until the rules were changed nothing is kept any more.
        let retention = options(channel).retention().unwrap_or(Retention { messages: 0, age_ms: 0 });
        match notice {
            HomeNotice::Publish(publish) => self.publish(context, publish, retention, text, now_ms),
            HomeNotice::Follow(follow) => self.follow(context, follow, retention, now_ms),
            HomeNotice::Read(read) => self.read(context, read, retention, text, now_ms),
        }
        self.schedule(context);
    }

    /// The core is awake, perhaps for another reason: time to look for what is too old.
    pub(crate) fn on_wake(&mut self, context: &mut CoreContext<'_>) {
        let now = context.now();
        if self.sweep_at.take_if(|at| *at <= now).is_some() {
            self.history.sweep(unix_ms());
        }
        self.schedule(context);
    }

    fn schedule(&mut self, context: &mut CoreContext<'_>) {
        let now = context.now();
        if self.sweep_at.is_none() && !self.history.is_empty() {
            self.sweep_at = Some(now + Duration::from_millis(SWEEP_INTERVAL_MS));
        }
        if let Some(at) = self.sweep_at {
            context.wake_core_after(at.saturating_sub(now));
        }
    }

    fn publish(
        &mut self,
        context: &mut CoreContext<'_>,
        publish: Publish,
        retention: Retention,
        text: &mut String,
        now_ms: u64,
    ) {
        let Publish { channel, opened, publication, acknowledge } = publish;
        let mut message = std::mem::take(text);
        let position = self.history.publish(&channel, retention, now_ms, |position, time_ms| {
            Envelope::resume(&mut message, &opened).position(position).finish(time_ms)
        });
        context.publish_with(&channel, &message, publication);
        match acknowledge {
            Some(Asker::Client(to, id)) => {
                let reply = Envelope::start(&mut message, "response").id(id.as_deref());
                context.send_to(to, reply.data_published(position).finish(now_ms));
            }
            // Whoever has asked may have given up.
            Some(Asker::Api(answer)) => drop(answer.send(position)),
            None => {}
        }
        *text = message;
    }

    fn follow(&mut self, context: &mut CoreContext<'_>, follow: Follow, retention: Retention, now_ms: u64) {
        let Follow { to, ticket, channel, since } = follow;
        let (position, found) = self.history.read(&channel, retention, since, now_ms);
        let caught = found.map(|found| self.hand_out.of(found, usize::MAX));
        context.tell(to, Box::new(Following { ticket, channel, position, caught }));
    }

    /// A subscriber is told where its channel stands, which has to be known from then on; the server API is not, so that
    /// to ask for channels that are none takes no room.
    fn read(
        &mut self,
        context: &mut CoreContext<'_>,
        read: Read,
        retention: Retention,
        text: &mut String,
        now_ms: u64,
    ) {
        let Read { asker, channel, since, count } = read;
        let caught =
            |found: Option<Found<'_>>| found.map_or_else(Caught::default, |found| self.hand_out.of(found, count));
        match asker {
            Asker::Client(to, id) => {
                let (position, found) = self.history.read(&channel, retention, Some(since), now_ms);
                let reply = Envelope::start(text, "response").id(id.as_deref()).text("channel", channel);
                context.send_to(to, reply.data_history(&caught(found), position).finish(now_ms));
            }
            Asker::Api(answer) => {
                let known = self.history.is_known(&channel);
                let read = known.then(|| self.history.read(&channel, retention, Some(since), now_ms));
                let kept = match read {
                    Some((position, found)) => Kept { position: Some(position), caught: caught(found) },
                    None => {
                        Kept { position: None, caught: Caught { complete: since == Since::Kept, messages: Vec::new() } }
                    }
                };
                // Whoever has asked may have given up.
                drop(answer.send(kept));
            }
        }
    }
}

impl HandOut {
    /// The last messages of those found that may be handed out.
    fn of(self, found: Found<'_>, count: usize) -> Caught {
        let complete = found.complete;
        let all = found.len();
        let mut bytes = 0;
        let fits = found.texts().rev().take(self.messages.min(count)).take_while(|text| {
            bytes += text.len();
            bytes <= self.bytes
        });
        let mut messages: Vec<_> = fits.cloned().collect();
        messages.reverse();
        Caught { complete: complete && messages.len() == all, messages }
    }
}

/// Which of the cores is the home of a channel.
pub(crate) fn of(channel: &str, cores: usize, hasher: &impl BuildHasher) -> CoreId {
    #[expect(clippy::cast_possible_truncation, reason = "an engine has at most CORES_MAX cores")]
    let core = (hasher.hash_one(channel) % cores as u64) as u16;
    CoreId(core)
}
