//! The table of settings: each name once, with the place that it writes to.

use crore_engine::Compression;

use super::Config;
use super::value::{Bytes, FromValue, Value};
use crate::channel::ChannelRule;

/// One setting of a `T`.
pub(super) struct Setting<T> {
    /// Section and name, joined by a dot.
    pub(super) key: &'static str,
    /// Writes a value to its place, or says what is expected.
    pub(super) put: fn(&mut T, Value<'_>) -> Result<(), String>,
}

impl<T> Setting<T> {
    const fn new(key: &'static str, put: fn(&mut T, Value<'_>) -> Result<(), String>) -> Self {
        Self { key, put }
    }

    pub(super) fn find<'s>(settings: &'s [Self], key: &str) -> Option<&'s Self> {
        settings.iter().find(|setting| setting.key == key)
    }
}

/// What stands outside `[[channels]]`.
pub(super) const SETTINGS: &[Setting<Config>] = &[
    Setting::new("listen", |c, v| v.read_into(&mut c.listen)),
    Setting::new("cores", |c, v| v.read_into(&mut c.cores)),
    Setting::new("descriptors", |c, v| v.read_into(&mut c.descriptors)),
    Setting::new("memory_budget", |c, v| {
        let mut bytes = Bytes(0);
        v.read_into(&mut bytes)?;
        c.engine.memory_budget_bytes = Some(bytes.0);
        Ok(())
    }),
    Setting::new("shutdown_timeout", |c, v| v.read_into(&mut c.shutdown_timeout)),
    Setting::new("http.paths", |c, v| v.read_into(&mut c.http.paths)),
    Setting::new("http.page", |c, v| v.read_into(&mut c.http.page)),
    Setting::new("http.metrics", |c, v| v.read_into(&mut c.http.metrics)),
    Setting::new("welcome.enabled", |c, v| v.read_into(&mut c.welcome.enabled)),
    Setting::new("welcome.message", |c, v| v.read_into(&mut c.welcome.message)),
    Setting::new("identity.trust_user_header", |c, v| v.read_into(&mut c.identity.trust_user_header)),
    Setting::new("clients.broadcast", |c, v| v.read_into(&mut c.clients.broadcast)),
    Setting::new("clients.private", |c, v| v.read_into(&mut c.clients.private)),
    Setting::new("compression.enabled", |c, v| v.read_into(&mut c.compression.enabled)),
    Setting::new("compression.level", |c, v| put_compression(c, v, |s| &mut s.level)),
    Setting::new("compression.threshold_bytes", |c, v| put_compression(c, v, |s| &mut s.threshold_bytes)),
    Setting::new("compression.server_context_takeover", |c, v| {
        put_compression(c, v, |s| &mut s.server_context_takeover)
    }),
    Setting::new("compression.client_context_takeover", |c, v| {
        put_compression(c, v, |s| &mut s.client_context_takeover)
    }),
    Setting::new("compression.server_window_bits", |c, v| put_compression(c, v, |s| &mut s.server_window_bits)),
    Setting::new("compression.client_window_bits", |c, v| put_compression(c, v, |s| &mut s.client_window_bits)),
    Setting::new("limits.connections_per_core_max", |c, v| v.read_into(&mut c.engine.connections_per_core_max)),
    Setting::new("limits.connections_per_user_max", |c, v| v.read_into(&mut c.limits.connections_per_user_max)),
    Setting::new("limits.message_bytes_max", |c, v| v.read_into(&mut c.engine.message_bytes_max)),
    Setting::new("limits.fragments_max", |c, v| v.read_into(&mut c.engine.fragments_max)),
    Setting::new("limits.json_depth_max", |c, v| v.read_into(&mut c.limits.json_depth_max)),
    Setting::new("limits.head_bytes_max", |c, v| v.read_into(&mut c.engine.head_bytes_max)),
    Setting::new("limits.outbox_bytes_max", |c, v| v.read_into(&mut c.engine.outbox_bytes_max)),
    Setting::new("limits.outbox_messages_max", |c, v| v.read_into(&mut c.engine.outbox_messages_max)),
    Setting::new("limits.slow_consumer", |c, v| v.read_into(&mut c.engine.slow_consumer)),
    Setting::new("limits.subscriptions_max", |c, v| v.read_into(&mut c.engine.subscriptions_max)),
    Setting::new("limits.channel_bytes_max", |c, v| v.read_into(&mut c.engine.topic_bytes_max)),
    Setting::new("limits.handshake_timeout", |c, v| v.read_into(&mut c.engine.handshake_timeout)),
    Setting::new("limits.ping_interval", |c, v| v.read_into(&mut c.engine.ping_interval)),
    Setting::new("limits.close_timeout", |c, v| v.read_into(&mut c.engine.close_timeout)),
    Setting::new("log.format", |c, v| v.read_into(&mut c.log.format)),
    Setting::new("log.level", |c, v| v.read_into(&mut c.log.level)),
];

/// What stands in an entry of `[[channels]]`.
pub(super) const CHANNEL_SETTINGS: &[Setting<ChannelRule>] = &[
    Setting::new("pattern", |rule, v| {
        let mut text = String::new();
        v.read_into(&mut text)?;
        rule.pattern = text.parse().map_err(|error: crate::channel::PatternError| error.to_string())?;
        Ok(())
    }),
    Setting::new("echo", |rule, v| v.read_into(&mut rule.options.echo)),
];

/// Writes a setting of the compression, whose ranges the engine knows.
fn put_compression<T: FromValue>(
    config: &mut Config,
    value: Value<'_>,
    place: fn(&mut Compression) -> &mut T,
) -> Result<(), String> {
    let settings = &mut config.compression.settings;
    value.read_into(place(settings))?;
    settings.check().map_err(|error| error.to_string())
}

/// The key that looks most like an unknown one. A name without its section is recognised too.
pub(super) fn nearest<'k>(unknown: &str, keys: impl Iterator<Item = &'k str>) -> String {
    let likeness = |key: &str| {
        let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
        strsim::jaro_winkler(unknown, key).max(strsim::jaro_winkler(unknown, name))
    };
    keys.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default().to_owned()
}
