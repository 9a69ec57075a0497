//! What happens in a step: what peers, other cores and other threads do, and what the network lets through.

use crore_engine::protocol::Opcode;

use super::message::{BROADCAST, DIRECT, EMPTY, HEAD_BYTES, Label, Wish, gaps_of, stream, topic_stream};
use super::oracle::Outside;
use super::peer::{Heard, Kind, Peer, Reading, kind_of, write_breach, write_control, write_message};
use super::plan::Room;
use super::run::Run;
use super::socket::proxy_header;

/// A peer does not write on while so much of its own is on its way.
const UNREAD_BYTES_MAX: usize = 200_000;

impl Run {
    /// A little of everything.
    pub(crate) fn step(&mut self) {
        self.pass_some();
        let (peers, steps) = {
            let world = self.world.borrow();
            (world.plan.peers, world.plan.steps)
        };
        if self.peers.len() < peers && self.rng(|rng| rng.usize(..steps)) < 4 * peers {
            self.connect();
        }
        if !self.peers.is_empty() {
            for _ in 0..self.rng(|rng| rng.u8(..4)) {
                let peer = self.rng(|rng| rng.usize(..self.peers.len()));
                self.speak(peer);
            }
            let peer = self.rng(|rng| rng.usize(..self.peers.len()));
            self.lose(peer);
        }
        let outsiders = self.world.borrow().plan.outsiders;
        if self.world.borrow_mut().chance(outsiders) {
            self.outside();
        }
        self.world.borrow_mut().run_threads(false);
        if self.rng(fastrand::Rng::bool) {
            self.run_futures();
        }
        for peer in 0..self.peers.len() {
            if self.rng(fastrand::Rng::bool) {
                let bytes = self.rng(|rng| if rng.bool() { usize::MAX } else { rng.usize(1..400) });
                self.write_request(peer, bytes);
                self.world.borrow_mut().deliver(peer, bytes);
            }
            let slow_reads = self.world.borrow().plan.slow_reads;
            match self.peers[peer].reading {
                Reading::AtOnce if self.world.borrow_mut().chance(180) => drop(self.read(peer, usize::MAX)),
                Reading::Slowly if self.world.borrow_mut().chance(slow_reads) => {
                    let bytes = self.rng(|rng| rng.usize(1..500));
                    self.read(peer, bytes);
                }
                _ => {}
            }
        }
        for neighbour in 0..self.neighbours.len() {
            if self.rng(fastrand::Rng::bool) {
                self.neighbour_receives(neighbour);
                self.neighbour_flushes(neighbour);
            }
        }
    }

