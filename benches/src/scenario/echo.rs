//! Echo: every connection sends and gets each message back, in a closed or in an open loop.

use std::time::Duration;

use super::subscribing::{Confirmed, subscribe};
use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::EchoOptions;
use crate::client::channels::Channels;
use crate::client::frame::Stamp;
use crate::client::{Actions, Client, Load};
use crate::measure::latency::{Latencies, Schedule};
use crate::measure::usage::Observer;

/// Messages that an open loop sends between two looks at the ring, when it is behind its schedule.
const SENDS_PER_TURN: u64 = 256;

#[derive(Default)]
pub(super) struct Echo {
    pub(super) latencies: Latencies,
    pub(super) messages: u64,
    /// Send the next message when one has come back.
    closed_loop: bool,
    pub(super) schedule: Option<Schedule>,
    confirmed: Confirmed,
}

impl Load for Echo {
    fn message(&mut self, slot: u32, stamp: Stamp, now_ns: u64, actions: &mut Actions) {
        self.messages += 1;
        self.latencies.record(now_ns.saturating_sub(stamp.time_ns));
        if self.closed_loop {
            actions.send(slot, 1);
        }
    }

    fn unsolicited(&mut self, slot: u32, payload: &[u8], _now_ns: u64) {
        self.confirmed.take(slot, payload);
    }

    fn stamp_ns(&self, slot: u32, sequence: u32, now_ns: u64) -> u64 {
        self.schedule.map_or(now_ns, |schedule| schedule.due_on_connection_ns(slot, sequence))
    }
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be loaded or measured.
pub(super) fn run(options: &EchoOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let traffic = &options.traffic;
    let channels = options.channels.then_some(Channels::Own);
    let config = run.client_config(&options.target, options.connections, traffic.shape(channels))?;
    let observer = Observer::new(options.target.server_pid, run.client_core);
    let mut client = Client::new(config)?;
    let mut load = Echo { closed_loop: options.rate.is_none(), ..Echo::default() };
    progress.counted("opening", options.connections);
    client.open_up_to(options.connections, &mut load, |open| progress.at(open))?;
    if let Some(channels) = channels {
        subscribe(channels, options.connections, &mut client, &mut load, |load| &load.confirmed, progress)?;
    }

    let mut sender = Sender::default();
    if let Some(rate) = options.rate {
        load.schedule = Some(Schedule::new(client.now_ns(), rate, options.connections));
    } else {
        for slot in 0..options.connections {
            client.send(&load, slot, options.pipeline);
        }
    }
    progress.timed("warm-up", traffic.warmup);
    sender.load_for(traffic.warmup, &mut client, &mut load, progress)?;
    load.latencies.reset();
    client.reset_turns();
    let messages_before = load.messages;
    let before = observer.look()?;
    progress.timed("measuring", traffic.duration);
    sender.load_for(traffic.duration, &mut client, &mut load, progress)?;
    let messages = load.messages - messages_before;
    let usage = observer.usage_since(&before, messages)?;
    if messages == 0 {
        return Err(ScenarioError::Silent { connections: options.connections });
    }
    Ok(Outcome::new("message", messages, usage, &load.latencies, &client))
}

/// Sends what is due in an open loop; in a closed one the load does it by itself.
#[derive(Default)]
pub(super) struct Sender {
    next: u64,
    /// How late the client itself has been with a message of an open loop.
    pub(super) latest_ns: u64,
}

impl Sender {
    /// Messages that an open loop has sent.
    pub(super) const fn sent(&self) -> u64 {
        self.next
    }

    pub(super) fn load_for(
        &mut self,
        time: Duration,
        client: &mut Client,
        load: &mut Echo,
        progress: &Progress,
    ) -> Result<(), ScenarioError> {
        let start = client.now_ns();
        let end = start + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let now = client.now_ns();
            if now >= end {
                return Ok(());
            }
            progress.elapsed(Duration::from_nanos(now - start));
            let Some(schedule) = load.schedule else {
                client.turn_within(load, Duration::from_nanos(end - now).min(super::GRAIN))?;
                continue;
            };
            let behind = self.next + SENDS_PER_TURN;
            self.latest_ns = self.latest_ns.max(now.saturating_sub(schedule.due_ns(self.next)));
            while self.next < behind && schedule.due_ns(self.next) <= now {
                client.send(load, schedule.connection(self.next), 1);
                self.next += 1;
            }
            let patience = schedule.due_ns(self.next).saturating_sub(now).min(end - now);
            client.turn_within(load, Duration::from_nanos(patience).min(super::GRAIN))?;
        }
    }
}
