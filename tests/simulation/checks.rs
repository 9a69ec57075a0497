//! What must be true when the world has come to rest, and when the worker has ended.

use std::time::Duration;

use crore_engine::limits::TICK_MS;
use crore_engine::simulation::Census;
use crore_engine::{CloseCause, CoreId, Memory};

use super::app::TOPIC_NAMES;
use super::oracle::Phase;
use super::peer::Kind;
use super::plan::{Pace, Room};
use super::run::Run;
use super::socket::Watch;

/// What a drain at rest has begun with.
pub(crate) struct Spread {
    over: Duration,
    begun: Duration,
    open: usize,
    ping_timeouts: u64,
}

impl Run {
    /// A drain at rest is about to begin.
    pub(crate) fn begin_spread(&mut self, over: Duration) -> Spread {
        let begun = self.world.borrow().now.get();
        let ping_timeouts = self.worker.handle().stats_by_core()[0].closed_ping_timeout;
        Spread { over, begun, open: self.worker.census().open, ping_timeouts }
    }

    /// As many are closed as the time that has passed asks for: none too early, none later than two ticks.
    pub(crate) fn check_spread(&mut self, spread: &Spread) {
        let passed = self.world.borrow().now.get() - spread.begun;
        let closed_after = |time: Duration| match spread.over.as_nanos() {
            0 => spread.open,
            over => spread.open * usize::try_from(time.as_nanos().min(over)).expect("seconds") / over as usize,
        };
        let late = passed.saturating_sub(2 * Duration::from_millis(TICK_MS));
        let ping_timeouts = self.worker.handle().stats_by_core()[0].closed_ping_timeout - spread.ping_timeouts;
        let closed = spread.open - self.worker.census().open;
        assert!(closed >= closed_after(late), "{closed} of {} are closed after {passed:?}", spread.open);
        let others = usize::try_from(ping_timeouts).expect("few");
        assert!(closed <= closed_after(passed) + others, "{closed} of {} are closed after {passed:?}", spread.open);
    }

    /// Nothing moves: all that was said has been heard, and nobody has gone without a reason.
    pub(crate) fn check_rest(&mut self) {
        for peer in 0..self.peers.len() {
            self.check_peer(peer);
        }
        self.check_neighbours();
        let census = self.worker.census();
        let stats = self.worker.handle().stats_by_core()[0];
        let world = self.world.borrow();
        let (oracle, plan) = (&world.oracle, &world.plan);

        assert_eq!(census.left_behind, 0, "an idle worker has left nothing behind: {census:?}");
        assert_eq!((census.outbox_bytes, census.paused), (0, 0), "everyone has read everything: {census:?}");
        self.check_memory(census);
        assert_eq!(census.held, census.walked, "the books are wrong");
        assert_eq!(census.held.outbox, 0, "nothing is on its way to anybody: {census:?}");
        let announced = oracle.connections.iter().filter(|connection| connection.announced).count();
        let open = (census.open, stats.connections_open, stats.connections);
        assert_eq!(open, (self.count(Phase::Open), announced as u64, world.live.len() as u64), "{census:?}");
        let topics = oracle.connections.iter().fold(0, |topics, connection| topics | connection.topics);
        let topics = topics.count_ones();
        assert_eq!((census.topics, stats.topics), (topics as usize, u64::from(topics)));
        let is_hot = |peer: &&usize| matches!(world.connections[**peer].watch, Watch::Multishot { .. });
        assert_eq!(stats.connections_hot, world.live.iter().filter(is_hot).count() as u64);

        let room = world.live.len() < plan.descriptors_max;
        assert!(!room || world.backlog.is_empty(), "connections wait to be accepted");
        if self.all_stay() {
            let missed = oracle.sums.missed + self.outstanding();
            let (dropped, conflated) = (stats.messages_dropped, stats.messages_conflated);
            assert_eq!(dropped + conflated, missed, "what is missing is what was dropped or replaced, and counted");
            assert_eq!(oracle.sums.announced, dropped, "what was dropped is announced");
            assert!(conflated == 0 || oracle.conflating != 0, "only what is of a key is replaced");
        }
        if plan.room != Room::Scarce {
            assert_eq!(stats.closed_slow, 0, "someone is too slow for what it has caused itself");
        }
    }

