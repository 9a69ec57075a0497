//! Recovery, as a property: readers lose their connections at random moments while publishers on all cores go on, and
//! each of them sees every message once and in order, but for what a gap has been told of.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::thread::{scope, sleep};
use std::time::Duration;

use crore_server::Server;
use crore_server::channel::{ChannelOptions, ChannelRule};
use crore_server::config::{ApiConfig, Config};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes; it only keeps a failing test from waiting for ever.
const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "a-key-of-the-tests-0123456789";

/// Publishers with a connection each; the kernel spreads them over the cores.
const PUBLISHERS: u64 = 4;

/// Messages of each of them, and of the one who has none and asks by HTTP.
const MESSAGES: u64 = 150;

/// Messages of all to one channel.
const LAST: u64 = (PUBLISHERS + 1) * MESSAGES;

const READERS: u64 = 5;

/// Channels by how much they keep: all, and too little for who is away for long.
const KEPT: [u32; 2] = [100_000, 8];

/// Where a server listens: for clients, and for backends.
#[derive(Clone, Copy)]
struct Addresses {
    clients: SocketAddr,
    api: SocketAddr,
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What a reader has seen.
#[derive(Default)]
struct Seen {
    /// By offset.
    messages: BTreeMap<u64, Value>,
    /// Connections that began with all that had been missed.
    recoveries: usize,
    /// Offsets that it was told of as missing.
    missing: u64,
}

fn channel(kept: u32) -> String {
    format!("keeps {kept}")
}

fn config() -> Config {
    let rule = |kept| ChannelRule {
        pattern: channel(kept).parse().unwrap(),
        options: ChannelOptions { history: Some(kept), ..ChannelOptions::default() },
        ..ChannelRule::default()
    };
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cores: NonZeroU16::new(2),
        api: ApiConfig { enabled: true, listen, key: Some(KEY.parse().unwrap()), client_addresses: true },
        channels: KEPT.map(rule).into(),
        ..Config::default()
    };
    config.welcome.enabled = false;
    config
}

fn client(address: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(format!("ws://{address}/ws"), stream).unwrap().0
}

fn say(client: &mut WebSocket<TcpStream>, message: &Value) {
    client.send(Message::text(message.to_string())).unwrap();
}

/// The next message; heartbeats may come at any time.
fn next(client: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = client.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// Publishes numbers, each as soon as the one before is acknowledged.
fn publish(addresses: Addresses, publisher: u64) {
    let mut client = client(addresses.clients);
    for number in 0..MESSAGES {
        for kept in KEPT {
            let data = json!([publisher, number]);
            say(&mut client, &json!({"type": "publish", "id": number, "channel": channel(kept), "data": data}));
            let reply = next(&mut client);
            assert_eq!((&reply["type"], &reply["id"]), (&json!("response"), &json!(number)), "{reply}");
        }
    }
}

/// The same over HTTP.
fn publish_by_api(addresses: Addresses) {
    for number in 0..MESSAGES {
        for kept in KEPT {
            let body = json!({"channel": channel(kept), "data": [PUBLISHERS, number]}).to_string();
            let mut stream = TcpStream::connect(addresses.api).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = format!(
                "POST /api/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {KEY}\r\nContent-Type: \
                 application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"offset\":"), "{answer}");
        }
    }
}

