//! What the engine knows of one connection.

use bytes::BytesMut;

use super::outbox::Outbox;
use crate::driver::{Shutdown, Socket};
use crate::handler::{CloseCause, Subscriptions, TopicSet};
use crate::id::TopicId;
use crate::protocol::Decoder;
use crate::protocol::deflate::{DeflateAgreement, Window};
use crate::topics::Topics;

/// "None" of the `u32` fields below.
pub(super) const NONE: u32 = u32::MAX;

/// Where a connection is between its accept and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
    /// A multishot receive: the cheapest per message, for hot connections.
    Multishot,
    /// A multishot receive whose cancel is on its way.
    Cancelling,
}

/// One connection. Everything rare lies behind [`Self::rare`] and is freed when it is over.
pub(super) struct Connection<S> {
    /// The application's.
    pub(super) state: S,
    /// Frames that the end of a buffer has cut, fragments.
    pub(super) decoder: Decoder,
    pub(super) rare: Option<Box<Rare>>,
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
    /// `on_open` has been called, and `on_close` has not.
    pub(super) announced: bool,
    /// Left out of part of the broadcast that is being delivered.
    pub(super) excepted: bool,
}

const _: () = {
    assert!(size_of::<Connection<()>>() <= 48, "a million connections: every byte is a megabyte");
    assert!(size_of::<Connection<[u64; 10]>>() <= 128, "with 80 bytes of the application's it fits two cache lines");
};

/// What few connections have, and those not for long.
#[derive(Default)]
pub(super) struct Rare {
    /// The request head so far.
    pub(super) head: Vec<u8>,
    /// What came for a connection that is paused, and is not handled yet.
    pub(super) held: BytesMut,
    /// Output of earlier turns that has not left.
    pub(super) outbox: Outbox,
    /// Topics, if more than one.
    pub(super) topics: TopicSet,
    /// With context takeover: the end of what the peer was sent compressed, since it was last sent what others
    /// were, too.
    pub(super) sent: Window,
    /// Code and cause for `on_close` when we closed first.
    pub(super) closing: Option<(u16, CloseCause)>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.held.is_empty()
            && self.outbox.is_empty()
            && self.topics.is_empty()
            && self.sent.is_empty()
            && self.closing.is_none()
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
            rare: None,
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
            announced: false,
            excepted: false,
        }
    }
}

impl<S> Connection<S> {
    /// The rare part, made if need be.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Frees the rare part if nothing is in it any more.
    pub(super) fn tidy(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    /// Forgets what the peer was sent compressed.
    pub(super) fn forget_sent(&mut self) {
        if let Some(rare) = self.rare.as_mut().filter(|rare| !rare.sent.is_empty()) {
            rare.sent = Window::new();
            self.tidy();
        }
    }

    /// Whether a request in flight refers to the socket.
    pub(super) fn is_in_flight(&self) -> bool {
        self.sending || self.shutting_down.is_some() || self.watch != Watch::Nothing
    }

    /// Bytes that wait in the outbox.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.outbox.bytes())
    }

    /// Notes a subscription that is new.
    pub(super) fn add_topic(&mut self, topic: TopicId) {
        match (self.topic, &self.rare) {
            (NONE, rare) if rare.as_ref().is_none_or(|rare| rare.topics.is_empty()) => self.topic = topic.0,
            (only, _) => {
                self.topic = NONE;
                let topics = &mut self.rare_mut().topics;
                if only != NONE {
                    topics.insert(only);
                }
                topics.insert(topic.0);
            }
        }
    }

    /// Forgets a subscription.
    pub(super) fn remove_topic(&mut self, topic: TopicId) {
        if self.topic == topic.0 {
            self.topic = NONE;
        } else if let Some(rare) = &mut self.rare {
            rare.topics.remove(&topic.0);
            self.tidy();
        }
    }

    /// Takes all subscriptions, to end them.
    pub(super) fn take_topics(&mut self) -> Vec<TopicId> {
        let mut topics = Vec::new();
        if self.topic != NONE {
            topics.push(TopicId(std::mem::replace(&mut self.topic, NONE)));
        }
        if let Some(rare) = &mut self.rare {
            topics.extend(rare.topics.drain().map(TopicId));
            // The set is hashed with a random seed. In the order of their numbers, so that the same input
            // always has the same outcome.
            topics.sort_unstable_by_key(|topic| topic.0);
        }
        topics
    }
}
