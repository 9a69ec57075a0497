//! The end of what one side has said: all that the next message can refer back to.

/// The last bytes of the plaintext of a direction, as many as its window has.
///
/// It grows with what is said and takes no memory before.
#[derive(Clone, Debug, Default)]
pub struct Window {
    bytes: Vec<u8>,
}

impl Window {
    /// An empty window, which takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Whether nothing was said yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, the oldest first.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes of heap it takes.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds what was said, and forgets what is more than `bytes_max` back.
    pub fn slide(&mut self, said: &[u8], bytes_max: usize) {
        let said = &said[said.len().saturating_sub(bytes_max)..];
        let surplus = (self.bytes.len() + said.len()).saturating_sub(bytes_max);
        self.bytes.drain(..surplus);
        let needed = self.bytes.len() + said.len();
        if needed > self.bytes.capacity() {
            let doubled = needed.max(2 * self.bytes.capacity()).min(bytes_max);
            self.bytes.reserve_exact(doubled - self.bytes.len());
        }
        self.bytes.extend_from_slice(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more_memory_than_for_them() {
        let text: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        for piece in [1, 7, 255, 256, 257, 1000] {
            let mut window = Window::new();
            let mut said = 0;
            for bytes in text.chunks(piece) {
                window.slide(bytes, 256);
                said += bytes.len();
                assert_eq!(window.as_slice(), &text[said.saturating_sub(256)..said], "pieces of {piece}");
                assert!(window.heap_bytes() <= 256);
            }
        }
    }

    #[test]
    fn a_window_of_nothing_keeps_nothing() {
        let mut window = Window::new();
        window.slide(b"said", 0);
        assert!(window.is_empty());
        assert_eq!(window.heap_bytes(), 0);
    }
}
