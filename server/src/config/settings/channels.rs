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
];
