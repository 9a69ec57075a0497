//! Where a channel is at home: the one core that numbers what is published there, and keeps it.
//!
//! ```text
//! publisher's core ── Publish ──► home ── publish ──► subscribers, on all cores
//! subscriber's core ── Follow ──► home ── Following ──► the connection: replies, catches up, subscribes
//!                   ── Read ────► home ── Kept ───────► the connection: replies
//! server API ── Publish, Read ──► home ── Position, Kept ──► the server API
//! ```
//!
//! One core alone decides the order, so that all subscribers see the same. What a core is told and what is published
//! come to it in the order in which the home has sent them; and a core that is about to follow has
//! [raised its interest](crore_engine::CoreContext::raise_interest) before it asks. So the connection subscribes when it
//! is told where the channel stands, and everything behind that place is still to come: nothing is lost on the way,
//! and nothing comes twice.
//!
//! Only channels with a history have a home. All others are published from the core that a message comes to. Where the
//! rules give a channel a history, or take it, cores go over one after the other, and a message that its home does not
//! number must be missing from no line that goes on. So all cores go over in two steps ([`Policy`](crate::policy::Policy)): until every
//! one of them has the new rules, a home keeps what has a history by the old ones and the new; and what has one by either
//! goes by its home.
//!
//! | | |
//! |---|---|
//! | `notice` | what a home is told, and what it tells |
//! | `pending` | what a connection waits for |
//! | `deferred` | how much a home hands out in a turn |

mod deferred;
mod notice;
pub(crate) mod pending;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crore_engine::clock::unix_ms;
use crore_engine::{Context, CoreContext, CoreId};

pub(crate) use self::deferred::{Admission, Deferred};
pub(crate) use self::notice::{Answered, Asker, Caught, Excerpt, Follow, HomeAnswer, HomeNotice, Kept, Publish, Read};
pub(crate) use self::pending::{Outgoing, Pending, Purpose, Question, REQUESTS_SPARE, Request, Subscribing, Wanted};
use crate::config::HistoryConfig;
use crate::history::{Bounds, Found, History, Retention, SWEEP_INTERVAL_MS, Since};
use crate::wire::Envelope;

/// Bytes that a message takes beside its text, at most: its frame's header (RFC 6455, section 5.2).
const FRAME_BYTES: usize = 10;

/// What of a history is handed out at once, at most: half of what may wait for a connection, to whom a quarter is free to
/// begin with. So whoever catches up is no slow consumer for that, and another quarter is left for what is published
/// meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HandOut {
    /// Bytes of messages.
    pub(crate) bytes: usize,
    /// Messages.
    pub(crate) messages: usize,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistoryNumbers {
    /// Publications that are kept.
    pub(crate) kept: usize,
    /// Those given up for want of room since the start.
    pub(crate) evicted: u64,
    /// Questions that have waited for another turn.
    pub(crate) deferred: u64,
}

