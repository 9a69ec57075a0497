//! Memory of the host and of the cgroups above the process.

use super::Examination;
use super::expression::{ExpressionError, Variables};
use super::knobs::{Knob, TableError};
use super::report::{Check, Verdict};

impl Examination<'_> {
    pub(super) fn memory(&self, knob: &Knob) -> Result<Check, TableError> {
        let available = self.host.meminfo("MemAvailable");
        self.judge_memory(knob, available, "unknown", "more memory, or fewer connections")
    }

    pub(super) fn cgroup(&self, knob: &Knob) -> Result<Check, TableError> {
        self.judge_memory(knob, self.host.cgroup_room(), "no limit", "raise memory.max (MemoryMax= in the unit)")
    }

    fn judge_memory(&self, knob: &Knob, room: Option<u64>, none: &str, mend: &str) -> Result<Check, TableError> {
        let wanted = knob.wanted(self)?.first().copied().unwrap_or_default().cast_unsigned();
        let Some(room) = room else { return Ok(knob.pass(none, gibibytes(wanted))) };
        let check = knob.pass(gibibytes(room), gibibytes(wanted));
        if room >= wanted {
            return Ok(check);
        }
        let missed = knob.needed(self)?.is_some_and(|needed| room < needed.cast_unsigned());
        Ok(check.but(if missed { Verdict::Fail } else { Verdict::Warn }, mend.to_owned()))
    }

    /// Connections that so many bytes hold. What a knob needs grows by the same for each.
    pub(super) fn connections_in(&self, knob: &Knob, bytes: u64) -> Result<u64, ExpressionError> {
        let needed = |connections: i64| {
            let variables = |name| if name == 'N' { Some(connections) } else { self.value(name) };
            Ok::<_, ExpressionError>(knob.needed(&variables)?.unwrap_or_default().cast_unsigned())
        };
        let (none, one) = (needed(0)?, needed(1)?);
        Ok(bytes.saturating_sub(none) / one.saturating_sub(none).max(1))
    }
}

fn gibibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let value = bytes as f64 / f64::from(1 << 30);
    format!("{value:.2} GiB")
}
