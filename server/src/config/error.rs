//! What can be wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {} can't be read: {error}", path.display())]
    Unreadable {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {problem}")]
    Syntax {
        /// The place.
        origin: Origin,
        /// What the parser says.
        problem: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting `{key}`; the nearest is `{nearest}`")]
    UnknownKey {
        /// The place.
        origin: Origin,
        /// The key as it was written.
        key: String,
        /// The existing key that looks most like it.
        nearest: String,
    },
    /// The setting exists and its value is none.
    #[error("{origin}: `{key}`: {problem}")]
    Value {
        /// The place.
        origin: Origin,
        /// The setting.
        key: String,
        /// What is expected.
        problem: String,
    },
    /// Settings do not go together.
    #[error("`{key}`: {problem}")]
    Conflict {
        /// The setting that can't stay as it is.
        key: &'static str,
        /// With what it does not go together, and what to do.
        problem: String,
    },
}

impl ConfigError {
    /// The line of the file, counted from 1, if it is to be mended there.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { origin, .. } | Self::UnknownKey { origin, .. } | Self::Value { origin, .. } => {
                match origin {
                    Origin::File { line, .. } => Some(*line),
                    Origin::Environment(_) | Origin::Flag(_) => None,
                }
            }
            Self::Unreadable { .. } | Self::Conflict { .. } => None,
        }
    }
}

/// All that is wrong with a configuration, in the order in which it was read; never nothing.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The value, if nothing is wrong.
    pub(super) fn unless<T>(errors: Vec<ConfigError>, value: T) -> Result<T, Self> {
        if errors.is_empty() { Ok(value) } else { Err(Self(errors)) }
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

/// A line for each.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "\n" } else { "" })?;
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
