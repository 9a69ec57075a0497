//! How often others are told that a user types, on all its connections.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::wire::Sender;

/// Places for users in channels, 8 bytes each. Two that share one make each other forgotten, and are told of more often.
const PLACES: usize = 64 * 1024;

/// When which user was told of last: in each place the half of a hash, and the time in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Made when the first user types.
    places: OnceLock<Box<[AtomicU64]>>,
    hasher: RandomState,
}

impl Throttle {
    /// Whether others may be told that a user types in a channel; if so, not again within this time.
    pub(crate) fn admits(&self, user: Sender<'_>, channel: &str, now_ms: u64, interval: Duration) -> bool {
        let hash = match user {
            Sender::User(json) => self.hasher.hash_one((json, channel)),
            Sender::Connection(id) => self.hasher.hash_one((id, channel)),
        };
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        #[expect(clippy::cast_possible_truncation, reason = "a hash, and any part of it will do")]
        let place = &places[hash as usize % PLACES];
        // All that is read is this one number: there is nothing else that it would have to be ordered with. Of two
        // connections at the same moment both may pass.
        let last = place.load(Ordering::Relaxed);
        let (mark, now) = (mark(hash), low(now_ms));
        if last >> 32 == mark && u64::from(low(now_ms).wrapping_sub(low(last))) < millis(interval) {
            return false;
        }
        place.store(mark << 32 | u64::from(now), Ordering::Relaxed);
        true
    }
}

/// What tells apart those that share a place; never zero, which stands in a place that nobody has.
const fn mark(hash: u64) -> u64 {
    hash >> 32 | 1
}

/// Seven weeks of milliseconds: a time that is so much older is taken for a new one.
const fn low(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crore_engine::{ConnectionId, CoreId};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    // capability: 50
    #[test]
    fn a_user_is_told_of_once_in_an_interval_in_each_channel() {
        let throttle = Throttle::default();
        let ann = Sender::User("\"ann\"");
        let admits = |user, channel, now_ms| throttle.admits(user, channel, now_ms, SECOND);
        // Across the end of the 32 bits that are kept.
        let start = (7 << 32) - 500;
        assert!(admits(ann, "a", start));
        assert!(!admits(ann, "a", start) && !admits(ann, "a", start + 999));
        assert!(admits(ann, "b", start) && admits(Sender::User("\"bob\""), "a", start));
        assert!(admits(ann, "a", start + 1000) && !admits(ann, "a", start + 1999));
        let connection = |slot| Sender::Connection(ConnectionId::new(CoreId(0), slot, 0));
        assert!(admits(connection(1), "a", start) && admits(connection(2), "a", start));
        assert!(!admits(connection(1), "a", start + 1));
        // A clock that was set back.
        assert!(admits(ann, "b", start - 10_000));
    }

    #[test]
    fn few_of_many_users_are_forgotten() {
        let throttle = Throttle::default();
        let users: Vec<String> = (0..6_000).map(|user| format!("\"{user}\"")).collect();
        let admitted =
            |now_ms| users.iter().filter(|user| throttle.admits(Sender::User(user), "a", now_ms, SECOND)).count();
        assert_eq!(admitted(5000), users.len());
        let again = admitted(5001);
        assert!(again < users.len() / 3, "{again}");
    }
}
