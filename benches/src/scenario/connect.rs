//! Churn: connections open, exchange close frames, and are opened anew.

use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::ConnectOptions;
use crate::client::frame::{STAMP_BYTES, Shape, opcode};
use crate::client::payload::Payload;
use crate::client::{Actions, Client, Load};
use crate::measure::latency::Latencies;
use crate::measure::usage::Observer;

#[derive(Default)]
struct Churn {
    latencies: Latencies,
    finished: u32,
    /// Slots whose connection is gone.
    free: Vec<u32>,
}

impl Load for Churn {
    fn opened(&mut self, slot: u32, latency_ns: u64, actions: &mut Actions) {
        self.latencies.record(latency_ns);
        actions.close(slot);
    }

    fn closed(&mut self, slot: u32) {
        self.finished += 1;
        self.free.push(slot);
    }
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be loaded or measured.
pub(super) fn run(options: &ConnectOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let concurrency = options.concurrency.min(options.connections);
    // No message is sent; the shape only has to be one.
    let shape = Shape { opcode: opcode::BINARY, payload_bytes: STAMP_BYTES, payload: Payload::Filler, channels: None };
    let mut config = run.client_config(&options.target, concurrency, shape)?;
    config.reset_at_end = false;
    let observer = Observer::new(options.target.server_pid, run.client_core);
    let mut client = Client::new(config)?;
    let mut load = Churn { free: (0..concurrency).collect(), ..Churn::default() };
    let mut started = 0;
    progress.counted("churning", options.connections);
    let before = observer.look()?;
    while load.finished < options.connections {
        while started < options.connections
            && let Some(slot) = load.free.pop()
        {
            client.open(slot);
            started += 1;
        }
        client.turn(&mut load)?;
        progress.at(load.finished);
    }
    let usage = observer.usage_since(&before, u64::from(load.finished))?;
    Ok(Outcome::new("connection", u64::from(load.finished), usage, &load.latencies, &client))
}