    /// At rest a connection has its slot, its topics, and the contexts of its compression.
    fn check_memory(&self, census: Census) {
        let world = self.world.borrow();
        let plan = &world.plan;
        assert_eq!(world.buffers_free, usize::from(plan.buffers), "receive buffers are missing");
        if plan.compression.is_none_or(|it| !it.client_context_takeover) {
            assert_eq!(census.partial_bytes, 0, "no message has come in part: {census:?}");
        }
        let unknown = |peer: &&usize| world.oracle.connections[**peer].phase == Phase::Unknown;
        let heads = world.live.iter().filter(unknown).count();
        assert!(census.peer_addresses <= heads, "an open connection keeps its peer's address: {census:?}");
        assert!(census.input_bytes <= heads * plan.limits.head_bytes_max, "input is held for nobody: {census:?}");
        let has_topics = |peer: &&usize| world.oracle.connections[**peer].topics != 0;
        let leaving = world.live.len() - census.open;
        if plan.compression.is_none_or(|it| !it.server_context_takeover) {
            let with_topics = world.live.iter().filter(has_topics).count();
            assert!(census.with_rare <= with_topics + leaving, "what is rare is kept for nothing: {census:?}");
        }
    }

    fn count(&self, phase: Phase) -> usize {
        self.world.borrow().oracle.connections.iter().filter(|connection| connection.phase == phase).count()
    }

    fn outstanding(&self) -> u64 {
        let world = self.world.borrow();
        world.oracle.connections.iter().map(|connection| connection.outstanding() as u64).sum()
    }

    /// Whether everyone who has come in is still there.
    fn all_stay(&self) -> bool {
        let world = self.world.borrow();
        let mut connections = world.oracle.connections.iter();
        connections.all(|connection| matches!(connection.phase, Phase::Unknown | Phase::Open))
    }

    fn check_peer(&self, number: usize) {
        let world = self.world.borrow();
        let (peer, connection) = (&self.peers[number], &world.oracle.connections[number]);
        let timed_out = self.worker.handle().stats_by_core()[0].closed_timeout > 0;
        if connection.reasons.any() {
            let reasons = connection.reasons;
            let orderly = !(reasons.lost || reasons.half_closed || reasons.application || reasons.drain);
            if orderly && !timed_out && peer.status == Some(101) && connection.cause != Some(CloseCause::PingTimeout) {
                assert!(peer.heard_close.is_some(), "peer {number} is not answered before the end: {reasons:?}");
                assert!(peer.ended.is_some(), "peer {number}: the connection stays open after the close handshake");
            }
            if let (Some(expected), Some(heard)) = (peer.breach, peer.heard_close)
                && !reasons.application
                && connection.cause == Some(CloseCause::Protocol)
                && orderly
            {
                // It may have been too slow before.
                let slow = world.plan.disconnects() && heard == 1013;
                assert!(slow || heard == expected, "peer {number}: {heard} instead of {expected} for its breach");
            }
            return;
        }
        match connection.phase {
            Phase::Open if peer.ended.is_none() && peer.heard_close.is_none() => {
                assert!(connection.announced, "peer {number} is open, and the application does not know");
                assert!(connection.spoken.is_empty(), "peer {number}: {:?} is lost on its way in", connection.spoken);
                let lost = connection.outstanding_for_certain(world.oracle.lossy);
                assert!(
                    lost == 0 || world.oracle.drops,
                    "peer {number}: {lost} messages are lost: {:?}",
                    connection.expected
                );
                assert!(!peer.is_within_frame(), "peer {number} has half a frame");
            }
            Phase::Closed => {
                let known = matches!(connection.cause, Some(CloseCause::PingTimeout | CloseCause::SlowConsumer));
                assert!(known, "peer {number} has gone without a reason: {:?}", connection.cause);
                if connection.cause == Some(CloseCause::SlowConsumer) && !timed_out {
                    assert_eq!(peer.heard_close, Some(1013), "peer {number} is told that it is too slow");
                }
            }
            Phase::Unknown if peer.ended.is_none() && peer.kind == Kind::Speaker => {
                let waits = world.backlog.contains(&number);
                assert!(waits, "peer {number} has sent its request and is neither open nor refused");
            }
            Phase::Unknown => {
                let answered = match peer.kind {
                    Kind::Visitor => Some(200),
                    Kind::Babbler { status } => Some(status),
                    Kind::Speaker | Kind::Staller => None,
                };
                // Before it was accepted, or while it was, it may have been turned away.
                let turned_away = peer.ended.is_some() && peer.status.is_none();
                let waits = world.backlog.contains(&number);
                assert!(turned_away || waits || peer.status == answered, "peer {number}: {:?}", peer.status);
                let may_end = timed_out || world.plan.connections_max < 64 || world.plan.descriptors_max < 64;
                assert!(!turned_away || may_end || world.plan.pace != Pace::Still, "peer {number} is turned away");
            }
            phase => panic!("peer {number} is {phase:?}, and has heard {:?}, {:?}", peer.heard_close, peer.ended),
        }
    }

