//! Names of channels, as a client writes them and as the engine's topics know them.

use std::borrow::Cow;

/// A name that may be used: 1 to `limits.channel_bytes_max` bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelName<'a> {
    name: Cow<'a, str>,
    json: &'a str,
}

/// Why a name may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// It is a number, an object or the like.
    #[error("`channel` must be a string")]
    NotText,
    /// It is the empty string.
    #[error("`channel` is empty")]
    Empty,
    /// It exceeds the limit.
    #[error("`channel` is longer than {0} bytes (`limits.channel_bytes_max`)")]
    TooLong(usize),
    /// It has control characters, which hide in logs, or half a surrogate pair.
    #[error("`channel` contains control characters or broken escapes")]
    Unprintable,
}

impl<'a> ChannelName<'a> {
    /// Reads a JSON value. The value must be well-formed, which the decoder of messages sees to.
    ///
    /// # Errors
    /// It is no name.
    pub fn parse(json: &'a str, bytes_max: usize) -> Result<Self, ChannelError> {
        let quoted = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(ChannelError::NotText)?;
        // An escape has up to six bytes for one of the name.
        if quoted.len() > bytes_max.saturating_mul(6) {
            return Err(ChannelError::TooLong(bytes_max));
        }
        let name = if quoted.contains('\\') {
            Cow::Owned(serde_json::from_str(json).map_err(|_| ChannelError::Unprintable)?)
        } else {
            Cow::Borrowed(quoted)
        };
        Self::named(name, json, bytes_max)
    }

    /// The same, where the text that the value stands for is known.
    pub(crate) fn named(name: Cow<'a, str>, json: &'a str, bytes_max: usize) -> Result<Self, ChannelError> {
        match name.as_ref() {
            "" => Err(ChannelError::Empty),
            text if text.len() > bytes_max => Err(ChannelError::TooLong(bytes_max)),
            text if is_internal(text) => Err(ChannelError::Unprintable),
            _ => Ok(Self { name, json }),
        }
    }

    /// The name itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as the client wrote it, a JSON string.
    #[must_use]
    pub const fn json(&self) -> &'a str {
        self.json
    }
}

/// Whether a topic of the engine can't be a channel: the server has it for itself.
pub(crate) fn is_internal(topic: &str) -> bool {
    // In the first byte of what may be one; all are compared at once, eight together, and the last eight once more.
    let may_be = |byte: &u8| (*byte < 0x20) | (*byte == 0x7F) | (*byte == 0xC2);
    let any = |bytes: &[u8; 8]| bytes.iter().fold(false, |found, byte| found | may_be(byte));
    let bytes = topic.as_bytes();
    let found = match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().fold(any(last), |found, eight| found | any(eight)),
        None => bytes.iter().any(may_be),
    };
    found && topic.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_are_one_name() {
        let plain = ChannelName::parse("\"café\"", 16).unwrap();
        let escaped = ChannelName::parse(r#""caf\u00e9""#, 16).unwrap();
        assert_eq!(plain.name(), escaped.name());
        assert_eq!(escaped.json(), r#""caf\u00e9""#);
        assert!(matches!(plain.name, Cow::Borrowed(_)));
    }

    #[test]
    fn refusals_name_the_reason() {
        let refused = |json| ChannelName::parse(json, 4).unwrap_err();
        assert_eq!(refused("17"), ChannelError::NotText);
        assert_eq!(refused("\"\""), ChannelError::Empty);
        assert_eq!(refused("\"abcde\""), ChannelError::TooLong(4));
        assert_eq!(refused(r#""\u0041\u0041\u0041\u0041\u0041""#), ChannelError::TooLong(4));
        assert_eq!(refused(r#""a\nb""#), ChannelError::Unprintable);
        assert_eq!(refused(r#""\ud800""#), ChannelError::Unprintable);
        assert_eq!(refused("\"\u{7f}\""), ChannelError::Unprintable);
        assert_eq!(ChannelName::parse(r#""\u0041bcd""#, 4).unwrap().name(), "Abcd");
    }
}
