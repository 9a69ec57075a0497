//! The command line. Its structs are also the parameters of the scenarios and of their reports.

mod hold;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use crore_engine::uring::DescriptorSetting;
use serde::Serialize;

use crate::client::channels::Channels;
use crate::client::frame::{Shape, opcode};
use crate::client::payload::Payload;
use crate::client::{Takeover, Wait};
use crate::compare::{ExtraServer, Places};
use crate::cores::CoreList;
pub(crate) use hold::HoldOptions;
use values::{as_debug, as_optional_seconds, as_seconds, duration, interval, rate, size};

/// Loads WebSocket servers and measures what that costs them.
#[derive(Debug, Parser)]
#[command(name = "crore-bench", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One scenario against a running server, or a comparison that starts servers itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every connection sends messages and gets each of them back.
    Echo(EchoOptions),
    /// One connection publishes, all subscribers receive.
    Fanout(FanoutOptions),
    /// Connections that only exist: what each costs in user and kernel memory.
    Idle(IdleOptions),
    /// Connections that are held: their memory and heartbeats, what is published to some of them, and how they end.
    Hold(Box<HoldOptions>),
    /// Connections that open and close, again and again.
    Connect(ConnectOptions),
    /// Connections that are all reset at once, while others go on.
    Vanish(VanishOptions),
    /// Connections until there is room for no more: how many the server holds.
    Fill(FillOptions),
    /// Starts servers, measures them in turn, and writes a report.
    Compare(Box<CompareOptions>),
}

/// The server, and how the client meets it.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct TargetOptions {
    /// Where the server listens: ws://HOST:PORT/PATH
    #[arg(long)]
    pub(crate) url: String,
    /// Process of the server; its CPU time and memory are measured
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) client: ClientOptions,
}

/// What is the same for all servers.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct ClientOptions {
    /// Core of the client's thread [default: the last that the server is not pinned to]
    #[arg(long)]
    pub(crate) client_core: Option<usize>,
    /// Handshakes in flight at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,
    /// The client's kind of descriptor: auto, regular or direct
    #[arg(long, default_value = "auto")]
    #[serde(serialize_with = "as_debug")]
    pub(crate) descriptors: DescriptorSetting,
    /// How the client waits for answers
    #[arg(long, value_enum, default_value_t)]
    pub(crate) wait: Wait,
}

/// Messages, and for how long.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct TrafficOptions {
    /// Bytes of a message's payload, at least 12 (its number and its time)
    #[arg(long, default_value_t = 64, value_parser = size)]
    pub(crate) size: usize,
    /// Send text instead of binary messages
    #[arg(long)]
    pub(crate) text: bool,
    /// What the payload is, behind its number and its time
    #[arg(long, value_enum, default_value_t)]
    pub(crate) payload: Payload,
    /// Time that is measured, such as 5s or 500ms
    #[arg(long, default_value = "5s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) duration: Duration,
    /// Time under load before the measurement begins
    #[arg(long, default_value = "1s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) warmup: Duration,
}

impl TrafficOptions {
    /// The messages of this traffic; those that go through channels are text.
    pub(crate) fn shape(&self, channels: Option<Channels>) -> Shape {
        let opcode = if self.text || channels.is_some() { opcode::TEXT } else { opcode::BINARY };
        Shape { opcode, payload_bytes: self.size, payload: self.payload, channels }
    }
}

/// Echo: closed loop, or open loop with `--rate`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct EchoOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) traffic: TrafficOptions,
    /// Messages that a connection has in flight (closed loop)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096), conflicts_with = "rate")]
    pub(crate) pipeline: u32,
    /// Speak the JSON protocol of `crore`: each connection subscribes to a channel of its own and sends to it; --size is
    /// that of the data in a message
    #[arg(long, conflicts_with = "payload")]
    pub(crate) channels: bool,
    /// Open loop: messages per second of all connections together; latency counts from the time at which a message should have left
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// Who publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Publisher {
    /// One more connection, which receives its messages like all others: N + 1 deliveries
    #[default]
    Separate,
    /// One of the subscribers: N deliveries
    Member,
    /// One more connection, which the server leaves out: N deliveries
    Silent,
}

