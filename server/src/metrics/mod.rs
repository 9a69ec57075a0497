//! What is counted, in the text format of Prometheus.
//!
//! Names follow its conventions: base units, `_total` for what only counts. No label names a user, a channel or an
//! address: there would be too many, and whoever sees the metrics need not know them.

mod counters;
mod process;
mod text;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use crore_engine::{CoreId, EngineHandle, Memory, Response, Room, Stats};

pub(crate) use self::counters::{CoreCounters, Counter, Histogram, Observed, Peak};
use self::counters::{MESSAGE_BYTES, ROUND_TRIP_US};
pub(crate) use self::process::Usage;
use self::text::Text;
use crate::auth::Auth;
use crate::control::Jobs;
use crate::inbound::WaitingBytes;
use crate::node::Node;
use crate::rate_limit::{RateLimiter, UserNumbers};
use crate::webhook::Webhook;

/// The `Content-Type` of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers of the engine that go down as well as up; the others only count.
const GAUGES: [&str; 4] = ["connections", "connections_open", "connections_hot", "topics"];

/// What the server counts beside the engine.
#[derive(Debug)]
pub(crate) struct Metrics {
    cores: Box<[CoreCounters]>,
    waiting: Box<[Arc<WaitingBytes>]>,
    pub(crate) peak: Peak,
    /// Connections of the server API that had to make room; the control thread counts them.
    pub(crate) api_evicted: Arc<Counter>,
}

impl Metrics {
    /// Nothing yet, on so many cores.
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| CoreCounters::default()).collect(),
            waiting: (0..cores).map(|_| Arc::default()).collect(),
            peak: Peak::default(),
            api_evicted: Arc::default(),
        }
    }

    /// Messages that were answered with an error.
    pub(crate) fn errors(&self) -> u64 {
        self.sum(|core| &core.errors)
    }

    /// A counter of all cores.
    fn sum(&self, counter: fn(&CoreCounters) -> &Counter) -> u64 {
        self.cores.iter().map(|core| counter(core).read()).sum()
    }

    /// The counters of one core, for that core to write.
    pub(crate) fn core(&self, index: usize) -> &CoreCounters {
        &self.cores[index]
    }

    /// What waits on one core.
    pub(crate) fn waiting(&self, core: CoreId) -> &Arc<WaitingBytes> {
        &self.waiting[core.index()]
    }
}

/// All that a scrape reads.
pub(crate) struct Scrape<'s> {
    pub(crate) node: &'s Node,
    pub(crate) uptime: Duration,
    pub(crate) engine: &'s EngineHandle,
    /// What the engine has room for, once it has started.
    pub(crate) room: Option<&'s Room>,
    pub(crate) metrics: &'s Metrics,
    pub(crate) jobs: &'s Jobs,
    /// Nothing is shown of it where there is none.
    pub(crate) auth: Option<&'s Auth>,
    /// Nothing is shown of it where there is none.
    pub(crate) webhook: Option<&'s Webhook>,
    /// As with the webhook.
    pub(crate) rate_limiter: Option<&'s RateLimiter>,
}

