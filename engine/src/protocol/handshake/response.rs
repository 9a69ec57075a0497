//! Plain HTTP answers.

/// Appends a plain HTTP answer after which the connection is closed.
///
/// # Panics
/// If a header holds a line break: values that come from a peer must be checked before.
pub fn append_response(out: &mut Vec<u8>, status: u16, content_type: &str, headers: &[(&str, &str)], body: &[u8]) {
    let line = format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status));
    out.extend_from_slice(line.as_bytes());
    append_header(out, "Content-Type", content_type);
    append_header(out, "Content-Length", &body.len().to_string());
    append_header(out, "Connection", "close");
    for (name, value) in headers {
        append_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

pub(super) fn append_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let is_one_line = |text: &str| !text.contains(['\r', '\n']);
    assert!(is_one_line(name) && is_one_line(value), "a header is one line");
}

/// The phrases of RFC 9110 and RFC 6585 for what a server of this kind answers. A client ignores
/// the phrase, so that an unknown status has none.
const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}
