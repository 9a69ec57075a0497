//! Messages that wait for the control thread, and those that come behind them.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crore_engine::Running;
use crore_server::Server;
use crore_server::config::{Config, InboundOverload, RateLimitAlgorithm, RateLimitConfig};
use crore_server::wire::Refusal;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server where a message of type `slow` waits for its turn at the gate.
struct Host {
    running: Option<Running>,
    gate: Arc<Semaphore>,
}

impl Host {
    fn start(overload: InboundOverload, change: impl FnOnce(&mut Config)) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen, cores: NonZeroU16::new(2), ..Config::default() };
        config.limits.inbound_overload = overload;
        change(&mut config);
        let gate = Arc::new(Semaphore::new(0));
        let at = Arc::clone(&gate);
        let server = Server::new(config)
            .on("slow", move |call| {
                let at = Arc::clone(&at);
                call.wait(async move { at.acquire_owned().await.unwrap().forget() }, |call, ()| {
                    let data = call.message().data();
                    call.reply("done", |reply| reply.data(data));
                    Ok(())
                })
            })
            .on("twice", |call| {
                call.wait(async { 1 }, |call, one| {
                    call.wait(async move { one + 1 }, |call, two| {
                        call.reply("done", |reply| reply.json("data", &two.to_string()));
                        Ok(())
                    })
                })
            })
            .on("panic", |call| call.wait(async { panic!("on purpose") }, |_, ()| unreachable!("it has no value")))
            .on("refused", |call| call.wait(async {}, |_, ()| Err(Refusal::Forbidden("says the backend"))));
        // On a thread of its own: one that has tried out what io_uring can do is interrupted by the kernel afterwards.
        let running = thread::spawn(|| server.start().unwrap()).join().unwrap();
        Self { running: Some(running), gate }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn client(&self) -> Client {
        let address = self.running().address();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client(tungstenite::client(format!("ws://{address}/ws"), stream).unwrap().0);
        assert_eq!(client.next()["type"], "welcome");
        client
    }

    fn session_bytes(&self) -> u64 {
        self.running().handle().memory_by_core().iter().map(|core| core.session).sum()
    }

    #[track_caller]
    fn wait_until(&self, is_so: impl Fn(u64) -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self.session_bytes()) {
            assert!(Instant::now() < deadline, "{what}: {} bytes", self.session_bytes());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let running = self.running.take().unwrap();
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }
}

struct Client(WebSocket<TcpStream>);

impl Client {
    fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn next(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => {
                    return json!({ "type": "closed", "code": frame.map(|frame| u16::from(frame.code)) });
                }
                _ => {}
            }
        }
    }

    /// `type` and `id` of what comes next.
    fn next_is(&mut self, kind: &str, id: u64) {
        let message = self.next();
        assert_eq!((&message["type"], &message["id"]), (&json!(kind), &json!(id)), "{message}");
    }
}

fn request(id: u64) -> Value {
    json!({"type": "request", "method": "time", "id": id})
}

fn slow(id: u64) -> Value {
    json!({"type": "slow", "id": id, "data": {"id": id}})
}

// capability: 65
#[test]
fn what_comes_behind_a_message_that_waits_is_handled_in_order_and_nothing_is_lost() {
    for overload in [InboundOverload::Pause, InboundOverload::Drop] {
        let host = Host::start(overload, |_| ());
        let mut client = host.client();
        client.say(&slow(0));
        // More than one turn handles.
        (1..200).for_each(|id| client.say(&request(id)));
        client.say(&slow(200));
        let rest: Vec<Value> = (201..250).map(request).collect();
        client.say(&json!({"type": "batch", "messages": rest}));
        client.say(&json!({"type": "disconnect"}));
        client.say(&request(251));
        host.gate.add_permits(2);
        client.next_is("done", 0);
        (1..200).for_each(|id| client.next_is("response", id));
        client.next_is("done", 200);
        (201..250).for_each(|id| client.next_is("response", id));
        let last = client.next();
        assert_eq!((&last["type"], &last["code"]), (&json!("closed"), &json!(1000)), "{last}");
    }
}

// capability: 65 47
#[test]
fn what_a_batch_has_behind_a_message_that_waits_waits_too() {
    for overload in [InboundOverload::Pause, InboundOverload::Drop] {
        // The rest of a batch is read already, so that a pause keeps it, however long it is.
        let host = Host::start(overload, |config| {
            if overload == InboundOverload::Pause {
                config.limits.inbound_queue_max = 1;
            }
        });
        let mut client = host.client();
        let nested = json!({"type": "batch", "id": 4, "messages": [request(9)]});
        client.say(&json!({"type": "batch", "messages": [request(1), slow(2), request(3), nested, slow(5)]}));
        client.say(&request(6));
        client.next_is("response", 1);
        host.gate.add_permits(2);
        client.next_is("done", 2);
        client.next_is("response", 3);
        client.next_is("error", 4);
        client.next_is("done", 5);
        client.next_is("response", 6);
    }
}

// capability: 65 47
#[test]
fn a_batch_that_is_refused_is_refused_as_a_whole_where_it_has_waited() {
    let host = Host::start(InboundOverload::Drop, |_| ());
    let mut client = host.client();
    let both = json!({"type": "batch", "id": 1, "enabled": true, "messages": [request(2), request(3)]});
    client.say(&both);
    let refused = client.next();
    client.say(&slow(0));
    client.say(&both);
    client.say(&request(4));
    host.gate.add_permits(1);
    client.next_is("done", 0);
    let waited = client.next();
    assert_eq!((&refused["id"], &refused["code"]), (&json!(1), &json!("invalid_message")));
    assert_eq!((&waited["id"], &waited["detail"]), (&json!(1), &refused["detail"]), "{waited}");
    client.next_is("response", 4);
}

