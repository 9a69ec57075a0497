//! The verbs of a worker on the kernel of a seed, and what a worker owes it: no two requests of one kind on a
//! socket, none on a socket that it has closed, and no close while a request is in flight.

use std::io;
use std::time::Duration;

use crore_engine::driver::{BufferId, Completion, Driver, Outgoing, PeerAddress, Shutdown, Socket, Token};
use crore_engine::limits::RECEIVE_BUFFER_BYTES;

use super::kernel::{Kernel, Request};
use super::socket::{PEER, SEND, SHUTDOWN, WATCH, address_of};
use super::world::errno;

impl Driver for Kernel {
    fn accept(&mut self) {
        self.push(Request::Accept);
    }

    fn stop_accepting(&mut self) {
        self.push(Request::StopAccepting);
    }

    fn peer_address(&mut self, socket: Socket, token: Token) -> PeerAddress {
        self.begin(socket, PEER, "peer");
        if self.world.borrow().plan.direct {
            self.push(Request::Peer(socket, token));
            return PeerAddress::Follows;
        }
        let world = &mut *self.world.borrow_mut();
        let peer = world.descriptors[socket.0 as usize].expect("open");
        world.connections[peer].busy[PEER] = false;
        PeerAddress::Known(Some(address_of(peer)))
    }

    fn poll(&mut self, socket: Socket, token: Token) {
        self.begin(socket, WATCH, "poll");
        self.push(Request::Poll(socket, token));
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.begin(socket, WATCH, "receive");
        self.receiving.insert(token.value());
        assert!(self.receiving.len() <= self.buffers.count(), "receives that no buffer can be free for");
        self.push(Request::Receive(socket, token));
    }

    fn receive_multishot(&mut self, socket: Socket, token: Token) {
        self.begin(socket, WATCH, "multishot");
        self.push(Request::ReceiveMultishot(socket, token));
    }

    fn cancel(&mut self, token: Token) {
        self.push(Request::Cancel(token));
    }

    fn send(&mut self, socket: Socket, token: Token, outgoing: Outgoing) {
        assert!(!outgoing.is_empty(), "a send of nothing");
        self.begin(socket, SEND, "send");
        self.push(Request::Send(socket, token, outgoing));
    }

    fn shutdown(&mut self, socket: Socket, token: Token, how: Shutdown) -> bool {
        self.begin(socket, SHUTDOWN, "shutdown");
        if self.world.borrow().plan.direct {
            self.push(Request::Shutdown(socket, token, how));
            return true;
        }
        // What is queued begins first; the system call itself takes no time.
        self.enter_once();
        let world = &mut *self.world.borrow_mut();
        let peer = world.descriptors[socket.0 as usize].expect("open");
        let connection = &mut world.connections[peer];
        connection.shut_write = true;
        connection.shut_read |= how == Shutdown::Both;
        connection.busy[SHUTDOWN] = false;
        false
    }

    fn close(&mut self, socket: Socket) {
        if std::thread::panicking() {
            // The run has failed. A worker that unwinds closes what it has, and a second panic would hide the first.
            return;
        }
        {
            let world = &mut *self.world.borrow_mut();
            let peer = world.descriptors[socket.0 as usize].expect("the descriptor is open");
            world.trace.note("close", peer, 0);
            let connection = &mut world.connections[peer];
            assert!(!std::mem::replace(&mut connection.closing, true), "closed twice");
            // A ring that fails takes its requests with it.
            let in_flight = connection.busy != [false; 4] || connection.posted > 0;
            assert!(!in_flight || world.ring_failed, "closed under a request");
        }
        self.push(Request::Close(socket));
    }

    fn tick(&mut self, after: Duration) {
        self.push(Request::Tick(after));
    }

    fn enter(&mut self) -> io::Result<()> {
        if std::thread::panicking() {
            return Ok(());
        }
        if self.world.borrow().ring_failed {
            self.fail();
            return Err(io::Error::from_raw_os_error(errno::EBADF));
        }
        self.enter_once();
        self.exhausted = false;
        Ok(())
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let Some(posted) = self.collected.pop_front() else {
            if !std::mem::replace(&mut self.exhausted, true) {
                self.world.borrow_mut().oracle.worker_takes_commands();
            }
            return None;
        };
        self.note_seen(&posted);
        Some(posted.completion)
    }

    fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    fn has_completions(&mut self) -> bool {
        self.is_behind()
    }

    fn is_behind(&self) -> bool {
        !self.collected.is_empty() || !self.overflow.is_empty() || self.world.borrow().has_work()
    }

    fn bytes(&mut self, buffer: &BufferId) -> &mut [u8] {
        self.buffers.bytes(buffer)
    }

    fn release(&mut self, buffer: BufferId) {
        self.buffers.release(buffer);
        self.world.borrow_mut().buffers_free = self.buffers.free();
    }

    fn buffers_free(&self) -> usize {
        self.buffers.free()
    }

    fn receive_pool_bytes(&self) -> usize {
        self.buffers.count() * RECEIVE_BUFFER_BYTES
    }

    fn trim(&mut self) {}
}
