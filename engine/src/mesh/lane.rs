//! A lane: a bounded lock-free queue from one core to another.
//!
//! One thread sends and one receives. Each end owns its index and keeps a copy of the other end's,
//! which it refreshes only when the lane looks full or empty; so a busy lane moves one cache line of
//! indices per batch of entries instead of one per entry.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use super::sync::{Arc, AtomicBool, AtomicUsize, CachePadded, UnsafeCell};

/// Creates a lane of `capacity` entries, rounded up to a power of two.
///
/// # Panics
///
/// If `capacity` is 0 or above 2^31.
#[must_use]
pub fn lane<T>(capacity: usize) -> (LaneSender<T>, LaneReceiver<T>) {
    lane_at(capacity, 0)
}

/// As [`lane`], with both indices at `start`: they count on for ever and wrap around.
fn lane_at<T>(capacity: usize, start: usize) -> (LaneSender<T>, LaneReceiver<T>) {
    assert!((1..=1 << 31).contains(&capacity), "a lane has 1 to 2^31 entries");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring {
        slots,
        sender_waits: AtomicBool::new(false),
        head: CachePadded(AtomicUsize::new(start)),
        tail: CachePadded(AtomicUsize::new(start)),
    });
    (
        LaneSender { ring: Arc::clone(&ring), tail: start, head_seen: start },
        LaneReceiver { ring, head: start, tail_seen: start },
    )
}

/// The end of a lane that sends.
#[derive(Debug)]
pub struct LaneSender<T> {
    ring: Arc<Ring<T>>,
    /// Where the next entry goes; `Ring::tail` is its published copy.
    tail: usize,
    /// The receiver's index when last looked at: it may have moved on, so the lane has at least the
    /// room that this says.
    head_seen: usize,
}

impl<T> LaneSender<T> {
    /// Puts `entry` on the lane, or gives it back if the lane is full.
    ///
    /// # Errors
    ///
    /// The entry itself, when the lane is full.
    pub fn try_send(&mut self, entry: T) -> Result<(), T> {
        if self.tail.wrapping_sub(self.head_seen) == self.ring.slots.len() {
            // Acquire: the receiver has taken the entry out of the slot that is written next.
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == self.ring.slots.len() {
                return Err(entry);
            }
        }
        self.ring.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot at `tail` is the sender's alone: `tail - head < capacity`, so the
            // receiver is done with its last entry (acquired above, or by an earlier look), and does
            // not come here before `tail` is published below. There is one sender (`&mut self`).
            unsafe { (*slot).write(entry) };
        });
        self.tail = self.tail.wrapping_add(1);
        // Release: whoever reads the new tail sees the entry.
        self.ring.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether an entry would find room now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.tail.wrapping_sub(self.ring.head.0.load(Ordering::Acquire)) < self.ring.slots.len()
    }

    /// Says whether this sender waits for room; the receiver asks by [`LaneReceiver::sender_waits`] after
    /// making some. Having said so, look at [`Self::has_room`] again before sleeping.
    pub fn set_waiting(&mut self, waiting: bool) {
        self.ring.sender_waits.store(waiting, Ordering::Relaxed);
    }
}

/// The end of a lane that receives.
#[derive(Debug)]
pub struct LaneReceiver<T> {
    ring: Arc<Ring<T>>,
    /// Where the next entry comes from; `Ring::head` is its published copy.
    head: usize,
    /// The sender's index when last looked at: at least the entries up to it are there.
    tail_seen: usize,
}

