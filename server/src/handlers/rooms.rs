//! Subscriptions, and rooms: channels whose members are announced to each other.
//!
//! A member is a subscriber that has joined. Plain subscribers see who comes and goes, and are not
//! announced themselves.

use crore_engine::{Context, Publication};

use crate::auth::{self, Admission};
use crate::call::Call;
use crate::channel::{ChannelName, ChannelRules};
use crate::session::Connection;
use crate::wire::{Envelope, Refusal};

/// Subscribes, and tells the others, once.
pub(super) fn join(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    if enter(call, &channel)? == Admission::Later {
        return Ok(());
    }
    if !call.connection.is_member(channel.name()) {
        call.connection.add_room(channel.name());
        announce_join(call, &channel);
    }
    let expires_ms = call.subscription_expires_ms(&channel);
    call.reply("joined", |reply| reply.channel(&channel).expires_at(expires_ms).data_field("joined", channel.json()));
    Ok(())
}

/// Unsubscribes, and tells the others if there was a member.
pub(super) fn leave(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    exit(call, &channel);
    call.reply("left", |reply| reply.channel(&channel).data_field("left", channel.json()));
    Ok(())
}

/// Subscribes whoever may.
pub(super) fn enter(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) -> Result<Admission, Refusal> {
    let admission = auth::admit(call, channel)?;
    if admission == Admission::Now
        && let Err(error) = call.context().subscribe(channel.name())
    {
        call.connection.drop_permit(channel.name());
        return Err(error.into());
    }
    Ok(admission)
}

/// Unsubscribes. A member leaves.
pub(super) fn exit(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) {
    auth::give_up(call, channel.name());
    let Call { context, connection, policy, text, now_ms, .. } = call;
    end_subscription(context, connection, &policy.channels, channel.name(), text, *now_ms);
}

/// Ends a subscription, if there is one. A member leaves.
pub(crate) fn end_subscription(
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    channel: &str,
    text: &mut String,
    now_ms: u64,
) {
    if connection.remove_room(channel) {
        announce_leave(context, connection, rules, channel, text, now_ms);
    }
    context.unsubscribe(channel);
}

/// Tells the others of every room of a connection that has closed.
pub(crate) fn leave_all(
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    text: &mut String,
    now_ms: u64,
) {
    for room in connection.take_rooms() {
        announce_leave(context, connection, rules, &room, text, now_ms);
    }
}

/// With what the member's token for the channel says of it, if it says anything.
fn announce_join(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) {
    let sender = call.connection.sender(call.context.id());
    let mut joined = Envelope::start(call.text, "join").channel(channel).from(sender);
    if let Some(info) = call.connection.permits().and_then(|permits| permits.info(channel.name())) {
        joined = joined.data(info);
    }
    tell_others(call.context, &call.policy.channels, channel.name(), joined.finish(call.now_ms));
}

fn announce_leave(
    context: &mut Context<'_>,
    connection: &Connection,
    rules: &ChannelRules,
    room: &str,
    text: &mut String,
    now_ms: u64,
) {
    let sender = connection.sender(context.id());
    let left = Envelope::start(text, "leave").text("channel", room).from(sender).finish(now_ms);
    tell_others(context, rules, room, left);
}

/// Hands what has no `data` to be told apart by to all other subscribers of a channel.
fn tell_others(context: &mut Context<'_>, rules: &ChannelRules, channel: &str, text: &str) {
    let publication = Publication { except: Some(context.id()), overflow: rules.overflow(channel, None) };
    context.publish_with(channel, text, publication);
}
