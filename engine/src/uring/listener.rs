//! The listener of one worker: its own socket on the shared port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::UNSENT_BYTES_MAX;

/// A listening socket. With `SO_REUSEPORT` every worker has one on the same address, and the kernel
/// spreads the connections over them (`socket(7)`).
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    const BACKLOG: i32 = 65_535;

    /// Looks at a port that is taken, before it is given up. The kernel takes down the rings of a
    /// killed process, and their listeners with them, 10 to 50 ms after the process has gone (Linux
    /// 6.18); a successor that is started at once meets them.
    const PORT_LOOKS_MAX: u32 = 100;

    /// Between two looks.
    const PORT_LOOK_INTERVAL: Duration = Duration::from_millis(10);

    /// Binds and listens. With port 0 the kernel chooses; see [`Self::address`].
    ///
    /// # Errors
    /// The address is in use, not of this host, or not permitted.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit both: fewer system calls for each connection.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        socket.bind(&address.into())?;
        socket.listen(Self::BACKLOG)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a listener's address is not an IP address"))?;
        Ok(Self { socket, address })
    }

    /// Makes sure that nobody listens on `address`, which `SO_REUSEPORT` would share without a word.
    /// Waits a second for one that is about to go.
    ///
    /// # Errors
    /// Somebody listens there (`EADDRINUSE`), or the address can't be bound for another reason.
    pub fn check_free(address: SocketAddr) -> io::Result<()> {
        let mut looks = 0;
        loop {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            match socket.bind(&address.into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && looks < Self::PORT_LOOKS_MAX => {
                    looks += 1;
                    thread::sleep(Self::PORT_LOOK_INTERVAL);
                }
                outcome => return outcome,
            }
        }
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
