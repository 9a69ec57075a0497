//! permessage-deflate (RFC 7692): messages that are compressed one by one.
//!
//! [`Compression`] says what we are ready for; [`Compression::negotiate`] chooses among a client's
//! offers, and what comes of it is a [`DeflateAgreement`]: two bytes, for every connection keeps one.
//!
//! A compressor and a decompressor belong to a core, not to a connection. Between two messages all
//! that DEFLATE refers back to is the end of the earlier plaintext, the *window*. So a connection
//! whose context is taken over from message to message keeps its window alone, at most
//! 2^`window_bits` bytes in each direction and never more than was said, and the core's compressor
//! starts with it as a dictionary. Its output is as small as that of a compressor that had lived on. A
//! connection without context takeover, which is the default, keeps nothing.
//!
//! A compressed message that is taken whole is kept as it came until its last byte has come, and decompressed
//! then: what a peer makes us hold by half a message it has sent.
//!
//! | memory | bytes | when |
//! |---|---|---|
//! | a connection, no context takeover | 0 | |
//! | a connection, the server's context | up to 2^`window_bits`, at most [`CONTEXT_BYTES_MAX`] | while it is open |
//! | a connection, the client's context | up to 2^`window_bits`, and about 300 | while it is open |
//! | a compressor | 165,000 (9 bits) to 294,000 (15 bits) | per core and size of window in use |
//! | a decompressor | 47,700 | per core, and while a compressed message is taken in pieces |

use super::frame::Role;

mod deflater;
mod inflater;
mod negotiation;
#[cfg(test)]
mod tests;
mod window;

pub use deflater::Deflater;
pub use inflater::Decompressed;
pub(super) use inflater::{InflateError, Inflater, Inflaters};
pub use negotiation::{NegotiatedDeflate, append_offer, parse_answer};
pub use window::Window;

/// The name of the extension (section 7).
pub const EXTENSION: &str = "permessage-deflate";

/// The smallest window that can be agreed on, as a power of two (section 7.1.2).
pub const WINDOW_BITS_MIN: u8 = 8;
/// The largest window, and what holds if nothing is said (section 7.1.2).
pub const WINDOW_BITS_MAX: u8 = 15;
/// The strongest and slowest compression.
pub const LEVEL_MAX: u8 = 9;

/// How much of what was said before we refer back to, in bytes, whatever the window allows. The compressor is
/// told it anew for each message: 4 KiB cost 2 to 3 µs, and make a message of 200 bytes half as long; 32 KiB
/// cost 25 µs for another sixth.
pub const CONTEXT_BYTES_MAX: usize = 4096;

/// What every flush ends with, and no message carries (section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// How messages are compressed, and what of it is agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// From 1, fast, to [`LEVEL_MAX`], small.
    pub level: u8,
    /// The shortest payload that is compressed, in bytes: below it the gain is not worth the time.
    pub threshold_bytes: usize,
    /// Whether our messages may refer to earlier ones: smaller output for messages that are alike, for
    /// a window of memory in each connection.
    pub server_context_takeover: bool,
    /// Whether the client's messages may refer to earlier ones; for the same price.
    pub client_context_takeover: bool,
    /// The largest window that we compress with, as a power of two from [`WINDOW_BITS_MIN`] to
    /// [`WINDOW_BITS_MAX`].
    pub server_window_bits: u8,
    /// The largest window that a client may compress with. A client that can't be told so keeps
    /// nothing from message to message.
    pub client_window_bits: u8,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            level: 6,
            threshold_bytes: 1024,
            server_context_takeover: false,
            client_context_takeover: false,
            server_window_bits: WINDOW_BITS_MAX,
            client_window_bits: WINDOW_BITS_MAX,
        }
    }
}

/// A setting of [`Compression`] that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The level is out of range.
    #[error("compression level {0}: choose one from 1 (fast) to {max} (small)", max = LEVEL_MAX)]
    Level(u8),
    /// A window size is out of range.
    #[error("{0} window bits: choose from {min} to {max}", min = WINDOW_BITS_MIN, max = WINDOW_BITS_MAX)]
    WindowBits(u8),
}

impl Compression {
    /// Checks that every setting is within its range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), CompressionError> {
        if !(1..=LEVEL_MAX).contains(&self.level) {
            return Err(CompressionError::Level(self.level));
        }
        for bits in [self.server_window_bits, self.client_window_bits] {
            if !(WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits) {
                return Err(CompressionError::WindowBits(bits));
            }
        }
        Ok(())
    }
}

/// One direction of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Direction {
    /// Whether a message may refer to earlier ones.
    pub context_takeover: bool,
    /// The window, as a power of two.
    pub window_bits: u8,
}

impl Direction {
    /// Bytes of the peer's plaintext that its next message may refer to.
    #[must_use]
    pub const fn window_bytes(self) -> usize {
        if self.context_takeover { 1 << self.window_bits } else { 0 }
    }

    /// Bytes of our plaintext that our next message will refer to.
    #[must_use]
    pub const fn context_bytes(self) -> usize {
        let bytes = self.window_bytes();
        if bytes < CONTEXT_BYTES_MAX { bytes } else { CONTEXT_BYTES_MAX }
    }
}

/// What both ends have agreed on: permessage-deflate with its parameters, or nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct DeflateAgreement(u16);

impl DeflateAgreement {
    /// No compression.
    pub const NONE: Self = Self(0);

    const AGREED: u16 = 1;
    /// Where a direction's bits lie: whether its context is taken over, and its window less the smallest.
    const SERVER_SHIFT: u32 = 1;
    const CLIENT_SHIFT: u32 = 5;

    /// An agreement with these parameters.
    #[must_use]
    pub const fn new(server: Direction, client: Direction) -> Self {
        Self(Self::AGREED | pack(server) << Self::SERVER_SHIFT | pack(client) << Self::CLIENT_SHIFT)
    }

    /// Whether messages may be compressed at all.
    #[must_use]
    pub const fn is_agreed(self) -> bool {
        self.0 & Self::AGREED != 0
    }

    /// How messages to the peer are compressed.
    #[must_use]
    pub const fn outbound(self, role: Role) -> Direction {
        match role {
            Role::Server => unpack(self.0 >> Self::SERVER_SHIFT),
            Role::Client => unpack(self.0 >> Self::CLIENT_SHIFT),
        }
    }

    /// How the peer's messages are compressed.
    #[must_use]
    pub const fn inbound(self, role: Role) -> Direction {
        match role {
            Role::Server => self.outbound(Role::Client),
            Role::Client => self.outbound(Role::Server),
        }
    }
}

impl std::fmt::Debug for DeflateAgreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.is_agreed() {
            return f.write_str("NONE");
        }
        let (server, client) = (self.outbound(Role::Server), self.outbound(Role::Client));
        f.debug_struct("DeflateAgreement").field("server", &server).field("client", &client).finish()
    }
}

const fn pack(direction: Direction) -> u16 {
    assert!(direction.window_bits >= WINDOW_BITS_MIN && direction.window_bits <= WINDOW_BITS_MAX);
    direction.context_takeover as u16 | ((direction.window_bits - WINDOW_BITS_MIN) as u16) << 1
}

const fn unpack(bits: u16) -> Direction {
    Direction { context_takeover: bits & 1 != 0, window_bits: WINDOW_BITS_MIN + (bits >> 1 & 7) as u8 }
}
