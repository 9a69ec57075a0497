//! The circuit breaker: a backend that is down is left alone for a while, and those who wait for it are told at once.
//!
//! ```text
//! closed ── so many failures within a window ──► open ── a pause ──► half-open ── a probe is answered ──► closed
//!                                                  ▲                     │
//!                                                  └─ the last probe fails
//! ```
//!
//! What has failed behind a connection to the backend may have failed for what was asked: it counts once for whoever
//! has asked, so that nobody alone opens the breaker for all others. Nor may the one whose question has failed as the
//! probe be the first to ask again.
//!
//! It knows no clock: whoever asks says what time it is.

use std::collections::VecDeque;
use std::time::Duration;

use crore_engine::ConnectionId;

use crate::address::AddressKey;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct BreakerSettings {
    /// So many failures open it; those of one asker count as one.
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

/// Whom a question is about: as much as is known of who that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    User(Box<str>),
    Address(AddressKey),
    Connection(ConnectionId),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The question has not left: it was nobody's fault.
    Unreachable,
    /// The backend had the question of this asker.
    Of(Asker),
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
    /// Which probe of the period it is, from 1; 0 if it is none.
    probe: u64,
}

/// One for each event, since each may have a backend of its own.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts the changes of state.
    period: u64,
    /// Probes of this period.
    probes: u64,
    /// The last failures, and when they came: one fewer than open it, at most.
    failures: VecDeque<(Duration, Failure)>,
    /// Whose probe has failed.
    suspect: Option<Asker>,
}

