//! Connections that only exist, or have exchanged one message and rest.

use std::time::{Duration, Instant};

use super::weight::Scale;
use super::{GRAIN, Outcome, Progress, Run, ScenarioError};
use crate::cli::IdleOptions;
use crate::client::frame::{STAMP_BYTES, Shape, Stamp, opcode};
use crate::client::payload::Payload;
use crate::client::{Actions, Client, ClientConfig, ClientError, Load};
use crate::measure::latency::Latencies;
use crate::measure::usage::Observer;

/// Bytes of the message that is exchanged: enough that it is worth compressing.
const EXCHANGED_BYTES: usize = 4096;

/// How long the exchange of all connections may take.
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(60);

/// Connections that are idle at once, or after one message there and back.
struct Quiet {
    exchange: bool,
    exchanged: u32,
}

impl Load for Quiet {
    fn opened(&mut self, slot: u32, _latency_ns: u64, actions: &mut Actions) {
        if self.exchange {
            actions.send(slot, 1);
        }
    }

    fn message(&mut self, _slot: u32, _stamp: Stamp, _now_ns: u64, _actions: &mut Actions) {
        self.exchanged += 1;
    }
}

/// The clients that hold the connections, all on this thread: one for each ring that it takes.
struct Clients(Vec<Client>);

impl Clients {
    fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        let configs = config.over_rings(u64::MAX, 0)?;
        Ok(Self(configs.into_iter().map(Client::new).collect::<Result<_, _>>()?))
    }

    /// Opens connections until `wanted` are open and have done what they have to.
    fn open(&mut self, wanted: u32, load: &mut Quiet, progress: &Progress) -> Result<(), ScenarioError> {
        let mut before = 0;
        for client in &mut self.0 {
            let share = client.slots().min(wanted - before);
            client.open_up_to(share, load, |open| progress.at(before + open))?;
            before += share;
        }
        let begin = Instant::now();
        while load.exchange && load.exchanged < wanted {
            self.turn(load, GRAIN)?;
            if begin.elapsed() > EXCHANGE_PATIENCE {
                return Err(ScenarioError::Silent { connections: wanted - load.exchanged });
            }
        }
        Ok(())
    }

    fn settle(&mut self, time: Duration, load: &mut Quiet, progress: &Progress) -> Result<(), ScenarioError> {
        progress.timed("settling", time);
        let begin = Instant::now();
        while let Some(left) = time.checked_sub(begin.elapsed()) {
            progress.elapsed(begin.elapsed());
            self.turn(load, left.min(GRAIN))?;
        }
        Ok(())
    }

    /// Waits on the first for `patience` at most, and lets the others answer what has come meanwhile.
    fn turn(&mut self, load: &mut Quiet, patience: Duration) -> Result<(), ScenarioError> {
        let patiences = std::iter::once(patience).chain(std::iter::repeat(Duration::ZERO));
        for (client, patience) in self.0.iter_mut().zip(patiences) {
            client.turn_within(load, patience)?;
        }
        Ok(())
    }
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be reached or measured.
pub(super) fn run(options: &IdleOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let connections = options.connections;
    let payload_bytes = if options.exchange { EXCHANGED_BYTES } else { STAMP_BYTES };
    let shape = Shape { opcode: opcode::TEXT, payload_bytes, payload: Payload::Json, channels: None };
    let config = run.client_config(&options.target, connections, shape)?;
    let config = ClientConfig { compress: options.compress, sends_compressed: true, ..config };
    let mut load = Quiet { exchange: options.exchange, exchanged: 0 };
    let (target, memory) = (&options.target, &options.memory);
    let observer = Observer::new(target.server_pid, run.client_core);
    let mut clients = Clients::new(&config)?;
    let mut scale = Scale::new(memory, target.client.descriptors, target.server_pid, connections, progress)?;

    let look = observer.look()?;
    let half = connections / 2;
    progress.counted("opening", connections);
    clients.open(half, &mut load, progress)?;
    clients.settle(memory.settle / 2, &mut load, progress)?;
    scale.halfway(half)?;
    progress.counted("opening", connections);
    clients.open(connections, &mut load, progress)?;
    clients.settle(memory.settle, &mut load, progress)?;
    let weight = scale.weigh(connections)?;
    let usage = observer.usage_since(&look, u64::from(connections))?;
    let mut outcome = Outcome::new("connection", u64::from(connections), usage, &Latencies::default(), &clients.0[0]);
    outcome.idle = Some(weight);
    Ok(outcome)
}
