//! The way to the engine from any thread: [`EngineHandle`].

use std::fmt;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use socket2::SockRef;

use crate::handler::{Notice, Publication};
use crate::id::{ConnectionId, CoreId};
use crate::memory::{CoreMemory, Memory};
use crate::mesh::Doorbell;
use crate::message::OwnedMessage;
use crate::protocol::Opcode;
use crate::protocol::close::code;
use crate::protocol::frame::append_frame;
use crate::stats::{CoreStats, Stats};
use crate::survey::{Survey, Surveyed};
use crate::topics::Interest;

/// What one core, or another thread, asks of a core.
pub(crate) enum Command {
    /// An encoded frame for the subscribers of a topic.
    Publish { topic: Arc<str>, hash: u64, frame: Bytes, publication: Publication },
    /// An encoded frame for every open connection.
    Broadcast { frame: Bytes, except: Option<ConnectionId> },
    /// An encoded frame for one connection.
    Send { to: ConnectionId, frame: Bytes },
    /// A close handshake.
    Close { to: ConnectionId, code: u16, reason: Box<str> },
    /// The end of a TCP connection.
    Terminate { to: ConnectionId },
    /// Something for the handler, about one connection.
    Tell { to: ConnectionId, notice: Notice },
    /// Something for the handler.
    TellCore { notice: Notice },
    /// A look at some of its connections.
    Survey { survey: Survey, answer: Box<dyn FnOnce(Surveyed) + Send> },
    /// Stop accepting, close every connection, end the worker.
    Drain(Arc<Drain>),
}

/// On what terms an engine ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The code of the close frames (RFC 6455, section 7.4). 1001, going away, if nothing else is set.
    pub code: u16,
    /// Their reason, of which 123 bytes are sent.
    pub reason: String,
    /// The time over which each core spreads its closes evenly, in ticks of
    /// [`TICK_MS`](crate::limits::TICK_MS); who has not been closed yet goes on as before. Nobody is accepted from the
    /// start, and handshakes are cut. Zero, the default: all are closed at once; of a crowd,
    /// [`DRAIN_UNANSWERED_MAX`](crate::limits::DRAIN_UNANSWERED_MAX) and then others as they end, all within half of
    /// the patience.
    pub spread: Duration,
    /// How long a client may take to answer its close frame; then it is cut. 10 s if nothing else is set.
    pub patience: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            code: code::GOING_AWAY,
            reason: "the server is going away".to_owned(),
            spread: Duration::ZERO,
            patience: Duration::from_secs(10),
        }
    }
}

/// A core has as many commands waiting as it may. Try again later, or slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {0} has as many commands waiting as it may (`COMMANDS_MAX`), or has ended: try again later")]
pub struct Overloaded(pub CoreId);

/// What could not be told, since a core has as many commands waiting as it may, or has ended.
#[derive(thiserror::Error)]
#[error("{}", Overloaded(*.core))]
pub struct Untold {
    /// Which core.
    pub core: CoreId,
    /// What it was to be told.
    pub notice: Notice,
}

impl fmt::Debug for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untold").field("core", &self.core).finish_non_exhaustive()
    }
}

/// One core as other threads reach it.
pub(crate) struct CoreLink {
    pub(crate) commands: Sender<Command>,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) memory: Arc<CoreMemory>,
}

/// A listening socket, which belongs to its core and ends with it.
pub(crate) type ListenerLink = Weak<dyn AsFd + Send + Sync>;

struct Shared {
    cores: Vec<CoreLink>,
    /// Those of all cores, until a drain.
    listeners: Mutex<Vec<ListenerLink>>,
    doorbells: Arc<[Doorbell]>,
    interest: Arc<Interest>,
    drain: OnceLock<Arc<Drain>>,
}

/// A cloneable way to the engine, for any thread. Its calls do not wait: they leave a command with
/// the core, which takes it in its next turn. Commands of one thread to one core keep their order.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").field("cores", &self.cores()).finish_non_exhaustive()
    }
}

impl EngineHandle {
    pub(crate) fn new(
        cores: Vec<CoreLink>,
        listeners: Vec<ListenerLink>,
        doorbells: Arc<[Doorbell]>,
        interest: Arc<Interest>,
    ) -> Self {
        let (listeners, drain) = (Mutex::new(listeners), OnceLock::new());
        Self { shared: Arc::new(Shared { cores, listeners, doorbells, interest, drain }) }
    }

