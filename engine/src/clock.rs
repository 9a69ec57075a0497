//! The only reader of time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time of one worker: read once a turn, the same for everything that happens in it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    now: Duration,
}

#[derive(Clone, Debug)]
enum Source {
    /// The kernel's monotonic clock, from this moment on.
    Monotonic(Instant),
    /// Whatever somebody has set.
    Set(Rc<Cell<Duration>>),
}

impl Clock {
    /// A clock that starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { source: Source::Monotonic(Instant::now()), now: Duration::ZERO }
    }

    /// A clock that shows what `time` is set to: for simulations, whose time stands, runs and jumps as they
    /// like, but never back.
    #[must_use]
    pub fn set_by(time: &Rc<Cell<Duration>>) -> Self {
        Self { source: Source::Set(Rc::clone(time)), now: time.get() }
    }

    /// Reads the time.
    pub fn read(&mut self) {
        self.now = match &self.source {
            Source::Monotonic(start) => start.elapsed(),
            Source::Set(time) => time.get(),
        };
    }

    /// Time from the start to the last read.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }
}

/// Milliseconds since the Unix epoch, as timestamps in messages carry them.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