impl Scrape<'_> {
    /// The answer of the engine's own port.
    pub(crate) fn response(&self) -> Response {
        Response {
            status: 200,
            content_type: CONTENT_TYPE.into(),
            headers: vec![("Cache-Control".into(), "no-store".into())],
            body: self.render().into_bytes().into(),
        }
    }

    /// All metrics.
    pub(crate) fn render(&self) -> String {
        let mut text = Text::default();
        let Node { name, run } = self.node;
        let labels = format!("{{server=\"{name}\",run=\"{run}\"}}");
        text.family("crore_server_info", "gauge", "The server's name, and which run of it this is.", [(labels, 1)]);
        let (stats, memory) = (self.engine.stats_by_core(), self.engine.memory_by_core());
        engine(&mut text, &stats.iter().copied().sum(), &memory.iter().copied().sum());
        cores(&mut text, &stats, &memory);
        sessions(&mut text, self.metrics);
        if let Some(room) = self.room {
            bounds(&mut text, room, self.engine.cores());
        }
        let help = "Calls to the control thread that were refused because it had as many as it may.";
        text.counter("crore_control_refused_total", help, self.jobs.refused());
        if let Some(auth) = self.auth {
            let help = "Tokens refused because as many waited for a key to be fetched as may.";
            text.counter("crore_tokens_crowded_out_total", help, auth.crowded_out());
        }
        let help =
            "Silent connections of the server API that were closed for others, because all of its places were taken.";
        text.counter("crore_api_evicted_total", help, self.metrics.api_evicted.read());
        if let Some(webhook) = self.webhook {
            webhook::write(&mut text, &webhook.report());
        }
        if let Some(numbers) = self.rate_limiter.and_then(RateLimiter::user_numbers) {
            rate_limit(&mut text, &numbers);
        }
        text.gauge("crore_uptime_seconds", "Seconds since the start.", self.uptime.as_secs_f64());
        process::write(&mut text);
        text.finish()
    }
}

/// What the engine counts, and the bytes that it holds.
fn engine(text: &mut Text, stats: &Stats, memory: &Memory) {
    for (name, help, value) in stats.entries() {
        if GAUGES.contains(&name) {
            text.gauge(&format!("crore_{name}"), help, value);
        } else {
            text.counter(&format!("crore_{name}_total"), help, value);
        }
    }
    let classes = memory.classes().map(|(class, bytes)| (format!("{{class=\"{class}\"}}"), bytes));
    let help = "Bytes held for connections, by class; that of the kernel is an estimate.";
    text.family("crore_connection_memory_bytes", "gauge", help, classes);
}

/// How even the load is: the same for each core. Under names of their own, so that no sum counts anything twice.
fn cores(text: &mut Text, stats: &[Stats], memory: &[Memory]) {
    let by_core = |value: fn(&Stats) -> u64| {
        stats.iter().enumerate().map(move |(core, stats)| (format!("{{core=\"{core}\"}}"), value(stats)))
    };
    let help = "Connections that are open, by core.";
    text.family("crore_core_connections_open", "gauge", help, by_core(|stats| stats.connections_open));
    let help = "Messages received, by core.";
    text.family("crore_core_messages_received_total", "counter", help, by_core(|stats| stats.messages_received));
    let help = "Messages sent, by core.";
    text.family("crore_core_messages_sent_total", "counter", help, by_core(|stats| stats.messages_sent));
    let bytes = memory.iter().enumerate().map(|(core, memory)| (format!("{{core=\"{core}\"}}"), memory.total_bytes()));
    text.family("crore_core_memory_bytes", "gauge", "Bytes held for connections, by core.", bytes);
}

