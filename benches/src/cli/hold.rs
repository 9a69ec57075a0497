//! The options of `crore-bench hold`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::values::{as_seconds, duration};
use super::{MemoryOptions, TargetOptions};

/// Held connections, of a server that speaks the JSON protocol of `crore`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct HoldOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) connections: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) memory: MemoryOptions,
    /// Pings that every connection has to get before anything else is done
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) heartbeats: u8,
    /// One in so many connections subscribes to a channel
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) subscribe_every: u32,
    /// Channels that the subscribers are dealt to
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) channels: u32,
    /// Messages that are published to each channel
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) messages: u32,
    /// Connections, spread over all of them, that send a request and wait for its answer
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) requests: u32,
    /// What is waited for has failed when nothing of it has come for so long, handshakes too
    #[arg(long, default_value = "60s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) stall: Duration,
    /// Ends the server by SIGTERM at last, and every connection has to get a close frame (1001 or 1012)
    #[arg(long, requires = "server_pid")]
    pub(crate) drain: bool,
    /// Fails if a connection costs the server more user memory than so many bytes (of the second half of them alone)
    #[arg(long, value_name = "BYTES")]
    pub(crate) user_bytes_max: Option<u32>,
    /// Fails if the server's end of a connection costs more kernel memory than so many bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) kernel_bytes_max: Option<u32>,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
    /// Writes the table there, with all that is needed to judge it
    #[arg(long)]
    #[serde(skip)]
    pub(crate) markdown: Option<PathBuf>,
}
