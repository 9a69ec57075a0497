//! What cores tell a channel's home, and what it tells them.

use std::sync::Arc;

use crore_engine::{ConnectionId, Publication};

use tokio::sync::oneshot::Sender;

use super::{FRAME_BYTES, HandOut};
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
    /// Go on with what was too much for a turn.
    GoOn,
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
    pub(crate) acknowledge: Option<Asker<Position, Option<Box<str>>>>,
}

/// Whom a home answers.
#[derive(Debug)]
pub(crate) enum Asker<T, W = u32> {
    /// A client, with what says which of its messages is answered: the ticket that its connection has for it, or its
    /// `id` where the connection does not wait.
    Client(ConnectionId, W),
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

/// What a home tells a connection that has asked it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) ticket: u32,
    pub(crate) answer: HomeAnswer,
}

/// By the question.
#[derive(Debug)]
pub(crate) enum HomeAnswer {
    /// Where a channel stands, for a connection that subscribes, and what it has missed if it wants that.
    Following { position: Position, caught: Option<Caught> },
    /// What is kept of a channel.
    Kept { position: Position, caught: Caught },
    /// Who is there, as JSON.
    Present(String),
}

/// What somebody has missed.
#[derive(Debug, Default)]
pub(crate) struct Caught {
    /// Whether this is all of it.
    pub(crate) complete: bool,
    /// Messages as their receivers have got them, the oldest first.
    pub(crate) messages: Vec<Arc<str>>,
}

impl Caught {
    /// What takes room where it is handed out.
    pub(crate) fn size(&self) -> HandOut {
        let bytes = self.messages.iter().map(|message| message.len() + FRAME_BYTES).sum();
        HandOut { bytes, messages: self.messages.len() }
    }

    /// Those of the messages, of which the last is at `end`, that do not come behind another place.
    pub(crate) fn until(mut self, place: Position, end: Position) -> Self {
        if place.epoch != end.epoch {
            return Self::default();
        }
        let behind = usize::try_from(end.offset.saturating_sub(place.offset)).unwrap_or(usize::MAX);
        self.messages.truncate(self.messages.len().saturating_sub(behind));
        self
    }
}

/// Somebody wants to see what is kept.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) asker: Asker<Kept>,
    pub(crate) channel: Box<str>,
    pub(crate) excerpt: Excerpt,
}

/// Of what is kept of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excerpt {
    pub(crate) since: Since,
    /// Only those with a lower offset.
    pub(crate) before: Option<u64>,
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
