//! Configuration: flags before `CRORE_…` variables before the file before the defaults.
//!
//! Every setting has one name, `limits.message_bytes_max` for example. The file writes it as
//! `message_bytes_max` in the section `[limits]`, the environment as `CRORE_LIMITS_MESSAGE_BYTES_MAX`.
//! What a setting means, its values and its default stand in one table (`config/settings/`), from which
//! [`Config::reference`] and [`Config::sample`] are made.

mod access;
mod auth;
mod change;
mod doubts;
mod error;
mod file;
mod load;
mod outbound_batch;
mod rate_limit;
mod reference;
mod sample;
mod setting;
mod settings;
mod value;
mod webhook;
mod words;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crore_engine::limits::Limits;
use crore_engine::uring::DescriptorSetting;
use crore_engine::{Compression, cpus};
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::auth::{AuthConfig, AuthMode, Secret};
pub use self::change::Change;
pub use self::error::{ConfigError, ConfigErrors, Origin};
pub use self::load::{Flag, Sources};
pub use self::outbound_batch::OutboundBatchConfig;
pub use self::rate_limit::{OnExceed, RateLimitAlgorithm, RateLimitConfig, RateLimitKey};
pub use self::webhook::{WebhookConfig, WhenDown};

use crate::address::{AddressHeader, Network};
use crate::auth::{OriginPattern, OriginRejection};
use crate::channel::ChannelRule;
use crate::control::ApiKey;

/// Everything that an operator can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this server; `None` for that of the host.
    pub name: Option<String>,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Networks whose word about a client's address is taken, and about its user.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they say it.
    pub client_address_header: AddressHeader,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxySetting,
    /// Cores, each with one worker pinned to it; `None` for all that the process may run on.
    pub cores: Option<NonZeroU16>,
    /// Kind of descriptor for connections.
    pub descriptors: DescriptorSetting,
    /// From SIGINT or SIGTERM to the end.
    pub shutdown_timeout: Duration,
    /// The time over which closes are spread; `None`: all at once.
    pub shutdown_spread: Option<Duration>,
    /// The longest delay that clients are asked to come back after.
    pub shutdown_reconnect_delay: Duration,
    /// What HTTP requests find.
    pub http: HttpConfig,
    /// The second listener: server API, health and metrics.
    pub api: ApiConfig,
    /// The message that greets a new connection.
    pub welcome: WelcomeConfig,
    /// The plain chat.
    pub chat: ChatConfig,
    /// Who a connection is.
    pub identity: IdentityConfig,
    /// Tokens that say who a connection is.
    pub auth: AuthConfig,
    /// What clients may do.
    pub clients: ClientsConfig,
    /// Bounds of what channels keep.
    pub history: HistoryConfig,
    /// Who types.
    pub typing: TypingConfig,
    /// Bounds of who is known to be where.
    pub presence: PresenceConfig,
    /// Compression of messages.
    pub compression: CompressionConfig,
    /// Bounds of a connection; section `limits`, where `topic_bytes_max` is called `channel_bytes_max`.
    pub engine: Limits,
    /// Section `outbound_batch`.
    pub outbound_batch: OutboundBatchConfig,
    /// Bounds of the JSON protocol; section `limits` as well.
    pub limits: ProtocolLimits,
    /// How many messages a sender may send.
    pub rate_limit: RateLimitConfig,
    /// A backend that decides.
    pub webhook: WebhookConfig,
    /// Logs, on the standard error stream.
    pub log: LogConfig,
    /// What holds for channels; the most specific rule that matches a name counts.
    pub channels: Vec<ChannelRule>,
}

/// Whether connections begin with a header of the PROXY protocol, version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySetting {
    /// They do not.
    Off,
    /// All of them do.
    Required,
}

/// Section `http`.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Paths that speak WebSocket.
    pub paths: Vec<String>,
    /// Whether `GET /` answers with the page for newcomers.
    pub page: bool,
    /// Whether `GET /metrics` answers.
    pub metrics: bool,
    /// Origins whose pages may connect from a browser; if none is listed, all may.
    pub allowed_origins: Vec<OriginPattern>,
    /// How other origins are refused.
    pub origin_rejection: OriginRejection,
    /// Whether a request without an origin, which no browser makes, is refused too.
    pub require_origin: bool,
    /// The cookie whose value a page has to repeat in its request; `None`: it has not.
    pub csrf_cookie: Option<String>,
    /// Subprotocols that the server selects from.
    pub subprotocols: Vec<String>,
}

