//! What channels keep of their publications, for those who come back and for those who come later.
//!
//! Every channel with a history has a home: one core, by its name, that numbers and keeps its publications. What is
//! published there on any core is told to the home, which publishes it to the subscribers of all cores; so they all
//! see one order, and a subscription can begin right behind a place that the home names. See [`home`](crate::home).

mod log;

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::log::Log;
pub(crate) use self::log::{Epoch, Found, Position, Since};

/// What a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Publications.
    pub(crate) messages: usize,
    /// Milliseconds that one is kept.
    pub(crate) age_ms: u64,
}

/// Bounds of what one core keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of all publications.
    pub(crate) bytes: usize,
    /// Channels.
    pub(crate) channels: usize,
}

/// Milliseconds for which a channel without publications is known after the last one: as long as that it can tell a
/// client that comes back that nothing was missed. After it the client is told that something may have been.
pub(crate) const EMPTY_KEPT_MS: u64 = 60 * 60 * 1000;

/// Milliseconds between two looks at what is too old.
pub(crate) const SWEEP_INTERVAL_MS: u64 = 1000;

/// Channels that one such look takes.
const SWEEP_CHANNELS_MAX: usize = 4096;

/// Channels that are looked at for one without publications where a new one needs the room.
const EMPTY_LOOKS_MAX: usize = 64;

/// Entries of the order of all publications, beyond twice those that are kept, before it is cleared of the others.
const ORDER_SPARE: usize = 1024;

#[derive(Debug)]
struct Channel {
    name: Box<str>,
    log: Log,
    retention: Retention,
}

/// Where a publication of any channel is, in the order of publication.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: usize,
    epoch: Epoch,
    offset: u64,
}

/// The channels whose home a core is.
#[derive(Debug)]
pub(crate) struct History {
    bounds: Bounds,
    channels: slab::Slab<Channel>,
    keys: HashMap<Box<str>, usize, RandomState>,
    /// Of all that are kept, and some that are not any more.
    order: VecDeque<Place>,
    kept: usize,
    bytes: usize,
    /// Publications given up for want of room.
    evicted: u64,
    next_epoch: u64,
    /// The channel that the next sweep begins with.
    swept: usize,
}

impl History {
    /// `seed` tells this core's channels from those of other cores and of earlier runs.
    pub(crate) fn new(bounds: Bounds, seed: u64) -> Self {
        Self {
            bounds,
            channels: slab::Slab::new(),
            keys: HashMap::default(),
            order: VecDeque::new(),
            kept: 0,
            bytes: 0,
            evicted: 0,
            next_epoch: seed % Epoch::NONE.0,
            swept: 0,
        }
    }

