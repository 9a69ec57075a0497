//! A mass disconnect: all connections but a few are reset at once, and those that stay are watched.
//!
//! The few send at a fixed rate, whether answers come or not, so that a stall is charged to every message that it
//! delays. The many are held by other threads, which reset them as fast as that goes. How late the client itself was with a message is
//! measured, too: on a host that is client and server, the resets are work of the client's, and of its kernel.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::calibration::is_disturbed;
use super::echo::{Echo, Sender};
use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::VanishOptions;
use crate::client::frame::{STAMP_BYTES, Shape, opcode};
use crate::client::payload::Payload;
use crate::client::{CONNECTIONS_PER_SOURCE, Client, ClientConfig, ClientError, Load};
use crate::measure::MeasureError;
use crate::measure::latency::{LatencySummary, Schedule};
use crate::measure::memory::ProcessMemory;
use crate::measure::slab::SocketCounts;
use crate::measure::usage::{Observer, Usage};

/// A look at the clock, at the sockets of this host, and at the connections that are to come or go.
const GRAIN: Duration = Duration::from_millis(10);

/// How long sockets may take to go. After it they are left over.
const GONE_PATIENCE: Duration = Duration::from_secs(30);

/// What came of a mass disconnect.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Vanishing {
    /// Connections that were reset in each round.
    pub(crate) connections: u32,
    /// Connections that stayed.
    pub(crate) watched: u32,
    /// Memory of the server before the first connection, if its process is known.
    pub(crate) memory: Option<ProcessMemory>,
    /// The rounds.
    pub(crate) rounds: Vec<VanishRound>,
}

/// All connections came, and vanished.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VanishRound {
    /// Until the last of them was open.
    pub(crate) open_seconds: f64,
    /// Echoes to those who stay, before the reset.
    pub(crate) before: LatencySummary,
    /// The same from the reset on.
    pub(crate) after: LatencySummary,
    /// How late the client itself was at most with a message, before the reset and from then on.
    pub(crate) client_late_us: [f64; 2],
    /// From the reset until the sockets of both ends were freed; `None` if some are left.
    pub(crate) gone_seconds: Option<f64>,
    /// Sockets of this host that are left, in addition to those before the round.
    pub(crate) sockets_left: u64,
    /// Memory of the server with all connections and without them, if its process is known.
    pub(crate) memory: Option<[ProcessMemory; 2]>,
}

/// Those who stay.
struct Watch<'run> {
    client: Client,
    load: Echo,
    sender: Sender,
    /// Echoes that came before the window.
    answered: u64,
    progress: &'run Progress,
}

impl Watch<'_> {
    /// Opens the connections that stay, and begins to send.
    fn open(config: ClientConfig, rate: f64, progress: &Progress) -> Result<Watch<'_>, ClientError> {
        let connections = config.connections;
        let (client, load, sender) = (Client::new(config)?, Echo::default(), Sender::default());
        let mut watch = Watch { client, load, sender, answered: 0, progress };
        watch.client.open_up_to(connections, &mut watch.load, |_| {})?;
        watch.load.schedule = Some(Schedule::new(watch.client.now_ns(), rate, connections));
        Ok(watch)
    }

    fn go_on(&mut self, time: Duration) -> Result<(), ScenarioError> {
        self.sender.load_for(time, &mut self.client, &mut self.load, self.progress)
    }

    /// Begins a window of the measurement.
    fn reset(&mut self) {
        self.load.latencies.reset();
        self.answered += std::mem::take(&mut self.load.messages);
        self.sender.latest_ns = 0;
    }

    fn client_late_us(&self) -> f64 {
        self.sender.latest_ns as f64 / 1000.0
    }

    /// Has `work` done while the server is stopped. No echo waits for that: those under way come before, and what is
    /// due later is due later by the time it took.
    fn during_stop<T>(&mut self, server: Pid, work: impl FnOnce() -> T) -> Result<T, ScenarioError> {
        let (begin, begin_ns) = (Instant::now(), self.client.now_ns());
        while self.answered + self.load.messages < self.sender.sent() {
            self.client.turn(&mut self.load)?;
            if begin.elapsed() > super::STALL {
                return Err(ScenarioError::Silent { connections: self.client.slots() });
            }
        }
        let stopped = Stopped::new(server)?;
        let done = work();
        drop(stopped);
        let took_ns = self.client.now_ns() - begin_ns;
        self.load.schedule.iter_mut().for_each(|schedule| schedule.postpone(took_ns));
        Ok(done)
    }
}

