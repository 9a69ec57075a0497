//! What happens to a channel's messages at subscribers that read more slowly than it is published to.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crore_engine::Overflow;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What happens to a message for which there is no room at a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The subscriber is disconnected with 1013.
    Disconnect,
    /// The message is dropped.
    DropNewest,
    /// The oldest message that waits and may be dropped is.
    DropOldest,
    /// It takes the place of the message with the same key that waits.
    Conflate,
}

/// The policy of a channel. Without one `limits.slow_consumer` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlowChannel {
    /// What happens.
    pub policy: Option<SlowPolicy>,
    /// The field of `data`, at its top level, whose value is the key; for [`SlowPolicy::Conflate`].
    pub conflate_key: Option<String>,
}

/// A policy and a key that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlowChannelError {
    /// There is no key.
    #[error(
        "`slow_consumer = \"conflate\"` needs a `conflate_key`: the field of `data` that tells which messages replace each other"
    )]
    KeyMissing,
    /// There is a key that nothing is done with.
    #[error("`conflate_key` is for `slow_consumer = \"conflate\"` alone: set that, or leave the key out")]
    KeyUnused,
}

impl SlowChannel {
    /// Whether policy and key belong together.
    ///
    /// # Errors
    /// The one is there without the other.
    pub const fn check(&self) -> Result<(), SlowChannelError> {
        match (self.policy, &self.conflate_key) {
            (Some(SlowPolicy::Conflate), None) => Err(SlowChannelError::KeyMissing),
            (None | Some(SlowPolicy::Disconnect | SlowPolicy::DropNewest | SlowPolicy::DropOldest), Some(_)) => {
                Err(SlowChannelError::KeyUnused)
            }
            _ => Ok(()),
        }
    }

    /// What the engine is told about a message with this `data`, or without any. A message without the key replaces
    /// none, and may be dropped like the others.
    pub(crate) fn overflow(&self, data: Option<&str>) -> Overflow {
        match self.policy {
            None => Overflow::Limits,
            Some(SlowPolicy::Disconnect) => Overflow::Disconnect,
            Some(SlowPolicy::DropNewest) => Overflow::DropNewest,
            Some(SlowPolicy::DropOldest) => Overflow::DropOldest,
            Some(SlowPolicy::Conflate) => {
                let key = data.zip(self.conflate_key.as_deref()).and_then(|(data, field)| key_in(data, field));
                key.map_or(Overflow::DropOldest, Overflow::Conflate)
            }
        }
    }
}

/// The hash of a field's value, a string, a number or the like: the same on all cores, and not to be foreseen by
/// who would like his own symbol to replace another one's.
fn key_in(data: &str, field: &str) -> Option<u64> {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let value = serde_json::Deserializer::from_str(data).deserialize_map(Field(field)).ok()??;
    match value.get().as_bytes().first()? {
        b'{' | b'[' => None,
        // Two spellings are one string.
        b'"' => {
            let text: Cow<'_, str> = Cow::Owned(serde_json::from_str::<String>(value.get()).ok()?);
            Some(KEYS.hash_one((true, text)))
        }
        _ => Some(KEYS.hash_one((false, value.get()))),
    }
}

/// Finds a field of an object; of several with its name the last one, as JSON parsers do.
struct Field<'f>(&'f str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Name<'_>>()? {
            if name.0 == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_values_at_the_top_of_data() {
        let key = |data| key_in(data, "symbol");
        let abc = key(r#"{"price":1,"symbol":"ABC"}"#);
        assert!(abc.is_some());
        assert_eq!(abc, key(r#"{"symbol":"A\u0042C","volume":[{"symbol":"D"}]}"#), "another spelling");
        assert_eq!(abc, key(r#"{"symbol":"D","s\u0079mbol":"ABC"}"#), "the last one counts");
        assert_ne!(abc, key(r#"{"symbol":"ABD"}"#));
        assert_ne!(key(r#"{"symbol":1}"#), key(r#"{"symbol":"1"}"#));
        for none in [r#"{"price":1}"#, "17", "null", r#"["symbol"]"#, r#"{"symbol":{"a":1}}"#, r#"{"symbol":[1]}"#] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn a_policy_and_its_key_belong_together() {
        let channel = |policy, key: Option<&str>| SlowChannel { policy, conflate_key: key.map(Into::into) };
        assert_eq!(channel(None, None).check(), Ok(()));
        assert_eq!(channel(Some(SlowPolicy::Conflate), Some("symbol")).check(), Ok(()));
        assert_eq!(channel(Some(SlowPolicy::Conflate), None).check(), Err(SlowChannelError::KeyMissing));
        assert_eq!(channel(Some(SlowPolicy::DropOldest), Some("symbol")).check(), Err(SlowChannelError::KeyUnused));
        assert_eq!(channel(None, Some("symbol")).check(), Err(SlowChannelError::KeyUnused));
    }

    #[test]
    fn a_message_without_the_key_may_be_dropped() {
        let channel = SlowChannel { policy: Some(SlowPolicy::Conflate), conflate_key: Some("symbol".into()) };
        assert!(matches!(channel.overflow(Some(r#"{"symbol":"ABC"}"#)), Overflow::Conflate(_)));
        assert_eq!(channel.overflow(Some(r#"{"price":1}"#)), Overflow::DropOldest);
        assert_eq!(channel.overflow(None), Overflow::DropOldest);
        assert_eq!(SlowChannel::default().overflow(Some(r#"{"symbol":"ABC"}"#)), Overflow::Limits);
    }
}
