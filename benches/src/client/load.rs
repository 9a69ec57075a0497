//! The contract between the client and a scenario.

use std::fmt;
use std::io;
use std::time::Duration;

use crore_engine::driver::Errno;
use crore_engine::uring::DescriptorSetting;

use super::address::Target;
use super::deflate::Takeover;
use super::frame::{Shape, Stamp};

/// What a load wants to be done next. Collected while it handles what came, done right after.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    pub(super) sends: Vec<(u32, u32)>,
    pub(super) closes: Vec<u32>,
}

impl Actions {
    /// Send `count` messages on connection `slot`, in one write.
    pub(crate) fn send(&mut self, slot: u32, count: u32) {
        self.sends.push((slot, count));
    }

    /// Begin the close handshake on connection `slot`.
    pub(crate) fn close(&mut self, slot: u32) {
        self.closes.push(slot);
    }
}

/// What is done to a connection that is turned away before it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is answered with another status than 101.
    Status(u16),
    /// It is closed.
    Closed,
    /// It is reset, or worse.
    Failed(Errno),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Closed => f.write_str("closed"),
            Self::Failed(errno) => io::Error::from(*errno).fmt(f),
        }
    }
}

/// What a scenario makes of the events of its connections.
pub(crate) trait Load {
    /// Connection `slot` is open, `latency_ns` after its connect began.
    fn opened(&mut self, _slot: u32, _latency_ns: u64, _actions: &mut Actions) {}

    /// The server turns connection `slot` away before it is open. Whether the load goes on without it; else that is
    /// its failure.
    fn turned_away(&mut self, _slot: u32, _refusal: Refusal) -> bool {
        false
    }

    /// Nothing is left of connection `slot`, which was turned away.
    fn vacated(&mut self, _slot: u32) {}

    /// A message of the load has come on connection `slot`. Of most compressed ones the time is not known:
    /// [`Stamp::UNSEEN_NS`].
    fn message(&mut self, _slot: u32, _stamp: Stamp, _now_ns: u64, _actions: &mut Actions) {}

    /// A message that is not of the load's shape has come on connection `slot`.
    fn unsolicited(&mut self, _slot: u32, _payload: &[u8], _now_ns: u64) {}

    /// A ping has come on connection `slot`; it is answered.
    fn pinged(&mut self, _slot: u32, _now_ns: u64) {}

    /// The server closes connection `slot` with `code`. Whether it may: then that is answered, else it is the load's
    /// failure.
    fn closing(&mut self, _slot: u32, _code: u16) -> bool {
        false
    }

    /// Connection `slot`, on which close frames went in both directions, is gone.
    fn closed(&mut self, _slot: u32) {}

    /// What message `sequence` of connection `slot`, which is sent now, is stamped with.
    fn stamp_ns(&self, _slot: u32, _sequence: u32, now_ns: u64) -> u64 {
        now_ns
    }
}

/// How the client's thread waits for completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// Sleep in the kernel: the server pays for the wake-ups, as with any client on the same host.
    #[default]
    Block,
    /// Never sleep: no wake-ups are charged to the server, as with clients on other hosts.
    Spin,
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    /// The server.
    pub(crate) target: Target,
    /// Number of its first connection, which the source addresses follow from: clients at one time differ in it.
    pub(crate) first_attempt: u64,
    /// Connections at a time.
    pub(crate) connections: u32,
    /// Handshakes in flight at a time.
    pub(crate) window: u32,
    /// Without a single handshake in this time, opening has failed.
    pub(crate) stall: Duration,
    /// The message of the load.
    pub(crate) shape: Shape,
    /// Whether permessage-deflate has to be agreed on.
    pub(crate) compress: Option<Takeover>,
    /// Whether the client compresses what it sends.
    pub(crate) sends_compressed: bool,
    /// Direct descriptors or regular ones.
    pub(crate) descriptors: DescriptorSetting,
    /// How to wait.
    pub(crate) wait: Wait,
    /// End connections by a reset, which leaves no socket in TIME_WAIT for the next measurement.
    pub(crate) reset_at_end: bool,
}
