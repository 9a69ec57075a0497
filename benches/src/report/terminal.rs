//! Results on a terminal.

use std::fmt::Write;

use crate::compare::{Metric, plural};
use crate::measure::latency::LatencySummary;
use crate::measure::memory::ProcessMemory;
use crate::scenario::{Filling, IdleMemory, Outcome, Vanishing};

/// One round of a comparison, on one line.
pub(crate) fn line(label: &str, outcome: &Outcome) -> String {
    let format = Metric::format;
    let mut text = format!("{label:<32}");
    if let Some(idle) = &outcome.idle {
        if let Some(user) = &idle.user {
            let _ = write!(
                text,
                " user {} B/connection (second half {})",
                format(user.bytes_per_connection),
                format(user.marginal_bytes_per_connection)
            );
        }
        match idle.kernel.server_end_bytes {
            _ if idle.kernel.disturbed => {
                let _ = write!(text, "  kernel memory disturbed by {} other sockets", idle.kernel.foreign_sockets);
            }
            Some(bytes) => {
                let _ = write!(text, "  kernel, server's end {} B/connection", format(bytes));
            }
            None => {}
        }
        return text;
    }
    let unit = outcome.unit;
    if let Some(server) = &outcome.usage.server {
        let _ = write!(text, " {:>6} µs CPU/{unit}", format(server.cpu_us_per_message));
    }
    let _ = write!(
        text,
        "  {:>9}/s  p50 {} p99 {} µs",
        format(outcome.per_second),
        format(outcome.latency.p50_us),
        format(outcome.latency.p99_us)
    );
    if let Some(server) = &outcome.usage.server {
        let _ = write!(text, "  server {:.0} %", server.busy_percent);
    }
    let _ = write!(
        text,
        "  client {:.0} %, batches of {}",
        outcome.usage.client.busy_percent,
        format(outcome.client_receives_per_turn)
    );
    let steal = outcome.usage.server.as_ref().and_then(|server| server.core_steal_percent).unwrap_or(0.0);
    if steal >= STEAL_WORTH_A_WORD {
        let _ = write!(text, "  stolen {steal:.0} %");
    }
    text
}

/// Percent of a core that the hypervisor may take before a line says so.
const STEAL_WORTH_A_WORD: f64 = 1.0;

/// The result of a single scenario.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let format = Metric::format;
    let unit = outcome.unit;
    let mut text = String::new();
    let mut row = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<12} {value}");
    };
    let (seconds, units) = (outcome.usage.seconds, plural(unit));
    row(
        "throughput",
        format!("{} {units}/s ({} {units} in {seconds:.2} s)", format(outcome.per_second), outcome.count),
    );
    let latency = &outcome.latency;
    if latency.count > 0 {
        let LatencySummary { p50_us, p90_us, p99_us, p999_us, max_us, mean_us, .. } = latency;
        row(
            "latency",
            format!(
                "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  mean {} µs",
                format(*p50_us),
                format(*p90_us),
                format(*p99_us),
                format(*p999_us),
                format(*max_us),
                format(*mean_us)
            ),
        );
    }
    match &outcome.usage.server {
        Some(server) => {
            row(
                "server CPU",
                format!(
                    "{} µs/{unit} ({}), busy {:.1} %, {} threads",
                    format(server.cpu_us_per_message),
                    server.source.path(),
                    server.busy_percent,
                    server.threads
                ),
            );
            row("server RSS", format!("{} MiB", format(server.memory.rss_bytes as f64 / (1 << 20) as f64)));
        }
        None => row("server", "not measured: name its process with --server-pid".into()),
    }
    let client = &outcome.usage.client;
    row(
        "client",
        format!(
            "core {}, busy {:.1} % ({} µs/{unit}), {} receives per turn, {} descriptors",
            client.core,
            client.busy_percent,
            format(client.cpu_us_per_message),
            format(outcome.client_receives_per_turn),
            outcome.client_descriptors
        ),
    );
    // Of held connections all that comes is checked, and none of it is of a load.
    if outcome.unsolicited > 0 && outcome.hold.is_none() {
        row("unsolicited", format!("{} messages that the load did not send", outcome.unsolicited));
    }
    if let Some(idle) = &outcome.idle {
        text.push_str(&idle_memory(idle));
    }
    if let Some(hold) = &outcome.hold {
        text.push_str(&super::hold::terminal(outcome, hold));
    }
    if let Some(vanishing) = &outcome.vanish {
        text.push_str(&vanished(vanishing));
    }
    if let Some(filling) = &outcome.fill {
        text.push_str(&filled(filling));
    }
    text
}

