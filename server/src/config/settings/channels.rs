//! What stands in an entry of `[[channels]]`.

use crate::channel::ChannelRule;
use crate::config::setting::Reload::Live;
use crate::config::setting::{self, place};

type Setting = setting::Setting<ChannelRule>;

/// Its settings.
pub(in crate::config) const CHANNEL_SETTINGS: &[Setting] = &[
    Setting::new(
        "pattern",
        Live,
        place!(pattern),
        "Which channels: a name, in which {user} stands for any user's, and a * at the end for anything more.",
    )
    .example("\"inbox:{user}\""),
    Setting::new(
        "echo",
        Live,
        place!(options.echo),
        "Whether a publisher that is subscribed receives its own messages, whatever it asks for. Without it, what the \
         message asks for counts.",
    )
    .example("false"),
    Setting::new(
        "slow_consumer",
        Live,
        place!(slow.policy),
        "What happens to a message for which there is no room at a subscriber that reads too slowly: it is closed with \
         1013 (disconnect), the message is dropped (drop_newest), the oldest one that waits and may be dropped is \
         (drop_oldest), or it takes the place of the one with the same key, and of each key only the newest waits \
         (conflate). What is dropped is announced by a message of type gap. Without it limits.slow_consumer counts.",
    )
    .example("\"conflate\""),
    Setting::new(
        "conflate_key",
        Live,
        place!(slow.conflate_key),
        "For conflate: the field of data, at its top level, whose value is the key. A message without it replaces none.",
    )
    .example("\"symbol\""),
    Setting::new(
        "may_subscribe",
        Live,
        place!(access.subscribe),
        "Who may subscribe and join; one of these, or a list of them. `anyone`, which is the default. `users`: clients \
         of whom it is known who they are. `owner`: the user whose name stands in the place of {user}. `granted`: users \
         whose token lists the channel, or a pattern for it (`auth.channels_claim`). `role:NAME`: users whose token \
         lists the role (`auth.roles_claim`). `token`: who shows a token for the channel, `{\"type\":\"subscribe\",\
         \"channel\":…,\"token\":…}`, which the server's backend has signed for this user and this channel (claims \
         `sub`, `channel`, `exp`); when it ends, so does a subscription that needs it. `nobody`: no client.",
    )
    .example("[\"owner\", \"role:support\"]"),
    Setting::new(
        "may_publish",
        Live,
        place!(access.publish),
        "Who may publish. `subscribers`: whoever is subscribed. `token`: who has shown one when it subscribed, \
         which may be where nobody has to. The server API may always.",
    )
    .example("[\"subscribers\"]"),
    Setting::new(
        "may_see_presence",
        Live,
        place!(access.presence),
        "Who may see who is there. The default is `subscribers`.",
    )
    .example("[\"users\"]"),
    Setting::new(
        "may_see_history",
        Live,
        place!(access.history),
        "Who may read what was published before. The default is `subscribers`.",
    )
    .example("[\"subscribers\"]"),
    Setting::new(
        "history",
        Live,
        place!(options.history),
        "How many of the last publications are kept for those who come back (`recover`) or ask for them (`history`). \
         Such a channel is published from one core, and its messages carry `offset` and `epoch`. Without it: none; if a \
         reload takes it from a channel, what was kept is forgotten, and its offsets begin anew should it have one again.",
    )
    .example("100"),
    Setting::new(
        "history_time",
        Live,
        place!(options.history_time),
        "How long a publication is kept. Without it: until others push it out, or there is no room (`history.memory_max`).",
    )
    .example("\"1h\""),
    Setting::new(
        "presence",
        Live,
        place!(options.presence),
        "Whether it is known who subscribes: `list`, for subscribers and backends that ask (`presence`), or `events`, \
         which tells all subscribers as well who comes and goes, once in `presence.event_interval`. Who subscribed before \
         it was set is not known. Without it: nobody is told.",
    )
    .example("\"events\""),
    Setting::new(
        "subscribe_webhook",
        Live,
        place!(webhook.subscribe),
        "Whether `webhook.subscribe_url` is asked before a client subscribes or joins. What a rule does not say of this the \
         next one says that matches.",
    )
    .example("true"),
    Setting::new(
        "publish_webhook",
        Live,
        place!(webhook.publish),
        "Whether `webhook.publish_url` is asked before what a client publishes is handed on, likewise.",
    )
    .example("true"),
];
