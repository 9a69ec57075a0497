//! The order of precedence: flag, environment, file, default.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors, Origin};
use super::file;
use super::setting::{Setting, nearest};
use super::settings::settings;
use super::value::Value;
use super::{ApiConfig, Config};

/// Prefix of the environment variables that are settings.
const ENVIRONMENT_PREFIX: &str = "CRORE_";

/// The variable that names the file.
const FILE_VARIABLE: &str = "CRORE_CONFIG";

/// A flag that was given: its name, the setting that it sets, its value.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As on the command line, `--listen` for example.
    pub name: &'static str,
    /// The setting.
    pub key: &'static str,
    /// The value.
    pub value: String,
}

/// Where a configuration comes from. It can be read again, when the file has changed.
#[derive(Clone, Debug)]
pub struct Sources {
    file: Option<PathBuf>,
    variables: Vec<(String, String)>,
    flags: Vec<Flag>,
}

impl Sources {
    /// The file that is named, or else the one that `CRORE_CONFIG` names, if there is one; those variables that
    /// are settings; and the flags.
    #[must_use]
    pub fn new(
        file: Option<PathBuf>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Vec<Flag>,
    ) -> Self {
        let mut variables: Vec<_> =
            environment.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        variables.sort();
        let mut file = file;
        variables.retain(|(name, value)| {
            let names_file = name == FILE_VARIABLE;
            if names_file {
                file.get_or_insert_with(|| value.into());
            }
            !names_file
        });
        Self { file, variables, flags }
    }

    /// The file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file, then the environment, then the flags: what comes later counts.
    ///
    /// # Errors
    /// The file can't be read, keys are unknown or values are none. Each error names its place.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        let (mut config, mut errors) = (Config::default(), Vec::new());
        if let Some(path) = &self.file {
            errors = file::read(path, &mut config);
        }
        for (name, value) in &self.variables {
            errors.extend(config.set_from_environment(name, value).err());
        }
        for Flag { name, key, value } in &self.flags {
            errors.extend(config.set(key, value, Origin::Flag(name)).err());
        }
        errors.extend(config.conflicts());
        // What is not even right by itself is not judged together with the rest.
        if errors.is_empty() {
            errors.extend(config.check().err());
        }
        ConfigErrors::unless(errors, config)
    }
}

impl Config {
    /// What is wrong with settings that depend on each other.
    fn conflicts(&self) -> Option<ConfigError> {
        let ApiConfig { enabled, listen, key, .. } = &self.api;
        if !*enabled || key.is_some() || listen.ip().to_canonical().is_loopback() {
            return None;
        }
        let problem = format!(
            "others reach {listen}, and there is no key: set `api.key` (`openssl rand -hex 32` makes one), or listen \
             on 127.0.0.1"
        );
        Some(ConfigError::Conflict { key: "api.listen", problem })
    }

