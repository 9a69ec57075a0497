//! The JSON protocol, spoken by a client that shares no code with the engine, against a server on two
//! cores.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::Duration;

use crore_engine::Running;
use crore_server::Server;
use crore_server::channel::{ChannelOptions, ChannelRule};
use crore_server::config::Config;
use crore_server::wire::Refusal;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes; it only keeps a failing test from waiting for ever.
const PATIENCE: Duration = Duration::from_secs(20);

struct Host(Option<Running>);

impl Host {
    fn start(server: Server) -> Self {
        // On a thread of its own: one that has tried out what io_uring can do is interrupted by the kernel
        // afterwards, when the rings of the trial are taken down.
        Self(Some(std::thread::spawn(|| server.start().unwrap()).join().unwrap()))
    }

    fn address(&self) -> SocketAddr {
        self.0.as_ref().unwrap().address()
    }

    fn client(&self) -> Client {
        self.named(None)
    }

    fn named(&self, user: Option<&str>) -> Client {
        let mut request = format!("ws://{}/ws", self.address()).into_client_request().unwrap();
        if let Some(user) = user {
            request.headers_mut().insert("X-User-ID", user.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        let mut client = Client { socket, id: String::new(), user: String::new() };
        let first = client.next();
        if first["type"] == "welcome" {
            client.id = first["connection_id"].as_str().unwrap().to_owned();
            client.user = first["user_id"].as_str().unwrap().to_owned();
        } else {
            assert_eq!(first["code"], "too_many_connections");
        }
        client
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let running = self.0.take().unwrap();
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }
}

struct Client {
    socket: WebSocket<TcpStream>,
    id: String,
    user: String,
}

impl Client {
    fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// Heartbeats may come at any time; the client answers them by itself.
    fn read(&mut self) -> Message {
        loop {
            match self.socket.read().unwrap() {
                Message::Ping(_) => {}
                other => return other,
            }
        }
    }

    /// The next message, without its timestamp, which it must have.
    fn next(&mut self) -> Value {
        let text = self.read().into_text().unwrap();
        let mut message: Value = serde_json::from_str(&text).unwrap();
        assert!(message.as_object_mut().unwrap().remove("timestamp").unwrap().is_u64(), "{text}");
        message
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        self.next()
    }

    /// Nothing has come but the answer to this.
    fn has_nothing(&mut self) {
        assert_eq!(self.ask(&json!({"type": "ping", "id": "last"})), json!({"type": "pong", "id": "last"}));
    }

    fn subscribe(&mut self, channel: &str) {
        assert_eq!(self.ask(&json!({"type": "subscribe", "channel": channel}))["type"], "subscribed");
    }

    fn close_code(&mut self) -> u16 {
        match self.read() {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("{other:?}"),
        }
    }
}

fn config() -> Config {
    Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), cores: NonZeroU16::new(2), ..Config::default() }
}

// capability: 36 37
#[test]
fn subscriptions_are_acknowledged_and_idempotent() {
    let host = Host::start(Server::new(config()));
    let mut client = host.client();
    for _ in 0..2 {
        assert_eq!(
            client.ask(&json!({"type": "subscribe", "id": 1, "channel": "a"})),
            json!({"type": "subscribed", "id": 1, "channel": "a", "data": {"subscribed": "a"}})
        );
    }
    client.say(&json!({"type": "message", "channel": "a", "data": 1}));
    assert_eq!(client.next()["data"], 1);
    client.has_nothing();
    for _ in 0..2 {
        assert_eq!(
            client.ask(&json!({"type": "unsubscribe", "id": "x", "channel": "a"})),
            json!({"type": "unsubscribed", "id": "x", "channel": "a", "data": {"unsubscribed": "a"}})
        );
    }
    client.say(&json!({"type": "message", "channel": "a", "data": 2}));
    client.has_nothing();
}

