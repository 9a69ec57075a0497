//! Connections that a proxy forwards: whose they are stands in front of all that is said.

use super::Worker;
use super::connection::Phase;
use crate::driver::Driver;
use crate::handler::{CloseCause, Handler};
use crate::peers::ProxyProtocol;
use crate::protocol::proxy::{Proxied, parse_proxy};

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Takes the proxy's header from the front of what has come, and returns what is behind it; `None` if it has not
    /// come in full, or the connection has been cut for want of it.
    pub(super) fn take_proxy_header(&mut self, slot: u32, mut head: Vec<u8>) -> Option<Vec<u8>> {
        let peer = self.peers.get(slot);
        let is_trusted = match &self.proxy_protocol {
            ProxyProtocol::Off => return Some(head),
            ProxyProtocol::Required(trusted) => peer.is_some_and(|peer| trusted.contains(peer.ip())),
        };
        let id = self.connections.id_at(slot);
        let connection = self.connections.at(slot);
        match is_trusted.then(|| parse_proxy(&head)) {
            Some(Ok(None)) => {
                connection.with_rare(&mut self.held, |rare| rare.head = head);
                return None;
            }
            Some(Ok(Some((proxied, header_bytes)))) => {
                let client = match proxied {
                    Proxied::From(client) => Some(client),
                    Proxied::Unnamed => None,
                };
                self.peers.forwards(slot, client);
                connection.phase = Phase::Handshake;
                head.drain(..header_bytes);
                return Some(head);
            }
            Some(Err(error)) => tracing::debug!(connection = %id, %error, "cut"),
            None => tracing::debug!(connection = %id, ?peer, "cut: this peer is no trusted proxy"),
        }
        self.stats.refused_proxy += 1;
        self.corks.recycle(head);
        self.cut(slot, CloseCause::Protocol);
        None
    }
}
