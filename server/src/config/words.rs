//! Settings that are one of a few words.

use std::borrow::Cow;

use crore_engine::limits::SlowConsumer;
use crore_engine::uring::DescriptorSetting;

use super::LogFormat;
use super::value::{SettingValue, Value, quoted};

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
                    $($variant => $word),+
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

words!(LogFormat:
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
);

/// "a, b or c".
fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
