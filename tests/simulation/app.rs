//! The application: it does what messages ask for, and writes down for the oracle what must come of it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crore_engine::{
    Answer, CloseCause, Closed, Closing, ConnectionId, Context, CoreId, Delivery, Gap, Handler, Message, MessageKind,
    MessageStart, Notice, Overflow, OwnedMessage, Piece, Proxy, Publication, Request, Response, SubscribeError,
};

use super::message::{
    DIRECT, EMPTY, HEAD_BYTES, Label, NO_TOPIC, Wish, empty_stream, gap_stream, stream, topic_stream,
};
use super::oracle::{Outside, Phase};
use super::peer::kind_of;
use super::plan::{Pace, Plan, Room};
use super::socket::{address_behind_proxy, address_of};
use super::world::World;

/// Names of topics, by their numbers: longer and longer, so that some are too long.
pub(crate) const TOPIC_NAMES: [&str; 6] = ["a", "bb", "c", "dddd", "ee", "ffffff"];

/// What a page request is answered with.
pub(crate) const PAGE: &str = "a page";

pub(crate) struct Application {
    world: Rc<RefCell<World>>,
}

/// The peer of a connection, once it has said who it is, and what has come of a message that it is given in
/// pieces.
#[derive(Default)]
pub(crate) struct Guest {
    peer: Option<usize>,
    pieces: Vec<u8>,
    /// This side has begun to close the connection.
    closing: bool,
}

impl Guest {
    fn peer(&self) -> usize {
        self.peer.expect("the request has named the peer")
    }
}

impl Application {
    pub(crate) fn new(world: Rc<RefCell<World>>) -> Self {
        Self { world }
    }

    /// Sends the peer a message of the application's own.
    fn say(&self, context: &mut Context<'_>, peer: usize, bytes: usize) {
        let world = &mut *self.world.borrow_mut();
        let number = world.oracle.number();
        let label = Label { stream: stream(0, DIRECT), number, wish: Wish::Ignore, argument: 0 };
        context.send(&label.message(bytes));
        world.oracle.send(peer, label.stream, number);
    }

    fn coalesces(&self) -> bool {
        self.world.borrow().plan.coalescing.is_some()
    }

    fn resume(&self, context: &mut Context<'_>, peer: usize) {
        let world = &mut *self.world.borrow_mut();
        world.trace.note("resumes", peer, 0);
        world.oracle.connections[peer].paused = false;
        context.resume();
    }

    fn subscribe(&self, context: &mut Context<'_>, peer: usize, topic: u8) {
        let name = TOPIC_NAMES[usize::from(topic)];
        let outcome = context.subscribe(name);
        let world = &mut *self.world.borrow_mut();
        let (limits, connection) = (&world.plan.limits, &mut world.oracle.connections[peer]);
        let expected = if name.len() > limits.topic_bytes_max {
            Err(SubscribeError::NameTooLong(limits.topic_bytes_max))
        } else if connection.topics & 1 << topic == 0 && connection.topics.count_ones() >= limits.subscriptions_max {
            Err(SubscribeError::TooMany(limits.subscriptions_max))
        } else {
            connection.topics |= 1 << topic;
            Ok(())
        };
        if connection.phase == Phase::Open {
            assert_eq!(outcome, expected, "peer {peer} subscribes to `{name}`");
            assert_eq!(context.is_subscribed(name), outcome.is_ok(), "peer {peer}, `{name}`");
        } else {
            connection.topics = 0;
        }
    }

