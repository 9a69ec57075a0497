//! The doorbell of a core: how other threads wake it, and only if it sleeps.
//!
//! # Why no wake-up is lost
//!
//! The owner stores `parked`, passes a SeqCst fence and looks at its queues a last time. A sender
//! pushes, passes a SeqCst fence and loads `parked`. Fences of this kind have one order. If the owner's
//! comes first, the sender sees `parked` and rings; if the sender's comes first, the owner sees the
//! entry and does not sleep. Both may happen; the spare ring only costs an empty turn.
//!
//! A ringing sender takes the flag with it, so that of many senders one pays the system call. A sender
//! that finds the flag taken may stay silent: the one who took it is about to write, which wakes the
//! owner, and the owner looks again after a new fence before it sleeps again.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{Interest, unix::AsyncFd};

use super::sync::{AtomicBool, CachePadded, store_then_look_barrier};

/// The means to wake one core; clones are of the same bell.
#[derive(Clone, Debug)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bell: Bell,
    /// Read by every sender each turn, so it shares its line with nothing that is written.
    parked: CachePadded<AtomicBool>,
}

impl Doorbell {
    /// Creates a doorbell with an eventfd of its own (`eventfd(2)`, non-blocking, close-on-exec).
    ///
    /// # Errors
    ///
    /// What `eventfd(2)` says; EMFILE and ENFILE mean that a limit on descriptors is reached.
    pub fn new() -> io::Result<Self> {
        let shared = Shared { bell: Bell::new()?, parked: CachePadded(AtomicBool::new(false)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The owner is about to sleep: call this, look at all queues a last time, and sleep only if they
    /// are empty. Whoever pushes after that look will ring.
    pub fn park_begin(&self) {
        // This and the swap of `park_end` could be stores: nobody wants the old value. But so they visibly
        // come after any taking of the flag before them. The language orders stores so too, by the
        // atomicity of the taking; loom does not know that rule and would see a new flag as taken.
        self.shared.parked.0.swap(true, Ordering::Relaxed);
        store_then_look_barrier();
    }

    /// The owner is awake, for whatever reason: nobody needs to ring.
    pub fn park_end(&self) {
        // Relaxed: who still sees `true` rings in vain.
        self.shared.parked.0.swap(false, Ordering::Relaxed);
    }

    /// Wakes the owner if it sleeps or is about to; call it after pushing. Says whether it was needed.
    pub fn ring(&self) -> bool {
        store_then_look_barrier();
        self.ring_after_barrier()
    }

    /// [`Self::ring`] for a caller that has passed the barrier since its last push.
    pub(super) fn ring_after_barrier(&self) -> bool {
        let parked = &self.shared.parked.0;
        // The plain load keeps the line shared in the common case that the owner is awake.
        let ring = parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::Relaxed);
        if ring {
            self.shared.bell.write();
        }
        ring
    }

    /// Makes the eventfd readable whether or not the owner sleeps: for an owner that wants its own
    /// wait to return, and for what must be noticed even by an owner that never calls
    /// [`Self::park_begin`].
    pub fn ring_always(&self) {
        self.shared.bell.write();
    }

    /// The eventfd, to be registered with a ring or waited for. Waiting edge-triggered, its counter
    /// never needs to be read: each write is an edge.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.fd()
    }
}

impl Doorbell {
    /// The eventfd for a task that awaits it, on the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// The runtime can't watch another descriptor.
    pub fn listen(&self) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
        // SAFETY: a `BorrowedFd` names one descriptor, which `self` keeps open for as long as it is
        // borrowed, and the `AsyncFd` does not outlive the borrow.
        let bell = unsafe { AsyncFd::register_with_interest(self.fd(), Interest::READABLE) };
        bell.map_err(|error| io::Error::other(error.to_string()))
    }
}

#[cfg(not(crore_loom))]
use event::Bell;
#[cfg(crore_loom)]
use model::Bell;

#[cfg(not(crore_loom))]
mod event {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};

    #[derive(Debug)]
    pub(super) struct Bell(OwnedFd);

    impl Bell {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
        }

        pub(super) fn write(&self) {
            match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
                // EAGAIN: the counter is at its maximum, so the descriptor is readable as it is.
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => panic!("eventfd(2) names no other error of a write of 1: {error}"),
            }
        }

        pub(super) fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(crore_loom)]
