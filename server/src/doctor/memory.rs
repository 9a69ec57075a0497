//! Memory of the host, of the cgroups above the process, and the server's budget of it.

use crore_engine::Bound as EngineBound;

use super::Examination;
use super::expression::{ExpressionError, Variables};
use super::knobs::{Knob, TableError};
use super::report::{Check, Verdict};

impl Examination<'_> {
    pub(super) fn memory(&self, knob: &Knob) -> Result<Check, TableError> {
        self.judge_memory(knob, self.memory.available_bytes, "unknown", "more memory, or fewer connections")
    }

    pub(super) fn cgroup(&self, knob: &Knob) -> Result<Check, TableError> {
        self.judge_memory(knob, self.memory.cgroup_bytes, "no limit", "raise memory.max (MemoryMax= in the unit)")
    }

    fn judge_memory(&self, knob: &Knob, room: Option<u64>, none: &str, mend: &str) -> Result<Check, TableError> {
        let wanted = self.wanted_number(knob)?;
        let Some(room) = room else { return Ok(knob.pass(none, gibibytes(wanted))) };
        let check = knob.pass(gibibytes(room), gibibytes(wanted));
        if room >= wanted {
            return Ok(check);
        }
        let missed = knob.needed(self)?.is_some_and(|needed| room < needed.cast_unsigned());
        Ok(check.but(if missed { Verdict::Fail } else { Verdict::Warn }, mend.to_owned()))
    }

    /// The budget of the server, by the engine's own arithmetic.
    pub(super) fn memory_budget(&self, knob: &Knob) -> Result<Check, TableError> {
        let wanted = self.wanted_number(knob)?;
        let budget = self.resources().memory_budget_bytes(&self.question.limits);
        let set = self.question.limits.memory_budget_bytes.is_some();
        if budget == u64::MAX {
            return Ok(knob.pass("unknown", gibibytes(wanted)));
        }
        let from = if set { "as it is set" } else { "80 % of what there is" };
        let check = knob.pass(format!("{} ({from})", gibibytes(budget)), gibibytes(wanted));
        let missed = self.engine_room(EngineBound::Memory).is_some_and(|room| room < self.question.connections);
        let mend = if set {
            let mebibytes = wanted.div_ceil(1 << 20);
            format!("export CRORE_MEMORY_BUDGET={mebibytes}MiB   # or memory_budget in the configuration")
        } else {
            "more memory, or fewer connections; or memory_budget, if others need less of it than a fifth".to_owned()
        };
        Ok(match missed {
            true => check.but(Verdict::Fail, mend),
            false if budget < wanted => check.but(Verdict::Warn, mend),
            false => check,
        })
    }

    /// The server's own bound on connections.
    pub(super) fn connections_per_core_max(&self, knob: &Knob) -> Result<Check, TableError> {
        let wanted = self.wanted_number(knob)?;
        let Some(have) = self.question.limits.connections_per_core_max else { return Ok(knob.pass("not set", "")) };
        let check = knob.pass(have.to_string(), wanted.to_string());
        if u64::from(have) >= wanted {
            return Ok(check);
        }
        let missed = self.engine_room(EngineBound::Setting).is_some_and(|room| room < self.question.connections);
        let mend = format!(
            "export CRORE_LIMITS_CONNECTIONS_PER_CORE_MAX={wanted}   # or {} in the configuration, or without it",
            knob.name
        );
        Ok(check.but(if missed { Verdict::Fail } else { Verdict::Warn }, mend))
    }

    /// The first of the values that a knob wants.
    pub(super) fn wanted_number(&self, knob: &Knob) -> Result<u64, TableError> {
        Ok(knob.wanted(self)?.first().copied().unwrap_or_default().cast_unsigned())
    }

    /// Connections that so many bytes hold. What a knob needs grows by the same for each.
    pub(super) fn connections_in(&self, knob: &Knob, bytes: Option<u64>) -> Result<Option<u64>, TableError> {
        let needed = |connections: i64| {
            let variables = |name| if name == 'N' { Some(connections) } else { self.value(name) };
            Ok::<_, ExpressionError>(knob.needed(&variables)?.unwrap_or_default().cast_unsigned())
        };
        let (none, one) = (needed(0)?, needed(1)?);
        Ok(bytes.map(|bytes| bytes.saturating_sub(none) / one.saturating_sub(none).max(1)))
    }
}

fn gibibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let value = bytes as f64 / f64::from(1 << 30);
    format!("{value:.2} GiB")
}