/// Section `api`.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Whether there is a second listener for health, metrics and the server API. Default false: no port is opened
    /// that nobody has asked for.
    pub enabled: bool,
    /// Its address and port. Default 127.0.0.1:8081. One that others reach takes a key.
    pub listen: SocketAddr,
    /// What opens `/api/`: at least 16 characters, sent as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Default
    /// none: everything under `/api/` is answered with 403; health and metrics never take a key.
    pub key: Option<ApiKey>,
    /// Whether it is kept, for the server API to show, where each client is and when it came. Default true.
    pub client_addresses: bool,
}

/// Section `welcome`.
#[derive(Clone, Debug)]
pub struct WelcomeConfig {
    /// Whether a connection is greeted.
    pub enabled: bool,
    /// The text.
    pub message: String,
}

/// Section `chat`.
#[derive(Clone, Debug, Default)]
pub struct ChatConfig {
    /// Where its clients connect; `None`: there is none.
    pub path: Option<String>,
}

/// Section `identity`.
#[derive(Clone, Debug, Default)]
pub struct IdentityConfig {
    /// Whether the header `X-User-ID` names the user.
    pub trust_user_header: bool,
}

/// Section `clients`.
#[derive(Clone, Debug)]
pub struct ClientsConfig {
    /// Whether a client may send to every connection.
    pub broadcast: bool,
    /// Whether a client may send to a user.
    pub private: bool,
}

/// Section `history`.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// Bytes of all publications that are kept.
    pub memory_bytes_max: u64,
    /// Channels of which anything is kept.
    pub channels_max: usize,
}

/// Section `typing`.
#[derive(Clone, Copy, Debug)]
pub struct TypingConfig {
    /// How long a client types that does not say so again.
    pub timeout: Duration,
    /// How soon others are told again that a user types in a channel.
    pub interval_min: Duration,
}

/// Section `presence`.
#[derive(Clone, Debug)]
pub struct PresenceConfig {
    /// Between two events of a channel.
    pub event_interval: Duration,
    /// Users that an event names of those who have come, and of those who have gone.
    pub event_users_max: usize,
    /// Bytes of what a connection says of itself.
    pub metadata_bytes_max: usize,
    /// Bytes of all that is known.
    pub memory_bytes_max: u64,
}

/// Section `compression`.
#[derive(Clone, Debug)]
pub struct CompressionConfig {
    /// Whether offers of permessage-deflate are taken up.
    pub enabled: bool,
    /// How.
    pub settings: Compression,
}

/// The part of section `limits` that concerns the JSON protocol.
#[derive(Clone, Debug)]
pub struct ProtocolLimits {
    /// Open connections of one user.
    pub connections_per_user_max: usize,
    /// What becomes of a user's connection too many.
    pub connections_per_user_excess: UserExcess,
    /// Connections from one address, or from one /64 of IPv6.
    pub connections_per_ip_max: Option<u32>,
    /// Levels of nested objects and lists in a message.
    pub json_depth_max: usize,
    /// Messages of one batch.
    pub batch_messages_max: usize,
    /// What happens to messages that have to wait for another one.
    pub inbound_overload: InboundOverload,
    /// Messages of a connection that wait.
    pub inbound_queue_max: usize,
    /// Bytes of them, beyond which no more are added.
    pub inbound_queue_bytes_max: usize,
    /// Bytes of all messages that wait on one core, beyond which no more do.
    pub waiting_bytes_per_core_max: usize,
}

/// What happens to the messages of a connection while one before them waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundOverload {
    /// They are queued, and not read where the queue is full.
    Pause,
    /// They are queued, and dropped where the queue is full.
    Drop,
}

/// What becomes of a user's connection too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserExcess {
    /// It is refused.
    Refuse,
    /// The oldest one is closed instead.
    Replace,
}