    fn forward(&self, context: &mut Context<'_>, from: usize, label: Label, message: Message<'_>) {
        let world = &mut *self.world.borrow_mut();
        let to = usize::from(label.argument) % world.oracle.connections.len();
        let Some(id) = world.oracle.connections[to].id else { return };
        world.trace.note("forwards", from, to as u64);
        if label.wish == Wish::Forward {
            if label.number.is_multiple_of(2) {
                context.send_to(id, message);
                return world.oracle.send(to, label.stream, label.number);
            }
            let peers = (to % 3..world.oracle.connections.len()).step_by(3);
            let each: Vec<(usize, ConnectionId)> =
                peers.filter_map(|peer| Some((peer, world.oracle.connections[peer].id?))).collect();
            context.send_to_each(&each.iter().map(|(_, id)| *id).collect::<Vec<_>>(), message);
            each.iter().for_each(|(peer, _)| world.oracle.send(*peer, label.stream, label.number));
        } else {
            let outcome = context.handle().send(id, message);
            assert_eq!(outcome.is_ok(), world.oracle.has_room(), "the inbox takes what it has room for");
            if outcome.is_ok() {
                world.oracle.inbox.push_back(Outside::Send { to: id, stream: label.stream, number: label.number });
            }
        }
    }

    fn obey(&self, context: &mut Context<'_>, peer: usize, label: Label, message: Message<'_>) {
        let Label { number, wish, argument, .. } = label;
        let oracle_of = |world: &mut World| world.oracle.send(peer, label.stream, number);
        match wish {
            Wish::Ignore => {}
            Wish::Pause => {
                context.pause();
                self.world.borrow_mut().oracle.connections[peer].paused = true;
                if argument % 2 == 0 {
                    let id = context.id();
                    context.tell(id, Box::new(()));
                } else {
                    context.wake_after(Duration::from_millis(1));
                }
            }
            Wish::Echo => {
                context.send(message);
                oracle_of(&mut self.world.borrow_mut());
            }
            Wish::EchoTwice => {
                for _ in 0..2 {
                    context.send(message);
                    oracle_of(&mut self.world.borrow_mut());
                }
            }
            Wish::EchoAround => {
                context.send(message);
                oracle_of(&mut self.world.borrow_mut());
                let topic = argument % self.world.borrow().plan.topics;
                let number = self.world.borrow_mut().oracle.number();
                let other = Label { stream: topic_stream(0, topic), number, wish: Wish::Ignore, argument: 0 };
                let publication = self.world.borrow().plan.publication(topic, number);
                context.publish_with(TOPIC_NAMES[usize::from(topic)], &other.message(HEAD_BYTES), publication);
                self.world.borrow_mut().oracle.publish(topic, number, None);
                context.send(message);
                oracle_of(&mut self.world.borrow_mut());
            }
            Wish::Publish => {
                let publication = self.world.borrow().plan.publication(argument, number);
                context.publish_with(TOPIC_NAMES[usize::from(argument)], message, publication);
                self.world.borrow_mut().oracle.publish(argument, number, None);
            }
            Wish::PublishToOthers => {
                let publication = self.world.borrow().plan.publication(argument, number);
                let publication = Publication { except: Some(context.id()), ..publication };
                context.publish_with(TOPIC_NAMES[usize::from(argument)], message, publication);
                self.world.borrow_mut().oracle.publish(argument, number, Some(peer));
            }
            Wish::Subscribe => {
                self.subscribe(context, peer, argument);
                self.say(context, peer, HEAD_BYTES);
            }
            Wish::Unsubscribe => {
                context.unsubscribe(TOPIC_NAMES[usize::from(argument)]);
                self.world.borrow_mut().oracle.connections[peer].topics &= !(1 << argument);
                self.say(context, peer, HEAD_BYTES);
            }
            Wish::Forward | Wish::ForwardByHandle => self.forward(context, peer, label, message),
            Wish::ForwardToCore => {
                // One more than there are: an identifier that the engine did not make.
                let core = 1 + u16::from(argument) % 3;
                context.send_to(ConnectionId::new(CoreId(core), 1, 1), message);
                if let Some(neighbour) = self.world.borrow_mut().oracle.neighbours.get_mut(usize::from(core) - 1) {
                    neighbour.by_lane.push_back(number);
                }
            }
            Wish::Broadcast => {
                context.broadcast(message);
                self.world.borrow_mut().oracle.broadcast(number, None);
            }
            Wish::BroadcastToOthers => {
                context.broadcast_to_others(message);
                self.world.borrow_mut().oracle.broadcast(number, Some(peer));
            }
            Wish::Burst => {
                if self.coalesces() {
                    context.coalesce(argument % 4 > 0);
                }
                for count in 0..usize::from(argument) {
                    self.say(context, peer, HEAD_BYTES + count * 8);
                }
            }
            Wish::Close => {
                context.send(message);
                oracle_of(&mut self.world.borrow_mut());
                context.close(4000, "as you wish");
                self.world.borrow_mut().oracle.leaves(peer);
                context.send(message);
            }
            Wish::Terminate => {
                self.world.borrow_mut().oracle.leaves(peer);
                context.terminate();
            }
            Wish::Spawn => {
                let (handle, id, world) = (context.handle().clone(), context.id(), Rc::clone(&self.world));
                let message = OwnedMessage::from(message);
                context.spawn(async move {
                    let world = &mut *world.borrow_mut();
                    let outcome = handle.send(id, message);
                    assert_eq!(outcome.is_ok(), world.oracle.has_room(), "the inbox takes what it has room for");
                    if outcome.is_ok() {
                        world.oracle.inbox.push_back(Outside::Send { to: id, stream: label.stream, number });
                    }
                });
            }
        }
    }

