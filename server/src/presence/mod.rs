//! Who is in a channel: its subscribers, by user, for those who ask and for those who want to be told.
//!
//! As what is published to a channel with a history is kept by its [home](crate::home), so is who is there by the same
//! core. Cores tell it who subscribes and who goes, and it answers who asks.
//!
//! ```text
//! subscriber's core ── Enter, Leave ──► home ── one event in an interval ──► subscribers, on all cores
//!                   ── List ──────────► home ── Present ──► the connection: replies
//! server API        ── List ──────────► home ── Roster ──► the server API
//! ```
//!
//! A user is there as long as one of its connections is: it comes once, goes once, and who is back before that was told
//! has never gone. So many who come and go in one interval make one event of bounded length, and not one for each, which
//! would cost the square of their number.
//!
//! Where a core is so far behind that it is told nothing (`mesh_refused`), an arrival or a departure may be lost. The
//! home looks at its connections in turn, and removes those that have closed.
//!
//! | | |
//! |---|---|
//! | `notice` | what cores tell a home |
//! | `table`, `room` | who is in which channel, within bounds |
//! | `roster` | what is answered and told, as JSON |
//! | `present` | what a connection knows of its own presence |

mod notice;
mod present;
mod room;
mod roster;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crore_engine::clock::unix_ms;
use crore_engine::{ConnectionId, CoreContext, Publication};

use self::room::Room;
use self::table::Table;
use crate::channel::{ChannelPresence, ChannelRules};
use crate::config::{Config, PresenceConfig};
use crate::home::{Admission, Answered, Asker, Deferred, HomeAnswer};
use crate::wire::Envelope;

pub(crate) use self::notice::{List, PresenceNotice};
pub(crate) use self::present::{
    Present, Whereabouts, WhereaboutsReport, describe, enter, identify, leave, leave_all, retell, retell_all,
};
pub(crate) use self::roster::Roster;
pub(crate) use self::table::Arrival;

/// Users in one answer, unless another number is asked for.
pub(crate) const USERS_DEFAULT: usize = 100;

/// Users in one answer, at most.
pub(crate) const USERS_MAX: usize = 1000;

/// Between two looks at connections that may have closed unnoticed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that one such look takes.
const LOOK_CONNECTIONS_MAX: usize = 4096;

/// Events that are told at one time; those behind them follow at once, when others have had their turn.
const EVENTS_MAX: usize = 256;

/// What all cores have in common.
#[derive(Debug)]
pub(crate) struct PresenceShared {
    config: PresenceConfig,
    server: Arc<str>,
    taken: Arc<AtomicUsize>,
}

impl PresenceShared {
    pub(crate) fn new(config: &Config, server: &str) -> Self {
        Self { config: config.presence.clone(), server: server.into(), taken: Arc::default() }
    }

