//! What must come of what is said: every message that the application or anyone else sends is written down
//! here for each peer that is to hear it, when it is sent, and crossed off when it is heard.

use std::collections::VecDeque;

use crore_engine::{CloseCause, ConnectionId};

use super::message::{BROADCAST, NO_TOPIC, STREAMS, TOPICS_FROM, stream, streams_beside, topic_of};
use super::plan::key_of;

/// What a connection is to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing yet.
    Unknown,
    /// `on_open` has been called, or is about to be.
    Open,
    /// It will be closed, or has been: nothing is sent to it any more.
    Leaving,
    /// `on_close` has been called.
    Closed,
}

/// What may end a connection, because somebody has done it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reasons {
    pub(crate) peer: bool,
    pub(crate) application: bool,
    pub(crate) protocol: bool,
    pub(crate) lost: bool,
    pub(crate) half_closed: bool,
    pub(crate) drain: bool,
    pub(crate) refused: bool,
    /// It answers nothing any more, neither a close frame nor a ping.
    pub(crate) deaf: bool,
}

impl Reasons {
    pub(crate) fn any(&self) -> bool {
        self.peer || self.application || self.protocol || self.lost || self.half_closed || self.drain || self.refused
    }
}

/// A message that is on its way to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    number: u32,
    /// Its place among all that anybody is sent.
    place: u64,
}

/// One peer's connection.
pub(crate) struct Connection {
    pub(crate) id: Option<ConnectionId>,
    pub(crate) phase: Phase,
    pub(crate) announced: bool,
    /// `on_closing` has been called.
    pub(crate) closing: bool,
    pub(crate) topics: u32,
    /// It is not to be read from.
    pub(crate) paused: bool,
    /// By stream: the messages that it has been sent and has not heard.
    pub(crate) expected: Vec<VecDeque<Sent>>,
    /// Numbers of the messages that it has said and the application has not been given.
    pub(crate) spoken: VecDeque<u32>,
    /// By topic: messages of which it has heard that they were dropped, and those that it has found missing.
    gaps: [u64; NO_TOPIC as usize + 1],
    missing: [u64; NO_TOPIC as usize + 1],
    pub(crate) reasons: Reasons,
    pub(crate) cause: Option<CloseCause>,
}

impl Connection {
    fn new() -> Self {
        let expected = (0..STREAMS).map(|_| VecDeque::new()).collect();
        Self {
            id: None,
            phase: Phase::Unknown,
            announced: false,
            closing: false,
            topics: 0,
            paused: false,
            expected,
            spoken: VecDeque::new(),
            gaps: Default::default(),
            missing: Default::default(),
            reasons: Reasons::default(),
            cause: None,
        }
    }

    /// Messages that it has been sent and has not heard.
    pub(crate) fn outstanding(&self) -> usize {
        self.expected.iter().map(VecDeque::len).sum()
    }

    /// What one source sends a peer by itself or to everyone, and what it publishes, keep their order among each other;
    /// only several topics do not.
    fn check_order(&self, peer: usize, stream: u8, heard: Sent, lossy: u32) {
        for other in streams_beside(stream) {
            let certain = topic_of(other).is_none_or(|topic| lossy & 1 << topic == 0);
            let ordered = certain && (topic_of(stream).is_none() || topic_of(other).is_none());
            if let Some(first) = self.expected[usize::from(other)].front().filter(|_| ordered) {
                assert!(
                    first.place > heard.place,
                    "peer {peer}: {} of stream {stream} has overtaken {} of stream {other}",
                    heard.number,
                    first.number
                );
            }
        }
    }

    /// The same without what may be missing.
    pub(crate) fn outstanding_for_certain(&self, lossy: u32) -> usize {
        let certain = |stream: &usize| topic_of(stream.to_le_bytes()[0]).is_none_or(|topic| lossy & 1 << topic == 0);
        (0..STREAMS).filter(certain).map(|stream| self.expected[stream].len()).sum()
    }
}

/// What other cores and threads have asked of the worker, which takes it in its next turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outside {
    Publish { stream: u8, topic: u8, number: u32 },
    Broadcast { stream: u8, number: u32 },
    Send { to: ConnectionId, stream: u8, number: u32 },
    Close { to: ConnectionId },
    Terminate { to: ConnectionId },
    Drain,
}

