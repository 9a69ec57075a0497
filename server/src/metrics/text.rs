//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use super::counters::Observed;

/// A page of metrics being written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// A number that goes down as well as up.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help, [("", value)]);
    }

    /// A number that only counts.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help, [("", value)]);
    }

    /// A metric with its values, each behind its labels.
    pub(super) fn family<L: Display, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.head(name, kind, help);
        for (labels, value) in values {
            self.line(format_args!("{name}{labels} {value}"));
        }
    }

    /// Observations by class; `unit` is how many of what was counted make one of what the name says.
    pub(super) fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[u64; N],
        unit: u64,
        observed: &Observed<N>,
    ) {
        let scaled = |value: u64| value as f64 / unit as f64;
        self.head(name, "histogram", help);
        let mut count = 0;
        for (bound, observations) in bounds.iter().zip(observed.classes) {
            count += observations;
            self.line(format_args!("{name}_bucket{{le=\"{}\"}} {count}", scaled(*bound)));
        }
        count += observed.above;
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {}", scaled(observed.sum)));
        self.line(format_args!("{name}_count {count}"));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // To write into a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulated_and_in_its_unit() {
        let mut text = Text::default();
        let observed = Observed { classes: [2, 3], above: 1, sum: 7_500 };
        text.histogram("a_seconds", "Help.", &[500, 1_000], 1_000, &observed);
        assert_eq!(
            text.finish(),
            "# HELP a_seconds Help.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"0.5\"} 2\n\
             a_seconds_bucket{le=\"1\"} 5\na_seconds_bucket{le=\"+Inf\"} 6\na_seconds_sum 7.5\na_seconds_count 6\n"
        );
    }
}
