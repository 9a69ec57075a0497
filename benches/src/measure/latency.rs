//! Latency, in an HDR histogram.
//!
//! A closed loop sends when the answer to its last message has come, so that a server which
//! stalls is simply asked less: its latencies say what one waiting client saw. An open loop sends by
//! a [`Schedule`], and each message is measured from the moment at which it *should* have left;
//! a stall is then charged to every message that it delayed, whether the delay was in the server
//! or in front of it.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above this are recorded as this: one minute, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Significant decimal digits that the histogram keeps.
const DIGITS: u8 = 3;

/// The percentiles of the curve in a report.
const CURVE_PERCENTILES: [f64; 18] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999];

/// Recorded latencies.
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the bounds are constants");
        Self { histogram }
    }
}

impl Latencies {
    /// Records one latency.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    /// Forgets everything: the warm-up is over.
    pub(crate) fn reset(&mut self) {
        self.histogram.reset();
    }

    /// The figures of a report, in microseconds.
    pub(crate) fn summary(&self) -> LatencySummary {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let at = |percentile| microseconds(self.histogram.value_at_percentile(percentile));
        LatencySummary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean() / 1000.0,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: microseconds(self.histogram.max()),
            curve: CURVE_PERCENTILES.iter().map(|&percentile| [percentile, at(percentile)]).collect(),
        }
    }
}

/// Latency in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    /// Latencies recorded.
    pub(crate) count: u64,
    /// Arithmetic mean.
    pub(crate) mean_us: f64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 90th percentile.
    pub(crate) p90_us: f64,
    /// 99th percentile.
    pub(crate) p99_us: f64,
    /// 99.9th percentile.
    pub(crate) p999_us: f64,
    /// The largest.
    pub(crate) max_us: f64,
    /// Pairs of percentile and latency, for plots.
    pub(crate) curve: Vec<[f64; 2]>,
}

/// When the messages of an open loop are due: evenly spaced, dealt to the connections in turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    start_ns: u64,
    interval_ns: f64,
    connections: u64,
}

impl Schedule {
    /// `rate` messages per second in total over `connections`, the first at `start_ns`.
    pub(crate) fn new(start_ns: u64, rate: f64, connections: u32) -> Self {
        Self { start_ns, interval_ns: 1e9 / rate, connections: u64::from(connections) }
    }

    /// Everything that was due later is due later by so much.
    pub(crate) const fn postpone(&mut self, ns: u64) {
        self.start_ns += ns;
    }

    /// When message `index` of all is due.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a run lasts no 2^53 nanoseconds")]
    pub(crate) fn due_ns(&self, index: u64) -> u64 {
        self.start_ns + (index as f64 * self.interval_ns) as u64
    }

    /// When message `sequence` of connection `connection` is due.
    pub(crate) fn due_on_connection_ns(&self, connection: u32, sequence: u32) -> u64 {
        self.due_ns(u64::from(sequence) * self.connections + u64::from(connection))
    }

    /// The connection whose turn message `index` is.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a division by 32 bits")]
    pub(crate) fn connection(&self, index: u64) -> u32 {
        (index % self.connections) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latencies = Latencies::default();
        for microseconds in 1..=1000 {
            latencies.record(microseconds * 1000);
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 1000);
        for (value, expected) in [(summary.p50_us, 500.0), (summary.p99_us, 990.0), (summary.max_us, 1000.0)] {
            assert!((value / expected - 1.0).abs() < 0.002, "{value} is not {expected}");
        }
        assert!(summary.curve.windows(2).all(|pair| pair[0][1] <= pair[1][1]));
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_its_end() {
        let mut latencies = Latencies::default();
        latencies.record(u64::MAX);
        assert!(latencies.summary().max_us >= 59_999_000.0);
        latencies.reset();
        assert_eq!(latencies.summary().count, 0);
    }

    #[test]
    fn a_schedule_deals_messages_in_turn_at_the_rate() {
        let schedule = Schedule::new(5_000, 1_000_000.0, 3);
        assert_eq!(schedule.due_ns(0), 5_000);
        assert_eq!(schedule.due_ns(1_000_000), 5_000 + 1_000_000_000);
        assert_eq!(schedule.connection(7), 1);
        assert_eq!(schedule.due_on_connection_ns(1, 2), schedule.due_ns(7));
    }

    /// One connection, 1,000 messages a second, answers take 10 µs, and the server stands still from
    /// 2 s to 3 s of a run of ten seconds. A closed loop has one bad latency to show for it; the open
    /// loop has a thousand, spread evenly up to one second.
    #[test]
    fn a_stall_is_charged_to_every_message_that_it_delays() {
        let schedule = Schedule::new(0, 1000.0, 1);
        let mut latencies = Latencies::default();
        for index in 0..10_000 {
            let due = schedule.due_ns(index);
            let leaves = if (2_000_000_000..3_000_000_000).contains(&due) { 3_000_000_000 } else { due };
            latencies.record(leaves + 10_000 - due);
        }
        let summary = latencies.summary();
        assert!((summary.p50_us - 10.0).abs() < 0.1, "{summary:?}");
        // Ten percent of the messages were due in the stall; half of those waited half a second.
        let p95 = summary.curve.iter().find(|point| point[0] == 95.0).expect("on the curve")[1];
        assert!((p95 / 500_000.0 - 1.0).abs() < 0.01, "{summary:?}");
        assert!((summary.p999_us / 990_000.0 - 1.0).abs() < 0.01, "{summary:?}");
    }
}
