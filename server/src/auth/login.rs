//! What a connection goes through: the token of its request, the first message, a refresh, the end of a token.

use std::num::NonZeroU32;
use std::time::Duration;

use crore_engine::Context;
use crore_engine::clock::unix_ms;

use super::loss::end_lost_subscriptions;
use super::store::Waiting;
use super::verify::Verified;
use super::{AUTHENTICATION_FAILED, Auth, AuthFailure, CODE_AUTHENTICATION_FAILED, Judgement};
use crate::call::Call;
use crate::channel::Grants;
use crate::handlers::rename;
use crate::inbound::{self, Inbound};
use crate::presence;
use crate::session::{Connection, House};
use crate::webhook::{Event, ask_to_log_in};
use crate::wire::{Envelope, Refusal};

/// How often a connection looks whether the key for its token has come.
pub(super) const KEYS_INTERVAL: Duration = Duration::from_millis(100);

/// The engine's timers go no farther at once than needed here; what is longer is asked for again.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What is known of a connection's authentication beside the user's name. A million of them are idle.
#[derive(Debug, Default)]
pub(crate) struct Login {
    /// When the user's token ends, in seconds since the Unix epoch; `None` if it never does.
    expires_s: Option<NonZeroU32>,
    pending: Option<Box<Pending>>,
}

const _: () = assert!(size_of::<Login>() <= 16, "every connection of a user has one");

/// Something is still to come: a token, or the keys for one.
#[derive(Debug)]
struct Pending {
    /// By the core's clock.
    deadline: Duration,
    /// Nothing is done for the connection meanwhile.
    gates: bool,
    token: Option<Undecided>,
}

/// A token whose key is being fetched.
#[derive(Debug)]
struct Undecided {
    token: Box<str>,
    /// `id` of the message that brought it.
    id: Option<Box<str>>,
    waiting: Waiting,
}

impl Login {
    /// Whether nothing is done for the connection before it is known whose it is.
    pub(crate) fn gates(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.gates)
    }

    pub(crate) fn expires_s(&self) -> Option<u32> {
        self.expires_s.map(NonZeroU32::get)
    }

    /// Whether the key for a token is being fetched, so that it is not known whether it is good.
    pub(crate) fn is_undecided(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.token.is_some())
    }

    /// Whether the user's token has ended, and nothing is to be waited for that could be another one.
    fn is_over(&self, leeway_s: u64) -> bool {
        self.pending.is_none() && has_ended(self.expires_s, leeway_s)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let Some(pending) = &self.pending else { return 0 };
        let undecided = pending.token.as_ref();
        let token = undecided.map_or(0, |token| token.token.len() + token.id.as_ref().map_or(0, |id| id.len()));
        size_of::<Pending>() + token
    }

    fn await_token(&mut self, deadline: Duration, gates: bool, token: Option<Undecided>) {
        self.pending = Some(Box::new(Pending { deadline, gates, token }));
    }

    /// Asks to be woken for what comes next. The engine keeps the earliest such wish of a connection, which may be
    /// another one's.
    fn schedule(&self, context: &mut Context<'_>, leeway_s: u64) {
        let wait = match &self.pending {
            Some(pending) if pending.token.is_some() => KEYS_INTERVAL,
            Some(pending) => pending.deadline.saturating_sub(context.now()),
            None => match self.expires_s {
                Some(expires_s) => {
                    let end_ms = (u64::from(expires_s.get()) + leeway_s) * 1000;
                    Duration::from_millis(end_ms.saturating_sub(unix_ms()))
                }
                None => return,
            },
        };
        context.wake_after(wait.min(WAIT_MAX));
    }
}

impl Connection {
    /// A token has proved good: what it says counts, and none is waited for. Returns what the one before it allowed.
    fn hold(&mut self, expires_s: Option<NonZeroU32>, grants: Option<Box<Grants>>) -> Option<Box<Grants>> {
        let login = self.login_mut();
        login.expires_s = expires_s;
        login.pending = None;
        self.set_grants(grants)
    }
}

fn has_ended(expires_s: Option<NonZeroU32>, leeway_s: u64) -> bool {
    expires_s.is_some_and(|end| unix_ms() >= (u64::from(end.get()) + leeway_s) * 1000)
}

