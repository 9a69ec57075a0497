//! The states of users, whose connections may be on any core.
//!
//! A user is forgotten when nothing would be different without its state, and not before: to come back on another
//! connection is no way around a limit. That is looked for when the last of its connections goes, and after that by the
//! users that come new, each of which looks at a few others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::{Algorithm, State};
use crate::sharded::{ENTRIES_KEPT_MAX, SHARDS, Shards};

/// Users that each new one looks at. Several, so that those who have gone become fewer while others come.
const LOOKS: usize = 4;

/// About the bytes of a user beside its name: its place, and a good one and a half in the index to it.
const USER_BYTES: usize = size_of::<(u64, Box<str>, State)>() + 2 * size_of::<usize>();

/// The states of all users that have sent something of late.
pub(super) struct UserStates {
    parts: Shards<Part>,
    part_users_max: usize,
    users: AtomicUsize,
    bytes: AtomicUsize,
    /// Messages of users that there was no room for.
    unkept: AtomicU64,
}

#[derive(Default)]
struct Part {
    states: IndexMap<Box<str>, State, RandomState>,
    /// Who is looked at next.
    hand: usize,
}

impl Part {
    /// Looks at a few users, and forgets those who can be.
    fn sweep(&mut self, forgettable: impl Fn(&State) -> bool) -> Forgotten {
        let mut forgotten = Forgotten::default();
        for _ in 0..LOOKS.min(self.states.len()) {
            self.hand %= self.states.len().max(1);
            match self.states.get_index(self.hand) {
                Some((_, state)) if forgettable(state) => forgotten.add(self.states.swap_remove_index(self.hand)),
                _ => self.hand += 1,
            }
        }
        self.shrink();
        forgotten
    }

    fn remove(&mut self, user: &str) -> Forgotten {
        let mut forgotten = Forgotten::default();
        forgotten.add(self.states.swap_remove_entry(user));
        self.shrink();
        forgotten
    }

    /// Gives the memory back that a crowd has left.
    fn shrink(&mut self) {
        if self.states.capacity() > ENTRIES_KEPT_MAX.max(8 * self.states.len()) {
            self.states.shrink_to(ENTRIES_KEPT_MAX.max(2 * self.states.len()));
        }
    }
}

/// What there is less of.
#[derive(Default)]
struct Forgotten {
    users: usize,
    bytes: usize,
}

impl Forgotten {
    fn add(&mut self, entry: Option<(Box<str>, State)>) {
        if let Some((user, _)) = entry {
            self.users += 1;
            self.bytes += USER_BYTES + user.len();
        }
    }
}

impl UserStates {
    /// Nobody yet; so many are remembered at most, rounded up to what all parts of the table have room for.
    pub(super) fn new(users_max: usize) -> Self {
        Self {
            parts: Shards::new(),
            part_users_max: users_max.div_ceil(SHARDS),
            users: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            unkept: AtomicU64::new(0),
        }
    }

    /// Whether a user may send one more message; `None` if there is no room to remember that it has.
    pub(super) fn admit(&self, algorithm: Algorithm, user: &str, now: Duration) -> Option<bool> {
        let mut part = self.parts.of(user);
        if let Some(state) = part.states.get_mut(user) {
            return Some(algorithm.admit(state, now));
        }
        self.note(&part.sweep(|state| algorithm.is_as_new(state, now)));
        if part.states.len() >= self.part_users_max {
            self.unkept.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut state = State::default();
        let admitted = algorithm.admit(&mut state, now);
        part.states.insert(user.into(), state);
        self.users.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(USER_BYTES + user.len(), Ordering::Relaxed);
        Some(admitted)
    }

    /// A user has no more connections.
    pub(super) fn gone(&self, algorithm: Algorithm, user: &str, now: Duration) {
        let mut part = self.parts.of(user);
        if part.states.get(user).is_some_and(|state| algorithm.is_as_new(state, now)) {
            self.note(&part.remove(user));
        }
    }

    /// As if the user had sent nothing.
    pub(super) fn forget(&self, user: &str) {
        let forgotten = self.parts.of(user).remove(user);
        self.note(&forgotten);
    }

    fn note(&self, forgotten: &Forgotten) {
        self.users.fetch_sub(forgotten.users, Ordering::Relaxed);
        self.bytes.fetch_sub(forgotten.bytes, Ordering::Relaxed);
    }

    /// Users that something is remembered of.
    pub(super) fn len(&self) -> usize {
        self.users.load(Ordering::Relaxed)
    }

    /// Bytes of heap, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Messages of users that there was no room for.
    pub(super) fn unkept(&self) -> u64 {
        self.unkept.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::FixedWindow;

    const LENGTH: Duration = Duration::from_secs(10);
    const ONE: Algorithm = Algorithm::FixedWindow(FixedWindow { messages: 1, length: LENGTH });

    /// Sends a message of each of some users; how many of them there is no room for.
    fn send(states: &UserStates, users: std::ops::Range<u32>, now: Duration) -> usize {
        users.filter(|user| states.admit(ONE, &user.to_string(), now).is_none()).count()
    }

    #[test]
    fn a_user_who_goes_is_remembered_until_nothing_would_be_different() {
        let states = UserStates::new(1000);
        assert_eq!(states.admit(ONE, "ann", LENGTH), Some(true));
        states.gone(ONE, "ann", LENGTH);
        assert_eq!((states.admit(ONE, "ann", LENGTH), states.len()), (Some(false), 1));
        states.gone(ONE, "ann", 2 * LENGTH);
        assert_eq!((states.len(), states.memory_bytes()), (0, 0));
        assert_eq!(states.admit(ONE, "ann", LENGTH), Some(true), "as new");
        states.forget("ann");
        assert_eq!((states.len(), states.memory_bytes()), (0, 0));
    }

    #[test]
    fn crowds_that_have_gone_are_forgotten_while_others_come() {
        let states = UserStates::new(1_000_000);
        for crowd in 1..=20 {
            assert_eq!(send(&states, crowd * 10_000..(crowd + 1) * 10_000, crowd * LENGTH), 0);
            assert!(states.len() <= 20_000, "{} users", states.len());
        }
        assert!(states.memory_bytes() > states.len() * USER_BYTES);
    }

    #[test]
    fn there_is_room_for_so_many_users_and_again_when_they_can_be_forgotten() {
        let states = UserStates::new(1000);
        let unkept = send(&states, 0..10_000, LENGTH);
        assert!(unkept >= 9000 - SHARDS && states.len() == 10_000 - unkept, "{unkept} of 10,000 for 1000");
        assert_eq!(states.unkept(), unkept as u64);
        // Those that there are have their limits still.
        let kept = (0..10_000).filter(|user| states.admit(ONE, &u32::to_string(user), LENGTH) == Some(false)).count();
        assert_eq!(kept, 10_000 - unkept);
        // Chance puts more of them into one part than it has room for now and then.
        assert!(send(&states, 20_000..20_500, 2 * LENGTH) < 100);
        assert!(states.len() <= 1000 + SHARDS);
    }
}
