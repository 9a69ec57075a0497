//! What a connection has, as few bytes of it as may be: most have nothing.

use std::net::IpAddr;

use crore_engine::{ConnectionId, Context, SubscribeError};

use crate::address::Origin;
use crate::auth::{Login, Permits};
use crate::channel::Identity;
use crate::history::Position;
use crate::home::Pending;
use crate::inbound::Queue;
use crate::presence::Present;
use crate::typing::Typing;
use crate::webhook::Hook;
use crate::wire::Sender;
use crate::{chat, rate_limit};

/// State of one connection: a pointer, to nothing as long as the client has neither name nor room.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    extras: Option<Box<Extras>>,
}

/// What few connections have.
#[derive(Debug, Default)]
struct Extras {
    user: Option<User>,
    /// Where it came from, if that is kept.
    origin: Option<Box<Origin>>,
    rooms: Option<Box<Rooms>>,
    login: Login,
    seldom: Option<Box<Seldom>>,
    /// Where there is a limit for each connection, and it has sent something.
    rate_state: Option<Box<rate_limit::State>>,
    /// What homes of channels are asked, since one was.
    pending: Option<Box<Pending>>,
    /// Where the connection is known to be, if that is known of any channel.
    present: Option<Box<Present>>,
    /// While a message waits for something, or others wait for that one.
    queue: Option<Box<Queue>>,
    /// Bytes of all this, as its core has counted them.
    counted_bytes: u32,
    /// It may have other bytes by now.
    has_changed: bool,
}

/// The rooms that it is a member of: of the idle million few are in one.
#[derive(Debug, Default)]
struct Rooms(Vec<Box<str>>);

/// What fewer still have.
#[derive(Debug, Default)]
struct Seldom {
    /// What it may do in channels beyond others.
    permits: Permits,
    typing: Typing,
    /// Where it came by the path of the plain chat.
    chat: Option<Box<chat::Member>>,
    /// What a backend knows of it, and wants to know.
    hook: Hook,
}

/// Who speaks. A million users are idle, so that a name is kept once where that will do.
#[derive(Debug)]
struct User {
    /// The name as a JSON string.
    json: Box<str>,
    /// The name, where it is not what stands between the quotes.
    name: Option<Box<str>>,
}

impl User {
    fn new(name: &str) -> Self {
        let json = serde_json::Value::from(name).to_string().into_boxed_str();
        let is_plain = json.len() == name.len() + 2;
        Self { json, name: (!is_plain).then(|| name.into()) }
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.json[1..self.json.len() - 1])
    }

    fn heap_bytes(&self) -> usize {
        self.json.len() + self.name.as_ref().map_or(0, |name| name.len())
    }
}

const _: () = assert!(size_of::<Connection>() <= 8, "a million connections: every byte is a megabyte");
const _: () = assert!(size_of::<Extras>() <= 112, "every connection of a user has them, in a block of so many bytes");

impl Extras {
    fn heap_bytes(&self) -> usize {
        let Self { user, origin, rooms, login, seldom, rate_state, pending, present, queue, .. } = self;
        size_of::<Self>()
            + user.as_ref().map_or(0, User::heap_bytes)
            + boxed(origin.as_deref(), |_| 0)
            + boxed(rooms.as_deref(), |rooms| names_bytes(&rooms.0))
            + login.heap_bytes()
            + boxed(seldom.as_deref(), Seldom::heap_bytes)
            + boxed(rate_state.as_deref(), |_| 0)
            + boxed(pending.as_deref(), Pending::heap_bytes)
            + boxed(present.as_deref(), Present::heap_bytes)
            + boxed(queue.as_deref(), |_| 0)
    }
}

impl Seldom {
    fn heap_bytes(&self) -> usize {
        let Self { permits, typing, chat, hook } = self;
        permits.heap_bytes()
            + typing.heap_bytes()
            + boxed(chat.as_deref(), chat::Member::heap_bytes)
            + hook.heap_bytes()
    }
}

