use crore_engine::limits::SlowConsumer;
use crore_engine::uring::DescriptorSetting;

use super::*;

#[test]
fn text_is_read_by_type() {
    assert_eq!(Duration::from_value(Value::Text("1m 30s")), Ok(Duration::from_secs(90)));
    assert_eq!(Vec::from_value(Value::Text("/ws, /chat")), Ok(vec!["/ws".to_owned(), "/chat".to_owned()]));
    assert_eq!(Vec::<String>::from_value(Value::Text(" ")), Ok(Vec::new()));
    assert_eq!(u32::from_value(Value::Text("4096")), Ok(4096));
    assert_eq!(Bytes::from_value(Value::Text("8GiB")), Ok(Bytes(8 << 30)));
    assert_eq!(Bytes::from_value(Value::Text("1.5 GB")), Ok(Bytes(1_500_000_000)));
    assert_eq!(bool::from_value(Value::Text("false")), Ok(false));
    assert_eq!(SlowConsumer::from_value(Value::Text("drop_oldest")), Ok(SlowConsumer::DropOldest));
    assert_eq!(DescriptorSetting::from_value(Value::Text("direct")), Ok(DescriptorSetting::Direct));
}

#[test]
fn refusals_say_what_is_expected() {
    fn problem<T: SettingValue>(text: &str) -> String {
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
    assert!(problem::<Vec<u8>>("1,x").contains("from 1 to 255"));
    assert!(problem::<Targets>("info=loud").contains("info"));
    assert_eq!(problem::<DescriptorSetting>("fixed"), "expected auto, regular or direct, found `fixed`");
}

#[test]
fn what_is_written_is_read_back() {
    fn round<T: SettingValue + PartialEq + std::fmt::Debug>(value: T, toml: &str) {
        assert_eq!(value.to_toml().as_deref(), Some(toml));
        let table = format!("value = {toml}");
        let table = toml::de::DeTable::parse(&table).unwrap();
        let read = T::from_value(Value::Toml(table.get_ref()["value"].get_ref())).unwrap();
        assert_eq!(read, value);
    }
    round(String::from("a \\ and a \u{7f}"), "\"a \\\\ and a \\u007F\"");
    round(1_048_576_usize, "1_048_576");
    round(8192_u32, "8192");
    round(64_u8, "64");
    round(Duration::from_millis(90_500), "\"1m 30s 500ms\"");
    round(Bytes(3 << 29), "\"1536MiB\"");
    round(Bytes(1_000_000_001), "\"1000000001B\"");
    round(vec![String::from("/"), String::from("/ws")], "[\"/\", \"/ws\"]");
    round(Some(true), "true");
    round(SlowConsumer::DropNewest, "\"drop_newest\"");
    round("[::]:8080".parse::<SocketAddr>().unwrap(), "\"[::]:8080\"");
    round("info,crore_engine=debug".parse::<Targets>().unwrap(), "\"crore_engine=debug,info\"");
    round("chat:*".parse::<Pattern>().unwrap(), "\"chat:*\"");
    assert_eq!(None::<bool>.to_toml(), None);
}
