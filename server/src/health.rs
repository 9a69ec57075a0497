//! Whether every core works: each takes turns, also one that has nothing to do.

use crore_engine::EngineHandle;

/// The turns that each core had taken at one moment.
pub(crate) struct Turns(Vec<u64>);

impl Turns {
    /// The turns taken so far.
    pub(crate) fn taken(engine: &EngineHandle) -> Self {
        Self(engine.stats_by_core().into_iter().map(|stats| stats.turns).collect())
    }

    /// The cores that have not taken a turn since. Nudges all of them, so that those which work have by the next call.
    pub(crate) fn awaited(&self, engine: &EngineHandle) -> Vec<usize> {
        let now = Self::taken(engine);
        engine.nudge();
        let pairs = self.0.iter().zip(now.0).enumerate();
        pairs.filter(|(_, (before, now))| now <= *before).map(|(core, _)| core).collect()
    }
}
