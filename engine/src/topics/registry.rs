//! The topics of one core: by name, by number, and who subscribes.

use compact_str::CompactString;
use hashbrown::HashTable;
use slab::Slab;

use super::{Subscribers, TopicHash};
use crate::id::TopicId;

/// The turn mark of a topic that has none.
pub const NO_MARK: u32 = u32::MAX;

/// All topics that have a subscriber on this core.
///
/// A topic exists from its first subscription to its last unsubscription, and its [`TopicId`] with it.
/// The tables keep the size that they once needed; names and large sets of subscribers are freed.
#[derive(Debug)]
pub struct Topics {
    hash: TopicHash,
    /// Numbers of topics, found by the hash of the name.
    by_name: HashTable<u32>,
    topics: Slab<Topic>,
    /// Bytes of all names and of what the sets of subscribers have allocated.
    owned_bytes: usize,
}

/// In one line of the processor's caches, with names of up to 24 bytes: to publish is to touch little.
#[derive(Debug)]
#[repr(align(64))]
struct Topic {
    name: CompactString,
    /// Kept, so that a growing table need not read all names again.
    hash: u64,
    subscribers: Subscribers,
    turn_mark: u32,
}

const _: () = assert!(size_of::<Option<Topic>>() == 64);

/// What [`Topics::subscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic, valid as long as it has subscribers.
    pub topic: TopicId,
    /// The hash of its name, for [`InterestCounts::raise`](super::InterestCounts::raise).
    pub hash: u64,
    /// The connection was not subscribed before.
    pub new: bool,
    /// Nobody on this core was.
    pub first: bool,
}

/// What [`Topics::unsubscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscription {
    /// The hash of the topic's name, for [`InterestCounts::lower`](super::InterestCounts::lower).
    pub hash: u64,
    /// The connection was subscribed.
    pub removed: bool,
    /// It was the last one on this core: the topic has been freed, and its number means nothing now.
    pub last: bool,
}

impl Topics {
    /// No topics yet; names are hashed as all cores hash them
    /// ([`Interest::topic_hash`](super::Interest::topic_hash)).
    #[must_use]
    pub fn new(hash: TopicHash) -> Self {
        Self { hash, by_name: HashTable::new(), topics: Slab::new(), owned_bytes: 0 }
    }

    /// Subscribes the connection in `slot` to the topic called `name`.
    pub fn subscribe(&mut self, name: &str, slot: u32) -> Subscription {
        self.subscribe_hashed(name, self.hash.of(name), slot)
    }

    /// As [`Self::subscribe`], with the hash of the name at hand.
    pub fn subscribe_hashed(&mut self, name: &str, hash: u64, slot: u32) -> Subscription {
        let found = self.find_hashed(name, hash);
        let topic = found.unwrap_or_else(|| self.create(name, hash));
        let subscribers = &mut self.topics[topic.index()].subscribers;
        let bytes_before = subscribers.heap_bytes();
        let new = subscribers.insert(slot);
        self.owned_bytes = self.owned_bytes + subscribers.heap_bytes() - bytes_before;
        Subscription { topic, hash, new, first: found.is_none() }
    }

    /// Ends the subscription of the connection in `slot`, if there is one. A topic without subscribers
    /// is freed at once.
    ///
    /// # Panics
    ///
    /// If there is no such topic, or if it would have to be freed with a turn mark on it.
    pub fn unsubscribe(&mut self, topic: TopicId, slot: u32) -> Unsubscription {
        let entry = &mut self.topics[topic.index()];
        let hash = entry.hash;
        let bytes_before = entry.subscribers.heap_bytes();
        let removed = entry.subscribers.remove(slot);
        self.owned_bytes = self.owned_bytes + entry.subscribers.heap_bytes() - bytes_before;
        let last = entry.subscribers.is_empty();
        if last {
            self.free(topic);
        }
        Unsubscription { hash, removed, last }
    }

