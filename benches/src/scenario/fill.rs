//! Connections until there is room for no more: how many are open then?
//!
//! A connection that is turned away is tried again, since another core may have room: the kernel chooses by a hash. Many
//! in a row that were turned away, and no answer for long, say that no core has.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem::ManuallyDrop;

use serde::Serialize;

use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::FillOptions;
use crate::client::frame::{STAMP_BYTES, Shape, opcode};
use crate::client::payload::Payload;
use crate::client::{Actions, Client, ClientError, Load, Refusal};
use crate::measure::latency::Latencies;
use crate::measure::usage::Observer;

/// Files that are open at a time for what is measured and written at the end.
const FILES_SPARE: u32 = 64;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Filling {
    /// Connections that are open at the end.
    pub(crate) open: u32,
    /// Those that were turned away, by what was done to them.
    pub(crate) turned_away: BTreeMap<String, u64>,
    /// Why there are not more.
    pub(crate) end: End,
}

/// Why no more connections are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// As many are open as were asked for.
    Complete,
    /// The client has no descriptors for others.
    Descriptors,
    /// All that were tried of late were turned away.
    Full,
    /// Those that are tried get no answer.
    Silent,
}

impl End {
    /// For people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Complete => "as many as were asked for",
            Self::Descriptors => "the client has no descriptors for others (`ulimit -n`)",
            Self::Full => "all others are turned away",
            Self::Silent => "others get no answer",
        }
    }
}

/// Connections that come.
#[derive(Default)]
struct Arrivals {
    latencies: Latencies,
    open: u32,
    /// Slots whose connection was turned away.
    free: VecDeque<u32>,
    turned_away: BTreeMap<String, u64>,
    /// Turned away since the last one that was opened.
    in_a_row: u32,
}

impl Arrivals {
    fn count(&mut self, what: String) {
        *self.turned_away.entry(what).or_default() += 1;
        self.in_a_row += 1;
    }
}

impl Load for Arrivals {
    fn opened(&mut self, _slot: u32, latency_ns: u64, _actions: &mut Actions) {
        self.latencies.record(latency_ns);
        self.open += 1;
        self.in_a_row = 0;
    }

    fn turned_away(&mut self, _slot: u32, refusal: Refusal) -> bool {
        self.count(refusal.to_string());
        true
    }

    fn vacated(&mut self, slot: u32) {
        self.free.push_back(slot);
    }
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be reached or measured, or ends connections that were open.
pub(super) fn run(options: &FillOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let shape = Shape { opcode: opcode::BINARY, payload_bytes: STAMP_BYTES, payload: Payload::Filler, channels: None };
    let mut config = run.client_config(&options.target, options.connections, shape)?;
    config.connections = options.connections.min(Client::connections_max(&config)?);
    config.stall = options.stall;
    let observer = Observer::new(options.target.server_pid, run.client_core);
    // Left to the end of the process, as those of `hold` are.
    let mut client = ManuallyDrop::new(Client::new(config.clone())?);
    let mut load = Arrivals { free: (0..config.connections).collect(), ..Arrivals::default() };
    progress.counted("opening", options.connections);
    let before = observer.look()?;
    let end = loop {
        if load.open == config.connections {
            break if load.open == options.connections { End::Complete } else { End::Descriptors };
        }
        // Who is let in may be answered after many others were turned away.
        let enough = load.in_a_row >= options.refusals;
        if enough && client.waiting() == 0 {
            break End::Full;
        }
        while !enough
            && client.waiting() < config.window
            && let Some(slot) = load.free.pop_front()
        {
            client.open(slot);
        }
        match client.turn(&mut load) {
            Ok(()) => progress.at(load.open),
            Err(ClientError::Stalled { .. }) => break End::Silent,
            // This host has no socket for it, and may have one when another is closed.
            Err(ClientError::Connect { slot, source, .. }) if is_short_of(&source) => {
                load.count(source.to_string());
                load.vacated(slot);
            }
            Err(error) => return Err(error.into()),
        }
    };
    // Whoever is open stays so.
    client.give_up();
    super::load_for("settling", options.settle, &mut client, &mut load, progress)?;
    // Where the host is out of files, none is left to look at it; and those who wait for the server get the first ones.
    client.reset(2 * config.window + FILES_SPARE)?;
    let usage = observer.usage_since(&before, u64::from(load.open))?;
    let mut outcome = Outcome::new("connection", u64::from(load.open), usage, &load.latencies, &client);
    outcome.fill = Some(Filling { open: load.open, turned_away: load.turned_away, end });
    Ok(outcome)
}

/// Whether the host is out of something that sockets take: files, or ports, or memory.
fn is_short_of(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| short.iter().any(|errno| errno.raw_os_error() == code))
}