    /// A whole message.
    fn take(&self, context: &mut Context<'_>, peer: usize, message: Message<'_>) {
        if message.payload().is_empty() {
            self.world.borrow_mut().oracle.given(peer, EMPTY);
            context.send(message);
            self.world.borrow_mut().oracle.send(peer, empty_stream(), EMPTY);
            return;
        }
        let label = Label::read(message.payload());
        {
            let world = &mut *self.world.borrow_mut();
            world.trace.note("on_message", peer, u64::from(label.number));
            assert_eq!(context.peer_address(), None, "nobody keeps it");
            world.oracle.given(peer, label.number);
            assert_eq!(world.oracle.connections[peer].phase, Phase::Open, "who leaves is not listened to");
            assert_eq!(message.kind(), kind_of(label.number, Wish::Echo), "the kind is what it was");
        }
        self.obey(context, peer, label, message);
    }

    /// Whether this was a reason to end the connection.
    fn judge(&self, peer: usize, cause: CloseCause) {
        let world = self.world.borrow();
        let connection = &world.oracle.connections[peer];
        let reasons = connection.reasons;
        let justified = match cause {
            CloseCause::Peer => reasons.peer,
            CloseCause::Application => reasons.application,
            CloseCause::Protocol => reasons.protocol,
            CloseCause::Lost => reasons.lost || reasons.half_closed,
            CloseCause::Drain => reasons.drain,
            CloseCause::Memory => false,
            CloseCause::SlowConsumer => world.plan.disconnects(),
            // Who answers every ping is not cut, whatever the clock does.
            CloseCause::PingTimeout => reasons.deaf || (world.plan.pace != Pace::Still && !world.is_quiet(peer)),
        };
        assert!(justified, "peer {peer} is cut as {cause:?} without a reason: {reasons:?}");
        let only_by_its_own_word = match cause {
            CloseCause::Peer => true,
            CloseCause::Lost => !reasons.lost,
            _ => false,
        };
        if only_by_its_own_word && connection.phase == Phase::Open {
            assert!(
                connection.spoken.is_empty(),
                "peer {peer} has said more than was handled: {:?}",
                connection.spoken
            );
        }
    }
}

/// The address that the application is to be told.
fn address_told(plan: &Plan, peer: usize) -> Option<SocketAddr> {
    match plan.proxied {
        true => Some(address_behind_proxy(peer)),
        false => plan.peer_addresses.then(|| address_of(peer)),
    }
}

impl Handler for Application {
    type Connection = Guest;

