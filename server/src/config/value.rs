//! Values of settings: typed in the file, plain text in the environment and in flags.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use bytesize::ByteSize;
use crore_engine::limits::SlowConsumer;
use crore_engine::uring::DescriptorSetting;
use toml::de::DeValue;
use tracing_subscriber::filter::Targets;

use super::LogFormat;

/// A value before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// From the file.
    Toml(&'a DeValue<'a>),
    /// From the environment or a flag.
    Text(&'a str),
}

impl Value<'_> {
    /// Reads the value into its place. The error says what is expected.
    pub(super) fn read_into<T: FromValue>(self, place: &mut T) -> Result<(), String> {
        *place = T::from_value(self)?;
        Ok(())
    }

    fn text(&self, expected: &str) -> Result<&str, String> {
        match self {
            Self::Toml(DeValue::String(text)) => Ok(text),
            Self::Toml(other) => Err(format!("expected {expected}, found {}", kind_of(other))),
            Self::Text(text) => Ok(text),
        }
    }
}

/// What a setting can be.
pub(super) trait FromValue: Sized {
    /// The value, or a sentence about what is expected.
    fn from_value(value: Value<'_>) -> Result<Self, String>;
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text("a string").map(str::to_owned)
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Toml(DeValue::Boolean(flag)) => Ok(*flag),
            Value::Text("true") => Ok(true),
            Value::Text("false") => Ok(false),
            Value::Toml(other) => Err(format!("expected true or false, found {}", kind_of(other))),
            Value::Text(other) => Err(format!("expected true or false, found `{other}`")),
        }
    }
}

/// Only a channel's option can be unset.
impl FromValue for Option<bool> {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        bool::from_value(value).map(Some)
    }
}

fn integer(value: Value<'_>, most: u64) -> Result<u64, String> {
    let expected = || match most {
        u64::MAX => "expected a whole number from 1 up".to_owned(),
        _ => format!("expected a whole number from 1 to {most}"),
    };
    let number = match value {
        Value::Toml(DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        Value::Toml(other) => return Err(format!("{}, found {}", expected(), kind_of(other))),
        Value::Text(text) => text.parse().ok(),
    };
    number.filter(|number| (1..=most).contains(number)).ok_or_else(expected)
}

macro_rules! bounds {
    ($($type:ty),+) => { $(
        /// A bound. Zero would forbid what it bounds, which is never meant.
        impl FromValue for $type {
            fn from_value(value: Value<'_>) -> Result<Self, String> {
                let number = integer(value, <$type>::MAX as u64)?;
                <$type>::try_from(number).map_err(|error| error.to_string())
            }
        }
    )+ };
}

bounds!(u8, u32, usize);

impl FromValue for Option<u32> {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        u32::from_value(value).map(Some)
    }
}

impl FromValue for Option<NonZeroU16> {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let number = integer(value, crore_engine::limits::CORES_MAX as u64)?;
        Ok(u16::try_from(number).ok().and_then(NonZeroU16::new))
    }
}

impl FromValue for Duration {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = "a duration with its unit, such as \"30s\" or \"500ms\"";
        match humantime::parse_duration(value.text(expected)?) {
            Ok(duration) if !duration.is_zero() => Ok(duration),
            Ok(_) => Err("must be longer than nothing".to_owned()),
            Err(error) => Err(format!("expected {expected}: {error}")),
        }
    }
}

/// A number of bytes that is written with its unit.
pub(super) struct Bytes(pub(super) u64);

impl FromValue for Bytes {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = "a size with its unit, such as \"8GiB\" or \"500MB\"";
        let text = value.text(expected)?.trim();
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
}

impl FromValue for SocketAddr {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = "an address with a port, such as 127.0.0.1:8080 or [::]:8080";
        let text = value.text(expected)?;
        text.parse().map_err(|_| format!("expected {expected}, found `{text}`"))
    }
}

/// Paths: a list in the file, separated by commas elsewhere.
impl FromValue for Vec<String> {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let paths = match value {
            Value::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| String::from_value(Value::Toml(item.get_ref()))).collect::<Result<_, _>>()?
            }
            Value::Toml(other) => return Err(format!("expected a list of paths, found {}", kind_of(other))),
            Value::Text(text) => text.split(',').map(|path| path.trim().to_owned()).collect::<Self>(),
        };
        match paths.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(format!("a path begins with `/`: `{path}` does not")),
            None => Ok(paths),
        }
    }
}

impl FromValue for DescriptorSetting {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        value.text("auto, regular or direct")?.parse().map_err(|error| format!("{error}"))
    }
}

impl FromValue for SlowConsumer {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = "disconnect, drop_newest or drop_oldest";
        match value.text(expected)? {
            "disconnect" => Ok(Self::Disconnect),
            "drop_newest" => Ok(Self::DropNewest),
            "drop_oldest" => Ok(Self::DropOldest),
            other => Err(format!("expected {expected}, found `{other}`")),
        }
    }
}

impl FromValue for LogFormat {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value.text("text or json")? {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("expected text or json, found `{other}`")),
        }
    }
}

impl FromValue for Targets {
    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let expected = "a level such as info, or levels by module such as \"info,crore_engine=debug\"";
        value.text(expected)?.parse().map_err(|error| format!("expected {expected}: {error}"))
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
mod tests {
    use super::*;

    #[test]
    fn text_is_read_by_type() {
        assert_eq!(Duration::from_value(Value::Text("1m 30s")), Ok(Duration::from_secs(90)));
        assert_eq!(Vec::from_value(Value::Text("/ws, /chat")), Ok(vec!["/ws".to_owned(), "/chat".to_owned()]));
        assert_eq!(u32::from_value(Value::Text("4096")), Ok(4096));
        assert_eq!(Bytes::from_value(Value::Text("8GiB")).map(|bytes| bytes.0), Ok(8 << 30));
        assert_eq!(Bytes::from_value(Value::Text("1.5 GB")).map(|bytes| bytes.0), Ok(1_500_000_000));
        assert_eq!(bool::from_value(Value::Text("false")), Ok(false));
        assert_eq!(SlowConsumer::from_value(Value::Text("drop_oldest")), Ok(SlowConsumer::DropOldest));
        assert_eq!(DescriptorSetting::from_value(Value::Text("direct")), Ok(DescriptorSetting::Direct));
    }

    #[test]
    fn refusals_say_what_is_expected() {
        fn problem<T: FromValue>(text: &str) -> String {
            T::from_value(Value::Text(text)).err().unwrap()
        }
        assert!(problem::<Duration>("30").contains("\"30s\""));
        assert!(problem::<Duration>("0s").contains("longer"));
        assert!(problem::<Bytes>("8").contains("\"8GiB\""));
        assert!(problem::<Bytes>("0GiB").contains("more than nothing"));
        assert!(problem::<Bytes>("many GB").contains("\"8GiB\""));
        assert!(problem::<u32>("0").contains("from 1 to 4294967295"));
        assert!(problem::<usize>("-3").contains("from 1 up"));
        assert!(problem::<Option<NonZeroU16>>("65").contains("from 1 to 64"));
        assert!(problem::<SocketAddr>("8080").contains("127.0.0.1:8080"));
        assert!(problem::<Vec<String>>("ws").contains("begins with `/`"));
        assert!(problem::<Targets>("info=loud").contains("info"));
        assert!(problem::<DescriptorSetting>("fixed").contains("regular"));
    }
}
