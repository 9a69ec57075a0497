//! The few verbs that a worker needs from the kernel.
//!
//! A worker queues requests through a [`Driver`], calls [`Driver::enter`] once a turn, and pulls
//! what came of them with [`Driver::next_completion`]. The one driver in production is
//! [`uring::Ring`](crate::uring::Ring); tests put a fake kernel in its place.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

/// What the caller wants to find again in a completion: 56 bits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// Bits that a token can carry; the driver uses the others.
    pub const BITS: u32 = 56;

    /// Wraps the lower 56 bits of `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value & ((1 << Self::BITS) - 1))
    }

    /// The 56 bits.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// A connected socket as its driver knows it: a descriptor, or a slot in the ring's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(pub u32);

/// One of the driver's receive buffers. Who holds the id owns the buffer until it is released, and nobody
/// can make one up.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub(crate) u16);

/// Bytes that several connections are sent, encoded once: shared without atomics, within one core.
pub type SharedBytes = Rc<FrameBytes>;

/// Where the bytes of a shared send lie.
#[derive(Debug)]
pub enum FrameBytes {
    /// Encoded, and perhaps joined, on this core.
    Local(Vec<u8>),
    /// Encoded on another core.
    Foreign(Bytes),
}

impl FrameBytes {
    /// The encoded frames.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Local(bytes) => bytes,
            Self::Foreign(bytes) => bytes,
        }
    }
}

/// Bytes on their way out. The driver keeps them until the kernel is done and hands them back.
#[derive(Debug)]
pub enum Outgoing {
    /// Part of a receive buffer: an echo that was never copied.
    Received {
        /// The buffer, to be released after the send.
        buffer: BufferId,
        /// Offset of the first byte.
        start: u32,
        /// Offset behind the last byte.
        end: u32,
    },
    /// Bytes for this connection alone.
    Owned {
        /// The bytes.
        bytes: Vec<u8>,
        /// How many of them have left.
        start: usize,
    },
    /// Bytes that other connections are sent too.
    Shared {
        /// The bytes.
        bytes: SharedBytes,
        /// How many of them have left.
        start: usize,
    },
}

impl Outgoing {
    /// Bytes that are still to leave.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Received { start, end, .. } => (end - start) as usize,
            Self::Owned { bytes, start } => bytes.len() - start,
            Self::Shared { bytes, start } => bytes.as_slice().len() - start,
        }
    }

    /// Whether nothing is left to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes note that `count` more bytes have left.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "a receive buffer is shorter than 4 GiB")]
            Self::Received { start, .. } => *start += count as u32,
            Self::Owned { start, .. } | Self::Shared { start, .. } => *start += count,
        }
    }
}

/// An error number of the kernel, positive as in `errno(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The request was cancelled.
    pub const CANCELED: Self = Self(libc::ECANCELED);
    /// The pool of receive buffers was empty.
    pub const NO_BUFFERS: Self = Self(libc::ENOBUFS);
    /// Nothing to read at the moment.
    pub const AGAIN: Self = Self(libc::EAGAIN);
    /// The table of descriptors is full.
    pub const TABLE_FULL: Self = Self(libc::ENFILE);
    /// The process has as many descriptors as it may.
    pub const TOO_MANY: Self = Self(libc::EMFILE);
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted; the accept stays armed.
    Accepted(Socket),
    /// The accept has ended and has to be armed again.
    AcceptEnded(Option<Errno>),
    /// There is something to read, or the connection has ended. The poll is spent.
    Readable {
        /// The token of the poll.
        token: Token,
        /// The peer has gone, or says no more: the stream's end is there, perhaps behind something to read.
        gone: bool,
    },
    /// Bytes have come.
    Received {
        /// The token of the receive.
        token: Token,
        /// The buffer that holds them, now the caller's.
        buffer: BufferId,
        /// How many.
        bytes: u32,
        /// The socket has more.
        nonempty: bool,
        /// The receive is multishot and stays armed.
        armed: bool,
    },
    /// A receive has ended: `None` at the end of the stream.
    ReceiveEnded(Token, Option<Errno>),
    /// A send is done. After a short one the caller advances and sends the rest.
    Sent {
        /// The token of the send.
        token: Token,
        /// Bytes that have left, or why none has.
        result: Result<u32, Errno>,
        /// What was to be sent, the caller's again.
        outgoing: Outgoing,
    },
    /// A shutdown for which [`Driver::shutdown`] said that this would follow.
    ShutDown(Token),
    /// The peer's address, for which [`Driver::peer_address`] said that this would follow.
    Peer {
        /// The token of the question.
        token: Token,
        /// The address; `None` if the peer has gone for good.
        address: Option<SocketAddr>,
    },
    /// The tick that was asked for.
    Tick,
}