    /// Whether there is anything to sweep.
    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Whether there is anything to know of a channel.
    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.keys.contains_key(name)
    }

    /// Bytes of heap, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let channel = size_of::<Channel>() + size_of::<(Box<str>, usize)>();
        self.bytes + self.channels.len() * channel + self.order.capacity() * size_of::<Place>()
    }

    /// Publications that are kept.
    pub(crate) const fn len(&self) -> usize {
        self.kept
    }

    /// Publications that were given up for want of room since the start.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keeps a publication. `write` is given its place and its time and makes its text. Without `retention` it is not
    /// kept, and nothing goes on from its place.
    pub(crate) fn publish<'t>(
        &mut self,
        name: &str,
        retention: Option<Retention>,
        now_ms: u64,
        write: impl FnOnce(Position, u64) -> &'t str,
    ) -> Position {
        let Some(retention) = retention else {
            let position = Position { epoch: self.next_epoch(), offset: 1 };
            write(position, now_ms);
            return position;
        };
        let key = self.key(name, retention, now_ms);
        let channel = &mut self.channels[key];
        channel.retention = retention;
        let (position, time_ms) = channel.log.next(now_ms);
        let text = write(position, time_ms);
        self.bytes += channel.log.push(text, now_ms);
        self.kept += 1;
        self.order.push_back(Place { key, epoch: position.epoch, offset: position.offset });
        self.expire(key, now_ms);
        while self.bytes > self.bounds.bytes && self.evict_oldest() {}
        self.tidy_order();
        position
    }

    /// The place of the last publication of a channel, and what there is since another place or time. Without
    /// `retention` that is nothing, and a place from which nothing goes on.
    pub(crate) fn read(
        &mut self,
        name: &str,
        retention: Option<Retention>,
        since: Option<Since>,
        now_ms: u64,
    ) -> (Position, Option<Found<'_>>) {
        let Some(retention) = retention else {
            return (Position { epoch: self.next_epoch(), offset: 0 }, since.map(|_| Found::nothing()));
        };
        let key = self.key(name, retention, now_ms);
        self.channels[key].retention = retention;
        self.expire(key, now_ms);
        self.tidy_order();
        let log = &self.channels[key].log;
        (log.position(), since.map(|since| log.since(since)))
    }

    /// Other rules hold: channels that have no history any more are forgotten, so that another line begins should they have
    /// one again; the others keep what they are to keep now. It takes about a microsecond for each channel.
    pub(crate) fn go_over(&mut self, retention: impl Fn(&str) -> Option<Retention>, now_ms: u64) {
        let keys: Vec<usize> = self.channels.iter().map(|(key, _)| key).collect();
        for key in keys {
            match retention(&self.channels[key].name) {
                Some(retention) => {
                    self.channels[key].retention = retention;
                    self.expire(key, now_ms);
                }
                None => self.forget(key),
            }
        }
        self.tidy_order();
    }

    /// Gives up what is too old, of some of the channels in turn.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEEP_CHANNELS_MAX.min(self.channels.capacity()) {
            let key = self.next_swept();
            if !self.channels.contains(key) {
                continue;
            }
            self.expire(key, now_ms);
            let log = &self.channels[key].log;
            if log.len() == 0 && log.last_ms().saturating_add(EMPTY_KEPT_MS) <= now_ms {
                self.forget(key);
            }
        }
        self.tidy_order();
    }

    fn key(&mut self, name: &str, retention: Retention, now_ms: u64) -> usize {
        if let Some(key) = self.keys.get(name) {
            return *key;
        }
        while self.channels.len() >= self.bounds.channels {
            self.make_room();
        }
        let epoch = self.next_epoch();
        let key = self.channels.insert(Channel { name: name.into(), log: Log::new(epoch, now_ms), retention });
        self.keys.insert(name.into(), key);
        key
    }

    fn next_epoch(&mut self) -> Epoch {
        let epoch = Epoch(self.next_epoch);
        self.next_epoch = (self.next_epoch + 1) % Epoch::NONE.0;
        epoch
    }

    /// Forgets a channel: one that has no publication if one is found soon, else the one with the oldest.
    fn make_room(&mut self) {
        let key =
            self.some_empty().or_else(|| self.oldest()).or_else(|| self.channels.iter().next().map(|(key, _)| key));
        if let Some(key) = key {
            self.evicted += self.channels[key].log.len() as u64;
            self.forget(key);
        }
    }

    fn some_empty(&mut self) -> Option<usize> {
        (0..EMPTY_LOOKS_MAX).find_map(|_| {
            let key = self.next_swept();
            self.channels.get(key).filter(|channel| channel.log.len() == 0).map(|_| key)
        })
    }

    /// The channel of the oldest publication of all.
    fn oldest(&mut self) -> Option<usize> {
        while let Some(place) = self.order.front() {
            if self.is_kept(place) {
                return Some(place.key);
            }
            self.order.pop_front();
        }
        None
    }

    fn next_swept(&mut self) -> usize {
        let key = self.swept;
        self.swept = (key + 1) % self.channels.capacity().max(1);
        key
    }

    fn forget(&mut self, key: usize) {
        while self.drop_oldest(key) {}
        let channel = self.channels.remove(key);
        self.keys.remove(&channel.name);
    }

    fn expire(&mut self, key: usize, now_ms: u64) {
        loop {
            let Channel { log, retention, .. } = &self.channels[key];
            let old = |(published_ms, _): (u64, u64)| published_ms.saturating_add(retention.age_ms) <= now_ms;
            if log.len() <= retention.messages && !log.oldest().is_some_and(old) {
                break;
            }
            self.drop_oldest(key);
        }
    }

    fn drop_oldest(&mut self, key: usize) -> bool {
        let bytes = self.channels[key].log.drop_oldest();
        self.bytes -= bytes;
        self.kept -= usize::from(bytes > 0);
        bytes > 0
    }

    /// Gives up the oldest publication of all.
    fn evict_oldest(&mut self) -> bool {
        let oldest = self.oldest();
        self.evicted += u64::from(oldest.is_some());
        oldest.is_some_and(|key| self.drop_oldest(key))
    }

    /// Whether what was published at a place is still there. What is kept of a channel has no hole, so that the oldest
    /// place of one that is left in the order is its oldest publication.
    fn is_kept(&self, place: &Place) -> bool {
        self.channels.get(place.key).is_some_and(|channel| {
            let oldest = channel.log.oldest();
            channel.log.position().epoch == place.epoch && oldest.is_some_and(|(_, offset)| offset <= place.offset)
        })
    }

    fn tidy_order(&mut self) {
        if self.order.len() <= 2 * self.kept + ORDER_SPARE {
            return;
        }
        let order = std::mem::take(&mut self.order);
        self.order = order.into_iter().filter(|place| self.is_kept(place)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::below;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 20, channels: 1 << 10 };
    const LAST_THREE: Retention = Retention { messages: 3, age_ms: 10_000 };

    fn publish(history: &mut History, name: &str, text: &str, now_ms: u64) -> Position {
        history.publish(name, Some(LAST_THREE), now_ms, |_, _| text)
    }

    fn all(history: &mut History, name: &str, now_ms: u64) -> Vec<String> {
        let (_, found) = history.read(name, Some(LAST_THREE), Some(Since::Time(0)), now_ms);
        found.unwrap().texts().map(|text| text.to_string()).collect()
    }

    #[test]
    fn a_channel_keeps_so_many_for_so_long() {
        let mut history = History::new(BOUNDS, 0);
        for number in 1..=5 {
            let position = publish(&mut history, "a", &number.to_string(), 1000 * number);
            assert_eq!(position.offset, number);
        }
        assert_eq!(all(&mut history, "a", 5000), ["3", "4", "5"]);
        assert_eq!(all(&mut history, "a", 13_999), ["4", "5"]);
        history.sweep(14_999);
        assert_eq!((history.len(), history.evicted()), (1, 0));
        assert_eq!(all(&mut history, "a", 15_000), [""; 0]);
        assert_eq!(publish(&mut history, "a", "6", 15_000).offset, 6, "the line goes on");
    }

    #[test]
    fn a_channel_that_was_forgotten_begins_another_line() {
        let mut history = History::new(BOUNDS, 0);
        let first = publish(&mut history, "a", "1", 0);
        history.sweep(EMPTY_KEPT_MS - 1);
        let (position, found) = history.read("a", Some(LAST_THREE), Some(Since::Position(first)), EMPTY_KEPT_MS - 1);
        assert_eq!((position, found.unwrap().complete), (first, true), "nothing was missed, and it is known");
        history.sweep(EMPTY_KEPT_MS);
        assert!(history.is_empty());
        let (position, found) = history.read("a", Some(LAST_THREE), Some(Since::Position(first)), EMPTY_KEPT_MS);
        assert_ne!(position.epoch, first.epoch);
        assert!(!found.unwrap().complete);
    }

    #[test]
    fn other_rules_end_a_line_or_what_it_keeps() {
        let mut history = History::new(BOUNDS, 0);
        let places = ["a", "b"].map(|name| {
            publish(&mut history, name, "1", 1);
            publish(&mut history, name, "2", 2)
        });
        let last_one = Retention { messages: 1, ..LAST_THREE };
        history.go_over(|name| (name == "a").then_some(last_one), 3);
        assert_eq!((history.len(), history.is_known("b")), (1, false));
        let (position, found) = history.read("a", Some(last_one), Some(Since::Kept), 3);
        assert_eq!((position, found.unwrap().len()), (places[0], 1));
        // Whoever has not heard of the new rules yet may still come.
        let numbered = history.publish("b", None, 4, |_, _| "3");
        let (position, found) = history.read("b", None, Some(Since::Position(numbered)), 5);
        assert!(position.epoch != numbered.epoch && !found.unwrap().complete);
        assert!(!history.is_known("b"));
        let (position, found) = history.read("b", Some(LAST_THREE), Some(Since::Position(places[1])), 6);
        assert!(position.epoch != places[1].epoch && !found.unwrap().complete, "another line has begun");
    }

    #[test]
    fn what_is_too_much_for_all_channels_together_goes_oldest_first() {
        let mut history = History::new(Bounds { bytes: 1500, ..BOUNDS }, 0);
        for (name, now_ms) in [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("c", 5)] {
            publish(&mut history, name, &name.repeat(400), now_ms);
        }
        assert_eq!((history.len(), history.evicted()), (3, 2));
        assert!(history.memory_bytes() >= 1200);
        assert_eq!(["a", "b", "c"].map(|name| all(&mut history, name, 5).len()), [1, 1, 1]);
        // Larger than all there may be: it is handed on, and nothing is kept.
        publish(&mut history, "d", &"d".repeat(2000), 6);
        assert_eq!(history.len(), 0);
    }

    #[test]
    fn there_are_no_more_channels_than_may_be() {
        let mut history = History::new(Bounds { channels: 3, ..BOUNDS }, 0);
        for (name, now_ms) in [("a", 1), ("b", 2), ("c", 3), ("b", 4)] {
            publish(&mut history, name, name, now_ms);
        }
        history.read("d", Some(LAST_THREE), None, 5);
        assert_eq!(history.channels.len(), 3);
        assert_eq!(history.evicted(), 1, "that of a, the oldest");
        publish(&mut history, "e", "e", 6);
        assert_eq!(["b", "c"].map(|name| all(&mut history, name, 6).len()), [2, 1], "d went, which was empty");
    }

    #[test]
    fn random_publications_leave_what_the_rules_leave() {
        let mut below = below();
        let mut history = History::new(BOUNDS, below(u64::MAX));
        let mut model: Vec<Vec<(u64, u64)>> = vec![Vec::new(); 8];
        let mut now_ms = 1;
        for number in 0..20_000_u64 {
            now_ms += below(1500);
            let channel = usize::try_from(below(8)).unwrap();
            let name = channel.to_string();
            match below(4) {
                0 => history.sweep(now_ms),
                1 => {
                    let expected: Vec<String> = model[channel]
                        .iter()
                        .rev()
                        .take(3)
                        .rev()
                        .filter(|(at_ms, _)| at_ms + LAST_THREE.age_ms > now_ms)
                        .map(|(_, number)| number.to_string())
                        .collect();
                    assert_eq!(all(&mut history, &name, now_ms), expected);
                }
                _ => {
                    publish(&mut history, &name, &number.to_string(), now_ms);
                    model[channel].push((now_ms, number));
                }
            }
            assert!(history.len() <= 24 && history.order.len() <= 2 * history.len() + ORDER_SPARE);
        }
    }
}
