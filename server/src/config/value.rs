//! Values of settings: typed in the file, plain text in the environment and in flags.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use toml::de::DeValue;
use toml_writer::ToTomlValue as _;
use tracing_subscriber::filter::Targets;

use crate::address::{Network, NotANetwork};
use crate::channel::{Pattern, PatternError};
use crate::control::{ApiKey, KEY_BYTES_MIN, KeyError};

/// A value before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// From the file.
    Toml(&'a DeValue<'a>),
    /// From the environment or a flag.
    Text(&'a str),
}

impl Value<'_> {
    /// The text of a value that is written as a string; `expected` says what stands in it.
    pub(super) fn text(&self, expected: &str) -> Result<&str, String> {
        match self {
            Self::Toml(DeValue::String(text)) => Ok(text),
            Self::Toml(other) => Err(format!("expected {expected}, found {}", kind_of(other))),
            Self::Text(text) => Ok(text),
        }
    }
}

/// What a setting can be.
pub(super) trait SettingValue: Sized {
    /// What is expected, as a phrase with unit and range: "true or false".
    fn expected() -> Cow<'static, str>;

    /// The value, or a sentence about what is expected.
    fn from_value(value: Value<'_>) -> Result<Self, String>;

    /// The value as the file writes it; `None` if it can only be left out.
    fn to_toml(&self) -> Option<String>;
}

/// A text as a string of TOML.
pub(super) fn quoted(text: &str) -> String {
    toml_writer::TomlStringBuilder::new(text).as_basic().to_toml_value()
}

impl SettingValue for String {
    fn expected() -> Cow<'static, str> {
        "a string".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text(&Self::expected()).map(str::to_owned)
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

/// The name of a file.
impl SettingValue for PathBuf {
    fn expected() -> Cow<'static, str> {
        "the name of a file".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value.text(&Self::expected())? {
            "" => Err(format!("expected {}, found nothing", Self::expected())),
            path => Ok(path.into()),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl SettingValue for bool {
    fn expected() -> Cow<'static, str> {
        "true or false".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Toml(DeValue::Boolean(flag)) => Ok(*flag),
            Value::Text("true") => Ok(true),
            Value::Text("false") => Ok(false),
            Value::Toml(other) => Err(format!("expected true or false, found {}", kind_of(other))),
            Value::Text(other) => Err(format!("expected true or false, found `{other}`")),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A setting that is absent until it is set.
impl<V: SettingValue> SettingValue for Option<V> {
    fn expected() -> Cow<'static, str> {
        V::expected()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        V::from_value(value).map(Some)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(V::to_toml)
    }
}

/// A list in the file; separated by commas elsewhere.
impl<V: SettingValue> SettingValue for Vec<V> {
    fn expected() -> Cow<'static, str> {
        format!("a list, each item {}", V::expected()).into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| V::from_value(Value::Toml(item.get_ref()))).collect()
            }
            Value::Toml(other) => Err(format!("expected {}, found {}", Self::expected(), kind_of(other))),
            Value::Text(text) if text.trim().is_empty() => Ok(Self::new()),
            Value::Text(text) => text.split(',').map(|item| V::from_value(Value::Text(item.trim()))).collect(),
        }
    }

    fn to_toml(&self) -> Option<String> {
        let items: Option<Vec<_>> = self.iter().map(V::to_toml).collect();
        Some(format!("[{}]", items?.join(", ")))
    }
}

fn whole_number(most: u64) -> Cow<'static, str> {
    match most {
        u64::MAX => "a whole number from 1 up".into(),
        _ => format!("a whole number from 1 to {most}").into(),
    }
}