    fn on_request(&mut self, context: &mut Context<'_>, guest: &mut Guest, request: &Request<'_>) -> Answer {
        let peer: usize = request.path.trim_start_matches('/').parse().expect("the number of a peer");
        let world = &mut *self.world.borrow_mut();
        world.trace.note("on_request", peer, context.id().as_u64());
        let address = address_told(&world.plan, peer);
        assert_eq!(context.peer_address(), address, "peer {peer}");
        let proxy = Proxy { address: address_of(peer), names_client: true };
        assert_eq!(context.proxy(), world.plan.proxied.then_some(proxy), "peer {peer}");
        guest.peer = Some(peer);
        if request.query.is_some() {
            return Answer::Respond(Response::text(200, PAGE));
        }
        if request.header("upgrade").is_none() {
            // It is refused whatever the application says, and hears nothing of this.
            context.send("too early");
            let _ = context.subscribe("a");
            return Answer::upgrade();
        }
        let connection = &mut world.oracle.connections[peer];
        connection.id = Some(context.id());
        connection.phase = Phase::Open;
        if world.plan.room != Room::OwnEchoes && world.plan.topics > 3 {
            let number = world.oracle.number();
            let label = Label { stream: stream(0, DIRECT), number, wish: Wish::Ignore, argument: 0 };
            context.send(&label.message(HEAD_BYTES));
            world.oracle.send(peer, label.stream, number);
        }
        Answer::upgrade()
    }

    fn on_open(&mut self, context: &mut Context<'_>, guest: &mut Guest) {
        let peer = guest.peer();
        {
            let world = &mut *self.world.borrow_mut();
            world.trace.note("on_open", peer, 0);
            let address = address_told(&world.plan, peer);
            assert_eq!(context.peer_address(), address, "peer {peer}");
            world.oracle.sums.opened += 1;
            let connection = &mut world.oracle.connections[peer];
            assert_eq!(connection.id, Some(context.id()));
            assert!(!std::mem::replace(&mut connection.announced, true), "opened twice");
        }
        if self.world.borrow().plan.room == Room::OwnEchoes {
            return;
        }
        if self.coalesces() && peer.is_multiple_of(2) {
            context.coalesce(true);
        }
        let topics = self.world.borrow().plan.topics;
        for topic in 0..topics / 2 {
            self.subscribe(context, peer, topic);
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, guest: &mut Guest, message: Message<'_>) {
        self.take(context, guest.peer(), message);
    }

    fn on_begin(&mut self, _: &mut Context<'_>, guest: &mut Guest, start: MessageStart) -> Delivery {
        let world = &mut *self.world.borrow_mut();
        assert!(world.plan.limits.pieces_bytes_max > 0, "nobody has asked for pieces");
        assert!(guest.pieces.is_empty(), "a message begins within another");
        world.trace.note("on_begin", guest.peer(), start.frame_bytes);
        if world.rng.bool() { Delivery::Pieces } else { Delivery::Whole }
    }

    fn on_piece(&mut self, context: &mut Context<'_>, guest: &mut Guest, piece: Piece<'_>) {
        self.world.borrow_mut().trace.note("on_piece", guest.peer(), piece.bytes.len() as u64);
        assert!(piece.last || !piece.bytes.is_empty(), "only the last piece is empty");
        guest.pieces.extend_from_slice(piece.bytes);
        if piece.last {
            let message = std::mem::take(&mut guest.pieces);
            match piece.kind {
                MessageKind::Text => {
                    let text = std::str::from_utf8(&message).expect("text is checked");
                    self.take(context, guest.peer(), Message::text(text));
                }
                MessageKind::Binary => self.take(context, guest.peer(), Message::binary(&message)),
            }
        }
    }

    fn on_ping(&mut self, context: &mut Context<'_>, guest: &mut Guest, payload: &[u8]) {
        let peer = guest.peer();
        assert_eq!(payload, b"still there?");
        self.world.borrow_mut().trace.note("on_ping", peer, 0);
        let talkative = self.world.borrow().plan.topics == 6 && self.world.borrow().plan.room != Room::OwnEchoes;
        if talkative {
            self.say(context, peer, HEAD_BYTES);
        }
    }

    fn on_pong(&mut self, _: &mut Context<'_>, guest: &mut Guest, round_trip: Duration) {
        let world = &mut *self.world.borrow_mut();
        assert!(round_trip <= world.now.get());
        world.trace.note("on_pong", guest.peer(), u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX));
    }

