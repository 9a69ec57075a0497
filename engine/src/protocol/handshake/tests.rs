use super::*;
use crate::protocol::deflate::{Compression, DeflateAgreement};
use crate::protocol::http::{HeadLimits, parse_request};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, headers_max: 32 };
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The head of a proper request, with lines replaced (`Name: value`), removed (`Name:`) or, with a
/// plus in front, added.
fn head(changes: &[&str]) -> String {
    let mut lines = vec![
        "Host: server.example.com".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
        "Sec-WebSocket-Version: 13".to_owned(),
    ];
    for change in changes {
        if let Some(added) = change.strip_prefix('+') {
            lines.push(added.to_owned());
            continue;
        }
        let name = change.split(':').next().expect("a name");
        lines.retain(|line| !line.starts_with(name));
        if !change.ends_with(':') {
            lines.push((*change).to_owned());
        }
    }
    format!("GET /chat HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

fn judge(head: &str) -> Result<(), HandshakeError> {
    let (request, _) = parse_request(head.as_bytes(), &LIMITS)?.expect("complete");
    validate(&request).map(drop)
}

#[test]
fn the_example_of_the_rfc() {
    assert_eq!(accept_key(KEY), *ACCEPT.as_bytes());
    let mut out = Vec::new();
    append_accept(&mut out, KEY, Some("chat"), None);
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    assert_eq!(str::from_utf8(&out), Ok(expected.as_str()));
}

#[test]
fn what_browsers_and_libraries_write_is_accepted() {
    for changes in [
        &[][..],
        &["Upgrade: WebSocket"],
        &["Upgrade: h2c, websocket"],
        &["Connection: keep-alive, Upgrade"],
        &["Connection: keep-alive", "+connection: UPGRADE"],
        &["Sec-WebSocket-Key:", "+SEC-WEBSOCKET-KEY:dGhlIHNhbXBsZSBub25jZQ=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="],
        &["+Content-Length: 0"],
        &["+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
        &["+Origin: http://example.com"],
    ] {
        assert_eq!(judge(&head(changes)), Ok(()), "{changes:?}");
    }
    assert_eq!(judge(&head(&[]).replace("/chat", "ws://server.example.com/chat")), Ok(()));
}

#[test]
fn every_requirement_is_checked() {
    use HandshakeError as E;
    for (change, error, status) in [
        ("Host:", E::Host, 400),
        ("+Host: other", E::Host, 400),
        ("Upgrade:", E::NotUpgrade, 426),
        ("Upgrade: websocket2", E::NotUpgrade, 426),
        ("Connection:", E::Connection, 400),
        ("Connection: keep-alive", E::Connection, 400),
        ("+Content-Length: 5", E::Body, 400),
        ("+Content-Length: 00", E::Body, 400),
        ("+Transfer-Encoding: chunked", E::Body, 400),
        ("Sec-WebSocket-Version:", E::VersionHeader, 400),
        ("+Sec-WebSocket-Version: 13", E::VersionHeader, 400),
        ("Sec-WebSocket-Version: 8", E::Version, 426),
        ("Sec-WebSocket-Version: 13, 8", E::Version, 426),
        ("Sec-WebSocket-Key:", E::Key, 400),
        ("+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", E::Key, 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", E::Key, 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=", E::Key, 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy", E::Key, 400),
        ("Sec-WebSocket-Key: !!!!IHNhbXBsZSBub25jZQ==", E::Key, 400),
        ("+Sec-WebSocket-Extensions: a;", E::Extensions(extensions::ExtensionSyntaxError), 400),
    ] {
        assert_eq!(judge(&head(&[change])), Err(error), "{change}");
        assert_eq!(error.status(), status, "{change}");
    }
    assert_eq!(judge(&head(&[]).replace("GET", "POST")), Err(E::Method));
    assert_eq!(judge(&head(&[]).replace("HTTP/1.1", "HTTP/1.0")), Err(E::HttpVersion));
}

#[test]
fn plain_http_is_told_from_an_upgrade() {
    for (head, expected) in [
        (head(&[]), true),
        (head(&["Connection:"]), true),
        (head(&["Upgrade:"]), false),
        (head(&["Upgrade: h2c"]), false),
    ] {
        let (request, _) = parse_request(head.as_bytes(), &LIMITS).unwrap().unwrap();
        assert_eq!(is_upgrade(&request), expected, "{head}");
    }
}

#[test]
fn subprotocols_are_chosen_by_the_clients_preference() {
    let head = head(&[
        "+Sec-WebSocket-Protocol: superchat, auth.abc",
        "+sec-websocket-protocol: chat",
        "+Sec-WebSocket-Extensions: a, b; c",
        "+Sec-WebSocket-Extensions: d",
    ]);
    let (request, _) = parse_request(head.as_bytes(), &LIMITS).unwrap().unwrap();
    let upgrade = validate(&request).unwrap();
    assert_eq!(upgrade.key, KEY);
    assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["superchat", "auth.abc", "chat"]);
    assert_eq!(upgrade.select_subprotocol(&["chat", "superchat"]), Some("superchat"));
    assert_eq!(upgrade.select_subprotocol(&["CHAT"]), None);
    let names: Vec<&str> = upgrade.extensions().map(|offer| offer.name).collect();
    assert_eq!(names, ["a", "b", "d"]);
}

#[test]
fn a_refusal_says_what_to_do() {
    let refusal = |error: HandshakeError| {
        let mut out = Vec::new();
        append_refusal(&mut out, &error);
        String::from_utf8(out).expect("text")
    };
    let version = refusal(HandshakeError::Version);
    assert!(version.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{version}");
    assert!(version.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{version}");
    assert!(version.contains("\r\nUpgrade: websocket\r\n"), "{version}");
    assert!(version.contains("\r\nConnection: close\r\n"), "{version}");
    let body = "only WebSocket version 13 is spoken\n";
    assert!(version.ends_with(&format!("\r\n\r\n{body}")), "{version}");
    assert!(version.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{version}");
    assert!(refusal(HandshakeError::Method).starts_with("HTTP/1.1 400 "));
    let too_big = refusal(HandshakeError::HeadTooBig { bytes_max: 9 });
    assert!(too_big.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
    assert!(refusal(HandshakeError::NotFound).starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(refusal(HandshakeError::Host).starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
#[should_panic(expected = "a header is one line")]
fn a_header_cannot_be_smuggled_in() {
    append_response(&mut Vec::new(), 200, "text/plain", &[("A", "b\r\nC: d")], b"");
}

#[test]
fn a_client_and_a_server_agree() {
    let compression = Compression { client_context_takeover: true, ..Compression::default() };
    for offered in [None, Some(&compression)] {
        let mut request = Vec::new();
        append_client_request(&mut request, "localhost:8080", "/ws?a=b", KEY, Some("chat, v2"), offered);
        let (parsed, head_bytes) = parse_request(&request, &LIMITS).unwrap().unwrap();
        assert_eq!(head_bytes, request.len());
        assert_eq!((parsed.path, parsed.query), ("/ws", Some("a=b")));
        let upgrade = validate(&parsed).unwrap();
        let deflate = compression.negotiate(upgrade.extensions());
        assert_eq!(deflate.is_some(), offered.is_some());
        let mut answer = Vec::new();
        let extensions = deflate.as_ref().map(|deflate| deflate.answer.as_str());
        append_accept(&mut answer, upgrade.key, upgrade.select_subprotocol(&["v2"]), extensions);
        let head_bytes = answer.len();
        answer.extend_from_slice(b"\x81\x00");

        let agreement = deflate.map_or(DeflateAgreement::NONE, |deflate| deflate.agreement);
        let accept = ClientAccept { subprotocol: Some("v2"), deflate: agreement };
        assert_eq!(parse_client_response(&answer, KEY, offered), Ok(Some((accept, head_bytes))));
        for cut in 0..head_bytes {
            assert_eq!(parse_client_response(&answer[..cut], KEY, offered), Ok(None));
        }
    }
}

#[test]
fn a_client_refuses_what_is_no_upgrade() {
    use HandshakeError as E;
    let mut answer = Vec::new();
    append_accept(&mut answer, KEY, None, None);
    let answer = String::from_utf8(answer).expect("text");
    let offered = Compression::default();
    let judge = |answer: &str| parse_client_response(answer.as_bytes(), KEY, Some(&offered)).map(drop);
    assert_eq!(judge(&answer), Ok(()));
    assert_eq!(judge(&answer.replace("101", "200")), Err(E::Refused(200)));
    assert_eq!(judge(&answer.replace("websocket", "h2c")), Err(E::NotUpgraded));
    assert_eq!(judge(&answer.replace("n: Upgrade", "n: close")), Err(E::NotUpgraded));
    assert_eq!(judge(&answer.replace("s3pP", "S3pP")), Err(E::Accept));
    assert_eq!(judge(&answer.replace("Sec-WebSocket-Accept", "X")), Err(E::Accept));
    let extended = answer.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n");
    assert_eq!(judge(&extended), Err(E::ExtensionNotOffered));
    let taken_over = extended.replace(" x", " permessage-deflate");
    assert_eq!(judge(&taken_over), Err(E::ExtensionNotOffered), "we have asked for no context takeover");
    let deflate = extended.replace(" x", " permessage-deflate; server_no_context_takeover");
    assert_eq!(judge(&deflate), Ok(()));
    let unasked = parse_client_response(deflate.as_bytes(), KEY, None).map(drop);
    assert_eq!(unasked, Err(E::ExtensionNotOffered));
    assert!(matches!(judge("SSH-2.0-OpenSSH\r\n"), Err(E::Malformed(_))));
    let endless = format!("HTTP/1.1 101 X\r\nA: {}", "b".repeat(1 << 16));
    assert!(matches!(judge(&endless), Err(E::HeadTooBig { .. })));
}
