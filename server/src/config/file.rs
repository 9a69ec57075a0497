//! The configuration file: TOML, walked key by key so that an error names its line.

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::error::{ConfigError, Origin};
use super::setting::{Setting, nearest};
use super::settings::{CHANNEL_SETTINGS, SECTIONS, settings};
use super::value::Value;
use crate::channel::ChannelRule;

/// Writes what a file says into a configuration. Returns all that is wrong with it, from top to bottom.
pub(super) fn read(path: &Path, config: &mut Config) -> Vec<ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => apply(path, &text, config),
        Err(error) => vec![ConfigError::Unreadable { path: path.to_owned(), error }],
    }
}

/// The same for its text.
fn apply(path: &Path, text: &str, config: &mut Config) -> Vec<ConfigError> {
    let mut source = Source { path, text, errors: Vec::new() };
    let (table, problems) = DeTable::parse_recoverable(text);
    if problems.is_empty() {
        source.put_document(table.get_ref(), config);
    } else {
        // What the parser made of the rest is a guess.
        source.syntax(&problems);
    }
    source.errors.sort_by_key(ConfigError::line);
    source.errors
}

const CHANNELS: &str = "channels";

fn sections() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|section| section.name).filter(|name| !name.is_empty())
}

/// The file, and what has been found wrong with it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    errors: Vec<ConfigError>,
}

