//! Permissions, as the rules of channels have them, and whether they go together with the rest.

use std::borrow::Cow;

use toml::de::DeValue;

use super::value::{SettingValue, Value};
use super::{AuthMode, Config, ConfigError};
use crate::channel::{AUDIENCE_EXPECTED, Audience, Who};

impl SettingValue for Audience {
    fn expected() -> Cow<'static, str> {
        format!("one or a list of {AUDIENCE_EXPECTED}").into()
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let words = match value {
            Value::Toml(DeValue::Array(_)) => Vec::<String>::from_value(value)?,
            one => vec![one.text(&Self::expected())?.to_owned()],
        };
        Self::from_words(words.iter().map(String::as_str)).map_err(|error| error.to_string())
    }

    fn to_toml(&self) -> Option<String> {
        self.words().collect::<Vec<_>>().to_toml()
    }
}

impl Config {
    /// Whether the rules of channels go together, with each other and with the rest.
    pub(super) fn check_channels(&self) -> Result<(), ConfigError> {
        let conflict = |problem| Err(ConfigError::Conflict { key: "channels", problem });
        for (index, rule) in self.channels.iter().enumerate() {
            let pattern = &rule.pattern;
            if self.channels[..index].iter().any(|earlier| earlier.pattern == *pattern) {
                return conflict(format!("there are two rules for `{pattern}`: put what they say into one"));
            }
            if let Err(error) = rule.access.check(pattern) {
                return conflict(format!("the rule for `{pattern}`: {error}"));
            }
            if !self.auth.has_subscription_keys() && rule.access.audiences().any(|audience| audience.has(&Who::Token)) {
                return conflict(format!(
                    "the rule for `{pattern}` takes tokens for the channel, and there is no key to check them with: set \
                     `auth.subscription_secret`, or another one of `auth` with an `auth.mode` that is not \"off\""
                ));
            }
        }
        Ok(())
    }

    /// Rules that let in nobody of those whom they name, which is hardly meant.
    pub(super) fn doubts_of_channels(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.auth.mode != AuthMode::Off {
            return doubts;
        }
        for rule in &self.channels {
            let (pattern, names) = (&rule.pattern, |who: fn(&Audience) -> bool| rule.access.audiences().any(who));
            if names(Audience::needs_grants) {
                doubts.push(format!(
                    "`channels`: the rule for `{pattern}` asks for what only tokens of users say (`granted`, `role:…`), \
                     and they are not looked at: set `auth.mode`"
                ));
            }
            if names(Audience::needs_user) && !self.identity.trust_user_header {
                doubts.push(format!(
                    "`channels`: the rule for `{pattern}` asks who somebody is (`users`, `owner`), and nobody says so: \
                     set `auth.mode`, or `identity.trust_user_header` behind a proxy"
                ));
            }
        }
        doubts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Access, ChannelRule};
    use crate::config::Secret;

    fn rule(pattern: &str, words: &[&str]) -> ChannelRule {
        let subscribe = Some(Audience::from_words(words.iter().copied()).unwrap());
        let access = Access { subscribe, ..Access::default() };
        ChannelRule { pattern: pattern.parse().unwrap(), access, ..ChannelRule::default() }
    }

    fn problem(rules: &[ChannelRule]) -> String {
        Config { channels: rules.to_vec(), ..Config::default() }.check().unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_to_do() {
        let users = rule("chat:*", &["users"]);
        assert!(Config { channels: vec![users.clone()], ..Config::default() }.check().is_ok());
        assert!(problem(&[users.clone(), users]).contains("two rules for `chat:*`"));
        assert!(problem(&[rule("a", &["owner"])]).contains("the rule for `a`: `owner`"));
        assert!(problem(&[rule("a", &["token"])]).contains("`auth.subscription_secret`"));
        let mut config = Config { channels: vec![rule("a", &["token"])], ..Config::default() };
        config.auth.secret = Some(Secret::new("s".repeat(32)));
        assert!(config.check().is_err(), "a key that is not looked at is none");
        config.auth.mode = AuthMode::Optional;
        assert!(config.check().is_ok());
        config.auth = crate::config::AuthConfig::default();
        config.auth.subscription_secret = Some(Secret::new("s".repeat(32)));
        assert!(config.check().is_ok());
    }

    #[test]
    fn roles_that_nobody_can_have_are_doubtful() {
        let mut config = Config { channels: vec![rule("a", &["users", "role:admin"])], ..Config::default() };
        assert!(config.doubts()[0].starts_with("`channels`: the rule for `a` asks for what only tokens"));
        assert!(config.doubts()[1].starts_with("`channels`: the rule for `a` asks who somebody is"));
        config.identity.trust_user_header = true;
        assert_eq!(config.doubts().len(), 1);
        config.identity.trust_user_header = false;
        config.auth.mode = AuthMode::Required;
        assert_eq!(config.doubts(), [""; 0]);
    }

    #[test]
    fn an_audience_is_a_word_or_a_list() {
        let read = |text: &'static str| Audience::from_value(Value::Text(text));
        assert_eq!(read("users").unwrap().to_toml().unwrap(), "[\"users\"]");
        assert!(read("everyone").unwrap_err().starts_with("expected anyone, users, owner"));
    }
}
