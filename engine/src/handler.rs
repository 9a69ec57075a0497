//! The whole contract with an application: [`Handler`], [`Context`], and the actions between them.
//!
//! A handler never calls back into the engine. What it asks for is written into a reused list of
//! actions, which the worker applies when the handler has returned: there is no re-entrancy, and a
//! handler can do nothing to a connection while the engine is busy with it.

use std::borrow::Cow;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use crate::handle::EngineHandle;
use crate::id::{ConnectionId, CoreId, TopicId};
use crate::limits::Limits;
use crate::message::{Message, MessageKind, MessageStart, Piece};
use crate::protocol::Opcode;
use crate::protocol::frame::append_frame;
use crate::protocol::http::Request;
use crate::topics::Topics;

/// An application on one core. Each worker has its own, so that `&mut self` needs no lock.
///
/// Every method has a default: a handler that overrides none accepts every upgrade and says nothing.
pub trait Handler: 'static {
    /// State of one connection, made when it is accepted. Keep it small: there are a million of them.
    type Connection: Default + 'static;

    /// A request has come: answer it, or upgrade. An upgrade that is not one (a missing key, another
    /// version) is refused by the engine without asking. What else is asked for here is done behind the
    /// answer: after an upgrade everything, as in [`Self::on_open`]; after a response nothing is sent or
    /// subscribed to any more. A connection that is closed here is never announced as open.
    fn on_request(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Self::Connection,
        request: &Request<'_>,
    ) -> Answer {
        let _ = (context, connection, request);
        Answer::upgrade()
    }

    /// The connection is open: the answer to the upgrade is on its way.
    fn on_open(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection) {
        let _ = (context, connection);
    }

    /// A whole message has come. Its payload lies in the receive buffer.
    fn on_message(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, message: Message<'_>) {
        let _ = (context, connection, message);
    }

    /// A message has begun that does not lie in one receive buffer as a whole, is larger than
    /// [`Limits::message_bytes_max`], or is compressed: is it to be kept until it is complete, or does the handler
    /// take it piece by piece? Small messages are mostly not asked about, but one may be, wherever the network cuts
    /// it. Nobody is asked unless [`Limits::pieces_bytes_max`] is set.
    fn on_begin(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Self::Connection,
        start: MessageStart,
    ) -> Delivery {
        let _ = (context, connection, start);
        Delivery::Whole
    }

    /// A piece of a message has come that is taken in pieces ([`Delivery::Pieces`]). It lies where it was received
    /// or decompressed, and is at most [`RECEIVE_BUFFER_BYTES`](crate::limits::RECEIVE_BUFFER_BYTES) long.
    ///
    /// Everything can be done that can be done in [`Self::on_message`]; nothing but pings and pongs comes between
    /// two pieces. While what is sent waits for the peer to read, no more pieces come, as with messages. A connection
    /// may end within a message: the last piece then never comes, and [`Self::on_close`] is the end of the message,
    /// too.
    fn on_piece(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, piece: Piece<'_>) {
        let _ = (context, connection, piece);
    }

    /// The peer has sent a ping; the pong is on its way already.
    fn on_ping(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, payload: &[u8]) {
        let _ = (context, connection, payload);
    }

    /// The peer has answered the engine's heartbeat, `round_trip` after it was sent.
    fn on_pong(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, round_trip: Duration) {
        let _ = (context, connection, round_trip);
    }

    /// Everything that waited in the outbox of a slow connection has left.
    fn on_writable(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection) {
        let _ = (context, connection);
    }

    /// Bytes of heap that the handler keeps for its connections, beside their [`Self::Connection`]: a count of its
    /// own, asked for with every tick. It is part of [`Memory::session`](crate::Memory::session).
    fn memory_bytes(&self) -> usize {
        0
    }

    /// The core has given back to the allocator what it has not needed of late: once in
    /// [`TRIM_INTERVAL_MS`](crate::limits::TRIM_INTERVAL_MS) while there is traffic, and a few times more after it.
    /// An allocator that keeps what is freed, and looks at it only when it is asked for something, can be asked here.
    fn on_trim(&mut self) {}

    /// An open connection has ended, for whatever reason. What is sent to it now is dropped.
    fn on_close(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, closed: Closed<'_>) {
        let _ = (context, connection, closed);
    }
}

