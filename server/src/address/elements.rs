//! The elements of `Forwarded` (RFC 7239, section 4), from the right to the left.
//!
//! ```text
//! element = [ pair ] *( ";" [ pair ] )        pair = token "=" ( token / quoted-string )
//! ```
//!
//! A proxy adds its element at the right of what it was sent, whatever that is. So what stands at the left may be made
//! up, and must not change how the rest is read: a quote that is opened there and never closed would take in what the
//! proxy has added. Read from the right an element is the same whatever stands left of its comma: the quote at the end
//! of a value closes, and opens at the next one that no backslash escapes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The elements of one line of the header, the last first: for each the address of its `for`, if it has one. The first
/// that is not well-formed is the last that there is, and has none.
pub(super) fn elements(line: &str) -> impl Iterator<Item = Option<IpAddr>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest.take()?;
        let (before, address) = last_element(line).unwrap_or_default();
        rest = before;
        Some(address)
    })
}

/// The address of the last element's `for`, and what stands left of that element's comma, if it has one; `None` where
/// it is not well-formed. Space around a semicolon, which the grammar lacks and proxies write, is let pass.
fn last_element(line: &str) -> Option<(Option<&str>, Option<IpAddr>)> {
    let mut left = line.trim_end_matches(is_space);
    let mut node: Option<Cow<'_, str>> = None;
    loop {
        if !left.is_empty() && !left.ends_with([',', ';']) {
            let (before, name, value) = last_pair(left)?;
            // Each parameter is there once at most.
            if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                return None;
            }
            left = before.trim_end_matches(is_space);
        }
        let address = || node.as_deref().and_then(node_address);
        match left.strip_suffix(';') {
            Some(before) => left = before.trim_end_matches(is_space),
            None if left.is_empty() => return Some((None, address())),
            None => return Some((Some(left.strip_suffix(',')?), address())),
        }
    }
}

/// What stands left of the last pair, its name and its value.
fn last_pair(text: &str) -> Option<(&str, &str, Cow<'_, str>)> {
    let (before, value) = match text.strip_suffix('"') {
        Some(open) => last_quoted(open)?,
        None => last_token(text).map(|(before, token)| (before, token.into()))?,
    };
    let (before, name) = last_token(before.strip_suffix('=')?)?;
    Some((before, name, value))
}

/// What stands left of a quoted string without its closing quote, and what it says (RFC 9110, section 5.6.4).
fn last_quoted(open: &str) -> Option<(&str, Cow<'_, str>)> {
    let is_escaped = |end: usize| (end - open[..end].trim_end_matches('\\').len()) % 2 == 1;
    if is_escaped(open.len()) {
        return None;
    }
    let (quote, _) = open.rmatch_indices('"').find(|(quote, _)| !is_escaped(*quote))?;
    let content = &open[quote + 1..];
    let mut escaped = false;
    let unescaped = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    let value = if content.contains('\\') { content.chars().filter(unescaped).collect() } else { content.into() };
    Some((&open[..quote], value))
}

fn last_token(text: &str) -> Option<(&str, &str)> {
    let (before, token) = text.split_at(text.trim_end_matches(is_token_char).len());
    (!token.is_empty()).then_some((before, token))
}

/// The address of a node (RFC 7239, section 6), with or without a port. One that is hidden has none.
fn node_address(node: &str) -> Option<IpAddr> {
    let (address, port) = match node.strip_prefix('[') {
        Some(node) => {
            let (address, port) = node.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => {
            let (address, port) = node.split_at(node.find(':').unwrap_or(node.len()));
            (address.parse::<Ipv4Addr>().ok()?.into(), port)
        }
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address)
}

/// A number, or a name in its place.
fn is_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// RFC 9110, section 5.6.2.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<String> {
        elements(line).map(|address| address.map_or_else(|| "-".to_owned(), |address| address.to_string())).collect()
    }

    // capability: 10
    #[test]
    fn elements_come_from_the_right() {
        for (line, expected) in [
            ("for=192.0.2.1", &["192.0.2.1"][..]),
            ("for=192.0.2.1, for=192.0.2.2,for=192.0.2.3", &["192.0.2.3", "192.0.2.2", "192.0.2.1"]),
            ("For=\"[2001:db8::1]:4711\";proto=https;by=192.0.2.9", &["2001:db8::1"]),
            ("for=\"192.0.2.1:_gate.7\" ; proto=http\t, \tfor=\"192.0.2.2:80\"", &["192.0.2.2", "192.0.2.1"]),
            ("for=\"192.0\\.2.1\"", &["192.0.2.1"]),
            ("by=\"a,b;for=192.0.2.7\\\"\\\\\";for=192.0.2.1, host=\"\"", &["-", "192.0.2.1"]),
            (";for=192.0.2.1;;proto=http;", &["192.0.2.1"]),
            ("for=192.0.2.1, , for=192.0.2.2", &["192.0.2.2", "-", "192.0.2.1"]),
            ("for=unknown, for=_hidden, for=\"_hidden:80\"", &["-", "-", "-"]),
            ("", &["-"]),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    // capability: 10
    #[test]
    fn what_is_not_well_formed_ends_them_and_takes_nothing_in() {
        for wrong in [
            "for=1.2.3.4;x=\"",
            "for=\"1.2.3.4",
            "for=1.2.3.4;x=\"\\",
            "for=1.2.3.4;x=\"a\\\"",
            "for=1.2.3.4\"",
            "\"for=1.2.3.4\"",
            "for=1.2.3.4;x=\"a\"b\"",
            "for=1.2.3.4 5",
            "for=1.2.3.4;x",
            "for=1.2.3.4;=x",
            "for=1.2.3.4;x=",
            "for=1.2.3.4;for=1.2.3.4",
            "for = 1.2.3.4",
            "for=1.2.3.4:80",
            "for=[2001:db8::1]",
            "1.2.3.4",
            "ä",
        ] {
            assert_eq!(read(wrong), ["-"], "{wrong}");
            for added in ["for=192.0.2.9", "for=\"192.0.2.9\";host=\"a,\\\"b\"", "host=\"x=\\\\\";for=192.0.2.9;by=_a"]
            {
                let line = format!("for=192.0.2.1, {wrong}, {added}");
                assert_eq!(read(&line), ["192.0.2.9", "-"], "{line}");
            }
        }
    }

    #[test]
    fn an_address_is_written_as_the_grammar_has_it() {
        for wrong in [
            "2001:db8::1",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "192.0.2.1:",
            "192.0.2.1:123456",
            "192.0.2.1:_",
        ] {
            assert_eq!(read(&format!("for=\"{wrong}\", for=192.0.2.2")), ["192.0.2.2", "-"], "{wrong}");
        }
    }
}
