//! What cores tell a channel's home.

use crore_engine::ConnectionId;

use super::{Arrival, Roster};
use crate::home::Asker;

/// What a home is told, or asked.
#[derive(Debug)]
pub(crate) enum PresenceNotice {
    /// A connection subscribes, or has another name or other metadata than before.
    Enter { channel: Box<str>, arrival: Arrival },
    /// A connection has unsubscribed, or closed.
    Leave { channel: Box<str>, connection: ConnectionId },
    /// Who is there?
    List(List),
    /// Go on with what was too much for a turn.
    GoOn,
}

/// Somebody wants to know who is in a channel.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) asker: Asker<Roster>,
    pub(crate) channel: Box<str>,
    /// The name that the users come behind, in the order of names.
    pub(crate) after: Option<Box<str>>,
    /// Users, at most; 0 asks for their number alone.
    pub(crate) users_max: usize,
}
