//! What a connection may do in channels beyond others: what its user's token grants, and the tokens for channels that it
//! has shown, each until its end.

use std::num::NonZeroU32;
use std::time::Duration;

use crore_engine::Context;
use crore_engine::clock::unix_ms;

use super::login::{KEYS_INTERVAL, WAIT_MAX};
use super::store::Waiting;
use super::subscription::SubscriptionTokens;
use super::verify::VerifiedSubscription;
use super::{AuthFailure, Judgement};
use crate::call::Call;
use crate::channel::{Action, ChannelName, Grants, Identity};
use crate::inbound::{self, Inbound, WaitingText};
use crate::session::Connection;
use crate::wire::{Envelope, Refusal};
use crate::{handlers, presence};

/// Messages of one connection that wait for the keys of their tokens.
const UNDECIDED_MAX: usize = 8;

/// What a client is told that has shown no token where one is needed.
const TOKEN_NEEDED: &str = "show a token for this channel: {\"type\":\"subscribe\",\"channel\":…,\"token\":…}";

/// What few connections have.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    grants: Option<Box<Grants>>,
    held: Vec<Permit>,
    undecided: Vec<Undecided>,
    /// What has waited is done again, and does not wait once more.
    is_last: bool,
}

/// A token for a channel that was good when it was shown.
#[derive(Debug)]
struct Permit {
    channel: Box<str>,
    /// In seconds since the Unix epoch; `None` if it has no end.
    expires_s: Option<NonZeroU32>,
    /// The client knows that the end is near.
    is_noticed: bool,
    info: Option<Box<str>>,
}

/// A message whose token's key is being fetched.
#[derive(Debug)]
struct Undecided {
    message: WaitingText,
    id: Option<Box<str>>,
    channel: Box<str>,
    /// By the core's clock.
    deadline: Duration,
    waiting: Waiting,
}

/// Whether a subscription can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// When the key of its token has come, or the backend has agreed: the message is done again then.
    Later,
}

impl Permits {
    /// Without the messages that wait, which are counted for themselves.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Self { grants, held, undecided, .. } = self;
        let grants = grants.as_deref().map_or(0, |grants| size_of::<Grants>() + grants.heap_bytes());
        let length = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let texts = held.iter().map(|permit| permit.channel.len() + length(&permit.info)).sum::<usize>()
            + undecided.iter().map(|undecided| undecided.channel.len() + length(&undecided.id)).sum::<usize>();
        grants + held.capacity() * size_of::<Permit>() + undecided.capacity() * size_of::<Undecided>() + texts
    }

    /// Bytes of the messages that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.undecided.iter().map(|undecided| undecided.message.len()).sum()
    }

    pub(crate) fn grants(&self) -> Option<&Grants> {
        self.grants.as_deref()
    }

    /// Whether a token for the channel has been shown, and has not ended.
    pub(crate) fn holds(&self, channel: &str) -> bool {
        self.find(channel).is_some()
    }

    /// `info` of that token, as JSON.
    pub(crate) fn info(&self, channel: &str) -> Option<&str> {
        self.find(channel)?.info.as_deref()
    }

    /// When the subscription to a channel ends, in milliseconds since the Unix epoch, if it does.
    pub(crate) fn expires_ms(&self, channel: &str) -> Option<u64> {
        Some(u64::from(self.find(channel)?.expires_s?.get()) * 1000)
    }

    fn drop_permit(&mut self, channel: &str) {
        self.held.retain(|permit| *permit.channel != *channel);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    fn find(&self, channel: &str) -> Option<&Permit> {
        self.held.iter().find(|permit| *permit.channel == *channel)
    }

    /// Each token is good until its own end: of two for one channel the later end counts, and the `info` of the later one.
    /// Returns that of the one before it.
    fn hold(&mut self, verified: VerifiedSubscription, notice_after_ms: u64) -> Option<Box<str>> {
        let VerifiedSubscription { channel, expires_s, info, .. } = verified;
        let before =
            self.held.iter().position(|permit| *permit.channel == *channel).map(|at| self.held.swap_remove(at));
        let expires_s = match &before {
            Some(before) => before.expires_s.zip(expires_s).map(|(before, now)| before.max(now)),
            None => expires_s,
        };
        // Who has just been told of an end is not told of it again.
        let is_noticed = expires_s.is_some_and(|end| u64::from(end.get()) * 1000 <= notice_after_ms);
        self.held.push(Permit { channel: channel.into(), expires_s, is_noticed, info });
        before?.info
    }

    /// Asks to be woken for what comes next. The engine keeps the earliest such wish of a connection.
    fn schedule(&self, tokens: &SubscriptionTokens, context: &mut Context<'_>) {
        if !self.undecided.is_empty() {
            return context.wake_after(KEYS_INTERVAL);
        }
        let Some(next_ms) = self.held.iter().filter_map(|permit| permit.next_ms(tokens)).min() else { return };
        context.wake_after(Duration::from_millis(next_ms.saturating_sub(unix_ms())).min(WAIT_MAX));
    }
}

