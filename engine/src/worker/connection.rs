//! What the engine knows of one connection.

use bytes::BytesMut;

use super::coalesce::Joined;
use super::held::Held;
use super::outbox::Outbox;
use crate::driver::{Shutdown, Socket};
use crate::handler::{Closing, Subscriptions, TopicSet};
use crate::id::TopicId;
use crate::memory::{Holds, Memory};
use crate::protocol::Decoder;
use crate::protocol::assembler::HeapBytes;
use crate::protocol::deflate::{DeflateAgreement, Window};
use crate::topics::Topics;

/// "None" of the `u32` fields below.
pub(super) const NONE: u32 = u32::MAX;

/// Where a connection is between its accept and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The header of a proxy has not come in full.
    Proxied,
    /// The request head has not come in full.
    Handshake,
    /// Messages flow.
    Open,
    /// Our close frame is on its way, the peer's has not come.
    Closing,
    /// Nothing more will be said by us: once all has left, the connection ends. With `linger` what the
    /// peer still sends is read and dropped first, so that no reset overtakes our last words.
    Finishing { linger: bool },
    /// The connection is over; requests on its socket are still to end.
    Ended,
}

/// The request that watches for input. At most one is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// None: input is being handled, or the connection is paused or over.
    Nothing,
    /// A one-shot poll: the cheapest to keep, for idle connections.
    Poll,
    /// One receive that does not wait.
    Receive,
    /// None, though there is something to receive: it waits for a buffer to be free.
    Starved,
    /// A multishot receive: the cheapest per message, for hot connections.
    Multishot,
    /// A multishot receive whose cancel is on its way.
    Cancelling,
}

/// One connection. Everything rare lies behind one pointer and is freed when it is over; who changes it has the
/// worker's books kept, in [`Held`].
pub(super) struct Connection<S> {
    /// The application's.
    pub(super) state: S,
    /// Frames that the end of a buffer has cut, fragments.
    pub(super) decoder: Decoder,
    pub(super) rare: RareSlot,
    /// Which user of its slot it is.
    pub(super) generation: u32,
    pub(super) socket: Socket,
    /// Where its output of this turn lies in the list of corks, or [`NONE`].
    pub(super) cork: u32,
    /// The topic it is subscribed to, if that is the only one, or [`NONE`].
    pub(super) topic: u32,
    /// Messages since the last heartbeat.
    pub(super) messages: u16,
    /// How messages are compressed, if they are.
    pub(super) deflate: DeflateAgreement,
    pub(super) phase: Phase,
    pub(super) watch: Watch,
    /// A send is in flight.
    pub(super) sending: bool,
    /// The shutdown that is in flight.
    pub(super) shutting_down: Option<Shutdown>,
    /// Something has come since the last heartbeat.
    pub(super) heard: bool,
    /// A heartbeat has been sent and not answered.
    pub(super) pinged: bool,
    /// Input is not asked for, and what comes nevertheless is not handled, until the outbox is empty again.
    pub(super) paused: bool,
    /// The same, until the application wants more.
    pub(super) stopped: bool,
    /// `on_open` has been called, and `on_close` has not.
    pub(super) announced: bool,
    /// The application wants it to receive what is broadcast.
    pub(super) hears_broadcasts: bool,
    /// Not simply sent what others are: its messages are joined, or it is left out of part of what is being delivered.
    pub(super) apart: bool,
    /// Its messages are joined.
    pub(super) coalesces: bool,
}

const _: () = {
    assert!(size_of::<Connection<()>>() <= 48, "a million connections: every byte is a megabyte");
    assert!(size_of::<Connection<[u64; 10]>>() <= 128, "with 80 bytes of the application's it fits two cache lines");
};

/// Where the rare part is, if there is one. It is seen from outside, and changed by [`Connection::with_rare`].
pub(super) struct RareSlot(Option<Box<Rare>>);

impl RareSlot {
    pub(super) fn get(&self) -> Option<&Rare> {
        self.0.as_deref()
    }
}