/// A request has brought a token. The connection is not open yet.
pub(super) fn show(
    auth: &Auth,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    token: &str,
) {
    match auth.judge(token, false) {
        Judgement::Good(verified) => {
            connection.set_user(&verified.user);
            connection.hold(verified.expires_s, verified.grants);
            presence::describe(connection, verified.metadata);
            say_authenticated(context, connection, text, None);
        }
        Judgement::Bad(failure) => turn_away(context, connection, text, None, failure),
        Judgement::Unknown(waiting) => {
            let deadline = context.now() + auth.timeout;
            let undecided = Undecided { token: token.into(), id: None, waiting };
            connection.login_mut().await_token(deadline, true, Some(undecided));
        }
    }
}

/// A request has brought none: it may come in a message, or must not be missing.
pub(super) fn await_message(auth: &Auth, context: &mut Context<'_>, connection: &mut Connection, text: &mut String) {
    if !auth.required {
        return;
    }
    if auth.takes_messages() {
        let deadline = context.now() + auth.timeout;
        connection.login_mut().await_token(deadline, true, None);
    } else {
        turn_away(context, connection, text, None, AuthFailure::NoToken);
    }
}

/// The connection is open: from now on it has timers.
pub(crate) fn start(auth: &Auth, context: &mut Context<'_>, connection: &mut Connection) {
    if let Some(login) = connection.login() {
        login.schedule(context, auth.leeway_s);
    }
}

/// `auth`, or `refresh`: a token in a message.
pub(crate) fn authenticate(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let Call { message, context, connection, shared, policy, text, .. } = call;
    let house = House { shared, policy };
    let auth = shared.auth.as_ref().ok_or_else(|| Refusal::UnknownType(message.kind().to_owned()))?;
    if !auth.takes_messages() {
        return Err(Refusal::Forbidden("the server takes no tokens in messages (`auth.sources`)"));
    }
    let Some(token) = message.token()? else {
        return refuse(context, connection, text, message.id(), AuthFailure::NoToken);
    };
    let was_gated = connection.is_gated(auth.required);
    match auth.judge(&token, false) {
        Judgement::Good(verified) => admit(house, context, connection, text, message.id(), verified, was_gated),
        Judgement::Bad(failure) => refuse(context, connection, text, message.id(), failure),
        Judgement::Unknown(waiting) => {
            let deadline = context.now() + auth.timeout;
            let undecided = Undecided { token: (*token).into(), id: message.id().map(Into::into), waiting };
            let login = connection.login_mut();
            login.await_token(deadline, was_gated, Some(undecided));
            login.schedule(context, auth.leeway_s);
            Ok(())
        }
    }
}

/// A time has come that the connection has asked for, perhaps for another reason.
pub(crate) fn on_wake(
    auth: &Auth,
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
) {
    let now = context.now();
    let was_gated = connection.is_gated(auth.required);
    let Some(login) = connection.login() else { return };
    let pending = login.pending.take_if(|pending| {
        let is_over = pending.token.as_ref().is_some_and(|undecided| auth.store.is_over(&undecided.waiting));
        is_over || now >= pending.deadline
    });
    let outcome = match pending.map(|pending| pending.token) {
        Some(Some(undecided)) => {
            let id = undecided.id.as_deref();
            let outcome = match auth.judge(&undecided.token, true) {
                Judgement::Good(verified) => admit(house, context, connection, text, id, verified, was_gated),
                Judgement::Bad(failure) => refuse(context, connection, text, id, failure),
                Judgement::Unknown(_) => unreachable!("it has been asked for the last time"),
            };
            outcome.map_err(|refusal| (undecided.id, refusal))
        }
        Some(None) => return turn_away(context, connection, text, None, AuthFailure::Timeout),
        None => Ok(()),
    };
    if let Err((id, refusal)) = outcome {
        inbound::refuse(context, connection, text, id.as_deref(), &refusal, unix_ms());
    }
    // Also behind a token that was waited for, and is bad: the one before it may have ended meanwhile.
    if !context.is_closing() && connection.login().is_some_and(|login| login.is_over(auth.leeway_s)) {
        return turn_away(context, connection, text, None, AuthFailure::Expired);
    }
    start(auth, context, connection);
}

