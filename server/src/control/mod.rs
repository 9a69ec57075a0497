//! The control thread: what has to wait, and what operators and backends ask, beside the data cores.
//!
//! ```text
//! data cores ── Jobs::try_call ──► control thread ── EngineHandle ──► data cores
//!                                      └─ second listener: server API, health, metrics
//! ```
//!
//! One ordinary thread with a tokio runtime. The data cores never wait for it: what they hand over is bounded by
//! [`JOBS_MAX`], and refused beyond. It ends when the last core has ended, so that whoever watches a drain can do so
//! until there is nothing left to watch.

mod admin;
mod api;
mod ask;
mod error;
mod extract;
mod jobs;
mod key;
mod listener;
mod openapi;
mod places;
mod resource;
mod survey;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use crore_engine::EngineHandle;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

pub(crate) use self::ask::{Census, Inspection};
pub(crate) use self::jobs::{Busy, Jobs};
pub use self::jobs::{JOBS_MAX, QUESTIONS_MAX};
pub use self::key::{ApiKey, KEY_BYTES_MIN, KeyError};

use self::api::Api;
use crate::config::{ApiConfig, Config};
use crate::session::Shared;

/// Why there is no control thread.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The second listener can't be bound.
    #[error(
        "the server API can't listen on {address}: {error}; end what listens there, or choose another `api.listen`"
    )]
    Listen {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The runtime or the thread is refused.
    #[error("no control thread: {0}")]
    Thread(io::Error),
}

/// What the control thread will be, once there is an engine for it.
pub(crate) struct Plan {
    runtime: Runtime,
    listener: Option<TcpListener>,
    stop: oneshot::Receiver<()>,
}

/// Takes the second listener's port, if there shall be one, and makes the way to the control thread.
pub(crate) fn prepare(config: &ApiConfig) -> Result<(Jobs, Plan), ControlError> {
    let listener = config.enabled.then(|| bind(config.listen)).transpose()?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(ControlError::Thread)?;
    let (guard, stop) = oneshot::channel();
    Ok((Jobs::new(runtime.handle().clone(), guard), Plan { runtime, listener, stop }))
}

fn bind(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| ControlError::Listen { address, error })
}

impl Plan {
    /// Starts the thread. It ends when `shared` has gone, and [`Jobs`] with it.
    pub(crate) fn start(self, engine: EngineHandle, shared: &Arc<Shared>, config: &Config) -> Result<(), ControlError> {
        let Self { runtime, listener, stop } = self;
        if let Some(address) = listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
            let key = if config.api.key.is_some() { "with a key" } else { "without a key: `/api/` answers 403" };
            tracing::info!(%address, "health and metrics; server API {key}");
        }
        let (router, evicted) =
            (api::router(Api::new(engine, shared, config)), Arc::clone(&shared.metrics.api_evicted));
        let work = move || {
            runtime.block_on(async move {
                if let Some(listener) = listener {
                    tokio::spawn(listener::serve(listener, router, evicted));
                }
                // Nothing is ever sent: the other end goes with the last core.
                let _ = stop.await;
            });
        };
        thread::Builder::new().name("crore-control".to_owned()).spawn(work).map(drop).map_err(ControlError::Thread)
    }
}
