//! A port: one core's place in the mesh.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::sync::store_then_look_barrier;
use super::{Doorbell, LaneReceiver, LaneSender};
use crate::id::CoreId;

/// One core's end of all its lanes. It moves to the core's thread and stays there.
#[derive(Debug)]
pub struct Port<T> {
    core: CoreId,
    /// All other cores, in the order of their numbers.
    peers: Vec<Peer<T>>,
    /// Whose lane is looked at first by the next [`Self::receive`].
    next_peer: usize,
    /// Entries in all backlogs.
    backlog_len: usize,
    backlog_entries_max: usize,
    doorbells: Arc<[Doorbell]>,
}

/// What a port keeps for one other core.
#[derive(Debug)]
struct Peer<T> {
    to: LaneSender<T>,
    from: LaneReceiver<T>,
    /// Entries that found the lane full, oldest first. While there are any, the lane says that its
    /// sender waits. The receiver does not take that note down: a note that it took down just after
    /// this core had used the room would be missing when the next room is made.
    backlog: VecDeque<T>,
    /// Something went onto its lane since its doorbell was last looked at.
    sent: bool,
    /// Something came off its lane since then, so that it may have room which it waits for.
    received: bool,
}

impl<T> Port<T> {
    pub(super) fn new(core: CoreId, doorbells: Arc<[Doorbell]>, backlog_entries_max: usize) -> Self {
        let peers = Vec::with_capacity(doorbells.len() - 1);
        Self { core, peers, next_peer: 0, backlog_len: 0, backlog_entries_max, doorbells }
    }

    /// Adds the next core by number, this one left out.
    pub(super) fn add_peer(&mut self, to: LaneSender<T>, from: LaneReceiver<T>) {
        let backlog = VecDeque::new();
        self.peers.push(Peer { to, from, backlog, sent: false, received: false });
    }

    /// The core that this port belongs to.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// Sends `entry` to another core: onto its lane or, while that is full, onto the backlog. Entries
    /// for one core arrive in the order of their sending. Call [`Self::ring_doorbells`] at the end of
    /// the turn, or the other core may sleep on.
    ///
    /// # Errors
    ///
    /// The entry itself, when the backlog for that core is at its bound: the core is stuck or too slow,
    /// and the caller counts what it drops.
    ///
    /// # Panics
    ///
    /// If `to` is this core or none of the mesh.
    pub fn send(&mut self, to: CoreId, entry: T) -> Result<(), T> {
        assert!(to != self.core, "core {to} sends to itself: that is no matter of the mesh");
        let peer = &mut self.peers[to.index() - usize::from(to > self.core)];
        self.backlog_len -= peer.flush();
        let entry = if peer.backlog.is_empty() {
            match peer.to.try_send(entry) {
                Ok(()) => {
                    peer.sent = true;
                    return Ok(());
                }
                Err(entry) => entry,
            }
        } else {
            entry
        };
        if peer.backlog.len() >= self.backlog_entries_max {
            return Err(entry);
        }
        peer.backlog.push_back(entry);
        peer.to.set_waiting(true);
        self.backlog_len += 1;
        Ok(())
    }

    /// Moves what the backlogs hold to lanes that have room again; once a turn, before the turn sends.
    pub fn flush_backlog(&mut self) {
        if self.backlog_len > 0 {
            self.backlog_len -= self.peers.iter_mut().map(Peer::flush).sum::<usize>();
        }
    }

    /// Entries that wait for room in a lane, for all cores together.
    #[must_use]
    pub fn backlog_len(&self) -> usize {
        self.backlog_len
    }

    /// Takes one entry and says who sent it. Lanes take turns, so no core can crowd out another.
    pub fn receive(&mut self) -> Option<(CoreId, T)> {
        for _ in 0..self.peers.len() {
            let index = self.next_peer;
            self.next_peer = if index + 1 == self.peers.len() { 0 } else { index + 1 };
            let peer = &mut self.peers[index];
            if let Some(entry) = peer.from.try_recv() {
                peer.received = true;
                return Some((self.core_of(index), entry));
            }
        }
        None
    }

    /// Whether [`Self::receive`] or [`Self::flush_backlog`] would move something now. This is the last
    /// look between [`Doorbell::park_begin`] and sleeping: it reads what other cores wrote.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.peers.iter().any(|peer| !peer.from.is_empty() || (!peer.backlog.is_empty() && peer.to.has_room()))
    }

    /// Wakes, once each, the sleepers among the cores that were sent to since the last call, and those
    /// that wait for room which was made since then. Call it at the end of the turn and before
    /// parking. Returns how many system calls that took.
    pub fn ring_doorbells(&mut self) -> usize {
        if !self.peers.iter().any(|peer| peer.sent || peer.received) {
            return 0;
        }
        // One barrier for all: after every push and take, before every look at a flag of another core.
        store_then_look_barrier();
        let mut rung = 0;
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let made_room = mem::take(&mut peer.received) && peer.from.sender_waits();
            if mem::take(&mut peer.sent) || made_room {
                rung += usize::from(self.doorbells[self.core_of(index).index()].ring_after_barrier());
            }
        }
        rung
    }

    /// This core's doorbell.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbells[self.core.index()]
    }

    /// The doorbells of all cores, by their numbers: for handles that other threads hold.
    #[must_use]
    pub fn doorbells(&self) -> &Arc<[Doorbell]> {
        &self.doorbells
    }

    /// The core of the peer at `index`: this core is left out of the list.
    fn core_of(&self, index: usize) -> CoreId {
        let core = u16::try_from(index).expect("a mesh has at most 65,536 cores");
        CoreId(core + u16::from(core >= self.core.0))
    }
}

