//! What cores tell a channel's home, and what it tells them.

use std::sync::Arc;

use crore_engine::{ConnectionId, Publication};

use tokio::sync::oneshot::Sender;

use crate::history::{Position, Since};

/// What a home is asked to do.
#[derive(Debug)]
pub(crate) enum HomeNotice {
    /// Number, keep and publish a message.
    Publish(Publish),
    /// Say where the channel stands, to somebody who is going to subscribe.
    Follow(Follow),
    /// Answer with what is kept.
    Read(Read),
}

/// A message on its way to the home of its channel.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) channel: Box<str>,
    /// The message but for its place and its time, which the home adds.
    pub(crate) opened: Box<str>,
    /// Who does not receive it, and what becomes of it at those who are behind.
    pub(crate) publication: Publication,
    /// Who wants to know its place.
    pub(crate) acknowledge: Option<Asker<Position>>,
}

/// Whom a home answers.
#[derive(Debug)]
pub(crate) enum Asker<T> {
    /// A client, with the `id` of its message.
    Client(ConnectionId, Option<Box<str>>),
    /// The server API.
    Api(Sender<T>),
}

/// Somebody is going to subscribe.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) to: ConnectionId,
    /// Tells the requests of a connection apart.
    pub(crate) ticket: u32,
    pub(crate) channel: Box<str>,
    /// What it has seen last, if it wants what it has missed.
    pub(crate) since: Option<Since>,
}

/// Where a channel stands, for a connection that subscribes.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) ticket: u32,
    pub(crate) channel: Box<str>,
    pub(crate) position: Position,
    pub(crate) caught: Option<Caught>,
}

/// What somebody has missed.
#[derive(Debug, Default)]
pub(crate) struct Caught {
    /// Whether this is all of it.
    pub(crate) complete: bool,
    /// Messages as their receivers have got them, the oldest first.
    pub(crate) messages: Vec<Arc<str>>,
}

/// Somebody wants to see what is kept.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) asker: Asker<Kept>,
    pub(crate) channel: Box<str>,
    pub(crate) since: Since,
    /// Messages, at most: the last ones.
    pub(crate) count: usize,
}

/// What is kept of a channel.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where the channel stands; `None` if nothing is known of it.
    pub(crate) position: Option<Position>,
    pub(crate) caught: Caught,
}
