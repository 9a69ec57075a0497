//! Who is in which channel, and what of that has not been told yet.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crore_engine::ConnectionId;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::room::Room;

/// What an entry takes beside its texts: its place, its share of three tables, and the allocator's.
const ENTRY_BYTES: usize = size_of::<Entry>() + 192;

/// What a channel takes beside its entries: its tables with room for a few of them.
const CHANNEL_BYTES: usize = size_of::<Channel>() + 768;

/// A connection in a channel.
#[derive(Debug)]
pub(super) struct Entry {
    channel: Arc<str>,
    pub(super) connection: ConnectionId,
    user: Arc<str>,
    /// When the connection opened, in milliseconds since the Unix epoch.
    pub(super) connected_ms: u64,
    /// Any JSON value.
    pub(super) metadata: Option<Arc<str>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.user.len() + self.metadata.as_ref().map_or(0, |metadata| metadata.len())
    }
}

/// Who comes.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) connection: ConnectionId,
    pub(crate) user: Box<str>,
    pub(crate) connected_ms: u64,
    pub(crate) metadata: Metadata,
}

/// What becomes of the metadata that is shown of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Metadata {
    /// It stays, if there is any.
    Keep,
    /// Any JSON value takes its place.
    Set(Arc<str>),
    /// Whoever has said it says it no more.
    Clear,
}

impl Metadata {
    fn after(self, before: Option<&Entry>) -> Option<Arc<str>> {
        match self {
            Self::Keep => before.and_then(|before| before.metadata.clone()),
            Self::Set(metadata) => Some(metadata),
            Self::Clear => None,
        }
    }
}

/// What has changed in a channel since it was last told: users, each of them once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Those who have come, with their metadata: the first of them.
    pub(super) joined: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// How many have come.
    pub(super) joined_count: usize,
    /// Those who have gone: the first of them.
    pub(super) left: Vec<Arc<str>>,
    /// How many have gone.
    pub(super) left_count: usize,
    /// Who is there now.
    pub(super) user_count: usize,
    /// How often somebody has come or gone, those among them who were back before this was told.
    pub(super) steps: u64,
}

/// A part of the users of a channel.
#[derive(Debug, Default)]
pub(super) struct Part<'t> {
    pub(super) users: Vec<(&'t Arc<str>, Vec<&'t Entry>)>,
    /// Whether there are more behind them.
    pub(super) more: bool,
    pub(super) user_count: usize,
    pub(super) connection_count: usize,
}

/// The channels whose home a core is.
#[derive(Debug)]
pub(super) struct Table {
    entries: slab::Slab<Entry>,
    channels: HashMap<Arc<str>, Channel, RandomState>,
    /// Channels that have something to tell, and when, the earliest first.
    due: VecDeque<(Duration, Arc<str>)>,
    /// Between two events of a channel.
    interval: Duration,
    room: Room,
    /// The place that the next look at connections begins with.
    looked_at: usize,
}

#[derive(Debug, Default)]
struct Channel {
    connections: HashMap<ConnectionId, usize, RandomState>,
    /// By name, so that a list can be read a part at a time: places of their entries, the oldest first.
    users: BTreeMap<Arc<str>, Vec<usize>>,
    /// Of whom has been told what holds no more.
    changed: HashSet<Arc<str>, RandomState>,
    steps: u64,
}

impl Table {
    pub(super) fn new(interval: Duration, room: Room) -> Self {
        Self {
            entries: slab::Slab::new(),
            channels: HashMap::default(),
            due: VecDeque::new(),
            interval,
            room,
            looked_at: 0,
        }
    }

