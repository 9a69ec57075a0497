//! The states of users, whose connections may be on any core.

use std::time::Duration;

use super::{Algorithm, State};
use crate::sharded::{self, Sharded};

/// The states of all users that have sent something and have an open connection.
pub(super) struct UserStates(Sharded<Box<str>, State>);

impl UserStates {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    pub(super) fn admit(&self, algorithm: Algorithm, user: &str, now: Duration) -> bool {
        let mut shard = self.0.shard(user);
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
        sharded::remove(&mut self.0.shard(user), user);
    }

    /// Users that something is remembered of.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.sum(sharded::Shard::len)
    }
}
