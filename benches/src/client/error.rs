//! What can go wrong with a load: the machine's refusals, and the server's faults.

use std::io;
use std::time::Duration;

use crore_engine::uring::SetupError;

/// Without a single handshake in this time, opening has failed, unless a scenario has more patience.
pub(crate) const STALL: Duration = Duration::from_secs(10);

/// What a server did that RFC 6455 or the load does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// Not an HTTP answer.
    #[error("the server does not answer the upgrade in HTTP; is this the right port?")]
    NotHttp,
    /// Another status than 101.
    #[error("the server answers the upgrade with HTTP status {0}; does the path in --url exist?")]
    Status(u16),
    /// A wrong or missing Sec-WebSocket-Accept.
    #[error("the server's Sec-WebSocket-Accept does not fit the key (RFC 6455, section 4.2.2)")]
    AcceptKey,
    /// A mask bit from a server.
    #[error("the server masks its frames (RFC 6455, section 5.1, forbids it)")]
    Masked,
    /// FIN is missing.
    #[error("the server fragments its messages, which this client does not measure; lower --size")]
    Fragmented,
    /// A reserved bit is set.
    #[error("the server uses an extension that was not negotiated (RFC 6455, section 5.2)")]
    Extension,
    /// Compression was not agreed on, or of another kind.
    #[error(
        "the server does not agree to permessage-deflate of this kind; was it started with --compress, or --compress=takeover?"
    )]
    NotCompressed,
    /// A compressed message that can't be read.
    #[error("the server sends a message that is not DEFLATE data (RFC 7692, section 7.2.2)")]
    Deflate,
    /// A compressed message that was not sent like this.
    #[error("the server sends a compressed message that is not of the load; does it echo (or broadcast) unchanged?")]
    Changed,
    /// An opcode that is not defined.
    #[error("the server sends opcode {0}, which RFC 6455 does not define")]
    Opcode(u8),
    /// A large message that is not the load's.
    #[error("the server sends a message of {0} bytes that is not of the load; does it echo (or broadcast) unchanged?")]
    Unsolicited(u64),
    /// A close frame that this client has not asked for.
    #[error("the server closes the connection with code {0}; see its log, and section 7.4.1 of RFC 6455 for the code")]
    Closed(u16),
    /// A message was lost, doubled, overtaken or changed.
    #[error("message {expected} was due and message {came} came: the server loses, reorders or changes messages")]
    Sequence {
        /// The number that was due.
        expected: u32,
        /// The number in the message.
        came: u32,
    },
}

/// Why a load has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// io_uring is not to be had.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// More connections than descriptors.
    #[error(
        "{wanted} connections need as many descriptors, and the limit is {limit}: raise it (`ulimit -n {wanted}`) or lower --connections"
    )]
    Descriptors {
        /// Connections asked for.
        wanted: u32,
        /// What the process may have.
        limit: u64,
    },
    /// A connection can't even begin.
    #[error("connection {number} to {address} fails: {source}; is the server running there?")]
    Connect {
        /// Where it would have been.
        slot: u32,
        /// Which connection.
        number: u64,
        /// Where to.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A connection has ended that should not.
    #[error("the connection in slot {slot} was lost: {source}; look at the server's log")]
    Lost {
        /// Which connection.
        slot: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server misbehaves.
    #[error("in slot {slot}: {source}")]
    Protocol {
        /// Which connection.
        slot: u32,
        /// What it did.
        source: ProtocolError,
    },
    /// The server does not answer.
    #[error("no answer for {} s, {open} of {wanted} connections are open; does the server accept that many (limits, backlog)?", stall.as_secs())]
    Stalled {
        /// For how long.
        stall: Duration,
        /// Connections that are open.
        open: u32,
        /// Connections asked for.
        wanted: u32,
    },
    /// The ring is broken.
    #[error("the client's ring fails: {0}")]
    Ring(#[from] io::Error),
}
