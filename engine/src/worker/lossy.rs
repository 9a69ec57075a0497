//! The part of an outbox that may be dropped by the policies of topics, and the gaps that are left of what was.

use hashbrown::HashMap;

/// Where it is in the queue of an outbox. Entries go by numbers, which they keep while others before and behind them
/// come and go: that of the front, and one more for each entry behind it.
#[derive(Debug, Default)]
pub(super) struct Lossy {
    front: u64,
    /// No message that may be dropped has a lower number.
    oldest: u64,
    /// Bytes of messages that may be dropped, and of gaps.
    pub(super) bytes: usize,
    /// Messages that may be dropped.
    pub(super) messages: usize,
    pub(super) gaps: usize,
    /// The numbers of messages by topic and key: of each one waits.
    keys: HashMap<(u64, u64), u64, foldhash::fast::RandomState>,
}

impl Lossy {
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.keys.allocation_size()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0 && self.gaps == 0
    }

    /// Where to look for the oldest message: there is none before.
    pub(super) fn oldest_place(&self) -> usize {
        usize::try_from(self.oldest.saturating_sub(self.front)).expect("a place in the queue")
    }

    /// Where the message with a key waits.
    pub(super) fn place_of(&self, key: (u64, u64)) -> Option<usize> {
        let number = self.keys.get(&key)?;
        Some(usize::try_from(number - self.front).expect("a place in the queue"))
    }

    pub(super) fn note_come(&mut self, place: usize, key: Option<(u64, u64)>, bytes: usize, messages: u32) {
        let number = self.front + place as u64;
        if self.messages == 0 {
            self.oldest = number;
        }
        self.bytes += bytes;
        self.messages += messages as usize;
        if let Some(key) = key {
            self.keys.insert(key, number);
        }
    }

    pub(super) fn note_gone(&mut self, key: Option<(u64, u64)>, bytes: usize, messages: u32) {
        self.bytes -= bytes;
        self.messages -= messages as usize;
        if let Some(key) = key {
            self.keys.remove(&key);
        }
    }

    /// The entry at the front has gone.
    pub(super) const fn note_pop(&mut self) {
        self.front += 1;
    }

    /// At this place and before it nothing is left that may be dropped.
    pub(super) fn note_dropped(&mut self, place: usize) {
        self.oldest = self.oldest.max(self.front + place as u64 + 1);
    }
}