/// What the sessions count.
fn sessions(text: &mut Text, metrics: &Metrics) {
    let help = "The most connections that have been open at one time.";
    text.gauge("crore_connections_open_peak", help, metrics.peak.read());
    text.counter("crore_errors_total", "Messages that were answered with an error.", metrics.errors());
    let help = "Requests answered with 429 because their address had as many connections as it may.";
    text.counter("crore_refused_address_total", help, metrics.sum(|core| &core.refused_addresses));
    let help = "Publications that are kept for channels with a history.";
    text.gauge("crore_history_messages", help, metrics.sum(|core| &core.history_kept));
    let help = "Publications given up for want of room (`history.memory_max`, `history.channels_max`).";
    text.counter("crore_history_evicted_total", help, metrics.sum(|core| &core.history_evicted));
    homes(text, metrics);
    presence(text, metrics);
    let help = "Messages refused because their sender had sent too much.";
    text.counter("crore_messages_rate_limited_total", help, metrics.sum(|core| &core.rate_limited));
    let help = "Messages refused because their sender may not do what they asked for.";
    text.counter("crore_messages_forbidden_total", help, metrics.sum(|core| &core.forbidden));
    let help = "Subscriptions that have ended with the token that they were made with.";
    text.counter("crore_subscriptions_expired_total", help, metrics.sum(|core| &core.subscriptions_expired));
    let help = "Subscriptions that have ended because the user has shown another token, which does not allow them.";
    text.counter("crore_subscriptions_revoked_total", help, metrics.sum(|core| &core.subscriptions_revoked));
    let help = "Connections closed because their user has opened others in their place.";
    text.counter("crore_connections_replaced_total", help, metrics.sum(|core| &core.replaced));
    let help = "Times that others were told that somebody types.";
    text.counter("crore_typing_total", help, metrics.sum(|core| &core.typing));
    let help = "Times that others were not told that somebody types, because they had been told of late.";
    text.counter("crore_typing_throttled_total", help, metrics.sum(|core| &core.typing_throttled));
    text.counter("crore_read_receipts_total", "Read receipts handed on.", metrics.sum(|core| &core.receipts));
    let help = "Messages dropped because as many of their connection waited as may.";
    text.counter("crore_messages_overloaded_total", help, metrics.sum(|core| &core.overloaded));
    let help =
        "Messages refused because as many bytes waited on their core as may (`limits.waiting_bytes_per_core_max`).";
    text.counter("crore_waiting_refused_total", help, metrics.sum(|core| &core.waiting_refused));
    let help = "Bytes of messages that wait for a key, a backend or a handler, or behind one that does.";
    text.gauge("crore_waiting_bytes", help, metrics.waiting.iter().map(|core| core.read()).sum::<usize>());
    let help = "Times that a connection was not read from because as many of its messages waited as may.";
    text.counter("crore_inbound_pauses_total", help, metrics.sum(|core| &core.inbound_pauses));
    let observed = Observed::of(metrics.cores.iter().map(|core| &core.message_bytes));
    let help = "Payloads of the messages received; the average is the sum by the count.";
    text.histogram("crore_message_received_bytes", help, &MESSAGE_BYTES, 1, &observed);
    let observed = Observed::of(metrics.cores.iter().map(|core| &core.round_trip_us));
    let help = "From a heartbeat to its answer.";
    text.histogram("crore_ping_round_trip_seconds", help, &ROUND_TRIP_US, 1_000_000, &observed);
}

/// What the homes of channels are asked.
fn homes(text: &mut Text, metrics: &Metrics) {
    let help =
        "Answers from a history or a presence that were put off to another turn because of what had been handed out.";
    let deferred = metrics.sum(|core| &core.history_deferred) + metrics.sum(|core| &core.presence_deferred);
    text.counter("crore_home_deferred_total", help, deferred);
    let help =
        "Messages answered with busy because as many of their connection waited for the homes of channels as may.";
    text.counter("crore_home_refused_total", help, metrics.sum(|core| &core.homes_refused));
    let help = "Messages answered with busy because the home of their channel had not answered in time.";
    text.counter("crore_home_timeouts_total", help, metrics.sum(|core| &core.home_timeouts));
}

/// Who is known to be in channels.
fn presence(text: &mut Text, metrics: &Metrics) {
    let help = "Connections known to be in channels with a presence; one that is in two is two.";
    text.gauge("crore_presence_entries", help, metrics.sum(|core| &core.presence_entries));
    let help = "Messages that told the subscribers of a channel who has come and gone.";
    text.counter("crore_presence_events_total", help, metrics.sum(|core| &core.presence_events));
    let help = "Users that came to a channel or left it and had no message of their own for that.";
    text.counter("crore_presence_coalesced_total", help, metrics.sum(|core| &core.presence_coalesced));
    let help = "Subscribers that are not shown for want of room (`presence.memory_max`).";
    text.counter("crore_presence_refused_total", help, metrics.sum(|core| &core.presence_refused));
}