/// Which half of a connection a shutdown ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Say that no more will be sent (FIN); what the peer still says can be read.
    Write,
    /// Both: requests armed on the socket end.
    Both,
}

/// What a driver says of a peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// It is known, or the peer has gone for good.
    Known(Option<SocketAddr>),
    /// [`Completion::Peer`] follows.
    Follows,
}

/// The kernel as a worker sees it.
///
/// Every verb only queues a request; [`Self::enter`] hands them over. A socket is closed only when
/// no receive and no poll is armed on it: the kernel would keep it alive for them.
pub trait Driver {
    /// Arms the multishot accept of the driver's listener.
    fn accept(&mut self);

    /// Ends the accept and closes the listener.
    fn stop_accepting(&mut self);

    /// Asks for the address of the socket's peer. If the answer follows, it comes before every other completion of
    /// what is asked of the socket from now on.
    #[must_use]
    fn peer_address(&mut self, socket: Socket, token: Token) -> PeerAddress;

    /// Asks once for [`Completion::Readable`].
    fn poll(&mut self, socket: Socket, token: Token);

    /// Receives what is there into a buffer of the pool, and does not wait for more.
    fn receive(&mut self, socket: Socket, token: Token);

    /// Receives into buffers of the pool until it ends.
    fn receive_multishot(&mut self, socket: Socket, token: Token);

    /// Cancels the multishot receive with this token, which then ends. Costs a walk through the table
    /// of armed requests (see `CANCELS_PER_SECOND_MAX`), so it is rare.
    fn cancel(&mut self, token: Token);

    /// Sends `outgoing`, or as much from its front as leaves in one send (`CORK_BYTES_MAX`). One send per socket at
    /// a time, or they may overtake each other.
    fn send(&mut self, socket: Socket, token: Token, outgoing: Outgoing);

    /// Ends one or both directions. True if that takes its time and [`Completion::ShutDown`] follows:
    /// until then the socket must not be closed, or the shutdown could meet its successor.
    #[must_use]
    fn shutdown(&mut self, socket: Socket, token: Token, how: Shutdown) -> bool;

    /// Closes the socket.
    fn close(&mut self, socket: Socket);

    /// Asks for one [`Completion::Tick`].
    fn tick(&mut self, after: Duration);

    /// Hands the queued requests to the kernel and collects completions, without waiting.
    ///
    /// # Errors
    /// The ring is unusable; the worker ends with this error.
    fn enter(&mut self) -> io::Result<()>;

    /// The next completion that was collected.
    fn next_completion(&mut self) -> Option<Completion>;

    /// Whether requests are queued that the kernel has not been handed yet.
    fn has_queued(&self) -> bool;

    /// Whether the kernel has something that an [`Self::enter`] would collect.
    fn has_completions(&mut self) -> bool;

    /// Whether the last [`Self::enter`] may have left something that had come before it, or it was not all taken since.
    fn is_behind(&self) -> bool;

    /// The bytes of a receive buffer that the caller holds.
    fn bytes(&mut self, buffer: &BufferId) -> &mut [u8];

    /// Gives a receive buffer back to the pool.
    fn release(&mut self, buffer: BufferId);

    /// Receive buffers that the pool has at the moment.
    fn buffers_free(&self) -> usize;

    /// Bytes of all receive buffers, wherever they are.
    fn receive_pool_bytes(&self) -> usize;

    /// Gives memory back that was needed for an unusual number of requests, and is not now.
    fn trim(&mut self);
}