/// What a neighbour must hear.
#[derive(Default)]
pub(crate) struct Neighbour {
    /// Topics that it has subscribers of.
    pub(crate) topics: u32,
    /// What it has sent, by batches; the last ones may wait with it for room in the lane.
    pub(crate) batches: VecDeque<Vec<Outside>>,
    pub(crate) waiting: usize,
    /// Numbers of what the worker has sent it by the mesh.
    pub(crate) by_lane: VecDeque<u32>,
    /// Numbers of what has gone straight into its inbox.
    pub(crate) by_inbox: VecDeque<u32>,
    /// How much lies in the inbox.
    pub(crate) inbox: usize,
    /// What it has missed.
    pub(crate) missed: u64,
}

/// The sums that the worker's counters must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) sent: u64,
    pub(crate) heard: u64,
    pub(crate) missed: u64,
    pub(crate) announced: u64,
    pub(crate) received: u64,
    pub(crate) opened: u64,
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) connections: Vec<Connection>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) sums: Sums,
    /// What lies in the worker's own inbox.
    pub(crate) inbox: VecDeque<Outside>,
    pub(crate) inbox_commands: usize,
    /// Messages may be missing where the policy drops them.
    pub(crate) drops: bool,
    /// Topics, as bits, whose own policy may drop messages, and those whose messages replace others.
    pub(crate) lossy: u32,
    pub(crate) conflating: u32,
    pub(crate) draining: bool,
    numbers: u32,
}

impl Oracle {
    pub(crate) fn new(neighbours: usize, inbox_commands: usize, drops: bool) -> Self {
        let neighbours = std::iter::repeat_with(Neighbour::default).take(neighbours).collect();
        Self { neighbours, inbox_commands, drops, ..Self::default() }
    }

    pub(crate) fn add_peer(&mut self) {
        self.connections.push(Connection::new());
    }

    /// A number that no other message has.
    pub(crate) fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// The peer that has the connection with this identifier.
    pub(crate) fn peer_of(&self, id: ConnectionId) -> Option<usize> {
        self.connections.iter().position(|connection| connection.id == Some(id))
    }

    // ---- What is said

    /// The peer has said something.
    pub(crate) fn says(&mut self, peer: usize, number: u32) {
        self.connections[peer].spoken.push_back(number);
    }

    /// The application is given a message.
    pub(crate) fn given(&mut self, peer: usize, number: u32) {
        self.sums.received += 1;
        let connection = &mut self.connections[peer];
        // What has come of a stream that breaks is given at once.
        assert!(!connection.paused || connection.reasons.lost, "peer {peer} is not to be read from");
        let next = connection.spoken.pop_front();
        assert_eq!(
            Some(number),
            next,
            "peer {peer}: the application is given {number}, but the peer has said {next:?}"
        );
    }

    /// A message is sent to one peer.
    pub(crate) fn send(&mut self, peer: usize, stream: u8, number: u32) {
        let connection = &mut self.connections[peer];
        if connection.phase == Phase::Open {
            self.sums.sent += 1;
            let place = self.sums.sent;
            connection.expected[usize::from(stream)].push_back(Sent { number, place });
        }
    }

    /// A message is sent to all subscribers of a topic on the worker's core.
    pub(crate) fn publish_here(&mut self, stream: u8, topic: u8, number: u32, except: Option<usize>) {
        for peer in 0..self.connections.len() {
            if self.connections[peer].topics & 1 << topic != 0 && Some(peer) != except {
                self.send(peer, stream, number);
            }
        }
    }

    /// The application publishes: to this core, and to those that have subscribers.
    pub(crate) fn publish(&mut self, topic: u8, number: u32, except: Option<usize>) {
        self.publish_here(stream(0, TOPICS_FROM + topic), topic, number, except);
        for neighbour in &mut self.neighbours {
            if neighbour.topics & 1 << topic != 0 {
                neighbour.by_lane.push_back(number);
            }
        }
    }

    /// A message is sent to everyone on the worker's core.
    pub(crate) fn broadcast_here(&mut self, stream: u8, number: u32, except: Option<usize>) {
        for peer in 0..self.connections.len() {
            if Some(peer) != except {
                self.send(peer, stream, number);
            }
        }
    }

    /// The application sends to everyone.
    pub(crate) fn broadcast(&mut self, number: u32, except: Option<usize>) {
        self.broadcast_here(stream(0, BROADCAST), number, except);
        for neighbour in &mut self.neighbours {
            neighbour.by_lane.push_back(number);
        }
    }

    /// Nothing is sent to this peer any more.
    pub(crate) fn leaves(&mut self, peer: usize) {
        let connection = &mut self.connections[peer];
        if connection.phase == Phase::Open {
            connection.phase = Phase::Leaving;
            connection.topics = 0;
        }
    }

    // ---- What comes from outside

    /// Room for one more command in the worker's inbox.
    pub(crate) fn has_room(&self) -> bool {
        self.inbox.len() < self.inbox_commands
    }

