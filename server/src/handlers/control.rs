//! The connection itself: signs of life, who is who, and the end.

use crate::call::Call;
use crate::wire::{Envelope, Refusal};

/// Close code of a connection that has done what it was for (RFC 6455, section 7.4.1).
const CODE_NORMAL: u16 = 1000;

/// Answered at once, and subject to no rate limit.
pub(super) fn ping(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    call.reply("pong", |reply| reply);
    Ok(())
}

/// Says who the client is, as the welcome did.
pub(super) fn connect(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    reply_identity(call, "connected");
    Ok(())
}

/// The client would like to be closed.
pub(super) fn disconnect(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    call.context().close(CODE_NORMAL, "Normal closure");
    Ok(())
}

/// The methods that every server has, and those of the backend.
pub(super) fn request(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let method = call.message().method()?;
    match method.as_ref() {
        "time" => {
            let now_ms = call.now_ms();
            call.reply("response", |reply| reply.data_field("time", itoa::Buffer::new().format(now_ms)));
        }
        "whoami" => reply_identity(call, "response"),
        "channels" => {
            let mut channels: Vec<&str> = call.context.subscriptions().collect();
            channels.sort_unstable();
            let channels = serde_json::to_string(&channels).expect("strings can be written as JSON");
            call.reply("response", |reply| reply.data_field("channels", &channels));
        }
        _ => return call.ask_method(&method),
    }
    Ok(())
}

/// What needs no answer.
pub(super) fn accept(_: &mut Call<'_, '_>) -> Result<(), Refusal> {
    Ok(())
}

fn reply_identity(call: &mut Call<'_, '_>, kind: &str) {
    let id = call.context.id();
    let sender = call.connection.sender(id);
    let envelope = Envelope::start(call.text, kind).id(call.message.id());
    call.context.send(envelope.data_identity(id, sender).finish(call.now_ms));
}
