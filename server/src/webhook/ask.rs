//! From a data core to the control thread: a question, on whose answer a connection waits.

use std::future::Future;
use std::sync::Arc;

use crore_engine::clock::unix_ms;
use crore_engine::{ConnectionId, Context};

use super::answer::Outcome;
use super::breaker::Asker;
use super::request::Body;
use super::{Event, Webhook, settle};
use crate::call::Call;
use crate::inbound::{self, Inbound};
use crate::session::{Connection, Shared};
use crate::wire::Refusal;

/// Asks whether a connection may stay. All that it sends waits until the answer has come.
///
/// # Errors
/// [`Refusal::Busy`]: nothing has been asked.
pub(crate) fn ask_to_connect(
    shared: &Shared,
    webhook: &Arc<Webhook>,
    context: &Context<'_>,
    connection: &mut Connection,
) -> Result<(), Refusal> {
    let id = context.id().to_string();
    let body = body(Event::Connect, &id, connection).to_json();
    let outcome = ask(webhook, context.id(), connection, Event::Connect, body)?;
    let engine = context.handle().clone();
    shared.jobs.try_call(inbound::answer(engine, context.id(), outcome, |inbound, _, outcome| {
        inbound.conclude_connect(outcome);
    }))?;
    connection.queue_mut().await_answer("");
    Ok(())
}

/// Asks whether a connection that is open without a user may become this one's: `log_in` makes it so, and says whether it
/// has, by the `id` of the message that brought the token. All that the connection sends waits until the answer has come.
///
/// # Errors
/// [`Refusal::Busy`]: nothing has been asked.
pub(crate) fn ask_to_log_in(
    shared: &Shared,
    webhook: &Arc<Webhook>,
    context: &Context<'_>,
    connection: &mut Connection,
    user: &str,
    id: Option<&str>,
    log_in: impl FnOnce(&mut Inbound<'_, '_>, Option<&str>) -> bool + Send + 'static,
) -> Result<(), Refusal> {
    let connection_id = context.id().to_string();
    let body = Body { user_id: Some(user), meta: None, ..body(Event::Connect, &connection_id, connection) }.to_json();
    let outcome = ask(webhook, context.id(), connection, Event::Connect, body)?;
    let engine = context.handle().clone();
    let (user, id): (Box<str>, Option<Box<str>>) = (user.into(), id.map(Into::into));
    shared.jobs.try_call(inbound::answer(engine, context.id(), outcome, move |inbound, _, outcome| {
        inbound.conclude_login(outcome, &user, id.as_deref(), log_in);
    }))?;
    connection.queue_mut().await_answer("");
    Ok(())
}

/// Asks about the message of a call, which is handled again when the answer has come.
///
/// # Errors
/// [`Refusal::Busy`]: nothing has been asked.
pub(crate) fn ask_about(
    call: &mut Call<'_, '_>,
    webhook: &Arc<Webhook>,
    event: Event,
    channel: Option<&str>,
    method: Option<&str>,
) -> Result<(), Refusal> {
    let id = call.context.id().to_string();
    let kind = (event != Event::Rpc).then(|| call.message.kind());
    let data = call.message.raw_data();
    let body = Body { kind, channel, method, data, ..body(event, &id, call.connection) }.to_json();
    let outcome = ask(webhook, call.context.id(), call.connection, event, body)?;
    call.wait(outcome, settle::conclude)
}

fn ask(
    webhook: &Arc<Webhook>,
    id: ConnectionId,
    connection: &Connection,
    event: Event,
    body: Vec<u8>,
) -> Result<impl Future<Output = Outcome> + Send + use<>, Refusal> {
    let seat = webhook.seat(event)?;
    let forwarded = connection.hook().and_then(|hook| hook.forwarded.clone());
    let asker = match (connection.name(), connection.address()) {
        (Some(user), _) => Asker::User(user.into()),
        (None, Some(address)) => Asker::Address(address.into()),
        (None, None) => Asker::Connection(id),
    };
    let webhook = Arc::clone(webhook);
    Ok(async move {
        let outcome = webhook.decide(event, asker, body, forwarded).await;
        drop(seat);
        outcome
    })
}

/// What every question says.
fn body<'a>(event: Event, id: &'a str, connection: &'a Connection) -> Body<'a> {
    Body {
        event: event.name(),
        connection_id: id,
        user_id: connection.name(),
        address: connection.address(),
        timestamp: unix_ms(),
        meta: connection.hook().and_then(|hook| hook.meta.as_deref()),
        kind: None,
        channel: None,
        method: None,
        data: None,
    }
}
