//! The opening handshake from the client's side (RFC 6455, section 4.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::ProtocolError;
use super::address::Target;
use super::deflate::Takeover;

/// RFC 6455, section 1.3.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes of an answer's head beyond which the server is not taken seriously.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields of an answer.
const FIELDS_MAX: usize = 64;

/// The key of the connection with this nonce: different for each, and found again without being stored.
fn key(nonce: u64) -> String {
    let mut random = fastrand::Rng::with_seed(nonce);
    STANDARD.encode(random.u128(..).to_le_bytes())
}

/// The request of the connection with this nonce.
pub(crate) fn request(target: &Target, nonce: u64, compress: Option<Takeover>) -> Vec<u8> {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\n\
         Sec-WebSocket-Version: 13\r\n{}\r\n",
        target.path,
        target.authority,
        key(nonce),
        compress.map_or("", |_| Takeover::OFFER)
    )
    .into_bytes()
}

/// Reads the answer to the connection with this nonce: its bytes, or `None` if it is not complete.
///
/// # Errors
/// It is no HTTP, not 101, has the wrong accept key, or does not agree to compression as it should.
pub(crate) fn response(bytes: &[u8], nonce: u64, compress: Option<Takeover>) -> Result<Option<usize>, ProtocolError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(ProtocolError::NotHttp),
    };
    let status = head.code.unwrap_or(0);
    if status != 101 {
        return Err(ProtocolError::Status(status));
    }
    let digest = Sha1::new().chain_update(key(nonce)).chain_update(ACCEPT_SUFFIX).finalize();
    let expected = STANDARD.encode(digest);
    let accepted = head
        .headers
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case("Sec-WebSocket-Accept") && field.value == expected.as_bytes());
    if !accepted {
        return Err(ProtocolError::AcceptKey);
    }
    let extensions = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"));
    let extensions = extensions.map(|field| String::from_utf8_lossy(field.value));
    match (compress, extensions) {
        (None, None) => Ok(Some(length)),
        (None, Some(_)) => Err(ProtocolError::Extension),
        (Some(takeover), Some(agreed)) if takeover.is_agreed(&agreed) => Ok(Some(length)),
        (Some(_), _) => Err(ProtocolError::NotCompressed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(nonce: u64) -> Vec<u8> {
        let digest = Sha1::new().chain_update(key(nonce)).chain_update(ACCEPT_SUFFIX).finalize();
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
            STANDARD.encode(digest)
        )
        .into_bytes()
    }

    #[test]
    fn a_request_names_host_path_and_key() {
        let target = Target::parse("ws://127.0.0.1:9001/chat?room=1").expect("a good address");
        let text = String::from_utf8(request(&target, 1, None)).expect("ASCII");
        assert!(text.starts_with("GET /chat?room=1 HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n"), "{text}");
        assert_ne!(request(&target, 1, None), request(&target, 2, None));
    }

    #[test]
    fn an_answer_is_taken_once_complete_and_leaves_what_follows() {
        let mut bytes = answer(7);
        let length = bytes.len();
        for end in 0..length {
            assert_eq!(response(&bytes[..end], 7, None), Ok(None), "after {end} bytes");
        }
        bytes.extend([0x81, 0]);
        assert_eq!(response(&bytes, 7, None), Ok(Some(length)));
    }

    #[test]
    fn refusals_are_named() {
        assert_eq!(response(&answer(8), 7, None), Err(ProtocolError::AcceptKey));
        assert_eq!(response(b"HTTP/1.1 404 Not Found\r\n\r\n", 7, None), Err(ProtocolError::Status(404)));
        assert_eq!(response(b"SSH-2.0-OpenSSH\r\n\r\n", 7, None), Err(ProtocolError::NotHttp));
        assert_eq!(response(&[b'H'; HEAD_BYTES_MAX], 7, None), Err(ProtocolError::NotHttp));
    }

    #[test]
    fn compression_is_offered_and_has_to_be_agreed_on() {
        let target = Target::parse("ws://127.0.0.1:9001/").expect("a good address");
        let text = String::from_utf8(request(&target, 1, Some(Takeover::None))).expect("ASCII");
        assert!(text.contains("permessage-deflate") && text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(response(&answer(7), 7, Some(Takeover::None)), Err(ProtocolError::NotCompressed));
        let mut agreed = answer(7);
        agreed.truncate(agreed.len() - 2);
        agreed.extend(b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        assert_eq!(response(&agreed, 7, Some(Takeover::Both)), Ok(Some(agreed.len())));
        assert_eq!(response(&agreed, 7, None), Err(ProtocolError::Extension));
    }
}