impl Source<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    /// The first problem of each line: those after it are mostly its consequences.
    fn syntax(&mut self, problems: &[toml::de::Error]) {
        for problem in problems {
            let origin = self.origin(problem.span().unwrap_or_default());
            let error = ConfigError::Syntax { origin, problem: problem.message().to_owned() };
            if !self.errors.iter().any(|other| other.line() == error.line()) {
                self.errors.push(error);
            }
        }
    }

    fn put_document(&mut self, table: &DeTable<'_>, config: &mut Config) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            match value.get_ref() {
                DeValue::Array(rules) if name == CHANNELS => {
                    let rules = rules.iter().filter_map(|rule| self.channel_rule(rule.get_ref(), rule.span()));
                    config.channels.extend(rules);
                }
                DeValue::Table(section) if sections().any(|known| known == name) => {
                    self.put_all(section, &format!("{name}."), settings(), config);
                }
                DeValue::Table(_) | DeValue::Array(_) if Setting::find(settings(), name).is_none() => {
                    let nearest = nearest(name, sections().chain([CHANNELS]));
                    self.unknown(name, key.span(), nearest);
                }
                value => self.put(name, key.span(), value, settings(), config),
            }
        }
    }

    fn unknown(&mut self, key: &str, span: Range<usize>, nearest: String) {
        self.errors.push(ConfigError::UnknownKey { origin: self.origin(span), key: key.to_owned(), nearest });
    }

    fn wrong(&mut self, key: &str, span: Range<usize>, problem: impl Into<String>) {
        let (origin, key, problem) = (self.origin(span), key.to_owned(), problem.into());
        self.errors.push(ConfigError::Value { origin, key, problem });
    }

    fn channel_rule(&mut self, rule: &DeValue<'_>, span: Range<usize>) -> Option<ChannelRule> {
        let DeValue::Table(table) = rule else {
            self.wrong(CHANNELS, span, "expected tables: begin each with the line [[channels]]");
            return None;
        };
        if !table.iter().any(|(key, _)| key.get_ref() == "pattern") {
            self.wrong(
                CHANNELS,
                span.clone(),
                "a rule needs a `pattern`: a channel's name, or a prefix followed by `*`",
            );
        }
        let mut parsed = ChannelRule::default();
        let errors = self.errors.len();
        self.put_all(table, "", CHANNEL_SETTINGS.iter(), &mut parsed);
        // What is wrong by itself is told once.
        if let (Err(error), true) = (parsed.slow.check(), self.errors.len() == errors) {
            self.wrong(CHANNELS, span, error.to_string());
        }
        Some(parsed)
    }

    fn put_all<T: Clone + Default + 'static>(
        &mut self,
        table: &DeTable<'_>,
        prefix: &str,
        settings: impl Iterator<Item = &'static Setting<T>> + Clone,
        target: &mut T,
    ) {
        for (key, value) in table {
            self.put(&format!("{prefix}{}", key.get_ref()), key.span(), value.get_ref(), settings.clone(), target);
        }
    }

    fn put<T: Clone + Default + 'static>(
        &mut self,
        key: &str,
        span: Range<usize>,
        value: &DeValue<'_>,
        settings: impl Iterator<Item = &'static Setting<T>> + Clone,
        target: &mut T,
    ) {
        match Setting::find(settings.clone(), key) {
            Some(setting) => {
                if let Err(problem) = setting.put(target, Value::Toml(value)) {
                    self.wrong(key, span, problem);
                }
            }
            None => self.unknown(key, span, nearest(key, settings.map(|setting| setting.key))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::SlowPolicy;
    use crate::config::error::ConfigErrors;
    use crate::config::sample::SHOWN;

    fn parse(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let errors = apply(Path::new("crore.toml"), text, &mut config);
        ConfigErrors::unless(errors, config).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_sample_sets_every_setting_to_its_default() {
        let sample = Config::sample();
        assert_eq!(format!("{:?}", parse(&sample).unwrap()), format!("{:?}", Config::default()));
        let uncommented: String =
            sample.lines().map(|line| format!("{}\n", line.strip_prefix(SHOWN).unwrap_or(line))).collect();
        let config = parse(&uncommented).unwrap();
        for setting in settings() {
            let name = setting.name();
            assert!(uncommented.contains(&format!("\n{name} = ")), "{} is missing", setting.key);
            let expected = setting.default().or(setting.example.map(str::to_owned));
            let shown = setting.toml(&config);
            // A secret does not show itself.
            let is_hidden = shown.as_deref().is_some_and(|shown| shown.starts_with("\"hidden"));
            assert!(is_hidden || shown == expected, "{}: {shown:?}", setting.key);
        }
        for setting in CHANNEL_SETTINGS {
            assert_eq!(setting.toml(&config.channels[0]).as_deref(), setting.example, "{}", setting.key);
        }
    }

    #[test]
    fn all_errors_are_told_and_none_twice() {
        let errors = parse(
            "listen = 1\nlissen = 2\n[compression]\nlevel = 10\nserver_window_bits = 9\n[limits]\nping_interval = 30\n\
             [[channels]]\necho = 1\n",
        );
        let errors = errors.unwrap_err();
        let lines: Vec<_> = errors.lines().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(
            lines,
            ["crore.toml:1", "crore.toml:2", "crore.toml:4", "crore.toml:7", "crore.toml:8", "crore.toml:9"],
            "{errors}"
        );
        let errors = parse("listen = \n[limits]\nping_interval = [\n").unwrap_err();
        assert!(errors.starts_with("crore.toml:1: ") && errors.contains("\ncrore.toml:3: "), "{errors}");
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
        assert!(problem("[http]\npaths = [\"ws\"]").ends_with("a path begins with `/`: `ws` does not"));
        assert!(problem("[http]\npaths = []").contains("at least one path"));
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
        let slow = |rest: &str| format!("[[channels]]\npattern = \"a\"\n{rest}");
        let config = parse(&slow("slow_consumer = \"conflate\"\nconflate_key = \"symbol\"")).unwrap();
        assert_eq!(config.channels[0].slow.policy, Some(SlowPolicy::Conflate));
        assert!(problem(&slow("slow_consumer = \"conflate\"")).contains("needs a `conflate_key`"));
        assert!(problem(&slow("conflate_key = \"symbol\"")).contains("for `slow_consumer = \"conflate\"` alone"));
        let wrong = problem(&slow("slow_consumer = \"conflat\"\nconflate_key = \"symbol\""));
        assert!(wrong.ends_with("drop_oldest or conflate, found `conflat`") && wrong.lines().count() == 1, "{wrong}");
    }
}
