//! One run: a world, a worker in it, and a host that gives it turns.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crore_engine::limits::{TICK_MS, TRIM_INTERVAL_MS};
use crore_engine::mesh::Capacity;
use crore_engine::simulation::{Neighbour, Setup, Turn, Worker};
use crore_engine::{Drain, LocalFuture, ProxyProtocol};
use fastrand::Rng;

use super::FOUND;
use super::app::Application;
use super::kernel::Kernel;
use super::oracle::Outside;
use super::peer::{Peer, Reading};
use super::plan::{Ending, Pace, Plan};
use super::trace::Trace;
use super::world::World;

/// Turns in a row that may find nothing to do and still ask for another one.
const HOT_TURNS_MAX: u32 = 2;

/// Rounds in which the world comes to rest, if it ever does. Megabytes may have to leave by 32 bytes a round.
const ROUNDS_MAX: u32 = 1_000_000;

/// Ticks that pass at rest, and those that pass while accepts that have failed are tried again, and pauses that the
/// application takes one after the other come to their ends.
const TICKS: u32 = 3;
const TICKS_MAX: u32 = 4096;

/// What a run has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) events: u64,
    pub(crate) heard: u64,
}

pub(crate) struct Run {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) worker: Worker<Kernel, Application>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) peers: Vec<Peer>,
    futures: Vec<LocalFuture>,
    pub(crate) turn: Turn,
    hot_turns: u32,
    pub(crate) turns: u64,
}

/// Runs a seed. `shown`: every event is printed.
///
/// # Panics
/// If the worker does anything wrong.
pub(crate) fn run(seed: u64, shown: bool) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Plan::new(&mut rng);
    if !FOUND.iter().any(|found| found.seed == seed && !found.with_additions) {
        plan.add(&mut rng.clone());
    }
    if shown {
        println!("{plan:#?}");
    }
    let setup = Setup {
        limits: plan.limits.clone(),
        peer_addresses: plan.peer_addresses,
        proxy_protocol: if plan.proxied {
            ProxyProtocol::required(|address| address.is_ipv4())
        } else {
            ProxyProtocol::Off
        },
        compression: plan.compression,
        coalescing: plan.coalescing,
        connections_max: plan.connections_max,
        cores: plan.cores,
        inbox_commands: plan.inbox_commands,
        mesh: Capacity { lane_entries: plan.lane_entries, backlog_entries_max: plan.backlog_entries_max },
    };
    let world = Rc::new(RefCell::new(World::new(rng, plan, Trace::new(shown))));
    let (kernel, application) = (Kernel::new(Rc::clone(&world)), Application::new(Rc::clone(&world)));
    let now = Rc::clone(&world.borrow().now);
    let (worker, neighbours) = Worker::new(setup, kernel, application, &now).expect("eventfds");
    let run = Run {
        world,
        worker,
        neighbours,
        peers: Vec::new(),
        futures: Vec::new(),
        turn: Turn::Busy,
        hot_turns: 0,
        turns: 0,
    };
    run.finish()
}

impl Run {
    fn finish(mut self) -> Outcome {
        let (steps, ending) = (self.world.borrow().plan.steps, self.world.borrow().plan.ending);
        let mut drain = None;
        for step in 0..steps {
            match ending {
                Ending::DrainAt(at, patience) if at == step => drain = Some(patience),
                Ending::RingFailsAt(at) if at == step => return self.lose_ring(),
                _ => {}
            }
            if drain.take_if(|patience| self.drain(*patience, Duration::ZERO)).is_some() {
                self.world.borrow_mut().trace.note("drain", usize::MAX, 0);
            }
            self.step();
            self.give_turn(false);
            if self.turn == Turn::Ended {
                break;
            }
        }
        if self.turn != Turn::Ended {
            self.come_to_rest();
        }
        if self.turn != Turn::Ended {
            self.check_rest();
            self.end(ending);
        }
        self.check_end();
        self.outcome()
    }

    fn outcome(self) -> Outcome {
        let world = self.world.borrow();
        Outcome { trace: world.trace.hash(), events: world.trace.events(), heard: world.oracle.sums.heard }
    }

    /// Gives the worker a turn if it has asked for one, or the kernel, a thread or another core wakes it.
    /// With `force` at once, else as the host finds the time.
    pub(crate) fn give_turn(&mut self, force: bool) -> bool {
        let wanted = self.turn == Turn::Busy || self.worker.progress() == Turn::Busy;
        if !wanted || (!force && self.world.borrow_mut().chance(40)) {
            return false;
        }
        let before = self.world.borrow().trace.events();
        self.turn = self.worker.turn().expect("the ring is good");
        self.turns += 1;
        self.futures.extend(self.worker.spawned());
        let mut world = self.world.borrow_mut();
        let hot = self.turn == Turn::Busy && world.trace.events() == before;
        self.hot_turns = if hot { self.hot_turns + 1 } else { 0 };
        assert!(self.hot_turns <= HOT_TURNS_MAX, "the worker turns and turns, and nothing happens");
        world.trace.note("turn", usize::MAX, self.turn as u64);
        true
    }

