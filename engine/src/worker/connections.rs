//! The slab of connections: a slot is reused, its identifier is not.

use slab::Slab;

use super::connection::Connection;
use crate::driver::{Socket, Token};
use crate::id::{ConnectionId, CoreId};
use crate::limits::{CROWDED_DENOMINATOR, CROWDED_NUMERATOR, LIST_ENTRIES_KEPT_MAX};

/// Connections of one core, found by slot.
pub(super) struct Connections<S> {
    slab: Slab<Connection<S>>,
    core: CoreId,
    max: u32,
    /// Slots that have been in use: their pages are the process's until all of them are given back.
    touched: usize,
    accepted: u32,
}

impl<S: Default> Connections<S> {
    /// Room for `max` connections, reserved so that growing never copies. Pages that no connection
    /// has used yet cost nothing.
    pub(super) fn new(core: CoreId, max: u32) -> Self {
        Self { slab: Slab::with_capacity(max as usize), core, max, touched: 0, accepted: 0 }
    }

    /// A slot for an accepted socket, or `None` if all are taken.
    pub(super) fn insert(&mut self, socket: Socket) -> Option<u32> {
        if self.slab.len() >= self.max as usize {
            return None;
        }
        if self.slab.capacity() == 0 {
            self.slab.reserve_exact(self.max as usize);
        }
        self.accepted = self.accepted.wrapping_add(1);
        let slot = self.slab.insert(Connection::accepted(socket, self.accepted));
        self.touched = self.touched.max(slot + 1);
        Some(u32::try_from(slot).expect("fewer slots than connections_max, a u32"))
    }
}

impl<S> Connections<S> {
    /// The connection in a slot. A slot that is in use stays so while requests on it are in flight, so
    /// that a completion always finds its connection.
    pub(super) fn at(&mut self, slot: u32) -> &mut Connection<S> {
        &mut self.slab[slot as usize]
    }

    /// The connection in a slot, if there is one.
    pub(super) fn in_use(&mut self, slot: u32) -> Option<&mut Connection<S>> {
        self.slab.get_mut(slot as usize)
    }

    /// The slot of the connection with this identifier, unless it has gone.
    pub(super) fn slot_of(&self, id: ConnectionId) -> Option<u32> {
        let connection = self.slab.get(id.slot() as usize)?;
        (id.core() == self.core && self.id(id.slot(), connection) == id).then_some(id.slot())
    }

    /// The connection in a slot if it is still the one with this generation.
    pub(super) fn still(&mut self, slot: u32, generation: u32) -> Option<&mut Connection<S>> {
        self.slab.get_mut(slot as usize).filter(|connection| connection.generation == generation)
    }

    /// The identifier of a connection.
    pub(super) fn id_at(&self, slot: u32) -> ConnectionId {
        self.id(slot, &self.slab[slot as usize])
    }

    fn id(&self, slot: u32, connection: &Connection<S>) -> ConnectionId {
        ConnectionId::new(self.core, slot, connection.generation)
    }

    pub(super) fn remove(&mut self, slot: u32) -> Connection<S> {
        self.slab.remove(slot as usize)
    }

    /// Gives back the slots of a crowd that has gone altogether. The next connection reserves them anew.
    pub(super) fn trim(&mut self) {
        if self.slab.is_empty() && self.touched > LIST_ENTRIES_KEPT_MAX {
            (self.slab, self.touched) = (Slab::new(), 0);
        }
    }

    /// Slots that have been in use, as far as they are not given back.
    pub(super) const fn touched(&self) -> usize {
        self.touched
    }

    /// Bytes of these slots: the engine's part, and that of the application's states.
    pub(super) const fn touched_bytes(&self) -> (usize, usize) {
        let states = self.touched * size_of::<S>();
        (self.touched * slot_bytes::<S>() - states, states)
    }

    /// Whether there is little room for more.
    pub(super) fn is_crowded(&self) -> bool {
        self.slab.len() * CROWDED_DENOMINATOR >= self.max as usize * CROWDED_NUMERATOR
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The slots in use, at this moment.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.slab.iter().map(|(slot, _)| u32::try_from(slot).expect("as in insert")).collect()
    }

    /// What a request on a slot carries, to find it again.
    pub(super) const fn token(slot: u32) -> Token {
        Token::new(slot as u64)
    }

    /// The slot that a request was made for.
    #[expect(clippy::cast_possible_truncation, reason = "it was made from a u32")]
    pub(super) const fn slot(token: Token) -> u32 {
        token.value() as u32
    }
}

/// Bytes of one slot. That it is vacant is said in the niche of a connection.
pub(super) const fn slot_bytes<S>() -> usize {
    size_of::<Option<Connection<S>>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_reused_and_its_identifier_is_not() {
        let mut connections = Connections::<()>::new(CoreId(3), 2);
        let first = connections.insert(Socket(10)).unwrap();
        let id = connections.id_at(first);
        assert_eq!(connections.slot_of(id), Some(first));
        connections.insert(Socket(11)).unwrap();
        assert_eq!(connections.insert(Socket(12)), None, "full");
        connections.remove(first);
        assert_eq!(connections.slot_of(id), None);
        assert_eq!(connections.insert(Socket(13)), Some(first));
        assert_eq!(connections.slot_of(id), None, "another connection has the slot");
        assert_ne!(connections.id_at(first), id);
        assert_eq!(connections.slot_of(ConnectionId::new(CoreId(2), first, 3)), None, "another core's");
    }

    #[test]
    fn the_slots_of_a_crowd_go_back_when_its_last_one_has_gone_and_no_identifier_comes_again() {
        let crowd = u32::try_from(LIST_ENTRIES_KEPT_MAX).unwrap() + 1;
        let mut connections = Connections::<()>::new(CoreId(0), crowd);
        let fill = |connections: &mut Connections<()>| -> Vec<ConnectionId> {
            let slots: Vec<u32> = (0..crowd).map(|_| connections.insert(Socket(10)).unwrap()).collect();
            slots.iter().map(|slot| connections.id_at(*slot)).collect()
        };
        let gone = fill(&mut connections);
        (1..crowd).for_each(|slot| drop(connections.remove(slot)));
        connections.trim();
        assert_eq!(connections.slot_of(gone[0]), Some(0), "it is still there");
        assert_eq!(connections.touched(), crowd as usize);
        connections.remove(0);
        connections.trim();
        assert_eq!((connections.touched(), connections.slab.capacity()), (0, 0));
        let come = fill(&mut connections);
        assert!(connections.slab.capacity() >= crowd as usize && connections.insert(Socket(10)).is_none());
        assert!(gone.iter().all(|id| connections.slot_of(*id).is_none() && !come.contains(id)));
    }
}
