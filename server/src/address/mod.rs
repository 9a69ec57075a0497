//! Where a client really is, and how many connections it may have from there.
//!
//! ```text
//! TCP peer, or PROXY header ─► a trusted proxy? ─► its header ─► the client's address ─► key ─► limit
//! TCP peer ────────────────► a trusted proxy? ─► X-User-ID ─► the user
//! ```
//!
//! A proxy that sends a PROXY header says in it where the client is, and nowhere else: a request's own headers are
//! believed of the address only if that is a trusted proxy's too, the next one in a chain. Who the user is says the
//! proxy that speaks to the server, whose address is the TCP peer's. One that can't say where the client is
//! (`UNSPEC`, a Unix socket), or speaks for itself (`LOCAL`), forwards headers that it may not have written: none is
//! believed, and the connection comes from the proxy.

mod elements;
mod forwarded;
mod key;
mod limit;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crore_engine::limits::retry_after_seconds;
use crore_engine::{Closed, ConnectionId, Context, Proxy, Request, Response};
use tracing::field::display;

pub(crate) use self::forwarded::TrustedProxies;
pub use self::forwarded::{AddressHeader, Network, NotANetwork};
pub use self::key::AddressKey;
use self::limit::{AddressLimit, Seat};
use crate::config::Config;

/// What all cores know of addresses.
pub(crate) struct Addresses {
    trusted: TrustedProxies,
    /// Whether only this machine reaches the listener.
    is_local: bool,
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

/// Where a connection comes from, as the engine knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whence {
    /// `None`: the peer had gone before it could be asked for.
    peer: Option<SocketAddr>,
    /// Who has said that it is there.
    proxy: Option<Proxy>,
}

impl Whence {
    pub(crate) fn of(context: &Context<'_>) -> Self {
        Self { peer: context.peer_address(), proxy: context.proxy() }
    }
}

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
            is_local: config.listens_locally(),
            header: config.client_address_header,
            limit: config.limits.connections_per_ip_max.map(AddressLimit::new),
            log_connections: config.log.connections,
            keeps_origins: config.keeps_origins(),
        }
    }

    /// Whether a peer's word about who somebody is counts: that of trusted proxies, or where there are none everybody's
    /// on this machine. What the server has started with decides, since `identity.trust_user_header` may be switched on
    /// before the proxies are known that it takes.
    pub(crate) fn vouches(&self, from: Whence) -> bool {
        if from.proxy.is_some_and(|proxy| !proxy.names_client) {
            return false;
        }
        let speaker = from.proxy.map(|proxy| proxy.address).or(from.peer);
        let is_trusted = speaker.is_some_and(|speaker| self.trusted.contains(speaker.ip()));
        is_trusted || (self.trusted.is_empty() && self.is_local)
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
        let Closed { code, reason, cause, .. } = closed;
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
    fn client(&self, from: Whence, request: &Request<'_>) -> Option<IpAddr> {
        let peer = from.peer?.ip();
        if from.proxy.is_some_and(|proxy| !proxy.names_client) {
            return Some(peer.to_canonical());
        }
        Some(self.header.client(peer, request.header_values(self.header.name()), &self.trusted))
    }

    /// What is to be kept of a connection, if anything is; or the answer to it, if its address has as many as it may.
    /// A peer whose address is not known had gone already: it takes no place.
    pub(crate) fn admit(
        &self,
        id: ConnectionId,
        now: Duration,
        from: Whence,
        request: &Request<'_>,
    ) -> Result<Option<Box<Origin>>, Response> {
        if !self.keeps_origins {
            return Ok(None);
        }
        let address = self.client(from, request);
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

#[cfg(test)]
mod tests {
    use crore_engine::protocol::http::{HeadLimits, parse_request};

    use super::*;

    fn addresses(trusted: &[&str]) -> Addresses {
        let trusted_proxies = trusted.iter().map(|network| network.parse().unwrap()).collect();
        Addresses::new(&Config { trusted_proxies, ..Config::default() })
    }

    fn whence(peer: &str, proxy: Option<(&str, bool)>) -> Whence {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 4711);
        let proxy = proxy.map(|(proxy, names_client)| Proxy { address: address(proxy), names_client });
        Whence { peer: Some(address(peer)), proxy }
    }

    // capability: 9
    #[test]
    fn a_user_is_named_by_the_proxy_that_speaks_and_not_by_whom_it_forwards() {
        let addresses = addresses(&["10.0.0.0/8"]);
        for (peer, proxy, vouches) in [
            ("10.0.0.1", None, true),
            ("203.0.113.5", None, false),
            ("203.0.113.5", Some(("10.0.0.1", true)), true),
            ("10.7.7.7", Some(("192.0.2.1", true)), false),
            ("10.0.0.1", Some(("10.0.0.1", false)), false),
        ] {
            assert_eq!(addresses.vouches(whence(peer, proxy)), vouches, "{peer} {proxy:?}");
        }
        assert!(!addresses.vouches(Whence { peer: None, proxy: None }));
        let config = |listen: &str| Config { listen: listen.parse().unwrap(), ..Config::default() };
        assert!(Addresses::new(&config("127.0.0.1:80")).vouches(whence("127.0.0.1", None)));
        assert!(!Addresses::new(&config("0.0.0.0:80")).vouches(whence("127.0.0.1", None)));
    }

    // capability: 10
    #[test]
    fn behind_a_proxy_protocol_headers_count_in_a_chain_alone() {
        let addresses = addresses(&["10.0.0.0/8"]);
        let fields = b"GET /ws HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n";
        let limits = HeadLimits { head_bytes_max: 1024, headers_max: 8 };
        let (request, _) = parse_request(fields, &limits).unwrap().unwrap();
        for (peer, proxy, client) in [
            ("10.0.0.1", None, "9.9.9.9"),
            ("203.0.113.5", Some(("10.0.0.1", true)), "203.0.113.5"),
            ("10.7.7.7", Some(("10.0.0.1", true)), "9.9.9.9"),
            ("10.0.0.1", Some(("10.0.0.1", false)), "10.0.0.1"),
        ] {
            let address = addresses.client(whence(peer, proxy), &request).unwrap();
            assert_eq!(address.to_string(), client, "{peer} {proxy:?}");
        }
    }
}
