//! The client's end of the opening handshake.

use super::response::append_header;
use super::{HandshakeError, VERSION, accept_key};
use crate::protocol::deflate::{self, Compression, DeflateAgreement};
use crate::protocol::http::{HEADERS_MAX, Headers, list_elements, malformed};

/// The longest head that is read of a server's answer, in bytes.
const RESPONSE_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Appends a client's request for an upgrade, with an offer of `compression` if there is one. `key` is
/// 16 random bytes in base64.
///
/// # Panics
/// If one of the texts holds a line break.
pub fn append_client_request(
    out: &mut Vec<u8>,
    host: &str,
    path_and_query: &str,
    key: &str,
    subprotocols: Option<&str>,
    compression: Option<&Compression>,
) {
    assert!(!path_and_query.contains(['\r', '\n', ' ']), "a target is one word");
    for part in ["GET ", path_and_query, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    append_header(out, "Host", host);
    append_header(out, "Upgrade", "websocket");
    append_header(out, "Connection", "Upgrade");
    append_header(out, "Sec-WebSocket-Key", key);
    append_header(out, "Sec-WebSocket-Version", VERSION);
    if let Some(subprotocols) = subprotocols {
        append_header(out, "Sec-WebSocket-Protocol", subprotocols);
    }
    if let Some(compression) = compression {
        let mut offer = String::new();
        deflate::append_offer(&mut offer, compression);
        append_header(out, "Sec-WebSocket-Extensions", &offer);
    }
    out.extend_from_slice(b"\r\n");
}

/// A server's consent to an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAccept<'a> {
    /// The subprotocol that the server chose.
    pub subprotocol: Option<&'a str>,
    /// How messages may be compressed.
    pub deflate: DeflateAgreement,
}

/// Reads a server's answer to [`append_client_request`] with the same key and offer, and says how long
/// its head is; `None` if it is still incomplete.
///
/// # Errors
/// [`HandshakeError::Refused`] or another that says what is wrong with the answer.
pub fn parse_client_response<'a>(
    bytes: &'a [u8],
    key: &str,
    offered: Option<&Compression>,
) -> Result<Option<(ClientAccept<'a>, usize)>, HandshakeError> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let status = head.parse(bytes).map_err(|error| malformed(error, HEADERS_MAX))?;
    let httparse::Status::Complete(head_bytes) = status else {
        if bytes.len() >= RESPONSE_HEAD_BYTES_MAX {
            return Err(HandshakeError::HeadTooBig { bytes_max: RESPONSE_HEAD_BYTES_MAX });
        }
        return Ok(None);
    };
    let status = head.code.unwrap_or_default();
    if status != 101 {
        return Err(HandshakeError::Refused(status));
    }
    let headers = Headers::new(head.headers)?;
    if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
        return Err(HandshakeError::NotUpgraded);
    }
    let accept = accept_key(key);
    if !headers.values("sec-websocket-accept").eq(str::from_utf8(&accept)) {
        return Err(HandshakeError::Accept);
    }
    let mut chosen = headers.values("sec-websocket-extensions").filter(|value| list_elements(value).next().is_some());
    let deflate = match (chosen.next(), chosen.next(), offered) {
        (None, ..) => DeflateAgreement::NONE,
        (Some(answer), None, Some(offered)) => {
            deflate::parse_answer(answer, offered).ok_or(HandshakeError::ExtensionNotOffered)?
        }
        _ => return Err(HandshakeError::ExtensionNotOffered),
    };
    let subprotocol = headers.values("sec-websocket-protocol").next();
    Ok(Some((ClientAccept { subprotocol, deflate }, head_bytes)))
}
