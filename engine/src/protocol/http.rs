//! The head of an HTTP/1.1 request (RFC 9112), as far as an upgrade or a small answer needs it.

use super::handshake::HandshakeError;

/// The most header fields that can be read, whatever the limits say: they are kept on the stack.
pub const HEADERS_MAX: usize = 64;
/// The longest method: beyond it, what comes cannot become a request that anyone makes.
const METHOD_BYTES_MAX: usize = 24;

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The request line and all fields with the empty line after them, in bytes.
    pub head_bytes_max: usize,
    /// The number of fields; at most [`HEADERS_MAX`] counts.
    pub headers_max: usize,
}

/// One header field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name as the peer wrote it; compare it without regard to case.
    pub name: &'a str,
    /// The value without the white space around it.
    pub value: &'a str,
}

/// Header fields, borrowed from the received bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers<'a> {
    fields: [Header<'a>; HEADERS_MAX],
    count: usize,
}

/// The head of a request, borrowed from the received bytes.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method, in the case in which it came (methods are case-sensitive).
    pub method: &'a str,
    /// The path of the target, without its query, percent-encoded as it came. `*` for `OPTIONS *`.
    pub path: &'a str,
    /// The query of the target, without its question mark.
    pub query: Option<&'a str>,
    /// The minor version: 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub version_minor: u8,
    headers: Headers<'a>,
}

impl<'a> Headers<'a> {
    /// # Errors
    /// [`HandshakeError::HeaderNotUtf8`]: a value that is not text would be taken for absent by
    /// whoever looks for text, and some headers must not go unseen (`Origin`, for one).
    pub(super) fn new(fields: &[httparse::Header<'a>]) -> Result<Self, HandshakeError> {
        let mut headers = Self { fields: [Header::default(); HEADERS_MAX], count: fields.len() };
        for (header, field) in headers.fields.iter_mut().zip(fields) {
            let value = str::from_utf8(field.value).map_err(|_| HandshakeError::HeaderNotUtf8)?;
            *header = Header { name: field.name, value: value.trim_ascii() };
        }
        Ok(headers)
    }

    pub(super) fn as_slice(&self) -> &[Header<'a>] {
        &self.fields[..self.count]
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let same = move |header: &&Header<'a>| header.name.eq_ignore_ascii_case(name);
        self.as_slice().iter().filter(same).map(|header| header.value)
    }

    /// Whether a header that is a list of tokens names this one, without regard to case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        let mut elements = self.values(name).flat_map(list_elements);
        elements.any(|element| element.eq_ignore_ascii_case(token))
    }
}

impl<'a> Request<'a> {
    /// The first value of a header; its name is compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_values(name).next()
    }

    /// All values of a header that may come more than once, in their order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.values(name)
    }

    /// All headers, in their order.
    #[must_use]
    pub fn headers(&self) -> &[Header<'a>] {
        self.headers.as_slice()
    }

    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers.has_token(name, token)
    }
}

/// Reads a request's head at the start of `bytes`, and says how long it is; `None` if it is still
/// incomplete. What follows the head in `bytes` is not looked at.
///
/// # Errors
/// What cannot become a request any more, as soon as it cannot: [`HandshakeError::Malformed`],
/// [`HandshakeError::HeaderNotUtf8`], [`HandshakeError::Target`], [`HandshakeError::Host`]; or
/// [`HandshakeError::HeadTooBig`] and [`HandshakeError::TooManyHeaders`].
pub fn parse_request<'a>(bytes: &'a [u8], limits: &HeadLimits) -> Result<Option<(Request<'a>, usize)>, HandshakeError> {
    let headers_max = limits.headers_max.min(HEADERS_MAX);
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields[..headers_max]);
    let status = head.parse(bytes).map_err(|error| malformed(error, headers_max))?;

    let too_big = HandshakeError::HeadTooBig { bytes_max: limits.head_bytes_max };
    let httparse::Status::Complete(head_bytes) = status else {
        if bytes.len() >= limits.head_bytes_max {
            return Err(too_big);
        }
        return judge_method(bytes).map(|()| None);
    };
    if head_bytes > limits.head_bytes_max {
        return Err(too_big);
    }

    let (path, query) = split_target(head.path.unwrap_or_default())?;
    let request = Request {
        method: head.method.unwrap_or_default(),
        path,
        query,
        version_minor: head.version.unwrap_or_default(),
        headers: Headers::new(head.headers)?,
    };
    // RFC 9112, section 3.2: exactly one Host, but HTTP/1.0 may do without.
    let hosts = request.header_values("host").count();
    if hosts > 1 || (hosts == 0 && request.version_minor > 0) {
        return Err(HandshakeError::Host);
    }
    Ok(Some((request, head_bytes)))
}

/// Refuses a word that goes on without becoming a method, instead of waiting for its end.
fn judge_method(bytes: &[u8]) -> Result<(), HandshakeError> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let line = &bytes[start.unwrap_or(bytes.len())..];
    let method = &line[..line.len().min(METHOD_BYTES_MAX + 1)];
    if method.len() > METHOD_BYTES_MAX && !method.contains(&b' ') {
        return Err(HandshakeError::Malformed("the request line does not start with a method"));
    }
    Ok(())
}

/// The path and the query of a request's target, which may be in absolute form (RFC 9112, 3.2).
fn split_target(target: &str) -> Result<(&str, Option<&str>), HandshakeError> {
    let local = match target.as_bytes().first() {
        Some(b'/') => target,
        Some(b'*') if target.len() == 1 => target,
        _ => absolute_target(target).ok_or(HandshakeError::Target)?,
    };
    if local.contains('#') {
        return Err(HandshakeError::Target);
    }
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What follows the authority of an absolute target.
fn absolute_target(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https", "ws", "wss"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    let (authority, local) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (known && !authority.is_empty()).then_some(local)
}

pub(super) fn malformed(error: httparse::Error, headers_max: usize) -> HandshakeError {
    HandshakeError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HandshakeError::TooManyHeaders { headers_max },
        httparse::Error::HeaderName => "a header name holds a character that is not allowed",
        httparse::Error::HeaderValue => "a header value holds a character that is not allowed",
        httparse::Error::NewLine => "a line does not end in CR LF",
        httparse::Error::Status => "the status line is not complete",
        httparse::Error::Token => "the first line holds a character that is not allowed",
        httparse::Error::Version => "the version is not HTTP/1.0 or HTTP/1.1",
    })
}

/// The elements of a comma-separated list, without empty ones (RFC 9110, section 5.6.1).
pub(super) fn list_elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether a text is a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let pipelined = format!("{head}\u{1}\u{2}more");
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
        assert_eq!(target("*"), path("*", None));
        assert_eq!(target("http://h:1/ws?x=/"), path("/ws", Some("x=/")));
        assert_eq!(target("WS://h"), path("/", None));
        assert_eq!(target("https://h?x"), path("/", Some("x")));
        for wrong in ["ws", "ftp://h/", "http:///a", "h:443", "/a#b", "http://h#b", "*a"] {
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
        ] {
            let error = parse_request(garbage, &LIMITS).map(|_| ()).expect_err("garbage");
            assert!(matches!(error, HandshakeError::Malformed(_)), "{garbage:?}: {error}");
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
}