    fn set_from_environment(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let origin = Origin::Environment(name.to_owned());
        match settings().find(|setting| variable(setting.key) == name) {
            Some(setting) => self.set(setting.key, value, origin),
            None => {
                let names: Vec<_> = settings().map(|setting| variable(setting.key)).collect();
                let nearest = nearest(name, names.iter().map(String::as_str));
                Err(ConfigError::UnknownKey { origin, key: name.to_owned(), nearest })
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        match Setting::find(settings(), key) {
            Some(setting) => setting.put(self, Value::Text(value)).map_err(|problem| ConfigError::Value {
                origin,
                key: key.to_owned(),
                problem,
            }),
            None => Err(ConfigError::UnknownKey {
                origin,
                key: key.to_owned(),
                nearest: nearest(key, settings().map(|setting| setting.key)),
            }),
        }
    }
}

/// The environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    let mut name = ENVIRONMENT_PREFIX.to_owned();
    name.extend(key.chars().map(|c| if c == '.' { '_' } else { c.to_ascii_uppercase() }));
    name
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn load(file: Option<PathBuf>, environment: &[(&str, &str)], flags: &[Flag]) -> Result<Config, String> {
        let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Sources::new(file, environment, flags.to_vec()).load().map_err(|errors| errors.to_string())
    }

    fn listen(port: u16) -> Flag {
        Flag { name: "--listen", key: "listen", value: format!("127.0.0.1:{port}") }
    }

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("crore-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_flag_outranks_the_environment_and_that_the_file() {
        let path = file("precedence", "listen = \"127.0.0.1:1\"\n[limits]\nping_interval = \"7s\"");
        let variables = [("CRORE_LISTEN", "127.0.0.1:2"), ("HOME", "/")];
        let port = |config: Config| config.listen.port();
        assert_eq!(load(None, &[], &[]).map(port), Ok(8080));
        let from_file = load(Some(path.clone()), &[], &[]).unwrap();
        assert_eq!((from_file.listen.port(), from_file.engine.ping_interval), (1, Duration::from_secs(7)));
        assert_eq!(load(Some(path.clone()), &variables, &[]).map(port), Ok(2));
        assert_eq!(load(Some(path.clone()), &variables, &[listen(3)]).map(port), Ok(3));
        assert_eq!(load(None, &[("CRORE_CONFIG", path.to_str().unwrap())], &[]).map(port), Ok(1));
        let other = file("other", "listen = \"127.0.0.1:9\"");
        assert_eq!(load(Some(other.clone()), &[("CRORE_CONFIG", path.to_str().unwrap())], &[]).map(port), Ok(9));
        fs::remove_file(path).unwrap();
        fs::remove_file(other).unwrap();
    }

    #[test]
    fn every_setting_has_a_variable_of_its_own() {
        let mut names: Vec<_> = settings().map(|setting| variable(setting.key)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), settings().count());
        assert!(!names.iter().any(|name| name == FILE_VARIABLE));
        let config = load(None, &[("CRORE_LIMITS_MESSAGE_BYTES_MAX", "5")], &[]).unwrap();
        assert_eq!(config.engine.message_bytes_max, 5);
    }

    #[test]
    fn an_api_that_others_reach_takes_a_key() {
        let (enabled, open) = (("CRORE_API_ENABLED", "true"), ("CRORE_API_LISTEN", "0.0.0.0:8081"));
        let key = ("CRORE_API_KEY", "0123456789abcdef");
        assert!(load(None, &[enabled, open], &[]).unwrap_err().starts_with("`api.listen`: others reach 0.0.0.0:8081"));
        assert!(load(None, &[enabled, open, key], &[]).unwrap().api.key.is_some());
        assert!(load(None, &[enabled], &[]).is_ok() && load(None, &[open], &[]).is_ok());
        assert!(load(None, &[("CRORE_API_KEY", "short")], &[]).unwrap_err().contains("16 characters"));
    }

    #[test]
    fn errors_name_the_variable_the_flag_or_the_file() {
        assert_eq!(
            load(None, &[("CRORE_LISTE", "x")], &[]).unwrap_err(),
            "environment variable CRORE_LISTE: there is no setting `CRORE_LISTE`; the nearest is `CRORE_LISTEN`"
        );
        let problem = load(None, &[("CRORE_SHUTDOWN_TIMEOUT", "soon")], &[]).unwrap_err();
        assert!(problem.starts_with("environment variable CRORE_SHUTDOWN_TIMEOUT: `shutdown_timeout`: "), "{problem}");
        let flag = Flag { name: "--cores", key: "cores", value: "none".to_owned() };
        assert!(load(None, &[], &[flag]).unwrap_err().starts_with("--cores: `cores`: expected a whole number"));
        let missing = PathBuf::from("/nowhere/crore.toml");
        assert!(load(Some(missing), &[], &[]).unwrap_err().starts_with("the configuration file /nowhere/crore.toml"));
        let variables = [("CRORE_LISTE", "x"), ("CRORE_LOG_FORMAT", "xml"), ("CRORE_LOG_LEVEL", "debug")];
        let problems = load(None, &variables, &[listen(1)]).unwrap_err();
        assert_eq!(problems.lines().count(), 2, "{problems}");
    }
}