/// How a message reaches the handler that does not lie in one receive buffer as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// By [`Handler::on_message`] when it is complete. It is kept until then, within
    /// [`Limits::message_bytes_max`].
    #[default]
    Whole,
    /// By [`Handler::on_piece`] as it comes. Nothing of it is kept, and [`Limits::pieces_bytes_max`] is its bound.
    Pieces,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Speak WebSocket.
    Upgrade {
        /// One of the subprotocols that the client has offered (RFC 6455, section 1.9), or none.
        subprotocol: Option<String>,
    },
    /// An HTTP response, after which the connection ends.
    Respond(Response),
}

impl Answer {
    /// An upgrade without a subprotocol.
    #[must_use]
    pub const fn upgrade() -> Self {
        Self::Upgrade { subprotocol: None }
    }
}

/// A plain HTTP response. The engine adds `Content-Length` and `Connection: close`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `Content-Type` of the body.
    pub content_type: Cow<'static, str>,
    /// Further headers, names and values.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The body.
    pub body: Cow<'static, [u8]>,
}

impl Response {
    /// A response of plain text.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self { status, content_type: Cow::Borrowed("text/plain; charset=utf-8"), headers: Vec::new(), body }
    }
}

/// Who ended a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The peer sent a close frame.
    Peer,
    /// The handler, or an [`EngineHandle`], closed it.
    Application,
    /// The peer broke the protocol or a limit.
    Protocol,
    /// Nothing came between two heartbeats.
    PingTimeout,
    /// It read too slowly for what it was sent.
    SlowConsumer,
    /// The memory budget was used up, and it held more than others.
    Memory,
    /// The engine is draining.
    Drain,
    /// The TCP connection ended without a close frame.
    Lost,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed<'a> {
    /// The close code: the peer's if it sent one, else ours; 1005 if a close frame carried none, 1006
    /// if there was no close frame (RFC 6455, section 7.1.5).
    pub code: u16,
    /// The peer's reason; empty if it gave none.
    pub reason: &'a str,
    /// Who ended it.
    pub cause: CloseCause,
}

/// Why a handler's request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The connection has as many subscriptions as it may.
    #[error("the connection has {0} subscriptions, as many as `subscriptions_max` allows: unsubscribe from some")]
    TooMany(u32),
    /// The topic's name is too long.
    #[error("the topic's name is longer than `topic_bytes_max`, {0} bytes: shorten it")]
    NameTooLong(usize),
}

/// What a handler can see and do while it is called: everything concerns the connection at hand
/// unless it names another.
pub struct Context<'a> {
    pub(crate) id: ConnectionId,
    pub(crate) now: Duration,
    pub(crate) subscriptions: Subscriptions<'a>,
    pub(crate) outbox_bytes: usize,
    pub(crate) limits: &'a Limits,
    pub(crate) handle: &'a EngineHandle,
    pub(crate) actions: &'a mut Actions,
}