/// Fan-out.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct FanoutOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Subscribers
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) traffic: TrafficOptions,
    /// Messages that are published in one write; the next follow when all subscribers have all of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
    /// Who publishes, and whether it receives
    #[arg(long, value_enum, default_value_t)]
    pub(crate) publisher: Publisher,
    /// Speak the JSON protocol of `crore`: all subscribe to one channel, and the publisher sends to it; --size is that of
    /// the data in a message
    #[arg(long, conflicts_with_all = ["payload", "compress"])]
    pub(crate) channels: bool,
    /// Offer permessage-deflate and have it agreed, without context takeover or with it; what is published is sent as it is
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "none")]
    pub(crate) compress: Option<Takeover>,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// How the memory of connections is measured.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct MemoryOptions {
    /// Time between the last handshake and the measurement
    #[arg(long, default_value = "3s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) settle: Duration,
    /// How long to wait before it begins for sockets of earlier connections, which stay in TIME_WAIT for a minute
    #[arg(long, default_value = REST_PATIENCE, value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) patience: Duration,
    /// Connections with both ends in the client, by which the client's share of kernel memory is measured; 0 leaves it out
    #[arg(long, default_value_t = CALIBRATION_CONNECTIONS)]
    pub(crate) calibration: u32,
}

/// Idle connections.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) memory: MemoryOptions,
    /// Every connection sends a message of 4 KiB and gets it back before it is idle
    #[arg(long)]
    pub(crate) exchange: bool,
    /// Offer permessage-deflate and have it agreed, without context takeover or with it; what is exchanged is compressed
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "none")]
    pub(crate) compress: Option<Takeover>,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// A minute of TIME_WAIT, and a little.
pub(crate) const REST_PATIENCE: &str = "65s";

/// Connections with both ends in the client; enough that what the slab allocator keeps per core does not show.
pub(crate) const CALIBRATION_CONNECTIONS: u32 = 4000;

/// Churn.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct ConnectOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Connections to open and close in total
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Connections at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// A mass disconnect.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct VanishOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Connections that are reset at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Connections that stay, and are echoed to
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) watched: u32,
    /// Time between two messages of a connection that stays
    #[arg(long, default_value = "5ms", value_parser = interval)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) interval: Duration,
    /// Time that is watched before each reset, and after the last connection has gone
    #[arg(long, default_value = "2s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) settle: Duration,
    /// How often all of them come and vanish
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Stops the server while they are reset, so that it finds all resets at once: the worst that a network can do, without
    /// the time that the resets take this client. Needs --server-pid. Should this program be killed meanwhile, SIGCONT
    /// lets the server go on
    #[arg(long, requires = "server_pid")]
    pub(crate) at_once: bool,
    /// Fails if an echo to those that stay takes longer after a reset, or if connections are left over
    #[arg(long, value_parser = duration)]
    #[serde(serialize_with = "as_optional_seconds")]
    pub(crate) stall_max: Option<Duration>,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// As many connections as there is room for.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct FillOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Connections to open at most
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// There is no room if so many were turned away in a row
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) refusals: u32,
    /// Nor if those that are tried get no answer for so long
    #[arg(long, default_value = "10s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) stall: Duration,
    /// How long those that are open have to stay so at the end
    #[arg(long, default_value = "1s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) settle: Duration,
    /// Writes the result there
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// The scenarios by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScenarioName {
    /// Closed loop.
    Echo,
    /// One publisher.
    Fanout,
    /// Memory.
    Idle,
    /// Churn.
    Connect,
}

