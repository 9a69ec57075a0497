//! A timer wheel for deadlines of a core's connections: each has at most one, and it costs 12 bytes.
//!
//! Every slot of the wheel is a doubly linked list through an array that is indexed by connection, so
//! that a deadline is set, moved and forgotten in constant time and without an allocation.

use std::time::Duration;

use crate::limits::{LIST_ENTRIES_KEPT_MAX, TICK_MS, WHEEL_SLOTS};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    /// The tick at which it is due, or [`NONE`] if it has no deadline.
    due: u32,
}

/// A connection whose deadline has come.
pub(super) struct Expired {
    pub(super) connection: u32,
    /// Ticks since it came.
    pub(super) ticks_late: u32,
}

const IDLE: Node = Node { previous: NONE, next: NONE, due: NONE };

/// Bytes that a connection takes in the wheel.
pub(super) const NODE_BYTES: usize = size_of::<Node>();

/// Deadlines in ticks of [`TICK_MS`] since the worker's start.
pub(super) struct Timers {
    heads: Box<[u32; WHEEL_SLOTS]>,
    nodes: Vec<Node>,
    /// Connections that there may be.
    max: u32,
    /// The last tick whose deadlines have been handed out.
    now: u32,
    scheduled: usize,
}

/// The last tick that is told apart, 13 years from the start. A deadline behind it never comes, and stays
/// below [`NONE`] all the same.
const TICK_MAX: u32 = NONE - 2;

/// The tick that a time falls in.
pub(super) fn tick_of(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / u128::from(TICK_MS)).map_or(TICK_MAX, |tick| tick.min(TICK_MAX))
}

impl Timers {
    /// Room for `connections`, reserved and untouched.
    pub(super) fn new(connections: u32) -> Self {
        Self {
            heads: Box::new([NONE; WHEEL_SLOTS]),
            nodes: Vec::with_capacity(connections as usize),
            max: connections,
            now: 0,
            scheduled: 0,
        }
    }

    /// Bytes of the nodes that have been in use, as far as they are not given back.
    pub(super) const fn touched_bytes(&self) -> usize {
        self.nodes.len() * NODE_BYTES
    }

    /// Gives back the nodes of a crowd of which none has a deadline any more. The next deadline reserves them anew.
    pub(super) fn trim(&mut self) {
        if self.is_empty() && self.nodes.len() > LIST_ENTRIES_KEPT_MAX {
            self.nodes = Vec::new();
        }
    }

    /// Whether any deadline is set.
    pub(super) const fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// Sets the deadline of `connection` to `after` from `now`, rounded up; replaces an earlier one.
    pub(super) fn set(&mut self, connection: u32, now: Duration, after: Duration) {
        self.forget(connection);
        let due = self.due(now, after);
        let index = connection as usize;
        if self.nodes.len() <= index {
            if self.nodes.capacity() == 0 {
                self.nodes.reserve_exact(self.max as usize);
            }
            self.nodes.resize(index + 1, IDLE);
        }
        let head = &mut self.heads[due as usize % WHEEL_SLOTS];
        self.nodes[index] = Node { previous: NONE, next: *head, due };
        if *head != NONE {
            self.nodes[*head as usize].previous = connection;
        }
        *head = connection;
        self.scheduled += 1;
    }

    /// As [`Self::set`], unless the deadline that `connection` has comes earlier.
    pub(super) fn set_if_earlier(&mut self, connection: u32, now: Duration, after: Duration) {
        let due = self.due(now, after);
        if self.nodes.get(connection as usize).is_none_or(|node| due < node.due) {
            self.set(connection, now, after);
        }
    }

    fn due(&self, now: Duration, after: Duration) -> u32 {
        (tick_of(now.saturating_add(after)) + 1).max(self.now + 1)
    }

