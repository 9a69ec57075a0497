//! What presence may take, on all cores together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One core's part of what all cores have taken of the same room. They do not have equal parts: all connections may be
/// in one channel, which has one home.
#[derive(Debug)]
pub(crate) struct Room {
    bytes_max: usize,
    taken_by_all: Arc<AtomicUsize>,
    taken: usize,
}

impl Room {
    pub(crate) fn new(bytes_max: usize, taken_by_all: Arc<AtomicUsize>) -> Self {
        Self { bytes_max, taken_by_all, taken: 0 }
    }

    /// Bytes that this core has taken.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Takes so many bytes in place of others; `false` if there are not enough, and nothing has changed.
    pub(super) fn exchange(&mut self, before: usize, bytes: usize) -> bool {
        if bytes <= before {
            self.give_back(before - bytes);
            return true;
        }
        let more = bytes - before;
        // A number alone, with which nothing else has to be in order.
        let taken = self.taken_by_all.fetch_add(more, Ordering::Relaxed) + more;
        if taken > self.bytes_max {
            self.taken_by_all.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.taken += more;
        true
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.taken_by_all.fetch_sub(bytes, Ordering::Relaxed);
        self.taken -= bytes;
    }
}
