//! What the configuration means for connections and their messages.

use crate::auth::Door;
use crate::channel::ChannelRules;
use crate::config::{ClientsConfig, Config, TypingConfig, UserExcess};
use crate::http::Site;
use crate::inbound::QueueBounds;
use crate::wire::{Decoder, Refusal};

/// What of the configuration the cores read, for each message and each connection. It is never written: when the
/// configuration is read again, every core takes another one in its place. What lives longer than a configuration is
/// [`Shared`](crate::session::Shared).
pub(crate) struct Policy {
    pub(crate) channels: ChannelRules,
    pub(crate) clients: ClientsConfig,
    pub(crate) typing: TypingConfig,
    pub(crate) decoder: Decoder,
    /// Bytes of what a message becomes for others.
    pub(crate) message_bytes_max: usize,
    pub(crate) inbound: QueueBounds,
    pub(crate) site: Site,
    pub(crate) door: Door,
    pub(crate) welcome: Option<String>,
    pub(crate) chat_path: Option<String>,
    pub(crate) trust_user_header: bool,
    /// Whether a connection may have a user beside what tokens say.
    pub(crate) names_users: bool,
    pub(crate) connections_per_user_max: usize,
    pub(crate) connections_per_user_excess: UserExcess,
}

impl Policy {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            channels: ChannelRules::new(config.channels.clone()).slow_elsewhere(config.engine.slow_consumer),
            clients: config.clients.clone(),
            typing: config.typing,
            decoder: Decoder {
                json_depth_max: config.limits.json_depth_max,
                channel_bytes_max: config.engine.topic_bytes_max,
                batch_messages_max: config.limits.batch_messages_max,
            },
            message_bytes_max: config.engine.message_bytes_max,
            inbound: QueueBounds {
                overload: config.limits.inbound_overload,
                messages_max: config.limits.inbound_queue_max,
                bytes_max: config.limits.inbound_queue_bytes_max,
                core_bytes_max: config.limits.waiting_bytes_per_core_max,
            },
            site: Site::new(&config.http, config.chat.path.as_deref()),
            door: Door::new(&config.http),
            welcome: config.welcome.enabled.then(|| config.welcome.message.clone()),
            chat_path: config.chat.path.clone(),
            trust_user_header: config.identity.trust_user_header,
            names_users: config.identity.trust_user_header || config.webhook.is_on(),
            connections_per_user_max: config.limits.connections_per_user_max,
            connections_per_user_excess: config.limits.connections_per_user_excess,
        }
    }
    /// Whether others may be sent a message of so many bytes.
    pub(crate) const fn fits(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.message_bytes_max { Ok(()) } else { Err(Refusal::MessageTooLong(self.message_bytes_max)) }
    }
}
