//! Messages that wait because one before them does: for the key of a token, or for what runs on the control thread.
//!
//! ```text
//! message ── handler ── Call::wait ──► control thread
//!    │ what comes behind it                  │ Answer
//!    ▼                                       ▼
//!  queue, up to its bounds ────────────► in order, as if it came now
//!    ├─ pause: then nothing more is read, until half of the queue is empty
//!    └─ drop:  more is refused
//! ```
//!
//! So a sign of life, a control frame or the end of a connection is noticed at once, whatever waits.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use crore_engine::{ConnectionId, CoreId, EngineHandle, Notice, Untold};
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use super::{BATCH, Inbound, PING, WaitingBytes, WaitingText};
use crate::chat;
use crate::config::InboundOverload;
use crate::policy::Policy;
use crate::session::{Connection, Shared};
use crate::wire::Refusal;

/// How long a message may wait for what it has begun. It is answered with `busy` then: a future that never ends must
/// not keep its connection for ever.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Messages of a queue that are handled in one turn: the other connections of the core want theirs handled, too.
const TURN_MESSAGES_MAX: usize = 64;

/// A core that takes no more commands is asked again after this.
const TELL_INTERVAL: Duration = Duration::from_millis(10);

/// What may wait of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueBounds {
    pub(crate) overload: InboundOverload,
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
    /// Of all connections of one core together.
    pub(crate) core_bytes_max: usize,
}

/// What is done with the message that has waited, as if it came only now.
type Then = Box<dyn FnOnce(&mut Inbound<'_, '_>, &str) + Send>;

/// Told to a connection: what its message, or it, waits for is there.
pub(crate) struct Answer(Then);

/// Told to a connection by itself: there is more in its queue.
pub(crate) struct GoOn;

/// What a connection has while a message of it waits, or others wait for that one.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The message that waits for the control thread, if it is that; empty if it is the connection itself that waits. For
    /// a key it is the login that waits.
    awaiting: Option<WaitingText>,
    entries: VecDeque<Entry>,
    /// Of all entries.
    bytes: usize,
    /// The connection is not read from.
    paused: bool,
}

#[derive(Debug)]
struct Entry {
    text: Box<str>,
    in_batch: bool,
}

impl Entry {
    const fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

impl Queue {
    /// Whether a message waits for the control thread.
    pub(crate) const fn is_awaiting(&self) -> bool {
        self.awaiting.is_some()
    }

    /// Bytes of the messages that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bytes + self.awaiting.as_ref().map_or(0, |message| message.len())
    }

    /// A message, or without one the connection, begins to wait for the control thread.
    pub(crate) fn await_answer(&mut self, message: WaitingText) {
        self.awaiting = Some(message);
    }

    fn is_full(&self, bounds: &QueueBounds) -> bool {
        self.entries.len() >= bounds.messages_max || self.bytes >= bounds.bytes_max
    }

