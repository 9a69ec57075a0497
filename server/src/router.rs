//! Handlers by message type.

use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::call::Call;
use crate::handlers;
use crate::wire::Refusal;

/// What answers the messages of one type. A refusal is sent to the client as an error.
pub type HandlerFn = dyn Fn(&mut Call<'_, '_>) -> Result<(), Refusal> + Send + Sync;

/// Which handler answers which type.
///
/// ```
/// use crore_server::{Router, wire::Refusal};
///
/// let router = Router::standard().on("shout", |call| {
///     let channel = call.message().channel()?;
///     call.publish(&channel, "shouted", true)
/// });
/// assert!(router.find("shout").is_some());
/// ```
#[derive(Default)]
pub struct Router {
    handlers: HashMap<Box<str>, Box<HandlerFn>, RandomState>,
}

impl Router {
    /// A router that knows no type at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A router with the types of the [protocol](crate::wire).
    #[must_use]
    pub fn standard() -> Self {
        handlers::register(Self::new())
    }

    /// Lets a handler answer the messages of a type, in place of the one that has done so far.
    #[must_use]
    pub fn on(
        mut self,
        kind: &str,
        handler: impl Fn(&mut Call<'_, '_>) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(kind.into(), Box::new(handler));
        self
    }

    /// The handler of a type.
    #[must_use]
    pub fn find(&self, kind: &str) -> Option<&HandlerFn> {
        self.handlers.get(kind).map(AsRef::as_ref)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_protocol_has_a_handler() {
        let router = Router::standard();
        for kind in [
            "connect",
            "disconnect",
            "ping",
            "pong",
            "error",
            "subscribe",
            "unsubscribe",
            "publish",
            "message",
            "request",
            "response",
            "history",
            "presence",
            "private",
            "send_to_user",
            "broadcast",
            "join",
            "leave",
            "typing",
            "typing.start",
            "typing.stop",
            "read",
            "auth",
            "refresh",
        ] {
            assert!(router.find(kind).is_some(), "{kind}");
        }
        assert!(router.find("Ping").is_none());
        assert!(Router::new().find("ping").is_none());
        assert!(router.on("chat", |_| Ok(())).find("chat").is_some());
    }
}
