//! Where one event is decided, and how that does of late.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Uri;

use super::Event;
use super::answer::{Grant, Outcome};
use super::breaker::{Breaker, BreakerSettings, Change, State, Ticket};
use super::meter::Meter;
use crate::config::WhenDown;

/// How often an answer that can't be used is worth a line of the log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// One event's backend.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    event: Event,
    when_down: WhenDown,
    health: Mutex<Health>,
}

/// How it does. The control thread alone changes it, and is never kept waiting for longer than a scrape reads it.
#[derive(Debug)]
struct Health {
    breaker: Breaker,
    /// When the log was last told of an unusable answer.
    complained: Option<Duration>,
}

impl Endpoint {
    pub(super) const fn new(event: Event, uri: Uri, when_down: WhenDown, breaker: BreakerSettings) -> Self {
        let health = Mutex::new(Health { breaker: Breaker::new(breaker), complained: None });
        Self { uri, event, when_down, health }
    }

    /// Whether it may be asked now.
    pub(super) fn admit(&self, meter: &Meter, now: Duration) -> Option<Ticket> {
        let (ticket, change) = self.health().breaker.admit(now);
        self.announce(meter, change);
        ticket
    }

    /// It has answered, or failed to.
    pub(super) fn record(&self, meter: &Meter, ticket: Ticket, failed: bool, now: Duration) {
        let change = self.health().breaker.record(ticket, failed, now);
        self.announce(meter, change);
    }

    pub(super) fn state(&self) -> State {
        self.health().breaker.state()
    }

    /// What it stands for while it is down.
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
