//! Whatever comes in place of a request or of its answer is refused or read, and what is read is what stands
//! there, to a reader of our own and to tungstenite's.

use crore_engine::protocol::deflate::{Compression, DeflateAgreement, parse_answer};
use crore_engine::protocol::extensions::ExtensionOffer;
use crore_engine::protocol::handshake::{
    ClientAccept, Upgrade, accept_key, append_accept, append_refusal, is_upgrade, parse_client_response, validate,
};
use crore_engine::protocol::http::{HEADERS_MAX, HeadLimits, Request, parse_request};
use crore_engine::protocol::{HandshakeError, Role};
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server;

/// Limits that no input of the fuzzer reaches in bytes.
const WIDE: HeadLimits = HeadLimits { head_bytes_max: 1 << 20, headers_max: HEADERS_MAX };
/// Limits that are soon reached.
const NARROW: HeadLimits = HeadLimits { head_bytes_max: 300, headers_max: 8 };
/// The key of the request to which an input may be the answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Heads up to this length are cut everywhere, longer ones at as many places.
const CUTS_MAX: usize = 48;

/// What a server may be ready for: everything, or little.
const OURS: [Compression; 3] = [ready_for(false, 15, 15), ready_for(true, 15, 15), ready_for(true, 10, 9)];

const fn ready_for(context_takeover: bool, server_window_bits: u8, client_window_bits: u8) -> Compression {
    Compression {
        level: 6,
        threshold_bytes: 1024,
        server_context_takeover: context_takeover,
        client_context_takeover: context_takeover,
        server_window_bits,
        client_window_bits,
    }
}

type Parsed<'a> = Result<Option<(Request<'a>, usize)>, HandshakeError>;

/// The input is what a server receives, and also what a client does.
///
/// # Panics
/// If the promise is broken.
pub fn check(data: &[u8]) {
    let wide = parse_request(data, &WIDE);
    check_prefixes(data, &WIDE, &wide);
    let narrow = parse_request(data, &NARROW);
    check_prefixes(data, &NARROW, &narrow);
    check_limits(data, &narrow, &wide);
    match &wide {
        Ok(Some((request, head_bytes))) => check_request(&data[..*head_bytes], request),
        Ok(None) => {}
        Err(error) => check_refusal(error),
    }
    check_answer(data);
}

/// Where an input is cut; of a long one the last bytes say where the cuts begin.
fn cuts(data: &[u8]) -> impl Iterator<Item = usize> {
    let step = 1 + data.len() / CUTS_MAX;
    let first = data.iter().rev().take(8).map(|&byte| usize::from(byte)).sum::<usize>() % step;
    (first..data.len()).step_by(step)
}

/// What is no head is none as soon as it can't become one, and what follows a head changes nothing.
fn check_prefixes(data: &[u8], limits: &HeadLimits, whole: &Parsed<'_>) {
    for end in cuts(data) {
        match (parse_request(&data[..end], limits), whole) {
            (Ok(Some((_, cut_bytes))), Ok(Some((_, head_bytes)))) => assert_eq!(cut_bytes, *head_bytes),
            (Ok(Some(_)), _) => panic!("a head of {end} bytes is none with what follows it"),
            (Ok(None), Ok(Some((_, head_bytes)))) => assert!(end < *head_bytes, "complete at {end} bytes"),
            (Ok(None), _) => {}
            (Err(_), Err(_)) => {}
            (Err(error), _) => panic!("refused at {end} bytes, and not as a whole: {error}"),
        }
    }
}

/// Limits decide whether a head is read and never what is read.
fn check_limits(data: &[u8], narrow: &Parsed<'_>, wide: &Parsed<'_>) {
    match (narrow, wide) {
        (Ok(Some((narrow, narrow_bytes))), Ok(Some((wide, wide_bytes)))) => {
            assert_eq!(narrow_bytes, wide_bytes);
            assert!(*narrow_bytes <= NARROW.head_bytes_max && narrow.headers().len() <= NARROW.headers_max);
            assert_same(narrow, wide);
        }
        (Ok(None), Ok(None)) => assert!(data.len() < NARROW.head_bytes_max),
        (Err(HandshakeError::TooManyHeaders { .. }), _) => {}
        (Err(HandshakeError::HeadTooBig { .. }), _) => assert!(data.len() >= NARROW.head_bytes_max),
        (Err(narrow), Err(wide)) => assert_eq!(narrow, wide),
        _ => panic!("{narrow:?} within narrow limits, {wide:?} within wide ones"),
    }
}

fn assert_same(one: &Request<'_>, other: &Request<'_>) {
    assert_eq!((one.method, one.path, one.query), (other.method, other.path, other.query));
    assert_eq!(one.version_minor, other.version_minor);
    assert_eq!(one.headers(), other.headers());
}

fn check_request(head: &[u8], request: &Request<'_>) {
    check_lines(head, request);
    check_written_again(request);
    let upgrade = validate(request);
    if let Ok(upgrade) = &upgrade {
        assert!(is_upgrade(request));
        check_upgrade(request, upgrade);
    }
    check_other(head, request, upgrade.as_ref().map(|upgrade| upgrade.key).map_err(|error| *error));
    if let Err(error) = &upgrade {
        check_refusal(error);
    }
}

