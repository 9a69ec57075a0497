//! Header fields: those that an upgrade needs (RFC 6455, section 4.2.1), all others, and how they are written
//! (RFC 9112, section 5).

use crore_tests::client::ACCEPT;
use crore_tests::on_each_kind;

use super::{Answer, Case, NOT_HTTP, Opens, REQUIRED, Refuses, check, with, with_also};

#[test]
fn each_required_field_missing_doubled_folded_and_in_odd_case() {
    let mut cases = Vec::new();
    for (name, value) in REQUIRED {
        let line = format!("{name}: {value}\r\n");
        let mut add = |what: &str, lines: String, answer| {
            cases.push(Case::new(format!("{name} {what}"), with(name, lines), answer));
        };
        let missing = match name {
            "Upgrade" => Refuses(426, "Upgrade: websocket"),
            _ => Refuses(400, name),
        };
        add("missing", String::new(), missing);
        // A list may come in several lines (RFC 9110, section 5.3), a single value may not.
        let doubled = if matches!(name, "Upgrade" | "Connection") { Opens } else { Refuses(400, name) };
        add("twice", line.repeat(2), doubled);
        add("twice, once in capitals", format!("{line}{}: {value}\r\n", name.to_uppercase()), doubled);
        let with_empty = if matches!(name, "Upgrade" | "Connection") { Opens } else { Refuses(400, name) };
        add("and once more, empty", format!("{line}{name}:\r\n"), with_empty);

        // Folding is obsolete, and must be refused in a request (RFC 9112, section 5.2).
        add("folded before its value", format!("{name}:\r\n {value}\r\n"), NOT_HTTP);
        add("folded with a tab", format!("{name}:\r\n\t{value}\r\n"), NOT_HTTP);
        add("folded behind its value", format!("{line} more\r\n"), NOT_HTTP);
        add("with an empty folded line", format!("{line} \r\n"), NOT_HTTP);

        add("in lower case", format!("{}: {value}\r\n", name.to_lowercase()), Opens);
        add("in upper case", format!("{}: {value}\r\n", name.to_uppercase()), Opens);
        let odd: String = name
            .chars()
            .enumerate()
            .map(|(index, c)| if index % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
            .collect();
        add("in odd case", format!("{odd}: {value}\r\n"), Opens);

        // White space around the value is no part of it, and none is needed (RFC 9112, section 5).
        for (what, before, behind) in [
            ("without a space", "", ""),
            ("with many spaces", "     ", "     "),
            ("with tabs", "\t", "\t"),
            ("with spaces and tabs", " \t ", "\t \t"),
            ("with a space behind", " ", " "),
        ] {
            add(what, format!("{name}:{before}{value}{behind}\r\n"), Opens);
        }
        // None may stand before the colon or the name (section 5.1).
        for (what, broken) in [
            ("with a space before the colon", format!("{name} : {value}")),
            ("with a tab before the colon", format!("{name}\t: {value}")),
            ("with a space before the name", format!(" {name}: {value}")),
            ("without a colon", format!("{name} {value}")),
            ("with an equals sign", format!("{name}= {value}")),
            ("with a space within the name", format!("{} {}: {value}", &name[..2], &name[2..])),
            ("with a zero byte in the name", format!("{name}\0: {value}")),
            ("with a zero byte in the value", format!("{name}: {value}\0")),
            ("with a control character in the value", format!("{name}: \x01{value}")),
            ("with a DEL in the value", format!("{name}: {value}\x7f")),
            ("with a bare CR in the value", format!("{name}: \r{value}")),
            ("with a bare CR behind the value", format!("{name}: {value}\r ")),
            ("with a vertical tab before the value", format!("{name}:\x0b{value}")),
            ("with a form feed behind the value", format!("{name}: {value}\x0c")),
            ("with a character beyond ASCII in the name", format!("{name}ü: {value}")),
            ("with a colon before the name", format!(":{name}: {value}")),
        ] {
            add(what, format!("{broken}\r\n"), NOT_HTTP);
        }
        // RFC 9112, section 2.2, lets a server take a bare LF for an end of line; this one does not.
        add("with a bare LF as its end", format!("{name}: {value}\n"), NOT_HTTP);
        add("with a bare CR as its end", format!("{name}: {value}\r"), NOT_HTTP);
        add("with two CRs at its end", format!("{name}: {value}\r\r\n"), NOT_HTTP);
        // A value that is no text might be overlooked by whoever looks for text.
        let mut request = with(name, format!("{name}: {value}\u{1}\r\n"));
        let place = request.iter().position(|&byte| byte == 1).expect("it was put there");
        request[place] = 0xff;
        cases.push(Case::new(format!("{name} with a value that is not UTF-8"), request, Refuses(400, "UTF-8")));
    }
    check("required fields", &cases);
}

#[test]
fn values_of_the_required_fields() {
    let no_key = Refuses(400, "Sec-WebSocket-Key");
    let no_upgrade = Refuses(426, "Upgrade: websocket");
    let no_connection = Refuses(400, "Connection");
    let no_version = Refuses(426, "13");
    let table: &[(&str, &str, Answer)] = &[
        ("Upgrade", "WebSocket", Opens),
        ("Upgrade", "WEBSOCKET", Opens),
        ("Upgrade", "h2c, websocket", Opens),
        ("Upgrade", "websocket, h2c", Opens),
        ("Upgrade", ",websocket ,", Opens),
        ("Upgrade", ", ,,\twebsocket", Opens),
        ("Upgrade", "", no_upgrade),
        ("Upgrade", ",", no_upgrade),
        ("Upgrade", "h2c", no_upgrade),
        ("Upgrade", "websocket2", no_upgrade),
        ("Upgrade", "web socket", no_upgrade),
        ("Upgrade", "websocket h2c", no_upgrade),
        ("Upgrade", "websocket;h2c", no_upgrade),
        ("Upgrade", "\"websocket\"", no_upgrade),
        ("Upgrade", "websocket/13", no_upgrade),
        ("Connection", "upgrade", Opens),
        ("Connection", "UPGRADE", Opens),
        ("Connection", "keep-alive, Upgrade", Opens),
        ("Connection", "Upgrade, keep-alive", Opens),
        ("Connection", "close, Upgrade", Opens),
        ("Connection", "keep-alive,Upgrade,x", Opens),
        ("Connection", ",,Upgrade", Opens),
        ("Connection", "", no_connection),
        ("Connection", "close", no_connection),
        ("Connection", "keep-alive", no_connection),
        ("Connection", "Upgrades", no_connection),
        ("Connection", "keep-alive Upgrade", no_connection),
        ("Connection", "Upgrade=1", no_connection),
        ("Connection", "\"Upgrade\"", no_connection),
        ("Sec-WebSocket-Version", "12", no_version),
        ("Sec-WebSocket-Version", "8", no_version),
        ("Sec-WebSocket-Version", "0", no_version),
        ("Sec-WebSocket-Version", "14", no_version),
        ("Sec-WebSocket-Version", "255", no_version),
        ("Sec-WebSocket-Version", "013", no_version),
        ("Sec-WebSocket-Version", "+13", no_version),
        ("Sec-WebSocket-Version", "-13", no_version),
        ("Sec-WebSocket-Version", "13.0", no_version),
        ("Sec-WebSocket-Version", "1 3", no_version),
        ("Sec-WebSocket-Version", "13, 8", no_version),
        ("Sec-WebSocket-Version", "13, 13", no_version),
        ("Sec-WebSocket-Version", "\"13\"", no_version),
        ("Sec-WebSocket-Version", "١٣", no_version),
        ("Sec-WebSocket-Version", "", no_version),
        ("Sec-WebSocket-Key", "", no_key),
        ("Sec-WebSocket-Key", "c2hvcnQ=", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ===", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZTE=", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZTEy", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j", no_key),
        ("Sec-WebSocket-Key", "=GhlIHNhbXBsZSBub25jZQ==", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBs=SBub25jZQ==", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=A", no_key),
        ("Sec-WebSocket-Key", "dGhl IHNhbXBsZSBub25jZQ=", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhb_BsZSBub25-ZQ==", no_key),
        ("Sec-WebSocket-Key", "************************", no_key),
        ("Sec-WebSocket-Key", "\"dGhlIHNhbXBsZSBub25jZQ\"", no_key),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", no_key),
        ("Host", "a", Opens),
        ("Host", "example.com:8080", Opens),
        ("Host", "[::1]:9001", Opens),
    ];
    let case = |&(name, value, answer): &(&str, &str, Answer)| {
        Case::new(format!("{name}: {value}"), with(name, format!("{name}: {value}\r\n")), answer)
    };
    check("values of required fields", &table.iter().map(case).collect::<Vec<_>>());
}

#[test]
fn the_key_is_answered_as_it_came() {
    // SHA-1 of the key and the GUID of section 1.3, in base64, from another implementation.
    let table = [
        ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
        ("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
        ("/////////////////////w==", "XXpj4jYzLM2yUE0C7TIgMwTQh2g="),
        // Bits that mean nothing are set: common enough, and part of the key all the same.
        ("dGhlIHNhbXBsZSBub25jZR==", "Zgw8jYXtqX5qJr7MJ1Q/MqzeSRI="),
    ];
    on_each_kind(|setup| {
        let server = setup.start();
        for (key, accept) in table {
            let mut client = server.tcp();
            client.send(with("Sec-WebSocket-Key", format!("Sec-WebSocket-Key: \t{key} \t\r\n")));
            assert_eq!(client.response().header("Sec-WebSocket-Accept"), Some(accept), "{key}");
        }
    });
}

#[test]
fn other_fields_and_how_many() {
    let fields = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect() };
    let mut cases = Vec::new();
    for (name, lines, answer) in [
        ("an origin", "Origin: https://example.org\r\n".to_owned(), Opens),
        ("cookies", "Cookie: a=b; c=d\r\nCookie: e=f\r\n".to_owned(), Opens),
        ("an empty value", "X-Empty:\r\n".to_owned(), Opens),
        ("a value of white space", "X-Empty: \t \r\n".to_owned(), Opens),
        ("a value with tabs", "X-Tabs: a\tb\tc\r\n".to_owned(), Opens),
        ("a value beyond ASCII", "X-Name: Größe €\r\n".to_owned(), Opens),
        ("a value with colons", "X-Colons: ::a:b::\r\n".to_owned(), Opens),
        ("a name of all characters that may be in it", "!#$%&'*+-.^_`|~09azAZ: x\r\n".to_owned(), Opens),
        ("a long name", format!("{}: x\r\n", "n".repeat(2000)), Opens),
        ("a long value", format!("X: {}\r\n", "v".repeat(5000)), Opens),
        ("59 more", fields(59), Opens),
        ("60 more", fields(60), Refuses(431, "headers")),
        ("500 more", fields(500), Refuses(431, "")),
        ("a value of 8 KiB", format!("X: {}\r\n", "v".repeat(8192)), Refuses(431, "fewer")),
        ("a name of 8 KiB", format!("{}: x\r\n", "n".repeat(8192)), Refuses(431, "fewer")),
        ("an empty name", ": x\r\n".to_owned(), NOT_HTTP),
        ("a name in brackets", "[X]: x\r\n".to_owned(), NOT_HTTP),
        ("a name in quotes", "\"X\": x\r\n".to_owned(), NOT_HTTP),
        ("a name with a slash", "X/Y: x\r\n".to_owned(), NOT_HTTP),
        ("a name with a comma", "X,Y: x\r\n".to_owned(), NOT_HTTP),
        ("a name with an at sign", "X@Y: x\r\n".to_owned(), NOT_HTTP),
        ("a lone word", "nothing\r\n".to_owned(), NOT_HTTP),
        ("a line of spaces", "   \r\n".to_owned(), NOT_HTTP),
        ("a subprotocol that nobody chooses", "Sec-WebSocket-Protocol: chat, superchat\r\n".to_owned(), Opens),
        ("an empty list of subprotocols", "Sec-WebSocket-Protocol:\r\n".to_owned(), Opens),
        ("an accept value in a request", format!("Sec-WebSocket-Accept: {ACCEPT}\r\n"), Opens),
        ("an expectation", "Expect: 100-continue\r\n".to_owned(), Opens),
        ("what HTTP/2 has", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n".to_owned(), Opens),
    ] {
        for (place, request) in ["first", "last"].iter().zip(with_also(lines)) {
            cases.push(Case::new(format!("{name}, {place}"), request, answer));
        }
    }
    for (name, line, answer) in [
        ("a long target", format!("GET /{} HTTP/1.1\r\n", "t".repeat(6000)), Opens),
        ("a target of 8 KiB", format!("GET /{} HTTP/1.1\r\n", "t".repeat(8192)), Refuses(431, "fewer")),
        ("a method of 24 bytes", format!("{} / HTTP/1.1\r\n", "M".repeat(24)), Refuses(400, "GET")),
        ("1000 empty lines before", format!("{}GET / HTTP/1.1\r\n", "\r\n".repeat(1000)), Opens),
        ("5000 empty lines before", format!("{}GET / HTTP/1.1\r\n", "\r\n".repeat(5000)), Refuses(431, "fewer")),
    ] {
        cases.push(Case::new(name, with("GET", line), answer));
    }
    check("other fields", &cases);
}
