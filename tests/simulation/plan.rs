//! What a seed decides before the run: the size of the world, the bounds of the worker, the faults.

use std::time::Duration;

use crore_engine::limits::RECEIVE_BUFFER_BYTES;
use crore_engine::{Coalescing, Compression, Limits, Overflow, Publication, SlowConsumer};
use fastrand::Rng;

use super::message::MESSAGE_BYTES_MAX;
use super::peer::{PREFIX, SEPARATOR, SUFFIX};

/// How much room the worker has for those who read slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// More than anyone causes: nothing is dropped, nobody is too slow.
    Plenty,
    /// As little as the documentation of `outbox_bytes_max` asks for, and peers only hear echoes of their own
    /// messages: nothing is dropped either.
    OwnEchoes,
    /// Almost none: the policy decides.
    Scarce,
}

/// How the clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It stands still: all happens within one tick.
    Still,
    /// Milliseconds at a time.
    Steady,
    /// Now and then by seconds, or by hours: the process was stopped, or the host suspended.
    Jumping,
}

/// How the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everyone leaves, then the worker is drained.
    PeersLeave,
    /// The worker is drained when all has been said, and has so much patience.
    Drain(Duration),
    /// The worker is drained at this step, while everyone speaks.
    DrainAt(usize, Duration),
    /// The ring fails at this step.
    RingFailsAt(usize),
}

/// Chances out of 256, each time that the thing could happen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A send that could have gone on ends short.
    pub(crate) short_send: u8,
    /// A multishot receive ends with a message, for no reason that is seen.
    pub(crate) multishot_ends: u8,
    /// An accept ends with a connection, for no reason that is seen.
    pub(crate) accept_ends: u8,
    /// An accept fails because its peer has gone.
    pub(crate) accept_fails: u8,
    /// A poll says that there is something to read, and there is not.
    pub(crate) false_alarm: u8,
}

/// Chances out of 1024, for each step of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    pub(crate) reset: u32,
    pub(crate) half_close: u32,
    pub(crate) close: u32,
    pub(crate) break_rules: u32,
    /// The application, or another thread, closes or ends a connection.
    pub(crate) sent_away: u32,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: usize,
    pub(crate) peers: usize,
    pub(crate) room: Room,
    pub(crate) limits: Limits,
    pub(crate) compression: Option<Compression>,
    pub(crate) connections_max: u32,
    /// Descriptors that the process may have open for connections.
    pub(crate) descriptors_max: usize,
    /// Direct descriptors, whose shutdown takes its time; else regular ones.
    pub(crate) direct: bool,
    pub(crate) buffers: u16,
    pub(crate) completion_entries: usize,
    pub(crate) submission_entries: usize,
    /// Completions of armed requests that one enter runs (`IO_LOCAL_TW_DEFAULT_MAX`).
    pub(crate) reap: usize,
    pub(crate) cores: usize,
    pub(crate) inbox_commands: usize,
    pub(crate) lane_entries: usize,
    pub(crate) backlog_entries_max: usize,
    pub(crate) topics: u8,
    /// What happens to messages of each topic where they have to wait.
    pub(crate) overflows: [Overflow; 6],
    pub(crate) pace: Pace,
    pub(crate) faults: Faults,
    pub(crate) losses: Losses,
    pub(crate) ending: Ending,
    /// Bytes that wait on the server's side of a connection, and on the way to its peer.
    pub(crate) window: usize,
    pub(crate) send_room: usize,
    /// Messages may be so long now and then.
    pub(crate) long_bytes: usize,
    /// Out of 256: how often a slow peer reads.
    pub(crate) slow_reads: u8,
    /// Out of 256: peers that read slowly, and peers that do not read before the end.
    pub(crate) slow_readers: u8,
    pub(crate) never_readers: u8,
    /// Out of 256: how often other cores and threads speak, each step.
    pub(crate) outsiders: u8,
    /// The application asks for the addresses of peers.
    pub(crate) peer_addresses: bool,
    /// Connections come from a proxy, which says whose they are.
    pub(crate) proxied: bool,
    /// How messages are joined for those peers for whom the application asks for it.
    pub(crate) coalescing: Option<Coalescing>,
    /// The time over which a drain at rest spreads its closes.
    pub(crate) spread: Duration,
    /// The application publishes something for each connection that it is told of as closing.
    pub(crate) last_words: bool,
}

