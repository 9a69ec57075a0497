//! What the webhook counts. The control thread alone writes.

use std::time::Duration;

use super::breaker::State;
use super::{Event, Outcome, Webhook};
use crate::metrics::{Counter, Histogram, Observed};

/// The longest answers of the classes, in microseconds.
pub(crate) const ANSWER_US: [u64; 11] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// What has come of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Result,
    Error,
    Disconnect,
    /// It could not be used.
    Unusable,
    /// None in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// A connection that has broken.
    Broken,
    /// 429 or 5xx.
    ServerError,
    /// Not asked.
    BreakerOpen,
    /// Not asked: its turn has not come, or too many waited for theirs.
    Waited,
}

impl Answer {
    /// All of them, with their labels.
    pub(crate) const ALL: [(Self, &'static str); 10] = [
        (Self::Result, "result"),
        (Self::Error, "error"),
        (Self::Disconnect, "disconnect"),
        (Self::Unusable, "unusable"),
        (Self::Timeout, "timeout"),
        (Self::Unreachable, "unreachable"),
        (Self::Broken, "broken"),
        (Self::ServerError, "server_error"),
        (Self::BreakerOpen, "breaker_open"),
        (Self::Waited, "busy"),
    ];

    pub(super) const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Granted(_) => Self::Result,
            Outcome::Refused { .. } => Self::Error,
            Outcome::Disconnect { .. } => Self::Disconnect,
            Outcome::Unavailable => Self::Unusable,
            Outcome::Busy => Self::Waited,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    answers: [[Counter; Answer::ALL.len()]; Event::ALL.len()],
    opened: [Counter; Event::ALL.len()],
    answer_us: Histogram<{ ANSWER_US.len() }>,
}

impl Meter {
    pub(super) fn count(&self, event: Event, answer: Answer) {
        self.answers[event.index()][answer as usize].add(1);
    }

    pub(super) fn opened(&self, event: Event) {
        self.opened[event.index()].add(1);
    }

    pub(super) fn observe(&self, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.answer_us.observe(ANSWER_US.partition_point(|most| *most < time_us), time_us);
    }
}

/// The numbers of a webhook, as a scrape shows them.
pub(crate) struct Report {
    /// Of each event that is decided by a backend.
    pub(crate) events: Vec<EventReport>,
    /// How long answers have taken, of all events.
    pub(crate) answer_us: Observed<{ ANSWER_US.len() }>,
}

/// Those of one event.
pub(crate) struct EventReport {
    pub(crate) name: &'static str,
    /// In the order of [`Answer::ALL`].
    pub(crate) answers: [u64; Answer::ALL.len()],
    /// How often the breaker has opened.
    pub(crate) opened: u64,
    /// 0 closed, 1 half-open, 2 open.
    pub(crate) breaker: u8,
    /// Questions that are out.
    pub(crate) in_flight: usize,
    /// Questions that wait for their turn.
    pub(crate) waiting: usize,
}

impl Webhook {
    pub(crate) fn report(&self) -> Report {
        let event = |event: Event| {
            let endpoint = self.events[event.index()].as_ref()?;
            let breaker = match endpoint.state() {
                State::Closed => 0,
                State::HalfOpen { .. } => 1,
                State::Open { .. } => 2,
            };
            let mut answers: [u64; Answer::ALL.len()] =
                std::array::from_fn(|answer| self.meter.answers[event.index()][answer].read());
            answers[Answer::Waited as usize] += endpoint.turned_away();
            let ((in_flight, waiting), opened) = (endpoint.load(), self.meter.opened[event.index()].read());
            Some(EventReport { name: event.name(), answers, opened, breaker, in_flight, waiting })
        };
        Report {
            events: Event::ALL.into_iter().filter_map(event).collect(),
            answer_us: Observed::of([&self.meter.answer_us]),
        }
    }
}