    /// Takes the deadline of `connection` away, if it has one.
    pub(super) fn forget(&mut self, connection: u32) {
        let Some(node) = self.nodes.get_mut(connection as usize) else { return };
        if node.due == NONE {
            return;
        }
        let Node { previous, next, due } = std::mem::replace(node, IDLE);
        if previous == NONE {
            self.heads[due as usize % WHEEL_SLOTS] = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.scheduled -= 1;
    }

    /// Moves on to `now` and puts the connections that are due into `expired`, without a deadline now.
    pub(super) fn advance(&mut self, now: Duration, expired: &mut Vec<Expired>) {
        let target = tick_of(now);
        // After a long pause every slot needs to be looked at only once.
        let rounds = (target.saturating_sub(self.now) as usize).min(WHEEL_SLOTS);
        for step in 0..rounds {
            #[expect(clippy::cast_possible_truncation, reason = "at most WHEEL_SLOTS")]
            let tick = target - (rounds - 1 - step) as u32;
            let mut connection = self.heads[tick as usize % WHEEL_SLOTS];
            while connection != NONE {
                let Node { next, due, .. } = self.nodes[connection as usize];
                // One revolution further on: it stays where it is.
                if due <= target {
                    self.forget(connection);
                    expired.push(Expired { connection, ticks_late: target - due });
                }
                connection = next;
            }
        }
        self.now = self.now.max(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn expired(timers: &mut Timers, now: Duration) -> Vec<u32> {
        let mut expired = Vec::new();
        timers.advance(now, &mut expired);
        let mut connections: Vec<u32> = expired.iter().map(|expired| expired.connection).collect();
        connections.sort_unstable();
        connections
    }

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_ticks_late() {
        let mut timers = Timers::new(8);
        for (connection, after) in [(0, 0), (1, 99), (2, 100), (3, 250), (4, TICK_MS * WHEEL_SLOTS as u64 * 3 + 50)] {
            timers.set(connection, ms(30), ms(after));
        }
        let mut due = std::collections::HashMap::new();
        for now in (30..TICK_MS * (WHEEL_SLOTS as u64 * 3 + 10)).step_by(10) {
            for connection in expired(&mut timers, ms(now)) {
                assert!(due.insert(connection, now).is_none(), "once");
            }
        }
        for (connection, after) in [(0, 0), (1, 99), (2, 100), (3, 250), (4, TICK_MS * WHEEL_SLOTS as u64 * 3 + 50)] {
            let at = due[&connection];
            assert!(at >= 30 + after && at <= 30 + after + 2 * TICK_MS, "connection {connection} at {at}");
        }
        assert!(timers.is_empty());
    }

    #[test]
    fn a_new_deadline_replaces_the_old_one_and_a_forgotten_one_is_gone() {
        let mut timers = Timers::new(4);
        for connection in 0..4 {
            timers.set(connection, ms(0), ms(500));
        }
        timers.set(1, ms(0), ms(2_000));
        timers.forget(2);
        timers.forget(2);
        timers.forget(77);
        assert_eq!(expired(&mut timers, ms(1_000)), [0, 3]);
        assert_eq!(expired(&mut timers, ms(10_000)), [1]);
        assert!(timers.is_empty());
    }

    #[test]
    fn the_nodes_of_a_crowd_go_back_when_no_deadline_is_left() {
        let crowd = u32::try_from(LIST_ENTRIES_KEPT_MAX).unwrap() + 1;
        let mut timers = Timers::new(crowd);
        for _ in 0..2 {
            (0..crowd).for_each(|connection| timers.set(connection, ms(0), ms(500)));
            (1..crowd).for_each(|connection| timers.forget(connection));
            timers.trim();
            assert_eq!(timers.touched_bytes(), crowd as usize * NODE_BYTES, "one is left");
            timers.forget(0);
            timers.trim();
            assert_eq!((timers.touched_bytes(), timers.nodes.capacity()), (0, 0));
        }
        timers.set(crowd - 1, ms(0), ms(500));
        assert_eq!(expired(&mut timers, ms(1_000)), [crowd - 1]);
    }

    #[test]
    fn a_clock_that_jumps_hands_out_everything_once() {
        let mut timers = Timers::new(1000);
        for connection in 0..1000 {
            timers.set(connection, ms(0), ms(u64::from(connection) * 37));
        }
        assert_eq!(expired(&mut timers, ms(3_600_000)).len(), 1000);
        assert_eq!(expired(&mut timers, ms(7_200_000)).len(), 0);
    }

    #[test]
    fn a_deadline_that_never_comes_can_be_set_moved_and_forgotten() {
        let mut timers = Timers::new(2);
        for after in [Duration::MAX, Duration::from_secs(1 << 40), Duration::MAX] {
            timers.set(0, ms(50), after);
            timers.set(1, ms(50), after);
        }
        assert_eq!(expired(&mut timers, ms(3_600_000)), []);
        assert_eq!(expired(&mut timers, Duration::MAX), []);
        timers.set(1, ms(0), ms(100));
        timers.forget(0);
        timers.forget(1);
        assert!(timers.is_empty());
    }
}
