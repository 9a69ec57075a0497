//! Fan-out: one connection publishes, every subscriber receives. A closed loop: the next batch
//! leaves when all subscribers have all messages of the last one.

use super::subscribing::{Confirmed, subscribe};
use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::{FanoutOptions, Publisher};
use crate::client::channels::Channels;
use crate::client::frame::Stamp;
use crate::client::{Actions, Client, ClientConfig, Load};
use crate::measure::latency::Latencies;
use crate::measure::usage::Observer;

struct Fanout {
    latencies: Latencies,
    /// Deliveries of all batches.
    deliveries: u64,
    /// Deliveries of the current batch that are missing.
    missing: u64,
    /// Deliveries of one batch.
    per_batch: u64,
    in_flight: u32,
    publisher: u32,
    confirmed: Confirmed,
}

impl Load for Fanout {
    fn message(&mut self, _slot: u32, stamp: Stamp, now_ns: u64, actions: &mut Actions) {
        self.deliveries += 1;
        if stamp.time_ns != Stamp::UNSEEN_NS {
            self.latencies.record(now_ns.saturating_sub(stamp.time_ns));
        }
        self.missing = self.missing.saturating_sub(1);
        if self.missing == 0 {
            self.missing = self.per_batch;
            actions.send(self.publisher, self.in_flight);
        }
    }

    fn unsolicited(&mut self, slot: u32, payload: &[u8], _now_ns: u64) {
        self.confirmed.take(slot, payload);
    }
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be loaded or measured.
pub(super) fn run(options: &FanoutOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let (traffic, subscribers) = (&options.traffic, options.connections);
    let (connections, receivers) = match options.publisher {
        Publisher::Separate => (subscribers + 1, subscribers + 1),
        Publisher::Member => (subscribers, subscribers),
        Publisher::Silent => (subscribers + 1, subscribers),
    };
    let channels = options.channels.then_some(Channels::Common);
    let config = run.client_config(&options.target, connections, traffic.shape(channels))?;
    let config = ClientConfig { compress: options.compress, ..config };
    let observer = Observer::new(options.target.server_pid, run.client_core);
    let mut client = Client::new(config)?;
    let per_batch = u64::from(receivers) * u64::from(options.in_flight);
    let mut load = Fanout {
        latencies: Latencies::default(),
        deliveries: 0,
        missing: per_batch,
        per_batch,
        in_flight: options.in_flight,
        publisher: connections - 1,
        confirmed: Confirmed::default(),
    };
    progress.counted("opening", connections);
    client.open_up_to(connections, &mut load, |open| progress.at(open))?;
    if let Some(channels) = channels {
        // A silent publisher is the last connection, and does not subscribe.
        subscribe(channels, receivers, &mut client, &mut load, |load| &load.confirmed, progress)?;
    }
    client.send(&load, load.publisher, options.in_flight);

    super::load_for("warm-up", traffic.warmup, &mut client, &mut load, progress)?;
    load.latencies.reset();
    client.reset_turns();
    let deliveries_before = load.deliveries;
    let before = observer.look()?;
    super::load_for("measuring", traffic.duration, &mut client, &mut load, progress)?;
    let deliveries = load.deliveries - deliveries_before;
    let usage = observer.usage_since(&before, deliveries)?;
    if deliveries == 0 {
        return Err(ScenarioError::Incomplete { came: per_batch - load.missing, expected: per_batch });
    }
    Ok(Outcome::new("delivery", deliveries, usage, &load.latencies, &client))
}
