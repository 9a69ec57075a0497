//! So many messages in each window; a window begins with the first message after the end of the one before.

use std::time::Duration;

use super::{State, nanos};

/// The parameters of a fixed window.
///
/// Around the end of a window twice as many messages may come in a shorter time: a window's at its end, and the next
/// one's at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow {
    /// Messages in a window.
    pub messages: u32,
    /// Its length.
    pub length: Duration,
}

impl FixedWindow {
    pub(super) fn admit(self, state: &mut State, now_ns: u64) -> bool {
        let [start_ns, count] = &mut state.0;
        if self.is_over(*start_ns, *count, now_ns) {
            (*start_ns, *count) = (now_ns, 0);
        }
        let admitted = *count < u64::from(self.messages);
        *count += u64::from(admitted);
        admitted
    }

    /// Whether the next message begins a window.
    pub(super) fn is_as_new(self, state: &State, now_ns: u64) -> bool {
        let [start_ns, count] = state.0;
        self.is_over(start_ns, count, now_ns)
    }

    fn is_over(self, start_ns: u64, count: u64, now_ns: u64) -> bool {
        count == 0 || now_ns.saturating_sub(start_ns) >= nanos(self.length)
    }
}