/// Something in one world out of two.
fn sometimes<T: Default>(rng: &mut Rng, it: impl FnOnce(&mut Rng) -> T) -> T {
    if rng.bool() { it(rng) } else { T::default() }
}

/// A number between two bounds, the small ones as likely as the large ones.
fn scaled(rng: &mut Rng, least: usize, most: usize) -> usize {
    let exponent = rng.f64() * (most as f64 / least as f64).ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two bounds")]
    let number = (least as f64 * exponent.exp()) as usize;
    number.clamp(least, most)
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let room = [Room::Plenty, Room::Plenty, Room::OwnEchoes, Room::Scarce][rng.usize(..4)];
        let everyone_stays = rng.u8(..4) == 0;
        let steps = scaled(rng, 30, 400);
        let pace = [Pace::Still, Pace::Steady, Pace::Steady, Pace::Jumping][rng.usize(..4)];
        let long_bytes = scaled(rng, 130, MESSAGE_BYTES_MAX);
        let second = Duration::from_secs(1);
        let ending = match rng.u8(..8) {
            _ if everyone_stays => Ending::Drain(5 * second),
            0 | 1 => Ending::DrainAt(rng.usize(..steps), Duration::from_millis(rng.u64(..6000))),
            2 => Ending::RingFailsAt(rng.usize(..steps)),
            3 | 4 => Ending::PeersLeave,
            _ => Ending::Drain(Duration::from_millis(rng.u64(..6000))),
        };
        let losses = Losses {
            reset: sometimes(rng, |rng| rng.u32(..30)),
            half_close: sometimes(rng, |rng| rng.u32(..30)),
            close: sometimes(rng, |rng| rng.u32(..40)),
            break_rules: sometimes(rng, |rng| rng.u32(..30)),
            sent_away: sometimes(rng, |rng| rng.u32(..40)),
        };
        let faults = Faults {
            short_send: sometimes(rng, |rng| rng.u8(..200)),
            multishot_ends: sometimes(rng, |rng| rng.u8(..100)),
            accept_ends: sometimes(rng, |rng| rng.u8(..100)),
            accept_fails: sometimes(rng, |rng| rng.u8(..30)),
            false_alarm: sometimes(rng, |rng| rng.u8(..60)),
        };
        let submission_entries = if rng.bool() { 1024 } else { scaled(rng, 1, 32) };
        let (connections_max, descriptors_max) =
            if everyone_stays || rng.bool() { (64, 64) } else { (rng.u32(1..8), rng.usize(1..10)) };
        Self {
            steps,
            peers: scaled(rng, 1, 16),
            room,
            limits: limits(rng, room, long_bytes, everyone_stays),
            compression: compression(rng),
            connections_max,
            descriptors_max,
            direct: rng.bool(),
            buffers: 1 << rng.u32(1..5),
            completion_entries: if rng.bool() { 8192 } else { scaled(rng, 1, 32).max(submission_entries.min(4)) },
            submission_entries,
            reap: if rng.bool() { 20 } else { scaled(rng, 1, 20) },
            cores: rng.usize(1..=3),
            inbox_commands: scaled(rng, 1, 16),
            lane_entries: scaled(rng, 1, 8),
            backlog_entries_max: rng.usize(..4),
            topics: rng.u8(1..=6),
            overflows: sometimes(rng, |rng| std::array::from_fn(|_| overflow(rng))),
            pace,
            faults,
            losses: if everyone_stays { Losses::default() } else { losses },
            ending,
            window: scaled(rng, 64, 128 * 1024),
            send_room: scaled(rng, 32, 256 * 1024),
            long_bytes,
            slow_reads: rng.u8(1..),
            slow_readers: sometimes(rng, |rng| rng.u8(..)),
            never_readers: sometimes(rng, |rng| rng.u8(..128)),
            outsiders: sometimes(rng, |rng| rng.u8(..100)),
            peer_addresses: false,
            proxied: false,
            coalescing: None,
            spread: Duration::ZERO,
            last_words: false,
        }
    }

    /// What a world may have besides since some seeds have found what they have found: those keep theirs.
    pub(crate) fn add(&mut self, rng: &mut Rng) {
        self.peer_addresses = rng.bool();
        self.proxied = rng.u8(..4) == 0;
        self.spread = sometimes(rng, |rng| Duration::from_millis(rng.u64(1..20_000)));
        // What is joined has no policy but the connection's.
        if self.overflows.iter().all(|overflow| *overflow == Overflow::Limits) {
            self.coalescing = sometimes(rng, |rng| {
                let (messages_max, delay) = (rng.u32(1..12), Duration::from_millis(rng.u64(..300)));
                Some(Coalescing { prefix: PREFIX, separator: SEPARATOR, suffix: SUFFIX, messages_max, delay })
            });
        }
        self.last_words = self.room != Room::OwnEchoes && rng.bool();
    }

    /// Whether messages may be dropped, and be counted instead of heard.
    pub(crate) fn drops(&self) -> bool {
        self.room == Room::Scarce && self.limits.slow_consumer != SlowConsumer::Disconnect
    }

    /// Whether a connection may be closed because it reads too slowly.
    pub(crate) fn disconnects(&self) -> bool {
        self.room == Room::Scarce && self.limits.slow_consumer == SlowConsumer::Disconnect
    }

    /// How a message with this number is published to a topic.
    pub(crate) fn publication(&self, topic: u8, number: u32) -> Publication {
        let overflow = match self.overflows[usize::from(topic)] {
            Overflow::Conflate(_) => Overflow::Conflate(key_of(number)),
            overflow => overflow,
        };
        Publication { overflow, ..Publication::default() }
    }

    /// Whether messages of a topic may be missing.
    pub(crate) fn is_lossy(&self, topic: u8) -> bool {
        match self.overflows[usize::from(topic)] {
            Overflow::Limits | Overflow::Disconnect => false,
            Overflow::DropNewest | Overflow::DropOldest => self.room == Room::Scarce,
            Overflow::Conflate(_) => true,
        }
    }

    /// Whether messages of a topic take the places of older ones.
    pub(crate) fn conflates(&self, topic: u8) -> bool {
        matches!(self.overflows[usize::from(topic)], Overflow::Conflate(_))
    }
}