/// Bytes of a value in a box of its own, and of what it has.
fn boxed<T>(value: Option<&T>, heap_bytes: impl Fn(&T) -> usize) -> usize {
    value.map_or(0, |value| size_of::<T>() + heap_bytes(value))
}

/// Bytes of a list of names.
pub(crate) fn names_bytes(names: &Vec<Box<str>>) -> usize {
    names.capacity() * size_of::<Box<str>>() + names.iter().map(|name| name.len()).sum::<usize>()
}

impl Connection {
    /// What it has, to be changed, made if there is nothing.
    fn extras_mut(&mut self) -> &mut Extras {
        let extras = self.extras.get_or_insert_default();
        extras.has_changed = true;
        extras
    }

    /// As [`Self::extras_mut`], if there is anything.
    fn extras_if_any(&mut self) -> Option<&mut Extras> {
        let extras = self.extras.as_deref_mut()?;
        extras.has_changed = true;
        Some(extras)
    }

    /// Bytes that it has more, or less, than when this was asked last: for its core to count. Who has changed nothing since
    /// is not looked at.
    pub(super) fn grown_bytes(&mut self) -> isize {
        let Some(extras) = self.extras.as_deref_mut().filter(|extras| extras.has_changed) else { return 0 };
        let bytes = u32::try_from(extras.heap_bytes()).unwrap_or(u32::MAX);
        extras.has_changed = false;
        let before = std::mem::replace(&mut extras.counted_bytes, bytes);
        bytes as isize - before as isize
    }

