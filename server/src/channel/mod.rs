//! Channels: their names, and their options by pattern.

mod name;
mod rules;
mod slow;

pub use self::name::{ChannelError, ChannelName};
pub use self::rules::{ChannelOptions, ChannelRule, ChannelRules, Pattern, PatternError};
pub use self::slow::{SlowChannel, SlowChannelError, SlowPolicy};