/// A token is good: the connection becomes its user's, or stays so until this one's end.
fn admit(
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    id: Option<&str>,
    verified: Verified,
    was_gated: bool,
) -> Result<(), Refusal> {
    let auth = house.shared.auth.as_ref().expect("tokens are checked by it");
    match connection.name() {
        Some(name) if name != verified.user => return Err(Refusal::AnotherUser),
        Some(_) => renew(house, context, connection, text, id, verified),
        None if was_gated => {
            name(house, context, connection, text, id, verified);
            house.open(context, connection, text, false);
        }
        None => ask_or_log_in(house, context, connection, text, id, verified)?,
    }
    start(auth, context, connection);
    Ok(())
}

/// Another token of the connection's user. What was shown last counts, for its end as for what it grants: else a token
/// that says much for a short time would say it for as long as one that says little.
fn renew(
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    id: Option<&str>,
    verified: Verified,
) {
    let before = connection.hold(verified.expires_s, verified.grants);
    let said_before = presence::describe(connection, verified.metadata);
    presence::retell_all(house.shared, context, connection, said_before.as_ref());
    say_authenticated(context, connection, text, id);
    end_lost_subscriptions(house, context, connection, text, before.as_deref());
}

/// A connection that is open becomes its user's: at once, or when the backend has agreed.
fn ask_or_log_in(
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    id: Option<&str>,
    verified: Verified,
) -> Result<(), Refusal> {
    connection.login_mut().pending = None;
    let Some(webhook) = house.shared.webhook.as_ref().filter(|webhook| webhook.decides(Event::Connect)) else {
        log_in(house, context, connection, text, id, verified);
        return Ok(());
    };
    let user = verified.user.clone();
    ask_to_log_in(house, webhook, context, connection, &user, id, move |inbound, id| {
        let Inbound { context, connection, shared, policy, text, .. } = inbound;
        let auth = shared.auth.as_ref().expect("the token was checked by it");
        if has_ended(verified.expires_s, auth.leeway_s) {
            turn_away(context, connection, text, id, AuthFailure::Expired);
            return false;
        }
        let entered = log_in(House { shared, policy }, context, connection, text, id, verified);
        start(auth, context, connection);
        entered
    })
}

/// A connection that others know by its identifier becomes its user's; `false` if that one has too many.
fn log_in(
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    id: Option<&str>,
    verified: Verified,
) -> bool {
    house.shared.users.leave(context.id(), None);
    name(house, context, connection, text, id, verified);
    house.enter(context, connection, text)
}

/// A connection that has no user has one.
fn name(
    house: House<'_>,
    context: &mut Context<'_>,
    connection: &mut Connection,
    text: &mut String,
    id: Option<&str>,
    verified: Verified,
) {
    rename(context, connection, &house.policy.channels, &verified.user, text);
    connection.hold(verified.expires_s, verified.grants);
    say_authenticated(context, connection, text, id);
    presence::describe(connection, verified.metadata);
    presence::identify(house.shared, context, connection);
}

/// A token is bad. Who has no other one goes; who has is told, and may stay until that one's end.
fn refuse(
    context: &mut Context<'_>,
    connection: &Connection,
    text: &mut String,
    id: Option<&str>,
    failure: AuthFailure,
) -> Result<(), Refusal> {
    if connection.name().is_some() {
        return Err(Refusal::Authentication(failure));
    }
    turn_away(context, connection, text, id, failure);
    Ok(())
}

fn turn_away(
    context: &mut Context<'_>,
    connection: &Connection,
    text: &mut String,
    id: Option<&str>,
    failure: AuthFailure,
) {
    inbound::refuse(context, connection, text, id, &Refusal::Authentication(failure), unix_ms());
    context.close(CODE_AUTHENTICATION_FAILED, AUTHENTICATION_FAILED);
}

fn say_authenticated(context: &mut Context<'_>, connection: &mut Connection, text: &mut String, id: Option<&str>) {
    let expires_s = connection.login_mut().expires_s;
    let envelope = Envelope::start(text, "authenticated").id(id).user_id(connection.sender(context.id()));
    let expires_ms = expires_s.map(|end| u64::from(end.get()) * 1000);
    context.send(envelope.expires_at(expires_ms).finish(unix_ms()));
}