    /// Bytes that have been counted.
    pub(super) fn counted_bytes(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.counted_bytes as usize)
    }

    /// Bytes of heap that it has, its messages that wait among them.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Some(extras) = &self.extras else { return 0 };
        let queued = extras.queue.as_ref().map_or(0, |queue| queue.waiting_bytes());
        extras.heap_bytes() + queued + self.permits().map_or(0, Permits::waiting_bytes)
    }

    /// Where it came from, if that is kept.
    pub(super) fn set_origin(&mut self, origin: Option<Box<Origin>>) {
        self.extras_mut().origin = origin;
    }

    /// It has come by the path of the plain chat.
    pub(super) fn set_chat_member(&mut self, member: chat::Member) {
        self.seldom_mut().chat = Some(Box::new(member));
    }

    /// Who speaks through the connection with this identifier.
    pub(crate) fn sender(&self, id: ConnectionId) -> Sender<'_> {
        match self.user() {
            Some(user) => Sender::User(&user.json),
            None => Sender::Connection(id),
        }
    }

    pub(crate) fn is_member(&self, room: &str) -> bool {
        self.rooms().any(|member| *member == *room)
    }

    pub(crate) fn add_room(&mut self, room: &str) {
        self.extras_mut().rooms.get_or_insert_default().0.push(room.into());
    }

    /// Whether there was one.
    pub(crate) fn remove_room(&mut self, room: &str) -> bool {
        let Some(extras) = self.extras_if_any() else { return false };
        let Some(rooms) = &mut extras.rooms else { return false };
        let Some(index) = rooms.0.iter().position(|member| **member == *room) else { return false };
        rooms.0.swap_remove(index);
        if rooms.0.is_empty() {
            extras.rooms = None;
        }
        true
    }

    pub(crate) fn take_rooms(&mut self) -> Vec<Box<str>> {
        self.extras_if_any().and_then(|extras| extras.rooms.take()).map(|rooms| rooms.0).unwrap_or_default()
    }

    /// What the limit of the connection goes by.
    pub(crate) fn rate_state(&mut self) -> &mut rate_limit::State {
        let extras = self.extras.get_or_insert_default();
        // With each message, of which one makes it.
        extras.has_changed |= extras.rate_state.is_none();
        extras.rate_state.get_or_insert_default()
    }

    pub(super) fn reset_rate_state(&mut self) {
        if let Some(extras) = self.extras_if_any() {
            extras.rate_state = None;
        }
    }

    pub(crate) fn pending_mut(&mut self) -> &mut Pending {
        self.extras_mut().pending.get_or_insert_default()
    }

    /// Whether a subscription to a channel is about to begin.
    pub(crate) fn is_pending(&self, channel: &str) -> bool {
        let pending = self.extras.as_ref().and_then(|extras| extras.pending.as_ref());
        pending.is_some_and(|pending| pending.subscribes_to(channel))
    }

    /// Channels whose subscriptions are about to begin.
    pub(crate) fn pending_channels(&self) -> impl Iterator<Item = &str> {
        self.extras.iter().flat_map(|extras| &extras.pending).flat_map(|pending| pending.channels())
    }

    /// Whether there is a subscription left for another channel, of so many: those that have not begun are taken, too.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn require_subscription_free(&self, context: &Context<'_>, most: u32) -> Result<(), SubscribeError> {
        let pending = self.extras.as_ref().and_then(|extras| extras.pending.as_ref());
        let taken = context.subscription_count() + pending.map_or(0, |pending| pending.new_subscriptions());
        if taken < most as usize { Ok(()) } else { Err(SubscribeError::TooMany(most)) }
    }

    /// Gives up the subscriptions to a channel that have not begun; returns the `id`s of their messages.
    pub(crate) fn give_up_pending(&mut self, channel: &str) -> Vec<Option<Box<str>>> {
        self.pending().map(|pending| pending.give_up(channel)).unwrap_or_default()
    }

    pub(super) fn pending(&mut self) -> Option<&mut Pending> {
        self.extras_if_any()?.pending.as_deref_mut()
    }

    pub(crate) fn present(&self) -> Option<&Present> {
        self.extras.as_ref()?.present.as_deref()
    }

    pub(crate) fn present_mut(&mut self) -> &mut Present {
        self.extras_mut().present.get_or_insert_default()
    }

    fn seldom(&self) -> Option<&Seldom> {
        self.extras.as_ref()?.seldom.as_deref()
    }

    fn seldom_if_any(&mut self) -> Option<&mut Seldom> {
        self.extras_if_any()?.seldom.as_deref_mut()
    }

    fn seldom_mut(&mut self) -> &mut Seldom {
        self.extras_mut().seldom.get_or_insert_default()
    }

    fn user(&self) -> Option<&User> {
        self.extras.as_ref()?.user.as_ref()
    }

    /// Where it came from, and when, if that is kept.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.extras.as_ref()?.origin.as_deref()
    }

    /// The rooms that it is a member of.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.extras.iter().flat_map(|extras| &extras.rooms).flat_map(|rooms| &rooms.0).map(AsRef::as_ref)
    }

    /// Who that is, where it is asked who may do something in a channel.
    pub(crate) fn identity(&self, channel: &str, is_subscribed: bool) -> Identity<'_> {
        let permits = self.permits();
        Identity {
            user: self.name(),
            grants: permits.and_then(Permits::grants),
            is_subscribed,
            has_token: permits.is_some_and(|permits| permits.holds(channel)),
        }
    }

    /// When its user's token ends, in seconds since the Unix epoch.
    pub(crate) fn token_expires_s(&self) -> Option<u32> {
        self.extras.as_ref()?.login.expires_s()
    }

    pub(crate) fn chat(&self) -> Option<&chat::Member> {
        self.seldom()?.chat.as_deref()
    }

    pub(crate) fn chat_mut(&mut self) -> Option<&mut chat::Member> {
        self.seldom_if_any()?.chat.as_deref_mut()
    }

    /// Where the client is, if that is kept.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.origin()?.address()
    }

    pub(crate) fn hook(&self) -> Option<&Hook> {
        Some(&self.seldom()?.hook)
    }

    /// Where a channel stood when the backend has subscribed the connection to it, if that was never asked before.
    pub(crate) fn take_enrolled(&mut self, channel: &str) -> Option<Position> {
        let enrolled = &mut self.seldom_if_any()?.hook.enrolled;
        let index = enrolled.iter().position(|(name, _)| **name == *channel)?;
        Some(enrolled.swap_remove(index).1)
    }

    pub(crate) fn hook_mut(&mut self) -> &mut Hook {
        &mut self.seldom_mut().hook
    }

    /// The user's name, if the connection has one besides its identifier.
    pub(crate) fn name(&self) -> Option<&str> {
        self.user().map(User::name)
    }

    pub(crate) fn set_user(&mut self, name: &str) {
        self.extras_mut().user = Some(User::new(name));
    }

    pub(crate) fn login(&mut self) -> Option<&mut Login> {
        Some(&mut self.extras_if_any()?.login)
    }

    pub(crate) fn login_mut(&mut self) -> &mut Login {
        &mut self.extras_mut().login
    }

    pub(crate) fn permits(&self) -> Option<&Permits> {
        Some(&self.seldom()?.permits)
    }

    pub(crate) fn permits_if_any(&mut self) -> Option<&mut Permits> {
        Some(&mut self.seldom_if_any()?.permits)
    }

    pub(crate) fn permits_mut(&mut self) -> &mut Permits {
        &mut self.seldom_mut().permits
    }

    pub(crate) fn typing(&mut self) -> Option<&mut Typing> {
        Some(&mut self.seldom_if_any()?.typing)
    }

    pub(crate) fn typing_mut(&mut self) -> &mut Typing {
        &mut self.seldom_mut().typing
    }

    /// Whether what comes has to wait for what has come before.
    pub(crate) fn is_waiting(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.queue.is_some() || extras.login.is_undecided())
    }

    /// Whether a message waits for what is not there yet.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| {
            extras.login.is_undecided() || extras.queue.as_ref().is_some_and(|queue| queue.is_awaiting())
        })
    }

    pub(crate) fn queue(&mut self) -> Option<&mut Queue> {
        self.extras.as_mut()?.queue.as_deref_mut()
    }

    pub(crate) fn queue_mut(&mut self) -> &mut Queue {
        self.extras_mut().queue.get_or_insert_default()
    }

    pub(crate) fn take_queue(&mut self) -> Option<Box<Queue>> {
        self.extras_if_any()?.queue.take()
    }

    /// Whether nothing is done for the connection until it has shown a token.
    pub(crate) fn is_gated(&self, required: bool) -> bool {
        let Some(extras) = &self.extras else { return required };
        extras.user.is_none() && (required || extras.login.gates())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a core has counted of one connection after each step.
    #[derive(Default)]
    struct Core(isize);

    impl Core {
        #[track_caller]
        fn assert_grows(&mut self, connection: &mut Connection, least: isize) {
            let grown = connection.grown_bytes();
            assert!((least..least + 400).contains(&grown), "{grown} bytes more, {least} expected");
            self.0 += grown;
            assert_eq!((connection.grown_bytes(), connection.counted_bytes() as isize), (0, self.0));
            assert_eq!(connection.heap_bytes() as isize, self.0);
        }
    }

    // capability: 28
    #[test]
    fn what_a_connection_has_is_counted_as_it_changes_and_once() {
        let (mut core, mut connection) = (Core::default(), Connection::default());
        assert_eq!((connection.grown_bytes(), connection.heap_bytes()), (0, 0), "most have nothing");
        connection.set_user(&"u".repeat(100));
        core.assert_grows(&mut connection, 100 + size_of::<Extras>() as isize);
        let room = "r".repeat(1000);
        connection.add_room(&room);
        core.assert_grows(&mut connection, 1000);
        connection.permits_mut();
        core.assert_grows(&mut connection, size_of::<Seldom>() as isize);
        connection.rate_state();
        core.assert_grows(&mut connection, size_of::<rate_limit::State>() as isize);
        connection.rate_state();
        assert!(!connection.extras.as_ref().unwrap().has_changed, "a message changes nothing");
        assert!(connection.remove_room(&room));
        core.assert_grows(&mut connection, -1000 - (size_of::<Rooms>() + 4 * size_of::<Box<str>>()) as isize);
    }
}
