//! How many connections an address has, on all cores together.
//!
//! Shared by the cores, so that it is touched only when a connection comes and when it has gone.

use std::fmt;
use std::sync::Arc;

use super::AddressKey;
use crate::sharded::{self, Sharded};

/// Everyone's connections, counted.
pub(crate) struct AddressLimit {
    counts: Sharded<AddressKey, u32>,
    connections_max: u32,
}

impl AddressLimit {
    /// Nobody yet; so many connections for each.
    pub(crate) fn new(connections_max: u32) -> Arc<Self> {
        Arc::new(Self { counts: Sharded::new(), connections_max })
    }

    /// A place for one more connection, or `None` if there are as many as there may be.
    pub(crate) fn enter(self: &Arc<Self>, key: AddressKey) -> Option<Seat> {
        let mut shard = self.counts.shard(&key);
        let count = shard.entry(key).or_default();
        if *count >= self.connections_max {
            return None;
        }
        *count += 1;
        Some(Seat { limit: Arc::clone(self), key })
    }

    fn leave(&self, key: AddressKey) {
        let mut shard = self.counts.shard(&key);
        if let Some(count) = shard.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                sharded::remove(&mut shard, &key);
            }
        }
    }
}

/// One connection's place among those of its address: given back when it is dropped, however the connection ends.
pub(crate) struct Seat {
    limit: Arc<AddressLimit>,
    key: AddressKey,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.key).finish()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.limit.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::thread;

    use super::*;
    use crate::sharded::Shard;

    fn key(number: u32) -> AddressKey {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn a_place_is_one_connections_until_it_has_gone() {
        let limit = AddressLimit::new(2);
        let seats = [limit.enter(key(1)).unwrap(), limit.enter(key(1)).unwrap()];
        assert!(limit.enter(key(1)).is_none());
        assert!(limit.enter(key(2)).is_some(), "another's");
        drop(seats);
        assert_eq!(limit.counts.sum(Shard::len), 0, "nothing is left");
        assert!(limit.enter(key(1)).is_some());
    }

    #[test]
    fn cores_together_give_out_no_place_too_many() {
        let limit = AddressLimit::new(100);
        let seats: Vec<Seat> = thread::scope(|scope| {
            let cores: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter_map(|_| limit.enter(key(7))).collect::<Vec<_>>()))
                .collect();
            cores.into_iter().flat_map(|core| core.join().unwrap()).collect()
        });
        assert_eq!(seats.len(), 100);
    }
}
