//! Section `rate_limit`.

use std::time::Duration;

/// How many messages a sender may send ([`rate_limit`](crate::rate_limit)).
#[derive(Clone, Debug)]
pub struct RateLimitConfig {
    /// Whether there is a limit.
    pub enabled: bool,
    /// How it is reckoned.
    pub algorithm: RateLimitAlgorithm,
    /// Who is a sender.
    pub key: RateLimitKey,
    /// Users that are remembered, where they are senders.
    pub users_max: usize,
    /// What becomes of a sender that sends too much.
    pub on_exceed: OnExceed,
    /// The close code, where it is closed.
    pub close_code: u16,
    /// Messages a second that a token bucket admits.
    pub messages_per_second: u32,
    /// Messages at once that a token bucket admits.
    pub burst: u32,
    /// Messages in a sliding window.
    pub sliding_window_messages: u16,
    /// The length of a sliding window, a second or more.
    pub sliding_window: Duration,
    /// Messages in a fixed window.
    pub fixed_window_messages: u32,
    /// The length of a fixed window.
    pub fixed_window: Duration,
}

/// How a limit is reckoned ([`Algorithm`](crate::rate_limit::Algorithm)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitAlgorithm {
    /// A steady rate, and a number of messages at once.
    TokenBucket,
    /// A number of messages in any window.
    SlidingWindow,
    /// A number of messages in each window.
    FixedWindow,
}

/// Who is a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitKey {
    /// Each connection.
    Connection,
    /// Each user, with all its connections.
    User,
}

/// What becomes of a sender that sends too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExceed {
    /// An error for each message.
    Error,
    /// An error, and the end of the connection.
    Close,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            algorithm: RateLimitAlgorithm::TokenBucket,
            key: RateLimitKey::Connection,
            users_max: 1_000_000,
            on_exceed: OnExceed::Error,
            close_code: 4008,
            messages_per_second: 10,
            burst: 20,
            sliding_window_messages: 100,
            sliding_window: Duration::from_secs(60),
            fixed_window_messages: 10,
            fixed_window: Duration::from_secs(1),
        }
    }
}
