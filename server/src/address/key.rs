//! What limits go by: an address of IPv4, or the network of IPv6 that one site has.

use std::net::IpAddr;

/// Whom a limit counts as one.
///
/// A site of IPv6 has a /64 at least (RFC 4291, section 2.5.4), and chooses among its addresses as it likes: they are
/// one. An IPv4-mapped address (section 2.5.5.2) is the one of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// All 32 bits.
    V4(u32),
    /// The upper 64 bits.
    V6(u64),
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_one_however_it_is_written() {
        let key = |text: &str| AddressKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_ne!(key("0.0.0.1"), key("0:0:0:1::"));
    }
}
