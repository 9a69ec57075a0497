//! The program as a service: what it tells systemd, and what the doctor foretells of it.

mod program;

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::Value;
use tungstenite::WebSocket;

use program::{PATIENCE, Program};

fn terminate(program: &Program) {
    assert!(Command::new("kill").arg(program.child.id().to_string()).status().unwrap().success());
}

/// A shell that becomes the program under a limit of so many descriptors.
fn limited(descriptors: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "bash", env!("CARGO_BIN_EXE_crore")]);
    command.args(arguments);
    command
}

#[test]
fn systemd_hears_of_the_start_of_life_and_of_the_end() {
    let directory = std::env::temp_dir().join(format!("crore-notify-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).expect("the program says something");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut program = Program::run(
        Command::new(env!("CARGO_BIN_EXE_crore"))
            .args(["--listen", "127.0.0.1:0", "--cores", "2"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000")
            .env("CRORE_LOG_LEVEL", "error"),
    );
    let ready = hear();
    assert!(ready.starts_with("READY=1\nSTATUS=listening on 127.0.0.1:"), "{ready}");
    let address: SocketAddr = ready.split(['\n', ',', ' ']).find_map(|word| word.parse().ok()).unwrap();
    for _ in 0..3 {
        assert!(hear().ends_with("WATCHDOG=1\n"));
    }
    let (_client, _) = tungstenite::client("ws://localhost/ws", TcpStream::connect(address).unwrap()).unwrap();
    while !hear().contains(", 1 of ") {}
    terminate(&program);
    let stopping = loop {
        let heard = hear();
        if !heard.contains("WATCHDOG") {
            break heard;
        }
    };
    assert_eq!(stopping, "STOPPING=1\nSTATUS=draining 1 connections\n");
    drop(_client);
    assert!(program.child.wait().unwrap().success());
    std::fs::remove_dir_all(directory).unwrap();
}

/// What the doctor says of a process with so many descriptors.
fn foretold(descriptors: u32, kind: &str) -> Value {
    let output = limited(descriptors, &["doctor", "--connections", "10", "--json", "--cores", "1"])
        .env("CRORE_DESCRIPTORS", kind)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).expect("JSON")
}

// capability: 28
#[test]
fn the_server_holds_exactly_as_many_connections_as_the_doctor_foretells() {
    for kind in ["regular", "auto"] {
        let report = foretold(400, kind);
        let most = report["connections_max"].as_u64().unwrap();
        assert_eq!(report["bounds"][0]["name"], "nofile");
        assert!((100..400).contains(&most), "{report}");
        let (program, address) = Program::serve(
            limited(400, &["--listen", "127.0.0.1:0", "--cores", "1"])
                .env("CRORE_DESCRIPTORS", kind)
                .env("CRORE_LIMITS_CONNECTIONS_PER_USER_MAX", "1000"),
        );
        let open = || -> Option<WebSocket<TcpStream>> {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Some(tungstenite::client("ws://localhost/ws", stream).ok()?.0)
        };
        let clients: Vec<_> = (0..most + 50).filter_map(|_| open()).collect();
        assert_eq!(clients.len() as u64, most, "{kind}");
        drop(program);
    }
}

// capability: 28
#[test]
fn the_exit_code_is_the_verdict() {
    let code = |connections: &str| {
        let output = limited(400, &["doctor", "--connections", connections]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (failed, text) = code("100000000");
    assert_eq!(failed, Some(2));
    assert!(text.contains("FAIL  nofile"), "{text}");
    // Whether one connection is free of warnings depends on the machine.
    let (fine, text) = code("1");
    assert!(matches!(fine, Some(0 | 1)), "{text}");
    assert_eq!(limited(400, &["doctor"]).output().unwrap().status.code(), Some(2));
}
