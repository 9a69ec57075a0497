//! Set-up of the data ring, its submissions, and the verbs of a worker on it.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::buffers::{BUFFER_GROUP, BufferPool};
use super::completion;
use super::descriptors::DescriptorKind;
use super::enter::{RingDescriptor, is_passing};
use super::listener::Listener;
use super::operation::Operation;
use super::peer::{self, Asked};
use super::probe::{Features, SetupError};
use crate::driver::{BufferId, Completion, Driver, Errno, Outgoing, PeerAddress, Shutdown, Socket, Token};
use crate::limits;

/// What a ring is made of.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// What the kernel offers, from [`probe`](super::probe()).
    pub features: Features,
    /// Sockets that the ring may hold: the size of its table of direct descriptors.
    pub sockets_max: u32,
    /// Receive buffers, a power of two.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer.
    pub receive_buffer_bytes: usize,
    /// Completions that one enter is asked to collect; 0 leaves it to the kernel (about 20).
    pub reap: u32,
}

impl RingConfig {
    /// The usual sizes, for `sockets_max` sockets.
    #[must_use]
    pub const fn new(features: Features, sockets_max: u32) -> Self {
        Self {
            features,
            sockets_max,
            receive_buffers: limits::RECEIVE_BUFFERS,
            receive_buffer_bytes: limits::RECEIVE_BUFFER_BYTES,
            reap: 0,
        }
    }
}

/// Sends that the kernel works on, with the memory that they send from, questions that it has not answered, and the
/// state of the accept.
pub(super) struct InFlight {
    sends: Slab<(Token, Outgoing)>,
    peers: Slab<Asked>,
    accept_ended: bool,
    /// The poll of [`Ring::wait`] is armed.
    wake_armed: bool,
}

impl InFlight {
    pub(super) fn finish_send(&mut self, key: Token) -> (Token, Outgoing) {
        #[expect(clippy::cast_possible_truncation, reason = "the key was a usize when the send began")]
        self.sends.remove(key.value() as usize)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the key was a usize when it was asked")]
    pub(super) fn finish_peer(&mut self, key: Token, result: Result<u32, Errno>) -> (Token, Option<SocketAddr>) {
        self.peers.remove(key.value() as usize).answer(result)
    }

    pub(super) const fn note_woken(&mut self) {
        self.wake_armed = false;
    }

    pub(super) const fn note_accept_ended(&mut self) {
        self.accept_ended = true;
    }
}

/// One io_uring with its pool of receive buffers. See [`Driver`] for its verbs.
///
/// Field order is drop order: the ring goes before the memory that its requests refer to. The pool goes with the
/// ring's own end, when no request can use it any more.
pub struct Ring {
    uring: IoUring,
    descriptor: RingDescriptor,
    collected: VecDeque<cqueue::Entry>,
    in_flight: InFlight,
    buffers: ManuallyDrop<BufferPool>,
    tick: Box<types::Timespec>,
    kind: DescriptorKind,
    /// Slots given out by [`Self::adopt`], where the ring does not accept.
    adopted: Slab<()>,
    listener: Option<Arc<Listener>>,
    reap: u32,
    last_enter_full: bool,
}

/// Completions that the kernel hands out per enter unless it is asked for more
/// (`IO_LOCAL_TW_DEFAULT_MAX`, Linux 6.13).
const KERNEL_REAP: usize = 20;

impl Ring {
    /// Makes a ring on the thread that will use it. `wake` is signalled (an eventfd) whenever
    /// completions come while [`Self::watch`] is on.
    ///
    /// # Errors
    /// The kernel refuses; the error says what to change.
    pub fn new(config: &RingConfig, wake: BorrowedFd<'_>) -> Result<Self, SetupError> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(limits::COMPLETION_ENTRIES);
        if config.features.no_submission_array {
            builder.setup_no_sqarray();
        }
        let uring: IoUring = builder.build(limits::SUBMISSION_ENTRIES).map_err(SetupError::from_setup)?;
        let buffers = BufferPool::new(config.receive_buffers, config.receive_buffer_bytes)?;
        // SAFETY: the pool's memory stays mapped until it is unregistered again (`drop`), and is
        // page aligned and as large as `count` entries.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(buffers.ring_address(), buffers.count(), BUFFER_GROUP, 0)
        }
        .map_err(SetupError::from_setup)?;
        uring.submitter().register_eventfd(wake.as_raw_fd()).map_err(SetupError::from_setup)?;
        if config.features.descriptors == DescriptorKind::Direct {
            uring.submitter().register_files_sparse(config.sockets_max).map_err(SetupError::from_setup)?;
        }
        let descriptor = RingDescriptor::register(uring.as_raw_fd());
        let mut ring = Self {
            uring,
            descriptor,
            collected: VecDeque::with_capacity(limits::TURN_COMPLETIONS_MAX),
            in_flight: InFlight { sends: Slab::new(), peers: Slab::new(), accept_ended: false, wake_armed: false },
            buffers: ManuallyDrop::new(buffers),
            tick: Box::new(types::Timespec::new()),
            kind: config.features.descriptors,
            adopted: Slab::new(),
            listener: None,
            reap: config.reap,
            last_enter_full: false,
        };
        ring.watch(false);
        Ok(ring)
    }

