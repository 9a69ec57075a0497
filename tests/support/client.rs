//! A blocking WebSocket client that can misbehave in every way.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::frame::{self, Frame};
use crate::{DEADLINE, Server, wait_until};

/// The key of RFC 6455, section 1.3, of which the accept value is known.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The accept value that belongs to [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request for an upgrade.
pub const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// How long a write waits before the way to the server is taken to be full.
const BLOCKED: Duration = Duration::from_millis(500);

/// Capacity that a client keeps for what it has received.
const RECEIVED_BYTES_KEPT: usize = 64 * 1024;

/// What a client hears next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A whole frame.
    Frame(Frame),
    /// The end of the stream: a FIN.
    End,
    /// A reset.
    Reset,
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and the header fields.
    pub head: String,
    /// The body, as long as `Content-Length` says.
    pub body: String,
}

impl Response {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// One connection. Every read and write ends at the [`DEADLINE`] with a panic.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    /// Heartbeats are answered and not shown.
    pub answers_pings: bool,
    /// Sends the rest of what [`Self::send_until_blocked`] could not send.
    rest: Option<JoinHandle<()>>,
}

impl Client {
    /// A TCP connection on which nothing has been said.
    ///
    /// # Panics
    /// If it can't be had.
    #[must_use]
    #[track_caller]
    pub fn tcp(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect_timeout(&address, DEADLINE).expect("the server accepts"))
    }

    /// A TCP connection from a certain address of this host.
    ///
    /// # Panics
    /// If it can't be had.
    #[must_use]
    #[track_caller]
    pub fn tcp_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_reuse_address(true).expect("a TCP socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this host");
        socket.connect_timeout(&address.into(), DEADLINE).expect("the server accepts");
        Self::from_stream(socket.into())
    }

    /// A TCP connection whose receive buffer holds only so many bytes, about: the server has to wait
    /// soon when this client does not read.
    ///
    /// # Panics
    /// If it can't be had.
    #[must_use]
    #[track_caller]
    pub fn tcp_with_window(address: SocketAddr, receive_bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_recv_buffer_size(receive_bytes).expect("a small buffer");
        socket.connect_timeout(&address.into(), DEADLINE).expect("the server accepts");
        Self::from_stream(socket.into())
    }

    /// An open WebSocket connection.
    ///
    /// # Panics
    /// If the server does not upgrade.
    #[must_use]
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::tcp(address).upgraded()
    }

    /// Upgrades.
    ///
    /// # Panics
    /// If the server does not.
    #[must_use]
    #[track_caller]
    pub fn upgraded(self) -> Self {
        self.upgraded_with("").0
    }

    /// Upgrades with further header fields, each of them a line with its end, and returns the answer as well.
    ///
    /// # Panics
    /// If the server does not upgrade.
    #[must_use]
    #[track_caller]
    pub fn upgraded_with(mut self, fields: &str) -> (Self, Response) {
        let request = REQUEST.strip_suffix("\r\n").expect("an empty line ends it");
        self.send(format!("{request}{fields}\r\n"));
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
        (self, Response { status: 101, head, body: String::new() })
    }

    /// Upgrades, if the server does not end the connection instead.
    ///
    /// # Panics
    /// If the server answers with something else.
    #[must_use]
    #[track_caller]
    pub fn try_upgraded(mut self) -> Option<Self> {
        self.try_send(REQUEST).ok()?;
        while !self.received.ends_with(b"\r\n\r\n") {
            match self.read_some() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither an answer nor an end: {error}"),
            }
        }
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
        Some(self)
    }

    /// Open connections, one on each core of `cores`, found by trying: the kernel spreads them.
    ///
    /// # Panics
    /// If the kernel leaves a core out in a thousand tries, or the server is not an [`Actor`](crate::Actor).
    #[must_use]
    pub fn on_each_core(address: SocketAddr, cores: usize) -> Vec<Self> {
        let mut found: Vec<Option<Self>> = std::iter::repeat_with(|| None).take(cores).collect();
        for _ in 0..1000 {
            let mut client = Self::connect(address);
            let core: usize = client.ask("core").parse().expect("a number");
            found[core].get_or_insert(client);
            if found.iter().all(Option::is_some) {
                return found.into_iter().flatten().collect();
            }
        }
        panic!("in a thousand connections none came to one of the cores");
    }

    fn from_stream(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        stream.set_write_timeout(Some(DEADLINE)).expect("a time-out");
        Self { stream, received: Vec::new(), answers_pings: true, rest: None }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the server has gone.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes it");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The server has gone, or does not read.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        if let Some(rest) = self.rest.take() {
            rest.join().expect("it only writes");
        }
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `bytes` again and again without reading anything, until the server takes no more or `bytes_max` have
    /// been sent; returns how many have. The last repetition is whole: the rest of it is sent while this end
    /// reads on.
    ///
    /// # Panics
    /// If the server has gone.
    #[track_caller]
    pub fn send_until_blocked(&mut self, bytes: &[u8], bytes_max: usize) -> usize {
        // For so long nothing moves any more: all buffers in between are full.
        self.stream.set_write_timeout(Some(BLOCKED)).expect("a time-out");
        let mut sent = 0;
        let mut rest = bytes;
        while sent < bytes_max {
            match self.stream.write(rest) {
                Ok(count) => {
                    sent += count;
                    rest = &rest[count..];
                    if rest.is_empty() {
                        rest = bytes;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("the server has gone: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(DEADLINE)).expect("a time-out");
        if !sent.is_multiple_of(bytes.len()) {
            let mut writer = self.stream.try_clone().expect("a descriptor");
            let unsent = rest.to_vec();
            sent += unsent.len();
            self.rest = Some(std::thread::spawn(move || {
                let _ = writer.write_all(&unsent);
            }));
        }
        sent
    }

    /// Sends bytes on a thread of its own, while this one reads. It must not answer pings meanwhile: the pong
    /// would come into the middle of a frame.
    ///
    /// # Panics
    /// If the socket can't be shared; the thread, if the server has gone.
    #[must_use]
    pub fn send_aside(&self, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
        let mut writer = self.stream.try_clone().expect("a descriptor");
        std::thread::spawn(move || writer.write_all(&bytes).expect("the server takes it"))
    }

    /// Sends bytes one by one, each only when the server has received the one before. The server must
    /// have no other client that says anything.
    ///
    /// # Panics
    /// If the server does not receive them.
    #[track_caller]
    pub fn send_byte_by_byte(&mut self, server: &Server, bytes: impl AsRef<[u8]>) {
        let before = server.stats().bytes_received;
        for (sent, byte) in (1..).zip(bytes.as_ref()) {
            self.send([*byte]);
            wait_until("a byte is received", || server.stats().bytes_received >= before + sent);
        }
    }

    /// Sends a text message.
    ///
    /// # Panics
    /// If the server has gone.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        self.send(frame::masked(frame::TEXT, text.as_bytes()));
    }

    /// Sends a text message and returns the one that comes next.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn ask(&mut self, text: &str) -> String {
        self.say(text);
        self.text()
    }

    /// What comes next.
    ///
    /// # Panics
    /// If nothing does.
    #[track_caller]
    pub fn hear(&mut self) -> Heard {
        loop {
            while let Some(frame) = Frame::take(&mut self.received) {
                // Where memory is counted, that of the client is counted with it.
                self.received.shrink_to(RECEIVED_BYTES_KEPT);
                if frame.first == frame::PING && self.answers_pings {
                    // Who has gone in the meantime is heard of soon enough.
                    let _ = self.try_send(frame::masked(frame::PONG, &frame.payload));
                } else {
                    return Heard::Frame(frame);
                }
            }
            match self.read_some() {
                Ok(0) if self.received.is_empty() => return Heard::End,
                Ok(0) => panic!("the stream ends within a frame: {:?}", self.received),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Heard::Reset,
                Err(error) => panic!("heard nothing: {error}"),
            }
        }
    }

    /// The next frame.
    ///
    /// # Panics
    /// If the stream ends instead.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        match self.hear() {
            Heard::Frame(frame) => frame,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    /// The next frame, which is a whole text message.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn text(&mut self) -> String {
        let frame = self.frame();
        assert_eq!(frame.first, frame::TEXT, "a text message was expected, not {frame:?}");
        String::from_utf8(frame.payload).expect("text is UTF-8")
    }

    /// The code of the close frame that comes next, and an end without a reset behind it.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn closed(&mut self) -> Option<u16> {
        let (code, _) = self.frame().close();
        self.ended();
        code
    }

    /// The end of the stream, by a FIN.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn ended(&mut self) {
        assert_eq!(self.hear(), Heard::End);
    }

    /// Frees the memory that it read into, where memory is counted.
    ///
    /// # Panics
    /// If it holds something that nobody has heard.
    pub fn forget(&mut self) {
        assert!(self.received.is_empty());
        self.received = Vec::new();
    }

    /// Everything up to the end of the stream or its reset is read and dropped.
    ///
    /// # Panics
    /// If there is no end.
    #[track_caller]
    pub fn drain(&mut self) {
        while matches!(self.hear(), Heard::Frame(_)) {}
    }

    /// Like [`Self::drain`], of a stream that need not hold frames.
    ///
    /// # Panics
    /// If there is no end.
    #[track_caller]
    pub fn drain_bytes(&mut self) {
        loop {
            match self.read_some() {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the stream does not end: {error}"),
            }
        }
    }

    /// An HTTP answer with its body.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut response = Response { status, head, body: String::new() };
        let length: usize = response.header("Content-Length").map_or(0, |length| length.parse().expect("a number"));
        while self.received.len() < length {
            assert_ne!(self.read_some().expect("a body"), 0, "the body ends before its announced length");
        }
        response.body = String::from_utf8(self.received.drain(..length).collect()).expect("a body of text");
        response
    }

    /// The head of an HTTP answer, with the empty line behind it.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.received.drain(..end + 4).collect()).expect("a head is text");
            }
            let count = self.read_some().expect("a response head");
            assert_ne!(count, 0, "the stream ends within the head: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Reads a little of what has come, and keeps it for later: so a slow client reads.
    ///
    /// # Panics
    /// If nothing comes, or the stream ends.
    #[track_caller]
    pub fn sip(&mut self) {
        assert_ne!(self.read_some().expect("there is more to read"), 0, "the stream has ended");
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Says that this end will send no more (FIN), and goes on listening.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Its own end of the connection.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    /// Ends the connection by a reset.
    ///
    /// # Panics
    /// If the socket takes no such option.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// A whole close handshake of a server that goes away.
    ///
    /// # Panics
    /// If something else than its close frame comes, or no end behind the answer.
    #[track_caller]
    pub fn goes_away(mut self) {
        assert_eq!(self.frame().close().0, Some(1001));
        self.send(frame::close(1001, ""));
        self.ended();
    }

    /// A whole close handshake that this end begins.
    ///
    /// # Panics
    /// If the server does not take part in it.
    #[track_caller]
    pub fn close(mut self) {
        self.send(frame::close(1000, ""));
        // A pong behind the close frame may find the server gone, and be answered by a reset.
        self.answers_pings = false;
        loop {
            match self.hear() {
                Heard::Frame(frame) if frame.first != frame::CLOSE => {}
                Heard::Frame(frame) => break assert_eq!(frame.close().0, Some(1000)),
                other => panic!("a close frame was expected, not {other:?}"),
            }
        }
        self.ended();
    }
}