    pub(crate) fn rng<R>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> R) -> R {
        draw(&mut self.world.borrow_mut().rng)
    }

    // ---- Peers

    fn connect(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let number = world.connect();
        world.trace.note("connects", number, 0);
        let mut peer = Peer::new(&mut world.rng, number, world.plan.limits.head_bytes_max);
        if world.plan.proxied {
            peer.request.splice(..0, proxy_header(number));
        }
        let (slow, never) = (world.plan.slow_readers, world.plan.never_readers);
        if world.chance(slow) {
            peer.reading = Reading::Slowly;
        } else if world.chance(never) {
            peer.reading = Reading::Never;
        }
        self.peers.push(peer);
    }

    pub(crate) fn write_request(&mut self, peer: usize, bytes: usize) -> bool {
        let connection = &mut self.world.borrow_mut().connections[peer];
        let request = &mut self.peers[peer].request;
        let bytes = bytes.min(request.len());
        // Behind what is lost nothing comes.
        if !connection.dead {
            connection.inbound.write(&request[..bytes]);
        }
        request.drain(..bytes);
        bytes > 0
    }

    fn can_write(&self, peer: usize) -> bool {
        let connection = &self.world.borrow().connections[peer];
        !connection.peer_ended
            && !connection.dead
            && !connection.closed
            && connection.inbound.unread() < UNREAD_BYTES_MAX
    }

    fn speak(&mut self, peer: usize) {
        if !self.peers[peer].may_speak() || !self.can_write(peer) {
            return;
        }
        for _ in 0..self.rng(|rng| rng.u8(1..8)) {
            let wish = self.wish(peer);
            self.say(peer, wish);
            if matches!(wish, Wish::Close | Wish::Terminate) {
                self.world.borrow_mut().oracle.connections[peer].reasons.application = true;
            }
        }
    }

    fn wish(&self, _: usize) -> Wish {
        let world = &mut *self.world.borrow_mut();
        let sent_away = world.plan.losses.sent_away > world.rng.u32(..1024);
        match world.rng.u8(..33) {
            _ if world.plan.room == Room::OwnEchoes => Wish::Echo,
            0..10 => Wish::Echo,
            10 => Wish::EchoTwice,
            11..14 => Wish::Publish,
            14 | 15 => Wish::PublishToOthers,
            16 | 17 => Wish::EchoAround,
            18 | 19 => Wish::Subscribe,
            20 | 21 => Wish::Unsubscribe,
            22 | 23 => Wish::Forward,
            24 => Wish::ForwardByHandle,
            25 => Wish::ForwardToCore,
            26 => Wish::Broadcast,
            27 => Wish::BroadcastToOthers,
            28 => Wish::Burst,
            29 => Wish::Spawn,
            32 => Wish::Pause,
            30 if sent_away => Wish::Close,
            31 if sent_away => Wish::Terminate,
            _ => Wish::Ignore,
        }
    }

    fn say(&mut self, peer: usize, wish: Wish) {
        let world = &mut *self.world.borrow_mut();
        let rng = &mut world.rng;
        let topic = rng.u8(..world.plan.topics);
        let (stream, argument) = match wish {
            Wish::Publish | Wish::PublishToOthers => (topic_stream(0, topic), topic),
            Wish::Subscribe | Wish::Unsubscribe => (stream(0, DIRECT), topic),
            Wish::Broadcast | Wish::BroadcastToOthers => (stream(0, BROADCAST), 0),
            Wish::Burst => (stream(0, DIRECT), rng.u8(..40)),
            _ => (stream(0, DIRECT), rng.u8(..128)),
        };
        let bytes = match rng.u8(..) {
            0..4 => 0,
            4..6 => world.plan.long_bytes,
            6..8 => [125, 126, 127, 4_093, 4_096, 16_370, 16_384, 65_535, 65_536][rng.usize(..9)],
            8..11 => rng.usize(HEAD_BYTES..world.plan.long_bytes),
            11..50 => rng.usize(HEAD_BYTES..1_000),
            _ => rng.usize(HEAD_BYTES..100),
        };
        let fragments_max = world.plan.limits.fragments_max;
        let mut written = Vec::new();
        let number = if bytes == 0 {
            let payload = self.peers[peer].payload(rng, Vec::new());
            write_message(rng, &mut written, kind_of(0, Wish::Echo), &payload, fragments_max);
            EMPTY
        } else {
            let number = world.oracle.number();
            let message = Label { stream, number, wish, argument }.message(bytes.min(world.plan.long_bytes));
            // What the application is to ignore is text or binary like the rest.
            let payload = self.peers[peer].payload(rng, message);
            write_message(rng, &mut written, kind_of(number, Wish::Echo), &payload, fragments_max);
            number
        };
        world.oracle.says(peer, number);
        world.connections[peer].inbound.write(&written);
        world.trace.note("says", peer, u64::from(number));
    }

    /// Something ends the connection, perhaps.
    fn lose(&mut self, peer: usize) {
        let losses = self.world.borrow().plan.losses;
        let mut chance = self.rng(|rng| rng.u32(..1024));
        let mut falls = |chances: u32| {
            let falls = chance < chances;
            chance = chance.wrapping_sub(chances);
            falls
        };
        if falls(losses.reset) {
            self.reset(peer);
        } else if falls(losses.half_close) {
            self.half_close(peer);
        } else if falls(losses.close) {
            if self.can_write(peer) {
                self.close(peer);
            }
        } else if falls(losses.break_rules) && self.peers[peer].may_speak() && self.can_write(peer) {
            let world = &mut *self.world.borrow_mut();
            let limits = &world.plan.limits;
            let mut written = Vec::new();
            let code = write_breach(&mut world.rng, &mut written, limits.message_bytes_max, limits.fragments_max);
            world.connections[peer].inbound.write(&written);
            world.oracle.connections[peer].reasons.protocol = true;
            world.trace.note("breaks rules", peer, u64::from(code));
            self.peers[peer].breach = Some(code);
        } else if falls(losses.sent_away) {
            self.send_away(peer);
        }
    }

    fn reset(&mut self, peer: usize) {
        let world = &mut *self.world.borrow_mut();
        world.oracle.connections[peer].reasons.lost = true;
        world.reset(peer);
    }

    fn half_close(&mut self, peer: usize) {
        let world = &mut *self.world.borrow_mut();
        world.oracle.connections[peer].reasons.half_closed = true;
        world.connections[peer].peer_ended = true;
        world.trace.note("half-closes", peer, 0);
    }

    fn close(&mut self, peer: usize) {
        if self.peers[peer].may_speak() {
            let code = self.rng(|rng| [None, Some(1000_u16), Some(1001), Some(4999)][rng.usize(..4)]);
            self.world.borrow_mut().oracle.connections[peer].reasons.peer = true;
            self.write_close(peer, code.map(u16::to_be_bytes).as_ref().map_or(&[], |code| code));
        }
    }

    fn write_close(&mut self, peer: usize, body: &[u8]) {
        let world = &mut *self.world.borrow_mut();
        let mut written = Vec::new();
        write_control(&mut world.rng, &mut written, Opcode::Close, body);
        world.connections[peer].inbound.write(&written);
        world.trace.note("closes", peer, 0);
        self.peers[peer].has_closed = true;
    }

    /// Another thread ends the connection.
    fn send_away(&mut self, peer: usize) {
        let world = &mut *self.world.borrow_mut();
        let Some(to) = world.oracle.connections[peer].id else { return };
        let abruptly = world.rng.bool();
        let handle = self.worker.handle();
        let outcome = if abruptly { handle.terminate(to) } else { handle.close(to, 4001, "go") };
        assert_eq!(outcome.is_ok(), world.oracle.has_room(), "the inbox takes what it has room for");
        if outcome.is_ok() {
            world.trace.note("sent away", peer, u64::from(abruptly));
            world.oracle.connections[peer].reasons.application = true;
            world.oracle.inbox.push_back(if abruptly { Outside::Terminate { to } } else { Outside::Close { to } });
        }
    }

    /// The peer leaves, one way or another.
    pub(crate) fn leave(&mut self, peer: usize) {
        match self.rng(|rng| rng.u8(..4)) {
            0 => self.reset(peer),
            1 => self.half_close(peer),
            _ if self.peers[peer].may_speak() && !self.has_ended(peer) => self.close(peer),
            _ => self.reset(peer),
        }
    }

    /// The peer reads up to so many bytes of what has come, and answers what wants an answer.
    pub(crate) fn read(&mut self, peer: usize, bytes: usize) -> bool {
        if self.peers[peer].ended.is_some() {
            return false;
        }
        let (read, end) = {
            let connection = &mut self.world.borrow_mut().connections[peer];
            if connection.dead && !connection.refused {
                return false;
            }
            connection.outbound.deliver(bytes, usize::MAX);
            let read = connection.outbound.read(bytes);
            self.peers[peer].receives(read);
            (read.len(), connection.peer_sees())
        };
        if read > 0 {
            self.world.borrow_mut().trace.note("reads", peer, read as u64);
        }
        while let Some(heard) = self.peers[peer].next() {
            self.hear(peer, heard);
        }
        if end.is_some() {
            self.peers[peer].ended = end;
            // It closes its own side, and is gone.
            self.world.borrow_mut().connections[peer].peer_ended = true;
        }
        read > 0 || end.is_some()
    }

    fn hear(&mut self, peer: usize, heard: Heard) {
        match heard {
            Heard::Answer(status) => {
                if let Kind::Babbler { status: expected } = self.peers[peer].kind {
                    assert_eq!(status, expected, "what is no request is refused");
                }
            }
            Heard::Message { stream, number } => {
                let world = &mut *self.world.borrow_mut();
                world.trace.note("hears", peer, u64::from(number));
                match gaps_of(stream) {
                    Some(topic) => world.oracle.hears_gap(peer, topic, number),
                    None => world.oracle.hears(peer, stream, number),
                }
            }
            Heard::Ping(payload) => {
                let answers = !self.peers[peer].has_closed && !self.peers[peer].deaf && !self.has_ended(peer);
                if answers {
                    let world = &mut *self.world.borrow_mut();
                    let mut written = Vec::new();
                    write_control(&mut world.rng, &mut written, Opcode::Pong, &payload);
                    world.connections[peer].inbound.write(&written);
                }
            }
            Heard::Pong => {}
            Heard::Close(code) => {
                self.world.borrow().oracle.hears_close(peer);
                self.hear_close(peer, code);
            }
        }
    }

    fn has_ended(&self, peer: usize) -> bool {
        let connection = &self.world.borrow().connections[peer];
        connection.peer_ended || connection.dead
    }

    fn hear_close(&mut self, peer: usize, code: u16) {
        {
            let world = self.world.borrow();
            let connection = &world.oracle.connections[peer];
            let certain = connection.outstanding_for_certain(world.oracle.lossy);
            let all = certain == 0 || world.oracle.drops || (world.plan.disconnects() && code == 1013);
            assert!(all, "peer {peer}: {:?} is not heard before the close frame {code}", connection.expected);
        }
        let (breach, open) = (self.peers[peer].breach, !self.has_ended(peer));
        if breach.is_some() && open {
            // It sees what it has done, and goes.
            self.world.borrow_mut().connections[peer].peer_ended = true;
        } else if open && !self.peers[peer].has_closed && !self.peers[peer].deaf {
            self.write_close(peer, if code == 0 { &[] } else { &[3, 232] });
        }
    }
}
