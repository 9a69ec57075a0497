//! The wiring: configuration → engine, signals → drain.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crore_engine::uring::descriptor_limit;
use crore_engine::{Engine, EngineHandle, Error, Running};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::call::Call;
use crate::config::Config;
use crate::router::Router;
use crate::service::{self, Service};
use crate::session::{Session, Shared};
use crate::wire::Refusal;

/// A server that has not started: a configuration, and who answers which type of message.
///
/// ```no_run
/// use crore_server::{Server, config::Config};
///
/// # fn main() -> Result<(), crore_server::app::ServeError> {
/// Server::new(Config::default())
///     .on("chat", |call| {
///         let channel = call.message().channel()?;
///         call.publish(&channel, "chat", true);
///         Ok(())
///     })
///     .run()
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    config: Config,
    router: Router,
    on_trim: fn(),
}

/// Why a server did not start, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The engine says why.
    #[error(transparent)]
    Engine(#[from] Error),
    /// SIGINT and SIGTERM can't be received.
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
}

impl Server {
    /// A server with the types of the [protocol](crate::wire).
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, router: Router::standard(), on_trim: || {} }
    }

    /// Lets a handler answer the messages of a type, in place of the built-in one if there is one.
    #[must_use]
    pub fn on(
        mut self,
        kind: &str,
        handler: impl Fn(&mut Call<'_, '_>) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.router = self.router.on(kind, handler);
        self
    }

    /// Calls `trim` on each core's thread when that has given back to the allocator what it does without: every
    /// second of traffic, and a few times after it. The allocator of a program is its own choice, and so is how to
    /// make it return what is free to the kernel.
    #[must_use]
    pub fn on_trim(mut self, trim: fn()) -> Self {
        self.on_trim = trim;
        self
    }

    /// Starts the server, and leaves signals to the caller.
    ///
    /// # Errors
    /// The address is taken, the kernel refuses, a limit is too low: the error says what to change.
    pub fn start(self) -> Result<Running, Error> {
        let Self { config, router, on_trim } = self;
        let cores = config.workers();
        let shared = Arc::new(Shared::new(&config, router, on_trim, cores));
        let known = Arc::clone(&shared);
        let running = Engine::bind(config.listen)?
            .cores(cores)
            .limits(config.engine)
            .compression(config.compression.enabled.then_some(config.compression.settings))
            .descriptors(config.descriptors)
            .start(move |_| Session::new(Arc::clone(&shared)))?;
        known.room.get_or_init(|| running.room());
        Ok(running)
    }

    /// Runs the server until SIGINT or SIGTERM, then drains it: a close frame (1001) to everyone, and
    /// `shutdown_timeout` for their answers. A second signal ends the process at once. As a service of systemd it
    /// says when it is ready and when it stops, and feeds the watchdog while every core works.
    ///
    /// # Errors
    /// As [`Self::start`], or a core has failed.
    pub fn run(self) -> Result<(), ServeError> {
        let patience = self.config.shutdown_timeout;
        for doubt in self.config.doubts() {
            tracing::warn!("{doubt}");
        }
        // Before the start, so that a signal never finds the server at work without somebody to hear it.
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(ServeError::Signals)?;
        let running = self.start()?;
        announce(&running);
        let service = Service::start(&running);
        let handle = running.handle().clone();
        let stop = signals.handle();
        let listener = thread::spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                obey(signal, count, &handle, patience);
            }
        });
        let outcome = running.join();
        drop(service);
        stop.close();
        let _ = listener.join();
        if outcome.is_ok() {
            tracing::info!("stopped");
        }
        Ok(outcome?)
    }
}

/// Says what the server has to work with, and where to look at it.
fn announce(running: &Running) {
    let features = running.features();
    let cores = running.handle().cores();
    let room = running.room();
    let per_core = room.connections_per_core_max;
    let connections = u64::from(per_core) * cores as u64;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), kernel = %features.release, cores, io_uring = %features, "crore");
    let memory_budget = room.memory_budget_bytes;
    tracing::info!(
        descriptor_limit = descriptor_limit(),
        memory_budget,
        per_core,
        "room for {connections} connections; what keeps it from more is {}",
        room.bound
    );
    let address = running.address();
    tracing::info!(%address, "listening");
    // Every interface is no address to visit; this machine is.
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip.to_string(),
        _ => "127.0.0.1".to_owned(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    tracing::info!("to try it, open http://{host}:{}/ in a browser", address.port());
}

/// The first signal drains; whoever sends another one does not want to wait.
fn obey(signal: i32, count: usize, handle: &EngineHandle, patience: Duration) {
    if count > 0 {
        tracing::warn!(signal, "stopped at once, connections are cut");
        std::process::exit(128 + signal);
    }
    tracing::info!(signal, connections = handle.connections(), ?patience, "draining; the next signal stops at once");
    service::say_stopping(handle);
    handle.drain(patience);
}
