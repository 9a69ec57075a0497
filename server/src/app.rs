//! The wiring: configuration → engine, signals → drain or reload.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crore_engine::uring::descriptor_limit;
use crore_engine::{Engine, Error, Limits, ProxyProtocol, Running, SlowConsumer};

use crate::address::TrustedProxies;
use crate::auth::{Auth, KeyError, SubscriptionTokens};
use crate::call::Call;
use crate::config::{Config, ConfigError, ProxySetting, Sources};
use crate::control::{self, ControlError};
use crate::node::Node;
use crate::policy::Policy;
use crate::reload::Reloader;
use crate::router::Router;
use crate::service::Service;
use crate::session::{Session, Shared};
use crate::signals::{self, Servant};
use crate::webhook::{Webhook, WebhookError};
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
///         call.publish(&channel, "chat", true)
///     })
///     .run()
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    config: Config,
    sources: Option<Sources>,
    router: Router,
    on_trim: fn(),
}

/// Why a server did not start, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The engine says why.
    #[error(transparent)]
    Engine(#[from] Error),
    /// There is no control thread.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Tokens can't be checked.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The webhook's backend can't be asked.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// SIGINT, SIGTERM and SIGHUP can't be received.
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
}

impl Server {
    /// A server with the types of the [protocol](crate::wire).
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, sources: None, router: Router::standard(), on_trim: || {} }
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

    /// Reads the configuration again, from there, when [`Self::run`] receives SIGHUP. What can be changed in a server
    /// that runs is ([`Config::change_to`]); the log says what has changed, and what needs a restart. A configuration
    /// with an error changes nothing. Without sources SIGHUP is left to the program.
    #[must_use]
    pub fn reload_from(mut self, sources: Sources) -> Self {
        self.sources = Some(sources);
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
    /// Settings contradict each other, a key can't be read, an address is taken, the kernel refuses, a limit is too
    /// low: the error says what to change.
    pub fn start(self) -> Result<Running, ServeError> {
        let Self { config, sources: _, router, on_trim } = self;
        let proxy_protocol = proxy_protocol(&config);
        let (cores, peer_addresses) = (config.workers(), config.wants_addresses());
        config.check()?;
        let auth = Auth::open(&config.auth)?;
        let subscription_tokens = SubscriptionTokens::open(&config.auth, auth.as_ref())?;
        let webhook = Webhook::open(&config)?;
        let (jobs, control) = control::prepare(&config.api)?;
        let policy = Arc::new(Policy::new(&config));
        let keys = (auth, subscription_tokens);
        let shared = Arc::new(Shared::new(&config, router, on_trim, keys, webhook, jobs, Arc::clone(&policy)));
        let known = Arc::clone(&shared);
        // What may be dropped are publications, by the rules of their channels, and never a reply.
        let limits = Limits { slow_consumer: SlowConsumer::Disconnect, ..config.engine.clone() };
        let running = Engine::bind(config.listen)?
            .cores(cores)
            .limits(limits)
            .compression(config.compression.enabled.then_some(config.compression.settings))
            .coalescing(Some(config.outbound_batch.coalescing()))
            .descriptors(config.descriptors)
            .peer_addresses(peer_addresses)
            .proxy_protocol(proxy_protocol)
            .start(move |core| Session::new(Arc::clone(&shared), Arc::clone(&policy), core))?;
        known.room.get_or_init(|| running.room());
        let Node { name, run } = &known.node;
        tracing::info!(server = %name, %run, version = env!("CARGO_PKG_VERSION"), "crore");
        if let Err(error) = control.start(running.handle().clone(), &known, &config) {
            running.handle().drain(Duration::ZERO);
            running.join()?;
            return Err(error.into());
        }
        Ok(running)
    }

    /// Runs the server until SIGINT or SIGTERM, then drains it: a close frame to everyone (1001, or 1012 spread over
    /// `shutdown_spread`), and `shutdown_timeout` for their answers. A second signal ends the process at once. SIGHUP is for
    /// [`Self::reload_from`], or another SIGTERM if it comes because the terminal has gone. As a service of systemd it
    /// says when it is ready and when it stops, and feeds the watchdog while every core works.
    ///
    /// # Errors
    /// As [`Self::start`], or a core has failed.
    pub fn run(self) -> Result<(), ServeError> {
        for doubt in self.config.doubts() {
            tracing::warn!("{doubt}");
        }
        let mut signals = signals::receive(self.sources.is_some()).map_err(ServeError::Signals)?;
        let (config, sources) = (self.config.clone(), self.sources.clone());
        let running = self.start()?;
        announce(&running);
        let service = Service::start(&running);
        let reloader = Reloader::new(config, sources, running.handle().clone());
        let mut servant = Servant::new(running.handle().clone(), reloader);
        let stop = signals.handle();
        let listener = thread::spawn(move || signals.forever().for_each(|signal| servant.obey(signal)));
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
    tracing::info!(kernel = %features.release, cores, io_uring = %features, "kernel");
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

/// Who may say whose a connection is: the proxies that are trusted.
fn proxy_protocol(config: &Config) -> ProxyProtocol {
    match config.proxy_protocol {
        ProxySetting::Off => ProxyProtocol::Off,
        ProxySetting::Required => {
            let trusted = TrustedProxies::new(&config.trusted_proxies);
            ProxyProtocol::required(move |address| trusted.contains(address))
        }
    }
}
