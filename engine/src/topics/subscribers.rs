//! The set of a topic's subscribers: small while it is small, quick to walk, quick to leave.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Subscribers that need no allocation: what fits beside the length in the space of a `Vec`.
const INLINE_MAX: usize = 5;
/// At this size an inlined set would be too likely to leave again at once.
const INLINE_AGAIN: usize = 3;
/// Subscribers that are searched one after the other: one cache line of slots.
const LINEAR_MAX: usize = 16;
/// At this size the index of a set that has shrunk is given up.
const LINEAR_AGAIN: usize = 8;

/// A set of connection slots of one core. Its order means nothing.
///
/// Up to 5 slots lie in the 24 bytes of the set itself, up to 16 in an array that is searched from its
/// start; beyond that, an index finds the position of a slot, so that leaving a large topic costs the
/// same as leaving a small one. The slots themselves are always contiguous: walking is what a publish
/// does.
#[derive(Debug)]
pub struct Subscribers(Storage);

#[derive(Debug)]
enum Storage {
    Inline { len: u8, slots: [u32; INLINE_MAX] },
    Heap(Box<Heap>),
}

const _: () = assert!(size_of::<Subscribers>() <= 24);
const _: () = assert!(INLINE_AGAIN < INLINE_MAX && INLINE_MAX < LINEAR_AGAIN && LINEAR_AGAIN < LINEAR_MAX);

impl Subscribers {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Storage::Inline { len: 0, slots: [0; INLINE_MAX] })
    }

    /// Adds `slot`; false if it was there.
    pub fn insert(&mut self, slot: u32) -> bool {
        match &mut self.0 {
            Storage::Heap(heap) => heap.insert(slot),
            Storage::Inline { len, slots } => {
                let used = usize::from(*len);
                if slots[..used].contains(&slot) {
                    return false;
                }
                if used < INLINE_MAX {
                    slots[used] = slot;
                    *len += 1;
                } else {
                    let mut dense = Vec::with_capacity(2 * INLINE_MAX);
                    dense.extend_from_slice(slots);
                    dense.push(slot);
                    self.0 = Storage::Heap(Box::new(Heap { dense, index: HashTable::new() }));
                }
                true
            }
        }
    }

    /// Removes `slot`; false if it was not there. The last of the slots takes its place.
    pub fn remove(&mut self, slot: u32) -> bool {
        match &mut self.0 {
            Storage::Inline { len, slots } => {
                let used = &mut slots[..usize::from(*len)];
                let Some(position) = used.iter().position(|&other| other == slot) else {
                    return false;
                };
                used[position] = used[used.len() - 1];
                *len -= 1;
                true
            }
            Storage::Heap(heap) => {
                let removed = heap.remove(slot);
                if heap.dense.len() <= INLINE_AGAIN {
                    self.inline();
                }
                removed
            }
        }
    }

    /// Whether `slot` is in the set.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        match &self.0 {
            Storage::Inline { .. } => self.as_slice().contains(&slot),
            Storage::Heap(heap) => heap.position(slot).is_some(),
        }
    }

    /// All slots, in no order that means anything.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match &self.0 {
            Storage::Inline { len, slots } => &slots[..usize::from(*len)],
            Storage::Heap(heap) => &heap.dense,
        }
    }

    /// How many slots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Bytes that the set has allocated, itself and the allocator's own cost not counted.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Storage::Inline { .. } => 0,
            Storage::Heap(heap) => {
                size_of::<Heap>() + heap.dense.capacity() * size_of::<u32>() + heap.index.allocation_size()
            }
        }
    }

    /// Moves what is left back into the set itself.
    fn inline(&mut self) {
        let left = self.as_slice();
        let mut slots = [0; INLINE_MAX];
        slots[..left.len()].copy_from_slice(left);
        let len = u8::try_from(left.len()).expect("only a few are left");
        self.0 = Storage::Inline { len, slots };
    }
}

impl Default for Subscribers {
    fn default() -> Self {
        Self::new()
    }
}

/// A set that has outgrown its own bytes.
#[derive(Debug)]
struct Heap {
    dense: Vec<u32>,
    /// Positions in `dense`, found by the slot that is there; empty while the set is small.
    index: HashTable<u32>,
}

impl Heap {
    fn position(&self, slot: u32) -> Option<usize> {
        if self.index.is_empty() {
            return self.dense.iter().position(|&other| other == slot);
        }
        let dense = &self.dense;
        self.index.find(hash(slot), |&position| dense[position as usize] == slot).map(|&position| position as usize)
    }

