//! Who is connected, a part at a time: what [`EngineHandle::survey`](crate::EngineHandle::survey) asks and is told.

use crate::id::ConnectionId;

/// Which connections of a core somebody would like to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The first place to look at: 0, or [`Surveyed::next`].
    pub from: usize,
    /// Places that are looked at, one or more. The core serves nobody while it looks: some thousands are enough.
    pub places_max: usize,
    /// Connections that are named, at most; one or more.
    pub connections_max: usize,
    /// Only connections for which at least so many bytes wait
    /// ([`Context::outbox_bytes`](crate::Context::outbox_bytes)). 0: all.
    pub queued_bytes_min: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// Open connections in the order of their places, and the bytes that wait for each. A connection keeps its place
    /// for as long as it is open.
    pub connections: Vec<(ConnectionId, usize)>,
    /// The place to go on from, if there are more.
    pub next: Option<usize>,
}
