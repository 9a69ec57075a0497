//! Section `rate_limit`.

use std::time::Duration;

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Section, place};

type Setting = setting::Setting<Config>;

/// Its settings.
pub(super) const SECTION: Section = Section {
    name: "rate_limit",
    about: "How many messages a sender may send. What is too much is answered with an error and not done; a JSON ping \
            is answered always, and does not count.",
    settings: &[
        Setting::new(
            "rate_limit.enabled",
            Restart,
            place!(rate_limit.enabled),
            "Whether there is a limit. Off by default: what is too much depends on what clients are for.",
        ),
        Setting::new(
            "rate_limit.algorithm",
            Restart,
            place!(rate_limit.algorithm),
            "How it is reckoned. The settings of the others count for nothing.",
        ),
        Setting::new(
            "rate_limit.key",
            Restart,
            place!(rate_limit.key),
            "Who is a sender: each connection, or each user with all its connections. A connection without a user is \
             one of its own. Users take a lock for each message, which connections do not.",
        ),
        Setting::new(
            "rate_limit.users_max",
            Restart,
            place!(rate_limit.users_max),
            "Users that are remembered, where the sender is the user, in parts of a 256th: about 100 bytes for each that \
             has sent something of late, whether it has a connection or not. Each connection of one more user is limited \
             by itself.",
        ),
        Setting::new(
            "rate_limit.on_exceed",
            Restart,
            place!(rate_limit.on_exceed),
            "What becomes of a sender that sends too much: an error for each message, or an error and the end of the \
             connection.",
        ),
        Setting::new(
            "rate_limit.close_code",
            Restart,
            place!(rate_limit.close_code),
            "The close code of that end; some clients expect 1008.",
        )
        .checked("1008, or a number from 4000 to 4999", |config| match config.rate_limit.close_code {
            1008 | 4000..=4999 => Ok(()),
            _ => Err("expected 1008 (policy violation), or a number from 4000 to 4999".to_owned()),
        }),
        Setting::new(
            "rate_limit.messages_per_second",
            Restart,
            place!(rate_limit.messages_per_second),
            "Of `token_bucket`: messages a second in the long run.",
        ),
        Setting::new(
            "rate_limit.burst",
            Restart,
            place!(rate_limit.burst),
            "Of `token_bucket`: messages at once after a silence.",
        ),
        Setting::new(
            "rate_limit.sliding_window_messages",
            Restart,
            place!(rate_limit.sliding_window_messages),
            "Of `sliding_window`: messages in any window. A message counts for no longer than a window, and for no \
             less than five sixths of one, so that nobody is refused who keeps to the limit.",
        ),
        Setting::new(
            "rate_limit.sliding_window",
            Restart,
            place!(rate_limit.sliding_window),
            "Of `sliding_window`: how long a window is.",
        )
        .checked("a duration of a second or more, such as \"60s\"", |config| {
            if config.rate_limit.sliding_window < Duration::from_secs(1) {
                return Err("expected a second or more; for less take `fixed_window` or `token_bucket`".to_owned());
            }
            Ok(())
        }),
        Setting::new(
            "rate_limit.fixed_window_messages",
            Restart,
            place!(rate_limit.fixed_window_messages),
            "Of `fixed_window`: messages in a window, which begins with the first message after the one before.",
        ),
        Setting::new(
            "rate_limit.fixed_window",
            Restart,
            place!(rate_limit.fixed_window),
            "Of `fixed_window`: how long a window is.",
        ),
    ],
};
