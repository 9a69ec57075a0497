//! Signals: SIGINT and SIGTERM stop the server, SIGHUP makes it read its configuration again.

use std::io::{IsTerminal, stdin};

use crore_engine::{Drain, EngineHandle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::Config;
use crate::reload::Reloader;
use crate::service;

/// Service restart (IANA's registry of WebSocket close codes).
const CODE_RESTART: u16 = 1012;

/// How the server ends. Where closes are spread, their reason says when to come back: see [`crate::wire`].
fn terms(config: &Config) -> Drain {
    let patience = config.shutdown_timeout;
    let Some(spread) = config.shutdown_spread else { return Drain { patience, ..Drain::default() } };
    let delay = config.shutdown_reconnect_delay.as_secs().max(1);
    Drain { code: CODE_RESTART, reason: format!("restart; reconnect in 1-{delay} s"), spread, patience }
}

/// Receives the signals from now on, so that none finds the server at work without somebody to hear it.
///
/// # Errors
/// The system refuses.
pub(crate) fn receive(reloads: bool) -> std::io::Result<Signals> {
    let signals: &[i32] = if reloads { &[SIGINT, SIGTERM, SIGHUP] } else { &[SIGINT, SIGTERM] };
    Signals::new(signals)
}

/// Who does what signals say.
pub(crate) struct Servant {
    handle: EngineHandle,
    reloader: Reloader,
    draining: bool,
    on_terminal: bool,
}

impl Servant {
    pub(crate) fn new(handle: EngineHandle, reloader: Reloader) -> Self {
        Self { handle, reloader, draining: false, on_terminal: stdin().is_terminal() }
    }

    /// The first signal to stop drains; whoever sends another one does not want to wait.
    pub(crate) fn obey(&mut self, signal: i32) {
        if signal == SIGHUP && !self.terminal_has_gone() {
            return self.reload();
        }
        if self.draining {
            tracing::warn!(signal, "stopped at once, connections are cut");
            std::process::exit(128 + signal);
        }
        self.draining = true;
        let terms = terms(self.reloader.config());
        let Drain { spread, patience, .. } = &terms;
        let connections = self.handle.connections();
        tracing::info!(signal, connections, ?spread, ?patience, "draining; the next signal stops at once");
        service::say_stopping(&self.handle);
        self.handle.drain_with(terms);
    }

    fn reload(&mut self) {
        if self.draining {
            tracing::info!("the configuration is not read again: the server stops");
        } else {
            self.reloader.reload();
        }
    }

    /// Whether SIGHUP has its first meaning (`signal(7)`): whoever has closed the terminal wants no server that goes on
    /// without one.
    fn terminal_has_gone(&self) -> bool {
        self.on_terminal && !stdin().is_terminal()
    }
}
