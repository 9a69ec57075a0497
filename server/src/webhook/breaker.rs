//! The circuit breaker: a backend that is down is left alone for a while, and those who wait for it are told at once.
//!
//! ```text
//! closed ── so many failures within a window ──► open ── a pause ──► half-open ── the probe is answered ──► closed
//!                                                  ▲                     │
//!                                                  └─── the probe fails ─┘
//! ```
//!
//! It knows no clock: whoever asks says what time it is.

use std::collections::VecDeque;
use std::time::Duration;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct BreakerSettings {
    /// So many failures open it.
    pub(super) failures: usize,
    /// If they are no farther apart than this.
    pub(super) window: Duration,
    /// How long nothing is let through, and how long a probe is waited for before the next one.
    pub(super) pause: Duration,
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Everything.
    Closed,
    /// Nothing, until a time.
    Open { until: Duration },
    /// One probe; another one if that has not come back by a time.
    HalfOpen { until: Duration },
}

/// A state has become another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    HalfOpened,
    Closed,
}

/// Leave to ask, in one period of the breaker; its outcome counts in no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    period: u64,
}

/// One for each event, since each may have a backend of its own.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts the changes of state.
    period: u64,
    /// When the last failures came: one fewer than open it, at most.
    failures: VecDeque<Duration>,
}

impl Breaker {
    pub(super) const fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed, period: 0, failures: VecDeque::new() }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Whether the backend may be asked now.
    pub(super) fn admit(&mut self, now: Duration) -> (Option<Ticket>, Option<Change>) {
        let change = match self.state {
            State::Closed => None,
            State::Open { until } if now >= until => Some(Change::HalfOpened),
            State::HalfOpen { until } if now >= until => None,
            State::Open { .. } | State::HalfOpen { .. } => return (None, None),
        };
        if self.state != State::Closed {
            self.enter(State::HalfOpen { until: now + self.settings.pause });
        }
        (Some(Ticket { period: self.period }), change)
    }

    /// The backend has answered, or failed to.
    pub(super) fn record(&mut self, ticket: Ticket, failed: bool, now: Duration) -> Option<Change> {
        if ticket.period != self.period {
            return None;
        }
        let is_probe = self.state != State::Closed;
        if failed && (is_probe || self.is_last_straw(now)) {
            self.enter(State::Open { until: now + self.settings.pause });
            Some(Change::Opened)
        } else if is_probe && !failed {
            self.enter(State::Closed);
            Some(Change::Closed)
        } else {
            None
        }
    }

    /// Notes a failure; whether it is one too many.
    fn is_last_straw(&mut self, now: Duration) -> bool {
        let window = self.settings.window;
        self.failures.retain(|failure| now.saturating_sub(*failure) <= window);
        if self.failures.len() + 1 >= self.settings.failures {
            return true;
        }
        self.failures.push_back(now);
        false
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
        self.failures = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, window: Duration::from_secs(10), pause: Duration::from_secs(5) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A breaker that has opened at second 2.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for second in 0..2 {
            assert_eq!(ask(&mut breaker, second, true), None);
        }
        assert_eq!(ask(&mut breaker, 2, true), Some(Change::Opened));
        breaker
    }

    /// Asks, and is answered at once.
    fn ask(breaker: &mut Breaker, second: u64, failed: bool) -> Option<Change> {
        let (ticket, _) = breaker.admit(at(second));
        breaker.record(ticket.unwrap(), failed, at(second))
    }

    // capability: 96
    #[test]
    fn so_many_failures_within_the_window_open_it() {
        let mut breaker = Breaker::new(SETTINGS);
        // Never three within ten seconds, whatever is answered well between them.
        for (second, failed) in [(0, true), (1, false), (2, true), (11, true), (13, true), (22, true)] {
            assert_eq!(ask(&mut breaker, second, failed), None, "{second}");
        }
        assert_eq!(ask(&mut breaker, 23, true), Some(Change::Opened), "13, 22 and 23");
        assert_eq!(breaker.state(), State::Open { until: at(28) });
        let single = BreakerSettings { failures: 1, ..SETTINGS };
        assert_eq!(ask(&mut Breaker::new(single), 0, true), Some(Change::Opened));
    }

    // capability: 96
    #[test]
    fn while_it_is_open_nobody_is_let_through_and_then_one() {
        let mut breaker = open();
        for second in 2..7 {
            assert_eq!(breaker.admit(at(second)), (None, None), "{second}");
        }
        let (probe, change) = breaker.admit(at(7));
        assert_eq!(change, Some(Change::HalfOpened));
        assert_eq!(breaker.admit(at(7)), (None, None), "one at a time");
        assert_eq!(breaker.record(probe.unwrap(), false, at(8)), Some(Change::Closed));
        for _ in 0..5 {
            assert!(breaker.admit(at(8)).0.is_some());
        }
        // What was before is forgotten.
        assert_eq!(ask(&mut breaker, 8, true), None);
        assert_eq!(ask(&mut breaker, 8, true), None);
        assert_eq!(ask(&mut breaker, 8, true), Some(Change::Opened));
    }

    // capability: 96
    #[test]
    fn a_probe_that_fails_opens_it_for_another_pause() {
        let mut breaker = open();
        let (probe, _) = breaker.admit(at(9));
        assert_eq!(breaker.record(probe.unwrap(), true, at(12)), Some(Change::Opened));
        assert_eq!(breaker.admit(at(16)), (None, None));
        assert_eq!(breaker.admit(at(17)).1, Some(Change::HalfOpened));
    }

    // capability: 96
    #[test]
    fn what_was_asked_before_a_change_counts_no_more() {
        let mut breaker = Breaker::new(SETTINGS);
        let early: Vec<_> = (0..8).map(|_| breaker.admit(at(0)).0.unwrap()).collect();
        for ticket in &early[..2] {
            assert_eq!(breaker.record(*ticket, true, at(3)), None);
        }
        assert_eq!(breaker.record(early[2], true, at(3)), Some(Change::Opened));
        // Neither do stragglers keep it open, nor does a late success close it.
        assert_eq!(breaker.record(early[3], true, at(4)), None);
        assert_eq!(breaker.record(early[4], false, at(4)), None);
        assert_eq!(breaker.state(), State::Open { until: at(8) });
        let (probe, _) = breaker.admit(at(8));
        assert_eq!(breaker.record(early[5], false, at(8)), None);
        assert_eq!(breaker.record(early[6], true, at(8)), None);
        assert_eq!(breaker.record(probe.unwrap(), false, at(9)), Some(Change::Closed));
        assert_eq!(breaker.record(early[7], true, at(9)), None);
    }

    // capability: 96
    #[test]
    fn a_probe_that_never_comes_back_is_followed_by_another() {
        let mut breaker = open();
        let (lost, _) = breaker.admit(at(7));
        assert_eq!(breaker.admit(at(11)), (None, None));
        let (probe, change) = breaker.admit(at(12));
        assert_eq!(change, None, "it is half-open already");
        assert_eq!(breaker.record(lost.unwrap(), true, at(12)), None);
        assert_eq!(breaker.record(probe.unwrap(), false, at(12)), Some(Change::Closed));
    }
}
