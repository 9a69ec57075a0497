//! The opening handshake (RFC 6455, section 4), from both ends, and the answers that refuse it.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest as _, Sha1};

use super::extensions::{self, ExtensionOffer};
use super::http::{Request, list_elements};

mod client;
mod response;

pub use client::{ClientAccept, append_client_request, parse_client_response};
use response::append_header;
pub use response::append_response;

/// What a server appends to the key before hashing it (section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The length of a key as it is sent: 16 bytes in base64.
const KEY_BYTES: usize = 24;
/// The bytes that a key stands for.
const NONCE_BYTES: usize = 16;
/// The length of an accept value: the 20 bytes of a SHA-1 in base64.
pub const ACCEPT_BYTES: usize = 28;
/// The only version there is (section 4.1).
const VERSION: &str = "13";

/// Decodes keys. The last character of one holds four bits that mean nothing; clients that fill
/// them at random are common enough to be let in.
const KEY_DECODER: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Why a request is refused, or a server's answer is not an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not an HTTP head.
    #[error("this is not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// A header's value is not text.
    #[error("a header value is not UTF-8; percent-encode it")]
    HeaderNotUtf8,
    /// The target is neither a path nor an absolute URL, or has a fragment.
    #[error("the request target must be a path or an absolute URL without a fragment")]
    Target,
    /// The Host header is missing or came twice.
    #[error("send exactly one Host header")]
    Host,
    /// The head is longer than the limit.
    #[error("the head is longer than {bytes_max} bytes; send fewer or shorter headers")]
    HeadTooBig {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// There are more header fields than the limit.
    #[error("there are more than {headers_max} headers; send fewer")]
    TooManyHeaders {
        /// The limit, in fields.
        headers_max: usize,
    },
    /// Nothing is served at the path.
    #[error("nothing is served at this path")]
    NotFound,
    /// The method is not GET.
    #[error("the method of an upgrade is GET")]
    Method,
    /// The version is below HTTP/1.1.
    #[error("an upgrade needs HTTP/1.1")]
    HttpVersion,
    /// There is no `Upgrade: websocket`.
    #[error("this is a WebSocket endpoint; send `Upgrade: websocket`")]
    NotUpgrade,
    /// The Connection header does not name `upgrade`.
    #[error("send `Connection: Upgrade`; a proxy may have removed it")]
    Connection,
    /// The request announces a body.
    #[error("an upgrade has no body; send neither Content-Length nor Transfer-Encoding")]
    Body,
    /// The version header is missing or came twice.
    #[error("send exactly one `Sec-WebSocket-Version: 13`")]
    VersionHeader,
    /// The client asks for a version of the protocol that is not spoken.
    #[error("only WebSocket version 13 is spoken")]
    Version,
    /// The key is missing, came twice, or is not 16 bytes in base64.
    #[error("send exactly one Sec-WebSocket-Key of 16 bytes in base64")]
    Key,
    /// The extension offers do not follow their grammar.
    #[error(transparent)]
    Extensions(#[from] extensions::ExtensionSyntaxError),
    /// To a client: the server answered with another status than 101.
    #[error("the server answered {0} instead of 101; look at its path and its log")]
    Refused(u16),
    /// To a client: the answer lacks `Upgrade: websocket` or `Connection: Upgrade`.
    #[error("the server's 101 does not upgrade to websocket; something else listens there")]
    NotUpgraded,
    /// To a client: the accept value does not belong to the key.
    #[error("Sec-WebSocket-Accept does not belong to the key; a cache may have answered")]
    Accept,
    /// To a client: the server chose an extension, or a parameter of one, that was not offered.
    #[error("the server chose an extension, or a parameter of one, that was not offered")]
    ExtensionNotOffered,
}

impl HandshakeError {
    /// The status of the answer: 400, 404, 426 or 431; or 502 where a server's answer to our
    /// own request is at fault.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::NotUpgrade | Self::Version => 426,
            Self::HeadTooBig { .. } | Self::TooManyHeaders { .. } => 431,
            Self::Refused(_) | Self::NotUpgraded | Self::Accept | Self::ExtensionNotOffered => 502,
            _ => 400,
        }
    }
}

