//! What happens at a core's share of the memory budget: who comes is turned away, and then those are closed who
//! hold the most. Connections that hold nothing stay.
//!
//! ```text
//! 15/16 of the share   an upgrade is answered by 503, to be tried again after some seconds
//! all of it            connections are closed with 1013, first those for whom most waits to be read, then those
//!                      of whose messages most has come in part
//! ```
//!
//! Each core has a share of its own and asks no other one: the sum is bounded whatever they do. Connections are
//! looked at a few thousand in a turn, in rounds, each of which closes who holds half as much as the round before:
//! a million of them are neither walked at once nor sorted.

use super::Worker;
use super::connection::{Connection, Phase};
use crate::capacity::admission_bytes;
use crate::driver::Driver;
use crate::handler::{CloseCause, Handler};
use crate::limits::{CORK_BYTES_MAX, Limits, SHED_BYTES_MIN, SHED_SLOTS_MAX, retry_after_seconds};
use crate::protocol::close::code;
use crate::protocol::handshake::append_response;

/// What those are told who are turned away or closed.
const NO_MEMORY: &str = "out of memory";

/// A core's share of the budget.
pub(super) struct Budget {
    share: u64,
    /// What is held that is counted with the ticks only.
    rest: u64,
    search: Search,
    /// That memory is short has been logged.
    warned: bool,
}

/// The search for those who hold the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// There is memory.
    Off,
    /// The next slot to look at, and who is looked for.
    At { slot: usize, wanted: Wanted },
    /// Nobody was left to be closed when so much was held.
    Over { used: u64 },
}

/// Who holds at least so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    what: Holding,
    bytes_min: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// Output that waits to be read.
    Output,
    /// Input that has come in part.
    Input,
}

impl Wanted {
    fn first(limits: &Limits) -> Self {
        let bytes_min = limits.outbox_bytes_max.max(limits.message_bytes_max).max(SHED_BYTES_MIN);
        Self { what: Holding::Output, bytes_min }
    }

    fn next(self, limits: &Limits) -> Option<Self> {
        match self {
            Self { what, bytes_min } if bytes_min > SHED_BYTES_MIN => {
                Some(Self { what, bytes_min: (bytes_min / 2).max(SHED_BYTES_MIN) })
            }
            Self { what: Holding::Output, .. } => Some(Self { what: Holding::Input, ..Self::first(limits) }),
            Self { what: Holding::Input, .. } => None,
        }
    }

    /// What an open connection holds of it.
    fn held<S>(self, connection: &Connection<S>) -> usize {
        match self.what {
            _ if connection.phase != Phase::Open => 0,
            Holding::Output => connection.rare().map_or(0, |rare| rare.outbox.bytes() + rare.sending),
            Holding::Input => {
                connection.rare().map_or(0, |rare| rare.input.capacity()) + connection.decoder.buffered_bytes()
            }
        }
    }
}

impl Budget {
    pub(super) const fn new(share: u64) -> Self {
        Self { share, rest: 0, search: Search::Off, warned: false }
    }

