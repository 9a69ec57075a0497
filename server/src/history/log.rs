//! The last publications of one channel, in order and without a hole.

use std::collections::VecDeque;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

/// A place in a channel's publications: which line of them, and the last one that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The line. Another one has begun where a channel was forgotten, or the server started anew: offsets of two lines
    /// say nothing about each other.
    pub(crate) epoch: Epoch,
    /// The number of a publication, from 1; 0 is before the first.
    pub(crate) offset: u64,
}

/// Names a line of publications: to clients a text that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) u64);

impl Epoch {
    /// Of no line.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// From where on publications are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Behind a place.
    Position(Position),
    /// From a time on, in milliseconds since the Unix epoch. What was published in that very millisecond is among
    /// them: whoever has seen part of it can tell by the offsets.
    Time(u64),
    /// All that is kept.
    Kept,
}

/// What there is of what is wanted.
#[derive(Debug)]
pub(crate) struct Found<'l> {
    /// Whether nothing is missing.
    pub(crate) complete: bool,
    entries: std::collections::vec_deque::Iter<'l, Entry>,
    /// The offset of the last one.
    last: u64,
}

impl<'l> Found<'l> {
    /// Of what is not kept.
    pub(super) fn nothing() -> Self {
        Self { complete: false, entries: std::collections::vec_deque::Iter::default(), last: 0 }
    }

    /// Those of them that have a lower offset.
    pub(crate) fn before(mut self, offset: u64) -> Self {
        let behind = (self.last + 1).saturating_sub(offset);
        if let Some(last) = behind.checked_sub(1) {
            self.entries.nth_back(usize::try_from(last).unwrap_or(usize::MAX));
            self.last = self.last.saturating_sub(behind);
        }
        self
    }

    /// The messages, the oldest first.
    pub(crate) fn texts(self) -> impl DoubleEndedIterator<Item = &'l Arc<str>> {
        self.entries.map(|entry| &entry.text)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[derive(Debug)]
struct Entry {
    published_ms: u64,
    /// The message as its receivers have got it.
    text: Arc<str>,
}

/// What a publication takes beside its text: its entry, the allocator's share, and its place in the order of all.
const ENTRY_BYTES: usize = size_of::<Entry>() + 32 + 24;

/// Publications of one channel.
#[derive(Debug)]
pub(crate) struct Log {
    epoch: Epoch,
    /// Of the last publication.
    offset: u64,
    entries: VecDeque<Entry>,
    /// When the last one was published that is not kept any more; what was before the log is not known either.
    dropped_ms: u64,
    last_ms: u64,
}

impl Log {
    pub(crate) const fn new(epoch: Epoch, now_ms: u64) -> Self {
        Self { epoch, offset: 0, entries: VecDeque::new(), dropped_ms: now_ms, last_ms: now_ms }
    }

    /// The place of the last publication.
    pub(crate) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }

    /// The place that the next publication is going to have, and the time that it is to bear: never before the last.
    pub(crate) fn next(&self, now_ms: u64) -> (Position, u64) {
        (Position { offset: self.offset + 1, ..self.position() }, now_ms.max(self.last_ms))
    }

