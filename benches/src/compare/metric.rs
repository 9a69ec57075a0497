//! The figures that servers are compared by.

use crate::cli::ScenarioName;
use crate::scenario::Outcome;

/// One figure of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Server CPU per message, µs.
    CpuPerMessage,
    /// Messages per second.
    PerSecond,
    /// Median latency, µs.
    P50,
    /// 99th percentile of latency, µs.
    P99,
    /// 99.9th percentile of latency, µs.
    P999,
    /// How busy the server was, percent of one core.
    ServerBusy,
    /// How busy the client was, percent of its core.
    ClientBusy,
    /// Receives that the client found per turn.
    ClientBatch,
    /// Resident set of the server at the end, MiB.
    Rss,
    /// User memory per idle connection, bytes.
    UserBytes,
    /// The same for the second half of them alone.
    UserBytesMarginal,
    /// Kernel memory of the server's end of an idle connection, bytes.
    KernelBytes,
    /// Kernel memory of both ends.
    KernelBytesBothEnds,
}

impl Metric {
    /// The figures of a scenario; the first is the one that matters most.
    pub(crate) fn of(scenario: ScenarioName) -> &'static [Self] {
        match scenario {
            ScenarioName::Echo | ScenarioName::Fanout | ScenarioName::Connect => &[
                Self::CpuPerMessage,
                Self::PerSecond,
                Self::P50,
                Self::P99,
                Self::P999,
                Self::ServerBusy,
                Self::ClientBusy,
                Self::ClientBatch,
                Self::Rss,
            ],
            ScenarioName::Idle => {
                &[Self::UserBytes, Self::UserBytesMarginal, Self::KernelBytes, Self::KernelBytesBothEnds, Self::Rss]
            }
        }
    }

    /// The figures of a scenario that are plotted.
    pub(crate) fn plotted(scenario: ScenarioName) -> &'static [Self] {
        match scenario {
            ScenarioName::Idle => &[Self::UserBytes, Self::KernelBytes],
            _ => &[Self::CpuPerMessage, Self::PerSecond],
        }
    }

    /// Its value, if the outcome has it.
    pub(crate) fn value(self, outcome: &Outcome) -> Option<f64> {
        let server = outcome.usage.server.as_ref();
        let idle = outcome.idle.as_ref();
        let user = idle.and_then(|idle| idle.user.as_ref());
        let kernel = idle.map(|idle| &idle.kernel).filter(|kernel| !kernel.disturbed);
        match self {
            Self::CpuPerMessage => server.map(|server| server.cpu_us_per_message),
            Self::PerSecond => Some(outcome.per_second),
            Self::P50 => Some(outcome.latency.p50_us),
            Self::P99 => Some(outcome.latency.p99_us),
            Self::P999 => Some(outcome.latency.p999_us),
            Self::ServerBusy => server.map(|server| server.busy_percent),
            Self::ClientBusy => Some(outcome.usage.client.busy_percent),
            Self::ClientBatch => Some(outcome.client_receives_per_turn),
            Self::Rss => server.map(|server| server.memory.rss_bytes as f64 / (1 << 20) as f64),
            Self::UserBytes => user.map(|user| user.bytes_per_connection),
            Self::UserBytesMarginal => user.map(|user| user.marginal_bytes_per_connection),
            Self::KernelBytes => kernel.and_then(|kernel| kernel.server_end_bytes),
            Self::KernelBytesBothEnds => kernel.and_then(|kernel| kernel.both_ends_bytes),
        }
    }

    /// As a heading, with its unit. `unit` is what the scenario counts.
    pub(crate) fn title(self, unit: &str) -> String {
        match self {
            Self::CpuPerMessage => format!("server CPU, µs/{unit}"),
            Self::PerSecond => format!("{}/s", plural(unit)),
            Self::P50 => "p50, µs".into(),
            Self::P99 => "p99, µs".into(),
            Self::P999 => "p99.9, µs".into(),
            Self::ServerBusy => "server busy, %".into(),
            Self::ClientBusy => "client busy, %".into(),
            Self::ClientBatch => "client batch".into(),
            Self::Rss => "server RSS, MiB".into(),
            Self::UserBytes => "user memory, B/connection".into(),
            Self::UserBytesMarginal => "second half alone, B/connection".into(),
            Self::KernelBytes => "kernel, server's end, B/connection".into(),
            Self::KernelBytesBothEnds => "kernel, both ends, B/connection".into(),
        }
    }

    /// Whether the servers are divided by the base in this figure.
    pub(crate) fn is_compared(self) -> bool {
        !matches!(self, Self::ServerBusy | Self::ClientBusy | Self::ClientBatch | Self::Rss | Self::KernelBytesBothEnds)
    }

    /// Three significant digits, and thousands apart.
    pub(crate) fn format(value: f64) -> String {
        let digits = match value.abs() {
            0.0..1.0 => 3,
            1.0..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        let text = format!("{value:.digits$}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
        let mut grouped = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        if fraction.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{fraction}") }
    }
}

/// `messages`, `deliveries`, `connections`.
pub(crate) fn plural(unit: &str) -> String {
    unit.strip_suffix('y').map_or_else(|| format!("{unit}s"), |stem| format!("{stem}ies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in [
            (0.3216, "0.322"),
            (5.041, "5.04"),
            (99.94, "99.9"),
            (203_456.7, "203,457"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (-12_345.6, "-12,346"),
            (0.0, "0.000"),
        ] {
            assert_eq!(Metric::format(value), text);
        }
    }
}