    /// Whether the next turn is to look on.
    pub(super) const fn is_searching(&self) -> bool {
        matches!(self.search, Search::At { .. })
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// With each tick: what is held in all, and that it may be looked for again.
    pub(super) fn note_memory(&mut self, total: u64) {
        self.budget.rest = total.saturating_sub(self.counted_bytes());
        if let Search::Over { .. } = self.budget.search {
            self.budget.search = Search::Off;
        }
        if self.budget.warned && self.has_room() {
            self.budget.warned = false;
            tracing::info!(core = %self.core, held = total, share = self.budget.share, "there is memory again");
        }
    }

    /// Whether another connection may come in.
    pub(super) fn has_room(&self) -> bool {
        self.budget.rest + self.counted_bytes() <= admission_bytes(self.budget.share)
    }

    /// Turns an upgrade away for which there is no room: for want of memory, or because too many come at once.
    pub(super) fn turned_away(&mut self, slot: u32, out: &mut Vec<u8>) -> bool {
        if !self.has_room() {
            self.stats.refused_memory += 1;
            self.warn("connections are turned away");
            self.turn_away(slot, out, b"out of memory: try again later\n");
            return true;
        }
        let now = self.clock.now();
        if self.pace.as_mut().is_some_and(|pace| !pace.take(now)) {
            self.stats.refused_pace += 1;
            self.turn_away(slot, out, b"too many connections at once: try again later\n");
            return true;
        }
        false
    }

    /// When to try again differs from one to the next, so that they do not come back all at once.
    fn turn_away(&mut self, slot: u32, out: &mut Vec<u8>, why: &[u8]) {
        let seconds = retry_after_seconds(self.connections.id_at(slot)).to_string();
        let headers = [("Retry-After", seconds.as_str()), ("Cache-Control", "no-store")];
        append_response(out, 503, "text/plain; charset=utf-8", &headers, why);
        self.finish(slot, true);
    }

    /// Closes those who hold the most while there is too little memory for those who are here. At the end of a turn,
    /// when all that it had for them is stored, so that nothing follows what is missing but the close frame.
    #[inline]
    pub(super) fn relieve(&mut self) {
        let used = self.used_by_open();
        match self.budget.search {
            _ if used <= self.budget.share => self.budget.search = Search::Off,
            Search::Over { used: before } if used <= before.saturating_add(self.budget.share / 64) => {}
            _ => self.shed(),
        }
    }

    #[cold]
    fn shed(&mut self) {
        let (mut slot, mut wanted) = match self.budget.search {
            Search::At { slot, wanted } => (slot, wanted),
            _ => (0, Wanted::first(&self.limits)),
        };
        let mut looks = SHED_SLOTS_MAX;
        // What is on its way to those who are cut comes back when the kernel has let go of it.
        let mut leaving = 0;
        while looks > 0 {
            let end = self.connections.touched().min(slot + looks);
            looks -= (end - slot).max(1).min(looks);
            let mut found = self.holders(slot..end, wanted);
            found.sort_unstable_by(|one, other| other.cmp(one));
            for (_, holder) in found {
                leaving += self.close_holder(holder, wanted.what);
                if self.used_by_open().saturating_sub(leaving) <= self.budget.share {
                    self.budget.search = Search::Over { used: self.used_by_open() };
                    return;
                }
            }
            slot = end;
            if slot == self.connections.touched() {
                let Some(next) = wanted.next(&self.limits) else {
                    self.budget.search = Search::Over { used: self.used_by_open() };
                    return;
                };
                (slot, wanted) = (0, next);
            }
        }
        self.budget.search = Search::At { slot, wanted };
    }

    /// Who is wanted among some slots, and how much they hold.
    fn holders(&mut self, slots: std::ops::Range<usize>, wanted: Wanted) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        for slot in slots.filter_map(|slot| u32::try_from(slot).ok()) {
            let held = self.connections.in_use(slot).map_or(0, |connection| wanted.held(connection));
            if held >= wanted.bytes_min {
                found.push((held, slot));
            }
        }
        found
    }

    /// Closes a connection for what it holds. Says how many bytes of it will come back only later.
    fn close_holder(&mut self, slot: u32, what: Holding) -> u64 {
        self.stats.closed_memory += 1;
        self.warn("connections are closed, first those that hold the most");
        let sending = self.connections.at(slot).rare().map_or(0, |rare| rare.sending);
        self.drop_outbox(slot);
        match what {
            // It has not read what is on its way, and could not read a close frame before that.
            Holding::Output if sending > CORK_BYTES_MAX => self.cut(slot, CloseCause::Memory),
            Holding::Output => self.begin_close(slot, code::TRY_AGAIN_LATER, NO_MEMORY, CloseCause::Memory),
            Holding::Input => {
                self.fail(slot, code::TRY_AGAIN_LATER, NO_MEMORY, CloseCause::Memory);
                let connection = self.connections.at(slot);
                connection.take_input(&mut self.held);
                connection.tidy(&mut self.held);
            }
        }
        sending as u64
    }

    fn warn(&mut self, what: &str) {
        if !std::mem::replace(&mut self.budget.warned, true) {
            let (held, share) = (self.budget.rest + self.counted_bytes(), self.budget.share);
            tracing::warn!(
                core = %self.core, held, share,
                "memory is short: {what}. Raise memory_budget, or lower limits.outbox_bytes_max and limits.message_bytes_max"
            );
        }
    }

    /// What is held without those who are coming or going: the kernel's share of them, which is most.
    fn used_by_open(&self) -> u64 {
        let others = self.stats.connections - self.stats.connections_open;
        (self.budget.rest + self.counted_bytes()).saturating_sub(others * self.kernel_connection_bytes)
    }

    /// What is held that is counted as it changes.
    fn counted_bytes(&self) -> u64 {
        let held = self.held.memory(self.partials.held());
        let (slots, states) = self.connections.touched_bytes();
        held.total_bytes()
            + (slots + states + self.topics.memory_bytes() + self.corks.shared_bytes()) as u64
            + self.stats.connections * self.kernel_connection_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_looked_for_before_input_and_much_before_little() {
        let limits = Limits { outbox_bytes_max: 10_000, message_bytes_max: 3_000, ..Limits::default() };
        let rounds: Vec<_> =
            std::iter::successors(Some(Wanted::first(&limits)), |wanted| wanted.next(&limits)).collect();
        let (output, input) = rounds.split_at(rounds.len() / 2);
        for (half, what) in [(output, Holding::Output), (input, Holding::Input)] {
            assert!(half.iter().all(|wanted| wanted.what == what));
            assert!(half.is_sorted_by(|one, next| one.bytes_min > next.bytes_min && one.bytes_min <= 2 * next.bytes_min + 1));
            assert_eq!((half[0].bytes_min, half[half.len() - 1].bytes_min), (10_000, SHED_BYTES_MIN));
        }
    }
}