fn filled(filling: &Filling) -> String {
    let mut text = format!("room         {} connections: {}", filling.open, filling.end.text());
    for (what, count) in &filling.turned_away {
        let _ = write!(text, "; {what}: {count}");
    }
    text.push('\n');
    text
}

fn vanished(vanishing: &Vanishing) -> String {
    let milliseconds = |us: f64| Metric::format(us / 1000.0);
    let mib = |memory: &ProcessMemory| Metric::format(memory.rss_bytes as f64 / (1 << 20) as f64);
    let mut text = format!("vanished     {} connections, while {} stayed", vanishing.connections, vanishing.watched);
    if let Some(memory) = &vanishing.memory {
        let _ = write!(text, "; RSS before them {} MiB", mib(memory));
    }
    text.push('\n');
    for (number, round) in (1..).zip(&vanishing.rounds) {
        let _ = write!(
            text,
            "  round {number}: open in {:.2} s; longest wait for an echo {} ms before the reset, {} after it (the client \
             itself late by {} and {}); ",
            round.open_seconds,
            milliseconds(round.before.max_us),
            milliseconds(round.after.max_us),
            milliseconds(round.client_late_us[0]),
            milliseconds(round.client_late_us[1])
        );
        let _ = match round.gone_seconds {
            Some(seconds) => write!(text, "all gone after {seconds:.2} s"),
            None => write!(text, "{} sockets are left", round.sockets_left),
        };
        if let Some([full, empty]) = &round.memory {
            let _ = write!(text, "; RSS {} MiB with them, {} without", mib(full), mib(empty));
        }
        text.push('\n');
    }
    text
}

fn idle_memory(idle: &IdleMemory) -> String {
    let format = Metric::format;
    let mut text = String::new();
    if let Some(user) = &idle.user {
        let _ = writeln!(
            text,
            "user memory  {} B/connection; the second half alone {}; RSS {} → {} MiB",
            format(user.bytes_per_connection),
            format(user.marginal_bytes_per_connection),
            format(user.before.rss_bytes as f64 / (1 << 20) as f64),
            format(user.after.rss_bytes as f64 / (1 << 20) as f64)
        );
    }
    let kernel = &idle.kernel;
    match (kernel.both_ends_bytes, kernel.server_end_bytes) {
        (Some(both), Some(server)) => {
            let _ = writeln!(
                text,
                "kernel       {} B/connection at the server's end, {} at both (slab objects); slab pages of both {}",
                format(server),
                format(both),
                format(kernel.slab_page_bytes)
            );
        }
        (Some(both), None) => {
            let _ = writeln!(
                text,
                "kernel       {} B/connection at both ends (slab objects; not calibrated)",
                format(both)
            );
        }
        _ => {
            let _ = writeln!(
                text,
                "kernel       {} B/connection at both ends (slab pages; run as root to see which)",
                format(kernel.slab_page_bytes)
            );
        }
    }
    if kernel.disturbed {
        let _ = writeln!(
            text,
            "  not to be trusted: {} sockets of other programs came or went meanwhile",
            kernel.foreign_sockets
        );
    }
    for slab in &kernel.slabs {
        let _ = write!(text, "  {:<22} {:>6} B objects {:>8.1} B", slab.name, slab.object_bytes, slab.both_ends_bytes);
        if let (Some(client), Some(server)) = (slab.client_end_bytes, slab.server_end_bytes) {
            let _ = write!(text, " = {client:>8.1} client + {server:>8.1} server");
        }
        text.push('\n');
    }
    text
}