/// Reads the head by lines, as simply as it can be done, and finds the same.
fn check_lines(head: &[u8], request: &Request<'_>) {
    let text = str::from_utf8(head).expect("each part of it is text");
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    // RFC 9112, section 2.2: empty lines before a request are ignored.
    let first = lines.by_ref().find(|line| !line.is_empty()).expect("a request line");
    let words: Vec<&str> = first.split(' ').filter(|word| !word.is_empty()).collect();
    let version = format!("HTTP/1.{}", request.version_minor);
    let [method, target, last] = words[..] else { panic!("a request line has three words: {first:?}") };
    assert_eq!((method, last), (request.method, version.as_str()));
    let local = match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    };
    // The path of an absolute target may be left out.
    assert!(target.ends_with(&local) || target.ends_with(local.trim_start_matches('/')), "{target:?}, {local:?}");
    assert!(!target.contains('#'));

    let mut fields = request.headers().iter();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let field = fields.next().expect("a field for each line");
        let (name, value) = line.split_once(':').expect("a name and a value");
        assert_eq!((name, value.trim_ascii()), (field.name, field.value));
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!value.contains(|c: char| c.is_ascii_control() && c != '\t'));
    }
    assert!(fields.next().is_none(), "a line for each field");
    assert_eq!(lines.collect::<Vec<_>>(), [""], "the head ends with its first empty line");
    let hosts = request.header_values("HOST").count();
    assert!(hosts == 1 || (hosts == 0 && request.version_minor == 0));
}

/// What has been read, written as a request, is read as the same.
fn check_written_again(request: &Request<'_>) {
    let Request { method, path, version_minor, .. } = request;
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut written = format!("{method} {path}{query} HTTP/1.{version_minor}\r\n");
    for header in request.headers() {
        written += &format!("{}: {}\r\n", header.name, header.value);
    }
    written += "\r\n";
    let (again, head_bytes) = parse_request(written.as_bytes(), &WIDE).expect("proper").expect("complete");
    assert_eq!(head_bytes, written.len());
    assert_same(&again, request);
}

fn check_upgrade(request: &Request<'_>, upgrade: &Upgrade<'_>) {
    let values = |name| request.header_values(name).collect::<Vec<_>>();
    assert_eq!((values("sec-websocket-key"), values("sec-websocket-version")), (vec![upgrade.key], vec!["13"]));
    assert!(values("content-length").iter().all(|length| *length == "0") && values("transfer-encoding").is_empty());
    assert_eq!((request.method, request.version_minor), ("GET", 1));
    let subprotocols: Vec<&str> = upgrade.subprotocols().collect();
    assert!(subprotocols.iter().all(|name| !name.is_empty() && !name.contains(',')));
    assert_eq!(upgrade.select_subprotocol(&subprotocols), subprotocols.first().copied());
    assert_eq!(upgrade.select_subprotocol(&[]), None);
    for offer in upgrade.extensions() {
        assert!(is_token(offer.name));
        for parameter in offer.parameters() {
            assert!(is_token(parameter.name) && parameter.value.is_none_or(is_token));
        }
    }
    // A client that has asked with this key takes the answer.
    for subprotocol in [None, subprotocols.last().copied()] {
        let mut answer = Vec::new();
        append_accept(&mut answer, upgrade.key, subprotocol, None);
        let expected = ClientAccept { subprotocol, deflate: DeflateAgreement::NONE };
        assert_eq!(parse_client_response(&answer, upgrade.key, None), Ok(Some((expected, answer.len()))));
    }
    OURS.iter().for_each(|ours| check_negotiation(ours, upgrade));
}

/// The first offer that can be met is agreed to, within what both ends want, and the client understands it alike.
fn check_negotiation(ours: &Compression, upgrade: &Upgrade<'_>) {
    let theirs = upgrade.extensions().find_map(|offer| offered(&offer));
    let Some((negotiated, theirs)) = ours.negotiate(upgrade.extensions()).zip(theirs) else {
        assert!(ours.negotiate(upgrade.extensions()).is_none() && theirs.is_none());
        return;
    };
    let (server, client) = (negotiated.agreement.outbound(Role::Server), negotiated.agreement.outbound(Role::Client));
    assert!(server.window_bits <= ours.server_window_bits.min(theirs.server_window_bits));
    assert!(client.window_bits <= theirs.client_window_bits);
    assert_eq!(server.context_takeover, ours.server_context_takeover && theirs.server_context_takeover);
    assert!(!client.context_takeover || (ours.client_context_takeover && theirs.client_context_takeover));
    // Without takeover nothing of the window is kept, however large it is.
    assert!(client.window_bytes() <= 1 << ours.client_window_bits);
    assert_eq!(parse_answer(&negotiated.answer, &theirs), Some(negotiated.agreement));
    let mut answer = Vec::new();
    append_accept(&mut answer, upgrade.key, None, Some(&negotiated.answer));
    let expected = ClientAccept { subprotocol: None, deflate: negotiated.agreement };
    assert_eq!(parse_client_response(&answer, upgrade.key, Some(&theirs)), Ok(Some((expected, answer.len()))));
}

