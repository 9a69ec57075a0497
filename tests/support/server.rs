//! Engines in this process, and what must hold when they have ended.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crore_engine::uring::probe;
use crore_engine::{
    CloseCause, Compression, ConnectionId, CoreId, DescriptorSetting, Engine, EngineHandle, Handler, Limits, Running,
    Stats,
};

use crate::{Actor, Client, DEADLINE, Event, wait_until};

/// Limits for tests: heartbeats and time-outs are so far off that they touch only the tests that ask
/// for them.
#[must_use]
pub fn limits() -> Limits {
    const NEVER: Duration = Duration::from_secs(3600);
    Limits {
        ping_interval: NEVER,
        handshake_timeout: NEVER,
        close_timeout: NEVER,
        connections_per_core_max: Some(1000),
        ..Limits::default()
    }
}

/// Runs a test with each kind of descriptor that the kernel allows.
pub fn on_each_kind(test: impl Fn(Setup)) {
    for descriptors in [DescriptorSetting::Regular, DescriptorSetting::Direct] {
        match probe(descriptors) {
            Ok(_) => {
                println!("with descriptors: {descriptors:?}");
                test(Setup { descriptors, compression: None });
            }
            Err(error) => println!("not with descriptors: {descriptors:?}: {error}"),
        }
    }
}

/// What a test's engines have in common.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The kind of descriptor.
    pub descriptors: DescriptorSetting,
    /// How messages are compressed, if they are.
    pub compression: Option<Compression>,
}

impl Setup {
    /// One core of [`Actor`]s with the usual limits.
    #[must_use]
    pub fn start(self) -> Server {
        self.start_with(1, limits())
    }

    /// [`Actor`]s on so many cores, within these limits.
    #[must_use]
    pub fn start_with(self, cores: usize, limits: Limits) -> Server {
        let (sender, events) = channel();
        self.start_handler(cores, limits, events, move |_| Actor::new(sender.clone()))
    }

    /// A handler of the test's own, which reports to `events`.
    ///
    /// # Panics
    /// If the engine does not start.
    #[must_use]
    pub fn start_handler<H: Handler>(
        self,
        cores: usize,
        limits: Limits,
        events: Receiver<Event>,
        handler: impl Fn(CoreId) -> H + Send + Sync + 'static,
    ) -> Server {
        let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(cores).limits(limits);
        self.start_engine(engine.compression(self.compression), events, handler)
    }

    /// An engine and a handler of the test's own.
    ///
    /// # Panics
    /// If the engine does not start.
    #[must_use]
    pub fn start_engine<H: Handler>(
        self,
        engine: Engine,
        events: Receiver<Event>,
        handler: impl Fn(CoreId) -> H + Send + Sync + 'static,
    ) -> Server {
        let engine = engine.descriptors(self.descriptors);
        let running = engine.start(handler).expect("the engine starts");
        Server { address: running.address(), handle: running.handle().clone(), events, running: Some(running) }
    }
}

/// An engine that ends with its test, and must have lost nothing then.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: EngineHandle,
    events: Receiver<Event>,
    running: Option<Running>,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to the engine.
    #[must_use]
    pub const fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// An open connection.
    #[must_use]
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A TCP connection on which nothing has been said.
    #[must_use]
    #[track_caller]
    pub fn tcp(&self) -> Client {
        Client::tcp(self.address)
    }

    /// Waits for the counters to come to something.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl Fn(&Stats) -> bool) {
        wait_until(what, || condition(&self.stats()));
    }

    /// Waits until no connection is left, of whatever state.
    #[track_caller]
    pub fn wait_until_empty(&self) {
        self.wait_for("no connection is left", |stats| stats.connections == 0);
    }

    /// The next thing that a handler has reported.
    ///
    /// # Panics
    /// If nothing is reported.
    #[track_caller]
    pub fn event(&self) -> Event {
        self.events.recv_timeout(DEADLINE).expect("the handler reports something")
    }

    /// Whatever else has been reported up to now.
    #[must_use]
    pub fn events_so_far(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    /// The next opening that is reported; all before it is dropped.
    #[track_caller]
    pub fn opened(&self) -> ConnectionId {
        loop {
            if let Event::Opened(id) = self.event() {
                return id;
            }
        }
    }

    /// The next end of a connection that is reported, with its code and reason; all before it is dropped.
    #[track_caller]
    pub fn closed(&self) -> (u16, String, CloseCause) {
        loop {
            if let Event::Closed { code, reason, cause, .. } = self.event() {
                return (code, reason, cause);
            }
        }
    }

    /// Waits for the workers of an engine that is draining.
    ///
    /// # Panics
    /// If a worker has failed, or something has been lost.
    pub fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.join().expect("every worker ends in peace");
        let stats = self.stats();
        let left = (stats.connections, stats.connections_open, stats.connections_hot, stats.topics);
        assert_eq!(left, (0, 0, 0, 0), "connections, open ones, hot ones and topics are left: {stats:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.drain(Duration::ZERO);
        if std::thread::panicking() {
            return;
        }
        self.end();
    }
}

/// Where [`Actor`]s report to.
pub type Reports = Sender<Event>;