// capability: 38 43
#[test]
fn a_publication_reaches_every_subscriber_and_the_sender_as_agreed() {
    let mut config = config();
    let rule = |pattern: &str, echo| ChannelRule {
        pattern: pattern.parse().unwrap(),
        options: ChannelOptions { echo: Some(echo), ..ChannelOptions::default() },
        ..ChannelRule::default()
    };
    config.channels = vec![rule("never:*", false), rule("always:*", true)];
    let host = Host::start(Server::new(config));
    // Enough for both cores to have some.
    let mut others: Vec<_> = (0..16).map(|_| host.client()).collect();
    let mut sender = host.client();
    let cases = [
        ("message", "free", None, true),
        ("message", "free", Some(false), false),
        ("publish", "free", None, false),
        ("publish", "free", Some(true), true),
        ("message", "never:1", Some(true), false),
        ("publish", "always:1", Some(false), true),
    ];
    for channel in ["free", "never:1", "always:1"] {
        sender.subscribe(channel);
        others.iter_mut().for_each(|other| other.subscribe(channel));
    }
    for (number, (kind, channel, echo, comes_back)) in cases.into_iter().enumerate() {
        let data = json!({"n": number, "text": "é\u{2028}\u{0}", "list": [1.50, null]});
        sender.say(&json!({"type": kind, "channel": channel, "echo": echo, "data": data}));
        let expected = json!({"type": "message", "channel": channel, "from": sender.user, "data": data});
        if comes_back {
            let (first, second) = (sender.next(), if kind == "publish" { sender.next() } else { Value::Null });
            assert!(first == expected || second == expected, "{first} {second}");
        } else if kind == "publish" {
            assert_eq!(sender.next(), json!({"type": "response", "data": {"published": true}}));
        }
        sender.has_nothing();
        for other in &mut others {
            assert_eq!(other.next(), expected);
        }
    }
    others.iter_mut().for_each(Client::has_nothing);
    assert_eq!(
        sender.ask(&json!({"type": "message", "id": 5, "channel": "elsewhere", "data": 0})),
        json!({"type": "response", "id": 5, "data": {"published": true}})
    );
}

// capability: 34 46
#[test]
fn what_is_wrong_is_named_and_the_connection_stays() {
    let host = Host::start(Server::new(config()));
    let mut client = host.client();
    let refused = |client: &mut Client, code: &str, error: &str| {
        let answer = client.next();
        assert_eq!(
            (&answer["type"], &answer["code"], &answer["error"]),
            (&json!("error"), &json!(code), &json!(error))
        );
        answer["id"].clone()
    };
    for text in ["Hello Server!", "{\"type\":", ""] {
        client.socket.send(Message::text(text)).unwrap();
        refused(&mut client, "invalid_json", "Invalid JSON");
    }
    for message in [json!([]), json!({}), json!({"type": 1}), json!({"type": "subscribe", "id": 1})] {
        client.say(&message);
        let id = refused(&mut client, "invalid_message", "Invalid message");
        assert_eq!(id, message.get("id").cloned().unwrap_or(Value::Null));
    }
    client.say(&json!({"type": "ch\"at", "id": "7"}));
    assert_eq!(refused(&mut client, "unknown_type", "Unknown message type: ch\"at"), "7");
    client.say(&json!({"type": "subscribe", "id": 2, "channel": "\n"}));
    assert_eq!(refused(&mut client, "invalid_channel", "Invalid message"), 2);
    client.socket.send(Message::binary(vec![0, 159])).unwrap();
    refused(&mut client, "binary_unsupported", "Invalid message");
    client.say(&json!({"type": "request", "id": 3, "method": "none"}));
    assert_eq!(refused(&mut client, "unknown_method", "Unknown method: none"), 3);
    client.has_nothing();
}

#[test]
fn subscriptions_are_bounded() {
    let mut config = config();
    config.engine.subscriptions_max = 3;
    let host = Host::start(Server::new(config));
    let mut client = host.client();
    ["a", "b", "c"].into_iter().for_each(|channel| client.subscribe(channel));
    let more = json!({"type": "subscribe", "channel": "d"});
    assert_eq!(client.ask(&more)["code"], "too_many_subscriptions");
    assert_eq!(client.ask(&json!({"type": "join", "channel": "d"}))["code"], "too_many_subscriptions");
    client.ask(&json!({"type": "unsubscribe", "channel": "a"}));
    assert_eq!(client.ask(&more)["type"], "subscribed");
}

// capability: 45
#[test]
fn the_connection_says_who_it_is_and_ends_when_asked() {
    let host = Host::start(Server::new(config()));
    let mut client = host.client();
    let identity = json!({"connection_id": client.id, "user_id": client.user});
    assert_eq!(
        client.ask(&json!({"type": "connect", "id": 1})),
        json!({"type": "connected", "id": 1, "data": identity})
    );
    let whoami = client.ask(&json!({"type": "request", "id": 2, "method": "whoami"}));
    assert_eq!(whoami, json!({"type": "response", "id": 2, "data": identity}));
    assert!(client.ask(&json!({"type": "request", "id": 3, "method": "time"}))["data"]["time"].is_u64());
    for channel in ["b", "a", "b"] {
        client.ask(&json!({"type": "subscribe", "channel": channel, "id": 9}));
    }
    let channels = client.ask(&json!({"type": "request", "id": 10, "method": "channels"}));
    assert_eq!(channels["data"], json!({"channels": ["a", "b"]}));
    assert_eq!(client.ask(&json!({"type": "ping"})), json!({"type": "pong"}));
    ["pong", "response", "error"].into_iter().for_each(|kind| client.say(&json!({"type": kind, "id": 4})));
    client.has_nothing();
    client.say(&json!({"type": "disconnect"}));
    assert_eq!(client.close_code(), 1000);
}

