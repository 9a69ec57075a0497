//! What the engine counts, in the text format of Prometheus (version 0.0.4).

use std::fmt::{Display, Write};
use std::time::Duration;

use crore_engine::{Memory, Response, Room, Stats};

/// The `Content-Type` of the format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers of the engine that go down as well as up; the others only count.
const GAUGES: [&str; 4] = ["connections", "connections_open", "connections_hot", "topics"];

/// What the engine found that it has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    connections_max: u64,
    memory_budget_bytes: u64,
}

impl Bounds {
    /// The room of so many cores.
    pub(crate) fn new(room: &Room, cores: usize) -> Self {
        Self {
            connections_max: u64::from(room.connections_per_core_max) * cores as u64,
            memory_budget_bytes: room.memory_budget_bytes,
        }
    }
}

/// The answer to a scrape.
pub(crate) fn response(uptime: Duration, stats: &Stats, memory: &Memory, bounds: Option<Bounds>) -> Response {
    Response {
        status: 200,
        content_type: CONTENT_TYPE.into(),
        headers: vec![("Cache-Control".into(), "no-store".into())],
        body: render(uptime, stats, memory, bounds).into_bytes().into(),
    }
}

fn render(uptime: Duration, stats: &Stats, memory: &Memory, bounds: Option<Bounds>) -> String {
    let mut text = String::new();
    for (name, help, value) in stats.entries() {
        if GAUGES.contains(&name) {
            family(&mut text, &format!("crore_{name}"), "gauge", help, [("", value)]);
        } else {
            family(&mut text, &format!("crore_{name}_total"), "counter", help, [("", value)]);
        }
    }
    let classes: Vec<_> = memory.classes().map(|(class, bytes)| (format!("{{class=\"{class}\"}}"), bytes)).collect();
    let help = "Bytes held for connections, by class; that of the kernel is an estimate.";
    family(&mut text, "crore_connection_memory_bytes", "gauge", help, classes);
    if let Some(Bounds { connections_max, memory_budget_bytes }) = bounds {
        let help = "Connections that there is room for, on all cores together.";
        family(&mut text, "crore_connections_max", "gauge", help, [("", connections_max)]);
        let help = "Bytes that connections may take, by the count of crore_connection_memory_bytes.";
        family(&mut text, "crore_memory_budget_bytes", "gauge", help, [("", memory_budget_bytes)]);
    }
    family(&mut text, "crore_uptime_seconds", "gauge", "Seconds since the start.", [("", uptime.as_secs_f64())]);
    text
}

/// A metric with its values, each behind its labels.
fn family<L: Display, V: Display>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, V)>,
) {
    // To write into a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { connections_max: 12, memory_budget_bytes: 4096 };

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_the_family_before_it() {
        let text = render(Duration::from_millis(1500), &Stats::default(), &Memory::default(), Some(BOUNDS));
        let mut family = String::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.split(' ');
                let (keyword, name) = (words.next().unwrap(), words.next().unwrap());
                assert!(keyword == "TYPE" && name == family || keyword == "HELP" && words.next().is_some(), "{line}");
                family = name.to_owned();
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next(), Some(family.as_str()), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn classes_are_labels_counters_are_totals_and_gauges_are_not() {
        let text = render(Duration::ZERO, &Stats::default(), &Memory::default(), Some(BOUNDS));
        for line in [
            "crore_connection_memory_bytes{class=\"outbox\"} 0",
            "crore_connection_memory_bytes{class=\"kernel\"} 0",
            "# TYPE crore_refused_memory_total counter",
            "crore_closed_memory_total 0",
            "crore_connections_max 12",
            "crore_memory_budget_bytes 4096",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in:\n{text}");
        }
        for gauge in GAUGES {
            assert!(text.contains(&format!("# TYPE crore_{gauge} gauge\n")), "{gauge}");
        }
    }
}
