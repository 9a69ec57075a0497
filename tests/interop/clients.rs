//! The clients of other crates: tokio-tungstenite and fastwebsockets meet the same cases, against an engine in the
//! same process. Neither of them speaks permessage-deflate: an engine that compresses does not do so for them.

use std::net::SocketAddr;

use crore_engine::Compression;
use crore_tests::{DEADLINE, Setup, on_each_kind};
use fastwebsockets::{OpCode, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode as TungsteniteOpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// The largest message that the engine takes unless it is told otherwise.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Both sides of the borders between the forms of a frame's length, and of a receive buffer.
const SIZES: [usize; 11] = [0, 1, 125, 126, 127, 16_384, 65_535, 65_536, 65_537, 1_000_000, MESSAGE_BYTES_MAX];

const CLOSES: [(u16, &str); 4] = [(1000, ""), (1001, "leaving"), (3000, "é, é, é"), (4999, "x")];

const BEYOND_ASCII: &str = "κόσμε, 世界, 🦇, \0";

/// What is sent.
#[derive(Clone, Copy)]
enum Opcode {
    Text,
    Binary,
    Continuation,
}

/// What comes back.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// What the cases need of a client.
trait Client: Sized {
    /// Connects, offering these subprotocols. Returns what the answer says of subprotocol and extensions.
    async fn open(
        address: SocketAddr,
        path: &str,
        subprotocols: Option<&str>,
    ) -> (Self, Option<String>, Option<String>);

    async fn send(&mut self, opcode: Opcode, fin: bool, payload: &[u8]);

    async fn ping(&mut self, payload: &[u8]);

    async fn close(&mut self, code: u16, reason: &str);

    async fn receive(&mut self) -> Heard;
}

struct Tungstenite(WebSocketStream<TcpStream>);

impl Client for Tungstenite {
    async fn open(
        address: SocketAddr,
        path: &str,
        subprotocols: Option<&str>,
    ) -> (Self, Option<String>, Option<String>) {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("an address");
        if let Some(subprotocols) = subprotocols {
            request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocols.parse().expect("a header"));
        }
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        let (socket, answer) = tokio_tungstenite::client_async(request, stream).await.expect("an upgrade");
        let header = |name| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        (Self(socket), header("Sec-WebSocket-Protocol"), header("Sec-WebSocket-Extensions"))
    }

    async fn send(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        let data = match opcode {
            Opcode::Text => Data::Text,
            Opcode::Binary => Data::Binary,
            Opcode::Continuation => Data::Continue,
        };
        let frame = Frame::message(payload.to_vec(), TungsteniteOpCode::Data(data), fin);
        self.0.send(Message::Frame(frame)).await.expect("the server reads");
    }

    async fn ping(&mut self, payload: &[u8]) {
        self.0.send(Message::Ping(payload.to_vec().into())).await.expect("the server reads");
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.0.close(Some(frame)).await.expect("the server reads");
    }

    async fn receive(&mut self) -> Heard {
        match self.0.next().await.expect("the server answers").expect("it does so well") {
            Message::Text(text) => Heard::Text(text.as_str().to_owned()),
            Message::Binary(data) => Heard::Binary(data.into()),
            Message::Pong(payload) => Heard::Pong(payload.into()),
            Message::Close(Some(frame)) => Heard::Close(frame.code.into(), frame.reason.as_str().to_owned()),
            other => panic!("unexpected: {other:?}"),
        }
    }
}

struct Fast(WebSocket<TokioIo<Upgraded>>);