impl Breaker {
    pub(super) const fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed, period: 0, probes: 0, failures: VecDeque::new(), suspect: None }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Whether nobody may ask now, whoever that is.
    pub(super) fn is_shut(&self, now: Duration) -> bool {
        matches!(self.state, State::Open { until } | State::HalfOpen { until } if now < until)
    }

    /// Whether the backend may be asked now.
    pub(super) fn admit(&mut self, asker: &Asker, now: Duration) -> (Option<Ticket>, Option<Change>) {
        let pause = self.settings.pause;
        let change = match self.state {
            State::Closed => return (Some(Ticket { period: self.period, probe: 0 }), None),
            // Others first.
            State::Open { until } if self.suspect.as_ref() == Some(asker) && now < until + pause => {
                return (None, None);
            }
            State::Open { until } if now >= until => {
                self.enter(State::HalfOpen { until: now + pause });
                Some(Change::HalfOpened)
            }
            State::HalfOpen { until } if now >= until => {
                self.state = State::HalfOpen { until: now + pause };
                None
            }
            State::Open { .. } | State::HalfOpen { .. } => return (None, None),
        };
        self.probes += 1;
        (Some(Ticket { period: self.period, probe: self.probes }), change)
    }

    /// The backend has answered, or failed to. Any probe's answer closes; only the last one's failure opens, since the
    /// others may have been given up.
    pub(super) fn record(&mut self, ticket: Ticket, failure: Option<Failure>, now: Duration) -> Option<Change> {
        if ticket.period != self.period {
            return None;
        }
        let is_probe = ticket.probe > 0;
        let Some(failure) = failure else {
            return is_probe.then(|| {
                self.enter(State::Closed);
                Change::Closed
            });
        };
        let suspect = match &failure {
            Failure::Of(asker) if is_probe => Some(asker.clone()),
            _ => None,
        };
        let opens = if is_probe { ticket.probe == self.probes } else { self.is_last_straw(failure, now) };
        opens.then(|| {
            self.enter(State::Open { until: now + self.settings.pause });
            self.suspect = suspect;
            Change::Opened
        })
    }

    /// Notes a failure; whether it is one too many.
    fn is_last_straw(&mut self, failure: Failure, now: Duration) -> bool {
        let window = self.settings.window;
        let is_again = |other: &Failure| failure != Failure::Unreachable && *other == failure;
        self.failures.retain(|(at, other)| now.saturating_sub(*at) <= window && !is_again(other));
        if self.failures.len() + 1 >= self.settings.failures {
            return true;
        }
        self.failures.push_back((now, failure));
        false
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
        self.probes = 0;
        self.failures = VecDeque::new();
        self.suspect = None;
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

    fn ann() -> Asker {
        Asker::User("ann".into())
    }

    fn of(number: u32) -> Option<Failure> {
        Some(Failure::Of(Asker::Address(AddressKey::V4(number))))
    }

    fn unreachable(failed: bool) -> Option<Failure> {
        failed.then_some(Failure::Unreachable)
    }

    fn admit(breaker: &mut Breaker, second: u64) -> (Option<Ticket>, Option<Change>) {
        breaker.admit(&ann(), at(second))
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
        let (ticket, _) = admit(breaker, second);
        breaker.record(ticket.unwrap(), unreachable(failed), at(second))
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
            assert_eq!(admit(&mut breaker, second), (None, None), "{second}");
        }
        let (probe, change) = admit(&mut breaker, 7);
        assert_eq!(change, Some(Change::HalfOpened));
        assert_eq!(admit(&mut breaker, 7), (None, None), "one at a time");
        assert_eq!(breaker.record(probe.unwrap(), unreachable(false), at(8)), Some(Change::Closed));
        for _ in 0..5 {
            assert!(admit(&mut breaker, 8).0.is_some());
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
        let (probe, _) = admit(&mut breaker, 9);
        assert_eq!(breaker.record(probe.unwrap(), unreachable(true), at(12)), Some(Change::Opened));
        assert_eq!(admit(&mut breaker, 16), (None, None));
        assert_eq!(admit(&mut breaker, 17).1, Some(Change::HalfOpened));
    }

    // capability: 96
    #[test]
    fn what_was_asked_before_a_change_counts_no_more() {
        let mut breaker = Breaker::new(SETTINGS);
        let early: Vec<_> = (0..8).map(|_| admit(&mut breaker, 0).0.unwrap()).collect();
        for ticket in &early[..2] {
            assert_eq!(breaker.record(*ticket, unreachable(true), at(3)), None);
        }
        assert_eq!(breaker.record(early[2], unreachable(true), at(3)), Some(Change::Opened));
        // Neither do stragglers keep it open, nor does a late success close it.
        assert_eq!(breaker.record(early[3], unreachable(true), at(4)), None);
        assert_eq!(breaker.record(early[4], unreachable(false), at(4)), None);
        assert_eq!(breaker.state(), State::Open { until: at(8) });
        let (probe, _) = admit(&mut breaker, 8);
        assert_eq!(breaker.record(early[5], unreachable(false), at(8)), None);
        assert_eq!(breaker.record(early[6], unreachable(true), at(8)), None);
        assert_eq!(breaker.record(probe.unwrap(), unreachable(false), at(9)), Some(Change::Closed));
        assert_eq!(breaker.record(early[7], unreachable(true), at(9)), None);
    }

    // capability: 96
    #[test]
    fn a_probe_that_never_comes_back_is_followed_by_another() {
        let mut breaker = open();
        let (lost, _) = admit(&mut breaker, 7);
        assert_eq!(admit(&mut breaker, 11), (None, None));
        let (probe, change) = admit(&mut breaker, 12);
        assert_eq!(change, None, "it is half-open already");
        assert_eq!(breaker.record(lost.unwrap(), unreachable(true), at(12)), None);
        assert_eq!(breaker.record(probe.unwrap(), unreachable(false), at(12)), Some(Change::Closed));
    }

    // capability: 96
    #[test]
    fn a_slow_probe_closes_it_though_others_have_gone_out_since() {
        let mut breaker = open();
        let probes: Vec<_> = [7, 12, 17].map(|second| admit(&mut breaker, second).0.unwrap()).into();
        assert_eq!(breaker.record(probes[1], of(1), at(18)), None, "a later one is out");
        assert_eq!(breaker.record(probes[0], None, at(19)), Some(Change::Closed));
        assert_eq!(breaker.record(probes[2], of(1), at(20)), None, "it is closed since");
        assert_eq!(breaker.state(), State::Closed);
    }

    // capability: 96
    #[test]
    fn nobody_opens_it_alone() {
        let mut breaker = Breaker::new(SETTINGS);
        for second in 0..100 {
            let (ticket, _) = admit(&mut breaker, second);
            assert_eq!(breaker.record(ticket.unwrap(), of(1), at(second)), None, "{second}");
        }
        for (second, asker, opens) in [(100, 2, false), (101, 1, false), (102, 2, false), (103, 3, true)] {
            let (ticket, _) = admit(&mut breaker, second);
            let change = breaker.record(ticket.unwrap(), of(asker), at(second));
            assert_eq!(change, opens.then_some(Change::Opened), "{second}");
        }
        // What never got there is nobody's fault.
        let mut breaker = Breaker::new(SETTINGS);
        for (second, opens) in [(0, false), (1, false), (2, true)] {
            assert_eq!(ask(&mut breaker, second, true), opens.then_some(Change::Opened));
        }
    }

    // capability: 96
    #[test]
    fn whose_probe_has_failed_is_not_the_first_to_ask_again() {
        let mut breaker = open();
        let (probe, _) = admit(&mut breaker, 7);
        assert_eq!(breaker.record(probe.unwrap(), Some(Failure::Of(ann())), at(8)), Some(Change::Opened));
        assert_eq!(admit(&mut breaker, 17), (None, None), "others first");
        assert!(breaker.admit(&Asker::User("bob".into()), at(13)).0.is_some());
        let mut breaker = open();
        let (probe, _) = admit(&mut breaker, 7);
        breaker.record(probe.unwrap(), Some(Failure::Of(ann())), at(8));
        assert_eq!(admit(&mut breaker, 18).1, Some(Change::HalfOpened), "there is nobody else");
        assert!(breaker.is_shut(at(22)) && !breaker.is_shut(at(23)));
    }
}
