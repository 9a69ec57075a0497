//! The scenarios: what is done to a server, and what comes of it.

mod calibration;
mod connect;
mod echo;
mod fanout;
mod fill;
mod hold;
mod idle;
mod subscribing;
mod vanish;
mod weight;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::{
    ClientOptions, ConnectOptions, EchoOptions, FanoutOptions, FillOptions, HoldOptions, IdleOptions, TargetOptions,
    VanishOptions,
};
use crate::client::frame::Shape;
use crate::client::{Client, ClientConfig, ClientError, Load, STALL, Target, TargetError};
use crate::cores::{CoreError, CoreList, client_core};
use crate::measure::MeasureError;
use crate::measure::latency::{Latencies, LatencySummary};
use crate::measure::usage::Usage;
pub(crate) use fill::Filling;
pub(crate) use hold::HoldOutcome;
pub(crate) use vanish::Vanishing;
pub(crate) use weight::IdleMemory;

/// A scenario looks at its clock at least this often.
const GRAIN: Duration = Duration::from_millis(50);

/// Why a scenario has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    /// The address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The cores.
    #[error(transparent)]
    Cores(#[from] CoreError),
    /// The load.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The measurement.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// No thread for the client.
    #[error("no thread can be started for the client: {0}")]
    Thread(std::io::Error),
    /// Nothing came back.
    #[error("none of {connections} connections got a message back; does the server echo binary messages (try --text)?")]
    Silent {
        /// Connections that waited.
        connections: u32,
    },
    /// A publication did not reach all.
    #[error(
        "{came} of {expected} deliveries of a batch came; does the server broadcast to all, the publisher included (see --publisher)?"
    )]
    Incomplete {
        /// Deliveries that came.
        came: u64,
        /// Deliveries of a batch.
        expected: u64,
    },
    /// No heartbeats.
    #[error(
        "{done} of {connections} connections had as many pings as they should ({rounds}), and then none came for {} s: does the server ping, \
         and more often than that (ping_interval, --stall)?", stall.as_secs()
    )]
    NotPinged {
        /// Connections that have had their pings.
        done: u32,
        /// All of them.
        connections: u32,
        /// Pings that each should get.
        rounds: u8,
        /// How long nothing came.
        stall: Duration,
    },
    /// No subscription.
    #[error(
        "{done} of {subscribers} subscriptions were confirmed; does the server speak the JSON protocol of `crore`?"
    )]
    NotSubscribed {
        /// That were confirmed.
        done: u32,
        /// That were asked for.
        subscribers: u32,
    },
    /// No publication.
    #[error("{done} of {published} publications were confirmed; look at the server's log")]
    NotConfirmed {
        /// That were confirmed.
        done: u32,
        /// That were sent.
        published: u32,
    },
    /// An error, or something that makes no sense.
    #[error("in slot {slot} the server says what was not asked for, or refuses: {text}")]
    Refused {
        /// Which connection.
        slot: u32,
        /// What came.
        text: String,
    },
    /// The server can't be ended.
    #[error("the server can't be sent SIGTERM: {0}; is --server-pid right, and is it this user's?")]
    Signal(std::io::Error),
    /// Those who stayed had to wait.
    #[error(
        "an echo took {longest_ms:.1} ms after {connections} connections had been reset, longer than --stall-max; the client itself was up to {client_late_ms:.1} ms late: if that is most of it, give it a core that has nothing else to do"
    )]
    Stalled {
        /// Milliseconds of the longest.
        longest_ms: f64,
        /// How late the client was, in milliseconds.
        client_late_ms: f64,
        /// Connections that were reset.
        connections: u32,
    },
    /// Connections that are not there any more and still have a socket.
    #[error("{sockets} sockets are left of {connections} connections that were reset; does the server close them?")]
    LeftOver {
        /// Sockets in addition to those before.
        sockets: u64,
        /// Connections that were reset.
        connections: u32,
    },
}

/// One scenario with its parameters.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "scenario", rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Echo.
    Echo(EchoOptions),
    /// Fan-out.
    Fanout(FanoutOptions),
    /// Idle connections.
    Idle(IdleOptions),
    /// Held connections.
    Hold(Box<HoldOptions>),
    /// Churn.
    Connect(ConnectOptions),
    /// A mass disconnect.
    Vanish(VanishOptions),
    /// As many connections as there is room for.
    Fill(FillOptions),
}

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// What is counted: message, delivery or connection.
    pub(crate) unit: &'static str,
    /// How many there were.
    pub(crate) count: u64,
    /// How many per second.
    pub(crate) per_second: f64,
    /// CPU time and memory.
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// From the send, or the due time, to the answer.
    pub(crate) latency: LatencySummary,
    /// Messages that the load did not send.
    pub(crate) unsolicited: u64,
    /// Receives that the client found per turn: how far it was behind the server.
    pub(crate) client_receives_per_turn: f64,
    /// The client's kind of descriptor.
    pub(crate) client_descriptors: String,
    /// Memory per connection, of the idle and the hold scenario.
    pub(crate) idle: Option<IdleMemory>,
    /// All the rest of the hold scenario.
    pub(crate) hold: Option<HoldOutcome>,
    /// What a mass disconnect did to others.
    pub(crate) vanish: Option<Vanishing>,
    /// How many connections there was room for.
    pub(crate) fill: Option<Filling>,
}

