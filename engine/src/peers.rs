//! The addresses of peers that a handler may still ask for, and who may say that a connection is another's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::limits::LIST_ENTRIES_KEPT_MAX;

/// Whether connections come from proxies that say whose they are, in a header of the PROXY protocol, version 2.
#[derive(Clone, Debug, Default)]
pub enum ProxyProtocol {
    /// They come from clients, or from proxies that don't: such a header is no request, and is refused.
    #[default]
    Off,
    /// Every connection begins with a header, and is cut if it does not, or comes from somebody who is not trusted.
    Required(TrustedPeers),
}

impl ProxyProtocol {
    /// Requires a header from peers with these addresses, and cuts all others: whoever may write one can be anybody.
    pub fn required(from: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self::Required(TrustedPeers(Arc::new(from)))
    }
}

/// Those who may say whose a connection is.
#[derive(Clone)]
pub struct TrustedPeers(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl TrustedPeers {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        (self.0)(address.to_canonical())
    }
}

impl fmt::Debug for TrustedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustedPeers")
    }
}

/// The proxy that has forwarded a connection, and has said so in a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where the proxy itself is: the other end of the TCP connection.
    pub address: SocketAddr,
    /// Whether it says where the client is. It does not where it speaks for itself (`LOCAL`), and where it can't tell
    /// (`UNSPEC`, a Unix socket).
    pub names_client: bool,
}

/// What is known of a peer.
#[derive(Clone, Copy)]
struct Peer {
    address: SocketAddr,
    proxy: Option<Proxy>,
}

/// Peers by slot, from the accept to the end of `on_open`: of what stays open nothing is known. Where nobody wants
/// addresses the table is empty.
#[derive(Default)]
pub(crate) struct Peers {
    known: HashMap<u32, Peer, foldhash::fast::RandomState>,
}

impl Peers {
    /// The address of the peer in a slot, while it is known.
    pub(crate) fn get(&self, slot: u32) -> Option<SocketAddr> {
        self.known.get(&slot).map(|peer| peer.address)
    }

    /// The proxy that has forwarded the connection in a slot, if one has, while it is known.
    pub(crate) fn proxy(&self, slot: u32) -> Option<Proxy> {
        self.known.get(&slot)?.proxy
    }

    /// The peer in a slot is a proxy: the address of the client takes the place of its own, if it names one.
    pub(crate) fn forwards(&mut self, slot: u32, client: Option<SocketAddr>) {
        if let Some(peer) = self.known.get_mut(&slot) {
            peer.proxy = Some(Proxy { address: peer.address, names_client: client.is_some() });
            peer.address = client.unwrap_or(peer.address);
        }
    }

    /// Notes an address. A peer that had gone before it could be asked for has none.
    pub(crate) fn set(&mut self, slot: u32, address: Option<SocketAddr>) {
        match address {
            Some(address) => {
                self.known.insert(slot, Peer { address, proxy: None });
            }
            None => self.forget(slot),
        }
    }

    /// The slot is another's now, or the connection is open.
    #[inline]
    pub(crate) fn forget(&mut self, slot: u32) {
        if !self.known.is_empty() {
            self.known.remove(&slot);
        }
    }

    /// How many are known.
    #[cfg(feature = "simulation")]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Bytes of the table.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.known.allocation_size()
    }

    /// Gives room back that a crowd at the door has needed.
    pub(crate) fn trim(&mut self) {
        if self.known.capacity() > LIST_ENTRIES_KEPT_MAX.max(4 * self.known.len()) {
            self.known.shrink_to(LIST_ENTRIES_KEPT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_at_the_door_leaves_no_room_behind() {
        let address = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut peers = Peers::default();
        (0..50_000).for_each(|port| peers.set(u32::from(port), address(port)));
        assert_eq!(peers.get(7), address(7));
        let crowded = peers.heap_bytes();
        (0..50_000).for_each(|slot| peers.forget(slot));
        peers.trim();
        assert!(peers.heap_bytes() < crowded / 8 && peers.get(7).is_none());
    }
}
