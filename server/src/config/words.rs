//! Settings that are one of a few words.

use std::borrow::Cow;

use crore_engine::limits::SlowConsumer;
use crore_engine::uring::DescriptorSetting;

use jsonwebtoken::Algorithm;

use super::value::{SettingValue, Value, quoted};
use super::{
    AuthMode, InboundOverload, LogFormat, OnExceed, ProxySetting, RateLimitAlgorithm, RateLimitKey, UserExcess,
    WhenDown,
};
use crate::address::AddressHeader;
use crate::auth::{OriginRejection, TokenSource};
use crate::channel::{ChannelPresence, SlowPolicy};

/// Says once which word means which variant.
macro_rules! words {
    ($type:ty: $($word:literal => $variant:path),+ $(,)?) => {
        impl SettingValue for $type {
            fn expected() -> Cow<'static, str> {
                alternatives(&[$($word),+]).into()
            }

            fn from_value(value: Value<'_>) -> Result<Self, String> {
                let expected = Self::expected();
                match value.text(&expected)? {
                    $($word => Ok($variant),)+
                    other => Err(format!("expected {expected}, found `{other}`")),
                }
            }

            fn to_toml(&self) -> Option<String> {
                Some(quoted(match self {
                    $($variant => $word,)+
                    // A variant of another crate's that has no word can't be set, and so is never shown.
                    #[allow(unreachable_patterns)]
                    _ => return None,
                }))
            }
        }
    };
}

words!(DescriptorSetting:
    "auto" => DescriptorSetting::Auto,
    "regular" => DescriptorSetting::Regular,
    "direct" => DescriptorSetting::Direct,
);

words!(SlowConsumer:
    "disconnect" => SlowConsumer::Disconnect,
    "drop_newest" => SlowConsumer::DropNewest,
    "drop_oldest" => SlowConsumer::DropOldest,
);

words!(AuthMode:
    "off" => AuthMode::Off,
    "optional" => AuthMode::Optional,
    "required" => AuthMode::Required,
);

words!(TokenSource:
    "bearer" => TokenSource::Bearer,
    "query" => TokenSource::Query,
    "subprotocol" => TokenSource::Subprotocol,
    "cookie" => TokenSource::Cookie,
    "message" => TokenSource::Message,
);

words!(OriginRejection:
    "403" => OriginRejection::Forbidden,
    "1008" => OriginRejection::PolicyViolation,
);

words!(Algorithm:
    "HS256" => Algorithm::HS256,
    "HS384" => Algorithm::HS384,
    "HS512" => Algorithm::HS512,
    "RS256" => Algorithm::RS256,
    "ES256" => Algorithm::ES256,
    "EdDSA" => Algorithm::EdDSA,
);

words!(AddressHeader:
    "x-forwarded-for" => AddressHeader::XForwardedFor,
    "x-real-ip" => AddressHeader::XRealIp,
    "forwarded" => AddressHeader::Forwarded,
);

words!(ProxySetting:
    "off" => ProxySetting::Off,
    "required" => ProxySetting::Required,
);

words!(SlowPolicy:
    "disconnect" => SlowPolicy::Disconnect,
    "drop_newest" => SlowPolicy::DropNewest,
    "drop_oldest" => SlowPolicy::DropOldest,
    "conflate" => SlowPolicy::Conflate,
);

words!(InboundOverload:
    "pause" => InboundOverload::Pause,
    "drop" => InboundOverload::Drop,
);

words!(ChannelPresence:
    "list" => ChannelPresence::List,
    "events" => ChannelPresence::Events,
);

words!(LogFormat:
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
);

words!(RateLimitAlgorithm:
    "token_bucket" => RateLimitAlgorithm::TokenBucket,
    "sliding_window" => RateLimitAlgorithm::SlidingWindow,
    "fixed_window" => RateLimitAlgorithm::FixedWindow,
);

words!(RateLimitKey:
    "connection" => RateLimitKey::Connection,
    "user" => RateLimitKey::User,
);

words!(OnExceed:
    "error" => OnExceed::Error,
    "close" => OnExceed::Close,
);

words!(UserExcess:
    "refuse" => UserExcess::Refuse,
    "replace" => UserExcess::Replace,
);

words!(WhenDown:
    "refuse" => WhenDown::Refuse,
    "allow" => WhenDown::Allow,
);

/// "a, b or c".
fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
