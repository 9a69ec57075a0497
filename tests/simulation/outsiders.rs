//! What other cores and other threads do: they speak, and they listen.

use crore_engine::simulation::Parcel;
use crore_engine::{ConnectionId, CoreId, OwnedMessage};

use super::app::TOPIC_NAMES;
use super::message::{BROADCAST, DIRECT, HEAD_BYTES, Label, Wish, stream, topic_stream};
use super::oracle::Outside;
use super::peer::parcel_number;
use super::plan::Room;
use super::run::Run;

impl Run {
    /// Somebody who is no peer says something.
    pub(crate) fn outside(&mut self) {
        let source = self.rng(|rng| rng.usize(..=self.neighbours.len()));
        let says = self.world.borrow().plan.room != Room::OwnEchoes;
        if source == 0 && says {
            self.thread_speaks();
        } else if source > 0 {
            for _ in 0..self.rng(|rng| rng.u8(1..4)) {
                self.neighbour_speaks(source - 1, says);
            }
        }
    }

    fn message(&self, stream: u8) -> (u32, Vec<u8>) {
        let world = &mut *self.world.borrow_mut();
        let number = world.oracle.number();
        let longest = if world.rng.u8(..) < 10 { 20_000 } else { 60 };
        let bytes = world.rng.usize(HEAD_BYTES..longest);
        (number, Label { stream, number, wish: Wish::Ignore, argument: 0 }.message(bytes))
    }

    fn some_connection(&self) -> Option<ConnectionId> {
        let world = &mut *self.world.borrow_mut();
        let count = world.oracle.connections.len().max(1);
        let peer = world.rng.usize(..count);
        world.oracle.connections.get(peer)?.id
    }

    fn thread_speaks(&mut self) {
        match self.rng(|rng| rng.u8(..3)) {
            0 => {
                let topic = self.rng(|rng| rng.u8(..6));
                let name = TOPIC_NAMES[usize::from(topic)];
                let (number, message) = self.message(topic_stream(0, topic));
                let interested: Vec<bool> = (0..=2).map(|core| self.worker.is_interested(CoreId(core), name)).collect();
                let publication = self.world.borrow().plan.publication(topic, number);
                let handle = self.worker.handle();
                let outcome = handle.publish_with(name, OwnedMessage::binary(message), publication);
                let here = Outside::Publish { stream: topic_stream(0, topic), topic, number };
                let all = self.given(here, number, &interested);
                assert_eq!(outcome.is_ok(), all, "inboxes take what they have room for");
            }
            1 => {
                let (number, message) = self.message(stream(0, BROADCAST));
                let outcome = self.worker.handle().broadcast(OwnedMessage::binary(message));
                let here = Outside::Broadcast { stream: stream(0, BROADCAST), number };
                let all = self.given(here, number, &[true; 3]);
                assert_eq!(outcome.is_ok(), all, "inboxes take what they have room for");
            }
            _ => {
                let Some(to) = self.some_connection() else { return };
                let (number, message) = self.message(stream(0, DIRECT));
                let outcome = self.worker.handle().send(to, OwnedMessage::binary(message));
                let here = Outside::Send { to, stream: stream(0, DIRECT), number };
                let all = self.given(here, number, &[true]);
                assert_eq!(outcome.is_ok(), all, "inboxes take what they have room for");
            }
        }
    }

    /// Notes what a handle has given to each of these cores. Says whether all of them had room.
    fn given(&self, here: Outside, number: u32, to: &[bool]) -> bool {
        let oracle = &mut self.world.borrow_mut().oracle;
        let mut all = true;
        if to[0] && oracle.has_room() {
            oracle.inbox.push_back(here);
        } else {
            all &= !to[0];
        }
        let inbox_commands = oracle.inbox_commands;
        for (neighbour, _) in oracle.neighbours.iter_mut().zip(&to[1..]).filter(|(_, to)| **to) {
            if neighbour.inbox < inbox_commands {
                neighbour.inbox += 1;
                neighbour.by_inbox.push_back(number);
            } else {
                all = false;
            }
        }
        all
    }

    fn neighbour_speaks(&mut self, index: usize, says: bool) {
        let source = index + 1;
        let topic = self.rng(|rng| rng.u8(..6));
        let name = TOPIC_NAMES[usize::from(topic)];
        let batch = match self.rng(|rng| rng.u8(..4)) {
            0 => {
                let topics = &mut self.world.borrow_mut().oracle.neighbours[index].topics;
                *topics ^= 1 << topic;
                if *topics & 1 << topic == 0 {
                    self.neighbours[index].unsubscribe(name);
                } else {
                    self.neighbours[index].subscribe(name);
                }
                return;
            }
            _ if !says => return,
            1 => {
                let (number, message) = self.message(topic_stream(source, topic));
                let publication = self.world.borrow().plan.publication(topic, number);
                self.neighbours[index].publish(name, &message, publication);
                Outside::Publish { stream: topic_stream(source, topic), topic, number }
            }
            2 => {
                let (number, message) = self.message(stream(source, BROADCAST));
                self.neighbours[index].broadcast(&message);
                Outside::Broadcast { stream: stream(source, BROADCAST), number }
            }
            _ => {
                let Some(to) = self.some_connection() else { return };
                let (number, message) = self.message(stream(source, DIRECT));
                self.neighbours[index].send(to, &message);
                Outside::Send { to, stream: stream(source, DIRECT), number }
            }
        };
        let sent = self.neighbours[index].end_turn();
        let neighbour = &mut self.world.borrow_mut().oracle.neighbours[index];
        neighbour.waiting = self.neighbours[index].waiting();
        if sent {
            neighbour.batches.push_back(vec![batch]);
        }
    }

    /// Moves what waits with a neighbour to the lane, if there is room.
    pub(crate) fn neighbour_flushes(&mut self, index: usize) -> bool {
        let before = self.neighbours[index].waiting();
        self.neighbours[index].end_turn();
        let waiting = self.neighbours[index].waiting();
        self.world.borrow_mut().oracle.neighbours[index].waiting = waiting;
        waiting < before
    }

    pub(crate) fn neighbour_receives(&mut self, index: usize) -> bool {
        let neighbour = &mut self.neighbours[index];
        let oracle = &mut self.world.borrow_mut().oracle;
        let mut received = false;
        for parcel in neighbour.take_commands() {
            oracle.neighbour_hears(index, false, number_of(&parcel));
        }
        oracle.neighbours[index].inbox = 0;
        while let Some(batch) = neighbour.receive() {
            received = true;
            for parcel in batch {
                oracle.neighbour_hears(index, true, number_of(&parcel));
            }
        }
        received
    }
}

fn number_of(parcel: &Parcel) -> u32 {
    match parcel {
        Parcel::Publish { frame, .. } | Parcel::Send { frame, .. } | Parcel::Broadcast(frame) => parcel_number(frame),
    }
}