impl<T> LaneReceiver<T> {
    /// Takes the oldest entry, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            // Acquire: the sender's write of the entries up to this tail.
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let entry = self.ring.slot(self.head).with_mut(|slot| {
            // SAFETY: `head` is before the published tail, so the slot holds an entry whose write was
            // acquired; it is read once, because `head` moves on, and the sender does not come here
            // before `head` is published below. There is one receiver (`&mut self`).
            unsafe { (*slot).assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        // Release: the entry is out of the slot before the sender may write there.
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(entry)
    }

    /// Whether the lane holds nothing now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == self.ring.tail.0.load(Ordering::Acquire)
    }

    /// Whether the sender waits for room; see [`LaneSender::set_waiting`].
    #[must_use]
    pub fn sender_waits(&self) -> bool {
        self.ring.sender_waits.load(Ordering::Relaxed)
    }
}

/// What the two ends share. Entries lie in the slots from `head` up to `tail`.
#[derive(Debug)]
struct Ring<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Written by the sender alone, and only when it starts or ends waiting for room.
    sender_waits: AtomicBool,
    /// Written by the receiver alone.
    head: CachePadded<AtomicUsize>,
    /// Written by the sender alone.
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: a slot is accessed by one end at a time, as `head` and `tail` say, and an entry moves from
// one thread to another but is never seen by two; so `T: Send` is enough.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Relaxed: both ends have gone, and the last one to go acquired what the other one did.
        let mut head = self.head.0.load(Ordering::Relaxed);
        let tail = self.tail.0.load(Ordering::Relaxed);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: slots from head to tail hold entries, and nobody else is left to take them.
                unsafe { (*slot).assume_init_drop() };
            });
            head = head.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(crore_loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_lane_behaves_like_a_bounded_queue() {
        let seed =
            std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("CRORE_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        // The indices wrap around in the middle of the run.
        let (mut sender, mut receiver) = lane_at(8, usize::MAX - 500);
        let mut model = VecDeque::new();
        for number in 0..10_000u32 {
            if random.bool() {
                let sent = sender.try_send(number);
                assert_eq!(sent, if model.len() < 8 { Ok(()) } else { Err(number) });
                if sent.is_ok() {
                    model.push_back(number);
                }
            } else {
                assert_eq!(receiver.try_recv(), model.pop_front());
            }
            assert_eq!(receiver.is_empty(), model.is_empty());
            assert_eq!(sender.has_room(), model.len() < 8);
        }
    }

    #[test]
    fn a_capacity_is_rounded_up_to_a_power_of_two() {
        let (mut sender, _receiver) = lane(3);
        assert_eq!((0..10).take_while(|&n| sender.try_send(n).is_ok()).count(), 4);
    }

    #[test]
    fn what_was_not_received_is_dropped_once() {
        let token = Rc::new(());
        let (mut sender, mut receiver) = lane_at(4, usize::MAX - 1);
        for _ in 0..4 {
            assert!(sender.try_send(Rc::clone(&token)).is_ok());
        }
        drop(receiver.try_recv());
        drop(sender);
        assert_eq!(Rc::strong_count(&token), 4, "the receiver can still take three");
        drop(receiver);
        assert_eq!(Rc::strong_count(&token), 1);
    }

    #[test]
    fn the_receiver_learns_that_the_sender_waits() {
        let (mut sender, receiver) = lane::<u8>(1);
        assert!(!receiver.sender_waits());
        sender.set_waiting(true);
        assert!(receiver.sender_waits());
        sender.set_waiting(false);
        assert!(!receiver.sender_waits());
    }

    #[test]
    fn two_threads_keep_the_order() {
        let (mut sender, mut receiver) = lane(16);
        let last = 200_000u64;
        let thread = std::thread::spawn(move || {
            for number in 0..=last {
                let mut entry = Box::new(number);
                while let Err(back) = sender.try_send(entry) {
                    entry = back;
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..=last {
            let entry = loop {
                match receiver.try_recv() {
                    Some(entry) => break entry,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(*entry, number);
        }
        thread.join().expect("the sender ends");
    }
}

#[cfg(all(test, crore_loom))]
mod models {
    use super::*;

    #[test]
    fn nothing_is_lost_doubled_or_reordered() {
        loom::model(|| {
            let (mut sender, mut receiver) = lane_at(2, usize::MAX);
            let thread = loom::thread::spawn(move || {
                // Boxed, so that an entry read twice or never would be a double free or a leak.
                (0..3).take_while(|&n| sender.try_send(Box::new(n)).is_ok()).count()
            });
            let mut received = Vec::new();
            for _ in 0..2 {
                received.extend(receiver.try_recv().map(|entry| *entry));
            }
            let sent = thread.join().unwrap();
            received.extend(std::iter::from_fn(|| receiver.try_recv().map(|entry| *entry)));
            assert_eq!(received, (0..sent).collect::<Vec<_>>());
        });
    }

    #[test]
    fn either_end_may_go_first_and_what_is_left_is_dropped() {
        loom::model(|| {
            let token = loom::sync::Arc::new(());
            let (mut sender, mut receiver) = lane(2);
            let entry = loom::sync::Arc::clone(&token);
            let thread = loom::thread::spawn(move || {
                let _ = sender.try_send(loom::sync::Arc::clone(&entry));
                let _ = sender.try_send(entry);
            });
            drop(receiver.try_recv());
            drop(receiver);
            thread.join().unwrap();
            assert_eq!(loom::sync::Arc::strong_count(&token), 1);
        });
    }
}
