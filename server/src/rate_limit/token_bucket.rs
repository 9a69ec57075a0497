//! Tokens come at a steady rate into a bucket that holds so many of them; each message takes one.

use super::{NANOS_PER_SECOND, State};

/// The parameters of a token bucket.
///
/// What is missing from a full bucket is kept, in billionths of a token: at a whole number of tokens a second, that is
/// a whole number of them each nanosecond, so that nothing is ever rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Tokens that come in a second.
    pub messages_per_second: u32,
    /// Tokens that the bucket holds: messages that a sender who was silent may send at once.
    pub burst: u32,
}

impl TokenBucket {
    pub(super) fn admit(self, state: &mut State, now_ns: u64) -> bool {
        let [missing, at_ns] = &mut state.0;
        let come = now_ns.saturating_sub(*at_ns).saturating_mul(self.messages_per_second.into());
        *missing = missing.saturating_sub(come);
        *at_ns = now_ns.max(*at_ns);
        let wanted = *missing + NANOS_PER_SECOND;
        let admitted = wanted <= u64::from(self.burst) * NANOS_PER_SECOND;
        if admitted {
            *missing = wanted;
        }
        admitted
    }

    /// Whether the bucket is full.
    pub(super) fn is_as_new(self, state: &State, now_ns: u64) -> bool {
        let [missing, at_ns] = state.0;
        missing <= now_ns.saturating_sub(at_ns).saturating_mul(self.messages_per_second.into())
    }
}

const _: () =
    assert!((u32::MAX as u64 + 1).checked_mul(NANOS_PER_SECOND).is_some(), "the largest bucket can be counted");
