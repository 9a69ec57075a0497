//! Configuration: flags before `CRORE_…` variables before the file before the defaults.
//!
//! Every setting has one name, `limits.message_bytes_max` for example. The file writes it as
//! `message_bytes_max` in the section `[limits]`, the environment as `CRORE_LIMITS_MESSAGE_BYTES_MAX`.
//! `crore.toml` beside this crate's manifest shows all of them with their defaults.

mod error;
mod file;
mod load;
mod settings;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crore_engine::limits::Limits;
use crore_engine::uring::DescriptorSetting;
use crore_engine::{Compression, cpus};
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::error::{ConfigError, Origin};
pub use self::load::Flag;

use crate::channel::ChannelRule;

/// Everything that an operator can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and port to listen on. Default 127.0.0.1:8080: only this machine.
    pub listen: SocketAddr,
    /// Cores, each with one worker pinned to it, 1 to 64. Default: all that the process may run on.
    pub cores: Option<NonZeroU16>,
    /// Kind of descriptor for connections: `auto`, `regular` or `direct`. Default `auto`: direct ones
    /// where the kernel releases them properly (6.13 and newer).
    pub descriptors: DescriptorSetting,
    /// From SIGINT or SIGTERM to the end: how long clients may take to answer the close frame (1001).
    /// Default 10 s.
    pub shutdown_timeout: Duration,
    /// What HTTP requests find.
    pub http: HttpConfig,
    /// The message that greets a new connection.
    pub welcome: WelcomeConfig,
    /// Who a connection is.
    pub identity: IdentityConfig,
    /// What clients may do.
    pub clients: ClientsConfig,
    /// Compression of messages.
    pub compression: CompressionConfig,
    /// Bounds of a connection; section `limits`, where `topic_bytes_max` is called `channel_bytes_max`.
    pub engine: Limits,
    /// Bounds of the JSON protocol; section `limits` as well.
    pub limits: ProtocolLimits,
    /// Logs, on the standard error stream.
    pub log: LogConfig,
    /// Options by channel; the first rule that matches a name counts. Default: none.
    pub channels: Vec<ChannelRule>,
}

/// Section `http`.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Paths that speak WebSocket. Default `/` and `/ws`.
    pub paths: Vec<String>,
    /// Whether `GET /` answers with the page for newcomers. Default true.
    pub page: bool,
    /// Whether `GET /metrics` answers with the engine's counters, in the text format of Prometheus. Default false:
    /// whoever reaches the port sees them.
    pub metrics: bool,
}

/// Section `welcome`.
#[derive(Clone, Debug)]
pub struct WelcomeConfig {
    /// Whether a connection is greeted. Default true.
    pub enabled: bool,
    /// The text. Default `Connected to WebSocket server`.
    pub message: String,
}

/// Section `identity`.
#[derive(Clone, Debug, Default)]
pub struct IdentityConfig {
    /// Whether the header `X-User-ID` names the user. Default false. Set it only where every client
    /// comes through a proxy that sets the header itself: anyone else could be anyone.
    pub trust_user_header: bool,
}

/// Section `clients`.
#[derive(Clone, Debug)]
pub struct ClientsConfig {
    /// Whether a client may send to every connection (`broadcast`). Default true.
    pub broadcast: bool,
    /// Whether a client may send to a user (`private`). Default true.
    pub private: bool,
}

/// Section `compression`: permessage-deflate (RFC 7692), for clients that offer it.
#[derive(Clone, Debug)]
pub struct CompressionConfig {
    /// Whether offers are taken up. Default true.
    pub enabled: bool,
    /// How. Default level 6, from 1,024 bytes up, without context takeover.
    pub settings: Compression,
}

/// The part of section `limits` that concerns the JSON protocol.
#[derive(Clone, Debug)]
pub struct ProtocolLimits {
    /// Open connections of one user; more are closed with 4029. Default 64.
    pub connections_per_user_max: usize,
    /// Levels of nested objects and lists in a message. Default 64.
    pub json_depth_max: usize,
}

/// Section `log`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `text` for people, `json` for programs (one object per line). Default `text`.
    pub format: LogFormat,
    /// Least level: `error`, `warn`, `info`, `debug` or `trace`; by module as in
    /// `info,crore_engine=debug`. Default `info`.
    pub level: Targets,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Workers: as many as are set, or one for each CPU that the process may run on.
    pub(crate) fn workers(&self) -> usize {
        self.cores.map_or_else(|| cpus().len(), |cores| cores.get().into())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            cores: None,
            descriptors: DescriptorSetting::Auto,
            shutdown_timeout: Duration::from_secs(10),
            http: HttpConfig { paths: vec!["/".to_owned(), "/ws".to_owned()], page: true, metrics: false },
            welcome: WelcomeConfig { enabled: true, message: "Connected to WebSocket server".to_owned() },
            identity: IdentityConfig::default(),
            clients: ClientsConfig { broadcast: true, private: true },
            compression: CompressionConfig { enabled: true, settings: Compression::default() },
            engine: Limits::default(),
            limits: ProtocolLimits { connections_per_user_max: 64, json_depth_max: 64 },
            log: LogConfig { format: LogFormat::Text, level: Targets::new().with_default(LevelFilter::INFO) },
            channels: Vec::new(),
        }
    }
}
