//! Subscribes the connections of a load, where messages go through channels.

use super::{Progress, STALL, ScenarioError};
use crate::client::channels::Channels;
use crate::client::{Client, Load};

/// Subscriptions that are asked for before the first of them is confirmed.
const ASKED_MAX: u32 = 1024;

/// What a server has said besides the messages of the load.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    subscriptions: u32,
    /// The first error, and the slot that it came on.
    refusal: Option<(u32, String)>,
}

impl Confirmed {
    /// A message that is not of the load.
    pub(super) fn take(&mut self, slot: u32, payload: &[u8]) {
        if payload.starts_with(br#"{"type":"subscribed""#) {
            self.subscriptions += 1;
        } else if payload.starts_with(br#"{"type":"error""#) {
            self.refusal.get_or_insert_with(|| (slot, String::from_utf8_lossy(payload).into_owned()));
        }
    }
}

/// Subscribes all of them, and waits until each is.
///
/// # Errors
/// The server refuses, or does not answer.
pub(super) fn subscribe<L: Load>(
    channels: Channels,
    connections: u32,
    client: &mut Client,
    load: &mut L,
    confirmed: impl Fn(&L) -> &Confirmed,
    progress: &Progress,
) -> Result<(), ScenarioError> {
    progress.counted("subscribing", connections);
    let (mut asked, mut last_done, mut last_progress) = (0, 0, client.now_ns());
    loop {
        let Confirmed { subscriptions: done, refusal } = confirmed(load);
        let done = *done;
        progress.at(done);
        if let Some((slot, text)) = refusal {
            return Err(ScenarioError::Refused { slot: *slot, text: text.clone() });
        }
        if done == connections {
            return Ok(());
        }
        if done > last_done {
            (last_done, last_progress) = (done, client.now_ns());
        } else if u128::from(client.now_ns() - last_progress) > STALL.as_nanos() {
            return Err(ScenarioError::NotSubscribed { done, subscribers: connections });
        }
        while asked < connections && asked - done < ASKED_MAX {
            client.say(load, asked, channels.subscribe(asked).as_bytes());
            asked += 1;
        }
        client.turn_within(load, super::GRAIN)?;
    }
}