impl Context<'_> {
    /// The connection at hand.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The core that this handler runs on.
    #[must_use]
    pub const fn core(&self) -> CoreId {
        self.id.core()
    }

    /// Time since the worker started, read once a turn.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Bytes that wait for the connection to read, from earlier turns.
    #[must_use]
    pub const fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// The way to the engine from any thread, and from a spawned future.
    #[must_use]
    pub const fn handle(&self) -> &EngineHandle {
        self.handle
    }

    /// Sends a message. One that has just come is sent from where it lies, the first time without a copy.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        let message = message.into();
        if self.actions.take_current(message) {
            self.actions.list.push(Action::Echo);
        } else {
            let frame = self.actions.encode(message);
            self.actions.list.push(Action::Send { to: self.id, frame });
        }
    }

    /// Sends a message to another connection, on any core. If it has gone, the message goes nowhere.
    pub fn send_to<'m>(&mut self, to: ConnectionId, message: impl Into<Message<'m>>) {
        let frame = self.actions.encode(message.into());
        self.actions.list.push(Action::Send { to, frame });
    }

    /// Subscribes to a topic. To be subscribed twice is to be subscribed.
    ///
    /// # Errors
    /// The name is too long, or the connection has too many subscriptions.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        if topic.len() > self.limits.topic_bytes_max {
            return Err(SubscribeError::NameTooLong(self.limits.topic_bytes_max));
        }
        if self.is_subscribed(topic) {
            return Ok(());
        }
        if self.subscriptions.count() >= self.limits.subscriptions_max {
            return Err(SubscribeError::TooMany(self.limits.subscriptions_max));
        }
        self.subscriptions.pending += 1;
        self.actions.subscribed.insert(topic.into(), true);
        let topic = self.actions.keep(topic.as_bytes());
        self.actions.list.push(Action::Subscribe { topic });
        Ok(())
    }

    /// Whether the connection is subscribed to a topic.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let asked = self.actions.subscribed.get(topic).copied();
        asked.unwrap_or_else(|| self.subscriptions.contains(topic))
    }

    /// The topics that the connection was subscribed to before this call, in no order.
    pub fn subscriptions(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.names()
    }

    /// Ends a subscription. What is published from now on does not reach the connection.
    pub fn unsubscribe(&mut self, topic: &str) {
        if !self.is_subscribed(topic) {
            return;
        }
        self.subscriptions.pending -= 1;
        self.actions.subscribed.insert(topic.into(), false);
        let topic = self.actions.keep(topic.as_bytes());
        self.actions.list.push(Action::Unsubscribe { topic });
    }

    /// Sends a message to every subscriber of a topic, on all cores, this connection among them if
    /// it is one. It leaves at the end of the turn, joined with whatever else the turn publishes there.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) {
        self.publish_but(topic, message.into(), None);
    }

    /// Like [`Self::publish`], but not to this connection.
    pub fn publish_to_others<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) {
        self.publish_but(topic, message.into(), Some(self.id));
    }

    fn publish_but(&mut self, topic: &str, message: Message<'_>, except: Option<ConnectionId>) {
        let topic = self.actions.keep(topic.as_bytes());
        let frame = self.actions.encode(message);
        self.actions.list.push(Action::Publish { topic, frame, except });
    }

    /// Sends a message to every open connection, on all cores.
    pub fn broadcast<'m>(&mut self, message: impl Into<Message<'m>>) {
        let frame = self.actions.encode(message.into());
        self.actions.list.push(Action::Broadcast { frame, except: None });
    }

    /// Like [`Self::broadcast`], but not to this connection.
    pub fn broadcast_to_others<'m>(&mut self, message: impl Into<Message<'m>>) {
        let frame = self.actions.encode(message.into());
        self.actions.list.push(Action::Broadcast { frame, except: Some(self.id) });
    }

    /// Closes with a close frame: what was sent before leaves first. `reason` is cut to the 123 bytes
    /// that a close frame has room for; a code that must not be sent (RFC 6455, section 7.4) becomes 1011.
    pub fn close(&mut self, code: u16, reason: &str) {
        let reason = self.actions.keep(reason.as_bytes());
        self.actions.list.push(Action::Close { to: self.id, code, reason });
    }

    /// Ends the TCP connection at once, without a close frame: the peer sees 1006.
    pub fn terminate(&mut self) {
        self.actions.list.push(Action::Terminate { to: self.id });
    }

    /// Runs a future on this core's runtime, beside the worker. It must await, never block; to act on
    /// a connection it takes along a clone of [`Self::handle`] and an identifier.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.actions.spawned.push(Box::pin(future));
    }
}

/// What a connection is subscribed to, as the tables of its core have it.
pub(crate) struct Subscriptions<'a> {
    pub(crate) topics: &'a Topics,
    /// The only topic, if there is but one.
    pub(crate) only: Option<TopicId>,
    /// All topics, if there are more.
    pub(crate) more: Option<&'a TopicSet>,
    /// Subscriptions that the current call adds, less those that it ends.
    pub(crate) pending: i64,
}

