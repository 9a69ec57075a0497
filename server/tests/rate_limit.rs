//! The reset of a limit, for programs that embed the server.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::thread;
use std::time::{Duration, Instant};

use crore_engine::Running;
use crore_server::config::{Config, RateLimitAlgorithm, RateLimitConfig, RateLimitKey};
use crore_server::{Server, rate_limit};
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Client(WebSocket<TcpStream>);

impl Client {
    /// A user's connection, and its identifier.
    fn open(address: SocketAddr, user: &str) -> (Self, String) {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        request.headers_mut().insert("X-User-ID", user.parse().unwrap());
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self(tungstenite::client(request, stream).unwrap().0);
        let id = client.read()["connection_id"].as_str().unwrap().to_owned();
        (client, id)
    }

    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn is_refused(&mut self) -> bool {
        self.0.send(Message::text(r#"{"type":"request","method":"time"}"#)).unwrap();
        let reply = self.read();
        assert!(reply["type"] == "response" || reply["code"] == "rate_limited", "{reply}");
        reply["type"] == "error"
    }
}

fn start(key: RateLimitKey) -> Running {
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cores: NonZeroU16::new(2),
        rate_limit: RateLimitConfig {
            enabled: true,
            algorithm: RateLimitAlgorithm::FixedWindow,
            fixed_window_messages: 3,
            fixed_window: Duration::from_secs(3600),
            key,
            ..RateLimitConfig::default()
        },
        ..Config::default()
    };
    config.identity.trust_user_header = true;
    // On a thread of its own: one that has tried out what io_uring can do is interrupted by the kernel afterwards.
    thread::spawn(|| Server::new(config).start().unwrap()).join().unwrap()
}

fn stop(running: Running) {
    running.handle().drain(Duration::ZERO);
    running.join().unwrap();
}

/// Soon after a reset one more message is answered.
fn wait_for_reset(client: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    while client.is_refused() {
        assert!(Instant::now() < deadline, "the limit is not reset");
        thread::sleep(Duration::from_millis(5));
    }
}

// capability: 60
#[test]
fn a_user_may_begin_anew_with_all_its_connections() {
    for key in [RateLimitKey::Connection, RateLimitKey::User] {
        let running = start(key);
        let address = running.address();
        // Enough for both cores to have some of them.
        let mut anns: Vec<Client> = (0..6).map(|_| Client::open(address, "ann").0).collect();
        let (mut bob, _) = Client::open(address, "bob");
        for client in anns.iter_mut().chain([&mut bob]) {
            while !client.is_refused() {}
        }
        rate_limit::reset(running.handle(), "ann").unwrap();
        wait_for_reset(&mut anns[0]);
        if key == RateLimitKey::Connection {
            anns.iter_mut().for_each(wait_for_reset);
        } else {
            // Together they have two left of three.
            assert_eq!(anns.iter_mut().filter_map(|ann| (!ann.is_refused()).then_some(())).count(), 2);
        }
        assert!(bob.is_refused(), "nobody has reset him");
        stop(running);
    }
}

// capability: 60
#[test]
fn a_connection_may_begin_anew_by_its_identifier() {
    let running = start(RateLimitKey::Connection);
    let (mut one, id) = Client::open(running.address(), "ann");
    let (mut other, _) = Client::open(running.address(), "ann");
    for client in [&mut one, &mut other] {
        while !client.is_refused() {}
    }
    rate_limit::reset(running.handle(), "nobody").unwrap();
    rate_limit::reset(running.handle(), &id).unwrap();
    wait_for_reset(&mut one);
    assert!(other.is_refused());
    stop(running);
}
