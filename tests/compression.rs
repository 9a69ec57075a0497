//! permessage-deflate between an engine and clients of every setting, with another implementation of DEFLATE
//! at the clients' end.

use std::collections::VecDeque;

use crore_engine::{Compression, CompressionError, Engine, Error, Limits, SlowConsumer};
use crore_tests::{DeflateClient, Server, Setup, limits, on_each_kind};
use fastrand::Rng;

/// Both ends may keep their contexts, and all but the shortest messages are compressed.
const TAKEOVER: Compression = Compression {
    level: 6,
    threshold_bytes: 32,
    server_context_takeover: true,
    client_context_takeover: true,
    server_window_bits: 15,
    client_window_bits: 15,
};

const OFFERS: [&str; 6] = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=10",
];

fn start(setup: Setup, cores: usize, limits: Limits, compression: Compression) -> Server {
    Setup { compression: Some(compression), ..setup }.start_with(cores, limits)
}

fn seed() -> u64 {
    let seed =
        std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("CRORE_TEST_SEED={seed}");
    seed
}

/// Text that resembles what was said before, in anything from a word to more than a window.
fn text(rng: &mut Rng) -> String {
    let words = ["{\"type\":\"message\"}", "channel", "user-1234", "schön", "€", "2026-01-01T00:00:00Z", "\n"];
    let bytes_max = *rng.choice(&[2, 60, 600, 6_000, 100_000]).expect("not empty");
    let bytes = rng.usize(0..bytes_max);
    // A first word that is no command of the actor.
    let mut text = format!("#{}", rng.u32(..));
    while text.len() < bytes {
        text.push(' ');
        text.push_str(words[rng.usize(..words.len())]);
    }
    text.retain(|c| c != '\n');
    text
}

#[test]
fn every_client_hears_all_in_order_whatever_it_has_agreed_on() {
    let seed = seed();
    on_each_kind(|setup| {
        let mut rng = Rng::with_seed(seed);
        for compression in [Compression { threshold_bytes: 32, ..Compression::default() }, TAKEOVER] {
            everyone_hears_all(&start(setup, 2, limits(), compression), &mut rng);
        }
    });
}

/// Clients of all settings say things in turn, to themselves, to the others, to everyone.
fn everyone_hears_all(server: &Server, rng: &mut Rng) {
    let mut clients: Vec<DeflateClient> = Vec::new();
    for offer in OFFERS.iter().cycle().take(12) {
        let mut client = DeflateClient::upgrade(server.tcp(), offer);
        client.say("subscribe news");
        assert_eq!(client.hear().0, "subscribed");
        clients.push(client);
    }
    let mut plain = server.client();
    assert_eq!(plain.ask("subscribe news"), "subscribed");
    for _ in 0..60 {
        let speaker = rng.usize(..clients.len());
        let mut heard: Vec<VecDeque<String>> = vec![VecDeque::new(); clients.len() + 1];
        let mut lines = Vec::new();
        // Several in one call leave in one send, and cross the mesh together.
        for _ in 0..rng.usize(1..4) {
            let said = text(rng);
            let (command, to_speaker, to_others) = *rng
                .choice(&[
                    ("say", true, false),
                    ("publish news", true, true),
                    ("publish_to_others news", false, true),
                    ("broadcast", true, true),
                    ("broadcast_to_others", false, true),
                ])
                .expect("not empty");
            // What is published leaves at the end of the turn, behind what was said to one: one kind a call.
            if lines.is_empty() || lines.last().is_some_and(|line: &String| line.starts_with(command)) {
                lines.push(format!("{command} {said}"));
                for (index, heard) in heard.iter_mut().enumerate() {
                    if if index == speaker { to_speaker } else { to_others } {
                        heard.push_back(said.clone());
                    }
                }
            }
        }
        clients[speaker].say(&lines.join("\n"));
        for (client, expected) in clients.iter_mut().zip(&mut heard) {
            for said in expected.drain(..) {
                let (came, compressed) = client.hear();
                assert!(came == said, "{}: {came:.80} instead of {said:.80}", client.answer);
                assert!(said.len() < 2_000 || compressed, "{} bytes came as they were", said.len());
                assert!(said.len() >= 32 || !compressed, "{} bytes came compressed", said.len());
            }
        }
        for said in heard.pop().expect("the last one is the plain client") {
            assert_eq!(plain.text(), said);
        }
    }
}

