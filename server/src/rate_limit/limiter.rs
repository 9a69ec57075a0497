//! The limit of a server that has one.

use std::time::{Duration, Instant};

use super::users::UserStates;
use super::{Algorithm, FixedWindow, SlidingWindow, State, TokenBucket};
use crate::config::{OnExceed, RateLimitAlgorithm, RateLimitConfig, RateLimitKey};

/// What is remembered of users.
pub(crate) struct UserNumbers {
    pub(crate) users: usize,
    /// Of heap, about.
    pub(crate) bytes: usize,
    /// Messages of users that there was no room for.
    pub(crate) unkept: u64,
}

/// Who may send how much.
pub(crate) struct RateLimiter {
    algorithm: Algorithm,
    /// Where users are senders.
    users: Option<UserStates>,
    /// The time that the states of users go by: each core's own begins at another moment.
    started: Instant,
    /// What a connection is closed with that sends too much; `None` if it stays open.
    close_code: Option<u16>,
}

impl RateLimiter {
    /// `None` where it is off.
    pub(crate) fn new(config: &RateLimitConfig) -> Option<Self> {
        config.enabled.then(|| Self {
            algorithm: algorithm(config),
            users: (config.key == RateLimitKey::User).then(|| UserStates::new(config.users_max)),
            started: Instant::now(),
            close_code: (config.on_exceed == OnExceed::Close).then_some(config.close_code),
        })
    }

    /// Whether a connection may send one more message, at the time of its core.
    pub(crate) fn admit_connection(&self, state: &mut State, now: Duration) -> bool {
        self.algorithm.admit(state, now)
    }

    /// Whether a user may send one more message, now; `None` if the sender is the connection, as it is also where there
    /// is no room for one more user.
    pub(crate) fn admit_user(&self, user: Option<&str>) -> Option<bool> {
        self.users.as_ref()?.admit(self.algorithm, user?, self.started.elapsed())
    }

    /// A user has no more connections.
    pub(crate) fn user_gone(&self, user: &str) {
        if let Some(users) = &self.users {
            users.gone(self.algorithm, user, self.started.elapsed());
        }
    }

    /// What is remembered of users, where they are senders.
    pub(crate) fn user_numbers(&self) -> Option<UserNumbers> {
        let users = self.users.as_ref()?;
        Some(UserNumbers { users: users.len(), bytes: users.memory_bytes(), unkept: users.unkept() })
    }

    /// As if the user had sent nothing.
    pub(crate) fn forget_user(&self, user: &str) {
        if let Some(users) = &self.users {
            users.forget(user);
        }
    }

    pub(crate) const fn close_code(&self) -> Option<u16> {
        self.close_code
    }
}

const fn algorithm(config: &RateLimitConfig) -> Algorithm {
    match config.algorithm {
        RateLimitAlgorithm::TokenBucket => {
            Algorithm::TokenBucket(TokenBucket { messages_per_second: config.messages_per_second, burst: config.burst })
        }
        RateLimitAlgorithm::SlidingWindow => Algorithm::SlidingWindow(SlidingWindow {
            messages: config.sliding_window_messages,
            length: config.sliding_window,
        }),
        RateLimitAlgorithm::FixedWindow => {
            Algorithm::FixedWindow(FixedWindow { messages: config.fixed_window_messages, length: config.fixed_window })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RateLimitConfig {
        RateLimitConfig {
            enabled: true,
            algorithm: RateLimitAlgorithm::FixedWindow,
            fixed_window_messages: 1000,
            fixed_window: Duration::from_secs(3600),
            ..RateLimitConfig::default()
        }
    }

    #[test]
    fn a_limiter_that_is_off_is_none() {
        assert!(RateLimiter::new(&RateLimitConfig::default()).is_none());
    }

    #[test]
    fn a_user_has_one_limit_on_all_cores_and_on_all_connections_one_after_another() {
        let limiter = RateLimiter::new(&RateLimitConfig { key: RateLimitKey::User, ..config() }).unwrap();
        let admitted: usize = std::thread::scope(|scope| {
            let send = || (0..700).filter(|_| limiter.admit_user(Some("ann")).unwrap()).count();
            let cores: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
            cores.into_iter().map(|core| core.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
        assert_eq!(limiter.admit_user(Some("bob")), Some(true), "another user");
        assert_eq!(limiter.admit_user(None), None, "nobody");
        let users = || limiter.user_numbers().unwrap().users;
        assert_eq!(users(), 2);
        limiter.user_gone("ann");
        assert_eq!((users(), limiter.admit_user(Some("ann"))), (2, Some(false)), "who comes back is as before");
        limiter.forget_user("ann");
        assert_eq!(users(), 1);
        assert_eq!(limiter.admit_user(Some("ann")), Some(true), "anew");
    }

    #[test]
    fn a_connection_has_a_limit_of_its_own() {
        let limiter = RateLimiter::new(&config()).unwrap();
        assert_eq!(limiter.admit_user(Some("ann")), None);
        let (mut one, mut other) = (State::default(), State::default());
        let admit = |state: &mut State| limiter.admit_connection(state, Duration::from_secs(7));
        assert_eq!((0..1500).filter(|_| admit(&mut one)).count(), 1000);
        assert!(admit(&mut other));
    }
}
