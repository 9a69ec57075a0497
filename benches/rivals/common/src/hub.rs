use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One topic with every connection in it, for libraries that bring no publish/subscribe: a channel per connection, which
/// its task drains in batches, so that what was published meanwhile leaves in one flush.
pub struct Hub<M>(Arc<Mutex<Slab<UnboundedSender<M>>>>);

impl<M> Clone for Hub<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Default for Hub<M> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Slab::new())))
    }
}

impl<M: Clone> Hub<M> {
    /// Adds a connection: its membership, and the channel on which it finds every message published from now on.
    pub fn join(&self) -> (Member<M>, UnboundedReceiver<M>) {
        let (sender, receiver) = unbounded_channel();
        let key = self.members().insert(sender.clone());
        (Member { hub: self.clone(), key, sender }, receiver)
    }

    fn members(&self) -> MutexGuard<'_, Slab<UnboundedSender<M>>> {
        // A poisoned table is still a valid table: nothing panics between two of its changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the [`Hub`]; dropping it leaves.
pub struct Member<M: Clone> {
    hub: Hub<M>,
    key: usize,
    sender: UnboundedSender<M>,
}

impl<M: Clone> Member<M> {
    /// Queues `message` for every member, this one included.
    pub fn publish(&self, message: &M) {
        for (_, sender) in &*self.hub.members() {
            // A receiver that is gone belongs to a connection that is about to leave.
            let _ = sender.send(message.clone());
        }
    }

    /// Queues `message` for this connection alone.
    pub fn send(&self, message: M) {
        let _ = self.sender.send(message);
    }
}

impl<M: Clone> Drop for Member<M> {
    fn drop(&mut self) {
        self.hub.members().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_every_member_until_it_leaves() {
        let hub = Hub::default();
        let (first, mut of_first) = hub.join();
        let (second, mut of_second) = hub.join();
        first.publish(&1);
        drop(second);
        first.publish(&2);
        first.send(3);
        drop(first);
        assert_eq!(std::iter::from_fn(|| of_first.try_recv().ok()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(std::iter::from_fn(|| of_second.try_recv().ok()).collect::<Vec<_>>(), [1]);
    }
}
