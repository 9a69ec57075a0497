//! From a data core to the control thread: a question, on whose answer a connection waits.

use std::future::Future;
use std::sync::Arc;

use crore_engine::Context;
use crore_engine::clock::unix_ms;

use super::answer::Outcome;
use super::breaker::Asker;
use super::request::{Body, Question};
use super::{Event, Webhook, settle};
use crate::call::Call;
use crate::inbound::{self, Charge, Inbound};
use crate::session::{Connection, House, Shared};
use crate::wire::Refusal;

/// Asks whether a connection may stay. All that it sends waits until the answer has come.
///
/// # Errors
/// [`Refusal::Busy`]: nothing has been asked.
pub(crate) fn ask_to_connect(
    House { shared, policy }: House<'_>,
    webhook: &Arc<Webhook>,
    context: &Context<'_>,
    connection: &mut Connection,
) -> Result<(), Refusal> {
    // The connection itself waits, and no message of it.
    let nothing = inbound::keep(shared, policy, context.id().core(), "")?;
    let id = context.id().to_string();
    let question = body(Event::Connect, &id, connection).with_data(None);
    let outcome = ask(shared, webhook, context, connection, Event::Connect, question)?;
    let engine = context.handle().clone();
    shared.jobs.try_call(inbound::answer(engine, context.id(), outcome, |inbound, _, outcome| {
        inbound.conclude_connect(outcome);
    }))?;
    connection.queue_mut().await_answer(nothing);
    Ok(())
}

/// Asks whether a connection that is open without a user may become this one's: `log_in` makes it so, and says whether it
/// has, by the `id` of the message that brought the token. All that the connection sends waits until the answer has come.
///
/// # Errors
/// [`Refusal::Busy`]: nothing has been asked.
pub(crate) fn ask_to_log_in(
    House { shared, policy }: House<'_>,
    webhook: &Arc<Webhook>,
    context: &Context<'_>,
    connection: &mut Connection,
    user: &str,
    id: Option<&str>,
    log_in: impl FnOnce(&mut Inbound<'_, '_>, Option<&str>) -> bool + Send + 'static,
) -> Result<(), Refusal> {
    let nothing = inbound::keep(shared, policy, context.id().core(), "")?;
    let connection_id = context.id().to_string();
    let question = Body { user_id: Some(user), meta: None, ..body(Event::Connect, &connection_id, connection) };
    let outcome = ask(shared, webhook, context, connection, Event::Connect, question.with_data(None))?;
    let engine = context.handle().clone();
    let (user, id): (Box<str>, Option<Box<str>>) = (user.into(), id.map(Into::into));
    shared.jobs.try_call(inbound::answer(engine, context.id(), outcome, move |inbound, _, outcome| {
        inbound.conclude_login(outcome, &user, id.as_deref(), log_in);
    }))?;
    connection.queue_mut().await_answer(nothing);
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
    let message = call.keep()?;
    let data = call.message.data_place().map(|place| message.bytes().slice(place));
    let question = Body { kind, channel, method, ..body(event, &id, call.connection) }.with_data(data);
    let outcome = ask(call.shared, webhook, call.context, call.connection, event, question)?;
    call.wait_with(message, outcome, settle::conclude)
}

fn ask(
    shared: &Shared,
    webhook: &Arc<Webhook>,
    context: &Context<'_>,
    connection: &Connection,
    event: Event,
    question: Question,
) -> Result<impl Future<Output = Outcome> + Send + use<>, Refusal> {
    let seat = webhook.seat(event)?;
    let forwarded = connection.hook().and_then(|hook| hook.forwarded.clone());
    let asker = match (connection.name(), connection.address()) {
        (Some(user), _) => Asker::User(user.into()),
        (None, Some(address)) => Asker::Address(address.into()),
        (None, None) => Asker::Connection(context.id()),
    };
    let webhook = Arc::clone(webhook);
    let charge = Charge::new(question.own_bytes(), shared.metrics.waiting(context.id().core()));
    Ok(async move {
        let outcome = webhook.decide(event, asker, question, forwarded).await;
        drop((seat, charge));
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
    }
}
