//! The trace of a run: everything that crosses between the worker and its world, in order, as one number.

/// A hash of all that has been noted, in order.
#[derive(Default)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    shown: bool,
}

impl Trace {
    /// An empty trace. `shown`: every event is printed, to read what a seed does.
    pub(crate) fn new(shown: bool) -> Self {
        Self { shown, ..Self::default() }
    }

    /// Adds an event: what has happened, to which peer, and a number that belongs to it.
    pub(crate) fn note(&mut self, what: &'static str, peer: usize, number: u64) {
        self.events += 1;
        if self.shown {
            println!("{:6} {what:<16} {peer:3} {number}", self.events);
        }
        for byte in what.bytes() {
            self.mix(u64::from(byte));
        }
        self.mix(peer as u64);
        self.mix(number);
    }

    /// Adds the contents of what is received or sent.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// How many events there were. It grows when anything happens at all.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The number that stands for all of them.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// One round of FNV-1a, on words.
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}
