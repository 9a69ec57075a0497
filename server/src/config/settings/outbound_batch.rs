//! Section `outbound_batch`.

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Section, place};

type Setting = setting::Setting<Config>;

/// Its settings.
pub(super) const SECTION: Section = Section {
    name: "outbound_batch",
    about: "What a client is sent that has asked for batches ({\"type\":\"batch\",\"enabled\":true}): several messages in one, so \
            that it is woken less often.",
    settings: &[
        Setting::new(
            "outbound_batch.messages_max",
            Restart,
            place!(outbound_batch.messages_max),
            "Messages of a batch; with the last of them it is sent. With 1 nobody is sent batches.",
        ),
        Setting::new(
            "outbound_batch.delay",
            Restart,
            place!(outbound_batch.delay),
            "How long the first message of a batch waits for others. One of less than 100 ms may take that long.",
        ),
    ],
};
