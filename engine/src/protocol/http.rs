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
    let head_end = if let httparse::Status::Complete(head_bytes) = status { head_bytes } else { bytes.len() };
    if bytes.first() == Some(&b'\n') || has_broken_line_end(&bytes[..head_end]) {
        return Err(malformed(httparse::Error::NewLine, headers_max));
    }

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
    judge_method(bytes)?;

    let method = head.method.unwrap_or_default();
    let (path, query) = split_target(method, head.path.unwrap_or_default())?;
    let request = Request {
        method,
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

/// Whether a CR or an LF stands alone in a part of a head. RFC 9112, section 2.2, lets a recipient take a bare LF
/// for an end of line; but a proxy that does not would see other headers than we do, which is how requests are
/// smuggled.
#[must_use]
pub fn has_broken_line_end(part: &[u8]) -> bool {
    part.windows(2).any(|two| (two[0] == b'\r') != (two[1] == b'\n'))
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

/// The path and the query of a request's target, which may be in absolute form, and an asterisk for `OPTIONS`
/// (RFC 9112, section 3.2).
fn split_target<'a>(method: &str, target: &'a str) -> Result<(&'a str, Option<&'a str>), HandshakeError> {
    let local = match target.as_bytes().first() {
        Some(b'/') => target,
        Some(b'*') if target.len() == 1 && method == "OPTIONS" => target,
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
mod tests;
