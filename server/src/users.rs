//! Who is online: users and their connections, on all cores.
//!
//! Shared by the cores, so that it is touched only when a connection opens or closes and when
//! something is sent to a user; never when something is published.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crore_engine::{ConnectionId, CoreId};

use crate::config::UserExcess;
use crate::sharded::{self, Sharded};

/// Bytes of a user's name.
pub(crate) const USER_BYTES_MAX: usize = 128;

/// What [`is_user_name`] asks for, in words.
pub(crate) const USER_NAME_RULE: &str =
    "1 to 128 bytes of printable text, and not the form of a connection's identifier (`0-1-a2`)";

const _: () = assert!(USER_BYTES_MAX == 128, "the rule says so");

/// Whether a text can be the name of a user. A connection's identifier is the name of whoever has that connection and no
/// other: a user of that name would be sent what is meant for somebody else.
pub(crate) fn is_user_name(text: &str) -> bool {
    is_name(text) && connection_id(text).is_none()
}

/// Whether a text can be the name of a user, or stand for one that has none.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= USER_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Connections whose state lies in one block of memory.
const BLOCK_SLOTS: usize = 4096;

/// Blocks that the slots of one core fill.
const BLOCKS: usize = (1 << ConnectionId::FIELD_BITS) / BLOCK_SLOTS;

/// Everyone with an open connection.
pub(crate) struct Users {
    open: Box<[OpenSlots]>,
    named: Sharded<Box<str>, Vec<ConnectionId>>,
}

/// The user has as many connections as it may: the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyConnections(pub(crate) usize);

impl Users {
    /// Nobody yet, on so many cores.
    #[must_use]
    pub(crate) fn new(cores: usize) -> Self {
        Self { open: (0..cores).map(|_| OpenSlots::new()).collect(), named: Sharded::new() }
    }

    /// A connection has opened; `user` is its name if it has one besides its identifier. If that user has `most`
    /// connections or more, it is refused, or replaces the oldest ones, which are returned: they are the user's no more.
    ///
    /// # Errors
    /// The user has too many. Nothing is changed then.
    pub(crate) fn enter(
        &self,
        id: ConnectionId,
        user: Option<&str>,
        most: usize,
        excess: UserExcess,
    ) -> Result<Vec<ConnectionId>, TooManyConnections> {
        let mut replaced = Vec::new();
        if let Some(user) = user {
            let mut shard = self.named.shard(user);
            match shard.get_mut(user) {
                Some(connections) if connections.len() >= most && excess == UserExcess::Refuse => {
                    return Err(TooManyConnections(most));
                }
                Some(connections) => {
                    replaced.extend(connections.drain(..(connections.len() + 1).saturating_sub(most)));
                    connections.push(id);
                }
                None => {
                    shard.insert(user.into(), vec![id]);
                }
            }
        }
        self.slots(id.core()).set(id, true);
        Ok(replaced)
    }

    /// A connection has closed. One that never entered may leave. Returns whether its user has no more.
    pub(crate) fn leave(&self, id: ConnectionId, user: Option<&str>) -> bool {
        self.slots(id.core()).set(id, false);
        let Some(user) = user else { return true };
        let mut shard = self.named.shard(user);
        let Some(connections) = shard.get_mut(user) else { return true };
        connections.retain(|connection| *connection != id);
        let has_gone = connections.is_empty();
        if has_gone {
            sharded::remove(&mut shard, user);
        }
        has_gone
    }

    /// Adds the open connections of a user to a list. A connection's identifier, as text, is a user too:
    /// the one who has this connection.
    pub(crate) fn find(&self, user: &str, connections: &mut Vec<ConnectionId>) {
        if let Some(named) = self.named.shard(user).get(user) {
            connections.extend_from_slice(named);
        }
        if let Some(id) = connection_id(user)
            && self.is_open(id)
            && !connections.contains(&id)
        {
            connections.push(id);
        }
    }

    /// Whether a user of this name has an open connection.
    pub(crate) fn is_online(&self, user: &str) -> bool {
        self.named.shard(user).contains_key(user)
    }

    /// Whether a connection is open.
    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        self.open.get(id.core().index()).is_some_and(|slots| slots.is_open(id))
    }

    fn slots(&self, core: CoreId) -> &OpenSlots {
        &self.open[core.index()]
    }
}

/// Which connections of one core are open: four bytes for each, in blocks that are made when first
/// needed, written by that core and read by all without a lock.
struct OpenSlots(Box<[OnceLock<Box<[AtomicU32]>>]>);

impl OpenSlots {
    fn new() -> Self {
        Self((0..BLOCKS).map(|_| OnceLock::new()).collect())
    }

    /// Zero says that the slot has no open connection.
    const fn mark(id: ConnectionId) -> u32 {
        id.generation() + 1
    }