    fn insert(&mut self, slot: u32) -> bool {
        let Self { dense, index } = self;
        if index.is_empty() {
            if dense.contains(&slot) {
                return false;
            }
            dense.push(slot);
            if dense.len() > LINEAR_MAX {
                for (position, &slot) in (0..).zip(&*dense) {
                    index.insert_unique(hash(slot), position, |&other| hash(dense[other as usize]));
                }
            }
            return true;
        }
        let entry = index.entry(
            hash(slot),
            |&position| dense[position as usize] == slot,
            |&position| hash(dense[position as usize]),
        );
        match entry {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(u32::try_from(dense.len()).expect("slots are distinct, and u32"));
                dense.push(slot);
                true
            }
        }
    }

    fn remove(&mut self, slot: u32) -> bool {
        let Some(position) = self.position(slot) else {
            return false;
        };
        let last = self.dense.len() - 1;
        if !self.index.is_empty() {
            self.unindex(slot, position);
            if position != last {
                self.reindex(self.dense[last], last, position);
            }
        }
        self.dense.swap_remove(position);
        self.shrink();
        true
    }

    /// Forgets that `slot` is at `position`.
    fn unindex(&mut self, slot: u32, position: usize) {
        self.index
            .find_entry(hash(slot), |&other| other as usize == position)
            .expect("every position is in the index")
            .remove();
    }

    /// Notes that `slot` moves from one position to another.
    fn reindex(&mut self, slot: u32, from: usize, to: usize) {
        *self
            .index
            .find_mut(hash(slot), |&position| position as usize == from)
            .expect("every position is in the index") = u32::try_from(to).expect("before a position that fits");
    }

    /// Gives memory back when a quarter or less is in use; half stays free for the next ones.
    fn shrink(&mut self) {
        let Self { dense, index } = self;
        if dense.len() <= LINEAR_AGAIN {
            *index = HashTable::new();
        }
        if dense.len() <= dense.capacity() / 4 {
            dense.shrink_to(dense.len() * 2);
            if !index.is_empty() {
                index.shrink_to(dense.len() * 2, |&position| hash(dense[position as usize]));
            }
        }
    }
}

/// Spreads slots over the 64 bits; the engine gives them out, so nobody can choose them badly.
fn hash(slot: u32) -> u64 {
    // 2^64 divided by the golden ratio; the shift brings the well mixed upper bits down to where the
    // table looks for its bucket.
    let product = u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn sorted(subscribers: &Subscribers) -> Vec<u32> {
        let mut slots = subscribers.as_slice().to_vec();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_slot_is_in_the_set_once() {
        let mut subscribers = Subscribers::new();
        for round in 0..2 {
            for slot in 0..100 {
                assert_eq!(subscribers.insert(slot), round == 0);
            }
        }
        assert_eq!(sorted(&subscribers), (0..100).collect::<Vec<_>>());
        assert!(!subscribers.remove(100));
        assert!(subscribers.remove(50));
        assert!(!subscribers.remove(50));
        assert_eq!(subscribers.len(), 99);
    }

    #[test]
    fn a_set_that_shrinks_gives_its_memory_back() {
        let mut subscribers = Subscribers::new();
        for slot in 0..100_000 {
            subscribers.insert(slot);
        }
        let large = subscribers.heap_bytes();
        assert!(large < 100_000 * 24, "{large}");
        for slot in 0..99_000 {
            subscribers.remove(slot);
        }
        assert!(subscribers.heap_bytes() < 64 * 1000, "{}", subscribers.heap_bytes());
        for slot in 99_000..99_999 {
            subscribers.remove(slot);
        }
        assert_eq!((subscribers.as_slice(), subscribers.heap_bytes()), (&[99_999][..], 0));
    }

    #[test]
    fn random_changes_match_a_hash_set() {
        let seed =
            std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("CRORE_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..200 {
            let slots = random.u32(1..=if round % 10 == 0 { 2_000 } else { 40 });
            // Slots that lie apart by a power of two are a hard case for a hash of them.
            let apart = 1 << random.u32(0..20);
            let mut subscribers = Subscribers::default();
            let mut model = HashSet::new();
            for _ in 0..random.u32(0..10 * slots) {
                let slot = random.u32(0..slots).wrapping_mul(apart);
                // Phases of growth and of decline, so that every form is entered and left.
                if random.u32(0..1000) < if model.len() % 300 < 150 { 550 } else { 450 } {
                    assert_eq!(subscribers.insert(slot), model.insert(slot));
                } else {
                    assert_eq!(subscribers.remove(slot), model.remove(&slot));
                }
                assert_eq!(subscribers.len(), model.len());
                assert_eq!(subscribers.is_empty(), model.is_empty());
            }
            let mut expected: Vec<_> = model.iter().copied().collect();
            expected.sort_unstable();
            assert_eq!(sorted(&subscribers), expected);
            assert!(model.iter().all(|&slot| subscribers.contains(slot)));
            let mut order = expected;
            random.shuffle(&mut order);
            for slot in order {
                assert!(subscribers.remove(slot));
                assert!(!subscribers.contains(slot));
            }
            assert_eq!((subscribers.len(), subscribers.heap_bytes()), (0, 0));
        }
    }
}
