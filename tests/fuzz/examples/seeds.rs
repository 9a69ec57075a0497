//! Writes inputs to start from, for every branch that is known: `seeds DIRECTORY` makes a directory for each
//! target in it. What the fuzzer has found since lies beside them in the corpus.

use std::fs;
use std::path::Path;

use crore_engine::protocol::deflate::Compression;
use crore_engine::protocol::handshake::{append_accept, append_client_request};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).expect("usage: seeds DIRECTORY");
    let directory = Path::new(&directory);
    for (target, seeds) in [
        ("handshake", handshake()),
        ("frames", streams(&[0])),
        ("assembler", streams(&[0, 5, 7, 9, 14, 15])),
        ("deflate", deflate()),
        ("json", json()),
        ("proxy", proxy()),
    ] {
        let directory = directory.join(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}

/// Headers of proxies: of every family, with and without fields, and some that are none.
fn proxy() -> Vec<Vec<u8>> {
    let header = |command: u8, family: u8, block: &[u8]| {
        let length = u16::try_from(block.len()).expect("short").to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, block, b"GET / HTTP/1.1\r\n"].concat()
    };
    let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let v6 = [[0x20; 32].as_slice(), &[0x12, 0x34, 0, 80]].concat();
    let fields = [&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
    let mut seeds: Vec<_> = [0x11, 0x12, 0x21, 0x31, 0x00].iter().map(|family| header(0x21, *family, &v4)).collect();
    seeds.extend([header(0x21, 0x21, &v6), header(0x21, 0x11, &fields), header(0x20, 0x00, &[])]);
    seeds.extend([
        header(0x22, 0x11, &v4),
        header(0x11, 0x11, &v4),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n".to_vec(),
    ]);
    seeds
}

/// Requests, proper and not, and answers to them.
fn handshake() -> Vec<Vec<u8>> {
    let base = "Host: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    let proper = format!("{base}Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n");
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let mut seeds = vec![get("/chat", &proper), get("/", "Host: a\r\n"), get("*", "Host: a\r\n")];
    for target in ["/a?b=c&d", "/a?", "/?#x", "/a#b", "ws://h/x?y", "HTTPS://h", "http:///", "wss://h?q", "ftp://h/"] {
        seeds.push(get(target, &proper));
    }
    for added in [
        "Sec-WebSocket-Protocol: superchat, chat\r\nsec-websocket-protocol: v2\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\", x\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
        "Sec-WebSocket-Extensions: a;\r\n",
        "Sec-WebSocket-Extensions: ,, b ;c=\"1\\2\"\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Host: other\r\n",
        "Sec-WebSocket-Key: again\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Origin: http://a.example\r\nCookie: a=b; c\r\nX-Empty:\r\nX-Text: gr\u{fc}n\r\n",
        "X: 1\r\nX: 2\r\nX: 3\r\nX: 4\r\n",
        " folded: line\r\n",
        "Bad Name: x\r\n",
        "A: b\rc\r\n",
    ] {
        seeds.push(get("/ws", &format!("{proper}{added}")));
    }
    for (from, to) in [
        ("GET", "POST"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "HTTP/2.0"),
        ("GET ", "\r\n\nGET   "),
        ("GET ", "ALongWordThatIsNoMethodAtAll"),
        ("\r\n", "\n"),
        ("Host: a.example\r\n", ""),
        ("Upgrade: websocket\r\n", "Upgrade: h2c, WebSocket\r\n"),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\nconnection: UPGRADE\r\n"),
        ("Connection: Upgrade\r\n", "Connection: close\r\n"),
        ("Version: 13", "Version: 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("ZQ==", "ZR=="),
        ("ZQ==", "ZTE="),
        ("ZQ==", "!!=="),
    ] {
        let head = String::from_utf8(get("/chat", &proper)).expect("text");
        seeds.push(head.replace(from, to).into_bytes());
    }
    seeds.push(b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: \xff\r\n\r\n".to_vec());
    seeds.push(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(70)).into_bytes());
    seeds.push(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(300)).into_bytes());
    seeds.push([&get("/chat", &proper)[..], b"\x81\x80\0\0\0\0more"].concat());
    let mut request = Vec::new();
    append_client_request(&mut request, "a:1", "/ws?a", KEY, Some("chat"), Some(&Compression::default()));
    seeds.push(request);
    for subprotocol in [None, Some("chat")] {
        let mut answer = Vec::new();
        append_accept(&mut answer, KEY, subprotocol, None);
        let answer = String::from_utf8(answer).expect("text");
        for (from, to) in [("", ""), ("101", "200"), ("websocket", "h2c"), ("s3pP", "S3pP"), ("n: Upgrade", "n: x")] {
            seeds.push(answer.replace(from, to).into_bytes());
        }
        for chosen in [
            "permessage-deflate",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=8",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate, permessage-deflate",
        ] {
            let extended = format!("\r\nSec-WebSocket-Extensions: {chosen}\r\n\r\n");
            seeds.push(answer.replacen("\r\n\r\n", &extended, 1).into_bytes());
        }
    }
    seeds
}

/// Streams, spelled out and built, for both roles, at all limits, in several splits.
fn streams(choices: &[u8]) -> Vec<Vec<u8>> {
    let euro = "€".as_bytes();
    // Records as `build` reads them: the first byte, the length's, a flaw or the byte that is repeated, the payload.
    let built: [&[&[u8]]; 34] = [
        // "Hello" compressed, and again by reference to itself; in fragments; stored; a final block in the middle.
        &[b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xc1\x05\xf2\x00\x11\x00\x00"],
        &[b"\x41\x03\xf2\x48\xcd", b"\x89\x01?", b"\x00\x00", b"\x80\x04\xc9\xc9\x07\x00"],
        &[b"\xc2\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"\xc2\x00", b"\xc1\x01\x00"],
        &[b"\xc2\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"\xc2\x0d\xf2\x48\x05\0\0\0\xff\xff\xca\xc9\xc9\x07\0"],
        &[b"\xc1\x02\x06\x00"],
        &[b"\x81\x05Hello"],
        &[b"\x82\x00", b"\x81\x01a", b"\x89\x02hi", b"\x8a\x00"],
        &[b"\x01\x03Hel", b"\x89\x01?", b"\x80\x02lo"],
        &[b"\x02\x01a", b"\x00\x00", b"\x00\x01b", b"\x8a\x01!", b"\x80\x01c", b"\x81\x02ok"],
        &[&[0x01, 1, euro[0]], &[0x00, 1, euro[1]], &[0x80, 1, euro[2]]],
        &[b"\x81\x04a\xe0\x80b"],
        &[b"\x81\x02\xc3"],
        &[b"\x01\x02\xe2\x82", b"\x80\x00"],
        &[b"\x88\x00"],
        &[b"\x88\x02\x03\xe8", b"\x81\x01x"],
        &[b"\x88\x05\x03\xf6bye"],
        &[b"\x88\x01\x03"],
        &[b"\x88\x02\x03\xed"],
        &[b"\x88\x04\x03\xe8\xff\xff"],
        &[b"\x83\x00"],
        &[b"\xc1\x01a"],
        &[b"\xa2\x01a"],
        &[b"\x09\x01a"],
        &[b"\x89\x66z"],
        &[b"\x80\x01a"],
        &[b"\x01\x01a", b"\x81\x01b"],
        &[b"\x81\x81\x00a"],
        &[b"\x82\x82\x01ab"],
        &[b"\x82\x82\x02ab"],
        &[b"\x82\x82\x03ab"],
        &[b"\x82\x65y", b"\x82\x67y", b"\x81\x6by", b"\x82\x6cy"],
        &[b"\x82\x6dz", b"\x82\x6ez"],
        &[b"\x02\x68x", b"\x00\x6ax", b"\x80\x6bx", b"\x82\x6fx"],
        &[b"\x01\x6dt", b"\x80\x64t", b"\x8a\x65p", b"\x82\x63"],
    ];
    let plain: [&[u8]; 6] = [
        b"\x81\x05Hello\x01\x03Hel\x80\x02lo\x88\x02\x03\xe8",
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x80\0\0\0\0\x8a\x81\x01\0\0\0a",
        b"\x82\xfe\0\x7e\0\0\0\0",
        b"\x82\x7e\x01\0",
        b"\x82\xff\0\0\0\0\0\x01\0\0\0\0\0\0abc",
        b"\x82\x7f\x80\0\0\0\0\0\0\0",
    ];
    let mut seeds = Vec::new();
    // Around every border of UTF-8, whole, in fragments, and byte by byte.
    for text in [
        b"\xc1\xbf".as_slice(),
        b"\xc2\x80",
        b"\xe0\x9f\xbf",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
    ] {
        let length = [u8::try_from(text.len()).expect("short")];
        for split in [0, 1] {
            seeds.push([&[8, 0, split, 0x81], &length[..], text].concat());
            seeds.push([&[8, 0, split, 0x01, 0x01], &text[..1], &[0x80, length[0] - 1], &text[1..]].concat());
        }
    }
    let mut number = 0_u8;
    for choice in choices {
        for (stream, is_built) in
            built.iter().map(|records| (records.concat(), 8)).chain(plain.iter().map(|stream| (stream.to_vec(), 0)))
        {
            for role in [0, 1] {
                number = number.wrapping_add(1);
                // The limit and the split follow from the number: every combination comes up.
                let head = role | (number % 3) << 1 | is_built | choice << 4;
                let seed = [[0, 0], [0, 1], [0, 18], [0, 20], [1, 7]][usize::from(number % 5)];
                seeds.push([&[head], &seed[..], &stream].concat());
            }
        }
    }
    seeds
}

/// Settings, and messages as [`crore_fuzz::deflate`] reads them.
fn deflate() -> Vec<Vec<u8>> {
    let compressed: [&[&[u8]]; 9] = [
        &[b"\x07\xf2\x48\xcd\xc9\xc9\x07\x00", b"\x05\xf2\x00\x11\x00\x00", b"\x05\xf2\x00\x11\x00\x00"],
        &[b"\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"\x00", b"\x01\x00"],
        &[b"\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"\x07\xf3\x48\xcd\xc9\xc9\x07\x00"],
        &[b"\x0d\xf2\x48\x05\0\0\0\xff\xff\xca\xc9\xc9\x07\0"],
        &[b"\x02\x06\x00"],
        &[b"\x03\xf2\x48\xcd"],
        // Five thousand times the same letter, with Huffman codes of its own.
        &[b"\x13\xec\xc1\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\x6d\x0e\x37\xa0\0\0\0\0"],
        &[b"\x04\x4a\x1c\x05\xa3", b"\x10\x4a\x1c\x05\xa3\x60\x14\x8c\x82\x51\x30\x0a\x86\x3b\0\0"],
        &[b"\x0d\x05\xc0\x81\x08\0\0\0\0\x20\x7f\xeb\x03"],
    ];
    let plain: [&[u8]; 6] = [
        b"\x14Hello, hello, hello!\x14Hello, hello, hello!",
        b"\x00\x01a\x03abc",
        b"\xfeab\xffaab\xfdab",
        b"\xf9 to be or not to be",
        b"\xf0\0\xf1\x01\xf2\x02\xf3\x03",
        b"\x08\x8a\x13\xfe\x77\x01\xc0\xde\x99\xfa\0",
    ];
    let mut seeds = Vec::new();
    for head in 0..=u8::MAX {
        let number = usize::from(head);
        let split = [[0, 0], [0, 1], [0, 18], [0, 20]][number % 4];
        let body = if head & 1 == 0 { compressed[number / 2 % 9].concat() } else { plain[number / 2 % 6].to_vec() };
        seeds.push([&[head, head % 11], &split[..], &body].concat());
    }
    seeds
}

/// Messages, proper and not.
fn json() -> Vec<Vec<u8>> {
    let long = "x".repeat(200);
    let nested = |levels: usize| format!(r#"{{"type":"ping","data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let mut seeds: Vec<String> = [
        r#"{"type":"ping"}"#,
        r#"{"type":"publish","id":17,"channel":"a","echo":false,"data":{"x": [1, "é", null, true]},"other":0}"#,
        r#" {"type":"private","to":"b\u0062","room":"r","method":"time","id":"a\"b","echo":true} "#,
        r#"{"type":"request","id":-1.50e+3,"method":"","data":[[],{},"",0,-0,1e999]}"#,
        r#"{"type":"join","channel":"\u0041\u00e9\ud83d\ude00","data":"\ud800\n\/"}"#,
        r#"{"type":"leave","channel":null,"room":"a\nb"}"#,
        r#"{"type":"leave","channel":"0123456789abcdefg"}"#,
        r#"{"type":"message","channel":5,"to":1,"method":[],"echo":"no"}"#,
        r#"{"type":"message","channel":"","id":null,"data":null}"#,
        r#"{"type":"auth","id":1,"token":"a.b.c"}"#,
        r#"{"type":"auth","token":"","data":"\u0061"}"#,
        r#"{"type":"a","token":1,"token":"\ud800"}"#,
        r#"{"type":"refresh","token":["a"],"id":"b"}"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":7}"#,
        r#"{"type":null,"id":true}"#,
        r#"{"id":{},"type":"a"}"#,
        r#"{"typ\u0065":"connect","\u0069d":1}"#,
        r#"{"type":"\u0070ing"}"#,
        r#"{"data":01}"#,
        r#"{"data":"\x"}"#,
        r#"{"type":"a","type":"b",}"#,
        "{\"type\":\"a\tb\"}",
        "{}",
        "[]",
        "[\"ping\",1]",
        "\"ping\"",
        "null",
        "1.5",
        "",
        "{",
        "{'a':1}",
        "Hello Server!",
        "\u{feff}{}",
    ]
    .map(str::to_owned)
    .to_vec();
    seeds.extend([nested(7), nested(8), nested(130), "[".repeat(200), r#"{"a":"#.repeat(20)]);
    seeds.push(format!(r#"{{"type":"{long}"}}"#));
    seeds.push(format!(r#"{{"type":"ping","id":"{long}"}}"#));
    seeds.push(format!(r#"{{"type":"ping","data":[{}"\"[[[[[[[[["]}}"#, "{},".repeat(20)));
    seeds.into_iter().map(String::into_bytes).collect()
}
