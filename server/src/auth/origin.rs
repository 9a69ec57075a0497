//! The allow-list of origins (RFC 6455, section 10.2): which pages may connect from a browser.

use std::fmt;
use std::str::FromStr;

use crore_engine::Request;

/// Which origins a pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: every origin.
    Any,
    /// `https://example.com`, `http://localhost:3000` or `null`: this one.
    Exact(String),
    /// `https://*.example.com`: every name below it, at any depth, but not the name itself.
    Below {
        /// With `://`.
        scheme: String,
        /// With its first dot, and the port if there is one.
        suffix: String,
    },
}

impl OriginPattern {
    /// Whether a page of this origin, as a browser names it in its `Origin` header, is meant.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => origin.eq_ignore_ascii_case(exact),
            Self::Below { scheme, suffix } => {
                let origin = origin.to_ascii_lowercase();
                let name = origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(suffix.as_str()));
                name.is_some_and(is_name)
            }
        }
    }
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("expected `https://example.com`, `https://*.example.com`, `http://localhost:3000` or `*`: `{text}`")
        };
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Exact(lower)),
            _ => {}
        }
        let (scheme, rest) = lower.split_once("://").ok_or_else(expected)?;
        // A browser leaves the scheme's own port out.
        let own_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => "",
        };
        let rest = rest.strip_suffix(own_port).unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port_is_sound = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        let below = host.strip_prefix("*.");
        let is_address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_name(scheme) || !port_is_sound || !(is_name(below.unwrap_or(host)) || is_address) {
            return Err(expected());
        }
        Ok(match below {
            Some(_) => Self::Below { scheme: format!("{scheme}://"), suffix: rest[1..].to_owned() },
            None => Self::Exact(format!("{scheme}://{rest}")),
        })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Below { scheme, suffix } => write!(f, "{scheme}*{suffix}"),
        }
    }
}

/// Labels joined by dots.
fn is_name(text: &str) -> bool {
    let is_label_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
}

/// How a page is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginRejection {
    /// By 403 before the upgrade: cheapest. A page sees a connection that fails, and no reason.
    Forbidden,
    /// By a close frame after it, 1008 "Origin not allowed", which a page can read.
    PolicyViolation,
}

/// Whether a request may come from where it says it does. Without patterns every origin may.
pub(crate) fn is_allowed(request: &Request<'_>, patterns: &[OriginPattern], required: bool) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let mut origins = request.header_values("Origin").peekable();
    if origins.peek().is_none() {
        // Every browser names an origin: this is another kind of client, and could name whichever it likes.
        return !required;
    }
    origins.all(|origin| patterns.iter().any(|pattern| pattern.matches(origin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse().unwrap()
    }

    // capability: 5 63
    #[test]
    fn patterns_match_what_they_say() {
        assert!(pattern("https://example.com").matches("https://Example.com"));
        assert!(pattern("https://example.com:443").matches("https://example.com"));
        assert!(pattern("http://localhost:3000").matches("http://localhost:3000"));
        assert!(pattern("http://[::1]:80").matches("http://[::1]"));
        assert!(pattern("https://*.example.com").matches("https://a.b.example.com"));
        assert!(pattern("https://*.example.com:8443").matches("https://a.example.com:8443"));
        assert!(pattern("*").matches("null"));
        assert!(pattern("null").matches("null"));
    }

    #[test]
    fn nothing_that_looks_alike_matches() {
        for origin in ["http://example.com", "https://example.com.evil.org", "https://example.com:8443", "null", ""] {
            assert!(!pattern("https://example.com").matches(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.org",
            "https://a.example.com:8443",
            "https://evil.org/.example.com",
            "https://user@a.example.com",
            "https://evil.org:80.example.com",
            "http://a.example.com",
        ] {
            assert!(!pattern("https://*.example.com").matches(origin), "{origin}");
        }
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused() {
        for text in [
            "",
            "example.com",
            "https://",
            "https://example.com/",
            "https://*",
            "https://a.*.com",
            "https://*example.com",
            "https://exa mple.com",
            "https://example.com:0",
            "https://example.com:x",
        ] {
            let problem = text.parse::<OriginPattern>().unwrap_err();
            assert!(problem.contains("https://*.example.com"), "{text}");
        }
        for text in ["*", "null", "https://*.example.com:8443", "http://localhost:3000"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }
}
