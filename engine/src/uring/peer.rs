//! The address of a socket's peer: `getpeername(2)` for a regular descriptor, and for a direct one, on which there is
//! no such call, the socket option `SO_PEERNAME` through the ring.
//!
//! The kernel answers `SOCKET_URING_OP_GETSOCKOPT` (Linux 6.7) while it takes the request, so that the answer comes
//! before those of all requests that are submitted after it.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use crate::driver::{Errno, Token};

/// `SO_PEERNAME` of `asm-generic/socket.h`, which all architectures that io_uring's users have share but those that
/// number socket options in their own way (MIPS, PA-RISC, SPARC).
const SO_PEERNAME: u32 = libc::SO_PEERNAME as u32;

/// `SOCKET_URING_OP_GETSOCKOPT` of `linux/io_uring.h`.
const GETSOCKOPT: u32 = 2;

/// Bytes of an IPv4 address with its port and family (`ip(7)`).
const V4_BYTES: u32 = 16;

/// The same for IPv6 (`ipv6(7)`).
const V6_BYTES: u32 = 28;

/// The offset of `cmd_op` in a submission entry (`struct io_uring_sqe`).
const COMMAND_OFFSET: usize = 8;

const _: () = {
    assert!(
        size_of::<libc::sockaddr_in>() == V4_BYTES as usize && size_of::<libc::sockaddr_in6>() == V6_BYTES as usize
    );
    assert!(size_of::<squeue::Entry>() == 64, "an entry is the kernel's own structure");
};

/// Where the kernel writes an address to.
#[repr(C, align(8))]
pub(super) struct PeerName([u8; V6_BYTES as usize]);

/// A question that the kernel has not answered: whose, and where the answer goes.
pub(super) struct Asked {
    token: Token,
    name: Box<PeerName>,
}

impl Asked {
    pub(super) fn new(token: Token) -> Self {
        Self { token, name: Box::new(PeerName([0; V6_BYTES as usize])) }
    }

    /// The request for it on a direct descriptor. The option has the family's exact length: the kernel refuses to
    /// write less than it is asked for (`sk_getsockopt`). The answer is at its place until the completion.
    pub(super) fn request(&mut self, slot: types::Fixed, v6: bool) -> squeue::Entry {
        let bytes = if v6 { V6_BYTES } else { V4_BYTES };
        let place = (&raw mut *self.name).cast();
        let mut entry = opcode::SetSockOpt::new(slot, libc::SOL_SOCKET as u32, SO_PEERNAME, place, bytes).build();
        // SAFETY: an entry is the 64 bytes of the kernel's structure (`repr(C)`), aligned to 8, in which the command
        // is a number of 4 bytes at this offset. Only this number tells the two commands apart.
        unsafe { (&raw mut entry).byte_add(COMMAND_OFFSET).cast::<u32>().write(GETSOCKOPT) };
        entry
    }

    /// Whose it was, and the answer, once the kernel has given it.
    pub(super) fn answer(self, result: Result<u32, Errno>) -> (Token, Option<SocketAddr>) {
        (self.token, result.ok().and_then(|_| self.name.address()))
    }
}

/// The address of the peer of a regular descriptor; `None` if the peer has gone for good.
pub(super) fn of_descriptor(descriptor: RawFd) -> Option<SocketAddr> {
    let mut name = MaybeUninit::new(PeerName([0; V6_BYTES as usize]));
    let mut bytes: libc::socklen_t = V6_BYTES;
    // SAFETY: the kernel writes at most `bytes` bytes, as many as the place has.
    let outcome = unsafe { libc::getpeername(descriptor, name.as_mut_ptr().cast(), &raw mut bytes) };
    // SAFETY: all of its bytes were there before the call.
    let name = unsafe { name.assume_init() };
    (outcome == 0).then(|| name.address()).flatten()
}

impl PeerName {
    /// Reads `struct sockaddr_in` or `struct sockaddr_in6`: family and scope as the processor has them, port and flow
    /// in network order.
    fn address(&self) -> Option<SocketAddr> {
        let Self(bytes) = self;
        let part = |range: std::ops::Range<usize>| &bytes[range];
        let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        match i32::from(family) {
            libc::AF_INET => {
                let ip: [u8; 4] = part(4..8).try_into().ok()?;
                Some(SocketAddr::from((Ipv4Addr::from(ip), port)))
            }
            libc::AF_INET6 => {
                let flow = u32::from_be_bytes(part(4..8).try_into().ok()?);
                let ip: [u8; 16] = part(8..24).try_into().ok()?;
                let scope = u32::from_ne_bytes(part(24..28).try_into().ok()?);
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn both_families_are_read() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().unwrap();
            assert_eq!(of_descriptor(socket.as_raw_fd()), Some(peer.local_addr().unwrap()));
        }
        assert_eq!(of_descriptor(-1), None);
        assert_eq!(PeerName([0; 28]).address(), None, "nothing was written");
    }
}