    /// Adds a publication at [`Self::next`], and returns what it takes.
    pub(crate) fn push(&mut self, text: &str, now_ms: u64) -> usize {
        let (Position { offset, .. }, published_ms) = self.next(now_ms);
        self.offset = offset;
        self.last_ms = published_ms;
        self.entries.push_back(Entry { published_ms, text: text.into() });
        ENTRY_BYTES + text.len()
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the oldest one that is kept was published, and its offset.
    pub(crate) fn oldest(&self) -> Option<(u64, u64)> {
        let oldest = self.entries.front()?;
        Some((oldest.published_ms, self.offset + 1 - self.entries.len() as u64))
    }

    /// When something was last published.
    pub(crate) const fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Gives up the oldest one, and returns what it took; 0 if there is none.
    pub(crate) fn drop_oldest(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        self.dropped_ms = entry.published_ms;
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        ENTRY_BYTES + entry.text.len()
    }

    /// The publications since a place or a time.
    pub(crate) fn since(&self, since: Since) -> Found<'_> {
        let kept = self.entries.len();
        let (complete, first) = match since {
            Since::Position(seen) => {
                let behind = self.offset.checked_sub(seen.offset).filter(|_| seen.epoch == self.epoch);
                // Of another line nothing was seen, and what it had is not known.
                let missed = behind.and_then(|behind| usize::try_from(behind).ok());
                (missed.is_some_and(|missed| missed <= kept), kept - missed.unwrap_or(kept).min(kept))
            }
            Since::Kept => (true, 0),
            Since::Time(since_ms) => {
                (self.dropped_ms < since_ms, self.entries.partition_point(|entry| entry.published_ms < since_ms))
            }
        };
        Found { complete, entries: self.entries.range(first..), last: self.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many publications, one in each millisecond from 1,001 on, of which so many are kept.
    fn log(published: u64, kept: usize) -> Log {
        let mut log = Log::new(Epoch(7), 1000);
        for number in 1..=published {
            log.push(&number.to_string(), 1000 + number);
            while log.len() > kept {
                assert!(log.drop_oldest() > 0);
            }
        }
        log
    }

    fn after(offset: u64) -> Since {
        Since::Position(Position { epoch: Epoch(7), offset })
    }

    fn found(log: &Log, since: Since) -> (bool, Vec<&str>) {
        let found = log.since(since);
        (found.complete, found.texts().map(|text| &**text).collect())
    }

    #[test]
    fn what_was_missed_is_found_or_known_to_be_gone() {
        let log = log(10, 4);
        assert_eq!(found(&log, after(10)), (true, vec![]));
        assert_eq!(found(&log, after(8)), (true, vec!["9", "10"]));
        assert_eq!(found(&log, after(6)), (true, vec!["7", "8", "9", "10"]));
        assert_eq!(found(&log, after(5)), (false, vec!["7", "8", "9", "10"]));
        assert_eq!(found(&log, after(0)), (false, vec!["7", "8", "9", "10"]));
        assert_eq!(log.oldest(), Some((1007, 7)));
    }

    #[test]
    fn what_is_missing_is_found_before_what_was_found() {
        let log = log(10, 4);
        let before = |since, offset| -> (bool, Vec<&str>) {
            let found = log.since(since).before(offset);
            (found.complete, found.texts().map(|text| &**text).collect())
        };
        assert_eq!(before(Since::Kept, 9), (true, vec!["7", "8"]));
        assert_eq!(before(after(7), 10), (true, vec!["8", "9"]));
        assert_eq!(before(after(3), 8), (false, vec!["7"]));
        for none in [0, 1, 6, 7] {
            assert_eq!(before(Since::Kept, none), (true, vec![]), "{none}");
        }
        for all in [11, 12, u64::MAX] {
            assert_eq!(before(after(8), all), (true, vec!["9", "10"]), "{all}");
        }
        assert_eq!(before(after(9), 5), (true, vec![]));
        assert_eq!(log.since(Since::Kept).before(10).before(9).len(), 2);
    }

    #[test]
    fn a_place_that_never_was_is_not_recovered_from() {
        let log = log(10, 4);
        assert_eq!(found(&log, after(11)), (false, vec!["7", "8", "9", "10"]));
        assert!(!found(&log, after(u64::MAX)).0);
        let elsewhere = Since::Position(Position { epoch: Epoch(8), offset: 10 });
        assert_eq!(found(&log, elsewhere), (false, vec!["7", "8", "9", "10"]));
    }

    #[test]
    fn times_find_what_was_published_from_then_on() {
        let log = log(10, 4);
        assert_eq!(found(&log, Since::Time(1011)), (true, vec![]));
        assert_eq!(found(&log, Since::Time(1010)), (true, vec!["10"]));
        assert_eq!(found(&log, Since::Time(1007)), (true, vec!["7", "8", "9", "10"]));
        assert!(!found(&log, Since::Time(1006)).0, "the sixth was published then, and is gone");
        assert!(!found(&log, Since::Time(0)).0);
    }

    #[test]
    fn an_empty_log_has_nothing_and_misses_nothing() {
        let log = log(0, 4);
        assert_eq!(found(&log, after(0)), (true, vec![]));
        assert_eq!(found(&log, Since::Time(1001)), (true, vec![]));
        assert_eq!(found(&log, Since::Time(999)), (false, vec![]), "what was before the log is not known");
        assert_eq!(log.oldest(), None);
    }

    #[test]
    fn time_never_runs_backwards_within_a_log() {
        let mut log = log(3, 9);
        log.push("4", 5);
        assert_eq!(log.last_ms(), 1003);
        assert_eq!(log.next(5), (Position { epoch: Epoch(7), offset: 5 }, 1003));
        assert_eq!(found(&log, Since::Time(1003)), (true, vec!["3", "4"]));
    }
}
