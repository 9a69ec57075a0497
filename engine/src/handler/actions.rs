//! What a handler asks for while it is called, to be done when it has returned.

use std::any::Any;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::publication::Publication;
use crate::id::{ConnectionId, CoreId};
use crate::limits::CORK_BYTES_MAX;
use crate::message::{Message, MessageKind};
use crate::protocol::Opcode;
use crate::protocol::frame::append_frame;

/// Topics of a connection that has more than one.
pub(crate) type TopicSet = HashSet<u32, foldhash::fast::RandomState>;

/// A future for the core's runtime.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What a connection or a core is told, by another one or by a thread: a value that the handler takes apart with
/// [`downcast`](Box::downcast).
pub type Notice = Box<dyn Any + Send>;

/// Entries that [`Actions::subscribed`] keeps room for from call to call.
const SUBSCRIBED_KEPT_MAX: usize = 256;

/// Where a frame lies among the [`Words`].
pub(crate) type Span = Range<u32>;

/// Where a name or a reason lies among the [`Words`].
#[derive(Debug)]
pub(crate) struct TextSpan(Span);

/// What the actions of a list refer to.
#[derive(Default)]
pub(crate) struct Words {
    /// Encoded frames.
    frames: Vec<u8>,
    /// Names and reasons.
    texts: String,
}

impl Words {
    pub(crate) fn frame(&self, span: &Span) -> &[u8] {
        &self.frames[span.start as usize..span.end as usize]
    }

    pub(crate) fn text(&self, TextSpan(span): &TextSpan) -> &str {
        &self.texts[span.start as usize..span.end as usize]
    }

    /// Forgets everything, and the memory of an unusually large message with it.
    fn clear(&mut self) {
        self.frames.clear();
        self.frames.shrink_to(CORK_BYTES_MAX);
        self.texts.clear();
        self.texts.shrink_to(CORK_BYTES_MAX);
    }
}

/// One thing that a handler has asked for.
#[derive(Debug)]
pub(crate) enum Action {
    /// The message at hand goes back as it came.
    Echo,
    Send {
        to: ConnectionId,
        frame: Span,
    },
    SendToEach {
        to: Box<[ConnectionId]>,
        frame: Span,
    },
    Subscribe {
        topic: TextSpan,
    },
    Unsubscribe {
        topic: TextSpan,
    },
    Publish {
        topic: TextSpan,
        frame: Span,
        publication: Publication,
    },
    Broadcast {
        frame: Span,
        except: Option<ConnectionId>,
    },
    Close {
        to: ConnectionId,
        code: u16,
        reason: TextSpan,
    },
    Terminate {
        to: ConnectionId,
    },
    Tell {
        to: ConnectionId,
        notice: Notice,
    },
    TellCore {
        core: CoreId,
        notice: Notice,
    },
    /// The connection at hand receives what is broadcast, or does not.
    HearBroadcasts {
        hears: bool,
    },
    /// The connection's messages are to be joined, or not any more.
    Coalesce {
        on: bool,
    },
    /// The connection at hand is to be woken.
    Wake {
        after: Duration,
    },
    WakeCore {
        after: Duration,
    },
    /// The connection at hand is not to be read from.
    Pause,
    /// It is to be read from again.
    Resume,
    RaiseInterest {
        topic: TextSpan,
    },
    LowerInterest {
        topic: TextSpan,
    },
}

/// What a handler has asked for, in order; reused from call to call.
#[derive(Default)]
pub(crate) struct Actions {
    pub(crate) list: Vec<Action>,
    /// What the list refers to.
    words: Words,
    pub(crate) spawned: Vec<LocalFuture>,
    /// Topics that the list subscribes to (true) or unsubscribes from, each as it stands at its end. A peer
    /// may fill a message with them: to search the list for each would cost its square.
    pub(super) subscribed: HashMap<Box<str>, bool, foldhash::fast::RandomState>,
    /// Connections that the list ends: mostly none.
    pub(super) closed: Vec<ConnectionId>,
    /// The message at hand, if it can be echoed in place: kind, address and length.
    current: Option<(MessageKind, usize, usize)>,
}

impl Actions {
    /// Says which message is at hand: one that lies in place in the receive buffer, or none.
    pub(crate) fn set_current(&mut self, in_place: Option<Message<'_>>) {
        self.current = in_place.filter(|message| !message.payload().is_empty()).map(place);
    }

    /// Whether this is the message at hand, for the first time: there is room for one echo where it lies.
    pub(super) fn take_current(&mut self, message: Message<'_>) -> bool {
        self.current.take_if(|current| *current == place(message)).is_some()
    }

    /// The list, to be done, and what it refers to. What was known of it is forgotten: while it is done, a handler may be
    /// called for another connection.
    pub(crate) fn take(&mut self) -> (Vec<Action>, Words) {
        self.closed.clear();
        if !self.subscribed.is_empty() {
            self.subscribed.clear();
            self.subscribed.shrink_to(SUBSCRIBED_KEPT_MAX);
        }
        (std::mem::take(&mut self.list), std::mem::take(&mut self.words))
    }

    /// The room of a list that has been done, for the next one.
    pub(crate) fn give_back(&mut self, list: Vec<Action>, mut words: Words) {
        debug_assert!(list.is_empty() && self.is_empty(), "all is done, and what was asked for meanwhile as well");
        words.clear();
        (self.list, self.words) = (list, words);
    }

    /// Frees the room that is kept for the next ones.
    pub(crate) fn trim(&mut self) {
        debug_assert!(self.is_empty(), "what a handler has asked for is applied when it returns");
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.spawned.is_empty()
    }

    pub(super) fn keep(&mut self, text: &str) -> TextSpan {
        let texts = &mut self.words.texts;
        let start = offset(texts.len());
        texts.push_str(text);
        TextSpan(start..offset(texts.len()))
    }

    pub(super) fn encode(&mut self, message: Message<'_>) -> Span {
        let frames = &mut self.words.frames;
        let start = offset(frames.len());
        append_frame(frames, Opcode::from(message.kind()), message.payload());
        start..offset(frames.len())
    }
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("one call of a handler writes less than 4 GiB")
}

/// What tells a message from all others while its payload lies still.
fn place(message: Message<'_>) -> (MessageKind, usize, usize) {
    (message.kind(), message.payload().as_ptr().addr(), message.payload().len())
}
