//! How many connections an address has, on all cores together.
//!
//! Shared by the cores, so that it is touched only when a connection comes and when it has gone.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::AddressKey;

/// Parts of the table, each behind its own lock: far more than cores, so that two of them seldom meet.
const SHARDS: usize = 256;

/// Entries that a part keeps room for when a crowd has gone.
const ENTRIES_KEPT_MAX: usize = 64;

type Shard = HashMap<AddressKey, u32, RandomState>;

/// Everyone's connections, counted.
pub(crate) struct AddressLimit {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    connections_max: u32,
}

impl AddressLimit {
    /// Nobody yet; so many connections for each.
    pub(crate) fn new(connections_max: u32) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            connections_max,
        })
    }

    /// A place for one more connection, or `None` if there are as many as there may be.
    pub(crate) fn enter(self: &Arc<Self>, key: AddressKey) -> Option<Seat> {
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_default();
        if *count >= self.connections_max {
            return None;
        }
        *count += 1;
        Some(Seat { limit: Arc::clone(self), key })
    }

    fn leave(&self, key: AddressKey) {
        let mut shard = self.shard(key);
        if let Some(count) = shard.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&key);
            }
        }
        if shard.capacity() > ENTRIES_KEPT_MAX.max(8 * shard.len()) {
            shard.shrink_to(ENTRIES_KEPT_MAX);
        }
    }

    fn shard(&self, key: AddressKey) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "a hash, and any part of it will do")]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // Whoever panicked has left counts, which are good at every moment.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among those of its address: given back when it is dropped, however the connection ends.
pub(crate) struct Seat {
    limit: Arc<AddressLimit>,
    key: AddressKey,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.key).finish()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.limit.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::thread;

    use super::*;

    fn key(number: u32) -> AddressKey {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn a_place_is_one_connections_until_it_has_gone() {
        let limit = AddressLimit::new(2);
        let seats = [limit.enter(key(1)).unwrap(), limit.enter(key(1)).unwrap()];
        assert!(limit.enter(key(1)).is_none());
        assert!(limit.enter(key(2)).is_some(), "another's");
        drop(seats);
        assert!(limit.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nothing is left");
        assert!(limit.enter(key(1)).is_some());
    }

    #[test]
    fn cores_together_give_out_no_place_too_many() {
        let limit = AddressLimit::new(100);
        let seats: Vec<Seat> = thread::scope(|scope| {
            let cores: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter_map(|_| limit.enter(key(7))).collect::<Vec<_>>()))
                .collect();
            cores.into_iter().flat_map(|core| core.join().unwrap()).collect()
        });
        assert_eq!(seats.len(), 100);
    }

    #[test]
    fn a_crowd_leaves_no_room_behind() {
        let limit = AddressLimit::new(1);
        let seats: Vec<Seat> = (0..200_000).map(|number| limit.enter(key(number)).unwrap()).collect();
        let capacity = || limit.shards.iter().map(|shard| shard.lock().unwrap().capacity()).sum::<usize>();
        assert!(capacity() >= 200_000);
        drop(seats);
        assert!(capacity() <= 2 * SHARDS * ENTRIES_KEPT_MAX, "{}", capacity());
    }
}
