//! Subscriptions, and rooms: channels whose members are announced to each other.
//!
//! A member is a subscriber that has joined. Plain subscribers see who comes and goes, and are not
//! announced themselves.

use crore_engine::clock::unix_ms;
use crore_engine::{Context, Publication};

use crate::auth::{self, Admission};
use crate::call::Call;
use crate::channel::{ChannelName, ChannelRules};
use crate::home::Purpose;
use crate::presence;
use crate::session::{Connection, Shared};
use crate::typing;
use crate::wire::{Envelope, Refusal};

/// Subscribes, and tells the others, once.
pub(super) fn join(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    // A member may come again, with other metadata or a token that is good for longer.
    if enter(call, &channel, Purpose::Join)? == Admission::Later {
        return Ok(());
    }
    announce_join(call.context, call.connection, &call.policy.channels, channel.name(), call.text, call.now_ms);
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

/// Subscribes whoever may: at once, or when the home of a channel with a history has said where it stands, which answers
/// the message then.
pub(super) fn enter(
    call: &mut Call<'_, '_>,
    channel: &ChannelName<'_>,
    purpose: Purpose,
) -> Result<Admission, Refusal> {
    if auth::admit(call, channel)? == Admission::Later {
        return Ok(Admission::Later);
    }
    let (is_asked, entered) = match call.may_subscribe(channel) {
        Ok(true) => (false, begin(call, channel, purpose)),
        Ok(false) => (true, Ok(Admission::Later)),
        Err(refusal) => (false, Err(refusal)),
    };
    // A token is held for a subscription: while the backend is asked, it lies in the message that waits.
    let has_none = !call.context.is_subscribed(channel.name()) && !call.connection.is_pending(channel.name());
    if has_none && (is_asked || entered.is_err()) {
        call.connection.drop_permit(channel.name());
    }
    entered
}

/// Subscribes somebody of whom it is known that he may.
pub(super) fn begin(
    call: &mut Call<'_, '_>,
    channel: &ChannelName<'_>,
    purpose: Purpose,
) -> Result<Admission, Refusal> {
    if call.has_history(channel) {
        call.follow(channel, purpose)?;
        return Ok(Admission::Later);
    }
    call.subscribe(channel)?;
    Ok(Admission::Now)
}

/// Unsubscribes. A member leaves.
pub(super) fn exit(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) {
    auth::give_up(call, channel.name());
    let Call { context, connection, shared, policy, text, now_ms, .. } = call;
    end_subscription(shared, context, connection, &policy.channels, channel.name(), text, *now_ms);
}

/// Ends a subscription, or gives up one that has not begun. Who types there has stopped; a member leaves.
pub(crate) fn end_subscription(
    shared: &Shared,
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    channel: &str,
    text: &mut String,
    now_ms: u64,
) {
    typing::end(context, connection, rules, channel, text, now_ms);
    if connection.remove_room(channel) {
        announce_leave(context, connection, rules, channel, text, now_ms);
    }
    for id in connection.give_up_pending(channel) {
        let error = Envelope::error(text, id.as_deref(), &Refusal::Cancelled);
        context.send(error.finish(now_ms));
    }
    context.unsubscribe(channel);
    presence::leave(shared, context, connection, channel);
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

/// Tells the others of somebody who subscribes that it is a member, unless it is one already: with what its token for the
/// channel says of it, if it says anything.
pub(crate) fn announce_join(
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    channel: &str,
    text: &mut String,
    now_ms: u64,
) {
    if connection.is_member(channel) {
        return;
    }
    connection.add_room(channel);
    tell_joined(context, connection, rules, channel, text, now_ms);
}

/// A connection gets a user, and so another name: for the others in its rooms, who know its members by theirs, one has
/// left and another has joined.
pub(crate) fn rename(
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    user: &str,
    text: &mut String,
) {
    let now_ms = unix_ms();
    typing::end_some(context, connection, rules, true, text, now_ms);
    let rooms: Vec<Box<str>> = connection.rooms().map(Into::into).collect();
    for room in &rooms {
        announce_leave(context, connection, rules, room, text, now_ms);
    }
    connection.set_user(user);
    for room in &rooms {
        tell_joined(context, connection, rules, room, text, now_ms);
    }
}

fn tell_joined(
    context: &mut Context<'_>,
    connection: &Connection,
    rules: &ChannelRules,
    channel: &str,
    text: &mut String,
    now_ms: u64,
) {
    let sender = connection.sender(context.id());
    let mut joined = Envelope::start(text, "join").text("channel", channel).from(sender);
    if let Some(info) = connection.permits().and_then(|permits| permits.info(channel)) {
        joined = joined.data(info);
    }
    tell_others(context, rules, channel, joined.finish(now_ms));
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
pub(crate) fn tell_others(context: &mut Context<'_>, rules: &ChannelRules, channel: &str, text: &str) {
    let publication = Publication { except: Some(context.id()), overflow: rules.overflow(channel, None) };
    context.publish_with(channel, text, publication);
}
