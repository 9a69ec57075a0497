//! ntex on its native runtime, with the io_uring reactor, upgraded from its HTTP/1 service.

use std::cell::RefCell;
use std::io;

use ntex::http::body::BodySize;
use ntex::http::{HttpService, Request, Response, h1};
use ntex::io::{DispatchItem, Dispatcher, Io, IoRef};
use ntex::service::{Pipeline, cfg::SharedCfg, fn_service};
use ntex::util::{ByteString, Bytes, BytesMut};
use ntex::ws::{CloseCode, CloseReason, Codec, Frame, Item, Message, handshake};
use rival_common::{BACKLOG_CONNECTIONS, MESSAGE_BYTES_MAX, Mode, Options};
use slab::Slab;

/// Connections that the worker may hold; the library's own limit is 25,600.
const CONNECTIONS_MAX: usize = 1 << 20;

thread_local! {
    /// Every client in broadcast mode. There is one worker, so one table.
    static MEMBERS: RefCell<Slab<IoRef>> = const { RefCell::new(Slab::new()) };
}

#[ntex::main]
async fn main() -> io::Result<()> {
    let Options { mode, port, .. } = Options::from_args();
    let address = format!("127.0.0.1:{port}");
    let server = ntex::server::build()
        .workers(1)
        .backlog(BACKLOG_CONNECTIONS)
        .max_connections(CONNECTIONS_MAX)
        .bind("rival", &address, SharedCfg::new("rival"), async move |_| {
            HttpService::h1(async |_| Ok::<_, io::Error>(Response::BadRequest())).control(
                async move |event: h1::Control<_, _>| {
                    Ok::<_, io::Error>(match event {
                        h1::Control::Upgrade(upgrade) => {
                            let (ack, io, request, codec) = upgrade.handle();
                            // In a task of its own, so that the HTTP dispatcher and its memory go.
                            ntex::rt::spawn(async move { serve(io, &request, &codec, mode).await });
                            ack
                        }
                        other => other.ack(),
                    })
                },
            )
        })?
        .run();
    println!("listening on {address}");
    server.await
}

async fn serve(io: Io, request: &Request, http: &h1::Codec, mode: Mode) {
    let Ok(mut response) = handshake(request.head()) else { return };
    let (response, _) = response.build().into_parts();
    if io.encode((response, BodySize::None).into(), http).is_err() {
        return;
    }
    // The time limit for the request's head would otherwise end the connection.
    io.stop_timer();

    let key = (mode == Mode::Broadcast).then(|| MEMBERS.with_borrow_mut(|members| members.insert(io.get_ref())));
    let session = Session { io: io.get_ref(), mode, fragments: RefCell::default() };
    let service = fn_service(async move |event| Ok::<_, io::Error>(session.answer(event)));
    let codec = Codec::new().max_size(MESSAGE_BYTES_MAX);
    // A connection that ends in an error has ended.
    let _ = Dispatcher::new(io.seal(), codec, Pipeline::new((), service)).await;
    if let Some(key) = key {
        MEMBERS.with_borrow_mut(|members| members.remove(key));
    }
}

/// What a connection does with its frames. The library hands fragments and text over as they come: joining and validating
/// is the application's task.
struct Session {
    io: IoRef,
    mode: Mode,
    fragments: RefCell<Option<Fragments>>,
}

struct Fragments {
    text: bool,
    payload: BytesMut,
}

impl Session {
    fn answer(&self, event: DispatchItem<Codec>) -> Option<Message> {
        let DispatchItem::Item(frame) = event else { return None };
        let message = match frame {
            Frame::Text(payload) => text(payload),
            Frame::Binary(payload) => Ok(Message::Binary(payload)),
            Frame::Continuation(item) => self.join(item).transpose()?,
            Frame::Ping(payload) => return Some(Message::Pong(payload)),
            Frame::Pong(_) => return None,
            Frame::Close(reason) => return Some(self.close(reason)),
        };
        match (message, self.mode) {
            (Ok(message), Mode::Echo) => Some(message),
            (Ok(message), Mode::Broadcast) => {
                publish(&message);
                None
            }
            (Err(code), _) => Some(self.close(Some(code.into()))),
        }
    }

    /// Adds a fragment; returns the message that it completes.
    fn join(&self, item: Item) -> Result<Option<Message>, CloseCode> {
        let mut fragments = self.fragments.borrow_mut();
        let (payload, last) = match item {
            Item::FirstText(_) | Item::FirstBinary(_) if fragments.is_some() => return Err(CloseCode::Protocol),
            Item::FirstText(payload) => {
                *fragments = Some(Fragments { text: true, payload: payload.into() });
                return Ok(None);
            }
            Item::FirstBinary(payload) => {
                *fragments = Some(Fragments { text: false, payload: payload.into() });
                return Ok(None);
            }
            Item::Continue(payload) => (payload, false),
            Item::Last(payload) => (payload, true),
        };
        let Some(begun) = fragments.as_mut() else { return Err(CloseCode::Protocol) };
        if begun.payload.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(CloseCode::Size);
        }
        begun.payload.extend_from_slice(&payload);
        if !last {
            return Ok(None);
        }
        let Some(Fragments { text: is_text, payload }) = fragments.take() else { return Err(CloseCode::Protocol) };
        if is_text { text(payload.freeze()).map(Some) } else { Ok(Some(Message::Binary(payload.freeze()))) }
    }

    /// Answers with a close frame; the connection ends when that has been written.
    fn close(&self, reason: Option<CloseReason>) -> Message {
        let io = self.io.clone();
        ntex::rt::spawn(async move { io.close() });
        Message::Close(reason)
    }
}

fn text(payload: Bytes) -> Result<Message, CloseCode> {
    ByteString::try_from(payload).map(Message::Text).map_err(|_| CloseCode::Invalid)
}

/// Encodes `message` into every member's write buffer; the reactor submits them all at the end of its turn.
fn publish(message: &Message) {
    let codec = Codec::new();
    MEMBERS.with_borrow(|members| {
        for (_, member) in members {
            // A member that is closing takes no more messages.
            let _ = member.encode(message.clone(), &codec);
        }
    });
}