    /// The topic called `name`, if anyone on this core subscribes to it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<TopicId> {
        self.find_hashed(name, self.hash.of(name))
    }

    /// As [`Self::find`], with the hash of the name at hand.
    #[must_use]
    pub fn find_hashed(&self, name: &str, hash: u64) -> Option<TopicId> {
        debug_assert_eq!(hash, self.hash.of(name), "all cores hash names alike");
        let is_it = |&number: &u32| {
            let topic = &self.topics[number as usize];
            topic.hash == hash && topic.name == name
        };
        self.by_name.find(hash, is_it).map(|&number| TopicId(number))
    }

    /// The name of a topic. This and the following panic if there is no such topic.
    #[must_use]
    pub fn name(&self, topic: TopicId) -> &str {
        &self.topics[topic.index()].name
    }

    /// The hash of its name.
    #[must_use]
    pub fn hash(&self, topic: TopicId) -> u64 {
        self.topics[topic.index()].hash
    }

    /// The slots of its subscribers, at least one, in no order that means anything.
    #[must_use]
    pub fn subscribers(&self, topic: TopicId) -> &[u32] {
        self.topics[topic.index()].subscribers.as_slice()
    }

    /// A number that the worker keeps with the topic for the length of a turn, or [`NO_MARK`].
    #[must_use]
    pub fn turn_mark(&self, topic: TopicId) -> u32 {
        self.topics[topic.index()].turn_mark
    }

    /// Sets the turn mark. A topic that has one must not lose its last subscriber: set it back to
    /// [`NO_MARK`] first.
    pub fn set_turn_mark(&mut self, topic: TopicId, mark: u32) {
        self.topics[topic.index()].turn_mark = mark;
    }

    /// The topic of a place, if there is one. A topic keeps its place for as long as it has a subscriber.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<TopicId> {
        let number = u32::try_from(place).ok()?;
        self.topics.contains(place).then_some(TopicId(number))
    }

    /// Places that there are, the free ones among them.
    #[must_use]
    pub fn places(&self) -> usize {
        self.topics.capacity()
    }

    /// How many topics have a subscriber on this core.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes allocated for topics, names and subscribers, the allocator's own cost not counted. The
    /// reserve of the tables is counted, although pages that were never used take no memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // The slab marks vacant entries in the niche of the name.
        self.topics.capacity() * size_of::<Option<Topic>>() + self.by_name.allocation_size() + self.owned_bytes
    }

    fn create(&mut self, name: &str, hash: u64) -> TopicId {
        let name = CompactString::from(name);
        self.owned_bytes += heap_bytes(&name);
        let subscribers = Subscribers::new();
        let index = self.topics.insert(Topic { name, hash, subscribers, turn_mark: NO_MARK });
        let number = u32::try_from(index).expect("2^32 topics need more memory than there is");
        let topics = &self.topics;
        self.by_name.insert_unique(hash, number, |&other| topics[other as usize].hash);
        TopicId(number)
    }

    fn free(&mut self, id: TopicId) {
        let topic = self.topics.remove(id.index());
        assert!(topic.turn_mark == NO_MARK, "topic {:?} is freed with work on it", topic.name);
        self.owned_bytes -= heap_bytes(&topic.name);
        self.by_name
            .find_entry(topic.hash, |&number| number == id.0)
            .expect("every topic is in the table of names")
            .remove();
    }
}

