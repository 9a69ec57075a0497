//! What the worker holds, by class, for others to read; and what is given back once it is not needed.

use std::time::Duration;

use super::Worker;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::limits::{LIST_ENTRIES_KEPT_MAX, TRIM_INTERVAL_MS};
use crate::memory::Memory;

/// When pools are to be trimmed.
#[derive(Default)]
pub(super) struct Trims {
    /// How often it is to be done yet, if nothing more happens.
    due: u8,
    next: Duration,
}

impl Trims {
    /// Something has happened that may have taken memory. The first trim after it frees what the time before did
    /// without; the second, when nothing has happened in between, the rest; and with the third an allocator that
    /// takes a second to think it over has had that.
    #[inline]
    pub(super) const fn note_activity(&mut self) {
        self.due = 3;
    }

    /// Whether there is anything to wait for.
    pub(super) const fn are_due(&self) -> bool {
        self.due > 0
    }

    fn take(&mut self, now: Duration) -> bool {
        if self.due == 0 || now < self.next {
            return false;
        }
        *self = Self { due: self.due - 1, next: now + Duration::from_millis(TRIM_INTERVAL_MS) };
        true
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// With each tick: gives back what has not been needed, and shows what is held.
    pub(super) fn keep_house(&mut self) {
        if self.trims.take(self.clock.now()) {
            self.trim();
        }
        let memory = self.memory();
        self.shared_memory.publish(&memory);
        self.note_memory(memory.total_bytes());
    }

    /// What is held now.
    pub(super) fn memory(&self) -> Memory {
        let kept = self.partials.kept();
        let held = self.held.memory(self.partials.held());
        let deflaters = self.deflating.as_ref().map_or(0, |deflating| deflating.heap_bytes());
        let (slots, states) = self.connections.touched_bytes();
        let timers = self.timers.touched_bytes() + self.wakes.heap_bytes();
        let waiting = self.leaving.heap_bytes() + self.starved.heap_bytes() + self.coalescer.heap_bytes();
        Memory {
            slab: held.slab + (slots + timers + waiting + self.peers.heap_bytes()) as u64,
            receive_pool: self.driver.receive_pool_bytes() as u64,
            partial: held.partial + kept.partial as u64,
            outbox: held.outbox + self.corks.heap_bytes() as u64,
            topics: held.topics + self.topics.memory_bytes() as u64,
            deflate: held.deflate + (kept.deflate + deflaters) as u64,
            session: (states + self.handler.memory_bytes()) as u64,
            kernel: self.stats.connections * self.kernel_connection_bytes,
        }
    }

    /// Pools shrink to what was needed of late, and the lists of a turn that was larger than most.
    fn trim(&mut self) {
        // A search for those who hold the most goes by slots.
        if !self.budget.is_searching() {
            self.connections.trim();
        }
        self.timers.trim();
        self.wakes.trim();
        self.actions.trim();
        self.corks.trim();
        self.partials.trim();
        if let Some(deflating) = &mut self.deflating {
            deflating.trim();
        }
        self.broadcasts.trim();
        self.coalescer.trim();
        for list in [&mut self.resumed, &mut self.too_slow, &mut self.closings, &mut self.ended] {
            list.shrink_to(LIST_ENTRIES_KEPT_MAX);
        }
        self.leaving.trim();
        self.starved.trim();
        self.peers.trim();
        self.expired.shrink_to(LIST_ENTRIES_KEPT_MAX);
        self.spawned.shrink_to(LIST_ENTRIES_KEPT_MAX);
        self.driver.trim();
        self.handler.on_trim();
    }
}