/// Reads to the last message, over one connection after the other.
fn read(addresses: Addresses, kept: u32, mut chance: Chance) -> Seen {
    let (mut seen, mut last, mut epoch) = (Seen::default(), 0, None);
    while last < LAST {
        let mut client = client(addresses.clients);
        let mut subscribe = json!({"type": "subscribe", "channel": channel(kept)});
        if let Some(epoch) = &epoch {
            subscribe["recover"] = json!({"offset": last, "epoch": epoch});
        }
        say(&mut client, &subscribe);
        let reply = next(&mut client);
        assert_eq!(reply["type"], "subscribed");
        let place = reply["data"]["offset"].as_u64().unwrap();
        match reply["data"]["recovered"].as_bool() {
            None => last = place,
            Some(true) => seen.recoveries += 1,
            Some(false) => {
                let gap = next(&mut client);
                assert_eq!((&gap["type"], &gap["channel"]), (&json!("gap"), &reply["channel"]));
                let next = gap["next"].as_u64().unwrap();
                assert!(next > last + 1, "{next} is no gap behind {last}");
                seen.missing += next - last - 1;
                last = next - 1;
            }
        }
        epoch = Some(reply["data"]["epoch"].clone());
        for _ in 0..chance.below(40) {
            if last == LAST {
                break;
            }
            let message = next(&mut client);
            assert_eq!(message["type"], "message");
            assert_eq!((message["offset"].as_u64(), Some(&message["epoch"])), (Some(last + 1), epoch.as_ref()));
            last += 1;
            seen.messages.insert(last, message["data"].clone());
        }
        // With a close frame, or as if its network had gone: what is on its way is lost.
        if chance.below(2) == 0 {
            client.close(None).unwrap();
        }
        drop(client);
        sleep(Duration::from_millis(chance.below(30)));
    }
    seen
}

fn rounds() -> u64 {
    std::env::var("CRORE_TEST_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number"))
}

// capability: 69 85
#[test]
fn who_comes_and_goes_sees_each_message_once_in_order_or_is_told_of_a_gap() {
    let seed = std::env::var("CRORE_TEST_SEED")
        .map_or_else(|_| RandomState::new().hash_one(0), |seed| seed.parse().expect("a number"));
    println!("CRORE_TEST_SEED={seed}");
    for round in 0..rounds() {
        one_round(seed.wrapping_add(round << 32));
    }
}

fn one_round(seed: u64) {
    let config = config();
    let api = config.api.listen;
    // On a thread of its own: one that has tried out what io_uring can do is interrupted by the kernel afterwards, when
    // the rings of the trial are taken down.
    let running = std::thread::spawn(|| Server::new(config).start().unwrap()).join().unwrap();
    let addresses = Addresses { clients: running.address(), api };
    scope(|scope| {
        let mut readers = Vec::new();
        for number in 0..READERS {
            for kept in KEPT {
                let chance = Chance((seed ^ (number << 8 | u64::from(kept))) | 1);
                readers.push((kept, scope.spawn(move || read(addresses, kept, chance))));
            }
        }
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || publish(addresses, publisher));
        }
        scope.spawn(move || publish_by_api(addresses));
        let seen: Vec<_> = readers.into_iter().map(|(kept, reader)| (kept, reader.join().unwrap())).collect();
        for kept in KEPT {
            check(seen.iter().filter(|(of, _)| *of == kept).map(|(_, seen)| seen), kept);
        }
    });
    running.handle().drain(Duration::ZERO);
    running.join().unwrap();
}

/// All readers of a channel agree, and publishers see their own order kept.
fn check<'s>(readers: impl Iterator<Item = &'s Seen>, kept: u32) {
    let (mut order, mut missing, mut recoveries) = (BTreeMap::new(), 0, 0);
    for seen in readers {
        for (offset, data) in &seen.messages {
            assert_eq!(order.entry(*offset).or_insert(data), &data, "all see one order");
        }
        missing += seen.missing;
        recoveries += seen.recoveries;
    }
    assert!(recoveries > 0, "somebody has come back");
    assert!((kept == KEPT[0]) == (missing == 0), "{missing} are missing of a channel that keeps {kept}");
    let mut numbers = BTreeMap::new();
    for data in order.values() {
        let (publisher, number) = (data[0].as_u64().unwrap(), data[1].as_u64().unwrap());
        let before = numbers.insert(publisher, number);
        assert!(before.is_none_or(|before| before < number), "{data} comes behind {before:?}");
    }
    if kept == KEPT[0] {
        let first = order.keys().next().copied().unwrap();
        assert_eq!(order.len() as u64, LAST + 1 - first, "none is missing");
    }
}