    fn check_neighbours(&self) {
        let stats = self.worker.handle().stats_by_core()[0];
        let world = self.world.borrow();
        let missed = |neighbour: &super::oracle::Neighbour| neighbour.missed + neighbour.by_lane.len() as u64;
        let refused: u64 = world.oracle.neighbours.iter().map(missed).sum();
        assert_eq!(stats.mesh_refused, refused, "what other cores have not heard was refused, and counted");
        for neighbour in &world.oracle.neighbours {
            assert!(neighbour.by_inbox.is_empty(), "an inbox has lost {:?}", neighbour.by_inbox);
            assert!(neighbour.batches.is_empty(), "the worker has not taken {:?}", neighbour.batches);
        }
    }

    /// Everyone has left: without a drain the worker holds nothing more of them.
    pub(crate) fn check_all_left(&mut self) {
        let census = self.worker.census();
        assert_eq!((census.connections, census.topics, census.deadlines), (0, 0, false), "all have left");
        assert_eq!(census.held, Memory::default(), "what they held is given back");
        let shown = self.worker.handle().memory();
        let kept = (shown.partial, shown.outbox, shown.deflate, shown.kernel);
        assert_eq!(kept, (0, 0, 0, 0), "pools are empty when nothing has happened for a while: {shown:?}");
    }

    /// The drain is complete: everything has come back.
    pub(crate) fn check_end(&mut self) {
        let census = self.worker.census();
        let stats = self.worker.handle().stats_by_core()[0];
        let world = self.world.borrow();
        let sums = world.oracle.sums;
        assert!(world.live.is_empty(), "sockets are still open: {:?}", world.live);
        assert_eq!(census, Default::default(), "the worker has ended and holds something");
        assert_eq!(world.buffers_free, usize::from(world.plan.buffers), "receive buffers are missing");
        for connection in &world.oracle.connections {
            assert!(!connection.announced, "{:?} was not announced as closed", connection.id);
        }
        for topic in TOPIC_NAMES {
            assert!(!self.worker.is_interested(CoreId(0), topic), "nobody is left to be interested in `{topic}`");
        }
        assert_eq!((stats.connections, stats.connections_open, stats.connections_hot, stats.topics), (0, 0, 0, 0));
        assert_eq!((stats.accepted, stats.turns), (world.accepted, self.turns));
        assert_eq!((stats.upgrades, stats.messages_received), (sums.opened, sums.received));
        assert_eq!((stats.bytes_received, stats.bytes_sent), (world.bytes_received, world.bytes_sent));
        let by_cause =
            |cause| world.oracle.connections.iter().filter(|connection| connection.cause == Some(cause)).count() as u64;
        assert_eq!(stats.closed_protocol, by_cause(CloseCause::Protocol));
        assert_eq!(stats.closed_ping_timeout, by_cause(CloseCause::PingTimeout));
        if world.plan.disconnects() {
            assert!(stats.closed_slow >= by_cause(CloseCause::SlowConsumer));
        } else {
            assert_eq!(stats.messages_sent, sums.sent);
            assert_eq!(stats.closed_slow, 0);
        }
    }
}
