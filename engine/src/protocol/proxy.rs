//! The header in which a proxy says whose connection it forwards: the PROXY protocol of HAProxy, version 2
//! (`doc/proxy-protocol.txt` there, section 2.2).
//!
//! It stands in front of everything that the client says. A reader must know beforehand whether there is one, and
//! never guess: whoever could choose might say that it is anybody.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// How each header begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes up to the length, and with it: signature, version with command, family with transport, length.
const FIXED_BYTES: usize = 16;

/// Bytes of two addresses with their ports, by family.
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// The connection comes from here.
    From(SocketAddr),
    /// The proxy speaks for itself (`LOCAL`), or does not say for whom (`UNSPEC`, a Unix socket).
    Unnamed,
}

/// Why there is no header, or none that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It begins otherwise.
    #[error(
        "there is no PROXY header of version 2: let the proxy send one (HAProxy: `send-proxy-v2`), or require none"
    )]
    Signature,
    /// It has another version.
    #[error("the PROXY header has version {0}: let the proxy send version 2")]
    Version(u8),
    /// Neither `LOCAL` nor `PROXY`.
    #[error("the PROXY header has the unknown command {0}")]
    Command(u8),
    /// No family, or no transport, that the protocol has, or one that is no stream.
    #[error("the PROXY header has family and transport {0:#04x}, which is no stream")]
    Family(u8),
    /// It is shorter than the addresses of its family.
    #[error("the PROXY header has {0} bytes for its addresses, which are more")]
    TooShort(usize),
    /// It is longer than there is any use for.
    #[error("the PROXY header has {0} bytes, more than `PROXY_HEADER_BYTES_MAX`")]
    TooLong(usize),
}

/// Reads the header at the start of `bytes`, and says how long it is; `None` if it is still incomplete. What the
/// proxy says besides (type-length-value fields) is skipped.
///
/// # Errors
/// What cannot become a header any more, as soon as it cannot.
pub fn parse_proxy(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, ProxyError> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(ProxyError::Signature);
    }
    let Some(&version_command) = bytes.get(12) else { return Ok(None) };
    if version_command >> 4 != 2 {
        return Err(ProxyError::Version(version_command >> 4));
    }
    let local = match version_command & 0x0f {
        0 => true,
        1 => false,
        other => return Err(ProxyError::Command(other)),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    // Of `LOCAL` nothing else counts.
    let address_bytes = match family {
        _ if local => 0,
        // Unspecified; a stream on a Unix socket, which has paths for addresses.
        0x00 | 0x31 => 0,
        0x11 => V4_BYTES,
        0x21 => V6_BYTES,
        _ => return Err(ProxyError::Family(family)),
    };
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES).and_then(|length| length.first_chunk()) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < address_bytes {
        return Err(ProxyError::TooShort(length));
    }
    let end = FIXED_BYTES + length;
    if end > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong(end));
    }
    let Some(block) = bytes.get(FIXED_BYTES..end) else { return Ok(None) };
    let proxied = match block.get(..address_bytes) {
        Some(&[a, b, c, d, _, _, _, _, high, low, _, _]) => {
            Proxied::From((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
        }
        Some(addresses) if addresses.len() == V6_BYTES => {
            let ip = addresses.first_chunk().map(|ip: &[u8; 16]| Ipv6Addr::from(*ip));
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            ip.map_or(Proxied::Unnamed, |ip| Proxied::From((ip, port).into()))
        }
        _ => Proxied::Unnamed,
    };
    Ok(Some((proxied, end)))
}

#[cfg(test)]
mod tests;