// capability: 22 41
#[test]
fn a_private_message_reaches_the_user_alone() {
    let mut config = config();
    config.identity.trust_user_header = true;
    config.limits.connections_per_user_max = 2;
    let host = Host::start(Server::new(config));
    let mut anns = [host.named(Some("ann")), host.named(Some("ann"))];
    let (mut bob, mut stranger) = (host.named(Some("b\"ob")), host.client());
    assert_eq!((anns[0].user.as_str(), bob.user.as_str()), ("ann", "b\"ob"));
    assert_eq!(stranger.user, stranger.id);
    assert_eq!(host.named(Some("ann")).close_code(), 4029);

    let delivered = |count: u64| json!({"type": "response", "id": 1, "data": {"delivered": count}});
    let to = |user: &str| json!({"type": "private", "id": 1, "to": user, "data": {"secret": 1}});
    assert_eq!(bob.ask(&to("ann")), delivered(2));
    for ann in &mut anns {
        assert_eq!(ann.next(), json!({"type": "private", "from": "b\"ob", "data": {"secret": 1}}));
    }
    assert_eq!(bob.ask(&to(&stranger.id)), delivered(1));
    assert_eq!(stranger.next()["from"], "b\"ob");
    let [mut first, second] = anns;
    assert_eq!(bob.ask(&to(&first.id)), delivered(1));
    assert_eq!(first.next()["type"], "private");
    for nobody in ["carol", "0-0-ffffff", ""] {
        assert_eq!(bob.ask(&to(nobody))["code"], "not_online");
    }
    drop(second);
    while bob.ask(&to("ann")) != delivered(1) {
        first.next();
    }
    stranger.has_nothing();
}

// capability: 42 74
#[test]
fn a_broadcast_reaches_everyone_once() {
    let host = Host::start(Server::new(config()));
    let mut clients: Vec<_> = (0..16).map(|_| host.client()).collect();
    clients[0].say(&json!({"type": "broadcast", "data": "all"}));
    clients[0].say(&json!({"type": "broadcast", "echo": false, "data": "others"}));
    let from = clients[0].user.clone();
    let message = |data: &str| json!({"type": "broadcast", "from": from, "data": data});
    assert_eq!(clients[0].next(), message("all"));
    for client in &mut clients[1..] {
        assert_eq!((client.next(), client.next()), (message("all"), message("others")));
    }
    clients.iter_mut().for_each(Client::has_nothing);

    let mut config = config();
    config.clients.broadcast = false;
    let host = Host::start(Server::new(config));
    assert_eq!(host.client().ask(&json!({"type": "broadcast", "data": 1}))["code"], "forbidden");
}

// capability: 44 49
#[test]
fn members_of_a_room_see_each_other_come_and_go() {
    let host = Host::start(Server::new(config()));
    let (mut ann, mut bob) = (host.client(), host.client());
    let event = |kind: &str, client: &Client| json!({"type": kind, "channel": "r\"1", "from": client.user});
    let reply = |kind: &str| json!({"type": kind, "id": 1, "channel": "r\"1", "data": {kind: "r\"1"}});
    let join = json!({"type": "join", "id": 1, "room": "r\"1"});
    assert_eq!(ann.ask(&join), reply("joined"));
    assert_eq!(bob.ask(&join), reply("joined"));
    assert_eq!(ann.next(), event("join", &bob));
    assert_eq!(bob.ask(&join), reply("joined"));
    let leave = json!({"type": "leave", "id": 1, "channel": "r\"1"});
    for _ in 0..2 {
        assert_eq!(bob.ask(&leave), reply("left"));
    }
    assert_eq!(ann.next(), event("leave", &bob));
    bob.ask(&join);
    assert_eq!(ann.next(), event("join", &bob));
    bob.ask(&json!({"type": "unsubscribe", "channel": "r\"1"}));
    assert_eq!(ann.next(), event("leave", &bob));
    bob.ask(&join);
    assert_eq!(ann.next(), event("join", &bob));
    let gone = event("leave", &bob);
    drop(bob);
    assert_eq!(ann.next(), gone);
}

// capability: 40
#[test]
fn a_program_adds_types_of_its_own() {
    let server = Server::new(config())
        .on("shout", |call| {
            let channel = call.message().channel()?;
            call.publish(&channel, "shouted", true)
        })
        .on("ping", |_| Err(Refusal::Custom { code: "tired", error: "Not now".into() }));
    let host = Host::start(server);
    let mut client = host.client();
    client.subscribe("a");
    let shouted = client.ask(&json!({"type": "shout", "channel": "a", "data": {"text": "hey"}}));
    assert_eq!(shouted, json!({"type": "shouted", "channel": "a", "from": client.user, "data": {"text": "hey"}}));
    let tired = client.ask(&json!({"type": "ping", "id": 1}));
    assert_eq!(tired, json!({"type": "error", "id": 1, "code": "tired", "error": "Not now"}));
}
