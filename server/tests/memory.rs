//! Memory of the program, as the kernel counts it: what a burst has taken comes back, and what an idle user takes is
//! little.

mod program;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use program::{PATIENCE, Program};

/// Connections of the burst; [`CONNECTIONS_VARIABLE`] sets another number. 2 MB are needed for each, and as much of what
/// the kernel allows to all sockets (`net.ipv4.tcp_mem`): past that it drops segments, and connections stand still.
const CONNECTIONS: usize = 100;

const CONNECTIONS_VARIABLE: &str = "CRORE_TEST_CONNECTIONS";

/// Bytes of the data in one message: with the rest of it a little less than a server takes by default.
const DATA_BYTES: usize = 1_000_000;

/// The program's cores: memory that one of them has taken and another gives back is to come back, too.
const CORES: &str = "2";

/// Connections that the second weighing has more than the first: each byte of a connection is one of 4,000 here, and a
/// page that was touched by chance little.
const IDLE_CONNECTIONS: usize = 4_000;

/// Those of the first weighing: what is taken once has been taken.
const IDLE_CONNECTIONS_BEFORE: usize = 2_000;

/// Bytes of the process that an idle connection of a user with a token may take. A quarter of it is the engine's.
const IDLE_BYTES_MAX: usize = 350;

const SECRET: &str = "a secret of more than thirty-two bytes";

/// How long resident memory must not change by a hundredth to be at rest: the core's three trims, and one to spare.
const REST: Duration = Duration::from_secs(4);

type Client = WebSocket<TcpStream>;

fn connections() -> usize {
    let number = std::env::var(CONNECTIONS_VARIABLE);
    number.map_or(CONNECTIONS, |number| number.parse().expect("a number of connections"))
}

fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut client, _) = tungstenite::client("ws://localhost/ws", stream).unwrap();
    assert_eq!(hear_type(&mut client), "welcome");
    client
}

