//! What stands in an entry of `[[channels]]`.

use crate::channel::ChannelRule;
use crate::config::setting::Reload::Live;
use crate::config::setting::{self, place};

type Setting = setting::Setting<ChannelRule>;

/// Its settings.
pub(in crate::config) const CHANNEL_SETTINGS: &[Setting] = &[
    Setting::new("pattern", Live, place!(pattern), "Which channels: a name, or a prefix followed by *.")
        .example("\"cursors:*\""),
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
];
