//! So many messages in any window, wherever it begins.

use std::time::Duration;

use super::{State, nanos};

/// Parts of a window, each with a counter: as many as there is room for beside the number of the latest part.
const PARTS: u32 = 6;

/// Bits of a counter.
const COUNTER_BITS: u32 = u16::BITS;

/// Where the counters begin, above the number of the latest part.
const COUNTERS_SHIFT: u32 = u32::BITS;

const _: () = assert!(COUNTERS_SHIFT + PARTS * COUNTER_BITS == u128::BITS, "a state is full");

/// The parameters of a sliding window.
///
/// To know it exactly takes the time of every message of the last window. In place of that, messages are counted by
/// parts, a sixth of a window each, and the counters of the last six parts are what counts. So a message counts for
/// no longer than a window, and for no less than five sixths of one:
///
/// - whoever keeps to `messages` in every window is never refused;
/// - nobody gets more than `messages` into any five sixths of a window, and so no more than 6/5 of the rate for long,
///   and no more than twice `messages` into any one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Messages in a window.
    pub messages: u16,
    /// Its length: a second at least, so that 2^32 parts are longer than any server runs.
    pub length: Duration,
}

impl SlidingWindow {
    pub(super) fn admit(self, state: &mut State, now_ns: u64) -> bool {
        let (part, mut counters) = self.window(state, now_ns);
        let admitted = sum(counters >> COUNTERS_SHIFT) < u32::from(self.messages);
        counters += u128::from(admitted) << COUNTERS_SHIFT;
        let packed = counters | u128::from(part);
        #[expect(clippy::cast_possible_truncation, reason = "taken apart into two halves")]
        let halves = [packed as u64, (packed >> u64::BITS) as u64];
        state.0 = halves;
        admitted
    }

    /// Whether the window has nothing.
    pub(super) fn is_as_new(self, state: &State, now_ns: u64) -> bool {
        self.window(state, now_ns).1 == 0
    }

    /// The number of the present part, and the counters of the window that ends with it, where they stand in a state.
    fn window(self, state: &State, now_ns: u64) -> (u32, u128) {
        let [low, high] = state.0;
        let packed = u128::from(low) | u128::from(high) << u64::BITS;
        #[expect(clippy::cast_possible_truncation, reason = "the number of a part is the low 32 bits")]
        let latest = packed as u32;
        let part_ns = (nanos(self.length) / u64::from(PARTS)).max(1);
        let part = u32::try_from(now_ns / part_ns).unwrap_or(u32::MAX).max(latest);
        // What is shifted out has left the window.
        let passed = (part - latest).min(PARTS);
        let counters = (packed >> COUNTERS_SHIFT).checked_shl(passed * COUNTER_BITS + COUNTERS_SHIFT).unwrap_or(0);
        (part, counters)
    }
}

/// All counters together.
#[expect(clippy::cast_possible_truncation, reason = "a counter is the low 16 bits")]
fn sum(counters: u128) -> u32 {
    (0..PARTS).map(|index| u32::from((counters >> (index * COUNTER_BITS)) as u16)).sum()
}
