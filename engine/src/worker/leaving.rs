//! Connections whose peers have gone: ended a few at a time where many go at once.
//!
//! To see that a peer has gone takes the kernel a microsecond; to receive its last words and to close the socket, many. A
//! message that has come behind ten thousand resets waits for the first of each, and not for the second. A close
//! handshake is not among this: it is a message, and those come in their order.

use std::collections::VecDeque;

use super::Worker;
use super::connection::{Phase, Watch};
use crate::driver::Driver;
use crate::handler::Handler;
use crate::limits::{
    BUSY_LEAVING_MAX, BUSY_LEAVING_MIN, CALM_COMPLETIONS_MAX, CALM_LEAVING_MAX, LIST_ENTRIES_KEPT_MAX,
    TURN_COMPLETIONS_MAX,
};

/// Those who wait to be ended, in the order in which they have gone, and what a turn does besides.
#[derive(Default)]
pub(super) struct Leaving {
    waiting: VecDeque<(u32, u32)>,
    /// Completions of this turn that say that a peer has gone.
    gone: usize,
    /// Other completions of this turn; the ends of receives are not counted, which are mostly those of the last few.
    others: usize,
}

impl Leaving {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes note of something else to do.
    #[inline]
    pub(super) const fn note_other(&mut self) {
        self.others += 1;
    }

    fn push(&mut self, slot: u32, generation: u32) {
        self.gone += 1;
        self.waiting.push_back((slot, generation));
    }

    /// How many are to be ended in this turn. Where little happens, or others wait for their places, many; else as many
    /// as there were other things to do. So none waits for ever, and the others hardly longer than without them.
    fn take_room(&mut self, crowded: bool) -> usize {
        let (gone, others) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.others));
        if crowded {
            TURN_COMPLETIONS_MAX
        } else if gone + others <= CALM_COMPLETIONS_MAX {
            CALM_LEAVING_MAX
        } else {
            others.clamp(BUSY_LEAVING_MIN, BUSY_LEAVING_MAX)
        }
    }

    /// Gives room back that a turn is not going to need.
    pub(super) fn trim(&mut self) {
        self.waiting.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<(u32, u32)>()
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// The peer has gone; what it has said before is still to be received, and then the end.
    pub(super) fn leave_later(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        connection.watch = Watch::Nothing;
        self.leaving.push(slot, connection.generation);
    }

    /// Receives the last words, or the end, of some that have gone.
    pub(super) fn leave_some(&mut self) {
        let crowded = !self.leaving.is_empty() && (self.connections.is_crowded() || !self.has_room());
        let mut room = self.leaving.take_room(crowded);
        for _ in 0..TURN_COMPLETIONS_MAX {
            if room == 0 {
                break;
            }
            let Some((slot, generation)) = self.leaving.waiting.pop_front() else { break };
            // It may have been ended otherwise meanwhile, or be watched again.
            let Some(connection) = self.connections.still(slot, generation) else { continue };
            if connection.watch == Watch::Nothing && connection.phase != Phase::Ended {
                self.receive(slot);
                room -= 1;
            }
        }
    }

    /// Whether the last words of an open connection are still to be received: they are before anything else ends it.
    pub(super) fn is_leaving(&mut self, slot: u32) -> bool {
        let connection = self.connections.at(slot);
        let waits = matches!(connection.watch, Watch::Nothing | Watch::Starved);
        connection.phase == Phase::Open && waits && !connection.is_paused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_waits_behind_those_who_stay() {
        let mut leaving = Leaving::default();
        for (gone, others, room) in [
            (0, 0, CALM_LEAVING_MAX),
            (3, 4, CALM_LEAVING_MAX),
            (1000, 0, BUSY_LEAVING_MIN),
            (1000, 24, 24),
            (0, 1000, BUSY_LEAVING_MAX),
        ] {
            for (crowded, room) in [(false, room), (true, TURN_COMPLETIONS_MAX)] {
                (0..gone).for_each(|slot| leaving.push(slot, 0));
                (0..others).for_each(|_| leaving.note_other());
                assert_eq!(leaving.take_room(crowded), room, "{gone} have gone, and {others} stay");
            }
        }
    }
}
