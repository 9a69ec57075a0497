//! What a handler can see and do without a connection at hand: [`CoreContext`].

use std::future::Future;
use std::time::Duration;

use super::actions::{Action, Actions, Notice};
use super::publication::Publication;
use crate::handle::EngineHandle;
use crate::id::{ConnectionId, CoreId};
use crate::message::Message;
use crate::topics::Topics;

/// The engine as a handler sees it from its core. Other connections, on any core, go by their identifiers; what is
/// asked of one that has gone has no effect.
pub struct CoreContext<'a> {
    pub(crate) core: CoreId,
    pub(crate) now: Duration,
    pub(crate) handle: &'a EngineHandle,
    pub(crate) topics: &'a Topics,
    pub(crate) actions: &'a mut Actions,
}

impl CoreContext<'_> {
    /// The core that this handler runs on.
    #[must_use]
    pub const fn core(&self) -> CoreId {
        self.core
    }

    /// Time since the worker started, read once a turn.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// The way to the engine from any thread, and from a spawned future.
    #[must_use]
    pub const fn handle(&self) -> &EngineHandle {
        self.handle
    }

    /// Connections of this core that subscribe to a topic, as of before this call.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> usize {
        self.topics.find(topic).map_or(0, |topic| self.topics.subscribers(topic).len())
    }

    /// Topics that have a subscriber on this core: each with the place that it keeps for as long as it has one, and
    /// how many it has. They come in the order of their places, beginning at `from`; of the places only `places_max`
    /// are looked at, so that many topics can be listed a part at a time. The list is over where `from` is
    /// [`Self::topic_places`] or more.
    pub fn topics(&self, from: usize, places_max: usize) -> impl Iterator<Item = (usize, &str, usize)> {
        let end = from.saturating_add(places_max).min(self.topic_places());
        let topics = self.topics;
        (from..end).filter_map(move |place| {
            let topic = topics.at(place)?;
            Some((place, topics.name(topic), topics.subscribers(topic).len()))
        })
    }

    /// Places that topics have on this core, those among them that are free at the moment.
    #[must_use]
    pub fn topic_places(&self) -> usize {
        self.topics.places()
    }

    /// Sends a message to a connection. What one core sends a connection, by this, by [`Self::publish`] and by
    /// [`Self::broadcast`], comes in the order of the calls; only messages of different topics that are published in one
    /// turn have none.
    pub fn send_to<'m>(&mut self, to: ConnectionId, message: impl Into<Message<'m>>) {
        let frame = self.actions.encode(message.into());
        self.actions.list.push(Action::Send { to, frame });
    }

    /// As [`Self::send_to`] for each of them, with one copy of the message for all on a core.
    pub fn send_to_each<'m>(&mut self, to: &[ConnectionId], message: impl Into<Message<'m>>) {
        let frame = self.actions.encode(message.into());
        self.actions.list.push(Action::SendToEach { to: to.into(), frame });
    }

    /// Sends a message to every subscriber of a topic, on all cores. It leaves at the end of the turn, joined with
    /// whatever else the turn publishes there; earlier only for a subscriber that is [sent](Self::send_to) something
    /// behind it.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) {
        self.publish_with(topic, message, Publication::default());
    }

    /// Like [`Self::publish`], but not to one of the subscribers.
    pub fn publish_to_all_but<'m>(&mut self, except: ConnectionId, topic: &str, message: impl Into<Message<'m>>) {
        self.publish_with(topic, message, Publication { except: Some(except), ..Publication::default() });
    }

    /// Like [`Self::publish`], with a say in what becomes of the message at subscribers that are behind. The policy is
    /// a publication's own: a topic may have several, though its messages keep their order only if none is
    /// [`Overflow::Conflate`](super::Overflow::Conflate).
    pub fn publish_with<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>, publication: Publication) {
        let topic = self.actions.keep(topic);
        let frame = self.actions.encode(message.into());
        self.actions.list.push(Action::Publish { topic, frame, publication });
    }

    /// Sends a message to every open connection, on all cores.
    pub fn broadcast<'m>(&mut self, message: impl Into<Message<'m>>) {
        self.broadcast_but(message.into(), None);
    }

    pub(super) fn broadcast_but(&mut self, message: Message<'_>, except: Option<ConnectionId>) {
        let frame = self.actions.encode(message);
        self.actions.list.push(Action::Broadcast { frame, except });
    }

    /// Closes a connection as [`Context::close`](super::Context::close) does.
    pub fn close_connection(&mut self, to: ConnectionId, code: u16, reason: &str) {
        let reason = self.actions.keep(reason);
        self.actions.list.push(Action::Close { to, code, reason });
        self.actions.closed.push(to);
    }

    /// Ends a connection as [`Context::terminate`](super::Context::terminate) does.
    pub fn terminate_connection(&mut self, to: ConnectionId) {
        self.actions.list.push(Action::Terminate { to });
        self.actions.closed.push(to);
    }

    /// Tells a connection something: [`Handler::on_told`](super::Handler::on_told) on its core, or
    /// [`Handler::on_untold`](super::Handler::on_untold) there if it is not open. Between two cores this keeps its
    /// order with everything else that the one sends, publishes and tells the other; on one core, with what is told and
    /// what calls without a connection send and publish. Where a core is so far behind
    /// that it is sent nothing ([`LANE_BACKLOG_MAX`](crate::limits::LANE_BACKLOG_MAX)), the notice is dropped, and
    /// counted in `mesh_refused`.
    pub fn tell(&mut self, to: ConnectionId, notice: Notice) {
        self.actions.list.push(Action::Tell { to, notice });
    }

    /// Tells a core something: [`Handler::on_core_told`](super::Handler::on_core_told) there, in order as with
    /// [`Self::tell`]. On this core the call comes after this one has returned.
    pub fn tell_core(&mut self, core: CoreId, notice: Notice) {
        self.actions.list.push(Action::TellCore { core, notice });
    }

    /// Asks for a call of [`Handler::on_core_wake`](super::Handler::on_core_wake) after so much time, rounded up to
    /// [`TICK_MS`](crate::limits::TICK_MS). There is one such time at most: the earliest that was asked for and has
    /// not come.
    pub fn wake_core_after(&mut self, after: Duration) {
        self.actions.list.push(Action::WakeCore { after });
    }

    /// Lets what others publish to a topic come to this core, as if it had a subscriber, until
    /// [`Self::lower_interest`]. With it a subscription can begin at a point that another core names: what that one
    /// publishes after it has heard of the interest comes behind what it [tells](Self::tell).
    pub fn raise_interest(&mut self, topic: &str) {
        let topic = self.actions.keep(topic);
        self.actions.list.push(Action::RaiseInterest { topic });
    }

    /// Takes back one [`Self::raise_interest`] of this core. Each needs exactly one: without it the core is sent for
    /// ever what nobody on it wants, and one too many would withhold what somebody wants.
    pub fn lower_interest(&mut self, topic: &str) {
        let topic = self.actions.keep(topic);
        self.actions.list.push(Action::LowerInterest { topic });
    }

    /// Runs a future on this core's runtime, beside the worker. It must await, never block; to act on
    /// a connection it takes along a clone of [`Self::handle`] and an identifier.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.actions.spawned.push(Box::pin(future));
    }
}
