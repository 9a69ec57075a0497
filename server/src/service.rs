//! The server as a service of systemd: it is ready, it stops, it is alive (`sd_notify(3)`, `systemd.service(5)`).

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crore_engine::{EngineHandle, Running};
use sd_notify::NotifyState;

use crate::health::Turns;

/// Between two lines of status where systemd does not watch.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Looks at the cores, while one does not work, in a watchdog interval.
const LOOKS: u32 = 32;

/// A thread that tells systemd how the server is, until it is dropped.
pub(crate) struct Service {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Says that the server is ready, and goes on to say that it is alive. Nothing, where there is no systemd.
    pub(crate) fn start(running: &Running) -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let room = u64::from(running.room().connections_per_core_max) * running.handle().cores() as u64;
        let watch = Watch {
            handle: running.handle().clone(),
            place: format!("listening on {}", running.address()),
            room,
            watchdog: sd_notify::watchdog_enabled(),
        };
        let ready = watch.status();
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&ready)]) {
            tracing::warn!(%error, "systemd can't be told that the server is ready");
        }
        let (stop, stopped) = channel();
        let work = move || watch.run(&stopped, sd_notify::notify);
        match thread::Builder::new().name("crore-service".to_owned()).spawn(work) {
            Ok(thread) => Some(Self { stop: Some(stop), thread: Some(thread) }),
            Err(error) => {
                tracing::warn!(%error, "systemd is not told that the server is alive: no thread for it");
                None
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Says that the drain has begun.
pub(crate) fn say_stopping(handle: &EngineHandle) {
    let status = format!("draining {} connections", handle.connections());
    if let Err(error) = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&status)]) {
        tracing::warn!(%error, "systemd can't be told that the server stops");
    }
}

/// Says that the configuration is being read again.
pub(crate) fn say_reloading() {
    let told = NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
    if let Err(error) = told {
        tracing::warn!(%error, "systemd can't be told that the configuration is read again");
    }
}

/// Says that it has been, and with what result.
pub(crate) fn say_reloaded(status: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]) {
        tracing::warn!(%error, "systemd can't be told that the configuration has been read again");
    }
}

/// What is told.
struct Watch {
    handle: EngineHandle,
    place: String,
    room: u64,
    /// How long systemd waits for a sign of life, if it watches.
    watchdog: Option<Duration>,
}

impl Watch {
    fn status(&self) -> String {
        format!("{}, {} of {} connections", self.place, self.handle.connections(), self.room)
    }

    /// A sign of life and a line of status, twice in the interval of the watchdog, while every core works.
    fn run(&self, stop: &Receiver<()>, send: impl Fn(&[NotifyState<'_>]) -> io::Result<()>) {
        let interval = self.watchdog.map_or(STATUS_INTERVAL, |watchdog| watchdog / 2);
        let mut failing = false;
        while !wait(stop, interval) {
            if !self.cores_work(stop, interval) {
                return;
            }
            let status = self.status();
            let states = [NotifyState::Status(&status), NotifyState::Watchdog];
            let sent = send(if self.watchdog.is_some() { &states } else { &states[..1] });
            // Once, and not twice a minute.
            if let Err(error) = &sent
                && !failing
            {
                tracing::warn!(%error, "systemd can't be told that the server is alive");
            }
            failing = sent.is_err();
        }
    }

    /// Waits until every core has taken a turn from now on. False: it is time to stop.
    fn cores_work(&self, stop: &Receiver<()>, interval: Duration) -> bool {
        let turns = Turns::taken(&self.handle);
        while !turns.awaited(&self.handle).is_empty() {
            if wait(stop, (interval / LOOKS).max(Duration::from_millis(1))) {
                return false;
            }
        }
        true
    }
}

/// Whether the end has come within a time.
fn wait(stop: &Receiver<()>, time: Duration) -> bool {
    stop.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroU16;

    use super::*;
    use crate::Server;
    use crate::config::Config;
    use crate::test_support::{Client, Stall};

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// So long that a busy machine does not miss it, so short that a test can wait for several.
    const WATCHDOG: Duration = Duration::from_millis(100);

    #[test]
    fn the_watchdog_is_fed_while_every_core_works() {
        let config =
            Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), cores: NonZeroU16::new(2), ..Config::default() };
        let (server, stall) = Stall::on(Server::new(config), PATIENCE);
        let running = thread::spawn(|| server.start().unwrap()).join().unwrap();
        let watch =
            Watch { handle: running.handle().clone(), place: "here".to_owned(), room: 7, watchdog: Some(WATCHDOG) };
        let (stop, stopped) = channel();
        let (signs, alive) = channel();
        let watching = thread::spawn(move || {
            watch.run(&stopped, |states| {
                let text: Vec<String> = states.iter().map(ToString::to_string).collect();
                signs.send(text.join(" ")).map_err(io::Error::other)
            });
        });
        // Idle cores work.
        for _ in 0..3 {
            assert_eq!(alive.recv_timeout(PATIENCE).unwrap(), "STATUS=here, 0 of 7 connections WATCHDOG=1");
        }
        let mut client = Client::on_core(running.address(), '0', PATIENCE);
        stall.begin(&mut client);
        // Those until now, and one that may have been on its way; then there is none, for as long as systemd would wait and
        // longer.
        alive.try_iter().for_each(drop);
        let _ = alive.recv_timeout(WATCHDOG);
        assert_eq!(alive.recv_timeout(WATCHDOG * 5), Err(RecvTimeoutError::Timeout));
        stall.end();
        assert_eq!(alive.recv_timeout(PATIENCE).unwrap(), "STATUS=here, 1 of 7 connections WATCHDOG=1");
        drop(stop);
        watching.join().unwrap();
        running.handle().drain(Duration::ZERO);
        running.join().unwrap();
    }
}
