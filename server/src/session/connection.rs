//! What a connection has, as few bytes of it as may be: most have nothing.

use std::net::IpAddr;

use crore_engine::ConnectionId;

use crate::address::Origin;
use crate::auth::{Login, Permits};
use crate::home::{Pending, Waiting};
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
    rooms: Vec<Box<str>>,
    login: Login,
    seldom: Option<Box<Seldom>>,
    /// Where there is a limit for each connection, and it has sent something.
    rate_state: Option<Box<rate_limit::State>>,
    /// Subscriptions that have not begun, since there was one.
    pending: Option<Box<Pending>>,
    /// Where the connection is known to be, if that is known of any channel.
    present: Option<Box<Present>>,
    /// While a message waits for something, or others wait for that one.
    queue: Option<Box<Queue>>,
}

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
}

const _: () = assert!(size_of::<Connection>() <= 8, "a million connections: every byte is a megabyte");

impl Connection {
    /// Where it came from, if that is kept.
    pub(super) fn set_origin(&mut self, origin: Option<Box<Origin>>) {
        self.extras.get_or_insert_default().origin = origin;
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
        self.extras.as_ref().is_some_and(|extras| extras.rooms.iter().any(|member| **member == *room))
    }

    pub(crate) fn add_room(&mut self, room: &str) {
        self.extras.get_or_insert_default().rooms.push(room.into());
    }

    /// Whether there was one.
    pub(crate) fn remove_room(&mut self, room: &str) -> bool {
        let Some(extras) = &mut self.extras else { return false };
        let Some(index) = extras.rooms.iter().position(|member| **member == *room) else { return false };
        extras.rooms.swap_remove(index);
        if extras.rooms.is_empty() {
            extras.rooms = Vec::new();
        }
        true
    }

    pub(crate) fn take_rooms(&mut self) -> Vec<Box<str>> {
        self.extras.as_mut().map(|extras| std::mem::take(&mut extras.rooms)).unwrap_or_default()
    }

    /// What the limit of the connection goes by.
    pub(crate) fn rate_state(&mut self) -> &mut rate_limit::State {
        self.extras.get_or_insert_default().rate_state.get_or_insert_default()
    }

    pub(super) fn reset_rate_state(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.rate_state = None;
        }
    }

    pub(crate) fn pending_mut(&mut self) -> &mut Pending {
        self.extras.get_or_insert_default().pending.get_or_insert_default()
    }

    /// Whether a subscription to a channel is about to begin.
    pub(crate) fn is_pending(&self, channel: &str) -> bool {
        self.extras.as_ref().and_then(|extras| extras.pending.as_ref()).is_some_and(|pending| pending.has(channel))
    }

    /// Channels whose subscriptions are about to begin.
    pub(crate) fn pending_channels(&self) -> impl Iterator<Item = &str> {
        self.extras.iter().flat_map(|extras| &extras.pending).flat_map(|pending| pending.channels())
    }

    /// Gives up the subscriptions to a channel that have not begun.
    pub(crate) fn give_up_pending(&mut self, channel: &str) -> Vec<Waiting> {
        self.pending().map(|pending| pending.give_up(channel)).unwrap_or_default()
    }

    pub(super) fn pending(&mut self) -> Option<&mut Pending> {
        self.extras.as_mut()?.pending.as_deref_mut()
    }

    pub(crate) fn present(&self) -> Option<&Present> {
        self.extras.as_ref()?.present.as_deref()
    }

    pub(crate) fn present_mut(&mut self) -> &mut Present {
        self.extras.get_or_insert_default().present.get_or_insert_default()
    }

    fn seldom(&self) -> Option<&Seldom> {
        self.extras.as_ref()?.seldom.as_deref()
    }

    fn seldom_if_any(&mut self) -> Option<&mut Seldom> {
        self.extras.as_mut()?.seldom.as_deref_mut()
    }

    fn seldom_mut(&mut self) -> &mut Seldom {
        self.extras.get_or_insert_default().seldom.get_or_insert_default()
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
        self.extras.iter().flat_map(|extras| &extras.rooms).map(AsRef::as_ref)
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

    pub(crate) fn hook_mut(&mut self) -> &mut Hook {
        &mut self.seldom_mut().hook
    }

    /// The user's name, if the connection has one besides its identifier.
    pub(crate) fn name(&self) -> Option<&str> {
        self.user().map(User::name)
    }

    pub(crate) fn set_user(&mut self, name: &str) {
        self.extras.get_or_insert_default().user = Some(User::new(name));
    }

    pub(crate) fn login(&mut self) -> Option<&mut Login> {
        Some(&mut self.extras.as_mut()?.login)
    }

    pub(crate) fn login_mut(&mut self) -> &mut Login {
        &mut self.extras.get_or_insert_default().login
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
        self.extras.get_or_insert_default().queue.get_or_insert_default()
    }

    pub(crate) fn take_queue(&mut self) -> Option<Box<Queue>> {
        self.extras.as_mut()?.queue.take()
    }

    /// Whether nothing is done for the connection until it has shown a token.
    pub(crate) fn is_gated(&self, required: bool) -> bool {
        let Some(extras) = &self.extras else { return required };
        extras.user.is_none() && (required || extras.login.gates())
    }
}
