//! How many messages a sender may send: three algorithms, and who counts as one sender.
//!
//! A message counts when it comes, whatever becomes of it: a binary or an invalid one like any other, each message of
//! a batch for itself, and a batch that is refused as one. A JSON `ping` does not count. What is too much is answered
//! by `{"type":"error","code":"rate_limited","error":"Rate limit exceeded"}`, and is not done; where
//! `rate_limit.on_exceed` says so, the connection is closed then.
//!
//! A sender is a connection, or a user with all its connections on all cores (`rate_limit.key`). A connection without
//! a user is one of its own in either case. A connection's limit ends with it. A user's does not: it is forgotten only
//! when nothing would be different without what is remembered of it, its bucket full or its window over, so that who
//! comes back on another connection is limited as before.
//!
//! As many users are remembered as `rate_limit.users_max` says. Where there is no room for one more, each of its
//! connections is limited by itself, as one without a user is. `crore_rate_limit_users` says how many are remembered, and
//! `crore_rate_limit_unkept_total` how many messages were counted against their connection for want of room.

mod fixed_window;
mod limiter;
mod reset;
mod sliding_window;
mod state;
mod token_bucket;
mod users;

use std::time::Duration;

pub use self::fixed_window::FixedWindow;
pub(crate) use self::limiter::{RateLimiter, UserNumbers};
pub use self::reset::reset;
pub(crate) use self::reset::{Reset, ResetUser};
pub use self::sliding_window::SlidingWindow;
pub use self::state::State;
pub use self::token_bucket::TokenBucket;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What decides whether a sender may send one more message: a function of its state and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A steady rate, and a number of messages at once.
    TokenBucket(TokenBucket),
    /// A number of messages in any window.
    SlidingWindow(SlidingWindow),
    /// A number of messages in each window.
    FixedWindow(FixedWindow),
}

impl Algorithm {
    /// Whether one more message may come at a time, counted from any fixed point. If so, it counts; one that is
    /// refused does not. A time before the last one, such as another core may have, counts as the last one.
    pub fn admit(self, state: &mut State, now: Duration) -> bool {
        let now_ns = nanos(now);
        match self {
            Self::TokenBucket(bucket) => bucket.admit(state, now_ns),
            Self::SlidingWindow(window) => window.admit(state, now_ns),
            Self::FixedWindow(window) => window.admit(state, now_ns),
        }
    }

    /// Whether a sender with this state will be admitted as one that has sent nothing, from this time on.
    #[must_use]
    pub fn is_as_new(self, state: &State, now: Duration) -> bool {
        let now_ns = nanos(now);
        match self {
            Self::TokenBucket(bucket) => bucket.is_as_new(state, now_ns),
            Self::SlidingWindow(window) => window.is_as_new(state, now_ns),
            Self::FixedWindow(window) => window.is_as_new(state, now_ns),
        }
    }
}

/// 584 years are for ever.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