    /// Number of cores.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.shared.cores.len()
    }

    /// Sends a message to every subscriber of a topic, on all cores that have any.
    ///
    /// # Errors
    /// A core with subscribers takes no more commands; the others have got the message.
    pub fn publish(&self, topic: &str, message: impl Into<OwnedMessage>) -> Result<(), Overloaded> {
        self.publish_with(topic, message, Publication::default())
    }

    /// Like [`Self::publish`], but not to one of the subscribers.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_to_all_but(
        &self,
        except: ConnectionId,
        topic: &str,
        message: impl Into<OwnedMessage>,
    ) -> Result<(), Overloaded> {
        self.publish_with(topic, message, Publication { except: Some(except), ..Publication::default() })
    }

    /// Like [`Self::publish`], with a say in who gets the message and what becomes of it where subscribers are behind.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_with(
        &self,
        topic: &str,
        message: impl Into<OwnedMessage>,
        publication: Publication,
    ) -> Result<(), Overloaded> {
        let hash = self.shared.interest.hash(topic);
        let mut interested = self.shared.interest.cores_interested(hash).peekable();
        if interested.peek().is_none() {
            return Ok(());
        }
        let (topic, frame) = (Arc::<str>::from(topic), encode(&message.into()));
        let publish = || Command::Publish { topic: Arc::clone(&topic), hash, frame: frame.clone(), publication };
        self.to_cores(interested, publish)
    }

    /// Sends a message to every open connection.
    ///
    /// # Errors
    /// A core takes no more commands; the others have got the message.
    pub fn broadcast(&self, message: impl Into<OwnedMessage>) -> Result<(), Overloaded> {
        let frame = encode(&message.into());
        let broadcast = || Command::Broadcast { frame: frame.clone(), except: None };
        self.to_cores((0..=u16::MAX).take(self.cores()).map(CoreId), broadcast)
    }

    /// Sends a message to one connection. If it has gone, the message goes nowhere.
    ///
    /// # Errors
    /// Its core takes no more commands.
    pub fn send(&self, to: ConnectionId, message: impl Into<OwnedMessage>) -> Result<(), Overloaded> {
        self.to_core(to.core(), Command::Send { to, frame: encode(&message.into()) })
    }

    /// Closes one connection with a close frame.
    ///
    /// # Errors
    /// Its core takes no more commands.
    pub fn close(&self, to: ConnectionId, code: u16, reason: &str) -> Result<(), Overloaded> {
        self.to_core(to.core(), Command::Close { to, code, reason: reason.into() })
    }

    /// Ends one TCP connection without a close frame.
    ///
    /// # Errors
    /// Its core takes no more commands.
    pub fn terminate(&self, to: ConnectionId) -> Result<(), Overloaded> {
        self.to_core(to.core(), Command::Terminate { to })
    }

    /// Tells a connection something: [`Handler::on_told`](crate::Handler::on_told) on its core, or
    /// [`Handler::on_untold`](crate::Handler::on_untold) there if it is not open.
    ///
    /// # Errors
    /// Its core takes no more commands: the notice comes back.
    pub fn tell(&self, to: ConnectionId, notice: Notice) -> Result<(), Untold> {
        self.tell_by(to.core(), Command::Tell { to, notice })
    }

    /// Tells a core something: [`Handler::on_core_told`](crate::Handler::on_core_told) there.
    ///
    /// # Errors
    /// The core takes no more commands: the notice comes back.
    pub fn tell_core(&self, core: CoreId, notice: Notice) -> Result<(), Untold> {
        self.tell_by(core, Command::TellCore { notice })
    }

    /// Asks a core which connections are open, and how much waits for each: a part of them at a time. The core calls
    /// `answer`, which should hand on what it is given; if there is no such core any more, it is dropped.
    ///
    /// # Errors
    /// The core takes no more commands.
    pub fn survey(
        &self,
        core: CoreId,
        survey: Survey,
        answer: impl FnOnce(Surveyed) + Send + 'static,
    ) -> Result<(), Overloaded> {
        self.to_core(core, Command::Survey { survey, answer: Box::new(answer) })
    }

    /// Open connections, on all cores.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "an open connection is what an application calls a connection")]
    pub fn connections(&self) -> u64 {
        self.stats().connections_open
    }

    /// The counters of all cores, added up.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.cores.iter().map(|core| core.stats.read()).sum()
    }

    /// The counters of each core.
    #[must_use]
    pub fn stats_by_core(&self) -> Vec<Stats> {
        self.shared.cores.iter().map(|core| core.stats.read()).collect()
    }

    /// Lets every core take a turn, also one that has nothing to do. Where [`Stats::turns`] does not grow after
    /// that, a handler keeps the core, or the core has ended. A core that goes to sleep at the same moment may miss
    /// it: nudge again.
    pub fn nudge(&self) {
        for doorbell in self.shared.doorbells.iter() {
            doorbell.ring();
        }
    }

    /// Bytes that all cores hold, by class, as of their last ticks.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.shared.cores.iter().map(|core| core.memory.read()).sum()
    }

    /// Bytes that each core holds.
    #[must_use]
    pub fn memory_by_core(&self) -> Vec<Memory> {
        self.shared.cores.iter().map(|core| core.memory.read()).collect()
    }

    /// Ends the engine: nobody listens on its address any more when this returns; then a close frame (1001) to every
    /// connection, up to `patience` for their answers, then the rest is cut. Returns at once;
    /// [`Engine::run`](crate::Engine::run) and [`Running::join`](crate::Running::join) return when it is done.
    pub fn drain(&self, patience: Duration) {
        self.drain_with(Drain { patience, ..Drain::default() });
    }

    /// The same on other terms: with a code and a reason of the application's own, and closes that are spread over a
    /// time, so that those who are closed do not all come back at once. A second drain changes nothing.
    pub fn drain_with(&self, terms: Drain) {
        let terms = self.settle_terms(terms);
        self.stop_listening();
        for core in (0..=u16::MAX).take(self.cores()).map(CoreId) {
            let Err(TrySendError::Full(command)) = self.try_send(core, Command::Drain(Arc::clone(&terms))) else {
                continue;
            };
            // The one command that must arrive: it waits for room, but not on this thread, which may be
            // the one that makes it.
            let handle = self.clone();
            let wait = move || {
                if handle.shared.cores[core.index()].commands.send(command).is_ok() {
                    handle.shared.doorbells[core.index()].ring();
                }
            };
            if let Err(error) = thread::Builder::new().name("crore-drain".to_owned()).spawn(wait) {
                tracing::error!(%core, %error, "is not drained: its inbox is full, and no thread can wait for room");
            }
        }
    }

    /// The terms of the first drain: these, if there has been none.
    fn settle_terms(&self, terms: Drain) -> Arc<Drain> {
        Arc::clone(self.shared.drain.get_or_init(|| Arc::new(terms)))
    }

    /// On all cores before the first of them closes anybody: who comes back at once would be accepted by a core that does
    /// not know of the drain yet, and be cut in its handshake. `shutdown(2)` ends a listener whatever its core is doing
    /// (`inet_shutdown` in the kernel's `net/ipv4/af_inet.c`).
    fn stop_listening(&self) {
        // Whoever drains at the same time waits for the last of them, too.
        let mut listeners = self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.drain(..).filter_map(|listener| listener.upgrade()) {
            if let Err(error) = SockRef::from(&listener).shutdown(Shutdown::Read) {
                tracing::error!(%error, "a listener is not shut down: its core closes it");
            }
        }
    }

    /// Whether [`Self::drain`] has been called, or a core has failed and drains the others.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain_terms().is_some()
    }

    /// On what terms the engine ends, once it does: those of the first drain.
    #[must_use]
    pub fn drain_terms(&self) -> Option<&Drain> {
        self.shared.drain.get().map(|terms| &**terms)
    }

    fn to_cores(&self, cores: impl Iterator<Item = CoreId>, command: impl Fn() -> Command) -> Result<(), Overloaded> {
        let mut outcome = Ok(());
        for core in cores {
            outcome = outcome.and(self.to_core(core, command()));
        }
        outcome
    }

    fn to_core(&self, core: CoreId, command: Command) -> Result<(), Overloaded> {
        // An identifier that the engine did not make names no core: like a connection that has gone.
        if core.index() >= self.cores() {
            return Ok(());
        }
        self.try_send(core, command).map_err(|_| Overloaded(core))
    }

    fn tell_by(&self, core: CoreId, command: Command) -> Result<(), Untold> {
        let refused = if core.index() < self.cores() {
            match self.try_send(core, command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => command,
            }
        } else {
            command
        };
        let (Command::Tell { notice, .. } | Command::TellCore { notice }) = refused else {
            unreachable!("what was to be sent comes back")
        };
        Err(Untold { core, notice })
    }

    fn try_send(&self, core: CoreId, command: Command) -> Result<(), TrySendError<Command>> {
        self.shared.cores[core.index()].commands.try_send(command)?;
        self.shared.doorbells[core.index()].ring();
        Ok(())
    }
}

fn encode(message: &OwnedMessage) -> Bytes {
    let mut frame = Vec::new();
    append_frame(&mut frame, Opcode::from(message.kind), message.payload());
    frame.into()
}
