//! Section `typing`.

use crate::config::Config;
use crate::config::setting::Reload::Live;
use crate::config::setting::{self, Section, place};

type Setting = setting::Setting<Config>;

/// Its settings.
pub(super) const SECTION: Section = Section {
    name: "typing",
    about: "Messages that tell the other subscribers of a channel that somebody types. They are for whoever is subscribed and \
            may publish, and they are kept nowhere.",
    settings: &[
        Setting::new(
            "typing.timeout",
            Live,
            place!(typing.timeout),
            "How long a client types that does not say so again; then the server tells the others that it has stopped.",
        ),
        Setting::new(
            "typing.interval_min",
            Live,
            place!(typing.interval_min),
            "How soon the others are told again that the same user types in the same channel, on whichever of its \
             connections. What comes sooner is acknowledged, and not handed on.",
        ),
    ],
};
