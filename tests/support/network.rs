//! A network of its own for a test that counts sockets: other processes must not be counted with it.

use std::env;
use std::process::Command;

use socket2::{Domain, Protocol, Socket, Type};

use crate::{system, wait_until};

/// Set in the process that has its own network.
const MARK: &str = "CRORE_TESTS_OWN_NETWORK";

/// Whether the process has a network of its own.
#[must_use]
pub fn is_own() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs the test called `name` of this very program again, in a network namespace of its own
/// (`unshare(1)`), and waits for it. False if the system does not allow that: run it here then.
///
/// # Panics
/// If the test fails there.
#[must_use]
pub fn run_in_own(name: &str) -> bool {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]);
        command
    };
    if is_own() {
        raise_loopback();
        return false;
    }
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        println!("no network namespace is to be had: sockets of other processes are counted, too");
        return false;
    }
    let program = env::current_exe().expect("this program");
    let status = unshare().arg(program).args(["--exact", name, "--nocapture"]).env(MARK, "1").status();
    assert!(status.expect("it has worked before").success(), "{name} has failed in a network of its own");
    true
}

/// Sets the loopback interface up, by one netlink message (`rtnetlink(7)`): iproute2 is not everywhere.
fn raise_loopback() {
    const AF_NETLINK: i32 = 16;
    const NETLINK_ROUTE: i32 = 0;
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_AND_ACK: u16 = 5;
    const LOOPBACK_INDEX: i32 = 1;
    const IFF_UP: u32 = 1;

    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence, port.
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_AND_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // struct ifinfomsg: family and type (any), index, flags, which flags change.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());

    let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)));
    let socket = socket.expect("a netlink socket");
    socket.send(&message).expect("netlink takes the message");
    let mut answer = [std::mem::MaybeUninit::uninit(); 64];
    let count = socket.recv(&mut answer).expect("netlink answers");
    assert!(count > 0, "netlink has closed");
    drop(socket);
    // A closed socket is counted until the kernel's next grace period.
    wait_until("a network without sockets", || system::sockets() == 0);
}
