//! The program as its users have it: a process of its own.

use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Far longer than anything here takes; it only keeps a failing test from waiting for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program at work; killed if the test ends before it does.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// What it says after its address. Not every test reads it, but it has to go somewhere.
    #[allow(dead_code)]
    pub(crate) log: Option<Lines<BufReader<ChildStderr>>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Runs a command that becomes the program.
    pub(crate) fn run(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap(), log: None }
    }

    /// Runs a command that becomes the server, until that says where it listens.
    pub(crate) fn serve(command: &mut Command) -> (Self, SocketAddr) {
        let mut program = Self::run(command.env("CRORE_LOG_FORMAT", "json").stderr(Stdio::piped()));
        let mut log = BufReader::new(program.child.stderr.take().unwrap()).lines();
        let address = log.find_map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            Some(event["address"].as_str()?.parse().unwrap())
        });
        program.log = Some(log);
        (program, address.expect("the server starts"))
    }
}