/// The key of a message that is conflated.
pub(crate) fn key_of(number: u32) -> u64 {
    u64::from(number % 3)
}

fn overflow(rng: &mut Rng) -> Overflow {
    [Overflow::Limits, Overflow::DropNewest, Overflow::DropOldest, Overflow::Conflate(0)][rng.usize(..4)]
}

fn compression(rng: &mut Rng) -> Option<Compression> {
    // Compressors are large: most worlds do without.
    (rng.u8(..4) == 0).then(|| Compression {
        level: rng.u8(1..=9),
        threshold_bytes: scaled(rng, 1, 3000),
        server_context_takeover: rng.bool(),
        client_context_takeover: rng.bool(),
        server_window_bits: rng.u8(8..=15),
        client_window_bits: rng.u8(8..=15),
    })
}

fn limits(rng: &mut Rng, room: Room, long_bytes: usize, everyone_stays: bool) -> Limits {
    let message_bytes_max = long_bytes + rng.usize(..100);
    let (outbox_bytes_max, outbox_messages_max) = match room {
        // Whatever the whole run says.
        Room::Plenty => (1 << 30, 1 << 20),
        // Half of it is more than one message and one receive; the shortest message has 6 bytes on the wire.
        Room::OwnEchoes => (2 * (message_bytes_max + RECEIVE_BUFFER_BYTES) + 64, 2 * RECEIVE_BUFFER_BYTES / 6),
        Room::Scarce => (scaled(rng, 16, 100_000), scaled(rng, 1, 1000)),
    };
    let policies = [SlowConsumer::Disconnect, SlowConsumer::DropNewest, SlowConsumer::DropOldest];
    let seconds = |rng: &mut Rng, most: usize| Duration::from_millis(scaled(rng, 500, most * 1000) as u64);
    Limits {
        connections_per_core_max: None,
        memory_budget_bytes: None,
        upgrades_per_second_max: None,
        message_bytes_max,
        pieces_bytes_max: if rng.bool() { message_bytes_max } else { 0 },
        fragments_max: rng.u32(4..12),
        head_bytes_max: rng.usize(300..2000),
        outbox_bytes_max,
        outbox_messages_max,
        // Who is to stay is not disconnected.
        slow_consumer: if everyone_stays { policies[rng.usize(1..3)] } else { policies[rng.usize(..3)] },
        subscriptions_max: rng.u32(1..6),
        topic_bytes_max: rng.usize(2..6),
        handshake_timeout: seconds(rng, 60),
        ping_interval: if rng.u8(..4) == 0 { Duration::MAX } else { seconds(rng, 60) },
        close_timeout: seconds(rng, 10),
    }
}
