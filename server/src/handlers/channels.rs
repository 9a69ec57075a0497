//! Publish and subscribe.

use super::rooms;
use crate::auth::Admission;
use crate::call::Call;
use crate::channel::Action;
use crate::wire::Refusal;

/// To be subscribed twice is to be subscribed.
pub(super) fn subscribe(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    if rooms::enter(call, &channel)? == Admission::Now {
        let expires_ms = call.subscription_expires_ms(&channel);
        call.reply("subscribed", |reply| {
            reply.channel(&channel).expires_at(expires_ms).data_field("subscribed", channel.json())
        });
    }
    Ok(())
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
    hand_on(call, false)?;
    call.reply("response", |reply| reply.data_field("published", "true"));
    Ok(())
}

/// To all subscribers, the sender among them; acknowledged if the client asks by an `id`.
pub(super) fn message(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    hand_on(call, true)?;
    if call.message().id().is_some() {
        call.reply("response", |reply| reply.data_field("published", "true"));
    }
    Ok(())
}

/// The channel's option outranks what the message asks for, and that what its type means.
fn hand_on(call: &mut Call<'_, '_>, echo_by_type: bool) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    call.require(Action::Publish, &channel)?;
    let asked = call.message().echo()?;
    let echo = call.policy.channels.options(channel.name()).echo.or(asked).unwrap_or(echo_by_type);
    call.publish(&channel, "message", echo);
    Ok(())
}
