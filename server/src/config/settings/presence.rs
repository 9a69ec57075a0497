//! Section `presence`.

use std::time::Duration;

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Place, Section, Shown, place};
use crate::config::value::{Bytes, SettingValue as _};

type Setting = setting::Setting<Config>;

/// The shortest time between two events: the timers of a core are no finer.
const EVENT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Bounds of who is known to be where.
pub(super) const SECTION: Section = Section {
    name: "presence",
    about: "Who is known to be in a channel; of which channels it is known, their rules say.",
    settings: &[
        Setting::new(
            "presence.event_interval",
            Restart,
            place!(presence.event_interval),
            "How long those who come to a channel and go are gathered before its subscribers are told, in one message. \
             Who is back by then has not gone.",
        )
        .checked("a time of 10ms or more", |config| {
            if config.presence.event_interval < EVENT_INTERVAL_MIN {
                return Err(
                    "a channel tells who comes and goes every 10ms or less often: write \"1s\", for example".to_owned()
                );
            }
            Ok(())
        }),
        Setting::new(
            "presence.event_users_max",
            Restart,
            place!(presence.event_users_max),
            "Users that such a message names of those who have come, and of those who have gone; of the others it has \
             the number.",
        ),
        Setting::new(
            "presence.metadata_bytes_max",
            Restart,
            place!(presence.metadata_bytes_max),
            "Bytes of the `metadata` that a client says of itself when it subscribes, as JSON; a subscription with more is \
             refused. What a token says (`auth.metadata_claim`) is left out if it is longer.",
        ),
        Setting::new(
            "presence.memory_max",
            Restart,
            Place {
                put: |config, value| {
                    config.presence.memory_bytes_max = Bytes::from_value(value)?.0;
                    Ok(())
                },
                show: |config| Shown::of(&Bytes(config.presence.memory_bytes_max)),
                copy: |config, other| config.presence.memory_bytes_max = other.presence.memory_bytes_max,
            },
            "Bytes of all that is known of who is where, about. Beyond it subscriptions go on as ever, and new ones are \
             not shown (`crore_presence_refused_total`) until they subscribe again and there is room.",
        ),
    ],
};
