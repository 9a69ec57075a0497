//! A table that all cores share, in parts that each have a lock of their own.
//!
//! For what is touched when a connection opens or closes, or with a message at most for those who asked for it: a lock
//! is not free, and two cores that meet at one wait.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Parts of a table: far more than cores, so that two of them seldom meet.
pub(crate) const SHARDS: usize = 256;

/// Entries that a part keeps room for when a crowd has gone.
pub(crate) const ENTRIES_KEPT_MAX: usize = 64;

/// One part of a table.
pub(crate) type Shard<K, V> = HashMap<K, V, RandomState>;

/// A lock on a cache line of its own, so that cores which hold different locks do not slow each other.
#[repr(align(64))]
struct Line<T>(Mutex<T>);

/// The parts of a table, to one of which each key belongs. Whatever panics while it holds a part must leave it good: the
/// next one takes it as it is.
pub(crate) struct Shards<T> {
    lines: Box<[Line<T>]>,
    hasher: RandomState,
}

impl<T: Default> Shards<T> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { lines: (0..SHARDS).map(|_| Line(Mutex::new(T::default()))).collect(), hasher: RandomState::default() }
    }
}

impl<T> Shards<T> {
    /// The part that a key belongs to, locked.
    pub(crate) fn of<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, T> {
        #[expect(clippy::cast_possible_truncation, reason = "a hash, and any part of it will do")]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.lines[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Values by their keys.
pub(crate) struct Sharded<K, V>(Shards<Shard<K, V>>);

impl<K: Eq + Hash, V> Sharded<K, V> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self(Shards::new())
    }

    /// The part that has this key if any has, locked.
    pub(crate) fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, Shard<K, V>>
    where
        K: Borrow<Q>,
    {
        self.0.of(key)
    }

    /// A sum over all parts, each locked for its turn.
    #[cfg(test)]
    pub(crate) fn sum(&self, of: impl Fn(&Shard<K, V>) -> usize) -> usize {
        self.0.lines.iter().map(|line| of(&line.0.lock().unwrap())).sum()
    }
}

/// Removes an entry, and gives the memory back that a crowd has left.
pub(crate) fn remove<K: Borrow<Q> + Eq + Hash, V, Q: Eq + Hash + ?Sized>(shard: &mut Shard<K, V>, key: &Q) {
    shard.remove(key);
    if shard.capacity() > ENTRIES_KEPT_MAX.max(8 * shard.len()) {
        shard.shrink_to(ENTRIES_KEPT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_where_it_was_put_and_a_crowd_leaves_no_room_behind() {
        let table = Sharded::<Box<str>, u32>::new();
        let names: Vec<String> = (0..200_000).map(|number: u32| number.to_string()).collect();
        for (number, name) in (0..).zip(&names) {
            table.shard(name.as_str()).insert(name.as_str().into(), number);
        }
        assert_eq!(table.sum(Shard::len), names.len());
        assert!(table.sum(Shard::capacity) >= names.len());
        for (number, name) in (0..).zip(&names) {
            let mut shard = table.shard(name.as_str());
            assert_eq!(shard.get(name.as_str()), Some(&number));
            remove(&mut shard, name.as_str());
        }
        assert_eq!(table.sum(Shard::len), 0);
        assert!(table.sum(Shard::capacity) <= 2 * SHARDS * ENTRIES_KEPT_MAX);
    }
}
