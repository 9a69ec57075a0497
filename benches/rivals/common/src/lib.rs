//! What the Rust rivals share, so that they differ only in the WebSocket library: the command line, the listening
//! socket and, for libraries without publish/subscribe of their own, the fan-out.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::process::exit;

mod hub;

pub use hub::{Hub, Member};

/// The largest message that a rival accepts, in bytes (64 MiB); the same for every server in a comparison.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Connections that may wait to be accepted; Linux caps it at `net.core.somaxconn`.
pub const BACKLOG_CONNECTIONS: i32 = 4096;

/// What a rival does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends it back to its sender.
    Echo,
    /// Sends it to every connected client, the sender included.
    Broadcast,
}

/// The command line: `<echo|broadcast> [--port PORT] [--defaults]`.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What to do with a message.
    pub mode: Mode,
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// Leave the library's buffer sizes as it sets them (see the README; only `tokio-tungstenite` differs).
    pub defaults: bool,
}

impl Options {
    /// Reads the process's arguments; on a mistake it prints the usage and exits with 2.
    pub fn from_args() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|| {
            eprintln!("usage: <echo|broadcast> [--port PORT] [--defaults]");
            exit(2)
        })
    }

    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mode = match args.next()?.as_str() {
            "echo" => Mode::Echo,
            "broadcast" => Mode::Broadcast,
            _ => return None,
        };
        let mut options = Self { mode, port: 9001, defaults: false };
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--port" => options.port = args.next()?.parse().ok()?,
                "--defaults" => options.defaults = true,
                _ => return None,
            }
        }
        Some(options)
    }

    /// Binds `127.0.0.1:port` and announces it on standard output, as every rival does once it can be connected to.
    ///
    /// # Errors
    /// Whatever the system says, such as `AddrInUse`: choose another `--port`.
    pub fn listen(&self) -> io::Result<TcpListener> {
        use socket2::{Domain, Protocol, Socket, Type};

        let address = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_CONNECTIONS)?;
        let listener = TcpListener::from(socket);
        println!("listening on {}", listener.local_addr()?);
        Ok(listener)
    }

    /// Runs `serve` with the listening socket on a tokio runtime of one thread.
    ///
    /// # Errors
    /// What `listen` or `serve` returns.
    pub fn run_on_tokio<F>(self, serve: impl FnOnce(tokio::net::TcpListener, Mode) -> F) -> io::Result<()>
    where
        F: Future<Output = io::Result<()>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listen()?)?;
            serve(listener, self.mode).await
        })
    }
}

/// Waits for the next connection and switches Nagle's algorithm off.
///
/// A failed accept (the client has gone, or descriptors have run out) is tried again after a pause rather than returned, so
/// that one connection too many does not end the server.
pub async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if stream.set_nodelay(true).is_ok() => return stream,
            Ok(_) => {}
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_mode_then_flags() {
        let options = parse("broadcast --port 8123").unwrap();
        assert_eq!((options.mode, options.port, options.defaults), (Mode::Broadcast, 8123, false));
        assert!(parse("echo --defaults").unwrap().defaults);
        for wrong in ["", "shout", "echo --port", "echo --port 70000", "echo --threads 2"] {
            assert!(parse(wrong).is_none(), "{wrong:?} was accepted");
        }
    }
}