    // The mark is all that is read: there is nothing else that it would have to be ordered with.
    fn set(&self, id: ConnectionId, open: bool) {
        let slot = id.slot() as usize;
        let block = self.0[slot / BLOCK_SLOTS].get_or_init(|| (0..BLOCK_SLOTS).map(|_| AtomicU32::new(0)).collect());
        block[slot % BLOCK_SLOTS].store(if open { Self::mark(id) } else { 0 }, Ordering::Relaxed);
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        let slot = id.slot() as usize;
        let block = self.0[slot / BLOCK_SLOTS].get();
        block.is_some_and(|block| block[slot % BLOCK_SLOTS].load(Ordering::Relaxed) == Self::mark(id))
    }
}

/// The inverse of the identifier's `Display`; `None` for a text that it never writes.
pub(crate) fn connection_id(text: &str) -> Option<ConnectionId> {
    let mut parts = text.split('-').map(|part| u32::from_str_radix(part, 16).ok());
    let (core, slot, generation) = (parts.next()??, parts.next()??, parts.next()??);
    let id = ConnectionId::new(CoreId(u16::try_from(core).ok()?), slot, generation);
    (id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharded::Shard;

    fn find(users: &Users, user: &str) -> Vec<ConnectionId> {
        let mut connections = Vec::new();
        users.find(user, &mut connections);
        connections
    }

    fn id(core: u16, slot: u32, generation: u32) -> ConnectionId {
        ConnectionId::new(CoreId(core), slot, generation)
    }

    #[test]
    fn an_unnamed_connection_is_found_by_its_identifier_while_it_is_open() {
        let users = Users::new(2);
        let (first, second) = (id(1, 70_000, 3), id(1, 70_000, 4));
        assert!(find(&users, &first.to_string()).is_empty());
        users.enter(first, None, 2, UserExcess::Refuse).unwrap();
        assert_eq!(find(&users, &first.to_string()), [first]);
        assert!(find(&users, &second.to_string()).is_empty(), "another user of the slot");
        users.leave(first, None);
        users.enter(second, None, 2, UserExcess::Refuse).unwrap();
        assert!(find(&users, &first.to_string()).is_empty());
        assert_eq!(find(&users, &second.to_string()), [second]);
    }

    #[test]
    fn texts_that_are_no_identifiers_find_nobody() {
        let users = Users::new(1);
        users.enter(id(0, 1, 1), None, 2, UserExcess::Refuse).unwrap();
        for text in ["", "0-1", "00-1-1", "0-1-1-", "+0-1-1", "0-1000001-1", "7-1-1", "ffffffff-1-1", "x"] {
            assert!(find(&users, text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_user_has_several_connections_on_any_core_up_to_the_limit() {
        let users = Users::new(2);
        let connections = [id(0, 1, 0), id(1, 1, 0), id(0, 2, 0)];
        users.enter(connections[0], Some("ann"), 2, UserExcess::Refuse).unwrap();
        users.enter(connections[1], Some("ann"), 2, UserExcess::Refuse).unwrap();
        assert_eq!(users.enter(connections[2], Some("ann"), 2, UserExcess::Refuse), Err(TooManyConnections(2)));
        assert!(users.is_online("ann") && !users.is_online(&connections[1].to_string()));
        assert_eq!(find(&users, "ann"), connections[..2]);
        assert_eq!(find(&users, &connections[1].to_string()), [connections[1]]);
        assert!(!users.leave(connections[2], Some("ann")));
        assert!(!users.leave(connections[0], Some("ann")));
        assert_eq!(find(&users, "ann"), [connections[1]]);
        assert!(users.leave(connections[1], Some("ann")));
        assert!(users.leave(connections[2], Some("ann")), "one that never entered");
        assert!(find(&users, "ann").is_empty());
        assert_eq!(users.named.sum(Shard::len), 0, "nothing is left of her");
    }

    // capability: 9 22
    #[test]
    fn a_user_is_not_called_as_a_connection_is() {
        for id in [id(0, 0, 1), id(7, 70_000, 3), id(u16::MAX, 1, u32::MAX - 1)] {
            assert!(is_name(&id.to_string()) && !is_user_name(&id.to_string()), "{id}");
        }
        let long = "x".repeat(USER_BYTES_MAX);
        for name in ["0-0", "00-0-1", "2024-01-02", "0-0-1-", "0-0-x", "A-0-1", "7", &long] {
            assert!(is_user_name(name), "{name}");
        }
        for name in ["", "a\nb", &format!("{long}x")] {
            assert!(!is_name(name) && !is_user_name(name), "{name:?}");
        }
    }

    // capability: 22
    #[test]
    fn a_new_connection_replaces_the_oldest_where_that_is_wanted() {
        let users = Users::new(1);
        let enter = |slot, most| users.enter(id(0, slot, 0), Some("ann"), most, UserExcess::Replace).unwrap();
        assert!(enter(1, 3).is_empty() && enter(2, 3).is_empty() && enter(3, 3).is_empty());
        assert_eq!(enter(4, 3), [id(0, 1, 0)]);
        // The bound is lower by now.
        assert_eq!(enter(5, 1), [id(0, 2, 0), id(0, 3, 0), id(0, 4, 0)]);
        assert_eq!(find(&users, "ann"), [id(0, 5, 0)]);
        assert!(!users.leave(id(0, 1, 0), Some("ann")), "who was replaced takes nobody along");
        assert!(users.leave(id(0, 5, 0), Some("ann")));
    }
}