impl Permit {
    /// When something is to be done about it: a notice, or its end.
    fn next_ms(&self, tokens: &SubscriptionTokens) -> Option<u64> {
        let notice_ms = self.notice_ms(tokens)?;
        if self.is_noticed { self.end_ms(tokens) } else { Some(notice_ms) }
    }

    fn notice_ms(&self, tokens: &SubscriptionTokens) -> Option<u64> {
        Some((u64::from(self.expires_s?.get()) * 1000).saturating_sub(tokens.notice_ms))
    }

    fn end_ms(&self, tokens: &SubscriptionTokens) -> Option<u64> {
        Some((u64::from(self.expires_s?.get()) + tokens.leeway_s) * 1000)
    }
}

impl Connection {
    /// What the user's token says of channels, in place of what an earlier one has said, which is returned.
    pub(super) fn set_grants(&mut self, grants: Option<Box<Grants>>) -> Option<Box<Grants>> {
        match (grants, self.permits_if_any()) {
            (grants, Some(permits)) => std::mem::replace(&mut permits.grants, grants),
            (None, None) => None,
            (grants, None) => std::mem::replace(&mut self.permits_mut().grants, grants),
        }
    }

    /// The subscription to a channel has ended, or not begun.
    pub(crate) fn drop_permit(&mut self, channel: &str) {
        if let Some(permits) = self.permits_if_any() {
            permits.drop_permit(channel);
        }
    }
}

/// Whether the client may subscribe to a channel, with the token in its message if anything there takes one. One that is
/// held, and still good, is not given up for want of another.
pub(crate) fn admit(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) -> Result<Admission, Refusal> {
    let (name, rules) = (channel.name(), &call.policy.channels);
    let identity = call.identity(name);
    let may = |has_token| rules.may(Action::Subscribe, &Identity { has_token, ..identity }, name);
    let (may_now, may_with_token) = (may(identity.has_token), may(true));
    if !may_with_token {
        return Err(Refusal::Forbidden(Action::Subscribe.refusal()));
    }
    if rules.takes_token(name)
        && let Some(token) = call.message().token()?
    {
        return show(call, channel, &token);
    }
    if may_now { Ok(Admission::Now) } else { Err(Refusal::Forbidden(TOKEN_NEEDED)) }
}

fn show(call: &mut Call<'_, '_>, channel: &ChannelName<'_>, token: &str) -> Result<Admission, Refusal> {
    let Call { message, context, connection, shared, policy, .. } = call;
    // The configuration is checked for keys, and the rules of a server that runs may take tokens where it has none.
    let tokens = shared.subscription_tokens.as_ref().ok_or(Refusal::Forbidden(Action::Subscribe.refusal()))?;
    let unnamed = context.id().to_string();
    let user = connection.name().unwrap_or(&unnamed);
    let is_last = connection.permits().is_some_and(|permits| permits.is_last);
    match tokens.judge(token, user, channel.name(), is_last) {
        Judgement::Good(verified) => {
            let permits = connection.permits_mut();
            let info_before = permits.hold(verified, unix_ms() + tokens.notice_ms);
            permits.schedule(tokens, context);
            presence::retell(shared, context, connection, channel.name(), info_before.as_deref());
            Ok(Admission::Now)
        }
        Judgement::Bad(failure) => Err(Refusal::Authentication(failure)),
        Judgement::Unknown(waiting) => {
            let permits = connection.permits_mut();
            if permits.undecided.len() >= UNDECIDED_MAX {
                return Err(Refusal::Busy);
            }
            let kept = inbound::keep(shared, policy, context.id().core(), message.text())?;
            permits.undecided.push(Undecided {
                message: kept,
                id: message.id().map(Into::into),
                channel: channel.name().into(),
                deadline: context.now() + tokens.timeout,
                waiting,
            });
            permits.schedule(tokens, context);
            Ok(Admission::Later)
        }
    }
}

