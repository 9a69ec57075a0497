//! Logs: on the standard error stream, for people or for programs.
//!
//! Nothing logs a query string, a header's value or a message: they can carry secrets.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry};

use crate::config::{LogConfig, LogFormat};

/// The level of the process's logs, once they have started.
static LEVEL: OnceLock<Handle<Targets, Registry>> = OnceLock::new();

/// Starts to log, for the rest of the process. A program that embeds the server and logs already is
/// left alone.
pub fn start(config: &LogConfig) {
    let lines = fmt::layer().with_writer(stderr);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let (filter, level) = reload::Layer::new(config.level.clone());
    if registry().with(lines.with_filter(filter)).try_init().is_ok() {
        LEVEL.get_or_init(|| level);
    } else {
        tracing::debug!("logging was set up before; `log` in the configuration has no effect");
    }
}

/// Changes the level. False: the logs are not those of [`start`].
pub(crate) fn set_level(level: &Targets) -> bool {
    LEVEL.get().is_some_and(|handle| handle.reload(level.clone()).is_ok())
}