fn integer(value: Value<'_>, most: u64) -> Result<u64, String> {
    let expected = || format!("expected {}", whole_number(most));
    let number = match value {
        Value::Toml(DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        Value::Toml(other) => return Err(format!("{}, found {}", expected(), kind_of(other))),
        Value::Text(text) => text.parse().ok(),
    };
    number.filter(|number| (1..=most).contains(number)).ok_or_else(expected)
}

/// From five digits on in groups of three: 1_048_576.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

macro_rules! bounds {
    ($($type:ty),+) => { $(
        /// A bound. Zero would forbid what it bounds, which is never meant.
        impl SettingValue for $type {
            fn expected() -> Cow<'static, str> {
                whole_number(<$type>::MAX as u64)
            }

            fn from_value(value: Value<'_>) -> Result<Self, String> {
                let number = integer(value, <$type>::MAX as u64)?;
                <$type>::try_from(number).map_err(|error| error.to_string())
            }

            fn to_toml(&self) -> Option<String> {
                Some(grouped(*self as u64))
            }
        }
    )+ };
}

bounds!(u8, u16, u32, usize);

/// A number of cores.
impl SettingValue for NonZeroU16 {
    fn expected() -> Cow<'static, str> {
        whole_number(crore_engine::limits::CORES_MAX as u64)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let number = integer(value, crore_engine::limits::CORES_MAX as u64)?;
        u16::try_from(number).ok().and_then(Self::new).ok_or_else(|| format!("expected {}", Self::expected()))
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for Duration {
    fn expected() -> Cow<'static, str> {
        "a duration with its unit, such as \"30s\" or \"500ms\"".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = Self::expected();
        match humantime::parse_duration(value.text(&expected)?) {
            Ok(duration) if !duration.is_zero() => Ok(duration),
            Ok(_) => Err("must be longer than nothing".to_owned()),
            Err(error) => Err(format!("expected {expected}: {error}")),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&humantime::format_duration(*self).to_string()))
    }
}

/// A number of bytes that is written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl SettingValue for Bytes {
    fn expected() -> Cow<'static, str> {
        "a size with its unit, such as \"8GiB\" or \"500MB\"".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = Self::expected();
        let text = value.text(&expected)?.trim();
        // Without a unit it could be meant in any.
        if !text.ends_with(['b', 'B']) {
            return Err(format!("expected {expected}, found `{text}`"));
        }
        match text.parse::<ByteSize>() {
            Ok(ByteSize(bytes)) if bytes > 0 => Ok(Self(bytes)),
            Ok(_) => Err("must be more than nothing".to_owned()),
            Err(error) => Err(format!("expected {expected}: {error}")),
        }
    }

    /// In the largest unit that leaves a whole number.
    fn to_toml(&self) -> Option<String> {
        let (shift, unit) = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")]
            .into_iter()
            .find(|(shift, _)| self.0.is_multiple_of(1 << shift))?;
        Some(quoted(&format!("{}{unit}", self.0 >> shift)))
    }
}

impl SettingValue for SocketAddr {
    fn expected() -> Cow<'static, str> {
        "an address with a port, such as 127.0.0.1:8080 or [::]:8080".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = Self::expected();
        let text = value.text(&expected)?;
        text.parse().map_err(|_| format!("expected {expected}, found `{text}`"))
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl SettingValue for Network {
    fn expected() -> Cow<'static, str> {
        "a network such as \"10.0.0.0/8\", or an address such as \"192.0.2.7\"".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text(&Self::expected())?.parse().map_err(|error: NotANetwork| error.to_string())
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl SettingValue for Targets {
    fn expected() -> Cow<'static, str> {
        "a level such as info, or levels by module such as \"info,crore_engine=debug\"".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = Self::expected();
        value.text(&expected)?.parse().map_err(|error| format!("expected {expected}: {error}"))
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl SettingValue for Pattern {
    fn expected() -> Cow<'static, str> {
        "a channel's name, in which `{user}` may stand for a user's, and `*` at the end for anything more".into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text(&Self::expected())?.parse().map_err(|error: PatternError| error.to_string())
    }

    /// The default, which matches nothing, can't be written.
    fn to_toml(&self) -> Option<String> {
        (*self != Self::default()).then(|| quoted(&self.to_string()))
    }
}

impl SettingValue for ApiKey {
    fn expected() -> Cow<'static, str> {
        format!("a text of at least {KEY_BYTES_MIN} visible ASCII characters").into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text(&Self::expected())?.parse().map_err(|error: KeyError| error.to_string())
    }

    fn to_toml(&self) -> Option<String> {
        Some(quoted(self.as_str()))
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