/// What is remembered of users whose rate is limited.
fn rate_limit(text: &mut Text, numbers: &UserNumbers) {
    let help = "Users whose rate is limited and that have sent something of late.";
    text.gauge("crore_rate_limit_users", help, numbers.users);
    let help =
        "Messages of users that were counted against their connection for want of room (`rate_limit.users_max`).";
    text.counter("crore_rate_limit_unkept_total", help, numbers.unkept);
}

/// What there is room for.
fn bounds(text: &mut Text, room: &Room, cores: usize) {
    let connections_max = u64::from(room.connections_per_core_max) * cores as u64;
    let help = "Connections that there is room for, on all cores together.";
    text.gauge("crore_connections_max", help, connections_max);
    let help = "Bytes that connections may take, by the count of crore_connection_memory_bytes.";
    text.gauge("crore_memory_budget_bytes", help, room.memory_budget_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::HistoryNumbers;
    use crate::presence::PresenceNumbers;

    fn render() -> String {
        let mut text = Text::default();
        engine(&mut text, &Stats::default(), &Memory::default());
        cores(&mut text, &[Stats::default(); 2], &[Memory::default(); 2]);
        let metrics = Metrics::new(2);
        metrics.core(1).message(100);
        metrics.core(1).refused_addresses.add(3);
        metrics.core(0).note_history(HistoryNumbers { kept: 2, evicted: 5, deferred: 3 });
        metrics.core(1).note_history(HistoryNumbers { kept: 4, evicted: 0, deferred: 1 });
        metrics.core(0).homes_refused.add(8);
        metrics.core(1).home_timeouts.add(9);
        let numbers = PresenceNumbers { entries: 5, events: 2, coalesced: 7, refused: 1, deferred: 6 };
        metrics.core(0).note_presence(numbers);
        metrics.core(1).note_presence(numbers);
        metrics.core(0).rate_limited.add(3);
        metrics.core(1).rate_limited.add(4);
        metrics.core(0).overloaded.add(5);
        metrics.core(1).inbound_pauses.add(6);
        metrics.core(1).waiting_refused.add(7);
        sessions(&mut text, &metrics);
        process::write(&mut text);
        text.finish()
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_the_family_before_it() {
        let text = render();
        let (mut family, mut kind) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.split(' ');
                let (keyword, name) = (words.next().unwrap(), words.next().unwrap());
                kind = words.next().unwrap().to_owned();
                assert!(keyword == "TYPE" && name == family || keyword == "HELP", "{line}");
                family = name.to_owned();
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            let part = name.strip_prefix(family.as_str()).expect(line);
            assert!(part.is_empty() || kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&part), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn classes_are_labels_counters_are_totals_and_gauges_are_not() {
        let text = render();
        for line in [
            "crore_connection_memory_bytes{class=\"outbox\"} 0",
            "crore_connection_memory_bytes{class=\"kernel\"} 0",
            "# TYPE crore_refused_memory_total counter",
            "crore_closed_memory_total 0",
            "crore_core_memory_bytes{core=\"1\"} 0",
            "crore_message_received_bytes_bucket{le=\"256\"} 1",
            "crore_message_received_bytes_sum 100",
            "crore_refused_address_total 3",
            "crore_history_messages 6",
            "crore_history_evicted_total 5",
            "crore_messages_rate_limited_total 7",
            "crore_messages_overloaded_total 5",
            "crore_inbound_pauses_total 6",
            "crore_waiting_refused_total 7",
            "crore_waiting_bytes 0",
            "crore_presence_entries 10",
            "crore_presence_events_total 4",
            "crore_presence_coalesced_total 14",
            "crore_presence_refused_total 2",
            "crore_home_deferred_total 16",
            "crore_home_refused_total 8",
            "crore_home_timeouts_total 9",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in:\n{text}");
        }
        for gauge in GAUGES {
            assert!(text.contains(&format!("# TYPE crore_{gauge} gauge\n")), "{gauge}");
        }
    }
}