impl Subscriptions<'_> {
    fn count(&self) -> u32 {
        let before = self.more.map_or(usize::from(self.only.is_some()), TopicSet::len);
        u32::try_from(before as i64 + self.pending).unwrap_or(0)
    }

    fn contains(&self, name: &str) -> bool {
        if self.only.is_none() && self.more.is_none() {
            return false;
        }
        let Some(topic) = self.topics.find(name) else { return false };
        self.only == Some(topic) || self.more.is_some_and(|more| more.contains(&topic.0))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let more = self.more.into_iter().flatten().map(|topic| TopicId(*topic));
        self.only.into_iter().chain(more).map(|topic| self.topics.name(topic))
    }
}

/// Topics of a connection that has more than one.
pub(crate) type TopicSet = HashSet<u32, foldhash::fast::RandomState>;

/// A future for the core's runtime.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Entries that [`Actions::subscribed`] keeps room for from call to call.
const SUBSCRIBED_KEPT_MAX: usize = 256;

/// A range of [`Actions::bytes`].
pub(crate) type Span = Range<u32>;

/// One thing that a handler has asked for.
#[derive(Debug)]
pub(crate) enum Action {
    /// The message at hand goes back as it came.
    Echo,
    Send {
        to: ConnectionId,
        frame: Span,
    },
    Subscribe {
        topic: Span,
    },
    Unsubscribe {
        topic: Span,
    },
    Publish {
        topic: Span,
        frame: Span,
        except: Option<ConnectionId>,
    },
    Broadcast {
        frame: Span,
        except: Option<ConnectionId>,
    },
    Close {
        to: ConnectionId,
        code: u16,
        reason: Span,
    },
    Terminate {
        to: ConnectionId,
    },
}

/// What a handler has asked for, in order; reused from call to call.
#[derive(Default)]
pub(crate) struct Actions {
    pub(crate) list: Vec<Action>,
    /// Encoded frames, names and reasons that the list refers to.
    pub(crate) bytes: Vec<u8>,
    pub(crate) spawned: Vec<LocalFuture>,
    /// Topics that the list subscribes to (true) or unsubscribes from, each as it stands at its end. A peer
    /// may fill a message with them: to search the list for each would cost its square.
    subscribed: HashMap<Box<str>, bool, foldhash::fast::RandomState>,
    /// The message at hand, if it can be echoed in place: kind, address and length.
    current: Option<(MessageKind, usize, usize)>,
}

impl Actions {
    /// Says which message is at hand: one that lies in place in the receive buffer, or none.
    pub(crate) fn set_current(&mut self, in_place: Option<Message<'_>>) {
        self.current = in_place.filter(|message| !message.payload().is_empty()).map(place);
    }

    /// Whether this is the message at hand, for the first time: there is room for one echo where it lies.
    fn take_current(&mut self, message: Message<'_>) -> bool {
        self.current.take_if(|current| *current == place(message)).is_some()
    }

    /// Bytes of a span.
    pub(crate) fn slice(&self, span: &Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// Forgets everything, and the memory of an unusually large message with it.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.bytes.shrink_to(crate::limits::CORK_BYTES_MAX);
        if !self.subscribed.is_empty() {
            self.subscribed.clear();
            self.subscribed.shrink_to(SUBSCRIBED_KEPT_MAX);
        }
    }

    /// Frees the room that is kept for the next ones.
    pub(crate) fn trim(&mut self) {
        debug_assert!(self.is_empty(), "what a handler has asked for is applied when it returns");
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.spawned.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.end();
        self.bytes.extend_from_slice(bytes);
        start..self.end()
    }

    fn encode(&mut self, message: Message<'_>) -> Span {
        let start = self.end();
        append_frame(&mut self.bytes, Opcode::from(message.kind()), message.payload());
        start..self.end()
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("one call of a handler writes less than 4 GiB")
    }
}

/// What tells a message from all others while its payload lies still.
fn place(message: Message<'_>) -> (MessageKind, usize, usize) {
    (message.kind(), message.payload().as_ptr().addr(), message.payload().len())
}
