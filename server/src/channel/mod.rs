//! Channels: their names, and their options by pattern.

mod name;
mod rules;

pub use self::name::{ChannelError, ChannelName};
pub use self::rules::{ChannelOptions, ChannelRule, ChannelRules, Pattern, PatternError};
