//! The whole contract with an application: [`Handler`], [`Context`], and the actions between them.
//!
//! A handler never calls back into the engine. What it asks for is written into a reused list of
//! actions, which the worker applies when the handler has returned: there is no re-entrancy, and a
//! handler can do nothing to a connection while the engine is busy with it.

mod actions;
mod context;
mod core_context;
mod publication;

use std::borrow::Cow;
use std::time::Duration;

pub(crate) use self::actions::{Action, Actions, TopicSet, Words};
pub use self::actions::{LocalFuture, Notice};
pub use self::context::Context;
pub(crate) use self::context::Subscriptions;
pub use self::core_context::CoreContext;
pub use self::publication::{Gap, Overflow, Publication};
use crate::id::ConnectionId;
use crate::message::{Message, MessageStart, OwnedMessage, Piece};
use crate::protocol::http::Request;

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

    /// Messages were dropped, because the connection reads more slowly than it is sent to. What is returned is sent in
    /// their place: behind what was published before them, and before what was published after them. It is asked for
    /// when that place is about to leave, so that many that were dropped there are one gap.
    fn on_gap(&mut self, connection: &mut Self::Connection, gap: Gap<'_>) -> Option<OwnedMessage> {
        let _ = (connection, gap);
        None
    }

    /// Everything that waited in the outbox of a slow connection has left, but for messages that may be dropped by
    /// the policy of their topic ([`Overflow`]); or it was read from all the time, and nothing is said.
    fn on_writable(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection) {
        let _ = (context, connection);
    }

    /// The connection is told something, by [`CoreContext::tell`] or [`EngineHandle::tell`](crate::EngineHandle::tell).
    fn on_told(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, notice: Notice) {
        let _ = (context, connection, notice);
    }

    /// A connection was to be told something and is not open, any more or yet. The notice comes back, on the core
    /// that the connection was on.
    fn on_untold(&mut self, context: &mut CoreContext<'_>, to: ConnectionId, notice: Notice) {
        let _ = (context, to, notice);
    }

    /// The core is told something, by [`CoreContext::tell_core`] or
    /// [`EngineHandle::tell_core`](crate::EngineHandle::tell_core).
    fn on_core_told(&mut self, context: &mut CoreContext<'_>, notice: Notice) {
        let _ = (context, notice);
    }

    /// The time has come that [`Context::wake_after`] asked for. What is due, the handler knows.
    fn on_wake(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection) {
        let _ = (context, connection);
    }

    /// The time has come that [`CoreContext::wake_core_after`] asked for.
    fn on_core_wake(&mut self, context: &mut CoreContext<'_>) {
        let _ = context;
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

    /// This side has begun to close an open connection: a handler or an [`EngineHandle`](crate::EngineHandle), a drain,
    /// or the engine, because of what waits for it. Its subscriptions have ended, and it is not called for any more but
    /// for gaps in what was sent before ([`Self::on_gap`]) and for its end: [`Self::on_close`] follows when the peer has
    /// answered, or its time to answer is up. Who counts who is there counts it no more.
    ///
    /// Once for each such connection, behind all that the turn has been told otherwise, and before the peer can have
    /// received the close frame: whoever comes back because of that finds its old connection gone. Never where the peer
    /// has closed first, or the connection has ended without a close frame of ours: then there is only `on_close`.
    ///
    /// What is sent to the connection itself is dropped, and it can subscribe to nothing. All else can be done that can be
    /// done in [`Self::on_close`].
    fn on_closing(&mut self, context: &mut Context<'_>, connection: &mut Self::Connection, closing: Closing) {
        let _ = (context, connection, closing);
    }

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

/// How this side has begun to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The code of its close frame. 1013 goes out in its place if what was sent before finds no room.
    pub code: u16,
    /// Who closes it.
    pub cause: CloseCause,
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
    /// Whether this side had begun to close it, so that [`Handler::on_closing`] has been called.
    pub was_closing: bool,
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