/// Bytes that a name has allocated: none, if it is short.
fn heap_bytes(name: &CompactString) -> usize {
    if name.is_heap_allocated() { name.capacity() } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn topics() -> Topics {
        Topics::new(TopicHash::new())
    }

    #[test]
    fn the_first_and_the_last_subscriber_are_told_apart() {
        let mut topics = topics();
        let first = topics.subscribe("news", 3);
        assert!(first.new && first.first);
        let again = topics.subscribe("news", 3);
        assert!(!again.new && !again.first && again.topic == first.topic);
        let second = topics.subscribe("news", 4);
        assert!(second.new && !second.first);
        assert_eq!((topics.len(), topics.name(first.topic)), (1, "news"));
        assert_eq!(topics.subscribers(first.topic), [3, 4]);

        let stranger = topics.unsubscribe(first.topic, 5);
        assert!(!stranger.removed && !stranger.last);
        let one = topics.unsubscribe(first.topic, 3);
        assert!(one.removed && !one.last);
        let two = topics.unsubscribe(first.topic, 4);
        assert!(two.removed && two.last);
        assert_eq!(two.hash, first.hash);
        assert_eq!((topics.find("news"), topics.len()), (None, 0));
    }

    #[test]
    fn any_text_is_a_name() {
        let mut topics = topics();
        let names = ["", "a", "A", "ä", "a\0", "a ", &"x".repeat(10_000)];
        let ids: Vec<_> = names.map(|name| topics.subscribe(name, 1).topic).to_vec();
        for (name, &id) in names.iter().zip(&ids) {
            assert_eq!((topics.find(name), topics.name(id)), (Some(id), *name));
        }
        assert_eq!(topics.len(), names.len());
    }

    #[test]
    fn a_mark_stays_with_its_topic() {
        let mut topics = topics();
        let news = topics.subscribe("news", 1).topic;
        assert_eq!(topics.turn_mark(news), NO_MARK);
        topics.set_turn_mark(news, 17);
        let other = topics.subscribe("other", 1).topic;
        assert_eq!((topics.turn_mark(news), topics.turn_mark(other)), (17, NO_MARK));
        topics.set_turn_mark(news, NO_MARK);
        assert!(topics.unsubscribe(news, 1).last);
        let reused = topics.subscribe("next", 1).topic;
        assert_eq!(topics.turn_mark(reused), NO_MARK);
    }

    #[test]
    #[should_panic(expected = "freed with work on it")]
    fn a_marked_topic_is_not_freed() {
        let mut topics = topics();
        let news = topics.subscribe("news", 1).topic;
        topics.set_turn_mark(news, 0);
        topics.unsubscribe(news, 1);
    }

    #[test]
    fn a_topic_keeps_its_place() {
        let mut topics = topics();
        let ids = ["a", "b", "c"].map(|name| topics.subscribe(name, 1).topic);
        assert!(topics.unsubscribe(ids[1], 1).last);
        let listed: Vec<_> = (0..topics.places()).filter_map(|place| topics.at(place)).collect();
        assert_eq!(listed, [ids[0], ids[2]]);
        assert_eq!((topics.at(ids[2].index()), topics.at(topics.places())), (Some(ids[2]), None));
    }

    #[test]
    fn an_emptied_registry_owns_only_its_tables() {
        let mut topics = topics();
        let mut ids = Vec::new();
        for number in 0..1_000 {
            let name = format!("topic {number}");
            ids.push((0..30).map(|slot| topics.subscribe(&name, slot).topic).last().expect("30"));
        }
        let full = topics.memory_bytes();
        for id in ids {
            for slot in 0..30 {
                topics.unsubscribe(id, slot);
            }
        }
        assert!(topics.is_empty());
        assert!(topics.memory_bytes() < full / 2);
        assert_eq!(topics.owned_bytes, 0);
    }

    #[test]
    fn random_changes_match_a_map_of_sets() {
        let seed =
            std::env::var("CRORE_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        println!("CRORE_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut topics = topics();
        let mut model: HashMap<String, HashSet<u32>> = HashMap::new();
        for step in 0..100_000 {
            // Few names and slots while the step count is low, so that topics come and go.
            let name = format!("room:{}", random.u32(0..=step / 100));
            let slot = random.u32(0..40);
            let known = model.get(&name).is_some_and(|slots| slots.contains(&slot));
            if random.bool() {
                let first = !model.contains_key(&name);
                let subscription = topics.subscribe(&name, slot);
                assert_eq!((subscription.new, subscription.first), (!known, first));
                assert_eq!(topics.find(&name), Some(subscription.topic));
                model.entry(name).or_default().insert(slot);
            } else if let Some(topic) = topics.find(&name) {
                let slots = model.get_mut(&name).expect("both know the topic");
                slots.remove(&slot);
                let last = slots.is_empty();
                let unsubscription = topics.unsubscribe(topic, slot);
                assert_eq!((unsubscription.removed, unsubscription.last), (known, last));
                if last {
                    model.remove(&name);
                }
            } else {
                assert!(!model.contains_key(&name));
            }
            assert_eq!(topics.len(), model.len());
        }
        for (name, slots) in &model {
            let topic = topics.find(name).expect("both know the topic");
            assert_eq!(topics.name(topic), name);
            assert_eq!(&topics.subscribers(topic).iter().copied().collect::<HashSet<_>>(), slots);
        }
    }
}