/// A proper request for an upgrade.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    /// The key, for [`append_accept`].
    pub key: &'a str,
    request: &'a Request<'a>,
}

impl<'a> Upgrade<'a> {
    /// The subprotocols that the client speaks, in its order of preference.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.request.header_values("sec-websocket-protocol").flat_map(list_elements)
    }

    /// The first of the client's subprotocols that is also one of ours.
    #[must_use]
    pub fn select_subprotocol(&self, ours: &[&str]) -> Option<&'a str> {
        self.subprotocols().find(|offered| ours.contains(offered))
    }

    /// The extensions that the client offers, in its order of preference.
    pub fn extensions(&self) -> impl Iterator<Item = ExtensionOffer<'a>> + use<'a> {
        let values = self.request.header_values("sec-websocket-extensions");
        // Validation has found no error in them.
        values.flat_map(extensions::offers).filter_map(Result::ok)
    }
}

/// Whether a request asks for WebSocket at all; if not, it may be answered as plain HTTP.
#[must_use]
pub fn is_upgrade(request: &Request<'_>) -> bool {
    request.has_token("upgrade", "websocket")
}

/// Checks a request against section 4.2.1. The path and the origin are for the caller to judge.
///
/// # Errors
/// The first requirement that is not met.
pub fn validate<'a>(request: &'a Request<'a>) -> Result<Upgrade<'a>, HandshakeError> {
    if request.method != "GET" {
        return Err(HandshakeError::Method);
    }
    if request.version_minor == 0 {
        return Err(HandshakeError::HttpVersion);
    }
    if !is_upgrade(request) {
        return Err(HandshakeError::NotUpgrade);
    }
    if !request.has_token("connection", "upgrade") {
        return Err(HandshakeError::Connection);
    }
    let has_length = request.header_values("content-length").any(|length| length != "0");
    if has_length || request.header("transfer-encoding").is_some() {
        return Err(HandshakeError::Body);
    }
    let version = only_value(request, "sec-websocket-version");
    if version.ok_or(HandshakeError::VersionHeader)? != VERSION {
        return Err(HandshakeError::Version);
    }
    let key = only_value(request, "sec-websocket-key").filter(|key| is_key(key));
    let key = key.ok_or(HandshakeError::Key)?;
    let offers = request.header_values("sec-websocket-extensions").flat_map(extensions::offers);
    for offer in offers {
        offer?;
    }
    Ok(Upgrade { key, request })
}

fn only_value<'a>(request: &Request<'a>, name: &str) -> Option<&'a str> {
    let mut values = request.header_values(name);
    values.next().filter(|_| values.next().is_none())
}

fn is_key(key: &str) -> bool {
    // The decoder wants room by its own estimate, which is by whole groups of four characters.
    let mut nonce = [0; KEY_BYTES / 4 * 3];
    key.len() == KEY_BYTES && KEY_DECODER.decode_slice(key, &mut nonce) == Ok(NONCE_BYTES)
}

/// The accept value that belongs to a key (section 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; ACCEPT_BYTES];
    let written = STANDARD.encode_slice(digest, &mut accept);
    assert_eq!(written, Ok(ACCEPT_BYTES), "20 bytes are 28 in base64");
    accept
}

/// Appends the 101 that completes the upgrade, with the chosen subprotocol and the extensions agreed to.
pub fn append_accept(out: &mut Vec<u8>, key: &str, subprotocol: Option<&str>, extensions: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept_key(key));
    out.extend_from_slice(b"\r\n");
    if let Some(subprotocol) = subprotocol {
        append_header(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    if let Some(extensions) = extensions {
        append_header(out, "Sec-WebSocket-Extensions", extensions);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to a request that is refused, with the reason as its text.
pub fn append_refusal(out: &mut Vec<u8>, error: &HandshakeError) {
    let headers: &[(&str, &str)] = match error.status() {
        // RFC 9110, section 7.8: Upgrade goes with a Connection option of its name.
        426 => &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
        _ => &[],
    };
    let body = format!("{error}\n");
    append_response(out, error.status(), "text/plain; charset=utf-8", headers, body.as_bytes());
}

#[cfg(test)]
mod tests;