/// A process that is stopped for as long as this lives.
struct Stopped(Pid);

impl Stopped {
    fn new(process: Pid) -> Result<Self, ScenarioError> {
        kill_process(process, Signal::STOP).map_err(|errno| ScenarioError::Signal(errno.into()))?;
        Ok(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It fails only where the process is no more.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Connections that only exist.
struct Quiet;

impl Load for Quiet {}

/// What the holders of a crowd share.
#[derive(Default)]
struct Signals {
    /// Holders whose connections are all open.
    open: AtomicU32,
    vanish: AtomicBool,
}

/// The threads that hold those who vanish.
struct Crowd<'scope> {
    holders: Vec<ScopedJoinHandle<'scope, Result<(), ClientError>>>,
    signals: &'scope Signals,
}

impl<'scope> Crowd<'scope> {
    /// Begins to open connections, with a thread for each of the settings.
    fn gather(
        scope: &'scope Scope<'scope, '_>,
        configs: &'scope [ClientConfig],
        signals: &'scope Signals,
    ) -> Result<Self, ScenarioError> {
        let mut crowd = Self { holders: Vec::new(), signals };
        for config in configs {
            let holder = thread::Builder::new().name("crowd".into());
            let holder = holder.spawn_scoped(scope, || hold(config, signals)).map_err(ScenarioError::Thread)?;
            crowd.holders.push(holder);
        }
        Ok(crowd)
    }

    /// Whether all connections are open, or will never be.
    fn is_settled(&self) -> bool {
        self.is_open() || self.holders.iter().any(ScopedJoinHandle::is_finished)
    }

    /// Whether all connections are open.
    fn is_open(&self) -> bool {
        self.signals.open.load(Ordering::Relaxed) as usize == self.holders.len()
    }

    fn vanish(&self) {
        self.signals.vanish.store(true, Ordering::Relaxed);
    }

    /// Waits until all connections have been reset.
    fn wait(&self) {
        while !self.holders.iter().all(ScopedJoinHandle::is_finished) {
            thread::sleep(GRAIN);
        }
    }

    /// Waits for the end of all holders, and says what has gone wrong.
    fn join(&mut self) -> Result<(), ClientError> {
        let results: Vec<_> = self.holders.drain(..).map(ScopedJoinHandle::join).collect();
        results.into_iter().try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Crowd<'_> {
    /// An error elsewhere ends the holders, too: their scope waits for them.
    fn drop(&mut self) {
        self.vanish();
    }
}

/// Holds connections until they are to vanish.
fn hold(config: &ClientConfig, signals: &Signals) -> Result<(), ClientError> {
    let mut client = Client::new(config.clone())?;
    client.open_up_to(config.connections, &mut Quiet, |_| {})?;
    signals.open.fetch_add(1, Ordering::Relaxed);
    while !signals.vanish.load(Ordering::Relaxed) {
        client.turn_within(&mut Quiet, GRAIN)?;
    }
    client.reset_all()
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be loaded or measured, or those who stay have waited longer than they may.
pub(super) fn run(options: &VanishOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let shape = Shape { opcode: opcode::BINARY, payload_bytes: STAMP_BYTES, payload: Payload::Filler, channels: None };
    let config = run.client_config(&options.target, options.watched, shape)?;
    let crowd = crowd(&config, options.connections)?;
    let pid = options.target.server_pid;
    let observer = Observer::new(pid, run.client_core);
    let memory = pid.map(ProcessMemory::read).transpose()?;
    let rate = f64::from(options.watched) / options.interval.as_secs_f64();
    let mut watch = Watch::open(config, rate, progress)?;
    let mut rounds = Vec::new();
    let mut last = None;
    for _ in 0..options.rounds {
        let (round, usage) = vanish(options, &crowd, &observer, &mut watch)?;
        check(options, &round)?;
        rounds.push(round);
        last = Some(usage);
    }
    let usage = last.expect("there is at least one round");
    let messages = watch.load.messages;
    let mut outcome = Outcome::new("message", messages, usage, &watch.load.latencies, &watch.client);
    let (connections, watched) = (options.connections, options.watched);
    outcome.vanish = Some(Vanishing { connections, watched, memory, rounds });
    Ok(outcome)
}

/// The settings of the clients that hold those who vanish: one for each source address, so that none has more requests
/// in flight than it can cancel quickly, one by one.
fn crowd(config: &ClientConfig, connections: u32) -> Result<Vec<ClientConfig>, ClientError> {
    // The first address is that of those who stay.
    let crowd = ClientConfig { first_attempt: CONNECTIONS_PER_SOURCE, connections, ..config.clone() };
    crowd.over_rings(CONNECTIONS_PER_SOURCE, config.connections)
}

/// One round.
fn vanish(
    options: &VanishOptions,
    crowd: &[ClientConfig],
    observer: &Observer,
    watch: &mut Watch<'_>,
) -> Result<(VanishRound, Usage), ScenarioError> {
    let memory = || -> Result<_, MeasureError> { observer.server_pid.map(ProcessMemory::read).transpose() };
    let sockets_before = SocketCounts::read()?.allocated;
    let sockets_left =
        || -> Result<_, MeasureError> { Ok(SocketCounts::read()?.allocated.saturating_sub(sockets_before)) };
    let signals = Signals::default();
    thread::scope(|scope| {
        let begin = Instant::now();
        let mut crowd = Crowd::gather(scope, crowd, &signals)?;
        while !crowd.is_settled() {
            watch.go_on(GRAIN)?;
        }
        let open_seconds = begin.elapsed().as_secs_f64();
        let full = memory()?;
        watch.reset();
        watch.go_on(options.settle)?;
        let (before, late_before) = (watch.load.latencies.summary(), watch.client_late_us());

        let look = observer.look()?;
        let server = observer.server_pid.filter(|_| options.at_once).and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(server) = server.filter(|_| crowd.is_open()) {
            watch.during_stop(server, || {
                crowd.vanish();
                crowd.wait();
            })?;
        }
        watch.reset();
        let begin = Instant::now();
        crowd.vanish();
        // Sockets of other programs come and go.
        while is_disturbed(sockets_left()?, options.connections) && begin.elapsed() < GONE_PATIENCE {
            watch.go_on(GRAIN)?;
        }
        let gone_seconds = begin.elapsed().as_secs_f64();
        crowd.join()?;
        watch.go_on(options.settle)?;
        let sockets_left = sockets_left()?;
        let usage = observer.usage_since(&look, watch.load.messages)?;
        let round = VanishRound {
            open_seconds,
            before,
            after: watch.load.latencies.summary(),
            client_late_us: [late_before, watch.client_late_us()],
            gone_seconds: (!is_disturbed(sockets_left, options.connections)).then_some(gone_seconds),
            sockets_left,
            memory: full.zip(memory()?).map(<[_; 2]>::from),
        };
        Ok((round, usage))
    })
}

/// Whether those who stayed have waited too long, if there is a bound.
fn check(options: &VanishOptions, round: &VanishRound) -> Result<(), ScenarioError> {
    let Some(stall_max) = options.stall_max else { return Ok(()) };
    let connections = options.connections;
    let longest_ms = round.after.max_us / 1000.0;
    if longest_ms > stall_max.as_secs_f64() * 1000.0 {
        let client_late_ms = round.client_late_us[1] / 1000.0;
        return Err(ScenarioError::Stalled { longest_ms, client_late_ms, connections });
    }
    if round.gone_seconds.is_none() {
        return Err(ScenarioError::LeftOver { sockets: round.sockets_left, connections });
    }
    Ok(())
}