/// The channels whose home a core is.
#[derive(Debug)]
pub(crate) struct Home {
    history: History,
    hand_out: HandOut,
    /// What was too much for a turn.
    deferred: Deferred<HomeNotice>,
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
        let history = History::new(bounds, RandomState::new().hash_one(0));
        Self { history, hand_out, deferred: Deferred::default(), sweep_at: None }
    }

    /// Bytes of heap, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.history.memory_bytes()
    }

    /// What is counted.
    pub(crate) const fn numbers(&self) -> HistoryNumbers {
        let (kept, evicted) = (self.history.len(), self.history.evicted());
        HistoryNumbers { kept, evicted, deferred: self.deferred.total() }
    }

    /// Other rules hold.
    pub(crate) fn go_over(&mut self, retention: impl Fn(&str) -> Option<Retention>) {
        self.history.go_over(retention, unix_ms());
    }

    /// Does what another core, or this one, asks for. `retention` is what is kept of a channel, if anything is.
    pub(crate) fn obey(
        &mut self,
        context: &mut CoreContext<'_>,
        notice: HomeNotice,
        retention: impl Fn(&str) -> Option<Retention>,
        text: &mut String,
    ) {
        match notice {
            HomeNotice::Publish(publish) => self.publish(context, publish, retention, text),
            HomeNotice::Follow(follow) if follow.since.is_none() => self.follow(context, follow, retention),
            HomeNotice::GoOn => {
                while let Some(notice) = self.deferred.next(context.now()) {
                    self.answer(context, notice, &retention);
                }
                if !self.deferred.is_empty() {
                    context.tell_core(context.core(), Box::new(HomeNotice::GoOn));
                }
            }
            long => match self.deferred.admit(long, context.now()) {
                Admission::Now(long) => self.answer(context, long, retention),
                Admission::Later { first: true } => context.tell_core(context.core(), Box::new(HomeNotice::GoOn)),
                Admission::Later { first: false } => {}
            },
        }
        self.schedule(context);
    }

    /// Answers what may have a long answer.
    fn answer(
        &mut self,
        context: &mut CoreContext<'_>,
        notice: HomeNotice,
        retention: impl Fn(&str) -> Option<Retention>,
    ) {
        match notice {
            HomeNotice::Follow(follow) => self.follow(context, follow, retention),
            HomeNotice::Read(read) => self.read(context, read, retention),
            HomeNotice::Publish(_) | HomeNotice::GoOn => debug_assert!(false, "nobody waits for an answer"),
        }
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
        retention: impl Fn(&str) -> Option<Retention>,
        text: &mut String,
    ) {
        let Publish { channel, opened, publication, acknowledge } = publish;
        // Who does not wait any more has been told that nothing was done, and may ask again.
        if matches!(&acknowledge, Some(Asker::Api(answer)) if answer.is_closed()) {
            return;
        }
        let (retention, now_ms) = (retention(&channel), unix_ms());
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

    fn follow(&mut self, context: &mut CoreContext<'_>, follow: Follow, retention: impl Fn(&str) -> Option<Retention>) {
        let Follow { to, ticket, channel, since } = follow;
        let (position, found) = self.history.read(&channel, retention(&channel), since, unix_ms());
        let caught = found.map(|found| self.hand_out.of(found, usize::MAX));
        self.deferred.note(caught.as_ref().map_or(0, |caught| caught.size().bytes));
        context.tell(to, Box::new(Answered { ticket, answer: HomeAnswer::Following { position, caught } }));
    }

    /// A subscriber is told where its channel stands, which has to be known from then on; the server API is not, so that
    /// to ask for channels that are none takes no room.
    fn read(&mut self, context: &mut CoreContext<'_>, read: Read, retention: impl Fn(&str) -> Option<Retention>) {
        let Read { asker, channel, excerpt: Excerpt { since, before, count } } = read;
        let (retention, now_ms) = (retention(&channel), unix_ms());
        let is_known = matches!(asker, Asker::Client(..)) || self.history.is_known(&channel);
        let (position, found) = match is_known {
            true => {
                let (position, found) = self.history.read(&channel, retention, Some(since), now_ms);
                (Some(position), found)
            }
            false => (None, None),
        };
        let nothing = Caught { complete: since == Since::Kept, messages: Vec::new() };
        let caught = found.map_or(nothing, |found| {
            let found = match before {
                Some(offset) => found.before(offset),
                None => found,
            };
            self.hand_out.of(found, count)
        });
        self.deferred.note(caught.size().bytes);
        match (asker, position) {
            (Asker::Client(to, ticket), Some(position)) => {
                context.tell(to, Box::new(Answered { ticket, answer: HomeAnswer::Kept { position, caught } }));
            }
            // Whoever has asked may have given up.
            (Asker::Api(answer), position) => drop(answer.send(Kept { position, caught })),
            (Asker::Client(..), None) => debug_assert!(false, "what a client asks for is known from then on"),
        }
    }
}

impl HandOut {
    /// Of a connection for whom so much may wait.
    pub(crate) const fn of_outbox(bytes_max: usize, messages_max: usize) -> Self {
        Self { bytes: bytes_max / 2, messages: messages_max / 2 }
    }

    /// Whether there is room for another one with a connection that has just been handed something.
    pub(crate) fn has_room(self, context: &Context<'_>, handed: Self) -> bool {
        context.outbox_bytes() + handed.bytes <= self.bytes / 2
            && context.outbox_messages() + handed.messages <= self.messages / 2
    }

    /// The last messages of those found that may be handed out: one at least, if there is any.
    fn of(self, found: Found<'_>, count: usize) -> Caught {
        let complete = found.complete;
        let all = found.len();
        let mut bytes = 0;
        let fits = found.texts().rev().take(self.messages.min(count)).take_while(|text| {
            let is_first = bytes == 0;
            bytes += text.len() + FRAME_BYTES;
            is_first || bytes <= self.bytes
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