    /// The tasks that handlers have spawned run, sooner or later.
    pub(crate) fn run_futures(&mut self) {
        for mut future in self.futures.drain(..) {
            let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready(), "they wait for nothing");
        }
    }

    /// Lets everything arrive and be read and answered, until nothing moves any more; then a few ticks pass,
    /// for what waits for one.
    pub(crate) fn come_to_rest(&mut self) {
        self.world.borrow_mut().faults = Default::default();
        for peer in &mut self.peers {
            peer.reading = Reading::AtOnce;
        }
        for tick in 0..TICKS_MAX {
            self.move_all();
            if tick >= TICKS && !self.waits() && !self.world.borrow().will_accept() {
                return;
            }
            self.pass(Duration::from_millis(TICK_MS));
        }
        panic!("nothing is accepted, although there is room, or somebody is paused or waits for more for ever");
    }

    /// Whether somebody is not read from, or sent, what there is, before some time has passed.
    fn waits(&mut self) -> bool {
        // What the application does not want to read it wants again after a tick or two.
        let census = self.worker.census();
        census.paused + census.joined > 0
    }

    /// Lets everything move that can, without any time passing.
    pub(crate) fn move_all(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.turn == Turn::Ended || !self.move_once() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn move_once(&mut self) -> bool {
        let mut moved = !self.futures.is_empty();
        self.run_futures();
        moved |= self.world.borrow_mut().run_threads(true);
        for peer in 0..self.peers.len() {
            moved |= self.write_request(peer, usize::MAX);
            moved |= self.world.borrow_mut().deliver(peer, usize::MAX);
            moved |= self.read(peer, usize::MAX);
        }
        for neighbour in 0..self.neighbours.len() {
            moved |= self.neighbour_receives(neighbour);
            moved |= self.neighbour_flushes(neighbour);
        }
        moved | self.give_turn(true)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let world = self.world.borrow_mut();
        world.now.set(world.now.get() + time);
    }

    /// Asks for the drain, if the inbox has room for it.
    fn drain(&mut self, patience: Duration, spread: Duration) -> bool {
        // Where there is none, a thread would wait for it, and the outcome would depend on it.
        for neighbour in 0..self.neighbours.len() {
            self.neighbour_receives(neighbour);
        }
        let world = &mut *self.world.borrow_mut();
        if !world.oracle.has_room() {
            return false;
        }
        self.worker.handle().drain_with(Drain { patience, spread, ..Drain::default() });
        world.oracle.inbox.push_back(Outside::Drain);
        for neighbour in &mut world.oracle.neighbours {
            neighbour.inbox += 1;
        }
        true
    }

    /// Everyone leaves, or the worker is drained; or one after the other.
    fn end(&mut self, ending: Ending) {
        let patience = match ending {
            Ending::PeersLeave => {
                self.all_leave();
                Duration::ZERO
            }
            Ending::Drain(patience) | Ending::DrainAt(_, patience) => {
                for (index, peer) in self.peers.iter_mut().enumerate() {
                    let world = &mut *self.world.borrow_mut();
                    peer.deaf |= world.chance(30);
                    world.oracle.connections[index].reasons.deaf = peer.deaf;
                }
                patience
            }
            Ending::RingFailsAt(_) => unreachable!("that run has ended"),
        };
        let mut spread = None;
        if !self.world.borrow().oracle.draining {
            let over = self.world.borrow().plan.spread;
            spread = Some(self.begin_spread(over));
            assert!(self.drain(patience, over), "at rest there is room");
        }
        for _ in 0..ROUNDS_MAX {
            self.move_all();
            if self.turn == Turn::Ended {
                return;
            }
            if let Some(spread) = &spread {
                self.check_spread(spread);
            }
            self.pass(Duration::from_millis(100));
        }
        panic!("the drain has no end");
    }

    fn all_leave(&mut self) {
        for peer in 0..self.peers.len() {
            self.leave(peer);
        }
        let limits = self.world.borrow().plan.limits.clone();
        let each = limits.handshake_timeout + 2 * limits.close_timeout + Duration::from_secs(1);
        // Who waits to be accepted comes in when somebody has gone.
        let rounds = self.world.borrow().backlog.len() + 1;
        let until = self.world.borrow().now.get() + each * u32::try_from(rounds).expect("few");
        self.move_all();
        for _ in 0..TICKS_MAX {
            let over = self.world.borrow().now.get() >= until && !self.waits();
            if over || self.world.borrow().is_deserted() {
                break;
            }
            self.pass(Duration::from_millis(500));
            self.move_all();
        }
        // What happened last, a trim that follows it, and those that find that nothing was needed since.
        for _ in 0..4 {
            self.pass(Duration::from_millis(TRIM_INTERVAL_MS));
            self.move_all();
        }
        self.check_all_left();
    }

    /// The ring fails: the worker ends with an error, and leaves no socket open.
    fn lose_ring(mut self) -> Outcome {
        self.world.borrow_mut().ring_failed = true;
        assert!(self.worker.turn().is_err(), "the error is passed on");
        let Self { worker, world, .. } = self;
        drop(worker);
        let world = world.borrow();
        assert!(world.live.is_empty(), "sockets are still open: {:?}", world.live);
        Outcome { trace: world.trace.hash(), events: world.trace.events(), heard: world.oracle.sums.heard }
    }

    /// How much time passes in a step.
    pub(crate) fn pass_some(&mut self) {
        let time = {
            let world = &mut *self.world.borrow_mut();
            match (world.plan.pace, world.rng.u16(..)) {
                (Pace::Still, _) | (_, 0..20_000) => return,
                (Pace::Jumping, 20_000..20_300) => Duration::from_secs(world.rng.u64(1..20_000)),
                (Pace::Jumping, 20_300..22_000) => Duration::from_millis(world.rng.u64(1_000..60_000)),
                _ => Duration::from_micros(world.rng.u64(..200_000)),
            }
        };
        self.world.borrow_mut().trace.note("time", usize::MAX, u64::try_from(time.as_nanos()).expect("hours"));
        self.pass(time);
    }
}
