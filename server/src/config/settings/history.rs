//! Section `history`.

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Place, Section, Shown, place};
use crate::config::value::{Bytes, SettingValue as _};

type Setting = setting::Setting<Config>;

/// Bounds of what is kept for channels with a history.
pub(super) const SECTION: Section = Section {
    name: "history",
    about: "What channels keep of their publications, all together; which of them do, and how much, their rules say.",
    settings: &[
        Setting::new(
            "history.memory_max",
            Restart,
            Place {
                put: |config, value| {
                    config.history.memory_bytes_max = Bytes::from_value(value)?.0;
                    Ok(())
                },
                show: |config| Shown::of(&Bytes(config.history.memory_bytes_max)),
                copy: |config, other| config.history.memory_bytes_max = other.history.memory_bytes_max,
            },
            "Bytes of all publications that are kept; each core has an equal part. Beyond it the oldest are given up, \
             and who wanted them is told of a gap.",
        ),
        Setting::new(
            "history.channels_max",
            Restart,
            place!(history.channels_max),
            "Channels of which anything is kept; each core has an equal part. Beyond it the one is forgotten that has \
             nothing, or the oldest publication.",
        ),
    ],
};
