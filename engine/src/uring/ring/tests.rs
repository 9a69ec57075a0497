use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::*;
use crate::uring::{DescriptorSetting, probe};

fn bell() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK).unwrap()
}

fn ring(wake: &OwnedFd, descriptors: DescriptorSetting) -> Ring {
    Ring::new(&RingConfig::new(probe(descriptors).unwrap(), 16), wake.as_fd()).unwrap()
}

#[test]
fn a_bell_that_is_rung_before_the_wait_ends_it() {
    let wake = bell();
    let mut ring = ring(&wake, DescriptorSetting::Regular);
    for _ in 0..3 {
        // An old ring is forgotten before the owner says that it will sleep, a new one comes after.
        rustix::io::write(&wake, &1u64.to_ne_bytes()).unwrap();
        ring.forget_rings(wake.as_fd());
        rustix::io::write(&wake, &1u64.to_ne_bytes()).unwrap();
        ring.wait(wake.as_fd(), Duration::from_millis(100)).unwrap();
        while ring.next_completion().is_some() {}
        assert!(!ring.in_flight.wake_armed, "the bell was not heard");
    }
    ring.forget_rings(wake.as_fd());
    ring.wait(wake.as_fd(), Duration::from_millis(1)).unwrap();
    while ring.next_completion().is_some() {}
    assert!(ring.in_flight.wake_armed, "nobody has rung");
}

#[test]
fn an_accept_that_has_ended_is_work_until_it_is_told() {
    let wake = bell();
    let mut ring = ring(&wake, DescriptorSetting::Regular);
    assert!(!ring.has_completions());
    // As with the last connection of a multishot accept, which a full turn handles as its last completion.
    ring.in_flight.note_accept_ended();
    assert!(ring.has_completions(), "the host would sleep, and nobody accept");
    assert!(matches!(ring.next_completion(), Some(Completion::AcceptEnded(None))));
    assert!(!ring.has_completions());
}

#[test]
fn what_a_dropped_ring_held_is_closed() {
    for descriptors in [DescriptorSetting::Regular, DescriptorSetting::Auto] {
        let wake = bell();
        let mut ring = ring(&wake, descriptors);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = ring.adopt(listener.accept().unwrap().0.into()).unwrap();
        ring.receive_multishot(socket, Token::new(0));
        ring.enter().unwrap();
        if ring.descriptor_kind() == DescriptorKind::Regular {
            // A descriptor of the process is its owner's to close: here the receive keeps the socket open.
            ring.close(socket);
        }
        drop(ring);
        let mut watched = [PollFd::new(&peer, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
        assert!(watched[0].revents().contains(PollFlags::IN), "{descriptors:?}: the socket is still open");
    }
}
