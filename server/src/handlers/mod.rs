//! The built-in message types, as the [protocol](crate::wire) has them.

mod channels;
mod control;
mod people;
mod receipts;
mod rooms;

pub(crate) use self::channels::enroll;
pub(crate) use self::rooms::{announce_join, end_subscription, leave_all, rename, tell_others};

use crate::router::Router;
use crate::{auth, typing};

/// Adds the built-in types to a router.
pub(crate) fn register(router: Router) -> Router {
    router
        .on("subscribe", channels::subscribe)
        .on("unsubscribe", channels::unsubscribe)
        .on("publish", channels::publish)
        .on("history", channels::history)
        .on("presence", channels::presence)
        .on("message", channels::message)
        .on("join", rooms::join)
        .on("leave", rooms::leave)
        .on("typing", typing::typing)
        .on("typing.start", typing::start)
        .on("typing.stop", typing::stop)
        .on("read", receipts::read)
        .on("private", people::private)
        .on("send_to_user", people::private)
        .on("broadcast", people::broadcast)
        .on("auth", auth::authenticate)
        .on("refresh", auth::authenticate)
        .on("ping", control::ping)
        .on("connect", control::connect)
        .on("disconnect", control::disconnect)
        .on("request", control::request)
        .on("pong", control::accept)
        .on("response", control::accept)
        .on("error", control::accept)
}
