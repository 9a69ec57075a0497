//! The table of held connections, on a terminal and as a page.

use std::fmt::Write;
use std::path::Path;

use super::markdown::{place, settings};
use super::{ReportError, write_file};
use crate::compare::Metric;
use crate::environment::Environment;
use crate::scenario::{HoldOutcome, Outcome};

/// What was measured, line by line.
fn rows(outcome: &Outcome, hold: &HoldOutcome) -> Vec<(&'static str, String)> {
    let format = Metric::format;
    let bytes = |value: Option<f64>| value.map_or_else(|| "not measured".to_owned(), |bytes| format!("{bytes:.0} B"));
    let HoldOutcome { heartbeats, subscriptions, publications, requests, .. } = hold;
    let idle = outcome.idle.as_ref();
    let user = idle.and_then(|idle| idle.user.as_ref());
    let kernel = idle.map(|idle| &idle.kernel);
    let mut rows = vec![
        ("connections", outcome.count.to_string()),
        ("opened in", seconds(hold.opening_seconds)),
        ("user memory per connection", bytes(user.map(|user| user.bytes_per_connection))),
        ("of the second half alone", bytes(user.map(|user| user.marginal_bytes_per_connection))),
        ("kernel memory per connection, server's end", bytes(kernel.and_then(|kernel| kernel.server_end_bytes))),
        ("of both ends", bytes(kernel.and_then(|kernel| kernel.both_ends_bytes))),
        ("heartbeats", {
            let (rounds, pings) = (heartbeats.rounds, heartbeats.pings);
            format!("{pings} in {rounds} rounds of {}", seconds(heartbeats.interval_seconds()))
        }),
        ("busiest second of them", format!("{:.2} × an average one", heartbeats.busiest_second)),
    ];
    if let (Some(ping), Some(second)) = (heartbeats.cpu_us_per_ping, heartbeats.cpu_us_per_second_and_connection) {
        let text = format!("{} µs per second and connection ({} µs per ping)", format(second), format(ping));
        rows.push(("server CPU while idle", text));
    }
    rows.extend([
        ("subscribed", {
            let (subscribers, channels) = (subscriptions.subscribers, subscriptions.channels);
            format!("{subscribers} connections to {channels} channels in {}", seconds(subscriptions.seconds))
        }),
        ("user memory per subscription", bytes(subscriptions.user_bytes_per_subscriber)),
        ("published", {
            let (messages, deliveries) = (publications.messages, publications.deliveries);
            format!("{messages} messages, {deliveries} deliveries in {}", seconds(publications.seconds))
        }),
        ("lost, doubled, reordered, strayed messages", {
            let publications = [publications.lost, publications.doubled, publications.reordered, publications.strayed];
            publications.map(|count| count.to_string()).join(", ")
        }),
        ("requests answered", format!("{} of {}", requests.count - requests.unanswered, requests.count)),
    ]);
    if let Some(drain) = &hold.drain {
        let codes: Vec<String> = drain.codes.iter().map(|(code, count)| format!("{count} by code {code}")).collect();
        rows.push(("closed by the server", format!("{} in {}", codes.join(", "), seconds(drain.seconds))));
    }
    rows
}

fn seconds(value: f64) -> String {
    format!("{value:.1} s")
}

/// For a terminal.
pub(super) fn terminal(outcome: &Outcome, hold: &HoldOutcome) -> String {
    let mut text = String::new();
    for (label, value) in rows(outcome, hold) {
        let _ = writeln!(text, "{label:<42}  {value}");
    }
    text
}

/// Writes a page.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write(
    path: &Path,
    environment: &Environment,
    outcome: &Outcome,
    hold: &HoldOutcome,
) -> Result<(), ReportError> {
    write_file(path, &page(environment, outcome, hold))
}

const METHOD: &str = "
User memory is the growth of the server's resident set, and kernel memory that of the slab caches of sockets and io_uring, without
what the client's ends cost. Every message has a number and was looked for at every connection. How this is done stands in
benches/README.md (`hold`); `results.json` has every figure. Times and CPU are those of the machine below: of an emulated
processor they say little.

";

fn page(environment: &Environment, outcome: &Outcome, hold: &HoldOutcome) -> String {
    let mut text = format!("# {} connections held, {}\n\n| | |\n|---|---|\n", outcome.count, environment.date());
    for (label, value) in rows(outcome, hold) {
        let _ = writeln!(text, "| {label} | {value} |");
    }
    if !hold.failures.is_empty() {
        text.push_str("\nNot as it should be:\n\n");
    }
    for failure in &hold.failures {
        let _ = writeln!(text, "- {failure}");
    }
    text.push_str(METHOD);
    text.push_str(&place(environment));
    text.push_str(&settings(environment));
    text
}
