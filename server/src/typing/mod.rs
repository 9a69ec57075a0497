//! Who types: an event that is kept nowhere, and that the server ends where the client does not.
//!
//! `{"type":"typing","channel":…,"isTyping":true}` goes to the other subscribers of a channel, once, however often it
//! comes again. When it has not come again for `typing.timeout`, when the client leaves the channel or its connection
//! ends, they are told that it has stopped. `typing.start` and `typing.stop` are the same without `isTyping`.

mod throttle;

use std::time::Duration;

use crore_engine::Context;

pub(crate) use self::throttle::Throttle;

use crate::call::Call;
use crate::channel::{Action, ChannelName, ChannelRules};
use crate::handlers::tell_others;
use crate::session::Connection;
use crate::wire::{Envelope, Refusal};

/// Channels in which one connection types at the same time. In one more, and it has stopped where it would have first.
const CHANNELS_MAX: usize = 16;

/// Where a connection types.
#[derive(Debug, Default)]
pub(crate) struct Typing(Vec<TypingIn>);

/// It types in a channel, and the others know it.
#[derive(Debug)]
struct TypingIn {
    channel: Box<str>,
    /// By the core's clock: if nothing comes before, it has stopped.
    until: Duration,
}

impl Typing {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<TypingIn>() + self.0.iter().map(|typing| typing.channel.len()).sum::<usize>()
    }

    fn find(&mut self, channel: &str) -> Option<&mut TypingIn> {
        self.0.iter_mut().find(|typing| *typing.channel == *channel)
    }

    fn next(&self) -> Option<Duration> {
        self.0.iter().map(|typing| typing.until).min()
    }

    /// Takes out the one that would end first, if there are too many.
    fn take_excess(&mut self) -> Option<Box<str>> {
        let first = self.next().filter(|_| self.0.len() > CHANNELS_MAX)?;
        let index = self.0.iter().position(|typing| typing.until == first)?;
        Some(self.0.swap_remove(index).channel)
    }

    fn take_ended(&mut self, now: Duration) -> Vec<Box<str>> {
        self.0.extract_if(.., |typing| typing.until <= now).map(|typing| typing.channel).collect()
    }

    /// Whether it was typing there.
    fn take(&mut self, channel: &str) -> bool {
        let index = self.0.iter().position(|typing| *typing.channel == *channel);
        index.map(|index| self.0.swap_remove(index)).is_some()
    }
}

/// `typing`, with `isTyping`.
pub(crate) fn typing(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    let is_typing = call.message().is_typing()?;
    set(call, is_typing)
}

/// `typing.start`.
pub(crate) fn start(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    set(call, true)
}

/// `typing.stop`.
pub(crate) fn stop(call: &mut Call<'_, '_>) -> Result<(), Refusal> {
    set(call, false)
}

fn set(call: &mut Call<'_, '_>, is_typing: bool) -> Result<(), Refusal> {
    let channel = call.message().channel()?;
    call.require_subscription(&channel)?;
    call.require(Action::Publish, &channel)?;
    if is_typing {
        go_on(call, &channel);
    } else {
        let Call { context, connection, policy, text, now_ms, .. } = call;
        end(context, connection, &policy.channels, channel.name(), text, *now_ms);
    }
    if call.message().id().is_some() {
        let json = if is_typing { "true" } else { "false" };
        call.reply("response", |reply| reply.data_field("typing", json));
    }
    Ok(())
}

/// Tells the others, unless they know it or have been told of late.
fn go_on(call: &mut Call<'_, '_>, channel: &ChannelName<'_>) {
    let until = call.context.now() + call.policy.typing.timeout;
    if let Some(typing) = call.connection.typing().and_then(|typing| typing.find(channel.name())) {
        typing.until = until;
        return;
    }
    let id = call.context.id();
    let interval = call.policy.typing.interval_min;
    if !call.shared.typing.admits(call.connection.sender(id), channel.name(), call.now_ms, interval) {
        call.counters.typing_throttled.add(1);
        return;
    }
    call.counters.typing.add(1);
    let Call { context, connection, policy, text, now_ms, .. } = call;
    announce(context, connection, &policy.channels, channel.name(), true, text, *now_ms);
    let typing = connection.typing_mut();
    typing.0.push(TypingIn { channel: channel.name().into(), until });
    if let Some(excess) = typing.take_excess() {
        announce(context, connection, &policy.channels, &excess, false, text, *now_ms);
    }
    context.wake_after(policy.typing.timeout);
}

/// A connection types in a channel no more, if it did.
pub(crate) fn end(
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    channel: &str,
    text: &mut String,
    now_ms: u64,
) {
    if connection.typing().is_some_and(|typing| typing.take(channel)) {
        announce(context, connection, rules, channel, false, text, now_ms);
    }
}

/// A time has come that the connection has asked for, perhaps for another reason; or `all` of it is to end.
pub(crate) fn end_some(
    context: &mut Context<'_>,
    connection: &mut Connection,
    rules: &ChannelRules,
    all: bool,
    text: &mut String,
    now_ms: u64,
) {
    let now = if all { Duration::MAX } else { context.now() };
    let Some(typing) = connection.typing() else { return };
    let (ended, next) = (typing.take_ended(now), typing.next());
    for channel in ended {
        announce(context, connection, rules, &channel, false, text, now_ms);
    }
    if let Some(next) = next {
        context.wake_after(next.saturating_sub(now));
    }
}

fn announce(
    context: &mut Context<'_>,
    connection: &Connection,
    rules: &ChannelRules,
    channel: &str,
    is_typing: bool,
    text: &mut String,
    now_ms: u64,
) {
    let envelope = Envelope::start(text, "typing").text("channel", channel).from(connection.sender(context.id()));
    let typing = envelope.json("isTyping", if is_typing { "true" } else { "false" });
    tell_others(context, rules, channel, typing.finish(now_ms));
}
