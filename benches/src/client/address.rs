//! Where a load goes to, and the source addresses that it comes from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address. A connect looks through all even ports before it takes an odd one
/// (`__inet_hash_connect` in Linux's `net/ipv4/inet_hashtables.c`), one by one from a random place. Of the 14,116 even ones
/// of the default `net.ipv4.ip_local_port_range` enough stay free for a short search.
pub(crate) const CONNECTIONS_PER_SOURCE: u64 = 10_000;

/// Addresses `127.1.x.y` that are used: 250 in each of 250 networks, in turn.
const SOURCES_PER_NETWORK: u64 = 250;
const SOURCES: u64 = SOURCES_PER_NETWORK * SOURCES_PER_NETWORK;

/// Why an address can't be the target of a load.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// It is not an address at all.
    #[error("`{0}` is no address: write it as ws://HOST:PORT/PATH")]
    Syntax(String),
    /// It is encrypted, or not WebSocket.
    #[error(
        "`{0}` is not ws://: the load generator speaks unencrypted WebSocket only, so point it at the server's plain port"
    )]
    Scheme(String),
    /// The name has no address.
    #[error("`{host}` has no address ({source}): use an IP address, or check the name")]
    Resolve {
        /// The name and port.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
}

/// The server that a load goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The address to connect to.
    pub(crate) address: SocketAddr,
    /// `HOST:PORT` as it was written, for the `Host` field.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Reads `ws://HOST:PORT/PATH` and resolves its host. Port 80 and path `/` may be left out.
    ///
    /// # Errors
    /// The text is no such address, or the host has none.
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        let syntax = || TargetError::Syntax(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| syntax())?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some(_) => return Err(TargetError::Scheme(text.to_owned())),
            None => return Err(syntax()),
        }
        let authority = uri.authority().ok_or_else(syntax)?;
        let host = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let resolved = host.to_socket_addrs().map(|addresses| {
            let all: Vec<_> = addresses.collect();
            // Spread sources need IPv4, and servers that listen on `localhost` mostly do there.
            all.iter().find(|address| address.is_ipv4()).or(all.first()).copied()
        });
        let unresolved = |source| TargetError::Resolve { host: host.clone(), source };
        let address = resolved
            .map_err(unresolved)?
            .ok_or_else(|| unresolved(io::Error::new(io::ErrorKind::NotFound, "the resolver found nothing")))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address, authority: authority.as_str().to_owned(), path })
    }

    /// A listener on this host.
    pub(crate) fn on_loopback(address: SocketAddr) -> Self {
        Self { address, authority: address.to_string(), path: "/".into() }
    }

    /// The address that attempt `attempt` comes from, where that can be chosen: on loopback.
    fn source(&self, attempt: u64) -> Option<Ipv4Addr> {
        let IpAddr::V4(address) = self.address.ip() else { return None };
        if !address.is_loopback() {
            return None;
        }
        let source = attempt / CONNECTIONS_PER_SOURCE % SOURCES;
        let byte = |value: u64| u8::try_from(value + 1).unwrap_or(u8::MAX);
        Some(Ipv4Addr::new(127, 1, byte(source / SOURCES_PER_NETWORK), byte(source % SOURCES_PER_NETWORK)))
    }

    /// Begins to connect. The socket is a blocking one, as a request on a ring wants it: with
    /// `O_NONBLOCK` it would be refused instead of waiting for the handshake of TCP to end. With `reset_at_end` its
    /// close is a reset, so that neither end stays in TIME_WAIT.
    ///
    /// # Errors
    /// No socket, no port, or no route.
    pub(crate) fn connect(&self, attempt: u64, reset_at_end: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if reset_at_end {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if let Some(source) = self.source(attempt) {
            // The port is chosen at connect, where it has to be unique with the target only (ip(7)).
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        socket.set_nonblocking(false)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let target = Target::parse("ws://127.0.0.1:9001").expect("a good address");
        assert_eq!((target.address, target.path.as_str()), ("127.0.0.1:9001".parse().unwrap(), "/"));
        assert_eq!(Target::parse("ws://127.0.0.1/a?b=c").expect("a good address").address.port(), 80);
        assert!(Target::parse("ws://[::1]:9001/").expect("a good address").address.is_ipv6());
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (text, hint) in [
            ("127.0.0.1:9001", "ws://HOST:PORT/PATH"),
            ("", "ws://HOST:PORT/PATH"),
            ("wss://127.0.0.1:9001/", "plain port"),
            ("http://127.0.0.1/", "not ws://"),
        ] {
            let error = Target::parse(text).expect_err("refused").to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn sources_change_every_10_000_connections_and_come_back() {
        let target = Target::parse("ws://127.0.0.1:9001").expect("a good address");
        let source = |attempt| target.source(attempt).expect("on loopback");
        assert_eq!(source(0), Ipv4Addr::new(127, 1, 1, 1));
        assert_eq!(source(9_999), source(0));
        assert_eq!(source(10_000), Ipv4Addr::new(127, 1, 1, 2));
        assert_eq!(source(10_000 * 250), Ipv4Addr::new(127, 1, 2, 1));
        assert_eq!(source(10_000 * 62_500), source(0));
        let remote = Target { address: "192.0.2.1:80".parse().unwrap(), ..target };
        assert_eq!(remote.source(0), None);
    }
}
