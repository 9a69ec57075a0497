//! Offers of permessage-deflate, and what is answered to them (RFC 7692, sections 5 and 7.1; RFC 6455, section
//! 9.1, for how they are written).

use crore_engine::Compression;
use crore_tests::client::REQUEST;
use crore_tests::{DeflateClient, Setup, limits, on_each_kind};

use crate::count;

/// Both ends may keep their contexts.
const TAKEOVER: Compression = Compression {
    level: 6,
    threshold_bytes: 1,
    server_context_takeover: true,
    client_context_takeover: true,
    server_window_bits: 15,
    client_window_bits: 15,
};

/// The same with small windows: 2^10 bytes of ours, 2^11 of the client's.
const NARROW: Compression = Compression { server_window_bits: 10, client_window_bits: 11, ..TAKEOVER };

/// What is answered to an offer.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// These parameters of permessage-deflate, in any order.
    Agrees(&'static [&'static str]),
    /// No extension; the connection opens without.
    Declines,
    /// Status 400: the header is not written as it must be.
    Refuses,
}
use Answer::{Agrees, Declines, Refuses};

/// The parameter that each mode without context takeover adds.
const NO_CONTEXT: [&str; 2] = ["server_no_context_takeover", "client_no_context_takeover"];

/// Offers, and what an engine answers that takes all contexts over; one that takes none over adds
/// [`NO_CONTEXT`].
const OFFERS: &[(&str, Answer)] = &[
    ("", Declines),
    (",", Declines),
    ("permessage-deflate", Agrees(&[])),
    // The examples of section 7.1.
    ("permessage-deflate; client_max_window_bits", Agrees(&[])),
    ("permessage-deflate; client_max_window_bits; server_max_window_bits=10", Agrees(&["server_max_window_bits=10"])),
    (
        "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate; client_max_window_bits",
        Agrees(&["server_max_window_bits=10"]),
    ),
    ("permessage-deflate; server_no_context_takeover", Agrees(&["server_no_context_takeover"])),
    ("permessage-deflate; client_no_context_takeover", Agrees(&["client_no_context_takeover"])),
    (
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        Agrees(&["server_no_context_takeover", "client_no_context_takeover"]),
    ),
    ("permessage-deflate; server_no_context_takeover, permessage-deflate", Agrees(&["server_no_context_takeover"])),
    (
        "permessage-deflate; client_max_window_bits=11; server_max_window_bits=12; server_no_context_takeover; \
         client_no_context_takeover",
        Agrees(&[
            "client_max_window_bits=11",
            "server_max_window_bits=12",
            "server_no_context_takeover",
            "client_no_context_takeover",
        ]),
    ),
    // Each size of a window, as a number or as a string.
    ("permessage-deflate; server_max_window_bits=8", Agrees(&["server_max_window_bits=8"])),
    ("permessage-deflate; server_max_window_bits=9", Agrees(&["server_max_window_bits=9"])),
    ("permessage-deflate; server_max_window_bits=11", Agrees(&["server_max_window_bits=11"])),
    ("permessage-deflate; server_max_window_bits=12", Agrees(&["server_max_window_bits=12"])),
    ("permessage-deflate; server_max_window_bits=13", Agrees(&["server_max_window_bits=13"])),
    ("permessage-deflate; server_max_window_bits=14", Agrees(&["server_max_window_bits=14"])),
    ("permessage-deflate; server_max_window_bits=15", Agrees(&["server_max_window_bits=15"])),
    ("permessage-deflate; server_max_window_bits=\"10\"", Agrees(&["server_max_window_bits=10"])),
    ("permessage-deflate; client_max_window_bits=8", Agrees(&["client_max_window_bits=8"])),
    ("permessage-deflate; client_max_window_bits=9", Agrees(&["client_max_window_bits=9"])),
    ("permessage-deflate; client_max_window_bits=10", Agrees(&["client_max_window_bits=10"])),
    ("permessage-deflate; client_max_window_bits=14", Agrees(&["client_max_window_bits=14"])),
    ("permessage-deflate; client_max_window_bits=15", Agrees(&[])),
    ("permessage-deflate; client_max_window_bits=\"9\"", Agrees(&["client_max_window_bits=9"])),
    // Values out of range, with leading zeros, or no numbers at all.
    ("permessage-deflate; server_max_window_bits", Declines),
    ("permessage-deflate; server_max_window_bits=0", Declines),
    ("permessage-deflate; server_max_window_bits=1", Declines),
    ("permessage-deflate; server_max_window_bits=7", Declines),
    ("permessage-deflate; server_max_window_bits=16", Declines),
    ("permessage-deflate; server_max_window_bits=100", Declines),
    ("permessage-deflate; server_max_window_bits=256", Declines),
    ("permessage-deflate; server_max_window_bits=265", Declines),
    ("permessage-deflate; server_max_window_bits=18446744073709551626", Declines),
    ("permessage-deflate; server_max_window_bits=08", Declines),
    ("permessage-deflate; server_max_window_bits=010", Declines),
    ("permessage-deflate; server_max_window_bits=+10", Declines),
    ("permessage-deflate; server_max_window_bits=-10", Declines),
    ("permessage-deflate; server_max_window_bits=10.0", Declines),
    ("permessage-deflate; server_max_window_bits=1e1", Declines),
    ("permessage-deflate; server_max_window_bits=xA", Declines),
    ("permessage-deflate; server_max_window_bits=ten", Declines),
    ("permessage-deflate; server_max_window_bits=true", Declines),
    ("permessage-deflate; server_max_window_bits='10'", Declines),
    ("permessage-deflate; server_max_window_bits=\"010\"", Declines),
    ("permessage-deflate; client_max_window_bits=0", Declines),
    ("permessage-deflate; client_max_window_bits=7", Declines),
    ("permessage-deflate; client_max_window_bits=16", Declines),
    ("permessage-deflate; client_max_window_bits=08", Declines),
    ("permessage-deflate; client_max_window_bits=015", Declines),
    ("permessage-deflate; client_max_window_bits=+9", Declines),
    ("permessage-deflate; client_max_window_bits=-9", Declines),
    ("permessage-deflate; client_max_window_bits=nine", Declines),
    ("permessage-deflate; client_max_window_bits=\"16\"", Declines),
    // Values where none may be.
    ("permessage-deflate; server_no_context_takeover=1", Declines),
    ("permessage-deflate; server_no_context_takeover=true", Declines),
    ("permessage-deflate; server_no_context_takeover=\"true\"", Declines),
    ("permessage-deflate; client_no_context_takeover=0", Declines),
    ("permessage-deflate; client_no_context_takeover=10", Declines),
    // What comes twice.
    ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", Declines),
    ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", Declines),
    ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", Declines),
    ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=11", Declines),
    ("permessage-deflate; client_max_window_bits; client_max_window_bits", Declines),
    ("permessage-deflate; client_max_window_bits; client_max_window_bits=10", Declines),
    ("permessage-deflate; client_max_window_bits=10; client_no_context_takeover; client_max_window_bits", Declines),
    // What nobody knows.
    ("permessage-deflate; unknown", Declines),
    ("permessage-deflate; unknown=10", Declines),
    ("permessage-deflate; max_window_bits=10", Declines),
    ("permessage-deflate; server_max_window_bit=10", Declines),
    ("permessage-deflate; no_context_takeover", Declines),
    ("permessage-deflate; client_max_window_bits; x-private", Declines),
    ("permessage-deflate2", Declines),
    ("permessage_deflate", Declines),
    ("deflate", Declines),
    ("x-webkit-deflate-frame", Declines),
    ("permessage-bzip2; client_max_window_bits", Declines),
    // Others are chosen instead: the first that can be agreed to.
    ("x-webkit-deflate-frame, permessage-deflate", Agrees(&[])),
    ("permessage-foo; x=10, permessage-deflate; server_max_window_bits=9", Agrees(&["server_max_window_bits=9"])),
    ("permessage-deflate; unknown, permessage-deflate", Agrees(&[])),
    (
        "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=12",
        Agrees(&["server_max_window_bits=12"]),
    ),
    (
        "permessage-deflate; server_max_window_bits, permessage-deflate; client_max_window_bits=10",
        Agrees(&["client_max_window_bits=10"]),
    ),
    (
        "permessage-deflate; client_max_window_bits=16, deflate, permessage-deflate; client_no_context_takeover",
        Agrees(&["client_no_context_takeover"]),
    ),
    (
        "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_max_window_bits=15",
        Agrees(&["server_max_window_bits=9"]),
    ),
    ("permessage-deflate, permessage-deflate, permessage-deflate; server_max_window_bits=9", Agrees(&[])),
    ("permessage-deflate; a, permessage-deflate; b, permessage-deflate; c", Declines),
    // White space, empty elements, letters of either case.
    (
        "permessage-deflate;server_max_window_bits=9;client_no_context_takeover",
        Agrees(&["server_max_window_bits=9", "client_no_context_takeover"]),
    ),
    ("  permessage-deflate  ;\tserver_max_window_bits  =\t9  ", Agrees(&["server_max_window_bits=9"])),
    (", ,permessage-deflate,,", Agrees(&[])),
    ("PerMessage-Deflate; Server_Max_Window_Bits=9", Agrees(&["server_max_window_bits=9"])),
    ("permessage-deflate; CLIENT_NO_CONTEXT_TAKEOVER; client_no_context_takeover", Declines),
    // What is not written as RFC 6455, section 9.1, wants it fails the handshake, wherever it stands.
    (";", Refuses),
    ("=", Refuses),
    ("permessage-deflate;", Refuses),
    ("permessage-deflate; ;client_max_window_bits", Refuses),
    ("; permessage-deflate", Refuses),
    ("permessage-deflate client_max_window_bits", Refuses),
    ("permessage-deflate; client max window bits", Refuses),
    ("permessage-deflate; =10", Refuses),
    ("permessage-deflate; server_max_window_bits=", Refuses),
    ("permessage-deflate; server_max_window_bits=10=11", Refuses),
    ("permessage-deflate; server_max_window_bits=10 11", Refuses),
    ("permessage-deflate; server_max_window_bits=\"", Refuses),
    ("permessage-deflate; server_max_window_bits=\"\"", Refuses),
    ("permessage-deflate; server_max_window_bits=\"10", Refuses),
    ("permessage-deflate; server_max_window_bits=10\"", Refuses),
    ("permessage-deflate; server_max_window_bits=\"1 0\"", Refuses),
    ("permessage-deflate; server_max_window_bits=\"10;11\"", Refuses),
    ("permessage-deflate; server_max_window_bits=\"10,11\"", Refuses),
    ("permessage-deflate; server_max_window_bits=\"\\10\"", Refuses),
    ("\"permessage-deflate\"", Refuses),
    ("permessage/deflate", Refuses),
    ("permessage-deflate(client_max_window_bits)", Refuses),
    ("permessage-déflate", Refuses),
    ("permessage-deflate; größe=10", Refuses),
    ("permessage-deflate=10", Refuses),
    ("permessage-deflate, ;", Refuses),
    ("permessage-deflate, permessage-deflate; server_max_window_bits=", Refuses),
    ("deflate; a b, permessage-deflate", Refuses),
];

