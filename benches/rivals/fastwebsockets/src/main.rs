//! fastwebsockets on a single-threaded tokio, upgraded through hyper as its documentation shows.

use std::convert::Infallible;
use std::future::ready;
use std::io;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocketError, WebSocketWrite,
    after_handshake_split,
};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::{Parts, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rival_common::{Hub, MESSAGE_BYTES_MAX, Mode, Options, accept};
use tokio::io::{AsyncReadExt, BufWriter};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

type Result<T> = std::result::Result<T, WebSocketError>;

/// Frames drained from a connection's channel before they are flushed.
const BATCH_FRAMES: usize = 256;

fn main() -> io::Result<()> {
    Options::from_args().run_on_tokio(serve)
}

async fn serve(listener: TcpListener, mode: Mode) -> io::Result<()> {
    let hub = Hub::default();
    loop {
        let stream = accept(&listener).await;
        let hub = hub.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| ready(respond(request, mode, hub.clone())));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that breaks off its request is no event.
            let _ = connection.with_upgrades().await;
        });
    }
}

fn respond(
    mut request: Request<Incoming>,
    mode: Mode,
    hub: Hub<Outgoing>,
) -> std::result::Result<Response<Empty<Bytes>>, Infallible> {
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    tokio::spawn(async move {
        // The library's own example takes its connections out of tokio's cooperative budget too.
        let _ = tokio::task::unconstrained(async move {
            match mode {
                Mode::Echo => echo(upgraded).await,
                Mode::Broadcast => broadcast(upgraded, hub).await,
            }
        })
        .await;
    });
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<()> {
    let mut socket = upgraded.await?;
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

/// A frame on its way out, shared by all its receivers.
#[derive(Clone)]
struct Outgoing {
    opcode: OpCode,
    payload: Bytes,
}

impl From<Frame<'_>> for Outgoing {
    fn from(frame: Frame<'_>) -> Self {
        let payload = match frame.payload {
            Payload::Bytes(payload) => payload.freeze(),
            other => Bytes::from(Vec::from(other)),
        };
        Self { opcode: frame.opcode, payload }
    }
}

async fn broadcast(upgraded: UpgradeFut, hub: Hub<Outgoing>) -> Result<()> {
    let upgraded = upgraded.await?.into_inner().into_inner();
    let Ok(Parts { io, read_buf, .. }) = Upgraded::downcast::<TokioIo<TcpStream>>(upgraded) else {
        unreachable!("every connection was served from a TcpStream")
    };
    // Reading a frame cannot be cancelled, so reader and writer are tasks of their own, each with its half of the socket;
    // the buffer joins the frames of one batch into one write.
    let (read, write) = io.into_inner().into_split();
    let read = io::Cursor::new(read_buf).chain(read);
    let (mut read, write) = after_handshake_split(read, BufWriter::new(write), Role::Server);
    read.set_max_message_size(MESSAGE_BYTES_MAX);
    let mut read = FragmentCollectorRead::new(read);

    let (member, receiver) = hub.join();
    tokio::spawn(tokio::task::unconstrained(write_out(write, receiver)));
    loop {
        let mut reply = |frame: Frame<'_>| {
            member.send(frame.into());
            ready(Ok::<_, WebSocketError>(()))
        };
        let frame = read.read_frame(&mut reply).await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => member.publish(&frame.into()),
            _ => {}
        }
    }
}

async fn write_out(
    mut socket: WebSocketWrite<BufWriter<OwnedWriteHalf>>,
    mut receiver: UnboundedReceiver<Outgoing>,
) -> Result<()> {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH_FRAMES).await > 0 {
        for Outgoing { opcode, payload } in batch.drain(..) {
            socket.write_frame(Frame::new(true, opcode, None, Payload::Borrowed(&payload))).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}
