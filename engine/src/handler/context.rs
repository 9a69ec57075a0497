//! What a handler can see and do: [`Context`].

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::SubscribeError;
use super::actions::{Action, TopicSet};
use super::core_context::CoreContext;
use crate::id::{ConnectionId, TopicId};
use crate::limits::Limits;
use crate::memory::{Holds, Memory};
use crate::message::Message;
use crate::peers::{Peers, Proxy};
use crate::topics::Topics;

/// What a handler can see and do while it is called: everything concerns the connection at hand
/// unless it names another. What needs no connection is the [`CoreContext`]'s, which a context is too.
pub struct Context<'a> {
    pub(crate) core: CoreContext<'a>,
    pub(crate) id: ConnectionId,
    pub(crate) subscriptions: Subscriptions<'a>,
    pub(crate) outbox_bytes: usize,
    pub(crate) held: Option<&'a dyn Holds>,
    pub(crate) limits: &'a Limits,
    pub(crate) peers: &'a Peers,
}

impl<'a> Deref for Context<'a> {
    type Target = CoreContext<'a>;

    fn deref(&self) -> &CoreContext<'a> {
        &self.core
    }
}

impl<'a> DerefMut for Context<'a> {
    fn deref_mut(&mut self) -> &mut CoreContext<'a> {
        &mut self.core
    }
}