/// What few connections have, and those not for long.
#[derive(Default)]
pub(super) struct Rare {
    /// The request head so far.
    pub(super) head: Vec<u8>,
    /// What came for a connection that is paused, and is not handled yet.
    pub(super) input: BytesMut,
    /// Output of earlier turns that has not left.
    pub(super) outbox: Outbox,
    /// Messages that are joined and have not left.
    pub(super) joined: Option<Box<Joined>>,
    /// Bytes of a large send in flight, or none.
    pub(super) sending: usize,
    /// Topics, if more than one.
    pub(super) topics: TopicSet,
    /// With context takeover: the end of what the peer was sent compressed, since it was last sent what others
    /// were, too.
    pub(super) sent: Window,
    /// When we closed first.
    pub(super) closing: Option<OwnClose>,
}

/// Our close frame, with which the end has begun.
#[derive(Clone, Copy)]
pub(super) struct OwnClose {
    pub(super) closing: Closing,
    /// `on_closing` has been called.
    pub(super) told: bool,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.input.is_empty()
            && self.outbox.is_empty()
            && self.joined.is_none()
            && self.sending == 0
            && self.topics.is_empty()
            && self.sent.is_empty()
            && self.closing.is_none()
    }

    /// Frees the room of what is empty: a connection with topics has a rare part for as long as it is open.
    fn shrink(&mut self) {
        if self.outbox.is_empty() {
            self.outbox = Outbox::default();
        }
        if self.topics.is_empty() {
            self.topics = TopicSet::default();
        }
    }

    /// What it takes.
    pub(super) fn held(&self) -> Held {
        Held {
            rare: size_of::<Self>(),
            input: self.head.capacity() + self.input.capacity(),
            outboxes: self.outbox.heap_bytes() + self.joined.as_ref().map_or(0, |joined| joined.heap_bytes()),
            topics: self.topics.allocation_size(),
            windows: self.sent.heap_bytes(),
            ..Held::default()
        }
    }
}

impl Holds for Rare {
    fn memory(&self) -> Memory {
        self.held().memory(HeapBytes::default())
    }

    fn outbox_messages(&self) -> usize {
        self.outbox.messages()
    }
}

/// What a connection is subscribed to: taken from two of its fields, so that the others stay free.
pub(super) fn subscriptions<'a>(topic: u32, rare: Option<&'a Rare>, topics: &'a Topics) -> Subscriptions<'a> {
    let more = rare.map(|rare| &rare.topics).filter(|topics| !topics.is_empty());
    Subscriptions { topics, only: (topic != NONE).then_some(TopicId(topic)), more, pending: 0 }
}

impl<S: Default> Connection<S> {
    pub(super) fn accepted(socket: Socket, generation: u32) -> Self {
        Self {
            state: S::default(),
            decoder: Decoder::default(),
            rare: RareSlot(None),
            generation,
            socket,
            cork: NONE,
            topic: NONE,
            messages: 0,
            deflate: DeflateAgreement::NONE,
            phase: Phase::Handshake,
            watch: Watch::Nothing,
            sending: false,
            shutting_down: None,
            heard: true,
            pinged: false,
            paused: false,
            stopped: false,
            announced: false,
            hears_broadcasts: true,
            apart: false,
            coalesces: false,
        }
    }
}