    fn on_writable(&mut self, context: &mut Context<'_>, guest: &mut Guest) {
        let peer = guest.peer();
        self.world.borrow_mut().trace.note("on_writable", peer, context.outbox_bytes() as u64);
        let lossy = self.world.borrow().plan.overflows.iter().any(|overflow| *overflow != Overflow::Limits);
        let drops = self.world.borrow().oracle.drops;
        assert!(context.outbox_bytes() == 0 || lossy || drops, "all has left that may not be missing");
        // Whoever says more each time never comes to an end.
        let more = self.world.borrow_mut().chance(100);
        if more && self.world.borrow().plan.room != Room::OwnEchoes {
            self.say(context, peer, HEAD_BYTES);
        }
    }

    fn on_told(&mut self, context: &mut Context<'_>, guest: &mut Guest, _: Notice) {
        self.resume(context, guest.peer());
    }

    fn on_wake(&mut self, context: &mut Context<'_>, guest: &mut Guest) {
        self.resume(context, guest.peer());
    }

    fn on_gap(&mut self, guest: &mut Guest, gap: Gap<'_>) -> Option<OwnedMessage> {
        let topic = gap.topic.map_or(NO_TOPIC, |name| {
            let place = TOPIC_NAMES.iter().position(|other| *other == name).expect("a topic");
            place.to_le_bytes()[0]
        });
        let world = &mut *self.world.borrow_mut();
        world.trace.note("on_gap", guest.peer(), u64::from(gap.dropped));
        world.oracle.sums.sent += 1;
        let label = Label { stream: gap_stream(topic), number: gap.dropped, wish: Wish::Ignore, argument: 0 };
        Some(OwnedMessage::binary(label.message(HEAD_BYTES)))
    }

    fn on_closing(&mut self, context: &mut Context<'_>, guest: &mut Guest, closing: Closing) {
        let peer = guest.peer();
        assert!(!std::mem::replace(&mut guest.closing, true), "peer {peer} is closed twice");
        assert_eq!(context.subscriptions().count(), 0, "peer {peer} subscribes to nothing any more");
        let by_us = !matches!(closing.cause, CloseCause::Peer | CloseCause::Protocol | CloseCause::Lost);
        assert!(by_us && closing.cause != CloseCause::PingTimeout, "peer {peer}: {:?}", closing.cause);
        self.judge(peer, closing.cause);
        let world = &mut *self.world.borrow_mut();
        world.trace.note("on_closing", peer, u64::from(closing.code));
        let connection = &mut world.oracle.connections[peer];
        assert!(connection.announced, "peer {peer} is not open");
        connection.closing = true;
        world.oracle.leaves(peer);
        context.send("too late");
        let _ = context.subscribe("a");
        // The others hear of it. Who still is to be drained is as good as gone for the oracle.
        if world.plan.last_words && !world.oracle.draining {
            let (topic, number) = (closing.code.to_le_bytes()[0] % world.plan.topics, world.oracle.number());
            let label = Label { stream: topic_stream(0, topic), number, wish: Wish::Ignore, argument: 0 };
            let publication = world.plan.publication(topic, number);
            context.publish_with(TOPIC_NAMES[usize::from(topic)], &label.message(HEAD_BYTES), publication);
            world.oracle.publish(topic, number, None);
        }
    }

    fn on_close(&mut self, context: &mut Context<'_>, guest: &mut Guest, closed: Closed<'_>) {
        let peer = guest.peer();
        assert_eq!(closed.was_closing, guest.closing, "peer {peer}: what begins here is told first");
        self.judge(peer, closed.cause);
        let world = &mut *self.world.borrow_mut();
        world.trace.note("on_close", peer, u64::from(closed.code));
        let connection = &mut world.oracle.connections[peer];
        assert!(std::mem::take(&mut connection.announced), "closed twice, or never opened");
        world.oracle.leaves(peer);
        let connection = &mut world.oracle.connections[peer];
        connection.phase = Phase::Closed;
        connection.cause = Some(closed.cause);
        // Nobody hears that, and nothing of it is kept.
        context.send("too late");
        let _ = context.subscribe("a");
    }
}
