//! The end of a worker: nobody is accepted any more, and who is there is closed, at once or spread over a time.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::connection::Phase;
use crate::driver::Driver;
use crate::handle::Drain;
use crate::handler::{CloseCause, Handler};
use crate::limits::TURN_CLOSES_MAX;

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
    /// When the rest is cut.
    pub(super) deadline: Option<Duration>,
}

impl Draining {
    fn new(terms: Arc<Drain>, now: Duration, in_handshake: Vec<u32>, open: Vec<u32>) -> Self {
        let deadline = now.saturating_add(terms.spread).saturating_add(terms.patience);
        let (handshakes, others) = (in_handshake.len(), open.len());
        let waiting = if in_handshake.is_empty() { open } else { [in_handshake, open].concat() };
        Self {
            terms,
            begun: now,
            waiting: waiting.into_iter(),
            in_handshake: handshakes,
            open: others,
            deadline: Some(deadline),
        }
    }

    /// How many are to be closed now so that all are when the time is over, and none is much too early.
    pub(super) fn due(&self, now: Duration) -> usize {
        let (elapsed, spread) = (now.saturating_sub(self.begun).as_nanos(), self.terms.spread.as_nanos());
        let of_the_open = (self.open as u128 * elapsed.min(spread)).checked_div(spread);
        let of_the_open = of_the_open.map_or(self.open, |count| count as usize);
        let closed = self.in_handshake + self.open - self.waiting.len();
        (self.in_handshake + of_the_open).saturating_sub(closed)
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
        self.draining = Some(Draining::new(terms, self.clock.now(), in_handshake, open));
        self.drain_some();
    }

    /// Closes as many of the connections that a drain has found as are due and one turn may: a million close frames
    /// at once would need their memory at once.
    pub(super) fn drain_some(&mut self) {
        let now = self.clock.now();
        let Some(draining) = &mut self.draining else { return };
        let terms = Arc::clone(&draining.terms);
        let count = draining.due(now).min(TURN_CLOSES_MAX);
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
        let mut draining = Draining::new(Arc::new(terms), seconds(7), vec![1, 2], (10..1010).collect());
        for (now, due) in [(0, 2), (7, 2), (8, 12), (57, 502), (106, 992), (107, 1002), (500, 1002)] {
            assert_eq!(draining.due(seconds(now)), due, "at {now}");
        }
        assert_eq!(draining.waiting.by_ref().take(502).count(), 502);
        assert_eq!((draining.due(seconds(57)), draining.due(seconds(58)), draining.due(seconds(30))), (0, 10, 0));
    }

    #[test]
    fn without_a_spread_all_are_due_at_once() {
        let draining = Draining::new(Arc::new(Drain::default()), Duration::ZERO, vec![1], vec![2, 3]);
        assert_eq!(draining.due(Duration::ZERO), 3);
    }
}
