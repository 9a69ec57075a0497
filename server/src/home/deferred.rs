//! How much a home hands out in a turn, and what waits for the next one.

use std::collections::VecDeque;
use std::time::Duration;

/// Bytes that a home hands out in one turn, about: what it is asked for beyond it waits for the next turn. Whoever is
/// answered has them copied, so that without a bound a thousand small questions would take a thousand times as much as
/// one answer does.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Questions with long answers.
#[derive(Debug)]
pub(crate) struct Deferred<Q> {
    waiting: VecDeque<Q>,
    /// The turn, by its time.
    turn: Duration,
    /// Bytes handed out in it.
    bytes: usize,
    /// Questions that have waited since the start.
    total: u64,
}

impl<Q> Default for Deferred<Q> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), turn: Duration::ZERO, bytes: 0, total: 0 }
    }
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission<Q> {
    /// It is answered now.
    Now(Q),
    /// It waits. Whoever is the first has to see that the home goes on.
    Later { first: bool },
}

impl<Q> Deferred<Q> {
    /// A question has come.
    pub(crate) fn admit(&mut self, question: Q, now: Duration) -> Admission<Q> {
        let first = self.waiting.is_empty();
        if first && self.has_room(now) {
            return Admission::Now(question);
        }
        self.total += 1;
        self.waiting.push_back(question);
        Admission::Later { first }
    }

    /// The next of those that have waited, as long as there is room in the turn.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Q> {
        if !self.has_room(now) {
            return None;
        }
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Whether any wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// So many bytes have been handed out.
    pub(crate) const fn note(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Questions that have waited since the start.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    fn has_room(&mut self, now: Duration) -> bool {
        if now != self.turn {
            (self.turn, self.bytes) = (now, 0);
        }
        self.bytes < TURN_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_a_turn_waits_for_the_next_in_order() {
        let (first, second) = (Duration::from_millis(1), Duration::from_millis(2));
        let mut deferred = Deferred::default();
        assert_eq!(deferred.admit(1, first), Admission::Now(1));
        deferred.note(TURN_BYTES_MAX - 1);
        assert_eq!(deferred.admit(2, first), Admission::Now(2));
        deferred.note(1);
        assert_eq!(deferred.admit(3, first), Admission::Later { first: true });
        assert_eq!(deferred.admit(4, first), Admission::Later { first: false });
        assert_eq!(deferred.next(first), None);
        assert_eq!(deferred.admit(5, second), Admission::Later { first: false }, "not before those that wait");
        assert_eq!(deferred.next(second), Some(3));
        deferred.note(TURN_BYTES_MAX);
        assert_eq!((deferred.next(second), deferred.is_empty()), (None, false));
        let third = Duration::from_millis(3);
        assert_eq!([deferred.next(third), deferred.next(third), deferred.next(third)], [Some(4), Some(5), None]);
        assert_eq!((deferred.is_empty(), deferred.total()), (true, 3));
    }
}
