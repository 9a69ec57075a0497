//! Subscriptions that wait for the home of their channel to say where it stands.

use std::sync::Arc;

use super::Following;

/// What a connection does once it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It subscribes.
    Subscribe,
    /// It subscribes, and is announced as a member.
    Join,
}

/// A subscription that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    ticket: u32,
    channel: Box<str>,
    /// The `id` of the client's message.
    pub(crate) id: Option<Box<str>>,
    pub(crate) purpose: Purpose,
    /// What the client says of itself, for presence.
    pub(crate) metadata: Option<Arc<str>>,
}

/// Those of one connection, in the order of their requests.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: Vec<Waiting>,
    ticket: u32,
}

impl Pending {
    pub(crate) fn heap_bytes(&self) -> usize {
        let length = |waiting: &Waiting| {
            let metadata = waiting.metadata.as_ref().map_or(0, |metadata| metadata.len());
            waiting.channel.len() + waiting.id.as_ref().map_or(0, |id| id.len()) + metadata
        };
        self.waiting.capacity() * size_of::<Waiting>() + self.waiting.iter().map(length).sum::<usize>()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds one, and returns what tells it from the others.
    pub(crate) fn push(
        &mut self,
        channel: &str,
        id: Option<&str>,
        purpose: Purpose,
        metadata: Option<Arc<str>>,
    ) -> u32 {
        self.ticket = self.ticket.wrapping_add(1);
        let waiting =
            Waiting { ticket: self.ticket, channel: channel.into(), id: id.map(Into::into), purpose, metadata };
        self.waiting.push(waiting);
        self.ticket
    }

    /// Takes the one out that the home has answered; `None` if it has been given up.
    pub(crate) fn take(&mut self, following: &Following) -> Option<Waiting> {
        let index = self.waiting.iter().position(|waiting| waiting.ticket == following.ticket)?;
        let waiting = self.waiting.remove(index);
        self.shrink();
        Some(waiting)
    }

    /// Whether there is one for a channel.
    pub(crate) fn has(&self, channel: &str) -> bool {
        self.waiting.iter().any(|waiting| *waiting.channel == *channel)
    }

    /// The channels that they are for.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.waiting.iter().map(|waiting| &*waiting.channel)
    }

    /// Gives up those for a channel.
    pub(crate) fn give_up(&mut self, channel: &str) -> Vec<Waiting> {
        let (gone, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| *waiting.channel == *channel);
        self.waiting = waiting;
        self.shrink();
        gone
    }

    fn shrink(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}
