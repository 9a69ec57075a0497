//! SIGHUP: the configuration is read again while clients are connected.

mod program;

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use program::{PATIENCE, Program};

/// A server with a configuration file; both are gone when the test ends.
struct Host {
    program: Program,
    address: SocketAddr,
    file: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

impl Host {
    fn start(name: &str, text: &str) -> Self {
        Self::start_with(name, text, |_| {})
    }

    fn start_with(name: &str, text: &str, more: impl FnOnce(&mut Command)) -> Self {
        let file = std::env::temp_dir().join(format!("crore-reload-{}-{name}.toml", std::process::id()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_crore"));
        more(command.args(["--cores", "2", "--config"]).arg(&file));
        fs::write(&file, text).unwrap();
        let (mut program, address) = Program::serve(&mut command);
        // The last of what it says at its start.
        let said = program.log.as_mut().unwrap().next().unwrap().unwrap();
        assert!(said.contains("in a browser"), "{said}");
        Self { program, address, file }
    }

    fn hang_up(&self) {
        let id = self.program.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// Rewrites the file, and returns what is logged until that has been dealt with.
    fn reload(&mut self, text: &str) -> Vec<Value> {
        fs::write(&self.file, text).unwrap();
        self.hang_up();
        let mut events = Vec::new();
        for line in self.program.log.as_mut().unwrap() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let message = event["message"].as_str().unwrap().to_owned();
            events.push(event);
            if message.starts_with("the configuration ") {
                return events;
            }
        }
        panic!("the server has ended: {events:?}");
    }

    fn client(&self) -> Client {
        self.named(None)
    }

    fn named(&self, user: Option<&str>) -> Client {
        Client::open(self.address, user)
    }
}

struct Client(WebSocket<TcpStream>);

impl Client {
    fn open(address: SocketAddr, user: Option<&str>) -> Self {
        let mut request = "ws://localhost/ws".into_client_request().unwrap();
        if let Some(user) = user {
            request.headers_mut().insert("X-User-ID", user.parse().unwrap());
        }
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(tungstenite::client(request, stream).unwrap().0)
    }

    /// The next message; the client answers pings by itself.
    fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.0.send(Message::text(message.to_string())).unwrap();
        self.next()
    }
}

/// The settings of the events that say this.
fn settings<'e>(events: &'e [Value], said: &str) -> Vec<&'e str> {
    let events = events.iter().filter(|event| event["message"].as_str().unwrap().starts_with(said));
    events.filter_map(|event| event["setting"].as_str()).collect()
}

const FIRST: &str = "listen = \"127.0.0.1:0\"\n[welcome]\nmessage = \"one\"\n";

#[test]
fn what_can_be_changed_is_and_what_can_not_is_named() {
    let mut host = Host::start("change", FIRST);
    let mut early = host.client();
    assert_eq!(early.next()["message"], "one");
    let second = "listen = \"127.0.0.1:1\"\n[welcome]\nmessage = \"two\"\n[clients]\nbroadcast = false\n\
                  [limits]\njson_depth_max = 2\nmessage_bytes_max = 100\n[http]\nmetrics = true\n";
    let events = host.reload(second);
    let changed = ["http.metrics", "welcome.message", "clients.broadcast", "limits.json_depth_max"];
    assert_eq!(settings(&events, "changed"), changed, "{events:?}");
    assert_eq!(settings(&events, "has another value"), ["listen", "limits.message_bytes_max"], "{events:?}");
    // On both cores, since any may have the connection.
    for _ in 0..8 {
        assert_eq!(host.client().next()["message"], "two");
    }
    // For those who are there as well.
    assert_eq!(early.ask(&json!({"type": "broadcast", "data": 1}))["code"], "forbidden");
    assert_eq!(early.ask(&json!({"type": "ping", "data": [[[1]]]}))["type"], "error");
    // What needs a restart is named again, and goes on as it was.
    let events = host.reload(second);
    assert_eq!(settings(&events, "changed"), [""; 0], "{events:?}");
    assert_eq!(settings(&events, "has another value"), ["listen", "limits.message_bytes_max"], "{events:?}");
    let long = "x".repeat(200);
    assert_eq!(early.ask(&json!({"type": "ping", "data": long}))["type"], "pong");
    // A file that is back to what it was leaves nothing to be named.
    let events = host.reload(FIRST);
    assert_eq!(settings(&events, "changed"), changed);
    assert_eq!(settings(&events, "has another value"), [""; 0]);
    assert_eq!(host.client().next()["message"], "one");
}

