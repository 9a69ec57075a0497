//! The configuration file: TOML, walked key by key so that an error names its line.

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::error::{ConfigError, Origin};
use super::settings::{CHANNEL_SETTINGS, SETTINGS, Setting, nearest};
use super::value::Value;
use crate::channel::ChannelRule;

/// Writes what a file says into a configuration.
pub(super) fn read(path: &Path, config: &mut Config) -> Result<(), ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    apply(path, &text, config)
}

/// The same for its text.
fn apply(path: &Path, text: &str, config: &mut Config) -> Result<(), ConfigError> {
    let source = Source { path, text };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: source.origin(error.span().unwrap_or_default()),
        problem: error.message().to_owned(),
    })?;
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        match value.get_ref() {
            DeValue::Array(rules) if name == CHANNELS => {
                for rule in rules {
                    config.channels.push(source.channel_rule(rule.get_ref(), rule.span())?);
                }
            }
            DeValue::Table(section) if sections().any(|known| known == name) => {
                source.put_all(section, &format!("{name}."), SETTINGS, config)?;
            }
            DeValue::Table(_) | DeValue::Array(_) if Setting::find(SETTINGS, name).is_none() => {
                return Err(ConfigError::UnknownKey {
                    origin: source.origin(key.span()),
                    key: name.to_owned(),
                    nearest: nearest(name, sections().chain([CHANNELS])),
                });
            }
            value => source.put(name, key.span(), value, SETTINGS, config)?,
        }
    }
    Ok(())
}

const CHANNELS: &str = "channels";

fn sections() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|setting| setting.key.split_once('.')).map(|(section, _)| section)
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    fn channel_rule(&self, rule: &DeValue<'_>, span: Range<usize>) -> Result<ChannelRule, ConfigError> {
        let problem = |problem: &str| ConfigError::Value {
            origin: self.origin(span.clone()),
            key: CHANNELS.to_owned(),
            problem: problem.to_owned(),
        };
        let DeValue::Table(table) = rule else {
            return Err(problem("expected tables: begin each with the line [[channels]]"));
        };
        if !table.iter().any(|(key, _)| key.get_ref() == "pattern") {
            return Err(problem("a rule needs a `pattern`: a channel's name, or a prefix followed by `*`"));
        }
        let mut parsed = ChannelRule::default();
        self.put_all(table, "", CHANNEL_SETTINGS, &mut parsed)?;
        Ok(parsed)
    }

    fn put_all<T>(
        &self,
        table: &DeTable<'_>,
        prefix: &str,
        settings: &[Setting<T>],
        target: &mut T,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            self.put(&format!("{prefix}{}", key.get_ref()), key.span(), value.get_ref(), settings, target)?;
        }
        Ok(())
    }

    fn put<T>(
        &self,
        key: &str,
        span: Range<usize>,
        value: &DeValue<'_>,
        settings: &[Setting<T>],
        target: &mut T,
    ) -> Result<(), ConfigError> {
        let origin = self.origin(span);
        let key = key.to_owned();
        match Setting::find(settings, &key) {
            Some(setting) => {
                (setting.put)(target, Value::Toml(value)).map_err(|problem| ConfigError::Value { origin, key, problem })
            }
            None => {
                let nearest = nearest(&key, settings.iter().map(|setting| setting.key));
                Err(ConfigError::UnknownKey { origin, key, nearest })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        apply(Path::new("crore.toml"), text, &mut config).map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn the_sample_shows_every_setting_with_its_default() {
        let sample = include_str!("../../crore.toml");
        let uncommented: String =
            sample.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        let mut config = parse(&uncommented).unwrap();
        for setting in SETTINGS {
            let name = setting.key.rsplit('.').next().unwrap();
            assert!(uncommented.contains(&format!("\n{name} = ")), "{} is missing", setting.key);
        }
        assert_eq!(config.channels.len(), 2, "the sample shows how to write rules");
        config.channels.clear();
        // These have no value that says "default".
        config.engine.memory_budget_bytes = None;
        config.cores = None;
        config.engine.connections_per_core_max = None;
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert_eq!(format!("{:?}", parse(sample).unwrap()), format!("{:?}", Config::default()));
    }

    #[test]
    fn errors_name_file_line_and_nearest_key() {
        let problem = |text: &str| parse(text).unwrap_err();
        assert_eq!(
            problem("# one\nlisten = \"127.0.0.1:1\"\nlissen = \"\""),
            "crore.toml:3: there is no setting `lissen`; the nearest is `listen`"
        );
        assert_eq!(
            problem("[limits]\n\nmesage_bytes_max = 1"),
            "crore.toml:3: there is no setting `limits.mesage_bytes_max`; the nearest is `limits.message_bytes_max`"
        );
        assert!(problem("ping_interval = \"1s\"").ends_with("the nearest is `limits.ping_interval`"));
        assert!(problem("[limit]\nping_interval = \"1s\"").ends_with("the nearest is `limits`"));
        assert!(problem("[[channel]]\npattern = \"a\"").ends_with("the nearest is `channels`"));
        assert_eq!(problem("\nlisten = 8080").split(": expected").next(), Some("crore.toml:2: `listen`"));
        assert!(problem("listen = ").starts_with("crore.toml:1: "));
        assert_eq!(
            problem("[compression]\nlevel = 10"),
            "crore.toml:2: `compression.level`: compression level 10: choose one from 1 (fast) to 9 (small)"
        );
        assert!(problem("[compression]\nserver_window_bits = 7").ends_with("7 window bits: choose from 8 to 15"));
        assert!(problem("[limits]\nping_interval = 30").contains("found a whole number"));
    }

    #[test]
    fn channel_rules_are_read_in_order() {
        let config =
            parse("[[channels]]\npattern = \"chat:*\"\necho = false\n[[channels]]\npattern = \"log\"").unwrap();
        assert_eq!(config.channels[0].options.echo, Some(false));
        assert_eq!(config.channels[1].options.echo, None);
        let problem = |text: &str| parse(text).unwrap_err();
        assert!(problem("[[channels]]\necho = true").contains("needs a `pattern`"));
        assert!(problem("channels = [1]").contains("[[channels]]"));
        assert!(problem("[[channels]]\npattern = \"a\"\nehco = true").ends_with("the nearest is `echo`"));
        assert!(problem("[[channels]]\npattern = \"a*b\"").contains("only at its end"));
    }
}
