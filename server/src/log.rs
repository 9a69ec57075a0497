//! Logs: on the standard error stream, for people or for programs.
//!
//! Nothing logs a query string, a header's value or a message: they can carry secrets.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogConfig, LogFormat};

/// Starts to log, for the rest of the process. A program that embeds the server and logs already is
/// left alone.
pub fn start(config: &LogConfig) {
    let lines = fmt::layer().with_writer(stderr);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    if registry().with(lines.with_filter(config.level.clone())).try_init().is_err() {
        tracing::debug!("logging was set up before; `log` in the configuration has no effect");
    }
}
