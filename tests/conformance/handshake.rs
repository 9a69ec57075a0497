//! The request of the opening handshake (RFC 6455, section 4.2.1) in every shape that is right, or wrong in one
//! point (RFC 9112 for the lines that it is made of). Each goes out whole, and byte by byte.

mod fields;
mod request_lines;
mod smuggling;

use crore_tests::client::{ACCEPT, KEY, REQUEST, Response};
use crore_tests::{Client, on_each_kind};

use crate::{count, still_speaks};

/// The header fields that an upgrade needs.
const REQUIRED: [(&str, &str); 5] = [
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
];

/// What answers a request.
#[derive(Clone, Copy)]
enum Answer {
    Opens,
    /// The status, and a word of the reason.
    Refuses(u16, &'static str),
}
use Answer::{Opens, Refuses};

/// What no header can be: the reason begins like that, whatever the fault is.
const NOT_HTTP: Answer = Refuses(400, "this is not HTTP/1.1");

struct Case {
    name: String,
    request: Vec<u8>,
    answer: Answer,
}

impl Case {
    fn new(name: impl Into<String>, request: impl Into<Vec<u8>>, answer: Answer) -> Self {
        Self { name: name.into(), request: request.into(), answer }
    }
}

/// The usual request with the line of one field replaced by others, each with its own end; the first line is
/// the field `GET`.
fn with(field: &str, lines: impl AsRef<[u8]>) -> Vec<u8> {
    let mut request = Vec::new();
    for line in REQUEST.split_inclusive("\r\n") {
        if line.starts_with(field) {
            request.extend_from_slice(lines.as_ref());
        } else {
            request.extend_from_slice(line.as_bytes());
        }
    }
    request
}

/// The usual request with more fields, before all others or behind them.
fn with_also(lines: impl AsRef<[u8]>) -> [Vec<u8>; 2] {
    let lines = lines.as_ref();
    let last = b"Sec-WebSocket-Version: 13\r\n";
    [with("Host", [b"Host: localhost\r\n", lines].concat()), with("Sec-WebSocket-Version", [last, lines].concat())]
}

fn judge(case: &Case, client: &mut Client, response: &Response) {
    let Case { name, answer, .. } = case;
    match *answer {
        Opens => {
            assert_eq!(response.status, 101, "{name}: {response:?}");
            assert_eq!(response.header("Sec-WebSocket-Accept"), Some(ACCEPT), "{name}");
            assert_eq!(response.header("Upgrade"), Some("websocket"), "{name}");
            assert_eq!(response.header("Connection"), Some("Upgrade"), "{name}");
            assert_eq!(response.header("Sec-WebSocket-Protocol"), None, "{name}: none was asked for");
            still_speaks(client, name);
        }
        Refuses(status, reason) => {
            assert_eq!(response.status, status, "{name}: {response:?}");
            assert!(response.body.contains(reason), "{name}: {response:?}");
            let connection = response.header("Connection").unwrap_or_default();
            assert!(connection.contains("close"), "{name}: {response:?}");
            if status == 426 {
                assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"), "{name}: RFC 6455, section 4.4");
                assert_eq!(response.header("Upgrade"), Some("websocket"), "{name}: RFC 9110, section 15.5.22");
            }
            client.ended();
        }
    }
}

fn check(table: &str, cases: &[Case]) {
    count(table, cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for case in cases {
            for slowly in [false, true] {
                let mut client = server.tcp();
                if slowly {
                    client.send_byte_by_byte(&server, &case.request);
                } else {
                    client.send(&case.request);
                }
                let response = client.response();
                judge(case, &mut client, &response);
            }
        }
        let opened = cases.iter().filter(|case| matches!(case.answer, Opens)).count();
        assert_eq!(server.stats().upgrades, 2 * opened as u64);
    });
}
