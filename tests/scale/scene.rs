//! One worker with all its connections, and what each phase of their life costs.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use crore_engine::limits::{TICK_MS, TURN_COMPLETIONS_MAX};
use crore_engine::mesh::Capacity;
use crore_engine::simulation::{Census, Setup, Turn, Worker};
use crore_engine::{Context, Handler, Limits, Message, ProxyProtocol};
use crore_tests::system::{allocated_bytes, thread_time};

use super::client::Says;
use super::kernel::{Kernel, World};

/// Ticks between two pings of a connection.
pub(crate) const PING_TICKS: usize = 300;

/// The name of the topic with this number.
pub(crate) fn write_topic(name: &mut String, number: u32) {
    name.clear();
    write!(name, "topic:{number}").expect("a string takes everything");
}

/// Subscribes a connection to the topic that it names.
pub(crate) struct Subscriber {
    name: String,
    pongs: Rc<Cell<usize>>,
}

impl Handler for Subscriber {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        let number = message.payload().try_into().expect("the number of a topic");
        write_topic(&mut self.name, u32::from_be_bytes(number));
        context.subscribe(&self.name).expect("one subscription is within the limits");
    }

    fn on_pong(&mut self, _: &mut Context<'_>, (): &mut (), round_trip: Duration) {
        assert_eq!(round_trip, Duration::ZERO, "it is answered at once");
        self.pongs.set(self.pongs.get() + 1);
    }
}

/// A worker and the world around it.
pub(crate) struct Scene {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) worker: Worker<Kernel, Subscriber>,
    pub(crate) connections: usize,
    pub(crate) pongs: Rc<Cell<usize>>,
    now: Rc<Cell<Duration>>,
    /// Bytes that were allocated before there was a worker.
    bytes_before: usize,
}

impl Scene {
    /// A worker without connections. `topic_of` says what the client with a number subscribes to.
    pub(crate) fn new(connections: u32, topic_of: fn(u32) -> u32) -> Self {
        let now = Rc::new(Cell::new(Duration::ZERO));
        let world = Rc::new(RefCell::new(World::new(connections, topic_of, &now)));
        let (kernel, pongs) = (Kernel::new(&world), Rc::new(Cell::new(0)));
        let ping_interval = Duration::from_millis(TICK_MS) * u32::try_from(PING_TICKS).expect("few");
        let setup = Setup {
            limits: Limits { ping_interval, ..Limits::default() },
            peer_addresses: false,
            proxy_protocol: ProxyProtocol::Off,
            compression: None,
            coalescing: None,
            connections_max: connections,
            cores: 1,
            inbox_commands: 16,
            mesh: Capacity { lane_entries: 1, backlog_entries_max: 1 },
        };
        let bytes_before = allocated_bytes();
        let handler = Subscriber { name: String::new(), pongs: Rc::clone(&pongs) };
        let (worker, _) = Worker::new(setup, kernel, handler, &now).expect("an eventfd");
        let connections = connections as usize;
        println!("{connections} connections");
        println!(
            "{:<22}{:>12}{:>12}{:>14}{:>14}{:>14}",
            "phase", "times", "ns each", "bytes each", "at most", "resident"
        );
        Self { world, worker, connections, pongs, now, bytes_before }
    }

    /// Bytes that the worker has for each connection.
    pub(crate) fn bytes_each(&self) -> usize {
        allocated_bytes().saturating_sub(self.bytes_before).div_ceil(self.connections)
    }

    /// The most that this has been in the last phase.
    pub(crate) fn most_bytes_each(&self) -> usize {
        let most = self.world.borrow().counts.peak_bytes;
        most.saturating_sub(self.bytes_before).div_ceil(self.connections)
    }

    /// Goes through a phase that does something so many times, and shows what each time costs: CPU time, the fake
    /// kernel's and the clients' share included, and bytes for each connection, after it and at most.
    pub(crate) fn phase<T>(&mut self, name: &str, run: impl FnOnce(&mut Self) -> (usize, T)) -> T {
        self.world.borrow_mut().reset_largest();
        let before = thread_time();
        let (times, outcome) = run(self);
        let nanoseconds = (thread_time() - before).as_nanos() / times.max(1) as u128;
        let (after, most) = (self.bytes_each(), self.most_bytes_each());
        let resident = crore_tests::system::resident_bytes() >> 20;
        println!("{name:<22}{times:>12}{nanoseconds:>12}{after:>14}{most:>14}{resident:>10} MiB");
        let completions = self.world.borrow().counts.completions_of_a_turn;
        assert!(completions <= TURN_COMPLETIONS_MAX, "a turn has taken {completions} completions");
        outcome
    }

    /// Gives the worker turns as long as it has something to do.
    pub(crate) fn run(&mut self) -> Turn {
        loop {
            match self.worker.turn().expect("the kernel is good") {
                Turn::Busy => {}
                done => return done,
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ticks: usize) {
        let time = Duration::from_millis(TICK_MS) * u32::try_from(ticks).expect("few");
        self.now.set(self.now.get() + time);
    }

    /// All clients connect and upgrade.
    pub(crate) fn open(&mut self, name: &str) {
        self.phase(name, |scene| {
            scene.world.borrow_mut().counts.upgrades = 0;
            scene.world.borrow_mut().connect_all();
            scene.run();
            (scene.connections, ())
        });
        assert_eq!(self.world.borrow().counts.upgrades, self.connections);
        assert_eq!(self.worker.handle().stats().connections_open, self.connections as u64);
        self.check_idle();
    }

    /// All clients subscribe.
    pub(crate) fn subscribe(&mut self) {
        self.phase("subscribe", |scene| {
            scene.world.borrow_mut().all_say(Says::Subscribe);
            scene.run();
            (scene.connections, ())
        });
        self.check_idle();
    }

    /// Everyone is there, and has nothing but a slot.
    pub(crate) fn check_idle(&mut self) {
        let Census {
            connections, open, paused, with_rare, input_bytes, outbox_bytes, partial_bytes, left_behind, ..
        } = self.worker.census();
        assert_eq!((connections, open), (self.connections, self.connections));
        assert_eq!((paused, with_rare, input_bytes, outbox_bytes, partial_bytes, left_behind), (0, 0, 0, 0, 0, 0));
    }

    /// Nobody is there, and every slot, subscription, buffer and socket has come back.
    pub(crate) fn check_empty(&mut self) {
        assert_eq!(self.worker.census(), Census::default());
        let counts = self.world.borrow().counts;
        assert_eq!((counts.sockets, counts.buffers), (0, 0));
        let stats = self.worker.handle().stats();
        assert_eq!((stats.connections, stats.connections_open, stats.topics), (0, 0, 0));
    }
}
