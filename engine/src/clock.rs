//! The only reader of time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time of one worker: read once a turn, the same for everything that happens in it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    now: Duration,
}

impl Clock {
    /// A clock that starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), now: Duration::ZERO }
    }

    /// Reads the time.
    pub fn read(&mut self) {
        self.now = self.start.elapsed();
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
