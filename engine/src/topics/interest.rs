//! Which cores have subscribers of a topic: what keeps a publish at home when nobody else listens.
//!
//! The table holds, for each bucket of name hashes, one bit per core. Two names in one bucket share
//! their bits, so a core may get a message that nobody there wants; it finds no such topic and drops
//! it. A message that somebody wants is never withheld, because a core clears its bit only when its
//! last topic of the bucket has gone.
//!
//! # What a subscriber may rely on
//!
//! Once a client has read the acknowledgement of its subscription, a publish that anyone starts after
//! that, on whatever core, sees the bit. The bit is set before the worker queues the acknowledgement;
//! the submission of that send is a release (the tail of the submission queue), the kernel acquires it,
//! and from there each step to the publisher's core is ordered by the kernel's own locks and by the
//! network between: socket, device or loopback, the publisher's socket, and the completion queue's tail,
//! which the publishing worker acquires before it loads the mask. Happens-before is transitive, so the
//! store precedes the load, and even relaxed accesses of one place could then not run past each other.
//! They are release and acquire here to say the same within the language, where an acknowledgement
//! goes through memory alone, from a handler to another thread; on x86-64 that costs nothing.
//!
//! Nothing stronger is needed: a publish that runs beside an unacknowledged subscription may see either
//! state, and there is no second place whose order against the mask would matter.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::CoreId;

/// Buckets of the table of interest. With 65,536, a core with 10,000 topics gets one in seven of the
/// messages that nobody there wants; with a million topics on each core, filtering has lost its use.
/// A mask of 64 cores takes 512 KiB, the counts of a core 256 KiB.
pub const INTEREST_BUCKETS: usize = 1 << 16;

/// How names of topics are hashed: alike on all cores, differently in each process, because clients
/// choose the names.
#[derive(Clone, Debug)]
pub struct TopicHash(foldhash::quality::SeedableRandomState);

impl TopicHash {
    /// With a random seed.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two of them differ: there is no default one")]
    pub fn new() -> Self {
        Self(foldhash::quality::SeedableRandomState::random())
    }

    /// Without a seed: the same in each process. For simulations, which must not depend on chance.
    #[must_use]
    pub fn fixed() -> Self {
        Self(foldhash::quality::SeedableRandomState::fixed())
    }

    /// The hash of `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.hash_one(name)
    }
}

/// The table that all cores share.
#[derive(Debug)]
pub struct Interest {
    hash: TopicHash,
    /// `words` words of 64 cores for each bucket.
    masks: Box<[AtomicU64]>,
    words: usize,
}

impl Interest {
    /// A table for `cores` cores, none of them interested in anything.
    ///
    /// # Panics
    ///
    /// If there are no cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self::with_hash(cores, TopicHash::new())
    }

    /// As [`Self::new`], with a hash function of the caller's choice.
    ///
    /// # Panics
    ///
    /// If there are no cores.
    #[must_use]
    pub fn with_hash(cores: usize, hash: TopicHash) -> Self {
        assert!(cores > 0, "an engine has at least one core");
        let words = cores.div_ceil(64);
        let masks = (0..INTEREST_BUCKETS * words).map(|_| AtomicU64::new(0)).collect();
        Self { hash, masks, words }
    }

    /// The hash of a topic's name, as this table and all cores' [`Topics`](super::Topics) use it.
    #[must_use]
    pub fn hash(&self, name: &str) -> u64 {
        self.hash.of(name)
    }

    /// The hash function itself, for [`Topics::new`](super::Topics::new).
    #[must_use]
    pub fn topic_hash(&self) -> TopicHash {
        self.hash.clone()
    }

    /// The cores that may have subscribers of the topic with this hash, in the order of their numbers,
    /// the caller's own among them.
    #[must_use]
    pub fn cores_interested(&self, hash: u64) -> InterestedCores<'_> {
        let start = bucket(hash) * self.words;
        InterestedCores { words: &self.masks[start..start + self.words], word: 0, taken: 0 }
    }

    /// The word and the bit in it that say whether `core` is interested in a bucket.
    fn bit(&self, bucket: usize, core: CoreId) -> (&AtomicU64, u64) {
        (&self.masks[bucket * self.words + core.index() / 64], 1 << (core.index() % 64))
    }
}

/// The cores of [`Interest::cores_interested`].
#[derive(Clone, Debug)]
pub struct InterestedCores<'a> {
    words: &'a [AtomicU64],
    /// Which word is read next, from 0.
    word: u16,
    /// What is left of the word before it.
    taken: u64,
}

impl Iterator for InterestedCores<'_> {
    type Item = CoreId;

    fn next(&mut self) -> Option<CoreId> {
        while self.taken == 0 {
            self.taken = self.words.get(usize::from(self.word))?.load(Ordering::Acquire);
            self.word += 1;
        }
        let bit = self.taken.trailing_zeros();
        self.taken &= self.taken - 1;
        let bit = u16::try_from(bit).expect("a word has 64 bits");
        Some(CoreId((self.word - 1) * 64 + bit))
    }
}

/// One core's own counts behind its bits: how many topics it has in each bucket.
#[derive(Debug)]
pub struct InterestCounts {
    interest: Arc<Interest>,
    core: CoreId,
    /// Zeroed pages that the kernel hands out as they are touched.
    counts: Box<[u32]>,
}

