//! Publish and subscribe.

use super::rooms;
use crate::auth::Admission;
use crate::call::Call;
use crate::channel::{Action, ChannelName};
use crate::history::Since;
use crate::home::{Excerpt, Purpose};
use crate::presence::{USERS_DEFAULT, USERS_MAX};
use crate::wire::Refusal;

/// To be subscribed twice is to be subscribed.
pub(super) fn subscribe(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    let admission = rooms::enter(call, &channel, Purpose::Subscribe)?;
    acknowledge(call, &channel, admission);
    Ok(())
}

/// As [`subscribe`], for whom the backend has subscribed: the rules of the channel have nothing to say.
pub(crate) fn enroll(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    let admission = rooms::begin(call, &channel, Purpose::Enroll)?;
    acknowledge(call, &channel, admission);
    Ok(())
}

fn acknowledge(call: &mut Call<'_, '_>, channel: &ChannelName<'_>, admission: Admission) {
    if admission == Admission::Now {
        let expires_ms = call.subscription_expires_ms(channel);
        call.reply("subscribed", |reply| {
            reply.channel(channel).expires_at(expires_ms).data_field("subscribed", channel.json())
        });
    }
}

/// Acknowledged even where there was no subscription. Whoever had joined leaves.
pub(super) fn unsubscribe(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    rooms::exit(call, &channel);
    call.reply("unsubscribed", |reply| reply.channel(&channel).data_field("unsubscribed", channel.json()));
    Ok(())
}

/// To all but the sender, and always acknowledged.
pub(super) fn publish(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    hand_on(call, false, true)
}

/// To all subscribers, the sender among them; acknowledged if the client asks by an `id`.
pub(super) fn message(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    hand_on(call, true, call.message().id().is_some())
}

/// The channel's option outranks what the message asks for, and that what its type means.
fn hand_on(call: &mut Call<'_, '_>, echo_by_type: bool, acknowledge: bool) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    call.require(Action::Publish, &channel)?;
    let asked = call.message().echo()?;
    if !call.may_publish(&channel)? {
        return Ok(());
    }
    let options = call.policy.channels.options(channel.name());
    let echo = options.echo.or(asked).unwrap_or(echo_by_type);
    if call.policy.has_home(channel.name(), &options) {
        return call.publish_from_home(&channel, "message", echo, acknowledge);
    }
    call.publish(&channel, "message", echo)?;
    if acknowledge {
        call.reply("response", |reply| reply.data_field("published", "true"));
    }
    Ok(())
}

/// What is kept of a channel, to whoever may see it: the last `limit` messages, of those since `recover` and of those before
/// the offset `before`, if that is given.
pub(super) fn history(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    let since = call.message().recover()?.unwrap_or(Since::Kept);
    let before = call.message().before()?;
    let count = call.message().limit()?.unwrap_or(usize::MAX);
    if !call.has_history(&channel) {
        return Err(Refusal::NoHistory);
    }
    call.require(Action::SeeHistory, &channel)?;
    call.read_history(&channel, Excerpt { since, before, count })
}

/// Who is in a channel, to whoever may see it: `limit` users behind the name `after`; with a `limit` of 0 how many there are.
pub(super) fn presence(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    let after = call.message().after()?;
    let users_max = call.message().limit()?.unwrap_or(USERS_DEFAULT).min(USERS_MAX);
    if !call.has_presence(&channel) {
        return Err(Refusal::NoPresence);
    }
    call.require(Action::SeePresence, &channel)?;
    call.list_presence(&channel, after.map(Into::into), users_max)
}