/// The next message. Of the pings, which are spread over their interval, few come early.
fn hear(client: &mut Client) -> Message {
    loop {
        match client.read().unwrap() {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

/// The type of the next message.
fn hear_type(client: &mut Client) -> String {
    let message: Value = serde_json::from_str(hear(client).to_text().unwrap()).unwrap();
    message["type"].as_str().unwrap().to_owned()
}

/// A token of a user that is good for as long as any test takes.
fn token(user: &str) -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_hours(24);
    let claims = json!({"user_id": user, "exp": expires.as_secs()});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

/// A user who is told who it is and says nothing. Only the socket is kept, which takes the least of the test's memory.
fn idle_user(address: SocketAddr, user: usize) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://localhost/ws?token={}", token(&format!("user {user:08}")));
    let (mut client, _) = tungstenite::client(url, stream).unwrap();
    for expected in ["authenticated", "welcome"] {
        assert_eq!(hear_type(&mut client), expected);
    }
    client.get_ref().try_clone().unwrap()
}

fn subscribe(client: &mut Client, channel: &str) {
    client.send(Message::text(json!({"type": "subscribe", "channel": channel}).to_string())).unwrap();
    assert_eq!(hear_type(client), "subscribed");
}

/// A publication of a megabyte as a client's frame. Its mask is of zeros, so that it is what it looks like.
fn publication(channel: &str) -> Vec<u8> {
    let data = "x".repeat(DATA_BYTES);
    let message = format!(r#"{{"type":"message","channel":"{channel}","data":"{data}"}}"#);
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend((message.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(message.as_bytes());
    frame
}

fn hear_publication(client: &mut Client) {
    let heard = hear(client).into_text().unwrap();
    assert!(heard.starts_with(r#"{"type":"message""#) && heard.len() > DATA_BYTES, "{} bytes", heard.len());
}

/// Bytes that are resident: `smaps_rollup` walks the page tables, and is exact (`proc_pid_smaps(5)`).
fn resident_bytes(program: &Program) -> usize {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", program.child.id())).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("smaps_rollup has the sum");
    line.trim().strip_suffix(" kB").and_then(|number| number.parse::<usize>().ok()).expect("in kB") * 1024
}

/// Bytes that the server says to hold of a class.
fn held_bytes(address: SocketAddr, class: &str) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    let name = format!("crore_connection_memory_bytes{{class=\"{class}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("the metric");
    value.parse().expect("a number of bytes")
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Resident bytes once they have come to rest.
fn at_rest(program: &Program) -> usize {
    let (mut last, mut since) = (resident_bytes(program), Instant::now());
    wait_until("memory comes to rest", || {
        let now = resident_bytes(program);
        if now.abs_diff(last) > last / 100 {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() >= REST
    });
    last
}

#[test]
fn after_a_burst_to_every_connection_memory_is_back_within_five_percent() {
    let connections = connections();
    let (program, address) = Program::serve(
        Command::new(env!("CARGO_BIN_EXE_crore"))
            .args(["--listen", "127.0.0.1:0", "--cores", CORES])
            // It would be a setting that does not exist.
            .env_remove(CONNECTIONS_VARIABLE)
            .env("CRORE_HTTP_METRICS", "true")
            .env("CRORE_LIMITS_CONNECTIONS_PER_USER_MAX", "1000000")
            // Nobody reads between the steps, and so nobody answers pings. On a busy machine all of it takes long.
            .env("CRORE_LIMITS_PING_INTERVAL", "1h")
            .env("CRORE_LIMITS_HANDSHAKE_TIMEOUT", "1h"),
    );
    let mut clients: Vec<Client> = (0..connections).map(|_| connect(address)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        subscribe(client, &format!("own:{index}"));
        subscribe(client, "all");
    }
    let before = at_rest(&program);
    let most = connections * DATA_BYTES / 10 * 8;

    // From the clients: nine tenths of a message from each are held until the last of it has come.
    for (index, client) in clients.iter_mut().enumerate() {
        let frame = publication(&format!("own:{index}"));
        client.get_mut().write_all(&frame[..frame.len() / 10 * 9]).unwrap();
    }
    wait_until("most of each message is there", || held_bytes(address, "partial") >= most);
    let at_most = resident_bytes(&program);
    assert!(at_most >= before + most, "{before} bytes before, {at_most} with most of each message");

    // To the clients: each has its own message to read and does not yet; the kernel has taken some of it.
    for (index, client) in clients.iter_mut().enumerate() {
        let frame = publication(&format!("own:{index}"));
        client.get_mut().write_all(&frame[frame.len() / 10 * 9..]).unwrap();
    }
    wait_until("most of each message waits", || {
        held_bytes(address, "outbox") >= most / 4 && held_bytes(address, "partial") < DATA_BYTES
    });
    clients.iter_mut().for_each(hear_publication);

    // To all clients: one message that all of them share. The kernel may have room for it by now: their windows have grown.
    wait_until("nothing waits", || held_bytes(address, "outbox") < DATA_BYTES);
    clients[0].get_mut().write_all(&publication("all")).unwrap();
    clients.iter_mut().for_each(hear_publication);

    let after = at_rest(&program);
    println!("{connections} connections: {before} bytes before, {at_most} in the burst, {after} after it");
    assert!(after <= before + before / 20, "{before} bytes before, {after} after");
}

// capability: 28
#[test]
fn an_idle_user_takes_three_hundred_and_fifty_bytes_at_most() {
    // Each user is a descriptor of this process, and of the program where it has no direct ones.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let (program, address) = Program::serve(
        Command::new(env!("CARGO_BIN_EXE_crore"))
            .args(["--listen", "127.0.0.1:0", "--cores", CORES])
            .env_remove(CONNECTIONS_VARIABLE)
            .env("CRORE_AUTH_MODE", "required")
            .env("CRORE_AUTH_SECRET", SECRET)
            // Nobody answers pings, and a busy machine takes long for a handshake.
            .env("CRORE_LIMITS_PING_INTERVAL", "1h")
            .env("CRORE_LIMITS_HANDSHAKE_TIMEOUT", "1h"),
    );
    let mut users: Vec<TcpStream> = (0..IDLE_CONNECTIONS_BEFORE).map(|user| idle_user(address, user)).collect();
    let before = at_rest(&program);
    users.extend((users.len()..users.len() + IDLE_CONNECTIONS).map(|user| idle_user(address, user)));
    let after = at_rest(&program);
    let each = after.saturating_sub(before) / IDLE_CONNECTIONS;
    println!(
        "{before} bytes with {IDLE_CONNECTIONS_BEFORE} users, {after} with {} more: {each} each",
        IDLE_CONNECTIONS
    );
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes for each");
    assert!(each >= size_of::<u64>(), "{each} bytes can't be all: the weighing has missed them");
}