impl<T> Peer<T> {
    /// Moves entries from the backlog to the lane and says how many.
    fn flush(&mut self) -> usize {
        let mut moved = 0;
        while let Some(entry) = self.backlog.pop_front() {
            if let Err(entry) = self.to.try_send(entry) {
                self.backlog.push_front(entry);
                break;
            }
            moved += 1;
            if self.backlog.is_empty() {
                self.to.set_waiting(false);
                // Trouble is over: what it grew to is not kept.
                self.backlog = VecDeque::new();
            }
        }
        self.sent |= moved > 0;
        moved
    }
}

#[cfg(all(test, not(crore_loom)))]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::mesh::{Capacity, build};

    fn mesh(cores: usize, lane_entries: usize, backlog_entries_max: usize) -> Vec<Port<u64>> {
        build(cores, Capacity { lane_entries, backlog_entries_max }).expect("eventfds")
    }

    #[test]
    fn a_port_moves_to_its_thread() {
        fn is_send<T: Send>() {}
        is_send::<Port<Vec<u8>>>();
    }

    #[test]
    fn one_core_alone_has_nothing_to_do() {
        let mut port = mesh(1, 1, 0).remove(0);
        assert_eq!(port.receive(), None);
        assert!(!port.has_work());
        assert_eq!(port.ring_doorbells(), 0);
        assert_eq!(port.doorbells().len(), 1);
    }

    #[test]
    fn a_full_lane_spills_into_the_backlog_and_that_is_bounded() {
        let mut ports = mesh(2, 2, 3);
        let (zero, one) = ports.split_at_mut(1);
        let (sender, receiver) = (&mut zero[0], &mut one[0]);
        let accepted = (0..10).take_while(|&n| sender.send(CoreId(1), n).is_ok()).count();
        assert_eq!((accepted, sender.backlog_len()), (5, 3));
        assert_eq!(sender.send(CoreId(1), 99), Err(99));
        assert!(!sender.has_work(), "there is no room to use");

        assert_eq!(receiver.receive(), Some((CoreId(0), 0)));
        assert!(sender.has_work());
        assert_eq!(sender.send(CoreId(1), 5), Ok(()), "room has reached the backlog");
        let mut received = Vec::new();
        while receiver.has_work() {
            received.extend(receiver.receive().map(|(_, entry)| entry));
            sender.flush_backlog();
        }
        assert_eq!(received, [1, 2, 3, 4, 5]);
        assert_eq!(sender.backlog_len(), 0);
    }

    #[test]
    fn lanes_take_turns() {
        let mut ports = mesh(3, 8, 0);
        for _ in 0..3 {
            ports[0].send(CoreId(1), 0).expect("room");
            ports[2].send(CoreId(1), 2).expect("room");
        }
        let senders: Vec<_> = std::iter::from_fn(|| ports[1].receive()).map(|(core, _)| core.0).collect();
        assert_eq!(senders, [0, 2, 0, 2, 0, 2]);
    }

    #[test]
    fn each_sleeper_is_rung_once_a_turn() {
        let mut ports = mesh(3, 8, 0);
        ports[1].doorbell().park_begin();
        for _ in 0..3 {
            ports[0].send(CoreId(1), 7).expect("room");
            ports[0].send(CoreId(2), 7).expect("room");
        }
        assert_eq!(ports[0].ring_doorbells(), 1, "core 1 sleeps, core 2 does not");
        assert_eq!(ports[0].ring_doorbells(), 0);
    }

    #[test]
    fn a_sleeper_that_waits_for_room_is_rung_by_the_receiver() {
        let mut ports = mesh(2, 1, 1);
        ports[0].send(CoreId(1), 1).expect("room");
        ports[0].send(CoreId(1), 2).expect("a backlog");
        ports[0].doorbell().park_begin();
        assert!(!ports[0].has_work());
        assert!(ports[1].receive().is_some());
        assert_eq!(ports[1].ring_doorbells(), 1);
        assert!(ports[0].has_work());
    }

    #[test]
    fn random_traffic_matches_a_queue_per_pair() {
        let seed =
            std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("CRORE_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let cores = random.usize(2..6);
        let (lane_entries, backlog) = (1 << random.usize(0..4), random.usize(0..5));
        let mut ports = mesh(cores, lane_entries, backlog);
        let mut model = vec![vec![VecDeque::new(); cores]; cores];
        for number in 0..20_000 {
            let core = random.usize(0..cores);
            match random.u8(0..4) {
                0 | 1 => {
                    let to = (core + random.usize(1..cores)) % cores;
                    let queue = &mut model[core][to];
                    match ports[core].send(CoreId(u16::try_from(to).expect("small")), number) {
                        Ok(()) => queue.push_back(number),
                        // Room in the lane is known to the sender at the latest when it tries.
                        Err(back) => {
                            assert_eq!((back, queue.len()), (number, lane_entries + backlog));
                        }
                    }
                }
                2 => match ports[core].receive() {
                    Some((from, entry)) => {
                        assert_eq!(Some(entry), model[from.index()][core].pop_front());
                    }
                    None => assert!(!ports[core].peers.iter().any(|peer| !peer.from.is_empty())),
                },
                _ => ports[core].flush_backlog(),
            }
        }
        for (core, port) in ports.iter().enumerate() {
            let on_the_way: usize = model[core].iter().map(VecDeque::len).sum();
            assert!(port.backlog_len() <= on_the_way);
        }
        while ports.iter().any(Port::has_work) {
            for (core, port) in ports.iter_mut().enumerate() {
                port.flush_backlog();
                while let Some((from, entry)) = port.receive() {
                    assert_eq!(Some(entry), model[from.index()][core].pop_front());
                }
            }
        }
        assert!(model.iter().flatten().all(VecDeque::is_empty));
    }

    /// A worker's loop: turns as long as there is work, then sleep on the eventfd.
    fn run(mut port: Port<u64>, entries: u64) {
        let cores = port.doorbells().len();
        let mut to_send = vec![0; cores];
        let mut expected = vec![0; cores];
        to_send[port.core().index()] = entries;
        expected[port.core().index()] = entries;
        loop {
            port.flush_backlog();
            for _ in 0..3 {
                let Some((from, entry)) = port.receive() else {
                    break;
                };
                assert_eq!(entry, expected[from.index()]);
                expected[from.index()] += 1;
            }
            for (to, next) in (0..).zip(to_send.iter_mut()) {
                if *next < entries && port.send(CoreId(to), *next).is_ok() {
                    *next += 1;
                }
            }
            port.ring_doorbells();
            let all_sent = to_send.iter().all(|&next| next == entries) && port.backlog_len() == 0;
            if all_sent && expected.iter().all(|&next| next == entries) {
                return;
            }
            port.doorbell().park_begin();
            // A refused send has left a full backlog, so room for the backlog is room for the send.
            if !port.has_work() && (port.backlog_len() > 0 || all_sent) {
                let mut fds = [PollFd::new(port.doorbell(), PollFlags::IN)];
                let watchdog = Timespec { tv_sec: 120, tv_nsec: 0 };
                let ready = poll(&mut fds, Some(&watchdog)).expect("poll");
                assert_eq!(ready, 1, "a wake-up was lost");
                rustix::io::read(port.doorbell(), &mut [0; 8]).expect("readable");
            }
            port.doorbell().park_end();
        }
    }

    impl std::os::fd::AsFd for Doorbell {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.fd()
        }
    }

    #[test]
    fn sleeping_threads_exchange_everything_in_order() {
        let threads: Vec<_> =
            mesh(3, 2, 4).into_iter().map(|port| std::thread::spawn(move || run(port, 20_000))).collect();
        for thread in threads {
            thread.join().expect("all arrives, in order");
        }
    }
}

