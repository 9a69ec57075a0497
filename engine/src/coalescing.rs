//! Small messages for one connection, joined to fewer and larger ones.

use std::time::Duration;

/// How messages are joined for connections that ask for it ([`Context::coalesce`](crate::Context::coalesce)).
///
/// Each frame costs a peer a wake-up and a call of its application; one that shows a market or a game would rather
/// have ten messages every tenth of a second. What it is sent is one text message: `prefix`, the messages with `separator`
/// between them, `suffix`. A message that has found no other to be joined with is sent as it is.
///
/// ```
/// use std::time::Duration;
/// use crore_engine::{Coalescing, Engine};
///
/// let coalescing = Coalescing {
///     prefix: "[",
///     separator: ",",
///     suffix: "]",
///     messages_max: 10,
///     delay: Duration::from_millis(100),
/// };
/// let engine = Engine::bind("127.0.0.1:0")?.coalescing(Some(coalescing));
/// # Ok::<(), crore_engine::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// What stands before the first message.
    pub prefix: &'static str,
    /// What stands between two messages.
    pub separator: &'static str,
    /// What stands behind the last message.
    pub suffix: &'static str,
    /// Messages that are joined: with the last of them they leave. With 1 nothing is joined.
    pub messages_max: u32,
    /// How long the first of them waits for others. One that is shorter than
    /// [`TICK_MS`](crate::limits::TICK_MS) may take that long.
    pub delay: Duration,
}
