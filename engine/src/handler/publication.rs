//! What can be said about a publication beside its topic and its message, and what is said of those that are lost.

use crate::id::ConnectionId;

/// How a message is published, by [`CoreContext::publish_with`](super::CoreContext::publish_with) or
/// [`EngineHandle::publish_with`](crate::EngineHandle::publish_with). The default is what `publish` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// A subscriber that does not get it.
    pub except: Option<ConnectionId>,
    /// What happens to it at a subscriber that is behind.
    pub overflow: Overflow,
}

/// What happens to a message of a topic at a subscriber for whom as much waits as may
/// ([`Limits::outbox_bytes_max`](crate::Limits::outbox_bytes_max),
/// [`Limits::outbox_messages_max`](crate::Limits::outbox_messages_max)).
///
/// A message that may be dropped, by [`Self::DropNewest`], [`Self::DropOldest`] or [`Self::Conflate`], is in nobody's
/// way: for one that may not, the oldest such message that waits is dropped, whatever its topic. So a topic never costs a
/// connection its replies, nor itself. What has been dropped is counted in
/// [`messages_dropped`](crate::Stats::messages_dropped), and announced in its place by
/// [`Handler::on_gap`](super::Handler::on_gap).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// What happens to all that the connection is sent: [`Limits::slow_consumer`](crate::Limits::slow_consumer).
    #[default]
    Limits,
    /// The connection is closed with 1013 (try again later).
    Disconnect,
    /// The message is dropped.
    DropNewest,
    /// The oldest message that waits and may be dropped makes room, whatever its topic.
    DropOldest,
    /// Of each key one message waits at most, the newest: it takes the place of the one before it that has not begun
    /// to leave, so that a busy key neither waits longer than another one nor holds it up. Messages of one
    /// key keep their order, those of several keys do not. What is replaced in this way is counted in
    /// [`messages_conflated`](crate::Stats::messages_conflated) and no gap: the subscriber has what is newest. Where even
    /// the newest of each key are too many, as [`Self::DropOldest`].
    ///
    /// The key is a number of the application's choice within the topic, such as a hash of a name. A subscriber that
    /// is not behind gets every message.
    Conflate(u64),
}

/// Messages that a connection has not been sent, at one place of what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    /// Their topic; `None` for those whose loss is the doing of
    /// [`Limits::slow_consumer`](crate::Limits::slow_consumer).
    pub topic: Option<&'a str>,
    /// How many they are.
    pub dropped: u32,
}
