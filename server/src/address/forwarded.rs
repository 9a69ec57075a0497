//! The headers in which proxies say where a request came from.
//!
//! Each proxy adds the address that it saw at the right of the list. So the list is believed from the right, and only
//! as far as those who wrote it are trusted: what stands left of the first stranger is what that stranger says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::elements::elements;

/// A network, or a single address: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// Text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// It has another form.
    #[error("`{0}` is no network: write it like \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"")]
    Form(String),
    /// An IPv4-mapped address, of which less than the part that is mapped counts.
    #[error(
        "`{0}` is more than the addresses of IPv4: an IPv4-mapped network has at least /96; write it like \"10.0.0.0/8\""
    )]
    MoreThanMapped(String),
}

/// Bits of an IPv4-mapped address before the one of IPv4 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        let network: IpNet = text.parse().or_else(|_| single()).map_err(|_| NotANetwork::Form(text.to_owned()))?;
        // Addresses are compared in their canonical form.
        let address = network.addr().to_canonical();
        if address.is_ipv4() == network.addr().is_ipv4() {
            return Ok(Self(network));
        }
        let bits = network.prefix_len().checked_sub(MAPPED_BITS);
        let network = bits.and_then(|bits| IpNet::new(address, bits).ok());
        network.map(Self).ok_or_else(|| NotANetwork::MoreThanMapped(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Those whose word about addresses is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    pub(crate) fn new(networks: &[Network]) -> Self {
        Self(networks.to_vec())
    }

    /// Whether nobody is trusted.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }
}

/// The header that is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressHeader {
    /// `X-Forwarded-For`: a list.
    #[default]
    XForwardedFor,
    /// `X-Real-IP`: one address, set by the nearest proxy.
    XRealIp,
    /// `Forwarded` (RFC 7239): a list with parameters, of which `for` counts.
    Forwarded,
}

impl AddressHeader {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::XRealIp => "X-Real-IP",
            Self::Forwarded => "Forwarded",
        }
    }

    /// Where a request came from whose nearest peer is `peer`, by the values of this header in their order.
    pub(super) fn client<'v>(
        self,
        peer: IpAddr,
        values: impl Iterator<Item = &'v str>,
        trusted: &TrustedProxies,
    ) -> IpAddr {
        if !trusted.contains(peer) {
            return peer.to_canonical();
        }
        let lines: Vec<&str> = values.collect();
        let lines = lines.into_iter().rev();
        match self {
            Self::XForwardedFor => walk(peer, lines.flat_map(|line| line.rsplit(',')).map(node), trusted),
            Self::XRealIp => walk(peer, lines.take(1).map(node), trusted),
            Self::Forwarded => walk(peer, lines.flat_map(elements), trusted),
        }
    }
}

/// The first stranger among the hops, the last of which is the first here: each is the word of the one before it. One
/// that is no address ends the walk where it stands.
fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &TrustedProxies) -> IpAddr {
    let mut client = peer.to_canonical();
    for hop in hops {
        let (true, Some(hop)) = (trusted.contains(client), hop) else { break };
        client = hop.to_canonical();
    }
    client
}

/// An address, with or without a port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(&["10.0.0.0/8", "2001:db8:aaaa::/48", "192.0.2.1"].map(|text| text.parse().unwrap()))
    }

    fn client(header: AddressHeader, peer: &str, values: &[&str]) -> String {
        header.client(peer.parse().unwrap(), values.iter().copied(), &trusted()).to_string()
    }

    #[test]
    fn a_list_is_believed_from_the_right_as_far_as_its_writers_are_trusted() {
        let of = |peer: &str, values: &[&str]| client(AddressHeader::XForwardedFor, peer, values);
        for (peer, values, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.2.3.4,192.0.2.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, what?, 10.0.0.7"], "10.0.0.7"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("2001:db8:aaaa::1", &["[2001:db8:bbbb::2]:80"], "2001:db8:bbbb::2"),
            ("2001:db8:aaaa::1", &["2001:db8:bbbb::2"], "2001:db8:bbbb::2"),
        ] {
            assert_eq!(of(peer, values), expected, "{peer}: {values:?}");
        }
    }

    #[test]
    fn one_address_is_the_last_that_was_set() {
        let of = |peer: &str, values: &[&str]| client(AddressHeader::XRealIp, peer, values);
        assert_eq!(of("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "198.51.100.1"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.1, 10.0.0.1"]), "10.0.0.1", "it is no list");
        assert_eq!(of("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
    }

    #[test]
    fn parameters_quotes_and_hidden_hops_are_understood() {
        let of = |values: &[&str]| client(AddressHeader::Forwarded, "10.0.0.1", values);
        for (values, expected) in [
            (&["for=198.51.100.1"][..], "198.51.100.1"),
            (&["For=\"[2001:db8:bbbb::2]:4711\";proto=https;by=10.0.0.1"], "2001:db8:bbbb::2"),
            (&["for=6.6.6.6, by=\"a,b;for=7.7.7.7\\\"\";for=198.51.100.1"], "198.51.100.1"),
            (&["for=198.51.100.1", "proto=http; for=10.0.0.5"], "198.51.100.1"),
            (&["for=198.51.100.1, for=_hidden, for=10.0.0.5"], "10.0.0.5"),
            (&["for=198.51.100.1, for=unknown"], "10.0.0.1"),
            (&["for=6.6.6.6;x=\", for=198.51.100.1"], "198.51.100.1"),
            (&["for=\"6.6.6.6, for=10.0.0.5"], "10.0.0.5"),
            (&["for=6.6.6.6", "x=\"", "for=10.0.0.5"], "10.0.0.5"),
            (&["for=6.6.6.6, x=\"", "\", for=10.0.0.5"], "10.0.0.5"),
            (&["proto=https"], "10.0.0.1"),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }

    #[test]
    fn networks_are_read_and_refused() {
        assert!(TrustedProxies::default().is_empty());
        assert!(trusted().contains("::ffff:10.1.1.1".parse().unwrap()));
        let problem = "10.0.0.0/33".parse::<Network>().unwrap_err().to_string();
        assert!(problem.contains("10.0.0.0/33") && problem.contains("10.0.0.0/8"), "{problem}");
        for text in ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }

    // capability: 10
    #[test]
    fn a_mapped_network_is_the_one_of_ipv4() {
        for (text, network) in [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), network);
        }
        let mapped = TrustedProxies::new(&["::ffff:127.0.0.0/104".parse().unwrap()]);
        assert!(mapped.contains("127.0.0.1".parse().unwrap()) && !mapped.contains("128.0.0.1".parse().unwrap()));
        let problem = "::ffff:127.0.0.0/8".parse::<Network>().unwrap_err().to_string();
        assert!(problem.contains("::ffff:127.0.0.0/8") && problem.contains("/96"), "{problem}");
    }
}
