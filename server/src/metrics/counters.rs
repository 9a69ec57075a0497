//! What the sessions count beside the engine: each core for itself, with neither a lock nor a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::home::HistoryNumbers;
use crate::presence::PresenceNumbers;
use crate::wire::Refusal;

/// A number that one thread counts up and all may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// To be called by one thread alone: a load and a store, which cost what they would without others to read them.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.read().wrapping_add(more), Ordering::Relaxed);
    }

    /// As [`Self::add`].
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Observations by size, `N` classes of them and those above.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    classes: [Counter; N],
    above: Counter,
    sum: Counter,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| Counter::default()),
            above: Counter::default(),
            sum: Counter::default(),
        }
    }
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn observe(&self, class: usize, value: u64) {
        self.classes.get(class).unwrap_or(&self.above).add(1);
        self.sum.add(value);
    }
}

/// A histogram as it was read, of several cores together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed<const N: usize> {
    /// Observations in each class, not cumulated.
    pub(crate) classes: [u64; N],
    /// Observations above all classes.
    pub(crate) above: u64,
    /// The sum of what was observed.
    pub(crate) sum: u64,
}

impl<const N: usize> Observed<N> {
    pub(crate) fn of<'h>(all: impl IntoIterator<Item = &'h Histogram<N>>) -> Self {
        let mut observed = Self { classes: [0; N], above: 0, sum: 0 };
        for one in all {
            for (sum, counter) in observed.classes.iter_mut().zip(&one.classes) {
                *sum += counter.read();
            }
            observed.above += one.above.read();
            observed.sum += one.sum.read();
        }
        observed
    }
}

/// The largest payloads of the classes, in bytes: powers of four, so that a class is two bits of a logarithm.
pub(crate) const MESSAGE_BYTES: [u64; 9] = [16, 64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20];

/// The longest round trips of the classes, in microseconds.
pub(crate) const ROUND_TRIP_US: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

/// What one core counts. On cache lines of its own, since its neighbours' are written all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CoreCounters {
    pub(crate) message_bytes: Histogram<{ MESSAGE_BYTES.len() }>,
    pub(crate) round_trip_us: Histogram<{ ROUND_TRIP_US.len() }>,
    pub(crate) errors: Counter,
    /// Of these, because their sender had sent too much.
    pub(crate) rate_limited: Counter,
    /// Of these, because somebody may not do what the message asked for.
    pub(crate) forbidden: Counter,
    /// Subscriptions that have ended with their tokens.
    pub(crate) subscriptions_expired: Counter,
    /// Subscriptions that a token has ended which was shown later and does not allow them.
    pub(crate) subscriptions_revoked: Counter,
    /// Connections closed because their user has opened others.
    pub(crate) replaced: Counter,
    /// Times that others were told that somebody types.
    pub(crate) typing: Counter,
    /// Times that they were not, because they had been told of late.
    pub(crate) typing_throttled: Counter,
    /// Read receipts.
    pub(crate) receipts: Counter,
    /// Messages dropped because as many waited as may.
    pub(crate) overloaded: Counter,
    /// Messages refused because as many bytes waited on the core as may.
    pub(crate) waiting_refused: Counter,
    /// Connections that were not read from for a while, because as many messages of theirs waited as may.
    pub(crate) inbound_pauses: Counter,
    /// Requests answered with 429.
    pub(crate) refused_addresses: Counter,
    /// Publications that are kept, of the channels that are at home here.
    pub(crate) history_kept: Counter,
    /// Publications given up for want of room.
    pub(crate) history_evicted: Counter,
    /// Questions for what is kept that have waited for another turn.
    pub(crate) history_deferred: Counter,
    /// Messages refused because as many of their connection waited for homes as may.
    pub(crate) homes_refused: Counter,
    /// Messages that their channels' homes have not answered in time.
    pub(crate) home_timeouts: Counter,
    /// Connections that are known to be in channels that are at home here.
    pub(crate) presence_entries: Counter,
    /// Events told of who comes and goes.
    pub(crate) presence_events: Counter,
    /// Arrivals and departures without an event of their own.
    pub(crate) presence_coalesced: Counter,
    /// Arrivals that are not shown for want of room.
    pub(crate) presence_refused: Counter,
    /// Questions for who is there that have waited for another turn.
    pub(crate) presence_deferred: Counter,
}

impl CoreCounters {
    /// A message of so many bytes has come.
    pub(crate) fn message(&self, bytes: usize) {
        let class = bytes.saturating_sub(1).checked_ilog2().map_or(0, |bits| (bits as usize / 2).saturating_sub(1));
        self.message_bytes.observe(class, bytes as u64);
    }

    /// A message was refused.
    pub(crate) fn count_refused(&self, refusal: &Refusal) {
        self.errors.add(1);
        if matches!(refusal, Refusal::Forbidden(_)) {
            self.forbidden.add(1);
        }
    }

    /// So it is with what is kept.
    pub(crate) fn note_history(&self, numbers: HistoryNumbers) {
        self.history_kept.set(numbers.kept as u64);
        self.history_evicted.set(numbers.evicted);
        self.history_deferred.set(numbers.deferred);
    }

    /// So it is with who is in the channels.
    pub(crate) fn note_presence(&self, numbers: PresenceNumbers) {
        self.presence_entries.set(numbers.entries as u64);
        self.presence_events.set(numbers.events);
        self.presence_coalesced.set(numbers.coalesced);
        self.presence_refused.set(numbers.refused);
        self.presence_deferred.set(numbers.deferred);
    }

    /// A heartbeat was answered.
    pub(crate) fn round_trip(&self, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_us.observe(ROUND_TRIP_US.partition_point(|most| *most < time_us), time_us);
    }
}

/// Connections at one time, and the most that there have been. Shared by the cores: touched where a connection
/// opens and where it closes.
#[derive(Debug, Default)]
pub(crate) struct Peak {
    open: AtomicU64,
    peak: AtomicU64,
}

impl Peak {
    pub(crate) fn enter(&self) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        if open > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(open, Ordering::Relaxed);
        }
    }

    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_the_class_that_just_holds_it() {
        for (class, most) in MESSAGE_BYTES.into_iter().enumerate() {
            let counters = CoreCounters::default();
            counters.message(usize::try_from(most).unwrap());
            counters.message(usize::try_from(most + 1).unwrap());
            let observed = Observed::of([&counters.message_bytes]);
            assert_eq!(observed.classes[class], 1, "{most}");
            assert_eq!(observed.classes.get(class + 1).copied().unwrap_or(observed.above), 1, "{most} and one more");
            assert_eq!(observed.sum, 2 * most + 1);
        }
        let counters = CoreCounters::default();
        counters.message(0);
        assert_eq!(Observed::of([&counters.message_bytes]).classes[0], 1);
    }

    #[test]
    fn round_trips_of_all_cores_are_summed_by_class() {
        let (one, two) = (CoreCounters::default(), CoreCounters::default());
        one.round_trip(Duration::from_micros(500));
        two.round_trip(Duration::from_micros(501));
        two.round_trip(Duration::from_secs(60));
        let observed = Observed::of([&one.round_trip_us, &two.round_trip_us]);
        assert_eq!((observed.classes[0], observed.classes[1], observed.above), (1, 1, 1));
        assert_eq!(observed.sum, 500 + 501 + 60_000_000);
    }

    #[test]
    fn the_peak_stays() {
        let peak = Peak::default();
        for _ in 0..3 {
            peak.enter();
        }
        peak.leave();
        peak.leave();
        peak.enter();
        assert_eq!(peak.read(), 3);
    }
}
