//! What an outbox has to know of messages that a topic's own policy is for.

use std::cell::Cell;
use std::rc::Rc;

use crate::handler::Overflow;

/// What a publication asks for, where that is not what holds for the connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Disconnect,
    DropNewest,
    DropOldest,
    Conflate,
}

impl Policy {
    /// The policy, and the key if there is one.
    pub(super) const fn of(overflow: Overflow) -> (Option<Self>, Option<u64>) {
        match overflow {
            Overflow::Limits => (None, None),
            Overflow::Disconnect => (Some(Self::Disconnect), None),
            Overflow::DropNewest => (Some(Self::DropNewest), None),
            Overflow::DropOldest => (Some(Self::DropOldest), None),
            Overflow::Conflate(key) => (Some(Self::Conflate), Some(key)),
        }
    }

    /// Whether a message may be put in the place of one that waits.
    pub(super) const fn is_replacing(self) -> bool {
        matches!(self, Self::Conflate)
    }

    /// Whether a message may be dropped.
    pub(super) const fn is_lossy(self) -> bool {
        !matches!(self, Self::Disconnect)
    }
}

/// Where messages that wait come from, and what may be done to them. All who wait for the same messages share one.
#[derive(Debug)]
pub(super) struct Label {
    topic: Box<str>,
    /// The hash of the topic's name, which stands for it.
    pub(super) hash: u64,
    pub(super) policy: Policy,
    /// The key of each message, if they have keys.
    keys: Box<[u64]>,
    /// Bytes of all labels of the core.
    total: LabelBytes,
}

/// Bytes of heap that a core's labels take.
pub(super) type LabelBytes = Rc<Cell<usize>>;

impl Label {
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// What tells a message from all that it does not replace.
    pub(super) fn key(&self, index: u32) -> Option<(u64, u64)> {
        Some((self.hash, *self.keys.get(index as usize)?))
    }

    fn heap_bytes(&self) -> usize {
        // The counts of an `Rc`, too.
        2 * size_of::<usize>() + size_of::<Self>() + self.topic.len() + size_of_val(&*self.keys)
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.heap_bytes());
    }
}

/// A label that is made when somebody has to wait: most have not.
pub(super) struct Labelling<'a> {
    pub(super) topic: &'a str,
    pub(super) hash: u64,
    pub(super) policy: Policy,
    pub(super) keys: &'a [u64],
    label: Option<Rc<Label>>,
}

impl<'a> Labelling<'a> {
    pub(super) const fn new(topic: &'a str, hash: u64, policy: Policy, keys: &'a [u64]) -> Self {
        Self { topic, hash, policy, keys, label: None }
    }

    /// The same for messages with other keys.
    pub(super) const fn with_keys<'k>(&self, keys: &'k [u64]) -> Labelling<'k>
    where
        'a: 'k,
    {
        Labelling::new(self.topic, self.hash, self.policy, keys)
    }

    pub(super) fn label(&mut self, total: &LabelBytes) -> Rc<Label> {
        let label = self.label.get_or_insert_with(|| {
            let label = Label {
                topic: self.topic.into(),
                hash: self.hash,
                policy: self.policy,
                keys: self.keys.into(),
                total: Rc::clone(total),
            };
            total.set(total.get() + label.heap_bytes());
            Rc::new(label)
        });
        Rc::clone(label)
    }
}
