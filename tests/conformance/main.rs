//! Conformance beyond what Autobahn|Testsuite reaches: tables of cases on real sockets, each with a name that
//! a failure shows (RFC 6455; RFC 9110 and 9112 for the HTTP before it; RFC 7692 for compression).

mod close_codes;
mod compressed;
mod control;
mod extensions;
mod fail_fast;
mod handshake;
mod text;

use crore_tests::{Client, Server};

/// Says how many cases a table has.
fn count(table: &str, cases: usize) {
    println!("{table}: {cases} cases");
}

/// Sends exactly these bytes on a fresh connection: they must be answered with a close frame of this code, and
/// an orderly end, though nothing follows them.
#[track_caller]
fn fails_at_the_end_of(server: &Server, bytes: &[u8], code: u16, name: &str) {
    let mut client = server.client();
    client.send(bytes);
    let (answer, reason) = client.frame().close();
    assert_eq!(answer, Some(code), "{name}: {reason}");
    client.ended();
}

/// Like [`fails_at_the_end_of`]; the bytes behind the first `at_once` come one by one, and none but the last is
/// answered.
#[track_caller]
fn fails_at_the_last_of(server: &Server, bytes: &[u8], at_once: usize, code: u16, name: &str) {
    let mut client = server.client();
    let failed = server.stats().closed_protocol;
    let (last, before) = bytes.split_last().expect("a byte that breaks a rule");
    let received = server.stats().bytes_received + at_once as u64;
    client.send(&before[..at_once]);
    server.wait_for("the first bytes", |stats| stats.bytes_received >= received);
    client.send_byte_by_byte(server, &before[at_once..]);
    assert_eq!(server.stats().closed_protocol, failed, "{name}: too early");
    client.send([*last]);
    let (answer, reason) = client.frame().close();
    assert_eq!(answer, Some(code), "{name}: {reason}");
    client.ended();
}

/// A client that goes on speaking after a check, to see that the server still listens.
#[track_caller]
fn still_speaks(client: &mut Client, name: &str) {
    assert_eq!(client.ask("still here"), "still here", "{name}");
}