    fn is_half_empty(&self, bounds: &QueueBounds) -> bool {
        self.entries.len() <= bounds.messages_max / 2 && self.bytes <= bounds.bytes_max / 2
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    fn push_front(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_front(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

/// Runs what a message waits for, and tells its connection.
pub(crate) async fn answer<T: Send + 'static>(
    engine: EngineHandle,
    to: ConnectionId,
    future: impl Future<Output = T> + Send + 'static,
    then: impl FnOnce(&mut Inbound<'_, '_>, &str, Result<T, Refusal>) + Send + 'static,
) {
    // In a task of its own: a panic ends that one, and not the wait.
    let task = tokio::spawn(future);
    let abort = task.abort_handle();
    let value = timeout(WAIT_MAX, task).await.ok().and_then(Result::ok).ok_or(Refusal::Busy);
    abort.abort();
    let then: Then = Box::new(move |inbound, message| then(inbound, message, value));
    let mut notice: Notice = Box::new(Answer(then));
    while let Err(Untold { notice: back, .. }) = engine.tell(to, notice) {
        notice = back;
        sleep(TELL_INTERVAL).await;
    }
}

impl Inbound<'_, '_> {
    /// What a message of the connection, or it, waits for is there: that is answered, and what waited behind it follows.
    pub(crate) fn answered(&mut self, Answer(then): Answer) {
        let Some(text) = self.connection.queue().and_then(|queue| queue.awaiting.take()) else { return };
        self.from_queue = true;
        then(self, &text);
        self.go_on();
    }

    /// Handles what has waited, in order, until something has to wait again.
    pub(crate) fn go_on(&mut self) {
        self.from_queue = true;
        for _ in 0..TURN_MESSAGES_MAX {
            if self.connection.is_awaiting() || self.context.is_closing() {
                return;
            }
            let Some(entry) = self.connection.queue().and_then(Queue::pop) else { return self.read_on() };
            self.shared.metrics.waiting(self.context.id().core()).subtract(entry.bytes());
            self.in_batch = entry.in_batch;
            self.text(&entry.text);
        }
        self.pace();
        let id = self.context.id();
        self.context.tell(id, Box::new(GoOn));
    }

    /// Nothing waits any more.
    fn read_on(&mut self) {
        if self.connection.take_queue().is_some_and(|queue| queue.paused) {
            self.context.resume();
        }
    }

    /// A message waits, or has come to wait behind one: is there room for what comes next? If not, it stays where it is,
    /// unless it is to be refused. Of a client that has still to show who it is nothing is kept in any case.
    pub(crate) fn pace(&mut self) {
        let bounds = &self.policy.inbound;
        let waiting = self.shared.metrics.waiting(self.context.id().core()).read();
        // Half of what may wait on the core is left to those that are being read from.
        let is_crowded = waiting >= self.shared.waiting_bytes_max(bounds) / 2;
        let is_stranger = self.gate().is_some();
        let queue = self.connection.queue_mut();
        let stops = match bounds.overload {
            _ if is_stranger => true,
            InboundOverload::Drop => false,
            InboundOverload::Pause if queue.paused => is_crowded || !queue.is_half_empty(bounds),
            InboundOverload::Pause => is_crowded || queue.is_full(bounds),
        };
        if stops == queue.paused {
            return;
        }
        queue.paused = stops;
        if stops {
            self.counters.inbound_pauses.add(1);
            self.context.pause();
        } else {
            self.context.resume();
        }
    }

    /// A message has come that has to wait for another one. A sign of life waits for nobody, but is nobody's who has
    /// still to show who he is.
    pub(super) fn put_off(&mut self, json: &str) {
        if let Some(member) = self.connection.chat() {
            if self.gate().is_none() && chat::read(json).is_ok_and(|said| said.is_ping()) {
                return chat::answer_ping(self.context, member, self.now_ms);
            }
            return self.enqueue(json, None);
        }
        match self.policy.decoder.decode(json) {
            Ok(message) if message.kind() == PING && self.gate().is_none() => {
                let outcome = self.message(&message);
                self.answer(message.id(), outcome);
            }
            // Each by itself, so that each is counted when it comes.
            Ok(message) if message.kind() == BATCH && !self.in_batch && self.shared.router.find(BATCH).is_none() => {
                // One that is refused, or says something of what is sent to the client, waits as a whole.
                let (Ok(None), Ok(messages)) = (message.enabled(), message.messages()) else {
                    return self.enqueue(json, message.id());
                };
                self.in_batch = true;
                for message in messages {
                    self.put_off(message.get());
                }
                self.in_batch = false;
            }
            Ok(message) => self.enqueue(json, message.id()),
            Err(rejected) => self.enqueue(json, rejected.id),
        }
    }

    /// A batch that has waited is taken apart: its messages wait in its place, each by itself. They have no more bytes than it
    /// had, but for what an entry takes, and are no more than a batch may have.
    pub(super) fn put_in_front(&mut self, messages: &[&RawValue]) {
        let waiting = self.shared.metrics.waiting(self.context.id().core());
        for message in messages.iter().rev() {
            let entry = Entry { text: message.get().into(), in_batch: true };
            waiting.add(entry.bytes());
            self.connection.queue_mut().push_front(entry);
        }
    }

    fn enqueue(&mut self, json: &str, id: Option<&str>) {
        let outcome = self.count().and_then(|()| self.push(json));
        self.answer(id, outcome);
    }

    fn push(&mut self, json: &str) -> Result<(), Refusal> {
        let bounds = &self.policy.inbound;
        let queue = self.connection.queue_mut();
        // Of who is not read from the rest of a batch comes, which has been read already.
        if queue.is_full(bounds) && !queue.paused {
            self.counters.overloaded.add(1);
            return Err(Refusal::Overloaded);
        }
        let core = self.context.id().core();
        if !may_wait(self.shared, self.policy, core) {
            return Err(Refusal::Overloaded);
        }
        let entry = Entry { text: json.into(), in_batch: self.in_batch };
        self.shared.metrics.waiting(core).add(entry.bytes());
        queue.push(entry);
        self.pace();
        Ok(())
    }
}

/// A connection has ended: what waits of it is not done.
pub(crate) fn give_up(connection: &mut Connection, waiting: &WaitingBytes) {
    if let Some(queue) = connection.take_queue() {
        waiting.subtract(queue.bytes);
    }
}

/// A message in memory of its own, where there is room for more that waits.
///
/// # Errors
/// [`Refusal::Busy`].
pub(crate) fn keep(shared: &Shared, policy: &Policy, core: CoreId, message: &str) -> Result<WaitingText, Refusal> {
    if !may_wait(shared, policy, core) {
        return Err(Refusal::Busy);
    }
    Ok(WaitingText::new(message, shared.metrics.waiting(core)))
}

/// Whether one message more may wait on a core; that it may not is counted.
fn may_wait(shared: &Shared, policy: &Policy, core: CoreId) -> bool {
    let has_room = shared.metrics.waiting(core).read() < shared.waiting_bytes_max(&policy.inbound);
    shared.metrics.core(core.index()).waiting_refused.add(u64::from(!has_room));
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry { text: text.into(), in_batch: false }
    }

    #[test]
    fn a_queue_is_bounded_by_messages_and_by_bytes_and_gives_back_in_order() {
        let bounds = |messages_max, bytes_max| QueueBounds {
            overload: InboundOverload::Drop,
            messages_max,
            bytes_max,
            core_bytes_max: 0,
        };
        let mut queue = Queue::default();
        for text in ["a", "bb", "ccc"] {
            assert!(!queue.is_full(&bounds(3, 1000)));
            queue.push(entry(text));
        }
        assert_eq!(queue.bytes, 6 + 3 * size_of::<Entry>());
        assert!(queue.is_full(&bounds(3, 1000)) && !queue.is_full(&bounds(4, 1000)));
        assert!(queue.is_full(&bounds(4, queue.bytes)) && !queue.is_full(&bounds(4, queue.bytes + 1)));
        let texts: Vec<Box<str>> = std::iter::from_fn(|| queue.pop()).map(|entry| entry.text).collect();
        assert_eq!(texts, ["a".into(), "bb".into(), "ccc".into()] as [Box<str>; 3]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_queue_is_half_empty_by_messages_and_by_bytes() {
        let mut queue = Queue::default();
        let bounds = |messages_max, bytes_max| QueueBounds {
            overload: InboundOverload::Pause,
            messages_max,
            bytes_max,
            core_bytes_max: 0,
        };
        assert!(queue.is_half_empty(&bounds(0, 0)) && queue.is_full(&bounds(0, 0)));
        queue.push(entry("a"));
        let bytes = queue.bytes;
        assert!(queue.is_half_empty(&bounds(2, 2 * bytes)));
        assert!(!queue.is_half_empty(&bounds(1, 2 * bytes)) && !queue.is_half_empty(&bounds(2, bytes)));
    }
}
