use super::*;
use crate::protocol::random::Random;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, headers_max: 16 };

fn parse(head: &str) -> Result<Option<(Request<'_>, usize)>, HandshakeError> {
    parse_request(head.as_bytes(), &LIMITS)
}

fn request(head: &str) -> Request<'_> {
    parse(head).expect("proper").expect("complete").0
}

fn target(target: &str) -> Result<(String, Option<String>), HandshakeError> {
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (request, _) = parse(&head)?.expect("complete");
    Ok((request.path.to_owned(), request.query.map(str::to_owned)))
}

#[test]
fn a_head_is_read_and_what_follows_is_left() {
    let head = "GET /chat?a=1&b=?2 HTTP/1.1\r\nHost: x\r\nX-List: one\r\nx-lIST:  two \r\n\r\n";
    let pipelined = format!("{head}\u{1}\u{2}\nmore");
    let (request, head_bytes) = parse(&pipelined).expect("proper").expect("complete");
    assert_eq!(head_bytes, head.len());
    assert_eq!((request.method, request.path), ("GET", "/chat"));
    assert_eq!(request.query, Some("a=1&b=?2"));
    assert_eq!(request.header("HOST"), Some("x"));
    assert_eq!(request.header("x-list"), Some("one"));
    assert_eq!(request.header_values("X-LIST").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(request.header("absent"), None);
    assert_eq!(request.headers().len(), 3);
    for cut in 0..head.len() {
        assert!(parse(&head[..cut]).is_ok_and(|head| head.is_none()), "{cut} bytes");
    }
}

#[test]
fn a_target_is_a_path_or_absolute() {
    let path = |path: &str, query: Option<&str>| Ok((path.to_owned(), query.map(str::to_owned)));
    assert_eq!(target("/"), path("/", None));
    assert_eq!(target("/a?"), path("/a", Some("")));
    assert_eq!(request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
    assert_eq!(target("http://h:1/ws?x=/"), path("/ws", Some("x=/")));
    assert_eq!(target("WS://h"), path("/", None));
    assert_eq!(target("https://h?x"), path("/", Some("x")));
    for wrong in ["ws", "ftp://h/", "http:///a", "h:443", "/a#b", "http://h#b", "*", "*a"] {
        assert_eq!(target(wrong), Err(HandshakeError::Target), "{wrong}");
    }
}

#[test]
fn garbage_is_refused_at_once() {
    let tls_client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for garbage in [
        tls_client_hello.as_slice(),
        b"\0",
        b"GET / HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\x01",
        b"aVeryLongWordThatNeverEnds",
        b"GET / HTTP/1.1\r\nHost : x\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n",
        b"\nGET /",
        b"GET / HTTP/1.1\nHost: x",
        b"GET / HTTP/1.1\r\nHost: x\n",
        b"GET / HTTP/1.1\r\nHost: x\nA: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\n",
        b"GET / HTTP/1.1\r\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\r\n",
        b"GET / HTTP/1.1\r\nHost: \rx",
    ] {
        let error = parse_request(garbage, &LIMITS).map(|_| ()).expect_err("garbage");
        assert!(matches!(error, HandshakeError::Malformed(_)), "{garbage:?}: {error}");
    }
}

#[test]
fn a_long_method_is_refused_whether_the_head_comes_whole_or_not() {
    let head = |method: &str| format!("\r\n{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
    let longest = "M".repeat(METHOD_BYTES_MAX);
    assert_eq!(request(&head(&longest)).method, longest);
    let longer = head(&format!("{longest}M"));
    for end in 2 + METHOD_BYTES_MAX + 1..=longer.len() {
        assert!(matches!(parse(&longer[..end]).map(drop), Err(HandshakeError::Malformed(_))), "{end} bytes");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields() {
    let too_big = HandshakeError::HeadTooBig { bytes_max: 1024 };
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(2000));
    assert!(parse(&endless[..1023]).is_ok_and(|head| head.is_none()));
    assert_eq!(parse(&endless[..1024]).map(drop), Err(too_big));
    assert_eq!(parse(&format!("{endless}\r\n\r\n")).map(drop), Err(too_big));
    assert_eq!(parse(&"\r\n".repeat(512)).map(drop), Err(too_big));

    let head = |fields| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(fields));
    assert_eq!(request(&head(15)).headers().len(), 16);
    let too_many = HandshakeError::TooManyHeaders { headers_max: 16 };
    assert_eq!(parse(&head(16)).map(drop), Err(too_many));
}

/// Pieces of heads, joined at random: what is a head and what is none does not depend on how much has come, and
/// what was read is read again from what is written of it.
#[test]
fn a_damaged_head_is_judged_alike_however_it_is_cut() {
    let mut random = Random::from_environment();
    let pieces = [
        "GET ",
        "/a?b",
        "ws://h/x",
        "*",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "Host: a\r\n",
        "X: y\r\n",
        "x:\t z \r\n",
        ": ",
        "\r",
        "\n",
        "\r\n",
        "\r\n\r\n",
        " ",
        "\t",
        "\0",
        "é",
        "Connection: Upgrade\r\n",
        "M",
        "#",
    ];
    let mut heads = 0;
    for _ in 0..5000 {
        let mut text = "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n".to_owned();
        for _ in 0..random.below(4) {
            let at = text.floor_char_boundary(random.below(text.len() + 1));
            let end = text.floor_char_boundary((at + random.below(12)).min(text.len()));
            let piece = *random.choose(&pieces);
            text.replace_range(at..end, piece);
        }
        let whole = parse(&text);
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            match (parse(&text[..end]), &whole) {
                (Ok(None), Ok(Some((_, head_bytes)))) => assert!(end < *head_bytes, "{text:?} at {end}"),
                (Ok(Some((_, cut_bytes))), Ok(Some((_, head_bytes)))) => assert_eq!(cut_bytes, *head_bytes),
                (Ok(None), _) | (Err(_), Err(_)) => {}
                (cut, whole) => panic!("{text:?}: {cut:?} at {end}, {whole:?} as a whole"),
            }
        }
        if let Ok(Some((request, _))) = whole {
            heads += 1;
            let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
            let fields = request.headers().iter().map(|header| format!("{}: {}\r\n", header.name, header.value));
            let (method, path, minor) = (request.method, request.path, request.version_minor);
            let written = format!("{method} {path}{query} HTTP/1.{minor}\r\n{}\r\n", fields.collect::<String>());
            let again = self::request(&written);
            assert_eq!((again.method, again.path, again.query), (method, path, request.query));
            assert_eq!(again.headers(), request.headers());
        }
    }
    assert!(heads > 500, "only {heads} heads were left whole");
}

#[test]
fn a_request_has_one_host() {
    let head = |version, hosts: &str| format!("GET / HTTP/1.{version}\r\n{hosts}\r\n");
    assert_eq!(request(&head(0, "")).version_minor, 0);
    assert_eq!(parse(&head(1, "")).map(drop), Err(HandshakeError::Host));
    let two = head(1, "Host: a\r\nhost: a\r\n");
    assert_eq!(parse(&two).map(drop), Err(HandshakeError::Host));
}

#[test]
fn a_value_that_is_not_text_is_refused() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: \xff\r\n\r\n";
    assert_eq!(parse_request(head, &LIMITS).map(drop), Err(HandshakeError::HeaderNotUtf8));
}

#[test]
fn list_elements_and_tokens() {
    let elements: Vec<&str> = list_elements(" a,,b c ,\td").collect();
    assert_eq!(elements, ["a", "b c", "d"]);
    assert!(is_token("permessage-deflate") && is_token("15"));
    assert!(!is_token("") && !is_token("a b") && !is_token("a\"") && !is_token("ü"));
}

#[test]
fn a_line_ends_in_cr_lf_and_nothing_else() {
    for part in [&b""[..], b"a", b"\r", b"\n", b"a\r", b"\na", b"\r\n", b"\n\r", b"a\r\n\r\nb"] {
        assert!(!has_broken_line_end(part), "{part:?}");
    }
    for part in [&b"a\n"[..], b"\n\n", b"\r\r", b"\ra", b"a\r\n\n", b"a\r\r\n"] {
        assert!(has_broken_line_end(part), "{part:?}");
    }
}
