//! Where in a request a token may be.

use std::borrow::Cow;

use crore_engine::Request;
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq as _;

/// What a subprotocol begins with that is a token.
pub(crate) const SUBPROTOCOL_PREFIX: &str = "auth.";

/// A place that a token may come from, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenSource {
    /// `Authorization: Bearer TOKEN`, for clients that can set headers.
    Bearer,
    /// `?token=TOKEN`. The engine and the server keep queries out of their logs; a proxy may not.
    Query,
    /// `Sec-WebSocket-Protocol: auth.TOKEN`, beside a subprotocol of `http.subprotocols`.
    Subprotocol,
    /// A cookie. A browser sends it whatever page asks, so that only an allow-list of origins makes it safe.
    Cookie,
    /// The first message, `{"type":"auth","token":TOKEN}`.
    Message,
}

impl TokenSource {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Bearer, Self::Query, Self::Subprotocol, Self::Cookie, Self::Message];
}

/// The token that a request brings: of the first source that has one.
pub(crate) fn find<'r>(request: &Request<'r>, sources: &[TokenSource], cookie: &str) -> Option<Cow<'r, str>> {
    TokenSource::ALL.into_iter().filter(|source| sources.contains(source)).find_map(|source| {
        let token = match source {
            TokenSource::Bearer => request.header_values("Authorization").find_map(bearer).map(Cow::Borrowed),
            TokenSource::Query => query_value(request, "token"),
            TokenSource::Subprotocol => offered_subprotocols(request)
                .find_map(|offer| offer.strip_prefix(SUBPROTOCOL_PREFIX))
                .map(Cow::Borrowed),
            TokenSource::Cookie => cookie_value(request, cookie).map(Cow::Borrowed),
            TokenSource::Message => None,
        };
        token.filter(|token| !token.is_empty())
    })
}

/// The subprotocols that a client speaks, in its order of preference, and among them what is none but a token.
pub(crate) fn offered_subprotocols<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r str> {
    let headers = request.header_values("Sec-WebSocket-Protocol");
    headers.flat_map(|header| header.split(',')).map(str::trim_ascii).filter(|offer| !offer.is_empty())
}

/// The scheme is written in any case (RFC 9110, section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
}

/// Whether a request repeats the value of a cookie in its query, as a page alone can that may read the cookie.
pub(super) fn repeats_cookie(request: &Request<'_>, cookie: &str) -> bool {
    let Some((kept, shown)) = cookie_value(request, cookie).zip(query_value(request, "csrf")) else { return false };
    !kept.is_empty() && kept.as_bytes().ct_eq(shown.as_bytes()).into()
}

fn query_value<'r>(request: &Request<'r>, name: &str) -> Option<Cow<'r, str>> {
    let mut pairs = request.query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    percent_decode_str(value).decode_utf8().ok()
}

fn cookie_value<'r>(request: &Request<'r>, name: &str) -> Option<&'r str> {
    request.header_values("Cookie").find_map(|header| cookie_in(header, name))
}

/// RFC 6265, section 4.2.1: pairs separated by semicolons.
fn cookie_in<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    let pairs = header.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| key.trim_ascii() == name)?;
    let value = value.trim_ascii();
    Some(value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use crore_engine::protocol::http::{HeadLimits, parse_request};

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, headers_max: 32 };

    fn found(sources: &[TokenSource], target: &str, headers: &str) -> Option<String> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let (request, _) = parse_request(head.as_bytes(), &LIMITS).unwrap().unwrap();
        find(&request, sources, "session").map(Cow::into_owned)
    }

    // capability: 53 54 56 57
    #[test]
    fn each_source_is_read() {
        let all = |target: &str, headers: &str| found(&TokenSource::ALL, target, headers);
        assert_eq!(all("/", "Authorization: bEARER  t.o.k \r\n").as_deref(), Some("t.o.k"));
        assert_eq!(all("/?a=b&token=t.o%2Ek&token=x", "").as_deref(), Some("t.o.k"));
        assert_eq!(all("/", "Sec-WebSocket-Protocol: chat, auth.t.o.k\r\n").as_deref(), Some("t.o.k"));
        assert_eq!(
            all("/", "Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol: auth.t\r\n").as_deref(),
            Some("t")
        );
        assert_eq!(all("/", "Cookie: session2=a; session=\"t.o.k\"; c=d\r\n").as_deref(), Some("t.o.k"));
        assert_eq!(all("/", "Cookie: a=b\r\nCookie: session=t\r\n").as_deref(), Some("t"));
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let all = |target: &str, headers: &str| found(&TokenSource::ALL, target, headers);
        assert_eq!(all("/?token=", ""), None);
        assert_eq!(all("/?mytoken=a&token", ""), None);
        assert_eq!(all("/?token=%ff", ""), None);
        assert_eq!(all("/", "Authorization: Basic abc\r\n"), None);
        assert_eq!(all("/", "Authorization: Bearer\r\n"), None);
        assert_eq!(all("/", "Sec-WebSocket-Protocol: auth, auth., author.x\r\n"), None);
        assert_eq!(all("/", "Cookie: session; sessions=1\r\n"), None);
    }

    #[test]
    fn the_order_is_fixed_and_each_can_be_left_out() {
        let headers = "Cookie: session=c\r\nSec-WebSocket-Protocol: auth.p\r\nAuthorization: Bearer b\r\n";
        let with = |sources: &[TokenSource]| found(sources, "/?token=q", headers);
        assert_eq!(with(&TokenSource::ALL).as_deref(), Some("b"));
        use TokenSource::{Cookie, Message, Query, Subprotocol};
        assert_eq!(with(&[Cookie, Subprotocol, Query]).as_deref(), Some("q"));
        assert_eq!(with(&[Cookie, Subprotocol]).as_deref(), Some("p"));
        assert_eq!(with(&[Cookie]).as_deref(), Some("c"));
        assert_eq!(with(&[Message]), None);
    }
}
