//! Channels: their names, what holds for them by pattern, and who may do what there.

mod access;
mod name;
mod pattern;
mod rules;
mod slow;

pub(crate) use self::access::EXPECTED as AUDIENCE_EXPECTED;
pub use self::access::{Access, AccessError, Action, Audience, Grants, Identity, Who};
pub(crate) use self::name::is_internal;
pub use self::name::{ChannelError, ChannelName};
pub use self::pattern::{Pattern, PatternError};
pub use self::rules::{ChannelOptions, ChannelPresence, ChannelRule, ChannelRules, ChannelWebhook};
pub use self::slow::{SlowChannel, SlowChannelError, SlowPolicy};