/// The same of [`NARROW`].
const OFFERS_TO_NARROW: &[(&str, Answer)] = &[
    // A client that can't be told of its window must keep nothing.
    ("permessage-deflate", Agrees(&["server_max_window_bits=10", "client_no_context_takeover"])),
    ("permessage-deflate; client_max_window_bits", Agrees(&["server_max_window_bits=10", "client_max_window_bits=11"])),
    (
        "permessage-deflate; client_max_window_bits=15",
        Agrees(&["server_max_window_bits=10", "client_max_window_bits=11"]),
    ),
    (
        "permessage-deflate; client_max_window_bits=9; server_max_window_bits=8",
        Agrees(&["server_max_window_bits=8", "client_max_window_bits=9"]),
    ),
    (
        "permessage-deflate; client_max_window_bits=11; server_max_window_bits=10",
        Agrees(&["server_max_window_bits=10", "client_max_window_bits=11"]),
    ),
    (
        "permessage-deflate; client_max_window_bits=12; server_max_window_bits=11",
        Agrees(&["server_max_window_bits=10", "client_max_window_bits=11"]),
    ),
];

/// Sends an offer, judges the answer, and if there is an agreement, speaks twice within it.
fn check(setup: Setup, compression: Option<Compression>, offers: &[(&str, Answer)], always: &[&str]) {
    let server = Setup { compression, ..setup }.start_with(1, limits());
    for &(offer, answer) in offers {
        let mut client = server.tcp();
        let head = REQUEST.strip_suffix("\r\n").expect("an empty line ends it");
        client.send(format!("{head}Sec-WebSocket-Extensions: {offer}\r\n\r\n"));
        let response = client.response();
        let extensions = response.header("Sec-WebSocket-Extensions");
        match answer {
            Refuses => {
                assert_eq!(response.status, 400, "{offer}: {response:?}");
                assert!(response.body.contains("Sec-WebSocket-Extensions"), "{offer}: {response:?}");
            }
            Agrees(expected) if compression.is_some() => {
                assert_eq!(response.status, 101, "{offer}: {response:?}");
                let mut agreed: Vec<&str> = extensions.expect(offer).split("; ").collect();
                assert_eq!(agreed.remove(0), "permessage-deflate", "{offer}: {extensions:?}");
                agreed.sort_unstable();
                let mut expected: Vec<&str> = expected.iter().chain(always).copied().collect();
                expected.sort_unstable();
                expected.dedup();
                assert_eq!(agreed, expected, "{offer}");
                let mut client = DeflateClient::upgrade(server.tcp(), offer);
                for said in ["short enough for any window", "short enough for any window, again"] {
                    client.say(said);
                    assert_eq!(client.hear().0, said, "{offer}");
                }
            }
            Declines | Agrees(_) => {
                assert_eq!((response.status, extensions), (101, None), "{offer}: {response:?}");
                assert_eq!(client.ask("without"), "without", "{offer}");
            }
        }
    }
}

