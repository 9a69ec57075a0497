//! Where one event is decided, and how that does of late.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Uri;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Event;
use super::answer::{Grant, Outcome};
use super::breaker::{Asker, Breaker, BreakerSettings, Change, Failure, State, Ticket};
use super::meter::Meter;
use crate::config::{WebhookConfig, WhenDown};
use crate::control::QUESTIONS_MAX;

/// How often an answer that can't be used is worth a line of the log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// One event's backend.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    event: Event,
    when_down: WhenDown,
    /// For questions that are out or wait for a turn.
    seats: Arc<Semaphore>,
    /// For those that are out.
    turns: Semaphore,
    turns_max: usize,
    /// Questions that have found no seat. Cores count them, and not the control thread.
    turned_away: AtomicU64,
    health: Mutex<Health>,
}

/// A question's place among those of its event, until it is answered.
pub(super) type Seat = OwnedSemaphorePermit;

/// How it does. The control thread alone changes it, and is never kept waiting for longer than a scrape reads it.
#[derive(Debug)]
struct Health {
    breaker: Breaker,
    /// When the log was last told of an unusable answer.
    complained: Option<Duration>,
}

impl Endpoint {
    pub(super) fn new(event: Event, uri: Uri, when_down: WhenDown, settings: &WebhookConfig) -> Self {
        let breaker = BreakerSettings {
            failures: settings.breaker_failures,
            window: settings.breaker_window,
            pause: settings.breaker_pause,
        };
        let turns_max = settings.concurrency_max;
        Self {
            uri,
            event,
            when_down,
            seats: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            turns: Semaphore::new(turns_max),
            turns_max,
            turned_away: AtomicU64::new(0),
            health: Mutex::new(Health { breaker: Breaker::new(breaker), complained: None }),
        }
    }

    /// A seat for one more question, if there is one.
    pub(super) fn seat(&self) -> Option<Seat> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok();
        if seat.is_none() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        seat
    }

    /// Waits for the turn of a question that has a seat; `None`: it has not come.
    pub(super) async fn turn(&self, patience: Duration) -> Option<SemaphorePermit<'_>> {
        timeout(patience, self.turns.acquire()).await.ok()?.ok()
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Questions that are out, and those that wait for their turn.
    pub(super) fn load(&self) -> (usize, usize) {
        let out = self.turns_max - self.turns.available_permits();
        (out, (QUESTIONS_MAX - self.seats.available_permits()).saturating_sub(out))
    }

    /// Whether it is left alone at the moment, whoever asks.
    pub(super) fn is_shut(&self, now: Duration) -> bool {
        self.health().breaker.is_shut(now)
    }

    /// Whether it may be asked now.
    pub(super) fn admit(&self, meter: &Meter, asker: &Asker, now: Duration) -> Option<Ticket> {
        let (ticket, change) = self.health().breaker.admit(asker, now);
        self.announce(meter, change);
        ticket
    }

    /// It has answered, or failed to.
    pub(super) fn record(&self, meter: &Meter, ticket: Ticket, failure: Option<Failure>, now: Duration) {
        let change = self.health().breaker.record(ticket, failure, now);
        self.announce(meter, change);
    }

    pub(super) fn state(&self) -> State {
        self.health().breaker.state()
    }

    /// What it stands for while it can't be asked: that one question has failed is no reason to do without it.
    pub(super) fn down(&self) -> Outcome {
        match self.when_down {
            WhenDown::Refuse => Outcome::Unavailable,
            WhenDown::Allow => Outcome::Granted(Grant::default()),
        }
    }

    /// Tells the log of an answer that can't be used, now and then.
    pub(super) fn complain(&self, reason: &dyn Display, now: Duration) {
        let is_due = |last: Duration| now.saturating_sub(last) >= COMPLAINT_INTERVAL;
        let complained = &mut self.health().complained;
        if complained.is_none_or(is_due) {
            *complained = Some(now);
            tracing::warn!(event = self.event.name(), %reason, "an answer of the webhook's backend can't be used");
        }
    }

    fn announce(&self, meter: &Meter, change: Option<Change>) {
        let event = self.event.name();
        match change {
            Some(Change::Opened) => {
                meter.opened(self.event);
                tracing::warn!(event, "the webhook's circuit breaker is open: the backend is left alone");
            }
            Some(Change::HalfOpened) => {
                tracing::info!(event, "the webhook's circuit breaker is half-open: the backend is tried");
            }
            Some(Change::Closed) => {
                tracing::info!(event, "the webhook's circuit breaker is closed: the backend answers again");
            }
            None => {}
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
