//! Where a client really is, and how many connections it may have from there.
//!
//! ```text
//! TCP peer, or PROXY header ─► a trusted proxy? ─► its header ─► the client's address ─► key ─► limit
//! ```

mod elements;
mod forwarded;
mod key;
mod limit;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crore_engine::limits::retry_after_seconds;
use crore_engine::{Closed, ConnectionId, Request, Response};
use tracing::field::display;

pub(crate) use self::forwarded::TrustedProxies;
pub use self::forwarded::{AddressHeader, Network, NotANetwork};
pub use self::key::AddressKey;
use self::limit::{AddressLimit, Seat};
use crate::config::Config;

/// What all cores know of addresses.
pub(crate) struct Addresses {
    trusted: TrustedProxies,
    header: AddressHeader,
    limit: Option<Arc<AddressLimit>>,
    log_connections: bool,
    /// Whether it is kept where connections come from.
    keeps_origins: bool,
}

/// What is kept of where a connection came from, where it is kept.
#[derive(Debug)]
pub(crate) struct Origin {
    /// `None`: the peer had gone before it could be asked for.
    address: Option<IpAddr>,
    /// When the connection came, on its worker's clock.
    since: Duration,
    /// Given back when the connection's state is dropped, which the engine does however it ends.
    _seat: Option<Seat>,
}

const _: () = assert!(size_of::<Origin>() <= 64, "the reference of `api.client_addresses` says so");

impl Origin {
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// How long ago the connection came, by its worker's clock.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

impl Addresses {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            trusted: TrustedProxies::new(&config.trusted_proxies),
            header: config.client_address_header,
            limit: config.limits.connections_per_ip_max.map(AddressLimit::new),
            log_connections: config.log.connections,
            keeps_origins: config.keeps_origins(),
        }
    }

    /// Whether a peer's word about who somebody is counts: everybody's, unless some are trusted and others not.
    pub(crate) fn vouches(&self, peer: Option<SocketAddr>) -> bool {
        self.trusted.is_empty() || peer.is_some_and(|peer| self.trusted.contains(peer.ip()))
    }

    /// Logs that a connection has opened: for everybody to see, or for who looks closely.
    pub(crate) fn log_open(&self, connection: ConnectionId, user: Option<&str>, origin: Option<&Origin>) {
        let address = origin.and_then(|origin| origin.address).map(display);
        if self.log_connections {
            tracing::info!(%connection, user, address, "open");
        } else {
            tracing::debug!(%connection, user, address, "open");
        }
    }

    /// Logs that a connection has closed, and how.
    pub(crate) fn log_close(
        &self,
        connection: ConnectionId,
        user: Option<&str>,
        origin: Option<&Origin>,
        now: Duration,
        closed: Closed<'_>,
    ) {
        let Closed { code, reason, cause } = closed;
        let address = origin.and_then(|origin| origin.address).map(display);
        let age = origin.map(|origin| origin.age(now).as_millis());
        let duration_ms = age.and_then(|duration| u64::try_from(duration).ok());
        if self.log_connections {
            tracing::info!(%connection, user, address, code, reason, ?cause, duration_ms, "closed");
        } else {
            tracing::debug!(%connection, user, address, code, reason, ?cause, duration_ms, "closed");
        }
    }

    /// Where a request comes from.
    fn client(&self, peer: Option<SocketAddr>, request: &Request<'_>) -> Option<IpAddr> {
        let peer = peer?.ip();
        Some(self.header.client(peer, request.header_values(self.header.name()), &self.trusted))
    }

    /// What is to be kept of a connection, if anything is; or the answer to it, if its address has as many as it may.
    /// A peer whose address is not known had gone already: it takes no place.
    pub(crate) fn admit(
        &self,
        id: ConnectionId,
        now: Duration,
        peer: Option<SocketAddr>,
        request: &Request<'_>,
    ) -> Result<Option<Box<Origin>>, Response> {
        if !self.keeps_origins {
            return Ok(None);
        }
        let address = self.client(peer, request);
        let seat = match (&self.limit, address) {
            (Some(limit), Some(address)) => Some(limit.enter(address.into()).ok_or_else(|| too_many(id))?),
            _ => None,
        };
        Ok(Some(Box::new(Origin { address, since: now, _seat: seat })))
    }
}

/// RFC 6585, section 4.
fn too_many(id: ConnectionId) -> Response {
    let mut response = Response::text(429, "too many connections from this address\n");
    response.headers.push(("Retry-After".into(), retry_after_seconds(id).to_string().into()));
    response.headers.push(("Cache-Control".into(), "no-store".into()));
    response
}
