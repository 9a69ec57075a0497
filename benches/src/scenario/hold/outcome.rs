//! What came of held connections, and whether that is as it should be.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::Faults;
use super::plan::Plan;
use crate::cli::HoldOptions;
use crate::measure::latency::LatencySummary;
use crate::measure::usage::Usage;
use crate::scenario::IdleMemory;

/// What was measured on held connections, besides the memory of each.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HoldOutcome {
    /// From the first connect to the last answer, without the rest in between.
    pub(crate) opening_seconds: f64,
    /// The server's pings.
    pub(crate) heartbeats: Heartbeats,
    /// Who subscribed.
    pub(crate) subscriptions: Subscriptions,
    /// What was published to them.
    pub(crate) publications: Publications,
    /// What was asked.
    pub(crate) requests: Requests,
    /// How the server ended, if it was asked to.
    pub(crate) drain: Option<Drain>,
    /// What is not as it should be, a sentence each.
    pub(crate) failures: Vec<String>,
}

/// Heartbeats.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Heartbeats {
    /// That every connection has had.
    pub(crate) rounds: u8,
    /// Seconds that they took.
    pub(crate) seconds: f64,
    /// All of them; more than rounds × connections, for some come early.
    pub(crate) pings: u64,
    /// Pings of the busiest second, by those of an average one.
    pub(crate) busiest_second: f64,
    /// Microseconds of the server's CPU per ping and its pong, if its process is known.
    pub(crate) cpu_us_per_ping: Option<f64>,
    /// The same per second and connection, at this interval between pings.
    pub(crate) cpu_us_per_second_and_connection: Option<f64>,
}

/// Subscriptions.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Subscriptions {
    /// Connections that subscribed, each to one channel.
    pub(crate) subscribers: u32,
    /// Channels.
    pub(crate) channels: u32,
    /// Until the last was confirmed.
    pub(crate) seconds: f64,
    /// User memory of the server that a subscription took, in bytes.
    pub(crate) user_bytes_per_subscriber: Option<f64>,
}

/// Published messages.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Publications {
    /// To all channels together.
    pub(crate) messages: u32,
    /// Those that came to a subscriber of their channel, each counted once.
    pub(crate) deliveries: u64,
    /// Until the last of them.
    pub(crate) seconds: f64,
    /// Deliveries that did not come.
    pub(crate) lost: u64,
    /// That came again.
    pub(crate) doubled: u64,
    /// That came after a later one.
    pub(crate) reordered: u64,
    /// That came to others.
    pub(crate) strayed: u64,
}

/// Requests.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Requests {
    /// Connections that asked, once each.
    pub(crate) count: u32,
    /// Those that got no answer.
    pub(crate) unanswered: u32,
    /// From the request to its answer.
    pub(crate) latency: LatencySummary,
}

/// The end of the server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Drain {
    /// Connections that ended after close frames in both directions.
    pub(crate) closed: u32,
    /// The server's close codes, and how many connections got each.
    pub(crate) codes: BTreeMap<u16, u32>,
    /// From SIGTERM to the end of the last connection.
    pub(crate) seconds: f64,
}

impl Heartbeats {
    pub(super) fn new(rounds: u8, pings: u64, busiest_second: f64, connections: u32, usage: &Usage) -> Self {
        let cpu_us_per_ping = usage.server.as_ref().map(|server| server.cpu_us_per_message);
        let per_second = pings as f64 / usage.seconds / f64::from(connections);
        Self {
            rounds,
            seconds: usage.seconds,
            pings,
            busiest_second,
            cpu_us_per_ping,
            cpu_us_per_second_and_connection: cpu_us_per_ping.map(|cpu| cpu * per_second),
        }
    }

    /// Seconds between two pings of a connection.
    pub(crate) fn interval_seconds(&self) -> f64 {
        self.seconds / f64::from(self.rounds)
    }
}

impl Publications {
    pub(super) fn new(plan: Plan, messages: u32, deliveries: u64, faults: Faults, seconds: f64) -> Self {
        let Faults { doubled, reordered, strayed } = faults;
        Self { messages, deliveries, seconds, lost: plan.deliveries() - deliveries, doubled, reordered, strayed }
    }
}

/// What is not as it should be.
pub(super) fn failures(
    options: &HoldOptions,
    weight: &IdleMemory,
    publications: &Publications,
    requests: &Requests,
    drain: Option<&Drain>,
) -> Vec<String> {
    let mut failures = memory_failures(options, weight);
    let left = drain.map_or(0, |drain| options.connections - drain.closed);
    for (count, what) in [
        (publications.lost, "published messages were lost"),
        (publications.doubled, "published messages came twice"),
        (publications.reordered, "published messages came after later ones"),
        (publications.strayed, "published messages came to connections that are not subscribed to their channel"),
        (u64::from(requests.unanswered), "requests were not answered"),
        (u64::from(left), "connections were not closed when the server ended; see its shutdown_timeout"),
    ] {
        if count > 0 {
            failures.push(format!("{count} {what}"));
        }
    }
    failures
}

/// What a connection costs too much, or that nobody knows.
fn memory_failures(options: &HoldOptions, weight: &IdleMemory) -> Vec<String> {
    let user = weight.user.as_ref().map(|user| user.marginal_bytes_per_connection);
    let kernel = weight.kernel.server_end_bytes.filter(|_| !weight.kernel.disturbed);
    [
        memory_failure("user", options.user_bytes_max, user, "name the server's process by --server-pid"),
        memory_failure(
            "kernel",
            options.kernel_bytes_max,
            kernel,
            "run as root, with a --calibration, on a machine that has no other connections",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn memory_failure(kind: &str, most: Option<u32>, bytes: Option<f64>, advice: &str) -> Option<String> {
    let most = most?;
    match bytes {
        None => Some(format!("the {kind} memory of a connection could not be measured: {advice}")),
        Some(bytes) if bytes > f64::from(most) => {
            Some(format!("a connection costs {bytes:.0} bytes of {kind} memory, and should cost {most} at most"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_is_kept_or_named() {
        let failure = |most, bytes| memory_failure("user", most, bytes, "name the process").unwrap_or_default();
        assert_eq!(failure(None, None), "");
        assert_eq!(failure(None, Some(1e6)), "");
        assert_eq!(failure(Some(200), Some(200.0)), "");
        assert!(failure(Some(200), Some(203.4)).contains("203 bytes of user memory, and should cost 200"));
        assert!(failure(Some(200), None).contains("could not be measured: name the process"));
    }
}