impl<S> Connection<S> {
    /// The rare part, if there is one.
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.get()
    }

    /// Changes the rare part, which is made if need be.
    pub(super) fn with_rare<R>(&mut self, held: &mut Held, change: impl FnOnce(&mut Rare) -> R) -> R {
        let before = self.rare.0.as_ref().map_or_else(Held::default, |rare| rare.held());
        let rare = self.rare.0.get_or_insert_default();
        let outcome = change(rare);
        held.change(&before, &rare.held());
        outcome
    }

    /// Changes the rare part if there is one.
    pub(super) fn if_rare<R>(&mut self, held: &mut Held, change: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        self.rare.0.is_some().then(|| self.with_rare(held, change))
    }

    /// Takes the request head so far.
    pub(super) fn take_head(&mut self, held: &mut Held) -> Vec<u8> {
        self.if_rare(held, |rare| std::mem::take(&mut rare.head)).unwrap_or_default()
    }

    /// Whether anything waits in the outbox.
    pub(super) fn has_waiting(&self) -> bool {
        self.rare().is_some_and(|rare| !rare.outbox.is_empty())
    }

    /// What is joined for it.
    pub(super) fn joined(&self) -> Option<&Joined> {
        self.rare.0.as_ref()?.joined.as_deref()
    }

    /// Takes what is joined for it.
    pub(super) fn take_joined(&mut self, held: &mut Held) -> Option<Joined> {
        let joined = *self.if_rare(held, |rare| rare.joined.take())??;
        self.tidy(held);
        Some(joined)
    }

    /// Takes input that was kept for later.
    pub(super) fn take_input(&mut self, held: &mut Held) -> BytesMut {
        self.if_rare(held, |rare| std::mem::take(&mut rare.input)).unwrap_or_default()
    }

    /// Frees the rare part if nothing is in it any more, and else what is empty of it.
    pub(super) fn tidy(&mut self, held: &mut Held) {
        match &self.rare.0 {
            Some(rare) if rare.is_empty() => self.free_rare(held),
            Some(_) => self.with_rare(held, Rare::shrink),
            None => {}
        }
    }

    /// Frees the rare part, whatever is in it.
    pub(super) fn free_rare(&mut self, held: &mut Held) {
        if let Some(rare) = self.rare.0.take() {
            held.change(&rare.held(), &Held::default());
        }
    }

    /// Forgets what the peer was sent compressed.
    pub(super) fn forget_sent(&mut self, held: &mut Held) {
        if self.rare.0.as_ref().is_some_and(|rare| !rare.sent.is_empty()) {
            self.with_rare(held, |rare| rare.sent = Window::new());
            self.tidy(held);
        }
    }

    /// Whether input is not asked for, for either reason.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused || self.stopped
    }

    /// Whether a request in flight refers to the socket.
    pub(super) fn is_in_flight(&self) -> bool {
        self.sending || self.shutting_down.is_some() || self.watch != Watch::Nothing
    }

    /// Bytes that wait in the outbox.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.rare.0.as_ref().map_or(0, |rare| rare.outbox.bytes())
    }

    /// The topic it is subscribed to, if that is the only one.
    pub(super) fn only_topic(&self) -> Option<TopicId> {
        (self.topic != NONE).then_some(TopicId(self.topic))
    }

    /// Notes a subscription that is new.
    pub(super) fn add_topic(&mut self, topic: TopicId, held: &mut Held) {
        match (self.topic, self.rare()) {
            (NONE, rare) if rare.is_none_or(|rare| rare.topics.is_empty()) => self.topic = topic.0,
            (only, _) => {
                self.topic = NONE;
                self.with_rare(held, |rare| {
                    if only != NONE {
                        rare.topics.insert(only);
                    }
                    rare.topics.insert(topic.0);
                });
            }
        }
    }

    /// Forgets a subscription.
    pub(super) fn remove_topic(&mut self, topic: TopicId, held: &mut Held) {
        if self.topic == topic.0 {
            self.topic = NONE;
        } else {
            self.if_rare(held, |rare| rare.topics.remove(&topic.0));
            self.tidy(held);
        }
    }

    /// Takes all subscriptions, to end them.
    pub(super) fn take_topics(&mut self, held: &mut Held) -> Vec<TopicId> {
        let mut topics = Vec::new();
        if self.topic != NONE {
            topics.push(TopicId(std::mem::replace(&mut self.topic, NONE)));
        }
        if let Some(set) = self.if_rare(held, |rare| std::mem::take(&mut rare.topics)) {
            topics.extend(set.into_iter().map(TopicId));
            // The set is hashed with a random seed. In the order of their numbers, so that the same input
            // always has the same outcome.
            topics.sort_unstable_by_key(|topic| topic.0);
        }
        topics
    }
}