    /// What names this server among others.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Bytes of what a connection says of itself, or its token says of it.
    pub(crate) const fn metadata_bytes_max(&self) -> usize {
        self.config.metadata_bytes_max
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PresenceNumbers {
    /// Connections in channels: one in two channels is two.
    pub(crate) entries: usize,
    /// Events that were told.
    pub(crate) events: u64,
    /// Arrivals and departures that had no event of their own.
    pub(crate) coalesced: u64,
    /// Arrivals that there was no room for.
    pub(crate) refused: u64,
    /// Questions that have waited for another turn.
    pub(crate) deferred: u64,
}

/// The channels whose home a core is.
#[derive(Debug)]
pub(crate) struct Presence {
    table: Table,
    /// Users that an event names.
    event_users_max: usize,
    /// What stands as `server` in an answer.
    server: Arc<str>,
    /// Bytes of an answer, about.
    answer_bytes_max: usize,
    /// What was too much for a turn.
    deferred: Deferred<List>,
    numbers: PresenceNumbers,
    look_at: Option<Duration>,
}

impl Presence {
    pub(crate) fn new(shared: &PresenceShared, answer_bytes_max: usize) -> Self {
        let PresenceConfig { event_interval, event_users_max, memory_bytes_max, .. } = shared.config;
        let room = Room::new(usize::try_from(memory_bytes_max).unwrap_or(usize::MAX), Arc::clone(&shared.taken));
        Self {
            table: Table::new(event_interval, room),
            event_users_max,
            server: Arc::clone(&shared.server),
            answer_bytes_max,
            deferred: Deferred::default(),
            numbers: PresenceNumbers::default(),
            look_at: None,
        }
    }

    /// Bytes of heap, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    pub(crate) fn numbers(&self) -> PresenceNumbers {
        PresenceNumbers { entries: self.table.len(), deferred: self.deferred.total(), ..self.numbers }
    }

    /// Does what another core, or this one, asks for.
    pub(crate) fn obey(&mut self, context: &mut CoreContext<'_>, notice: PresenceNotice, channels: &ChannelRules) {
        let now = context.now();
        match notice {
            PresenceNotice::Enter { channel, arrival } => {
                let announced = announces(channels, &channel);
                let entered = self.table.enter(&channel, arrival, announced, now);
                self.numbers.refused += u64::from(!entered);
            }
            PresenceNotice::Leave { channel, connection } => {
                let announced = announces(channels, &channel);
                self.table.leave(&channel, connection, announced, now);
            }
            PresenceNotice::List(list) => match self.deferred.admit(list, now) {
                Admission::Now(list) => self.list(context, list),
                Admission::Later { first: true } => go_on(context),
                Admission::Later { first: false } => {}
            },
            PresenceNotice::GoOn => {
                while let Some(list) = self.deferred.next(now) {
                    self.list(context, list);
                }
                if !self.deferred.is_empty() {
                    go_on(context);
                }
            }
        }
        self.schedule(context);
    }

    /// The core is awake: time to tell what is due, and to look for who has closed unnoticed.
    pub(crate) fn on_wake(
        &mut self,
        context: &mut CoreContext<'_>,
        channels: &ChannelRules,
        is_open: impl Fn(ConnectionId) -> bool,
        text: &mut String,
    ) {
        let now = context.now();
        for _ in 0..EVENTS_MAX {
            let Some((channel, changes)) = self.table.take_due(self.event_users_max, now) else { break };
            // Nobody is told what is as it was.
            let tells = changes.joined_count + changes.left_count > 0 && announces(channels, &channel);
            self.numbers.coalesced += changes.steps - u64::from(tells);
            if tells {
                self.numbers.events += 1;
                let event = Envelope::start(text, "presence").text("channel", &channel);
                let event = event.data(&roster::event(&changes)).finish(unix_ms());
                let publication = Publication { except: None, overflow: channels.overflow(&channel, None) };
                context.publish_with(&channel, event, publication);
            }
        }
        if self.look_at.take_if(|at| *at <= now).is_some() {
            for (channel, connection) in self.table.look_at(LOOK_CONNECTIONS_MAX) {
                if !is_open(connection) {
                    let announced = announces(channels, &channel);
                    self.table.leave(&channel, connection, announced, now);
                }
            }
        }
        self.schedule(context);
    }

    /// Asks to be woken for what comes next, if anything does.
    fn schedule(&mut self, context: &mut CoreContext<'_>) {
        let now = context.now();
        if self.look_at.is_none() && self.table.len() > 0 {
            self.look_at = Some(now + LOOK_INTERVAL);
        }
        let next = [self.look_at, self.table.next_due()].into_iter().flatten().min();
        if let Some(next) = next {
            context.wake_core_after(next.saturating_sub(now));
        }
    }

    fn list(&mut self, context: &mut CoreContext<'_>, list: List) {
        let List { asker, channel, after, users_max } = list;
        let part = self.table.part(&channel, after.as_deref(), users_max, self.answer_bytes_max);
        let roster = Roster::new(&part, &self.server);
        match asker {
            Asker::Client(to, ticket) => {
                let json = roster::json(&roster);
                self.deferred.note(json.len());
                context.tell(to, Box::new(Answered { ticket, answer: HomeAnswer::Present(json) }));
            }
            // Whoever has asked may have given up. What it is answered is about as much as may be at most.
            Asker::Api(answer) => {
                self.deferred.note(self.answer_bytes_max);
                drop(answer.send(roster));
            }
        }
    }
}

/// Lets this core go on in its next turn.
fn go_on(context: &mut CoreContext<'_>) {
    context.tell_core(context.core(), Box::new(PresenceNotice::GoOn));
}

/// Whether subscribers of a channel are told who comes and goes.
fn announces(channels: &ChannelRules, channel: &str) -> bool {
    channels.options(channel).presence == Some(ChannelPresence::Events)
}