#[test]
fn an_engine_that_takes_contexts_over() {
    count("offers", OFFERS.len());
    on_each_kind(|setup| check(setup, Some(TAKEOVER), OFFERS, &[]));
}

#[test]
fn an_engine_that_takes_no_context_over() {
    let default = Compression { threshold_bytes: 1, ..Compression::default() };
    on_each_kind(|setup| check(setup, Some(default), OFFERS, &NO_CONTEXT));
}

#[test]
fn an_engine_with_small_windows() {
    count("offers to an engine with small windows", OFFERS_TO_NARROW.len());
    on_each_kind(|setup| check(setup, Some(NARROW), OFFERS_TO_NARROW, &[]));
}

#[test]
fn an_engine_that_does_not_compress() {
    on_each_kind(|setup| check(setup, None, OFFERS, &[]));
}

#[test]
fn offers_in_several_lines_are_one_list() {
    let line = "Sec-WebSocket-Extensions: ";
    let cases = [
        (vec!["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=9"], Some("9")),
        (vec!["permessage-deflate; server_max_window_bits=12", "permessage-deflate"], Some("12")),
        (vec!["x-foo", "", "permessage-deflate; server_max_window_bits=11"], Some("11")),
        (vec!["x-foo", "x-bar"], None),
        // A parameter in a line of its own is an extension that nobody knows.
        (vec!["permessage-deflate; unknown", "server_max_window_bits"], None),
    ];
    count("offers in several lines", cases.len());
    on_each_kind(|setup| {
        let server = Setup { compression: Some(TAKEOVER), ..setup }.start();
        for (offers, bits) in &cases {
            let lines: String = offers.iter().map(|offer| format!("{line}{offer}\r\n")).collect();
            let (_, response) = server.tcp().upgraded_with(&lines);
            let expected = bits.map(|bits| format!("permessage-deflate; server_max_window_bits={bits}"));
            assert_eq!(response.header("Sec-WebSocket-Extensions"), expected.as_deref(), "{offers:?}");
        }
    });
}
