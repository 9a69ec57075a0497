//! The end of a worker: nobody is accepted any more, and who is there is closed, at once or spread over a time.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::connection::Phase;
use crate::driver::Driver;
use crate::handle::Drain;
use crate::handler::{CloseCause, Handler};
use crate::limits::{DRAIN_UNANSWERED_MAX, TURN_CLOSES_MAX};

/// A drain under way.
pub(super) struct Draining {
    terms: Arc<Drain>,
    begun: Duration,
    /// Connections that are still to be closed. Nothing is accepted any more, so that a slot that is in use is
    /// still the same connection's.
    waiting: std::vec::IntoIter<u32>,
    /// How many of them were in the handshake when it began. They come first, and are not spread.
    in_handshake: usize,
    open: usize,
    /// Connections of every kind when it began.
    connections: usize,
    /// When the rest is cut.
    pub(super) deadline: Option<Duration>,
}

impl Draining {
    fn new(terms: Arc<Drain>, now: Duration, connections: usize, in_handshake: Vec<u32>, open: Vec<u32>) -> Self {
        let deadline = now.saturating_add(terms.spread).saturating_add(terms.patience);
        let (handshakes, others) = (in_handshake.len(), open.len());
        let waiting = if in_handshake.is_empty() { open } else { [in_handshake, open].concat() };
        Self {
            terms,
            begun: now,
            waiting: waiting.into_iter(),
            in_handshake: handshakes,
            open: others,
            connections,
            deadline: Some(deadline),
        }
    }

    /// How many are to be closed now, while so many are left: no more than the spread allows, and of those as many as
    /// have ended and [`DRAIN_UNANSWERED_MAX`], or as many as have to be so that all have been closed when half of the
    /// patience is over.
    pub(super) fn due(&self, now: Duration, left: usize) -> usize {
        let elapsed = now.saturating_sub(self.begun);
        let ended = self.connections.saturating_sub(left);
        let without_waiting = self.of_the_open(elapsed, self.terms.spread.saturating_add(self.terms.patience / 2));
        let answered = ended.saturating_sub(self.in_handshake) + DRAIN_UNANSWERED_MAX;
        let of_the_open = self.of_the_open(elapsed, self.terms.spread).min(answered.max(without_waiting));
        let closed = self.in_handshake + self.open - self.waiting.len();
        (self.in_handshake + of_the_open).saturating_sub(closed)
    }

    /// How many of the open connections, if they are spread evenly over a time.
    fn of_the_open(&self, elapsed: Duration, time: Duration) -> usize {
        let count = (self.open as u128 * elapsed.min(time).as_nanos()).checked_div(time.as_nanos());
        count.map_or(self.open, |count| count as usize)
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Stops accepting and begins to close every connection. A second drain changes nothing.
    pub(super) fn drain(&mut self, terms: Arc<Drain>) {
        if self.draining.is_some() {
            return;
        }
        self.driver.stop_accepting();
        let (mut in_handshake, mut open) = (Vec::new(), Vec::new());
        for slot in self.connections.slots() {
            match self.connections.at(slot).phase {
                Phase::Proxied | Phase::Handshake => in_handshake.push(slot),
                Phase::Open => open.push(slot),
                Phase::Closing | Phase::Finishing { .. } | Phase::Ended => {}
            }
        }
        self.draining = Some(Draining::new(terms, self.clock.now(), self.connections.len(), in_handshake, open));
        self.drain_some();
    }

    /// Closes as many of the connections that a drain has found as are due and one turn may: a million close frames
    /// at once would need their memory at once.
    pub(super) fn drain_some(&mut self) {
        let (now, left) = (self.clock.now(), self.connections.len());
        let Some(draining) = &mut self.draining else { return };
        let terms = Arc::clone(&draining.terms);
        let count = draining.due(now, left).min(TURN_CLOSES_MAX);
        self.stats.drain_waits += u64::from(count == 0 && draining.waiting.len() > 0);
        for _ in 0..count {
            let next = self.draining.as_mut().and_then(|draining| draining.waiting.next());
            let Some(slot) = next else { break };
            let Some(connection) = self.connections.in_use(slot) else { continue };
            match connection.phase {
                Phase::Open => {
                    self.begin_close(slot, terms.code, &terms.reason, CloseCause::Drain);
                    // The drain's own time limit holds, not the usual one: for all at once, or for each by itself.
                    if terms.spread.is_zero() {
                        self.timers.forget(slot);
                    } else {
                        self.timers.set(slot, now, terms.patience);
                    }
                }
                Phase::Proxied | Phase::Handshake => self.cut(slot, CloseCause::Drain),
                Phase::Closing | Phase::Finishing { .. } | Phase::Ended => {}
            }
        }
    }

    /// Cuts who is left when the time of a drain is over.
    pub(super) fn end_drain(&mut self) {
        let now = self.clock.now();
        let over = |draining: &mut Draining| draining.deadline.take_if(|deadline| *deadline <= now).is_some();
        if self.draining.as_mut().is_some_and(over) {
            for slot in self.connections.slots() {
                self.cut(slot, CloseCause::Drain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_spread_evenly_and_handshakes_end_at_once() {
        let seconds = Duration::from_secs;
        let terms = Drain { spread: seconds(100), ..Drain::default() };
        let mut draining = Draining::new(Arc::new(terms), seconds(7), 1010, vec![1, 2], (10..1010).collect());
        for (now, due) in [(0, 2), (7, 2), (8, 12), (57, 502), (106, 992), (107, 1002), (500, 1002)] {
            assert_eq!(draining.due(seconds(now), 1010), due, "at {now}");
        }
        assert_eq!(draining.waiting.by_ref().take(502).count(), 502);
        let due = |now| draining.due(seconds(now), 1010);
        assert_eq!((due(57), due(58), due(30)), (0, 10, 0));
    }

    #[test]
    fn without_a_spread_all_are_due_at_once() {
        let draining = Draining::new(Arc::new(Drain::default()), Duration::ZERO, 3, vec![1], vec![2, 3]);
        assert_eq!(draining.due(Duration::ZERO, 3), 3);
    }

    #[test]
    fn of_a_crowd_others_are_closed_as_some_end_or_when_time_is_short() {
        const ALL: usize = 100 * DRAIN_UNANSWERED_MAX;
        let patience = Duration::from_secs(20);
        let terms = Arc::new(Drain { patience, ..Drain::default() });
        let slots = (0..u32::try_from(ALL).expect("they are few")).collect();
        let mut draining = Draining::new(terms, Duration::ZERO, ALL, Vec::new(), slots);
        let mut close = |now, left| {
            let due = draining.due(now, left);
            draining.waiting.by_ref().take(due).count()
        };
        let tick = Duration::from_millis(1);
        assert_eq!(close(tick, ALL), DRAIN_UNANSWERED_MAX);
        assert_eq!((close(tick, ALL), close(tick, ALL - 10), close(tick, ALL - 10)), (0, 10, 0));
        // Nobody answers: a quarter of the patience is half of the time that there is for all.
        assert_eq!(close(patience / 4, ALL - 10), ALL / 2 - DRAIN_UNANSWERED_MAX - 10);
        assert_eq!(close(patience / 2, ALL - 10), ALL / 2);
    }
}
