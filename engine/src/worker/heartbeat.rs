//! What happens when a connection's deadline comes: each has one at a time, in the timer wheel.

use std::time::Duration;

use super::Worker;
use super::connection::{Phase, Watch};
use super::inbound::HEARTBEAT_BYTES;
use super::timers::Expired;
use crate::driver::Driver;
use crate::handler::{CloseCause, Handler};
use crate::limits::{CANCELS_PER_SECOND_MAX, PING_TIMEOUT_DEFERRED_MS, QUIET_MESSAGES, TICK_MS};
use crate::protocol::Opcode;
use crate::protocol::frame::append_frame;

/// How many cancels are left in the current second.
#[derive(Default)]
pub(super) struct CancelBudget {
    second: u64,
    used: u32,
}

impl CancelBudget {
    fn take(&mut self, now: Duration) -> bool {
        if now.as_secs() != self.second {
            *self = Self { second: now.as_secs(), used: 0 };
        }
        self.used += 1;
        self.used <= CANCELS_PER_SECOND_MAX
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Handles every deadline that has come.
    pub(super) fn expire(&mut self) {
        let now = self.clock.now();
        let mut expired = std::mem::take(&mut self.expired);
        self.timers.advance(now, &mut expired);
        for Expired { connection: slot, ticks_late } in expired.drain(..) {
            match self.connections.at(slot).phase {
                Phase::Open => self.heartbeat(slot, ticks_late),
                Phase::Proxied | Phase::Handshake | Phase::Closing | Phase::Finishing { .. } => {
                    self.stats.closed_timeout += 1;
                    self.cut(slot, CloseCause::Lost);
                }
                Phase::Ended => {}
            }
        }
        self.expired = expired;
        self.wake_some();
        if !self.ticking {
            if std::mem::take(&mut self.accept_later) && self.draining.is_none() {
                self.driver.accept();
            }
            self.keep_house();
            self.end_drain();
        }
        self.keep_ticking();
    }

    /// Sets the first heartbeat of a connection.
    pub(super) fn start_heartbeat(&mut self, slot: u32) {
        self.timers.set(slot, self.clock.now(), first_heartbeat(slot, self.limits.ping_interval));
    }

    /// Pings a connection, or cuts it if nothing at all has come since the last ping: a peer in the
    /// middle of a long message can't put a pong into it. While more comes than the core can read, nobody is cut for
    /// that; the kernel ends who does not acknowledge (`tcp_retries2` in `tcp(7)`).
    fn heartbeat(&mut self, slot: u32, ticks_late: u32) {
        let connection = self.connections.at(slot);
        // Nor is anybody whom the application does not want to hear.
        if connection.pinged && !connection.heard && !connection.stopped {
            // After a pause, or under more load than it can bear, a core has yet to read what has come in time: who is late
            // itself does not judge others.
            let receiving = connection.watch == Watch::Receive;
            let unread = receiving || self.is_leaving(slot) || self.driver.is_behind();
            if unread {
                self.stats.ping_timeouts_deferred += 1;
                self.timers.set(slot, self.clock.now(), Duration::from_millis(PING_TIMEOUT_DEFERRED_MS));
                return;
            }
            self.stats.closed_ping_timeout += 1;
            self.cut(slot, CloseCause::PingTimeout);
            return;
        }
        connection.pinged = true;
        connection.heard = false;
        let quiet = connection.messages < QUIET_MESSAGES;
        connection.messages = 0;
        if quiet && connection.watch == Watch::Multishot {
            self.demote(slot);
        }
        let sent = u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX);
        let payload: [u8; HEARTBEAT_BYTES] = sent.to_be_bytes();
        let mut ping = self.corks.buffer();
        append_frame(&mut ping, Opcode::Ping, &payload);
        self.append(slot, &ping, 0);
        self.corks.recycle(ping);
        self.stats.pings_sent += 1;
        self.timers.set(slot, self.clock.now(), next_heartbeat(ticks_late, self.limits.ping_interval));
    }

    /// Ends a multishot receive, if the cost of another cancel is within bounds.
    pub(super) fn demote(&mut self, slot: u32) {
        if self.cancels.take(self.clock.now()) {
            self.connections.at(slot).watch = Watch::Cancelling;
            self.driver.cancel(Self::token(slot));
        } else {
            self.stats.cancels_deferred += 1;
        }
    }
}

/// When a connection is pinged first: spread evenly over the interval by its slot, so that a million
/// connections that came at once are not pinged at once.
fn first_heartbeat(slot: u32, interval: Duration) -> Duration {
    // Fibonacci hashing: neighbouring slots land far apart. Counted from 1, for 0 stays where it is, and a
    // connection that is alone would be pinged while it still opens.
    let fraction = f64::from(slot.wrapping_add(1).wrapping_mul(2_654_435_769)) / f64::from(u32::MAX);
    // An interval that stands for "never" has no fractions.
    Duration::try_from_secs_f64(interval.as_secs_f64() * fraction).unwrap_or(interval)
}

/// When a connection is pinged again whose heartbeat was late: when it would have been without that, so that
/// those that a pause of the process has pinged at once are not pinged at once ever after. But not before half of the
/// interval is over, in which the peer has to answer.
fn next_heartbeat(ticks_late: u32, interval: Duration) -> Duration {
    let late = Duration::from_millis(TICK_MS) * ticks_late;
    // How much of the interval that now runs is over. What comes all the time has none.
    let into = late.as_nanos().checked_rem(interval.as_nanos()).unwrap_or(0);
    let into = Duration::from_nanos_u128(into);
    let next = interval - into;
    if into > interval / 2 { next.saturating_add(interval) } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_heartbeat_does_not_move_the_next_one() {
        let seconds = Duration::from_secs;
        for (late, next) in [(0, 30), (1, 29), (15, 15), (16, 44), (29, 31), (30, 30), (31, 29), (3_605, 25)] {
            assert_eq!(next_heartbeat(late * 10, seconds(30)), seconds(next), "{late} seconds late");
        }
        assert_eq!(next_heartbeat(7, Duration::ZERO), Duration::ZERO);
        assert!(next_heartbeat(u32::MAX, Duration::MAX) > Duration::MAX / 2);
    }

    #[test]
    fn first_heartbeats_are_spread_over_the_interval() {
        let interval = Duration::from_secs(30);
        let mut by_tenth = [0; 10];
        for slot in 0..1000 {
            let first = first_heartbeat(slot, interval);
            assert!(first <= interval);
            by_tenth[(first.as_millis() / 3000) as usize] += 1;
        }
        assert!(by_tenth.iter().all(|count| (90..=110).contains(count)), "{by_tenth:?}");
    }

    #[test]
    fn a_connection_that_is_alone_is_not_pinged_at_once() {
        let interval = Duration::from_secs(30);
        assert!(first_heartbeat(0, interval) > interval / 2);
    }
}
