//! What the configuration means for connections and their messages.

use crate::auth::Door;
use crate::channel::{ChannelOptions, ChannelRules};
use crate::config::{ClientsConfig, Config, TypingConfig, UserExcess};
use crate::history::Retention;
use crate::http::Site;
use crate::inbound::QueueBounds;
use crate::wire::{Decoder, Refusal};

/// What of the configuration the cores read, for each message and each connection. It is never written: when the
/// configuration is read again, every core takes another one in its place. What lives longer than a configuration is
/// [`Shared`](crate::session::Shared).
pub(crate) struct Policy {
    pub(crate) channels: ChannelRules,
    /// Rules that some cores may still go by.
    leaving: Vec<ChannelRules>,
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
            leaving: Vec::new(),
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

    /// The same, while some cores may still go by other rules of channels.
    pub(crate) fn beside(self, leaving: Vec<ChannelRules>) -> Self {
        Self { leaving, ..self }
    }

    /// Whether a channel's publications are made by its home: by any of the rules it has a history.
    pub(crate) fn has_home(&self, channel: &str, options: &ChannelOptions) -> bool {
        options.history.is_some() || self.leaving.iter().any(|rules| rules.options(channel).history.is_some())
    }

    /// What the home of a channel keeps: nothing, unless by all of the rules it has a history.
    pub(crate) fn retention(&self, channel: &str) -> Option<Retention> {
        let retention = self.channels.options(channel).retention()?;
        let by_all = self.leaving.iter().all(|rules| rules.options(channel).history.is_some());
        by_all.then_some(retention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelRule;

    fn rules(history: Option<u32>) -> Vec<ChannelRule> {
        let options = ChannelOptions { history, ..ChannelOptions::default() };
        vec![ChannelRule { pattern: "a".parse().unwrap(), options, ..ChannelRule::default() }]
    }

    #[test]
    fn while_cores_go_over_homes_keep_what_all_let_them_and_publish_what_any_does() {
        for (before, after) in [(None, None), (None, Some(5)), (Some(5), None), (Some(5), Some(7))] {
            let policy = Policy::new(&Config { channels: rules(after), ..Config::default() });
            let options = policy.channels.options("a");
            assert_eq!(policy.has_home("a", &options), after.is_some());
            assert_eq!(policy.retention("a").map(|it| it.messages), after.map(|after| after as usize));
            let policy = policy.beside(vec![ChannelRules::new(rules(before))]);
            assert_eq!(policy.has_home("a", &options), before.is_some() || after.is_some());
            let kept = before.and(after).map(|after| after as usize);
            assert_eq!(policy.retention("a").map(|it| it.messages), kept, "{before:?}, {after:?}");
        }
    }
}