#[test]
fn a_configuration_with_an_error_changes_nothing() {
    let mut host = Host::start("error", FIRST);
    let events = host.reload("listen = \"127.0.0.1:0\"\n[welcome]\nmessage = \"two\"\n[clients]\nprivat = false\n");
    let said: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    let place =
        format!("{}:5: there is no setting `clients.privat`; the nearest is `clients.private`", host.file.display());
    assert_eq!(said[0], place);
    assert!(said[1].contains("nothing has been changed"), "{said:?}");
    assert_eq!(events[0]["level"], "ERROR");
    assert_eq!(host.client().next()["message"], "one");
    fs::remove_file(&host.file).unwrap();
    host.hang_up();
    let line = host.program.log.as_mut().unwrap().next().unwrap().unwrap();
    assert!(line.contains("can't be read"), "{line}");
    assert_eq!(host.client().next()["message"], "one");
}

#[test]
fn users_are_known_across_a_reload() {
    let text = "listen = \"127.0.0.1:0\"\n[identity]\ntrust_user_header = true\n";
    let mut host = Host::start("users", text);
    let mut ann = host.named(Some("ann"));
    assert_eq!(ann.next()["user_id"], "ann");
    host.reload(&format!("{text}[limits]\nconnections_per_user_max = 1\n"));
    assert_eq!(host.named(Some("ann")).next()["code"], "too_many_connections");
    let mut bob = host.named(Some("bob"));
    assert_eq!(bob.next()["user_id"], "bob");
    assert_eq!(bob.ask(&json!({"type": "private", "to": "ann", "data": 7}))["data"], json!({"delivered": 1}));
    assert_eq!(ann.next()["data"], 7);
}

const WITH_HISTORY: &str = "listen = \"127.0.0.1:0\"\n[[channels]]\npattern = \"c:*\"\nhistory = 1000\n";

/// Reads messages of a channel, and comes back again and again to where it was, until it is told to stop. Returns how
/// often it was told that it has missed nothing, and how often that it has.
fn come_back(host: SocketAddr, channel: &str, stop: &AtomicBool) -> (u32, u32) {
    let (mut told, mut next, mut place) = ((0, 0), HashMap::new(), None);
    let mut is_over = false;
    while !is_over {
        is_over = stop.load(Ordering::Relaxed);
        let mut client = Client::open(host, None);
        client.next();
        let mut subscribe = json!({"type": "subscribe", "channel": channel});
        if let Some(place) = &place {
            subscribe["recover"] = Value::clone(place);
        }
        let reply = client.ask(&subscribe);
        let recovered = place.is_some() && reply["data"]["recovered"] == true;
        told = if recovered { (told.0 + 1, told.1) } else { (told.0, told.1 + 1) };
        if !recovered {
            next.clear();
        }
        place = position(&reply["data"]);
        for _ in 0..20 {
            let message = client.next();
            if message["type"] != "message" {
                continue;
            }
            let [publisher, number] = [0, 1].map(|index| message["data"][index].as_u64().unwrap());
            let expected = next.insert(publisher, number + 1);
            assert!(expected.is_none_or(|expected| expected == number), "{expected:?}, {message}, behind {reply}");
            place = position(&message);
        }
    }
    told
}

/// Where something stands in its channel, if that has a history.
fn position(value: &Value) -> Option<Value> {
    value.get("epoch").map(|epoch| json!({"epoch": epoch, "offset": value["offset"]}))
}

// capability: 69 85
#[test]
fn who_is_told_to_have_missed_nothing_has_not_while_histories_come_and_go() {
    let mut host = Host::start("histories", WITH_HISTORY);
    let (address, stop, over) = (host.address, AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        for publisher in 0..4 {
            let over = &over;
            scope.spawn(move || {
                let mut client = Client::open(address, None);
                client.next();
                for number in 0_u64.. {
                    let message = json!({"type": "publish", "id": 1, "channel": "c:1", "data": [publisher, number]});
                    assert_eq!(client.ask(&message)["data"]["published"], true);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    sleep(Duration::from_millis(1));
                }
            });
        }
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| come_back(address, "c:1", &stop))).collect();
        for _ in 0..10 {
            for text in [FIRST, WITH_HISTORY] {
                sleep(Duration::from_millis(100));
                host.reload(text);
            }
        }
        sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let told: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        over.store(true, Ordering::Relaxed);
        for told in told {
            let (recovered, missed) = told.unwrap();
            assert!(recovered > 5 && missed > 5, "{recovered} times recovered, {missed} times not");
        }
    });
}