/// Section `log`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Least level, by module.
    pub level: Targets,
    /// Whether each connection is logged when it opens and when it closes.
    pub connections: bool,
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
    /// Whether only this machine reaches the listener.
    pub(crate) fn listens_locally(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether anybody wants to know where connections come from.
    pub(crate) fn wants_addresses(&self) -> bool {
        !self.trusted_proxies.is_empty() || self.keeps_origins()
    }

    /// Whether it is kept where a connection came from, for as long as it is open.
    pub(crate) fn keeps_origins(&self) -> bool {
        let shows = self.api.enabled && self.api.key.is_some() && self.api.client_addresses;
        shows || self.limits.connections_per_ip_max.is_some() || self.log.connections || self.webhook.is_on()
    }

    /// Workers: as many as are set, or one for each CPU that the process may run on.
    pub(crate) fn workers(&self) -> usize {
        self.cores.map_or_else(|| cpus().len(), |cores| cores.get().into())
    }

    /// Whether the settings go together.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let outcome = self.auth.check(&self.http, self.identity.trust_user_header);
        let outcome = outcome.and_then(|()| self.webhook.check(&self.channels));
        let outcome = outcome.and_then(|()| self.check_user_header());
        outcome.map_err(|(key, problem)| ConfigError::Conflict { key, problem })?;
        self.check_channels()
    }

    /// Whether only those name users who may.
    fn check_user_header(&self) -> Result<(), (&'static str, String)> {
        let listen = self.listen;
        if !self.identity.trust_user_header || !self.trusted_proxies.is_empty() || self.listens_locally() {
            return Ok(());
        }
        let problem = format!(
            "whoever reaches {listen} could be any user by a header of its own: name the proxy that sets X-User-ID in \
             `trusted_proxies`, listen on 127.0.0.1, or set this to false"
        );
        Err(("identity.trust_user_header", problem))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            trusted_proxies: Vec::new(),
            client_address_header: AddressHeader::default(),
            proxy_protocol: ProxySetting::Off,
            cores: None,
            descriptors: DescriptorSetting::Auto,
            shutdown_timeout: Duration::from_secs(10),
            shutdown_spread: None,
            shutdown_reconnect_delay: Duration::from_secs(30),
            http: HttpConfig {
                paths: vec!["/".to_owned(), "/ws".to_owned()],
                page: true,
                metrics: false,
                allowed_origins: Vec::new(),
                origin_rejection: OriginRejection::Forbidden,
                require_origin: false,
                csrf_cookie: None,
                subprotocols: vec!["crore".to_owned()],
            },
            auth: AuthConfig::default(),
            api: ApiConfig {
                enabled: false,
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
                key: None,
                client_addresses: true,
            },
            welcome: WelcomeConfig { enabled: true, message: "Connected to WebSocket server".to_owned() },
            chat: ChatConfig::default(),
            identity: IdentityConfig::default(),
            clients: ClientsConfig { broadcast: true, private: true },
            history: HistoryConfig { memory_bytes_max: 64 << 20, channels_max: 100_000 },
            typing: TypingConfig { timeout: Duration::from_secs(2), interval_min: Duration::from_secs(1) },
            presence: PresenceConfig {
                event_interval: Duration::from_secs(1),
                event_users_max: 32,
                metadata_bytes_max: 512,
                memory_bytes_max: 64 << 20,
            },
            compression: CompressionConfig { enabled: true, settings: Compression::default() },
            engine: Limits::default(),
            outbound_batch: OutboundBatchConfig::default(),
            limits: ProtocolLimits {
                connections_per_user_max: 64,
                connections_per_user_excess: UserExcess::Refuse,
                connections_per_ip_max: None,
                json_depth_max: 64,
                batch_messages_max: 100,
                inbound_overload: InboundOverload::Pause,
                inbound_queue_max: 1000,
                inbound_queue_bytes_max: 1 << 20,
                waiting_bytes_per_core_max: 64 << 20,
            },
            rate_limit: RateLimitConfig::default(),
            webhook: WebhookConfig::default(),
            log: LogConfig {
                format: LogFormat::Text,
                level: Targets::new().with_default(LevelFilter::INFO),
                connections: false,
            },
            channels: Vec::new(),
        }
    }
}