impl Client for Fast {
    async fn open(
        address: SocketAddr,
        path: &str,
        subprotocols: Option<&str>,
    ) -> (Self, Option<String>, Option<String>) {
        let mut request = hyper::Request::get(format!("http://{address}{path}"))
            .header("Host", address.to_string())
            .header("Upgrade", "websocket")
            .header("Connection", "upgrade")
            .header("Sec-WebSocket-Key", fastwebsockets::handshake::generate_key())
            .header("Sec-WebSocket-Version", "13");
        if let Some(subprotocols) = subprotocols {
            request = request.header("Sec-WebSocket-Protocol", subprotocols);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        let executor = TokioExecutor::new();
        let (socket, answer) = fastwebsockets::handshake::client(&executor, request, stream).await.expect("an upgrade");
        let header = |name| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        (Self(socket), header("Sec-WebSocket-Protocol"), header("Sec-WebSocket-Extensions"))
    }

    async fn send(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        let opcode = match opcode {
            Opcode::Text => OpCode::Text,
            Opcode::Binary => OpCode::Binary,
            Opcode::Continuation => OpCode::Continuation,
        };
        let frame = fastwebsockets::Frame::new(fin, opcode, None, payload.to_vec().into());
        self.0.write_frame(frame).await.expect("the server reads");
    }

    async fn ping(&mut self, payload: &[u8]) {
        let frame = fastwebsockets::Frame::new(true, OpCode::Ping, None, payload.to_vec().into());
        self.0.write_frame(frame).await.expect("the server reads");
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let frame = fastwebsockets::Frame::close(code, reason.as_bytes());
        self.0.write_frame(frame).await.expect("the server reads");
    }

    async fn receive(&mut self) -> Heard {
        let frame = self.0.read_frame().await.expect("the server answers");
        assert!(frame.fin, "nothing is echoed in fragments");
        let payload = Vec::from(frame.payload);
        let text = |payload| String::from_utf8(payload).expect("text");
        match frame.opcode {
            OpCode::Text => Heard::Text(text(payload)),
            OpCode::Binary => Heard::Binary(payload),
            OpCode::Pong => Heard::Pong(payload),
            OpCode::Close => {
                let (code, reason) = payload.split_first_chunk().expect("a code");
                Heard::Close(u16::from_be_bytes(*code), text(reason.to_vec()))
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Runs a case with each kind of descriptor, with and without compression.
fn case(task: impl AsyncFn(SocketAddr)) {
    on_each_kind(|setup| {
        for compression in [None, Some(Compression::default())] {
            let server = Setup { compression, ..setup }.start();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let task = async { tokio::time::timeout(DEADLINE, task(server.address())).await };
            runtime.block_on(task).expect("the case ends before its deadline");
        }
    });
}

async fn open<C: Client>(address: SocketAddr) -> C {
    C::open(address, "/", None).await.0
}

async fn messages_of_every_length_are_echoed<C: Client>(address: SocketAddr) {
    let (mut client, subprotocol, extensions) = C::open(address, "/", None).await;
    assert_eq!((subprotocol, extensions), (None, None));
    let mut rng = fastrand::Rng::with_seed(1);
    for size in SIZES {
        let text = "x".repeat(size);
        client.send(Opcode::Text, true, text.as_bytes()).await;
        assert!(client.receive().await == Heard::Text(text), "text of {size} bytes");
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
        client.send(Opcode::Binary, true, &bytes).await;
        assert!(client.receive().await == Heard::Binary(bytes), "{size} bytes");
    }
    client.send(Opcode::Text, true, BEYOND_ASCII.as_bytes()).await;
    assert_eq!(client.receive().await, Heard::Text(BEYOND_ASCII.to_owned()));
}

async fn many_messages_keep_their_order<C: Client>(address: SocketAddr) {
    let mut client: C = open(address).await;
    for round in 0..20 {
        let messages: Vec<String> = (0..50).map(|number| format!("{round} {number} ").repeat(number)).collect();
        for message in &messages {
            client.send(Opcode::Text, true, message.as_bytes()).await;
        }
        for message in messages {
            assert_eq!(client.receive().await, Heard::Text(message));
        }
    }
}

async fn fragments_are_joined_around_a_ping<C: Client>(address: SocketAddr) {
    let mut client: C = open(address).await;
    let euro = "€".as_bytes();
    client.send(Opcode::Text, false, &euro[..1]).await;
    client.send(Opcode::Continuation, false, b"").await;
    client.ping(b"between").await;
    assert_eq!(client.receive().await, Heard::Pong(b"between".to_vec()));
    client.send(Opcode::Continuation, true, &euro[1..]).await;
    assert_eq!(client.receive().await, Heard::Text("€".to_owned()));
    client.send(Opcode::Binary, false, &[7; 1000]).await;
    for _ in 0..300 {
        client.send(Opcode::Continuation, false, &[8; 1000]).await;
    }
    client.send(Opcode::Continuation, true, b"").await;
    assert!(client.receive().await == Heard::Binary([vec![7; 1000], vec![8; 300_000]].concat()));
}

async fn pings_of_every_length_are_answered<C: Client>(address: SocketAddr) {
    let mut client: C = open(address).await;
    for size in [0, 1, 8, 125] {
        client.ping(&vec![b'p'; size]).await;
        assert_eq!(client.receive().await, Heard::Pong(vec![b'p'; size]));
    }
}

async fn closes_are_seen_by_both_ends<C: Client>(address: SocketAddr) {
    for (code, reason) in CLOSES {
        let mut client: C = open(address).await;
        client.close(code, reason).await;
        let Heard::Close(answer, _) = client.receive().await else { panic!("no answer to {code}") };
        assert_eq!(answer, code);

        let mut client: C = open(address).await;
        client.send(Opcode::Text, true, format!("close {code} {reason}").as_bytes()).await;
        assert_eq!(client.receive().await, Heard::Close(code, reason.to_owned()));
    }
}

async fn what_is_too_large_or_no_text_is_closed<C: Client>(address: SocketAddr) {
    let mut client: C = open(address).await;
    client.send(Opcode::Binary, true, &vec![0; MESSAGE_BYTES_MAX + 1]).await;
    let heard = client.receive().await;
    assert!(matches!(&heard, Heard::Close(1009, reason) if reason.contains("message")), "{heard:?}");

    let mut client: C = open(address).await;
    client.send(Opcode::Text, true, b"\xff\xfe").await;
    let heard = client.receive().await;
    assert!(matches!(heard, Heard::Close(1007, _)), "{heard:?}");
}

async fn the_chosen_subprotocol_is_seen<C: Client>(address: SocketAddr) {
    let (mut client, subprotocol, extensions) = C::open(address, "/chat", Some("superchat, chat")).await;
    assert_eq!((subprotocol.as_deref(), extensions), (Some("chat"), None));
    client.send(Opcode::Text, true, b"hello").await;
    assert_eq!(client.receive().await, Heard::Text("hello".to_owned()));
}

/// Every case for each client: `case::client`.
macro_rules! cases {
    ($($case:ident)*) => {
        $(mod $case {
            #[test]
            fn tokio_tungstenite() {
                super::case(super::$case::<super::Tungstenite>);
            }

            #[test]
            fn fastwebsockets() {
                super::case(super::$case::<super::Fast>);
            }
        })*
    };
}

cases! {
    messages_of_every_length_are_echoed
    many_messages_keep_their_order
    fragments_are_joined_around_a_ping
    pings_of_every_length_are_answered
    closes_are_seen_by_both_ends
    what_is_too_large_or_no_text_is_closed
    the_chosen_subprotocol_is_seen
}