#[cfg(all(test, crore_loom))]
mod models {
    use super::*;
    use crate::mesh::{Capacity, build, sync::check};

    /// Sleeps as a worker does.
    fn park(port: &Port<u32>) {
        port.doorbell().park_begin();
        if !port.has_work() {
            port.doorbell().wait();
        }
        port.doorbell().park_end();
    }

    #[test]
    fn a_full_lane_wakes_the_receiver_and_room_wakes_the_sender() {
        check(|| {
            let capacity = Capacity { lane_entries: 1, backlog_entries_max: 2 };
            let mut ports = build(2, capacity).unwrap();
            let mut receiver = ports.pop().unwrap();
            let mut sender = ports.pop().unwrap();
            let thread = loom::thread::spawn(move || {
                let mut expected = 0;
                while expected < 3 {
                    while let Some((from, entry)) = receiver.receive() {
                        assert_eq!((from, entry), (CoreId(0), expected));
                        expected += 1;
                    }
                    receiver.ring_doorbells();
                    if expected < 3 {
                        park(&receiver);
                    }
                }
            });
            for number in 0..3 {
                sender.send(CoreId(1), number).unwrap();
            }
            sender.ring_doorbells();
            while sender.backlog_len() > 0 {
                park(&sender);
                sender.flush_backlog();
                sender.ring_doorbells();
            }
            thread.join().unwrap();
        });
    }
}
