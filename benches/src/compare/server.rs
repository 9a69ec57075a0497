//! The servers that can be compared, and the life of one that was started.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::catalogue::Mode;
use crate::cores::{CoreError, CoreList};

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Lines of a server's complaints that are shown when it does not start.
const LOG_LINES_SHOWN: usize = 5;

/// Why a server can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The command can't be read.
    #[error("`{0}` is no command: a quotation mark is not closed")]
    Syntax(String),
    /// The cores.
    #[error(transparent)]
    Cores(#[from] CoreError),
    /// No port, or no place for the log.
    #[error("cannot prepare the start of {name}: {source}")]
    Prepare {
        /// The server.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program is not there, or not a program.
    #[error("{name} does not start: `{command}`: {source}; is it built?")]
    Start {
        /// The server.
        name: String,
        /// What was run.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended before it accepted a connection.
    #[error("{name} ended at once ({status}): `{command}` says:\n{log}")]
    Ended {
        /// The server.
        name: String,
        /// How.
        status: std::process::ExitStatus,
        /// What was run.
        command: String,
        /// The end of what it wrote.
        log: String,
    },
    /// It does not accept connections.
    #[error("{name} does not listen on port {port} within {} s: `{command}` has to listen on 127.0.0.1:{{port}}; it says:\n{log}", START_TIMEOUT.as_secs())]
    Deaf {
        /// The server.
        name: String,
        /// The port that it was given.
        port: u16,
        /// What was run.
        command: String,
        /// The end of what it wrote.
        log: String,
    },
}

/// A server that the user names: `NAME=COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraServer {
    /// How reports call it.
    pub(crate) name: String,
    /// How it is started.
    pub(crate) command: String,
}

impl FromStr for ExtraServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && command.contains("{port}") => {
                Ok(Self { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err(format!(
                "`{text}` has to be NAME=COMMAND, with {{port}} in the command, such as uws='./echo {{port}}'"
            )),
        }
    }
}

impl Serialize for ExtraServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={}", self.name, self.command))
    }
}

/// A server that runs; it is ended when this is dropped.
pub(crate) struct RunningServer {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl RunningServer {
    /// Starts `template` on a free port, pinned to `cores`, and waits until it accepts connections.
    ///
    /// The calling thread is pinned to `cores` too from then on: a process inherits the cores of the
    /// thread that starts it, and a thread of the harness that sleeps disturbs nobody.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) fn start(name: &str, template: &str, mode: Mode, cores: &CoreList) -> Result<Self, ServerError> {
        let prepare = |source| ServerError::Prepare { name: name.to_owned(), source };
        // Another process may take the port before the server does; then the start fails, by name.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(prepare)?
            .port();
        let command = fill(template, port, mode, cores);
        let words = shlex::split(&command).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| ServerError::Syntax(command.clone()))?;
        let log = std::env::temp_dir().join(format!("crore-bench-{}-{name}.log", std::process::id()));
        let output = File::create(&log).map_err(prepare)?;
        cores.pin_thread()?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(prepare)?)
            .stderr(output)
            .spawn()
            .map_err(|source| ServerError::Start { name: name.to_owned(), command: command.clone(), source })?;
        let mut server = Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), log };
        server.wait_until_it_listens(name, command)?;
        Ok(server)
    }

    /// Process of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_listens(&mut self, name: &str, command: String) -> Result<(), ServerError> {
        let begin = Instant::now();
        loop {
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            let name = name.to_owned();
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ServerError::Ended { name, status, command, log: last_lines(&self.log) });
            }
            if begin.elapsed() > START_TIMEOUT {
                let port = self.address.port();
                return Err(ServerError::Deaf { name, port, command, log: last_lines(&self.log) });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RunningServer {
    /// Ends this one process, by its PID.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// Puts port, mode and cores in.
fn fill(template: &str, port: u16, mode: Mode, cores: &CoreList) -> String {
    template
        .replace("{port}", &port.to_string())
        .replace("{mode}", mode.name())
        .replace("{cores}", &cores.as_slice().len().to_string())
        .replace("{core}", &cores.to_string())
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if shown.is_empty() { "  (nothing)".to_owned() } else { format!("  {}", shown.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(template: &str) -> Result<RunningServer, ServerError> {
        let cores = CoreList::available();
        // Pinning is a thread's own affair; the test's thread ends with the test.
        RunningServer::start("test", template, Mode::Echo, &cores)
    }

    #[test]
    fn templates_are_filled() {
        let cores: CoreList = "0,2-3".parse().expect("a list");
        let text = fill("run {mode} --port {port} --threads {cores} --on {core}", 81, Mode::Broadcast, &cores);
        assert_eq!(text, "run broadcast --port 81 --threads 3 --on 0,2,3");
    }

    #[test]
    fn extra_servers_need_a_name_and_a_port() {
        let server: ExtraServer = "uws=./echo --port {port} --x=1".parse().expect("accepted");
        assert_eq!((server.name.as_str(), server.command.as_str()), ("uws", "./echo --port {port} --x=1"));
        for text in ["uws", "=./echo {port}", "uws=./echo 9001"] {
            assert!(text.parse::<ExtraServer>().expect_err(text).contains("NAME=COMMAND"));
        }
    }

    #[test]
    fn failures_name_the_command_and_what_it_said() {
        let error = |template| start(template).err().expect("it fails").to_string();
        let missing = error("/nonexistent/server {port}");
        assert!(missing.contains("/nonexistent/server") && missing.contains("is it built?"), "{missing}");
        let ended = error("sh -c 'echo no licence >&2; exit 3' {port}");
        assert!(ended.contains("no licence") && ended.contains("exit status: 3"), "{ended}");
        assert!(error("sh 'oops {port}").contains("quotation mark"));
    }

    #[test]
    fn a_server_that_listens_is_found_and_ended() {
        let script = "import socket,sys,time; s=socket.socket(); s.bind((\"127.0.0.1\",int(sys.argv[1]))); s.listen(); time.sleep(60)";
        let server = start(&format!("python3 -c '{script}' {{port}}")).expect("it starts");
        let (pid, address) = (server.pid(), server.address);
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(TcpStream::connect(address).is_err());
    }
}