impl InterestCounts {
    /// The counts of `core`, all zero.
    ///
    /// # Panics
    ///
    /// If the table was made for fewer cores.
    #[must_use]
    pub fn new(interest: Arc<Interest>, core: CoreId) -> Self {
        assert!(core.index() < interest.words * 64, "core {core} is not in the table of interest");
        Self { interest, core, counts: vec![0; INTEREST_BUCKETS].into_boxed_slice() }
    }

    /// The shared table.
    #[must_use]
    pub fn interest(&self) -> &Arc<Interest> {
        &self.interest
    }

    /// This core has got its first subscriber of a topic with this hash. Call it before the
    /// subscription is acknowledged.
    pub fn raise(&mut self, hash: u64) {
        let bucket = bucket(hash);
        self.counts[bucket] += 1;
        if self.counts[bucket] == 1 {
            let (word, bit) = self.interest.bit(bucket, self.core);
            word.fetch_or(bit, Ordering::Release);
        }
    }

    /// This core has lost its last subscriber of a topic with this hash.
    ///
    /// # Panics
    ///
    /// If it has no topic in that bucket: [`Self::raise`] was not called for it.
    pub fn lower(&mut self, hash: u64) {
        let bucket = bucket(hash);
        assert!(self.counts[bucket] > 0, "interest is lowered that was never raised");
        self.counts[bucket] -= 1;
        if self.counts[bucket] == 0 {
            let (word, bit) = self.interest.bit(bucket, self.core);
            word.fetch_and(!bit, Ordering::Release);
        }
    }
}

/// The bucket of a hash, from bits that the table of names does not use first.
fn bucket(hash: u64) -> usize {
    const { assert!(INTEREST_BUCKETS.is_power_of_two()) };
    (hash >> 32) as usize & (INTEREST_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn cores(interest: &Interest, hash: u64) -> Vec<u16> {
        interest.cores_interested(hash).map(|core| core.0).collect()
    }

    #[test]
    fn cores_hash_alike_and_processes_do_not() {
        let interest = Interest::new(2);
        assert_eq!(interest.hash("news"), interest.topic_hash().of("news"));
        assert_ne!(interest.hash("news"), interest.hash("news "));
        assert_ne!(interest.hash("news"), Interest::new(2).hash("news"));
    }

    #[test]
    fn a_bit_stands_while_any_topic_of_its_bucket_does() {
        let interest = Arc::new(Interest::new(2));
        let mut counts = InterestCounts::new(Arc::clone(&interest), CoreId(1));
        // Two hashes of one bucket.
        let (one, two) = (0x0000_1234_0000_0001, 0xff00_1234_0000_0002);
        counts.raise(one);
        counts.raise(two);
        counts.lower(one);
        assert_eq!(cores(&interest, one), [1]);
        counts.lower(two);
        assert_eq!(cores(&interest, one), []);
    }

    #[test]
    fn every_core_of_a_large_host_has_a_bit_of_its_own() {
        let interest = Arc::new(Interest::new(200));
        let mut counts: Vec<_> =
            (0..200).map(|core| InterestCounts::new(Arc::clone(&interest), CoreId(core))).collect();
        for core in [0, 63, 64, 127, 128, 199] {
            counts[core].raise(7);
        }
        assert_eq!(cores(&interest, 7), [0, 63, 64, 127, 128, 199]);
        counts[64].lower(7);
        assert_eq!(cores(&interest, 7), [0, 63, 127, 128, 199]);
    }

    #[test]
    #[should_panic(expected = "never raised")]
    fn lowering_without_raising_is_a_bug() {
        InterestCounts::new(Arc::new(Interest::new(1)), CoreId(0)).lower(1);
    }

    #[test]
    fn random_changes_never_hide_a_core() {
        let seed =
            std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("CRORE_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let interest = Arc::new(Interest::new(70));
        let mut counts: Vec<_> = (0..70).map(|core| InterestCounts::new(Arc::clone(&interest), CoreId(core))).collect();
        let mut model: HashMap<(u64, u16), u32> = HashMap::new();
        for _ in 0..50_000 {
            // Few buckets and several hashes in each, so that they collide.
            let hash = random.u64(0..8) << 32 | random.u64(0..3);
            let core = random.u16(0..70);
            let topics = model.entry((hash >> 32, core)).or_default();
            if random.bool() {
                *topics += 1;
                counts[usize::from(core)].raise(hash);
            } else if *topics > 0 {
                *topics -= 1;
                counts[usize::from(core)].lower(hash);
            }
            let expected: Vec<_> =
                (0..70).filter(|&core| model.get(&(hash >> 32, core)).is_some_and(|&topics| topics > 0)).collect();
            assert_eq!(cores(&interest, hash), expected);
        }
    }

    #[test]
    fn cores_change_their_bits_of_one_word_side_by_side() {
        let interest = Arc::new(Interest::new(4));
        let threads: Vec<_> = (0..4)
            .map(|core| {
                let mut counts = InterestCounts::new(Arc::clone(&interest), CoreId(core));
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        counts.raise(5);
                        assert!(counts.interest().cores_interested(5).any(|it| it == CoreId(core)));
                        counts.lower(5);
                        assert!(counts.interest().cores_interested(5).all(|it| it != CoreId(core)));
                    }
                    counts.raise(5);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no core disturbs another");
        }
        assert_eq!(cores(&interest, 5), [0, 1, 2, 3]);
    }
}