// capability: 65
#[test]
fn where_much_waits_on_a_core_nothing_more_is_read_before_anything_is_dropped() {
    let host = Host::start(InboundOverload::Pause, |config| {
        config.cores = NonZeroU16::new(1);
        config.limits.waiting_bytes_per_core_max = 400_000;
    });
    let large = |id: u64| json!({"type": "request", "method": "time", "id": id, "data": "x".repeat(60_000)});
    let mut clients: Vec<Client> = (0..2).map(|_| host.client()).collect();
    for client in &mut clients {
        client.say(&slow(0));
        (1..8).for_each(|id| client.say(&large(id)));
    }
    host.wait_until(|bytes| bytes >= 200_000, "messages wait");
    host.gate.add_permits(2);
    for client in &mut clients {
        client.next_is("done", 0);
        (1..8).for_each(|id| client.next_is("response", id));
    }
}

// capability: 65 24
#[test]
fn more_than_may_wait_is_dropped_and_answered_but_a_ping_waits_for_nobody() {
    let host = Host::start(InboundOverload::Drop, |config| config.limits.inbound_queue_max = 3);
    let mut client = host.client();
    client.say(&slow(0));
    (1..6).for_each(|id| client.say(&request(id)));
    client.say(&json!({"type": "ping", "id": 6}));
    for id in [4, 5] {
        let error = client.next();
        assert_eq!(error["id"], id);
        assert_eq!(
            (&error["type"], &error["code"], &error["error"]),
            (&json!("error"), &json!("overloaded"), &json!("Server overloaded, please slow down"))
        );
    }
    client.next_is("pong", 6);
    host.gate.add_permits(1);
    client.next_is("done", 0);
    (1..4).for_each(|id| client.next_is("response", id));
    // There is room again.
    client.say(&request(7));
    client.next_is("response", 7);
}

// capability: 65
#[test]
fn a_queue_is_bounded_in_bytes_and_given_back_when_its_connection_has_gone() {
    let host = Host::start(InboundOverload::Drop, |config| config.limits.inbound_queue_bytes_max = 20_000);
    let mut client = host.client();
    client.say(&slow(0));
    let large = |id: u64| json!({"type": "request", "method": "time", "id": id, "data": "x".repeat(8000)});
    (1..6).for_each(|id| client.say(&large(id)));
    for id in [4, 5] {
        assert_eq!(client.next()["id"], id);
    }
    host.wait_until(|bytes| bytes >= 24_000, "what waits is counted");
    drop(client);
    host.wait_until(|bytes| bytes < 8000, "what waited is not counted any more");
    // The answer finds nobody, and nobody minds.
    host.gate.add_permits(1);
    let mut client = host.client();
    client.say(&request(1));
    client.next_is("response", 1);
}

// capability: 28 65
#[test]
fn what_waits_on_a_core_is_counted_and_bounded_over_all_connections() {
    let host = Host::start(InboundOverload::Drop, |config| {
        config.cores = NonZeroU16::new(1);
        config.limits.waiting_bytes_per_core_max = 100_000;
    });
    let large = |id: u64| json!({"type": "slow", "id": id, "data": "x".repeat(60_000)});
    let mut clients: Vec<Client> = (0..3).map(|_| host.client()).collect();
    // The one that exceeds the bound is the last.
    for (index, client) in clients[..2].iter_mut().enumerate() {
        client.say(&large(1));
        host.wait_until(|bytes| bytes >= 60_000 * (index as u64 + 1), "a message that waits is counted");
    }
    clients[2].say(&slow(1));
    let refused = clients[2].next();
    assert_eq!((&refused["id"], &refused["code"]), (&json!(1), &json!("busy")), "{refused}");
    clients[0].say(&request(2));
    let refused = clients[0].next();
    assert_eq!((&refused["id"], &refused["code"]), (&json!(2), &json!("overloaded")), "{refused}");
    host.gate.add_permits(2);
    for client in &mut clients[..2] {
        client.next_is("done", 1);
    }
    host.wait_until(|bytes| bytes < 8000, "what waits no more is not counted");
    clients[2].say(&large(3));
    host.gate.add_permits(1);
    clients[2].next_is("done", 3);
}

// capability: 65 60
#[test]
fn what_waits_is_counted_against_the_rate_limit_when_it_comes() {
    let host = Host::start(InboundOverload::Drop, |config| {
        config.rate_limit = RateLimitConfig {
            enabled: true,
            algorithm: RateLimitAlgorithm::FixedWindow,
            fixed_window_messages: 3,
            fixed_window: Duration::from_secs(3600),
            ..RateLimitConfig::default()
        };
    });
    let mut client = host.client();
    client.say(&slow(0));
    (1..4).for_each(|id| client.say(&request(id)));
    let refused = client.next();
    assert_eq!((&refused["id"], &refused["code"]), (&json!(3), &json!("rate_limited")), "before anything is handled");
    host.gate.add_permits(1);
    client.next_is("done", 0);
    client.next_is("response", 1);
    client.next_is("response", 2);
}

// capability: 65 96
#[test]
fn a_handler_may_wait_more_than_once_and_its_answer_may_be_an_error() {
    let host = Host::start(InboundOverload::Pause, |_| ());
    let mut client = host.client();
    for message in ["twice", "panic", "refused"] {
        client.say(&json!({"type": message, "id": message}));
    }
    client.say(&request(4));
    assert_eq!(client.next()["data"], 2);
    let panicked = client.next();
    assert_eq!((&panicked["id"], &panicked["code"]), (&json!("panic"), &json!("busy")));
    let refused = client.next();
    assert_eq!((&refused["id"], &refused["detail"]), (&json!("refused"), &json!("says the backend")));
    client.next_is("response", 4);
}