impl Context<'_> {
    /// The connection at hand.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The peer's address, in [`Handler::on_request`](crate::Handler::on_request) and
    /// [`Handler::on_open`](crate::Handler::on_open) where
    /// [`Engine::peer_addresses`](crate::Engine::peer_addresses) is on. `None` elsewhere, for a million open
    /// connections keep none (what is to be known later belongs into the connection's state), and where the peer had
    /// gone before it could be asked for. Behind a proxy ([`Engine::proxy_protocol`](crate::Engine::proxy_protocol))
    /// it is the one that the proxy names, and the proxy's own where it names none: [`Self::proxy`] tells them apart. On a
    /// listener that takes both families a peer of IPv4 has an IPv4-mapped address (RFC 4291, section 2.5.5.2).
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peers.get(self.id.slot())
    }

    /// The proxy by which the connection has come, for as long as [`Self::peer_address`] is known; `None` where
    /// [`Engine::proxy_protocol`](crate::Engine::proxy_protocol) is off. What the proxy alone may say, in a header that it
    /// sets, is to be judged by this one's address, and not by the one that it names.
    #[must_use]
    pub fn proxy(&self) -> Option<Proxy> {
        self.peers.proxy(self.id.slot())
    }

    /// Bytes that wait for the connection to read, from earlier turns.
    #[must_use]
    pub const fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// Messages that wait for the connection to read, from earlier turns.
    #[must_use]
    pub fn outbox_messages(&self) -> usize {
        self.held.map_or(0, Holds::outbox_messages)
    }

    /// Bytes that the engine holds for this connection alone, by class. Its slot, which every connection has, is not
    /// among them ([`connection_bytes`](crate::connection_bytes)), nor what the kernel keeps, nor what has come of a
    /// message in part. What several connections are sent is counted with none of them.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.held.map(Holds::memory).unwrap_or_default()
    }

    /// Sends a message. One that has just come is sent from where it lies, the first time without a copy.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        let message = message.into();
        if self.actions.take_current(message) {
            self.actions.list.push(Action::Echo);
        } else {
            let to = self.id;
            self.send_to(to, message);
        }
    }

    /// Subscribes to a topic. To be subscribed twice is to be subscribed.
    ///
    /// # Errors
    /// The name is too long, or the connection has too many subscriptions.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        if topic.len() > self.limits.topic_bytes_max {
            return Err(SubscribeError::NameTooLong(self.limits.topic_bytes_max));
        }
        if self.is_subscribed(topic) {
            return Ok(());
        }
        if self.subscriptions.count() >= self.limits.subscriptions_max {
            return Err(SubscribeError::TooMany(self.limits.subscriptions_max));
        }
        self.subscriptions.pending += 1;
        self.actions.subscribed.insert(topic.into(), true);
        let topic = self.actions.keep(topic);
        self.actions.list.push(Action::Subscribe { topic });
        Ok(())
    }

    /// Whether the connection is subscribed to a topic.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let asked = self.actions.subscribed.get(topic).copied();
        asked.unwrap_or_else(|| self.subscriptions.contains(topic))
    }

    /// The topics that the connection is subscribed to, in no order.
    pub fn subscriptions(&self) -> impl Iterator<Item = &str> {
        let asked = &self.actions.subscribed;
        let before = self.subscriptions.names().filter(|topic| asked.get(*topic) != Some(&false));
        let added = asked.iter().filter(|(topic, on)| **on && !self.subscriptions.contains(topic));
        before.chain(added.map(|(topic, _)| &**topic))
    }

    /// How many topics those are.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.count() as usize
    }

    /// Ends a subscription. What is published from now on does not reach the connection.
    pub fn unsubscribe(&mut self, topic: &str) {
        if !self.is_subscribed(topic) {
            return;
        }
        self.subscriptions.pending -= 1;
        self.actions.subscribed.insert(topic.into(), false);
        let topic = self.actions.keep(topic);
        self.actions.list.push(Action::Unsubscribe { topic });
    }

    /// Like [`CoreContext::publish`], but not to this connection.
    pub fn publish_to_others<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) {
        let id = self.id;
        self.publish_to_all_but(id, topic, message);
    }

    /// Like [`CoreContext::broadcast`], but not to this connection.
    pub fn broadcast_to_others<'m>(&mut self, message: impl Into<Message<'m>>) {
        let id = self.id;
        self.broadcast_but(message.into(), Some(id));
    }

    /// Closes with a close frame: what was sent before leaves first. `reason` is cut to the 123 bytes
    /// that a close frame has room for; a code that must not be sent (RFC 6455, section 7.4) becomes 1011.
    pub fn close(&mut self, code: u16, reason: &str) {
        let id = self.id;
        self.close_connection(id, code, reason);
    }

    /// Ends the TCP connection at once, without a close frame: the peer sees 1006.
    pub fn terminate(&mut self) {
        let id = self.id;
        self.terminate_connection(id);
    }

    /// Says whether the connection receives what is broadcast, as it does when it opens. One that has still to show who
    /// it is should not.
    pub fn hear_broadcasts(&mut self, hears: bool) {
        self.actions.list.push(Action::HearBroadcasts { hears });
    }

    /// Says whether messages for the connection are joined as [`Engine::coalescing`](crate::Engine::coalescing) has it; they
    /// are not when it opens. Text messages are, whoever they come from: sent, published or broadcast. They keep
    /// their order with all else that the connection is sent: what is joined leaves before a binary message, a control
    /// frame, or a text of more than [`COALESCED_BYTES_MAX`](crate::limits::COALESCED_BYTES_MAX), and before the end of the
    /// connection.
    ///
    /// What is joined falls to [`Limits::slow_consumer`] as one. So messages with an [`Overflow`](crate::Overflow) of their
    /// own are not joined while others wait in the connection's outbox: each is sent, replaced or dropped by itself.
    pub fn coalesce(&mut self, on: bool) {
        self.actions.list.push(Action::Coalesce { on });
    }

    /// Whether this call has asked for the end of the connection, so that no more messages will come from it.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.actions.closed.contains(&self.id)
    }

    /// Stops reading from the connection until [`Self::resume`]: while it waits for a backend, for example. Nothing is
    /// dropped; what the kernel had received before it heard of this is kept, a receive buffer or a few, and the peer's
    /// window closes. Pings of the peer are answered when they are read, so a pause is to be shorter than the
    /// patience of peers. Meanwhile the connection is sent to as before, and pinged, but not cut for want of an answer.
    ///
    /// It ends by itself with whatever ends the connection, so that a close handshake or a drain never waits for it. Only
    /// where the stream has broken is the handler given what has come, all of it at once.
    pub fn pause(&mut self) {
        self.actions.list.push(Action::Pause);
    }

    /// Reads on, from where [`Self::pause`] has stopped; unless the outbox is behind, which is waited for first. To
    /// resume what is not paused has no effect.
    pub fn resume(&mut self) {
        self.actions.list.push(Action::Resume);
    }

    /// Asks for a call of [`Handler::on_wake`](super::Handler::on_wake) after so much time, rounded up to
    /// [`TICK_MS`](crate::limits::TICK_MS). A connection has one such time at most: the earliest that was asked for
    /// and has not come. It costs 12 bytes for each connection of the core, from the first one that asks.
    pub fn wake_after(&mut self, after: Duration) {
        self.actions.list.push(Action::Wake { after });
    }
}

/// What a connection is subscribed to, as the tables of its core have it.
pub(crate) struct Subscriptions<'a> {
    pub(crate) topics: &'a Topics,
    /// The only topic, if there is but one.
    pub(crate) only: Option<TopicId>,
    /// All topics, if there are more.
    pub(crate) more: Option<&'a TopicSet>,
    /// Subscriptions that the current call adds, less those that it ends.
    pub(crate) pending: i64,
}

impl Subscriptions<'_> {
    fn count(&self) -> u32 {
        let before = self.more.map_or(usize::from(self.only.is_some()), TopicSet::len);
        u32::try_from(before as i64 + self.pending).unwrap_or(0)
    }

    fn contains(&self, name: &str) -> bool {
        if self.only.is_none() && self.more.is_none() {
            return false;
        }
        let Some(topic) = self.topics.find(name) else { return false };
        self.only == Some(topic) || self.more.is_some_and(|more| more.contains(&topic.0))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let more = self.more.into_iter().flatten().map(|topic| TopicId(*topic));
        self.only.into_iter().chain(more).map(|topic| self.topics.name(topic))
    }
}
