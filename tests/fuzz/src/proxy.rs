//! Whatever comes in place of a proxy's header is refused or read, at the same byte however it comes, and what is read
//! is what stands there, to a reader by offsets.

use std::net::SocketAddr;

use crore_engine::limits::PROXY_HEADER_BYTES_MAX;
use crore_engine::protocol::proxy::{Proxied, parse_proxy};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The input is the start of a connection.
///
/// # Panics
/// If the promise is broken.
pub fn check(data: &[u8]) {
    let whole = parse_proxy(data);
    // A prefix says nothing yet, or what the whole says, and never takes it back.
    let cuts = (0..data.len()).filter(|cut| *cut < 300 || cut + 40 > data.len());
    let mut decided = false;
    for cut in cuts {
        let part = parse_proxy(&data[..cut]);
        decided |= part != Ok(None);
        assert!(if decided { part == whole } else { part == Ok(None) }, "{cut} of {} bytes", data.len());
    }
    match whole {
        Ok(Some((proxied, header_bytes))) => {
            assert!(header_bytes <= data.len() && header_bytes <= PROXY_HEADER_BYTES_MAX);
            assert_eq!(Some((proxied, header_bytes)), read(data));
        }
        Ok(None) => assert!(data.len() < PROXY_HEADER_BYTES_MAX, "it waits for ever"),
        Err(_) => assert_eq!(read(data), None, "a proper header is refused"),
    }
}

/// A header of up to as many bytes as are allowed; `None` if there is none.
fn read(data: &[u8]) -> Option<(Proxied, usize)> {
    let length = usize::from(data.get(14).copied()?) * 256 + usize::from(data.get(15).copied()?);
    let end = 16 + length;
    if !data.starts_with(SIGNATURE) || data.len() < end || end > PROXY_HEADER_BYTES_MAX {
        return None;
    }
    let port = |at: usize| u16::from(data[at]) << 8 | u16::from(data[at + 1]);
    let address: Option<SocketAddr> = match (data[12], data[13]) {
        (0x20, _) | (0x21, 0x00 | 0x31) => None,
        (0x21, 0x11) if length >= 12 => {
            let ip = data[16..20].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            Some(SocketAddr::new(ip.parse().expect("four numbers"), port(24)))
        }
        (0x21, 0x21) if length >= 36 => {
            let groups: Vec<String> = (0..8).map(|group| format!("{:x}", port(16 + 2 * group))).collect();
            Some(SocketAddr::new(groups.join(":").parse().expect("eight groups"), port(48)))
        }
        _ => return None,
    };
    Some((address.map_or(Proxied::Unnamed, Proxied::From), end))
}
