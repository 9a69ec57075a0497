//! Times that the handler has asked for: one for each connection that has, and one for the core.

use std::collections::VecDeque;
use std::time::Duration;

use super::Worker;
use super::connection::Phase;
use super::timers::{Expired, Timers};
use crate::driver::Driver;
use crate::handler::Handler;
use crate::id::ConnectionId;
use crate::limits::{LIST_ENTRIES_KEPT_MAX, TURN_WAKES_MAX};

/// What is asked for and has not come, and what has come and is not handled.
pub(super) struct Wakes {
    timers: Timers,
    /// Connections whose time has come: more than one turn takes, if it is the same for many.
    due: VecDeque<ConnectionId>,
    core: Option<Duration>,
}

impl Wakes {
    /// For so many connections.
    pub(super) fn new(connections: u32) -> Self {
        Self { timers: Timers::new(connections), due: VecDeque::new(), core: None }
    }

    /// The connection in `slot` is to be woken at `now + after`, or earlier if that has been asked for.
    pub(super) fn wake(&mut self, slot: u32, now: Duration, after: Duration) {
        self.timers.set_if_earlier(slot, now, after);
    }

    /// The core is to be woken at `at`, or earlier if that has been asked for.
    pub(super) fn wake_core(&mut self, at: Duration) {
        self.core = Some(self.core.map_or(at, |earlier| earlier.min(at)));
    }

    /// The connection in `slot` is over.
    pub(super) fn forget(&mut self, slot: u32) {
        self.timers.forget(slot);
    }

    /// Whether there is a time to wait for.
    pub(super) const fn is_waiting(&self) -> bool {
        !self.timers.is_empty() || self.core.is_some()
    }

    /// Whether a time has come for a connection that is not woken yet.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Bytes of heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.timers.touched_bytes() + self.due.capacity() * size_of::<ConnectionId>()
    }

    /// Gives back what is not needed.
    pub(super) fn trim(&mut self) {
        self.timers.trim();
        self.due.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Notes whose time has come, and wakes as many of them as one turn may.
    pub(super) fn wake_some(&mut self) {
        let now = self.clock.now();
        let mut expired = std::mem::take(&mut self.expired);
        self.wakes.timers.advance(now, &mut expired);
        for Expired { connection: slot, .. } in expired.drain(..) {
            self.wakes.due.push_back(self.connections.id_at(slot));
        }
        self.expired = expired;
        for _ in 0..TURN_WAKES_MAX {
            let Some(id) = self.wakes.due.pop_front() else { break };
            self.trims.note_activity();
            let slot = self.connections.slot_of(id);
            if let Some(slot) = slot.filter(|slot| self.connections.at(*slot).phase == Phase::Open) {
                self.call(slot, |handler, context, state| handler.on_wake(context, state));
            }
        }
        if self.wakes.core.take_if(|at| *at <= now).is_some() {
            self.trims.note_activity();
            self.call_core(|handler, context| handler.on_core_wake(context));
        }
    }
}