/// The client wants no subscription to a channel any more, neither one that there is nor one that waits.
pub(crate) fn give_up(call: &mut Call<'_, '_>, channel: &str) {
    let Call { context, connection, text, now_ms, .. } = call;
    let Some(permits) = connection.permits_if_any() else { return };
    permits.drop_permit(channel);
    for undecided in permits.undecided.extract_if(.., |undecided| *undecided.channel == *channel) {
        let error = Envelope::error(text, undecided.id.as_deref(), &Refusal::Cancelled);
        context.send(error.finish(*now_ms));
    }
}

/// A time has come that the connection has asked for, perhaps for another reason.
pub(crate) fn wake_permits(inbound: &mut Inbound<'_, '_>) {
    let Some(tokens) = &inbound.shared.subscription_tokens else { return };
    if inbound.connection.permits_if_any().is_none() || inbound.context.is_closing() {
        return;
    }
    do_again(tokens, inbound);
    end_some(tokens, inbound);
    if let Some(permits) = inbound.connection.permits_if_any() {
        permits.schedule(tokens, inbound.context);
    }
}

/// Does what has waited for a key, which has come by now or does not: once no message waits for anything else.
fn do_again(tokens: &SubscriptionTokens, inbound: &mut Inbound<'_, '_>) {
    let now = inbound.context.now();
    let is_over = |undecided: &Undecided| tokens.is_over(&undecided.waiting) || now >= undecided.deadline;
    // The backend may be asked about each, and one message waits for it at one time.
    while !inbound.connection.is_awaiting() {
        let Some(permits) = inbound.connection.permits_if_any() else { return };
        let Some(index) = permits.undecided.iter().position(is_over) else { return };
        let undecided = permits.undecided.remove(index);
        permits.is_last = true;
        inbound.again(&undecided.message);
        inbound.connection.permits_mut().is_last = false;
    }
}

/// Ends subscriptions that need the tokens that have ended, and tells of those that are about to end.
fn end_some(tokens: &SubscriptionTokens, inbound: &mut Inbound<'_, '_>) {
    let Inbound { context, connection, shared, policy, counters, text, now_ms, .. } = inbound;
    let now_ms = *now_ms;
    let Some(permits) = connection.permits_if_any() else { return };
    let has_ended = |permit: &mut Permit| permit.end_ms(tokens).is_some_and(|end_ms| end_ms <= now_ms);
    let ended: Vec<_> = permits.held.extract_if(.., has_ended).collect();
    for permit in &mut permits.held {
        if !permit.is_noticed && permit.notice_ms(tokens).is_some_and(|notice_ms| notice_ms <= now_ms) {
            permit.is_noticed = true;
            let notice = Envelope::start(text, "expiring").text("channel", &permit.channel);
            let expires_ms = permit.expires_s.map(|end| u64::from(end.get()) * 1000);
            context.send(notice.expires_at(expires_ms).finish(now_ms));
        }
    }
    for Permit { channel, info, .. } in ended {
        // What it let the client do besides ends; who is let in without it stays.
        let identity = Identity { has_token: false, ..connection.identity(&channel, false) };
        if policy.channels.may(Action::Subscribe, &identity, &channel) {
            presence::retell(shared, context, connection, &channel, info.as_deref());
            continue;
        }
        handlers::end_subscription(shared, context, connection, &policy.channels, &channel, text, now_ms);
        counters.subscriptions_expired.add(1);
        let failure = AuthFailure::Expired;
        let ended = Envelope::start(text, "unsubscribed").text("channel", &channel);
        context.send(ended.text("code", failure.code()).text("error", failure).finish(now_ms));
    }
}