mod model {
    use std::io;
    use std::os::fd::BorrowedFd;

    use loom::sync::{Condvar, Mutex};

    /// An eventfd as far as its waiter can tell: whether it was written since the last wait.
    #[derive(Debug)]
    pub(super) struct Bell {
        written: Mutex<bool>,
        waiter: Condvar,
    }

    impl Bell {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self { written: Mutex::new(false), waiter: Condvar::new() })
        }

        pub(super) fn write(&self) {
            *self.written.lock().unwrap() = true;
            self.waiter.notify_one();
        }

        pub(super) fn fd(&self) -> BorrowedFd<'_> {
            panic!("a model has no descriptors")
        }
    }

    #[cfg(test)]
    impl super::Doorbell {
        /// Sleeps until the bell was rung, as the owner would on the eventfd.
        pub(in crate::mesh) fn wait(&self) {
            let Bell { written, waiter } = &self.shared.bell;
            let mut written = written.lock().unwrap();
            while !*written {
                written = waiter.wait(written).unwrap();
            }
            *written = false;
        }
    }
}

#[cfg(all(test, not(crore_loom)))]
mod tests {
    use super::*;

    /// The counter of the eventfd: how often it was written since the last call.
    fn writes(doorbell: &Doorbell) -> u64 {
        let mut counter = [0; 8];
        match rustix::io::read(doorbell.fd(), &mut counter) {
            Ok(_) => u64::from_ne_bytes(counter),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                0
            }
        }
    }

    #[test]
    fn only_a_parked_owner_is_rung_and_only_once() {
        let doorbell = Doorbell::new().expect("an eventfd");
        assert!(!doorbell.ring());
        assert_eq!(writes(&doorbell), 0);

        doorbell.park_begin();
        let clone = doorbell.clone();
        assert!(clone.ring());
        assert!(!doorbell.ring(), "the first one has taken the flag");
        assert_eq!(writes(&doorbell), 1);

        doorbell.park_begin();
        doorbell.park_end();
        assert!(!doorbell.ring());
        assert_eq!(writes(&doorbell), 0);
    }

    #[test]
    fn ring_always_needs_nobody_to_sleep() {
        let doorbell = Doorbell::new().expect("an eventfd");
        doorbell.ring_always();
        doorbell.ring_always();
        assert_eq!(writes(&doorbell), 2);
    }
}

#[cfg(all(test, crore_loom))]
mod models {
    use super::*;
    use crate::mesh::{LaneReceiver, lane, sync::check};

    /// Receives `entries` of them as a worker does: sleep only after a last look.
    fn receive_all(doorbell: &Doorbell, receivers: &mut [LaneReceiver<u32>], entries: u32) {
        let mut received = 0;
        loop {
            for receiver in &mut *receivers {
                while receiver.try_recv().is_some() {
                    received += 1;
                }
            }
            if received == entries {
                return;
            }
            doorbell.park_begin();
            if receivers.iter().all(LaneReceiver::is_empty) {
                doorbell.wait();
            }
            doorbell.park_end();
        }
    }

    #[test]
    fn a_sleeper_is_woken_by_each_of_two_pushes() {
        check(|| {
            let doorbell = Doorbell::new().unwrap();
            let (mut sender, receiver) = lane(2);
            let bell = doorbell.clone();
            let thread = loom::thread::spawn(move || {
                for number in 0..2 {
                    sender.try_send(number).unwrap();
                    bell.ring();
                }
            });
            receive_all(&doorbell, &mut [receiver], 2);
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_sender_may_rely_on_the_ring_of_another() {
        check(|| {
            let doorbell = Doorbell::new().unwrap();
            let (receivers, threads): (Vec<_>, Vec<_>) = (0..2)
                .map(|number| {
                    let (mut sender, receiver) = lane(1);
                    let bell = doorbell.clone();
                    let thread = loom::thread::spawn(move || {
                        sender.try_send(number).unwrap();
                        bell.ring();
                    });
                    (receiver, thread)
                })
                .unzip();
            let mut receivers = receivers;
            receive_all(&doorbell, &mut receivers, 2);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}
