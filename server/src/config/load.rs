//! The order of precedence: flag, environment, file, default.

use std::path::PathBuf;

use super::Config;
use super::error::{ConfigError, Origin};
use super::file;
use super::settings::{SETTINGS, Setting, nearest};
use super::value::Value;

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

impl Config {
    /// Reads the file, if one is named by a flag or by `CRORE_CONFIG`, then the environment, then the
    /// flags: what comes later counts.
    ///
    /// # Errors
    /// The file can't be read, a key is unknown or a value is none. The error names the place.
    pub fn load(
        file: Option<PathBuf>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut variables: Vec<_> =
            environment.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        variables.sort();
        let mut path = file;
        variables.retain(|(name, value)| {
            let names_file = name == FILE_VARIABLE;
            if names_file {
                path.get_or_insert_with(|| value.into());
            }
            !names_file
        });
        if let Some(path) = path {
            file::read(&path, &mut config)?;
        }
        for (name, value) in &variables {
            config.set_from_environment(name, value)?;
        }
        for Flag { name, key, value } in flags {
            config.set(key, value, Origin::Flag(name))?;
        }
        Ok(config)
    }

    fn set_from_environment(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let origin = Origin::Environment(name.to_owned());
        match SETTINGS.iter().find(|setting| variable(setting.key) == name) {
            Some(setting) => self.set(setting.key, value, origin),
            None => {
                let names: Vec<_> = SETTINGS.iter().map(|setting| variable(setting.key)).collect();
                let nearest = nearest(name, names.iter().map(String::as_str));
                Err(ConfigError::UnknownKey { origin, key: name.to_owned(), nearest })
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        match Setting::find(SETTINGS, key) {
            Some(setting) => (setting.put)(self, Value::Text(value)).map_err(|problem| ConfigError::Value {
                origin,
                key: key.to_owned(),
                problem,
            }),
            None => Err(ConfigError::UnknownKey {
                origin,
                key: key.to_owned(),
                nearest: nearest(key, SETTINGS.iter().map(|setting| setting.key)),
            }),
        }
    }
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
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
        Config::load(file, environment, flags).map_err(|error| error.to_string())
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
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| variable(setting.key)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(!names.iter().any(|name| name == FILE_VARIABLE));
        let config = load(None, &[("CRORE_LIMITS_MESSAGE_BYTES_MAX", "5")], &[]).unwrap();
        assert_eq!(config.engine.message_bytes_max, 5);
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
    }
}
