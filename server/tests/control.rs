//! The control thread, where it takes a handler of one's own to show it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crore_engine::{Drain, Running};
use crore_server::Server;
use crore_server::config::{ApiConfig, Config};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes; it only keeps a failing test from waiting for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration with an API on a port that nobody has at the moment.
fn config() -> Config {
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cores: NonZeroU16::new(2),
        api: ApiConfig { enabled: true, listen, key: None, client_addresses: true },
        ..Config::default()
    }
}

fn start(server: Server) -> Running {
    // On a thread of its own: one that has tried out what io_uring can do is interrupted by the kernel
    // afterwards, when the rings of the trial are taken down.
    thread::spawn(|| server.start().unwrap()).join().unwrap()
}

/// A server whose `stall` message keeps its core, and says which: until it is let go, or for twice as long
/// as anything is waited for.
fn start_with_stall(config: Config) -> (Running, Receiver<usize>, Sender<()>) {
    let ((entered, inside), (leave, left)) = (channel(), channel());
    let (entered, left) = (Mutex::new(entered), Mutex::new(left));
    let server = Server::new(config).on("stall", move |call| {
        entered.lock().unwrap().send(call.context().core().index()).unwrap();
        let _ = left.lock().unwrap().recv_timeout(PATIENCE * 2);
        Ok(())
    });
    (start(server), inside, leave)
}

fn client(running: &Running) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(running.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut client, _) = tungstenite::client(format!("ws://{}/ws", running.address()), stream).unwrap();
    assert!(client.read().unwrap().into_text().unwrap().contains("welcome"));
    client
}

/// The status and the body of an answer.
fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    get_with(address, path, "none")
}

fn get_with(address: SocketAddr, path: &str, key: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

// capability: 32 82
#[test]
fn a_core_that_a_handler_keeps_is_named() {
    let config = config();
    let api = config.api.listen;
    let (running, inside, leave) = start_with_stall(config);
    assert_eq!(get(api, "/healthz"), (200, json!({"status": "ok", "stuck_cores": []})));
    let mut client = client(&running);
    client.send(Message::text(r#"{"type":"stall"}"#)).unwrap();
    let core = inside.recv_timeout(PATIENCE).unwrap();
    assert_eq!(get(api, "/healthz"), (503, json!({"status": "stuck", "stuck_cores": [core]})));
    leave.send(()).unwrap();
    assert_eq!(get(api, "/healthz").0, 200);
    running.handle().drain(Duration::ZERO);
    running.join().unwrap();
}

// capability: 80
#[test]
fn a_core_that_does_not_answer_is_not_taken_for_a_request_that_does_not_come() {
    const PATHS: [&str; 5] =
        ["/api/channels", "/api/channels/news", "/api/connections", "/api/top-channels", "/api/slow-consumers"];
    let key = "a-key-of-the-tests";
    let mut config = config();
    config.api.key = Some(key.parse().unwrap());
    let api = config.api.listen;
    let (running, inside, leave) = start_with_stall(config);
    let mut client = client(&running);
    client.send(Message::text(r#"{"type":"stall"}"#)).unwrap();
    inside.recv_timeout(PATIENCE).unwrap();
    // Each twice: those who look for the same wait for one another.
    let all = || {
        let asked = PATHS.iter().chain(&PATHS).map(|path| thread::spawn(move || (path, get_with(api, path, key))));
        asked.collect::<Vec<_>>().into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    };
    for (path, (status, answer)) in all() {
        // A list that begins with the other core has its first part.
        assert!(status == 503 && answer["code"] == "busy" || answer["next"].is_string(), "{path}: {status} {answer}");
    }
    // The end is not held up by what is late: what the others say is the answer.
    running.handle().drain_with(Drain { spread: PATIENCE, patience: PATIENCE, ..Drain::default() });
    for (path, (status, answer)) in all() {
        assert_eq!(status, 200, "{path}: {answer}");
    }
    leave.send(()).unwrap();
    drop(client);
    running.join().unwrap();
}

#[test]
fn a_handler_leaves_to_the_control_thread_what_has_to_wait() {
    let running = start(Server::new(config()).on("ask", |call| {
        let (to, handle) = (call.context().id(), call.context().handle().clone());
        call.spawn(async move {
            let thread = thread::current();
            handle.send(to, thread.name().unwrap_or_default()).unwrap();
        })
    }));
    let mut client = client(&running);
    client.send(Message::text(r#"{"type":"ask"}"#)).unwrap();
    assert_eq!(client.read().unwrap().into_text().unwrap(), "crore-control");
    running.handle().drain(Duration::ZERO);
    running.join().unwrap();
}

// capability: 29 82
#[test]
fn the_second_listener_ends_with_the_last_core() {
    let config = config();
    let api = config.api.listen;
    let running = start(Server::new(config));
    assert_eq!(get(api, "/readyz"), (200, json!({"status": "ready"})));
    running.handle().drain(Duration::ZERO);
    running.join().unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while TcpStream::connect(api).is_ok() {
        assert!(std::time::Instant::now() < deadline, "somebody still listens");
        thread::sleep(Duration::from_millis(10));
    }
}
