//! The states of users, whose connections may be on any core.

use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Algorithm, State};

/// Parts of the table, each behind its own lock: far more than cores, so that two of them seldom meet.
const SHARDS: usize = 256;

/// A part of the table, on a cache line of its own: it is written with every message of its users.
#[derive(Default)]
#[repr(align(64))]
struct Shard(Mutex<HashMap<Box<str>, State, RandomState>>);

/// The states of all users that have sent something and have an open connection.
pub(super) struct UserStates {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

impl UserStates {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), hasher: RandomState::default() }
    }

    pub(super) fn admit(&self, algorithm: Algorithm, user: &str, now: Duration) -> bool {
        let mut shard = self.shard(user);
        match shard.get_mut(user) {
            Some(state) => algorithm.admit(state, now),
            None => {
                let mut state = State::default();
                let admitted = algorithm.admit(&mut state, now);
                shard.insert(user.into(), state);
                admitted
            }
        }
    }

    /// As if the user had sent nothing.
    pub(super) fn forget(&self, user: &str) {
        self.shard(user).remove(user);
    }

    fn shard(&self, user: &str) -> MutexGuard<'_, HashMap<Box<str>, State, RandomState>> {
        #[expect(clippy::cast_possible_truncation, reason = "a hash, and any part of it will do")]
        let index = self.hasher.hash_one(user) as usize % SHARDS;
        // Whoever panicked has left states, each of which is good at every moment.
        self.shards[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Users that something is remembered of.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().unwrap().len()).sum()
    }
}