    /// The worker takes what lies in its inbox and its lanes: after the completions of its turn.
    pub(crate) fn worker_takes_commands(&mut self) {
        for outside in std::mem::take(&mut self.inbox) {
            self.obey(outside);
        }
        for index in 0..self.neighbours.len() {
            let waiting = self.neighbours[index].waiting;
            while self.neighbours[index].batches.len() > waiting {
                let batch = self.neighbours[index].batches.pop_front().expect("more than wait");
                for outside in batch {
                    self.obey(outside);
                }
            }
        }
    }

    fn obey(&mut self, outside: Outside) {
        match outside {
            Outside::Publish { stream, topic, number } => self.publish_here(stream, topic, number, None),
            Outside::Broadcast { stream, number } => self.broadcast_here(stream, number, None),
            Outside::Send { to, stream, number } => {
                if let Some(peer) = self.peer_of(to) {
                    self.send(peer, stream, number);
                }
            }
            Outside::Close { to } | Outside::Terminate { to } => {
                if let Some(peer) = self.peer_of(to) {
                    self.leaves(peer);
                }
            }
            Outside::Drain => {
                self.draining = true;
                for peer in 0..self.connections.len() {
                    self.connections[peer].reasons.drain = true;
                    self.leaves(peer);
                }
            }
        }
    }

    // ---- What is heard

    /// The peer has heard a message.
    pub(crate) fn hears(&mut self, peer: usize, stream: u8, number: u32) {
        self.sums.heard += 1;
        let topic = topic_of(stream);
        let lossy = topic.is_some_and(|topic| self.lossy & 1 << topic != 0);
        let conflates = topic.is_some_and(|topic| self.conflating & 1 << topic != 0);
        let connection = &mut self.connections[peer];
        let expected = &mut connection.expected[usize::from(stream)];
        let Some(place) = expected.iter().position(|other| other.number == number) else {
            panic!("peer {peer}, stream {stream}: heard {number}, which it was not sent, or heard before")
        };
        let heard = expected[place];
        let older = expected.len();
        if conflates {
            // Those of other keys may still come.
            let later = expected.split_off(place + 1);
            expected.retain(|other| key_of(other.number) != key_of(number));
            expected.extend(later);
        } else {
            expected.drain(..=place);
        }
        let missed = (older - expected.len() - 1) as u64;
        assert!(
            missed == 0 || self.drops || lossy,
            "peer {peer}, stream {stream}: {missed} messages are lost or overtaken before {number}"
        );
        self.sums.missed += missed;
        if !self.drops && !lossy {
            connection.check_order(peer, stream, heard, self.lossy);
        }
        if let Some(topic) = topic.filter(|_| lossy && !conflates) {
            let topic = usize::from(topic);
            connection.missing[topic] += missed;
            let (missing, announced) = (connection.missing[topic], connection.gaps[topic]);
            // Once the application has been told that it is over, it is not asked for any more words.
            let is_over = connection.phase == Phase::Closed;
            assert!(
                is_over || missing <= announced,
                "peer {peer}, topic {topic}: {missing} are missing, {announced} announced"
            );
        }
    }

    /// The peer has heard a close frame.
    pub(crate) fn hears_close(&self, peer: usize) {
        let Connection { announced, closing, .. } = self.connections[peer];
        assert!(closing || !announced, "peer {peer} hears of its end before the application does");
    }

    /// The peer has heard that messages of a topic, or of none, were dropped.
    pub(crate) fn hears_gap(&mut self, peer: usize, topic: u8, dropped: u32) {
        assert!(dropped > 0, "a gap of nothing");
        assert!(topic == NO_TOPIC || self.lossy & 1 << topic != 0, "topic {topic} loses nothing");
        assert!(topic != NO_TOPIC || self.drops, "nothing is lost by the connection's own policy");
        self.sums.announced += u64::from(dropped);
        self.connections[peer].gaps[usize::from(topic)] += u64::from(dropped);
    }

    /// The neighbour has heard a message: batches that were refused are missing.
    pub(crate) fn neighbour_hears(&mut self, neighbour: usize, by_lane: bool, number: u32) {
        let neighbour = &mut self.neighbours[neighbour];
        let expected = if by_lane { &mut neighbour.by_lane } else { &mut neighbour.by_inbox };
        let place = expected.iter().position(|other| *other == number);
        let missed = place.unwrap_or_else(|| panic!("a neighbour heard {number}, which it was not sent"));
        assert!(by_lane || missed == 0, "what is in an inbox comes in order");
        neighbour.missed += missed as u64;
        expected.drain(..=missed);
    }
}
