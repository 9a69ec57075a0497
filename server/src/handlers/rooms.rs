//! Rooms: channels whose members are announced to each other.
//!
//! A member is a subscriber that has joined. Plain subscribers see who comes and goes, and are not
//! announced themselves.

use crore_engine::{Context, Publication};

use crate::call::Call;
use crate::channel::{ChannelName, ChannelRules};
use crate::session::Connection;
use crate::wire::{Envelope, Refusal};

/// Subscribes, and tells the others, once.
pub(super) fn join(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    if !call.connection.is_member(channel.name()) {
        call.context().subscribe(channel.name())?;
        call.connection.add_room(channel.name());
        announce(call, "join", &channel);
    }
    call.reply("joined", |reply| reply.channel(&channel).data_field("joined", channel.json()));
    Ok(())
}

/// Unsubscribes, and tells the others if there was a member.
pub(super) fn leave(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    end_membership(call, &channel);
    call.context().unsubscribe(channel.name());
    call.reply("left", |reply| reply.channel(&channel).data_field("left", channel.json()));
    Ok(())
}

/// Tells the others that a member leaves, if it is one.
pub(super) fn end_membership(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) {
    if call.connection.remove_room(channel.name()) {
        announce(call, "leave", channel);
    }
}

/// Tells the others of every room of a connection that has closed.
pub(crate) fn leave_all(
    context: &mut Context<'_>,
    connection: &mut Connection,
    channels: &ChannelRules,
    text: &mut String,
    now_ms: u64,
) {
    for room in connection.take_rooms() {
        let sender = connection.sender(context.id());
        let left = Envelope::start(text, "leave").text("channel", &room).from(sender).finish(now_ms);
        let publication = Publication { except: Some(context.id()), overflow: channels.overflow(&room, None) };
        context.publish_with(&room, left, publication);
    }
}

fn announce(call: &mut Call<'_, '_>, kind: &str, channel: &ChannelName<'_>) {
    let sender = call.connection.sender(call.context.id());
    let text = Envelope::start(call.text, kind).channel(channel).from(sender).finish(call.now_ms);
    let overflow = call.policy.channels.overflow(channel.name(), None);
    let publication = Publication { except: Some(call.context.id()), overflow };
    call.context.publish_with(channel.name(), text, publication);
}
