//! Section `compression`.

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Place, Section, place};

type Setting = setting::Setting<Config>;

const WINDOW_BITS: &str = "a whole number from 8 to 15";

/// Its settings, whose ranges the engine knows.
pub(super) const SECTION: Section = Section {
    name: "compression",
    about: "permessage-deflate (RFC 7692) for clients that offer it. What is published is compressed once for all of them.",
    settings: &[
        Setting::new("compression.enabled", Restart, place!(compression.enabled), "Whether offers are taken up."),
        bounded(
            "compression.level",
            place!(compression.settings.level),
            "a whole number from 1 to 9",
            "From 1 (fast) to 9 (small).",
        ),
        Setting::new(
            "compression.threshold_bytes",
            Restart,
            place!(compression.settings.threshold_bytes),
            "Bytes; shorter messages go as they are, since little would be gained.",
        ),
        Setting::new(
            "compression.server_context_takeover",
            Restart,
            place!(compression.settings.server_context_takeover),
            "Whether the server's messages may refer to earlier ones. That makes messages that are alike much smaller, \
             and keeps up to 4096 bytes for each connection.",
        ),
        Setting::new(
            "compression.client_context_takeover",
            Restart,
            place!(compression.settings.client_context_takeover),
            "Whether a client's messages may refer to earlier ones, which keeps up to 2^client_window_bits bytes for \
             each connection.",
        ),
        bounded(
            "compression.server_window_bits",
            place!(compression.settings.server_window_bits),
            WINDOW_BITS,
            "How far back the server's messages may refer at most: 2^8 to 2^15 bytes.",
        ),
        bounded(
            "compression.client_window_bits",
            place!(compression.settings.client_window_bits),
            WINDOW_BITS,
            "The same of a client's messages. A client that can't be told so refers to no earlier message.",
        ),
    ],
};

const fn bounded(key: &'static str, place: Place<Config>, expected: &'static str, meaning: &'static str) -> Setting {
    Setting::new(key, Restart, place, meaning)
        .checked(expected, |config| config.compression.settings.check().map_err(|error| error.to_string()))
}