/// What a client wants that makes this offer; `None` if it is no proper one of permessage-deflate (RFC 7692,
/// section 7.1).
fn offered(offer: &ExtensionOffer<'_>) -> Option<Compression> {
    offer.name.eq_ignore_ascii_case("permessage-deflate").then_some(())?;
    let mut theirs = ready_for(true, 15, 15);
    let mut seen = Vec::new();
    for parameter in offer.parameters() {
        let name = parameter.name.to_ascii_lowercase();
        let bits = match parameter.value {
            None => None,
            Some("8") => Some(8),
            Some("9") => Some(9),
            Some(value) => Some((10..=15).find(|bits: &u8| bits.to_string() == value)?),
        };
        match (name.as_str(), bits) {
            ("server_no_context_takeover", None) => theirs.server_context_takeover = false,
            ("client_no_context_takeover", None) => theirs.client_context_takeover = false,
            ("server_max_window_bits", Some(bits)) => theirs.server_window_bits = bits,
            ("client_max_window_bits", bits) => theirs.client_window_bits = bits.unwrap_or(15),
            _ => return None,
        }
        (!seen.contains(&name)).then_some(())?;
        seen.push(name);
    }
    Some(theirs)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte))
}

/// tungstenite upgrades what the engine does, with the same answer, and the engine says why it does not what
/// tungstenite does.
///
/// Where the two differ and both may: the engine reads Upgrade and Connection as the lists that they are, over
/// all their fields, where tungstenite looks at the first, and splits it at spaces, too; it lets the unused
/// bits of a key be; it leaves a target's characters to the application, while tungstenite makes a URI of it.
/// What the engine refuses and tungstenite does not look at is listed below.
fn check_other(head: &[u8], request: &Request<'_>, upgrade: Result<&str, HandshakeError>) {
    let other = server::Request::try_parse(head);
    let parsed = other.is_ok();
    let other = other.and_then(|request| server::create_response(&request.expect("the head is complete").1));
    match (upgrade, other) {
        (Ok(key), Ok(answer)) => {
            assert_eq!(answer.headers()["Sec-WebSocket-Accept"].as_bytes(), accept_key(key));
        }
        (Ok(key), Err(error)) => {
            let single = |name| request.header_values(name).count() == 1;
            let lists = !single("upgrade")
                || !single("connection")
                || request.header("upgrade").is_some_and(|list| !list.eq_ignore_ascii_case("websocket"))
                || request.header("connection").is_some_and(|list| !list.is_ascii() || list.contains('\t'));
            // Of the last of 22 characters two bits count.
            let unused_bits = !matches!(key.as_bytes()[21], b'A' | b'Q' | b'g' | b'w');
            assert!(lists || unused_bits || !parsed, "only the engine upgrades: {error}");
        }
        (Err(error), Ok(_)) => assert!(
            matches!(
                error,
                HandshakeError::Body
                    | HandshakeError::VersionHeader
                    | HandshakeError::Key
                    | HandshakeError::Connection
                    | HandshakeError::Extensions(_)
            ),
            "only tungstenite upgrades: {error}"
        ),
        (Err(_), Err(_)) => {}
    }
}

/// A refusal is an answer that any client can read.
fn check_refusal(error: &HandshakeError) {
    let mut answer = Vec::new();
    append_refusal(&mut answer, error);
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = response.parse(&answer).expect("proper").unwrap();
    assert_eq!(response.code, Some(error.status()));
    let field = |name: &str| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let length = field("content-length").and_then(|field| str::from_utf8(field.value).ok()).expect("a length");
    assert_eq!(length.parse(), Ok(answer.len() - head_bytes));
}

/// The same bytes as the answer to a request of ours.
fn check_answer(data: &[u8]) {
    for offered in [None, Some(&OURS[2])] {
        check_answer_to(data, offered);
    }
}

fn check_answer_to(data: &[u8], offered: Option<&Compression>) {
    let whole = parse_client_response(data, KEY, offered);
    for end in cuts(data) {
        match (parse_client_response(&data[..end], KEY, offered), &whole) {
            (Ok(Some(cut)), Ok(Some(whole))) => assert_eq!(cut, *whole),
            (Ok(None), Ok(Some((_, head_bytes)))) => assert!(end < *head_bytes),
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (cut, whole) => panic!("{cut:?} at {end} bytes, {whole:?} as a whole"),
        }
    }
    if let Ok(Some((accept, head_bytes))) = whole {
        let accepted = data[..head_bytes].windows(28).any(|window| window == accept_key(KEY));
        assert!(accepted, "without the value that belongs to the key");
        assert!(accept.subprotocol.is_none_or(|name| !name.contains(['\r', '\n'])));
        assert!(offered.is_some() || !accept.deflate.is_agreed());
        if accept.deflate.is_agreed() {
            assert!(accept.deflate.outbound(Role::Client).window_bits <= OURS[2].client_window_bits);
        }
    }
}