    /// Gives the ring the listener that [`Driver::accept`] accepts from.
    pub fn listen(&mut self, listener: Arc<Listener>) {
        debug_assert!(self.adopted.is_empty(), "a ring either accepts sockets or adopts them");
        self.listener = Some(listener);
    }

    /// Whether completions signal the eventfd: on while the host is parked, off while it runs, so
    /// that a busy worker pays nothing for being woken.
    pub fn watch(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on {
            completions.enable_eventfd();
            // The kernel looks at the flag after it has queued a completion; we look for completions
            // after this. One of the two sees the other.
            fence(Ordering::SeqCst);
        } else {
            completions.disable_eventfd();
        }
    }

    /// Forgets the rings that have been answered, so that they do not end the next [`Self::wait`] at once.
    /// To be called before the owner says that it will sleep: whoever rings after that must be heard.
    pub(crate) fn forget_rings(&self, wake: BorrowedFd<'_>) {
        if !self.in_flight.wake_armed {
            let mut count = [0; 8];
            let _ = rustix::io::read(wake, &mut count);
        }
    }

    /// Sleeps until a completion comes, somebody rings `wake`, or `patience` is over. For a host without
    /// a runtime.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(crate) fn wait(&mut self, wake: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
        if !self.in_flight.wake_armed {
            self.in_flight.wake_armed = true;
            let entry = opcode::PollAdd::new(types::Fd(wake.as_raw_fd()), libc::POLLIN as u32)
                .build()
                .user_data(Operation::Wake.user_data(Token::new(0)));
            self.push(&entry);
        }
        self.enter_and_wait(patience)
    }

    /// Takes over a connected socket: into the ring's table if it uses direct descriptors. For
    /// clients; a ring that accepts must not adopt.
    ///
    /// # Errors
    /// The ring's table is full, or the kernel refuses.
    pub fn adopt(&mut self, socket: OwnedFd) -> io::Result<Socket> {
        debug_assert!(self.listener.is_none(), "a ring either accepts sockets or adopts them");
        if self.kind == DescriptorKind::Regular {
            return socket_number(socket.into_raw_fd());
        }
        // A close of the slot's last user may still be queued; it has to come first.
        self.submit(0)?;
        let slot = self.adopted.insert(());
        let offset = u32::try_from(slot).map_err(io::Error::other)?;
        match self.uring.submitter().register_files_update(offset, &[socket.as_raw_fd()]) {
            Ok(_) => Ok(Socket(offset)),
            Err(error) => {
                self.adopted.remove(slot);
                Err(error)
            }
        }
    }

    /// Hands requests over and waits until at least one completion is there or `patience` is over.
    ///
    /// # Errors
    /// The ring is unusable.
    pub fn enter_and_wait(&mut self, patience: Duration) -> io::Result<()> {
        if !self.collected.is_empty() {
            return self.enter();
        }
        let timeout = types::Timespec::from(patience);
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        self.flush_submissions();
        match self.uring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.collect();
        Ok(())
    }

    /// The kind of descriptor in use.
    #[must_use]
    pub const fn descriptor_kind(&self) -> DescriptorKind {
        self.kind
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: every request built in this file refers only to the pool's memory, to memory that
        // `in_flight` keeps until the completion, or to `tick`, which is copied at submission; all of
        // them outlive the request (field order, and `drop`).
        if unsafe { self.uring.submission().push(entry) }.is_ok() {
            return;
        }
        // The queue is full: make room in the middle of the turn. An error other than a passing one
        // shows again in the next enter, which reports it.
        let _ = self.submit(0);
        // SAFETY: as above.
        let second = unsafe { self.uring.submission().push(entry) };
        assert!(second.is_ok(), "the kernel takes no submissions: the ring is dead");
    }

    fn push_on(&mut self, socket: Socket, build: impl FnOnce(Target) -> squeue::Entry) {
        let entry = build(Target::new(self.kind, socket));
        self.push(&entry);
    }

    fn flush_submissions(&mut self) {
        self.uring.submission().sync();
    }

    /// One `io_uring_enter(2)`. Completions are moved out at once, so that those which sends post
    /// while they are submitted never fill the kernel's queue.
    fn submit(&mut self, wait: u32) -> io::Result<()> {
        let to_submit = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        let outcome = self.descriptor.enter(to_submit, wait);
        self.collect();
        match outcome {
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn collect(&mut self) {
        let completions = self.uring.completion();
        self.last_enter_full = completions.len() >= KERNEL_REAP;
        self.collected.extend(completions);
    }
}

impl Driver for Ring {
    fn accept(&mut self) {
        self.in_flight.accept_ended = false;
        let Some(listener) = &self.listener else { return };
        let direct = self.kind == DescriptorKind::Direct;
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .allocate_file_index(direct)
            .flags(if direct { 0 } else { libc::SOCK_CLOEXEC })
            .build()
            .user_data(Operation::Accept.user_data(Token::new(0)));
        self.push(&entry);
    }

    fn stop_accepting(&mut self) {
        let accept = Operation::Accept.user_data(Token::new(0));
        let entry = opcode::AsyncCancel::new(accept).build().user_data(Operation::Unanswered.user_data(Token::new(0)));
        self.push(&entry);
        self.listener = None;
    }

    fn peer_address(&mut self, socket: Socket, token: Token) -> PeerAddress {
        match Target::new(self.kind, socket) {
            Target::Regular(fd) => PeerAddress::Known(peer::of_descriptor(fd.0)),
            Target::Direct(slot) => {
                let v6 = self.listener.as_ref().is_some_and(|listener| listener.address().is_ipv6());
                let vacant = self.in_flight.peers.vacant_entry();
                let key = Token::new(vacant.key() as u64);
                // The place stays where it is when the slab grows: it lies behind a pointer.
                let entry = vacant.insert(Asked::new(token)).request(slot, v6);
                self.push(&entry.user_data(Operation::Peer.user_data(key)));
                PeerAddress::Follows
            }
        }
    }

    fn poll(&mut self, socket: Socket, token: Token) {
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        self.push_on(socket, |target| {
            match target {
                Target::Regular(fd) => opcode::PollAdd::new(fd, events).build(),
                Target::Direct(slot) => opcode::PollAdd::new(slot, events).build(),
            }
            .user_data(Operation::Poll.user_data(token))
        });
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        let none = std::ptr::null_mut();
        self.push_on(socket, |target| {
            match target {
                Target::Regular(fd) => {
                    opcode::Recv::new(fd, none, 0).buf_group(BUFFER_GROUP).flags(libc::MSG_DONTWAIT).build()
                }
                Target::Direct(slot) => {
                    opcode::Recv::new(slot, none, 0).buf_group(BUFFER_GROUP).flags(libc::MSG_DONTWAIT).build()
                }
            }
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(Operation::Receive.user_data(token))
        });
    }

    fn receive_multishot(&mut self, socket: Socket, token: Token) {
        self.push_on(socket, |target| {
            match target {
                Target::Regular(fd) => opcode::RecvMulti::new(fd, BUFFER_GROUP).build(),
                Target::Direct(slot) => opcode::RecvMulti::new(slot, BUFFER_GROUP).build(),
            }
            .user_data(Operation::ReceiveMultishot.user_data(token))
        });
    }

    fn cancel(&mut self, token: Token) {
        let receive = Operation::ReceiveMultishot.user_data(token);
        let entry = opcode::AsyncCancel::new(receive)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Operation::Unanswered.user_data(token));
        self.push(&entry);
    }

    fn send(&mut self, socket: Socket, token: Token, outgoing: Outgoing) {
        let (address, bytes) = match &outgoing {
            Outgoing::Received { buffer, start, end } => {
                let bytes = &self.buffers.bytes(buffer)[*start as usize..*end as usize];
                (bytes.as_ptr(), bytes.len())
            }
            Outgoing::Owned { bytes, start } => (bytes[*start..].as_ptr(), bytes.len() - start),
            Outgoing::Shared { bytes, start } => (bytes.as_slice()[*start..].as_ptr(), bytes.as_slice().len() - start),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the bound is far below 4 GiB")]
        let length = bytes.min(limits::CORK_BYTES_MAX) as u32;
        // The bytes stay where they are when the slab grows: they lie behind a pointer.
        let key = Token::new(self.in_flight.sends.insert((token, outgoing)) as u64);
        // MSG_WAITALL: the kernel itself goes on after a short send (Linux 5.19).
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        self.push_on(socket, |target| {
            match target {
                Target::Regular(fd) => opcode::Send::new(fd, address, length).flags(flags).build(),
                Target::Direct(slot) => opcode::Send::new(slot, address, length).flags(flags).build(),
            }
            .user_data(Operation::Send.user_data(key))
        });
    }

    fn shutdown(&mut self, socket: Socket, token: Token, how: Shutdown) -> bool {
        let how = match how {
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        match Target::new(self.kind, socket) {
            // Queued requests on the socket come first, as they would on a direct descriptor.
            Target::Regular(fd) => {
                let _ = self.submit(0);
                // SAFETY: the socket is open: its owner has not closed it yet.
                unsafe { libc::shutdown(fd.0, how) };
                false
            }
            // Runs on a kernel thread (io-wq), which looks the slot up only then: there is no such
            // system call for a direct descriptor.
            Target::Direct(slot) => {
                let entry = opcode::Shutdown::new(slot, how).build().user_data(Operation::Shutdown.user_data(token));
                self.push(&entry);
                true
            }
        }
    }

    fn close(&mut self, socket: Socket) {
        if self.kind == DescriptorKind::Direct && self.listener.is_none() {
            // Adopted slots are counted here; those of accepted sockets by the kernel.
            self.adopted.try_remove(socket.0 as usize);
        }
        self.push_on(socket, |target| {
            match target {
                Target::Regular(fd) => opcode::Close::new(fd).build(),
                Target::Direct(slot) => opcode::Close::new(slot).build(),
            }
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Operation::Unanswered.user_data(Token::new(0)))
        });
    }

    fn tick(&mut self, after: Duration) {
        *self.tick = types::Timespec::from(after);
        let entry =
            opcode::Timeout::new(&raw const *self.tick).build().user_data(Operation::Tick.user_data(Token::new(0)));
        self.push(&entry);
    }

    fn enter(&mut self) -> io::Result<()> {
        let wait = if self.last_enter_full { self.reap } else { 0 };
        self.submit(wait)
    }

    fn next_completion(&mut self) -> Option<Completion> {
        if std::mem::take(&mut self.in_flight.accept_ended) {
            return Some(Completion::AcceptEnded(None));
        }
        while let Some(entry) = self.collected.pop_front() {
            if let Some(completion) = completion::decode(&entry, &mut self.buffers, &mut self.in_flight) {
                return Some(completion);
            }
        }
        None
    }

    fn has_queued(&self) -> bool {
        // SAFETY: the ring is not shared, so no other submission queue is alive during the look.
        !unsafe { self.uring.submission_shared() }.is_empty()
    }

    fn has_completions(&mut self) -> bool {
        if !self.collected.is_empty() || self.in_flight.accept_ended || !self.uring.completion().is_empty() {
            return true;
        }
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    fn is_behind(&self) -> bool {
        !self.collected.is_empty() || self.last_enter_full
    }

    fn bytes(&mut self, buffer: &BufferId) -> &mut [u8] {
        self.buffers.bytes(buffer)
    }

    fn release(&mut self, buffer: BufferId) {
        self.buffers.release(buffer);
    }

    fn buffers_free(&self) -> usize {
        self.buffers.free()
    }

    fn receive_pool_bytes(&self) -> usize {
        self.buffers.bytes_in_all()
    }

    fn trim(&mut self) {
        let sends = &mut self.in_flight.sends;
        if sends.capacity() > limits::LIST_ENTRIES_KEPT_MAX.max(4 * sends.len()) {
            sends.shrink_to_fit();
        }
        if self.in_flight.peers.is_empty() {
            self.in_flight.peers.shrink_to_fit();
        }
        self.collected.shrink_to(limits::TURN_COMPLETIONS_MAX);
    }
}

impl Drop for Ring {
    /// Ends the accept and the sends, and takes the pool from the receives. The kernel ends the receives and polls
    /// when the ring is closed, on its own time but all in one go: to cancel them here would take it a walk past
    /// all that are armed for each of them.
    fn drop(&mut self) {
        let _ = self.submit(0);
        let deadline = Instant::now() + DROP_PATIENCE;
        self.cancel_now(Operation::Accept.user_data(Token::new(0)));
        let sends: Vec<usize> = self.in_flight.sends.iter().map(|(key, _)| key).collect();
        for key in sends {
            if Instant::now() >= deadline {
                break;
            }
            self.cancel_now(Operation::Send.user_data(Token::new(key as u64)));
        }
        // The cancel only marks requests; they end, and let go of their sockets, in task work.
        let mut entered = self.submit(0);
        loop {
            while let Some(completion) = self.next_completion() {
                self.refuse(&completion);
            }
            if entered.is_err() || self.in_flight.sends.is_empty() || Instant::now() >= deadline {
                break;
            }
            entered = self.enter_and_wait(DROP_ROUND);
        }
        // A receive takes its buffer when it runs, and lets go of it where there was nothing to read: one that the
        // kernel has still to end finds none.
        let unregistered = self.uring.submitter().unregister_buf_ring(BUFFER_GROUP);
        self.descriptor.unregister();
        if !self.in_flight.peers.is_empty() {
            // As below: rather leak where an answer may still be written to.
            std::mem::forget(std::mem::take(&mut self.in_flight.peers));
        }
        if self.in_flight.sends.is_empty() && unregistered.is_ok() {
            // SAFETY: it is not used again: the ring is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        } else {
            // Rather leak what the kernel may still use than free it. Sends may be from receive buffers.
            std::mem::forget(std::mem::take(&mut self.in_flight.sends));
        }
    }
}

impl Ring {
    /// Cancels one request, if it is still there, and waits until it is marked.
    fn cancel_now(&self, user_data: u64) {
        let request = types::CancelBuilder::user_data(user_data);
        let _ = self.uring.submitter().register_sync_cancel(Some(types::Timespec::from(DROP_PATIENCE)), request);
    }

    /// Closes the socket of an accept that nobody will hear of: the process would keep it.
    fn refuse(&self, completion: &Completion) {
        if let (Completion::Accepted(Socket(descriptor)), DescriptorKind::Regular) = (completion, self.kind) {
            // SAFETY: the kernel has just made the descriptor for this completion, which nobody else gets.
            unsafe { libc::close(*descriptor as RawFd) };
        }
    }
}

/// How long the end of a ring cancels its sends, and waits for them.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits for one of them before it looks again.
const DROP_ROUND: Duration = Duration::from_millis(10);

/// A socket as the builders of requests take it.
enum Target {
    Regular(types::Fd),
    Direct(types::Fixed),
}

impl Target {
    const fn new(kind: DescriptorKind, socket: Socket) -> Self {
        match kind {
            DescriptorKind::Regular => Self::Regular(types::Fd(socket.0 as RawFd)),
            DescriptorKind::Direct => Self::Direct(types::Fixed(socket.0)),
        }
    }
}

fn socket_number(descriptor: RawFd) -> io::Result<Socket> {
    u32::try_from(descriptor).map(Socket).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
