//! One TCP connection: the server's socket as the kernel has it, and the wire to the peer.

use std::net::{Ipv4Addr, SocketAddr};

use crore_engine::driver::{Errno, Outgoing, Shutdown, Token};

/// Bytes in one direction, in the order in which they were written.
#[derive(Default)]
pub(crate) struct Pipe {
    bytes: Vec<u8>,
    /// How many of them have come to the reader's side.
    arrived: usize,
    /// How many of them have been read.
    read: usize,
}

impl Pipe {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.read == self.bytes.len() {
            self.bytes.clear();
            (self.arrived, self.read) = (0, 0);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that are written and not read.
    pub(crate) fn unread(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Bytes that have come and are not read.
    pub(crate) fn readable(&self) -> usize {
        self.arrived - self.read
    }

    /// Lets up to so many bytes come, as long as no more than `window` wait there. Says how many came.
    pub(crate) fn deliver(&mut self, bytes: usize, window: usize) -> usize {
        let room = window.saturating_sub(self.readable());
        let more = bytes.min(room).min(self.bytes.len() - self.arrived);
        self.arrived += more;
        more
    }

    /// Loses what is on its way.
    pub(crate) fn cut(&mut self) {
        self.bytes.truncate(self.arrived);
    }

    /// Reads up to so many of the bytes that have come.
    pub(crate) fn read(&mut self, bytes: usize) -> &[u8] {
        let start = self.read;
        self.read += bytes.min(self.readable());
        &self.bytes[start..self.read]
    }
}

/// The request that watches a socket for input.
pub(crate) enum Watch {
    Nothing,
    Poll(Token),
    Multishot { token: Token, cancelled: bool },
}

/// A send that waits for room. The kernel goes on by itself until all is sent (`MSG_WAITALL`).
pub(crate) struct Sending {
    pub(crate) token: Token,
    pub(crate) outgoing: Outgoing,
    pub(crate) done: usize,
}

/// A shutdown that a kernel thread does (io-wq): it is done, and reported, when that thread has run.
pub(crate) struct PendingShutdown {
    pub(crate) token: Token,
    pub(crate) how: Shutdown,
    pub(crate) done: bool,
}

/// How a connection looks to its peer once nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server has sent all (FIN).
    Orderly,
    /// The server has no such connection (RST).
    Reset,
}

/// One connection.
pub(crate) struct Connection {
    /// From the peer to the server. What waits on the server's side is bounded by `window`.
    pub(crate) inbound: Pipe,
    pub(crate) window: usize,
    /// From the server to the peer, the server's send buffer among it. What the peer has not read is bounded
    /// by `send_room`.
    pub(crate) outbound: Pipe,
    pub(crate) send_room: usize,
    /// The peer will send no more (FIN), behind what is in `inbound`.
    pub(crate) peer_ended: bool,
    /// The peer, or the network, is gone: nothing passes any more.
    pub(crate) dead: bool,
    /// What the next call on the socket is told of that; those after it see an end of stream, or EPIPE.
    pub(crate) error: Option<Errno>,
    pub(crate) shut_read: bool,
    pub(crate) shut_write: bool,
    pub(crate) closed: bool,
    /// The server has answered, or will answer, with a reset.
    pub(crate) refused: bool,
    /// Its descriptor while the server has it open.
    pub(crate) descriptor: Option<u32>,
    pub(crate) watch: Watch,
    pub(crate) sending: Option<Sending>,
    /// A shutdown that a kernel thread is about to do.
    pub(crate) shutdown: Option<PendingShutdown>,
    /// Requests of which the worker has not seen the last completion: a watch, a send, a shutdown, a question for the address.
    pub(crate) busy: [bool; 4],
    /// Completions that the worker has not seen.
    pub(crate) posted: usize,
    /// The worker has asked for its end; the request is queued.
    pub(crate) closing: bool,
}

/// Places in [`Connection::busy`].
pub(crate) const WATCH: usize = 0;
pub(crate) const SEND: usize = 1;
pub(crate) const SHUTDOWN: usize = 2;
pub(crate) const PEER: usize = 3;

/// Where a peer comes from by the word of the proxy.
pub(crate) fn address_behind_proxy(peer: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), u16::try_from(peer).expect("few")))
}

/// The proxy's header for a peer (`doc/proxy-protocol.txt` of HAProxy, section 2.2), with a field of no meaning.
pub(crate) fn proxy_header(peer: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(peer).expect("few").to_be_bytes();
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11";
    [&fixed[..], &[192, 0, 2, 1, 10, 0, 0, 9, high, low, 0, 80], &[0xee, 0, 2, 1, 2]].concat()
}

/// Where a peer comes from.
pub(crate) fn address_of(peer: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), u16::try_from(peer).expect("few")))
}

impl Connection {
    pub(crate) fn new(window: usize, send_room: usize) -> Self {
        Self {
            inbound: Pipe::default(),
            window,
            outbound: Pipe::default(),
            send_room,
            peer_ended: false,
            dead: false,
            error: None,
            shut_read: false,
            shut_write: false,
            closed: false,
            refused: false,
            descriptor: None,
            watch: Watch::Nothing,
            sending: None,
            shutdown: None,
            busy: [false; 4],
            posted: 0,
            closing: false,
        }
    }

    /// Nothing more will come: what has come is still to be read first.
    pub(crate) fn at_end(&self) -> bool {
        self.dead || self.shut_read || (self.peer_ended && self.inbound.unread() == self.inbound.readable())
    }

    /// What `poll(2)` calls readable: data, an end, or an error.
    pub(crate) fn is_readable(&self) -> bool {
        self.inbound.readable() > 0 || self.at_end()
    }

    /// Whether a send would not wait.
    pub(crate) fn is_writable(&self) -> bool {
        self.dead || self.shut_write || self.room() > 0
    }

    pub(crate) fn room(&self) -> usize {
        self.send_room.saturating_sub(self.outbound.unread())
    }

    /// Whether an armed request has something to say.
    pub(crate) fn is_ready(&self) -> bool {
        let watched = match self.watch {
            Watch::Nothing => false,
            Watch::Poll(_) => self.is_readable(),
            Watch::Multishot { cancelled, .. } => cancelled || self.is_readable(),
        };
        watched || (self.sending.is_some() && self.is_writable())
    }

    /// The peer resets the connection, or the network gives it up. What has come may still be read
    /// (`tcp_reset` leaves the receive queue alone); what the server has sent is lost.
    pub(crate) fn die(&mut self, error: Errno) {
        if !self.dead {
            self.dead = true;
            self.error = Some(error);
            self.inbound.cut();
        }
    }

    /// The server resets the connection: it has closed the socket with input unread, or input comes for a
    /// socket that it does not read any more. What it has sent may be lost on the way.
    pub(crate) fn refuse(&mut self, lost: bool) {
        self.refused = true;
        self.inbound.cut();
        if lost {
            self.outbound.cut();
        }
    }

    /// How it has ended for the peer, once that has read everything.
    pub(crate) fn peer_sees(&self) -> Option<End> {
        if self.outbound.unread() > 0 {
            return None;
        }
        if self.refused {
            return Some(End::Reset);
        }
        (self.closed || self.shut_write).then_some(End::Orderly)
    }
}