// capability: 69 85
#[test]
fn a_channel_that_had_no_history_for_a_while_has_forgotten_the_one_before() {
    let mut host = Host::start("forgotten", WITH_HISTORY);
    let (mut publisher, mut reader) = (host.client(), host.client());
    publisher.next();
    reader.next();
    let mut publish = |number: u32| {
        let message = json!({"type": "publish", "id": 1, "channel": "c:1", "data": number});
        position(&publisher.ask(&message)["data"])
    };
    let place = publish(1).expect("the channel has a history");
    host.reload(FIRST);
    assert_eq!(publish(2), None);
    host.reload(WITH_HISTORY);
    let reply = reader.ask(&json!({"type": "subscribe", "channel": "c:1", "recover": place}));
    assert_eq!(reply["data"]["recovered"], false, "{reply}");
    assert_eq!(reader.next()["type"], "gap");
    // It goes on where less is to be kept, with what that is.
    let places = [3, 4, 5].map(|number| publish(number).unwrap());
    host.reload(&WITH_HISTORY.replace("1000", "1"));
    let mut late = host.client();
    late.next();
    let reply = late.ask(&json!({"type": "subscribe", "channel": "c:1", "recover": places[1]}));
    assert_eq!(reply["data"]["recovered"], true, "{reply}");
    assert_eq!(late.next()["data"], 5);
    let mut later = host.client();
    later.next();
    let reply = later.ask(&json!({"type": "subscribe", "channel": "c:1", "recover": places[0]}));
    assert_eq!(reply["data"]["recovered"], false, "{reply}");
}

#[test]
fn the_level_of_the_logs_can_be_changed() {
    let mut host = Host::start("level", FIRST);
    let text = "[log]\nlevel = \"debug\"\n";
    assert!(settings(&host.reload(text), "changed").contains(&"log.level"));
    // The level is the last that changes; one reload later it has.
    host.reload(text);
    let _client = host.client();
    let mut log = host.program.log.as_mut().unwrap().map(|line| line.unwrap());
    assert!(log.any(|line| line.contains("\"message\":\"open\"")), "the log has ended");
}

#[test]
fn systemd_hears_of_a_reload_and_of_its_result() {
    let path = std::env::temp_dir().join(format!("crore-reload-{}.socket", std::process::id()));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).expect("the program says something");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut host = Host::start_with("systemd", FIRST, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert!(hear().starts_with("READY=1\n"));
    let mut told = |text: &str| {
        host.reload(text);
        let reloading = hear();
        let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(since_boot.trim_end().parse::<u64>().unwrap() > 0);
        hear()
    };
    assert_eq!(
        told("listen = \"127.0.0.1:1\"\n[welcome]\nmessage = \"two\"\n"),
        "READY=1\nSTATUS=configuration read again: settings changed: 1, waiting for a restart: 1\n"
    );
    assert!(told("listen").starts_with("READY=1\nSTATUS=configuration refused"));
    fs::remove_file(path).unwrap();
}

/// Waits for a line of a log with this in it.
fn wait_for(log: &Path, said: &str) -> Value {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let text = fs::read_to_string(log).unwrap_or_default();
        // The last line may still be on its way.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        if let Some(line) = complete.lines().find(|line| line.contains(said)) {
            return serde_json::from_str(line).unwrap();
        }
        sleep(Duration::from_millis(20));
    }
    panic!("the log never says: {said}");
}

#[test]
fn who_closes_the_terminal_ends_the_server() {
    let log = std::env::temp_dir().join(format!("crore-reload-{}-terminal.log", std::process::id()));
    let command = format!("exec {} --listen 127.0.0.1:0 --cores 1 2>{}", env!("CARGO_BIN_EXE_crore"), log.display());
    let terminal = Program::run(
        Command::new("script")
            .args(["--quiet", "--command", &command, "/dev/null"])
            .env("CRORE_LOG_FORMAT", "json")
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    );
    wait_for(&log, "\"listening\"");
    drop(terminal);
    assert_eq!(wait_for(&log, "draining")["signal"], 1);
    wait_for(&log, "\"stopped\"");
    fs::remove_file(log).unwrap();
}