impl Outcome {
    fn new(unit: &'static str, count: u64, usage: Usage, latencies: &Latencies, client: &Client) -> Self {
        Self {
            unit,
            count,
            per_second: count as f64 / usage.seconds,
            usage,
            latency: latencies.summary(),
            unsolicited: client.unsolicited(),
            client_receives_per_turn: client.receives_per_turn(),
            client_descriptors: client.descriptor_kind().to_string(),
            idle: None,
            hold: None,
            vanish: None,
            fill: None,
        }
    }
}

/// What is settled before a scenario begins.
struct Run {
    client_core: usize,
}

impl Run {
    fn client_config(
        &self,
        target: &TargetOptions,
        connections: u32,
        shape: Shape,
    ) -> Result<ClientConfig, TargetError> {
        let ClientOptions { window, descriptors, wait, .. } = target.client;
        Ok(ClientConfig {
            target: Target::parse(&target.url)?,
            first_attempt: 0,
            connections,
            window,
            stall: STALL,
            shape,
            compress: None,
            sends_compressed: false,
            descriptors,
            wait,
            reset_at_end: true,
        })
    }
}

impl Scenario {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Echo(_) => "echo",
            Self::Fanout(_) => "fanout",
            Self::Idle(_) => "idle",
            Self::Hold(_) => "hold",
            Self::Connect(_) => "connect",
            Self::Vanish(_) => "vanish",
            Self::Fill(_) => "fill",
        }
    }

    /// The server and the client's settings.
    pub(crate) fn target(&self) -> &TargetOptions {
        match self {
            Self::Echo(options) => &options.target,
            Self::Fanout(options) => &options.target,
            Self::Idle(options) => &options.target,
            Self::Hold(options) => &options.target,
            Self::Connect(options) => &options.target,
            Self::Vanish(options) => &options.target,
            Self::Fill(options) => &options.target,
        }
    }

    /// Runs the scenario on a thread of its own, pinned to the client's core.
    ///
    /// # Errors
    /// The server can't be loaded or measured.
    pub(crate) fn run(&self, progress: &Progress) -> Result<Outcome, ScenarioError> {
        let target = self.target();
        let server_cores = target.server_pid.and_then(CoreList::of_process);
        let core = target.client.client_core.unwrap_or_else(|| client_core(server_cores.as_ref()));
        std::thread::scope(|scope| {
            let client = std::thread::Builder::new().name("client".into()).spawn_scoped(scope, || {
                CoreList::one(core).pin_thread()?;
                let run = Run { client_core: core };
                match self {
                    Self::Echo(options) => echo::run(options, &run, progress),
                    Self::Fanout(options) => fanout::run(options, &run, progress),
                    Self::Idle(options) => idle::run(options, &run, progress),
                    Self::Hold(options) => hold::run(options, &run, progress),
                    Self::Connect(options) => connect::run(options, &run, progress),
                    Self::Vanish(options) => vanish::run(options, &run, progress),
                    Self::Fill(options) => fill::run(options, &run, progress),
                }
            });
            let outcome = client.map_err(ScenarioError::Thread)?.join();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Keeps a load that runs by itself going for `time`.
fn load_for(
    phase: &'static str,
    time: Duration,
    client: &mut Client,
    load: &mut impl Load,
    progress: &Progress,
) -> Result<(), ClientError> {
    progress.timed(phase, time);
    let start = client.now_ns();
    let end = start + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    loop {
        let now = client.now_ns();
        if now >= end {
            return Ok(());
        }
        progress.elapsed(Duration::from_nanos(now - start));
        client.turn_within(load, Duration::from_nanos(end - now).min(GRAIN))?;
    }
}

/// How far a scenario is, on a terminal; nothing elsewhere.
pub(crate) struct Progress {
    bar: ProgressBar,
    hidden: bool,
}

impl Progress {
    /// A bar that begins with `label`.
    pub(crate) fn new(label: &str) -> Self {
        let bar = ProgressBar::new(0).with_prefix(label.to_owned());
        // indicatif draws on standard error, at most 20 times a second, and only if that is a terminal.
        bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("the template is a constant"));
        Self { hidden: bar.is_hidden(), bar }
    }

    /// Says where there is no terminal that a phase of a long scenario is over.
    fn note(&self, text: &str) {
        if self.hidden {
            eprintln!("{}: {text}", self.bar.prefix());
        }
    }

    fn counted(&self, phase: &'static str, count: u32) {
        self.bar.set_message(phase);
        self.bar.set_length(u64::from(count));
        self.bar.set_position(0);
    }

    fn timed(&self, phase: &'static str, time: Duration) {
        self.bar.set_message(phase);
        self.bar.set_length(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_position(0);
    }

    fn at(&self, position: u32) {
        self.update(u64::from(position));
    }

    fn elapsed(&self, time: Duration) {
        self.update(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// A bar takes a lock and looks at a clock; what has not moved by a hundredth is not worth it.
    fn update(&self, position: u64) {
        if !self.hidden && position >= self.bar.position() + self.bar.length().unwrap_or(0) / 100 {
            self.bar.set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

const TEMPLATE: &str = "{prefix} {msg:10} [{bar:30}] {percent:>3} %";

#[cfg(test)]
mod tests;