    /// Connections in channels: one in two channels is two.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of heap, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.room.taken()
    }

    /// Somebody comes, or is there and has another name or other metadata. `false`: there is no room.
    pub(super) fn enter(&mut self, channel: &str, arrival: Arrival, announced: bool, now: Duration) -> bool {
        let Arrival { connection, user, connected_ms, metadata } = arrival;
        let before = self.channels.get(channel).and_then(|channel| channel.connections.get(&connection).copied());
        let metadata = metadata.after(before.map(|place| &self.entries[place]));
        let (name, user) = self.names(channel, user);
        let entry = Entry { channel: name, connection, user, connected_ms, metadata };
        let freed = before.map_or(0, |place| self.entries[place].bytes());
        let is_first = self.channels.get(channel).is_none_or(|channel| channel.connections.is_empty());
        let of_channel = if is_first { CHANNEL_BYTES + channel.len() } else { 0 };
        // Before anything else: who gets no other name keeps the one that it has.
        if !self.room.exchange(freed, of_channel + entry.bytes()) {
            if let Some(place) = before {
                self.outdate(place, entry.metadata.as_deref());
            }
            return false;
        }
        match before {
            Some(place) if self.entries[place].user == entry.user => self.entries[place] = entry,
            Some(_) => {
                self.remove(channel, connection, announced, now);
                self.add(entry, announced, now);
            }
            None => self.add(entry, announced, now),
        }
        true
    }

    /// Somebody goes, if it is there.
    pub(super) fn leave(&mut self, channel: &str, connection: ConnectionId, announced: bool, now: Duration) {
        let Some(entry) = self.remove(channel, connection, announced, now) else { return };
        let is_last = self.channels.get(channel).is_some_and(|channel| channel.connections.is_empty());
        let of_channel = if is_last { CHANNEL_BYTES + channel.len() } else { 0 };
        self.room.give_back(of_channel + entry.bytes());
        self.forget_if_empty(channel);
    }

    /// There is no room for what is said of somebody by now: at least what does not hold any more is not shown.
    fn outdate(&mut self, place: usize, metadata: Option<&str>) {
        if let Some(before) = self.entries[place].metadata.take_if(|before| metadata != Some(&**before)) {
            self.room.give_back(before.len());
        }
    }

    /// Takes out an entry, whose room is still taken.
    fn remove(&mut self, channel: &str, connection: ConnectionId, announced: bool, now: Duration) -> Option<Entry> {
        let state = self.channels.get_mut(channel)?;
        let place = state.connections.remove(&connection)?;
        let entry = self.entries.remove(place);
        if let Some(places) = state.users.get_mut(&entry.user) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                state.users.remove(&entry.user);
                self.step(&entry.channel, &entry.user, announced, now);
            }
        }
        Some(entry)
    }

    /// Takes what a channel has to tell, if the time for it has come; `users_max` are named of those who have come, and
    /// of those who have gone. It has told nothing if all is as it was.
    pub(super) fn take_due(&mut self, users_max: usize, now: Duration) -> Option<(Arc<str>, Changes)> {
        let (_, name) = self.due.pop_front_if(|(due, _)| *due <= now)?;
        let channel = self.channels.get_mut(&name).expect("what has something to tell is kept");
        let mut changes = Changes {
            user_count: channel.users.len(),
            steps: std::mem::take(&mut channel.steps),
            ..Changes::default()
        };
        for user in std::mem::take(&mut channel.changed) {
            match channel.users.get(&user).and_then(|places| places.first()) {
                Some(place) => {
                    changes.joined_count += 1;
                    if changes.joined.len() < users_max {
                        changes.joined.push((user, self.entries[*place].metadata.clone()));
                    }
                }
                None => {
                    changes.left_count += 1;
                    if changes.left.len() < users_max {
                        changes.left.push(user);
                    }
                }
            }
        }
        self.forget_if_empty(&name);
        Some((name, changes))
    }

    /// When the next channel has something to tell.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.front().map(|(due, _)| *due)
    }

    /// Users of a channel behind a name, so many at most, and no more of them than connections of so many bytes.
    pub(super) fn part(&self, channel: &str, after: Option<&str>, users_max: usize, bytes_max: usize) -> Part<'_> {
        let Some(channel) = self.channels.get(channel) else { return Part::default() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = channel.users.range::<str, _>((from, Bound::Unbounded));
        let (mut users, mut bytes) = (Vec::new(), 0);
        let mut more = false;
        for (user, places) in behind.by_ref() {
            let entries: Vec<_> = places.iter().map(|place| &self.entries[*place]).collect();
            bytes += entries.iter().map(|entry| entry.bytes()).sum::<usize>();
            // At least one, or else nobody would get any further.
            more = users.len() == users_max || bytes > bytes_max && !users.is_empty();
            if more {
                break;
            }
            users.push((user, entries));
        }
        Part { users, more, user_count: channel.users.len(), connection_count: channel.connections.len() }
    }

    /// Connections of the next places, so many of them, with their channels.
    pub(super) fn look_at(&mut self, places: usize) -> Vec<(Arc<str>, ConnectionId)> {
        let mut found = Vec::new();
        for _ in 0..places.min(self.entries.capacity()) {
            if let Some(entry) = self.entries.get(self.looked_at) {
                found.push((Arc::clone(&entry.channel), entry.connection));
            }
            self.looked_at = (self.looked_at + 1) % self.entries.capacity();
        }
        found
    }

    /// The names as they are kept already, if they are.
    fn names(&self, channel: &str, user: Box<str>) -> (Arc<str>, Arc<str>) {
        match self.channels.get_key_value(channel) {
            Some((name, state)) => {
                let known = state.users.get_key_value(&*user).map(|(user, _)| Arc::clone(user));
                (Arc::clone(name), known.unwrap_or_else(|| user.into()))
            }
            None => (channel.into(), user.into()),
        }
    }

    fn add(&mut self, entry: Entry, announced: bool, now: Duration) {
        let (name, user, connection) = (Arc::clone(&entry.channel), Arc::clone(&entry.user), entry.connection);
        let place = self.entries.insert(entry);
        let channel = self.channels.entry(Arc::clone(&name)).or_default();
        channel.connections.insert(connection, place);
        let places = channel.users.entry(Arc::clone(&user)).or_default();
        places.push(place);
        if places.len() == 1 {
            self.step(&name, &user, announced, now);
        }
    }

    /// A user has come or gone: to be told if that is announced, or to be told no more if it takes back what was to be
    /// told.
    fn step(&mut self, name: &Arc<str>, user: &Arc<str>, announced: bool, now: Duration) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if !announced {
            // Events may come back before that is due.
            channel.changed.remove(user);
            return;
        }
        if channel.steps == 0 {
            self.due.push_back((now + self.interval, Arc::clone(name)));
        }
        channel.steps += 1;
        if !channel.changed.remove(user) {
            channel.changed.insert(Arc::clone(user));
        }
    }

    fn forget_if_empty(&mut self, name: &str) {
        let is_empty = |channel: &Channel| channel.connections.is_empty() && channel.steps == 0;
        if self.channels.get(name).is_some_and(is_empty) {
            self.channels.remove(name);
        }
        if self.channels.is_empty() {
            self.channels.shrink_to_fit();
            self.entries.shrink_to_fit();
            self.looked_at = 0;
        }
    }
}

#[cfg(test)]
mod tests;