/// A comparison.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct CompareOptions {
    /// What to measure; several separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "echo")]
    pub(crate) scenario: Vec<ScenarioName>,
    /// Numbers of connections, separated by commas [default: 64,1000 echo, 500 fanout, 15000 idle, 20000 connect]
    #[arg(long, value_delimiter = ',')]
    pub(crate) connections: Vec<u32>,
    /// Messages in flight, separated by commas: per connection (echo), or per publication (fanout) [default: 1 echo, 1,16 fanout]
    #[arg(long, value_delimiter = ',')]
    pub(crate) in_flight: Vec<u32>,
    /// Echo as an open loop instead, at these messages per second, separated by commas: what a message costs where all
    /// servers have the same load
    #[arg(long, value_delimiter = ',', value_parser = rate, conflicts_with = "in_flight")]
    pub(crate) rate: Vec<f64>,
    /// Servers, separated by commas: those of the catalogue (see benches/README.md) and of --extra [default: all that are built]
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// Another server, as NAME=COMMAND; {port}, {mode} (echo or broadcast), {core} and {cores} are replaced. Can be repeated
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(crate) extra: Vec<ExtraServer>,
    /// The server that all others are divided by [default: the first]
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// Rounds; in each, every server is started and measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) traffic: TrafficOptions,
    /// Time between the last handshake and the measurement of idle connections
    #[arg(long, default_value = "3s", value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) settle: Duration,
    /// How long to wait before idle connections for sockets of earlier ones, which stay in TIME_WAIT for a minute
    #[arg(long, default_value = REST_PATIENCE, value_parser = duration)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) patience: Duration,
    /// Cores of the server
    #[arg(long, default_value = "0")]
    pub(crate) server_core: CoreList,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) client: ClientOptions,
    /// Cargo's target directory with Crore's examples [default: $CARGO_TARGET_DIR, else target]
    #[arg(long)]
    pub(crate) target_dir: Option<PathBuf>,
    /// Where benches/rivals/build has put the rivals [default: $RIVALS_DIR, else rivals in the target directory]
    #[arg(long)]
    pub(crate) rivals_dir: Option<PathBuf>,
    /// Directory of the report [default: benches/results/DATE-MACHINE]
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    /// Name of the machine in the report's directory [default: its processor]
    #[arg(long)]
    pub(crate) machine: Option<String>,
    /// Only print, write no report
    #[arg(long)]
    pub(crate) no_report: bool,
}

impl CompareOptions {
    /// Where the servers of the catalogue are.
    pub(crate) fn places(&self) -> Places {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let target = self.target_dir.clone().or_else(|| variable("CARGO_TARGET_DIR"));
        let target = target.unwrap_or_else(|| "target".into());
        let rivals = self.rivals_dir.clone().or_else(|| variable("RIVALS_DIR"));
        Places { rivals: rivals.unwrap_or_else(|| target.join("rivals")), target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn error(arguments: &[&str]) -> String {
        Cli::try_parse_from([&["crore-bench"], arguments].concat()).expect_err("refused").to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_say_what_to_do() {
        for (arguments, hint) in [
            (&["echo"][..], "--url"),
            (&["echo", "--url", "ws://h", "--size", "8"], "use 12 to"),
            (&["echo", "--url", "ws://h", "--duration", "soon"], "write 5s"),
            (&["echo", "--url", "ws://h", "--duration=-1"], "write 5s"),
            (&["echo", "--url", "ws://h", "--rate", "fast"], "such as 50000"),
            (&["echo", "--url", "ws://h", "--rate", "5", "--pipeline", "2"], "cannot be used with"),
            (&["vanish", "--url", "ws://h", "--interval", "0s"], "longer than nothing"),
            (&["echo", "--url", "ws://h", "--descriptors", "fixed"], "use `auto`, `regular` or `direct`"),
            (&["echo", "--url", "ws://h", "--channels", "--payload", "json"], "cannot be used with"),
            (&["compare", "--server-core", "x"], "0,2-3"),
            (&["compare", "--extra", "mine"], "NAME=COMMAND"),
        ] {
            let text = error(arguments);
            assert!(text.contains(hint), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let cli =
            Cli::try_parse_from(["crore-bench", "compare", "--connections", "64,1000", "--scenario", "echo,idle"]);
        let Command::Compare(options) = cli.expect("accepted").command else { panic!("compare") };
        assert_eq!(options.connections, [64, 1000]);
        assert_eq!(options.scenario, [ScenarioName::Echo, ScenarioName::Idle]);
    }
}