#[test]
fn a_broadcast_is_compressed_once_for_each_size_of_window() {
    on_each_kind(|setup| {
        let server = start(setup, 1, limits(), TAKEOVER);
        let mut clients: Vec<_> =
            (0..30).map(|index| DeflateClient::upgrade(server.tcp(), OFFERS[index % OFFERS.len()])).collect();
        for client in &mut clients {
            client.client.say("subscribe news");
            assert_eq!(client.hear().0, "subscribed");
        }
        let said = "alike ".repeat(1_000);
        for round in 1..=3 {
            server.handle().publish("news", said.as_str()).expect("room for a command");
            for client in &mut clients {
                assert!(client.hear() == (said.clone(), true));
            }
            // 15, 10 and 9 bits.
            server.wait_for("the counters of the turn", |stats| stats.compressions == 3 * round);
        }
        let stats = server.stats();
        assert_eq!(stats.compression_bytes_in, 9 * (said.len() as u64 + 4));
        assert!(stats.compression_bytes_out < stats.compression_bytes_in / 10, "{stats:?}");
    });
}

#[test]
fn an_echo_is_compressed_also_if_what_came_was_not() {
    on_each_kind(|setup| {
        let server = start(setup, 1, limits(), Compression::default());
        let mut client = DeflateClient::upgrade(server.tcp(), OFFERS[0]);
        for (bytes, is_compressed) in [(1_023, false), (1_024, true), (100_000, true)] {
            let said = "a".repeat(bytes);
            client.client.say(&said);
            assert!(client.hear() == (said.clone(), is_compressed), "{bytes} bytes");
            client.say(&said);
            assert!(client.hear() == (said, is_compressed), "{bytes} bytes, compressed");
        }
        server.wait_for("the counters of the turn", |stats| stats.decompressions == 3);
        let stats = server.stats();
        assert_eq!(stats.decompression_bytes_out, 1_023 + 1_024 + 100_000);
        assert!(stats.decompression_bytes_in < 1_000, "{stats:?}");
        let incompressible: String = std::iter::repeat_with(|| fastrand::char('\u{80}'..'\u{7ff}')).take(600).collect();
        client.say(&incompressible);
        let (came, _) = client.hear();
        assert_eq!(came, incompressible);
    });
}

#[test]
fn no_context_is_kept_where_messages_may_be_dropped() {
    on_each_kind(|setup| {
        for (slow_consumer, is_kept) in
            [(SlowConsumer::Disconnect, true), (SlowConsumer::DropNewest, false), (SlowConsumer::DropOldest, false)]
        {
            let server = start(setup, 1, Limits { slow_consumer, ..limits() }, TAKEOVER);
            let client = DeflateClient::upgrade(server.tcp(), OFFERS[0]);
            assert_eq!(!client.answer.contains("server_no_context_takeover"), is_kept, "{slow_consumer:?}");
        }
    });
}

#[test]
fn a_client_that_breaks_the_compression_is_told_why() {
    use crore_tests::frame::{TEXT, masked};
    on_each_kind(|setup| {
        let limits = Limits { message_bytes_max: 100_000, ..limits() };
        let server = start(setup, 1, limits, Compression::default());
        let mut bystander = DeflateClient::upgrade(server.tcp(), OFFERS[0]);
        // 1 MB of zeros is a kilobyte on the way.
        let mut bomb = DeflateClient::upgrade(server.tcp(), OFFERS[0]);
        bomb.say(&"\0".repeat(1 << 20));
        assert_eq!(bomb.client.closed(), Some(1009));
        for (payload, code) in [(&[0xff_u8; 10][..], 1007), (&[0xf2, 0x48, 0xcd], 1007)] {
            let mut client = DeflateClient::upgrade(server.tcp(), OFFERS[0]).client;
            client.send(masked(TEXT | 0x40, payload));
            assert_eq!(client.closed(), Some(code), "{payload:x?}");
        }
        let mut without = server.client();
        without.send(masked(TEXT | 0x40, &[0x00]));
        assert_eq!(without.closed(), Some(1002), "nothing was agreed on");
        bystander.say("still here");
        assert_eq!(bystander.hear().0, "still here");
    });
}

#[test]
fn settings_that_cannot_be_keep_the_engine_from_starting() {
    let compression = Compression { level: 12, ..Compression::default() };
    let engine = Engine::bind("127.0.0.1:0").expect("an address").compression(Some(compression));
    let error = engine.start(|_| crore_tests::Actor::new(std::sync::mpsc::channel().0)).expect_err("no such level");
    assert!(matches!(error, Error::Compression(CompressionError::Level(12))), "{error}");
}
