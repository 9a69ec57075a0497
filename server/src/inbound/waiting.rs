//! Bytes of messages that wait, by core: counted from when they begin to wait until the last who has them lets go of
//! them. That may be the control thread, long after their connection has gone.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::Bytes;

/// Bytes that wait on one core. Written where a message begins to wait and where it waits no more, never with another one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WaitingBytes(AtomicUsize);

impl WaitingBytes {
    pub(crate) fn read(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    on: Arc<WaitingBytes>,
}

impl Charge {
    pub(crate) fn new(bytes: usize, on: &Arc<WaitingBytes>) -> Self {
        on.add(bytes);
        Self { bytes, on: Arc::clone(on) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.on.subtract(self.bytes);
    }
}

/// A message that waits, once in memory for all who need it meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct WaitingText(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    text: Box<str>,
    _charge: Charge,
}

impl WaitingText {
    pub(crate) fn new(text: &str, on: &Arc<WaitingBytes>) -> Self {
        Self(Arc::new(Counted { text: text.into(), _charge: Charge::new(size_of::<Counted>() + text.len(), on) }))
    }

    /// The same bytes, for whoever sends some of them.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }
}

impl Deref for WaitingText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl AsRef<[u8]> for WaitingText {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_in_memory_once_and_counted_until_the_last_has_let_go() {
        let waiting = Arc::new(WaitingBytes::default());
        let text = WaitingText::new("{\"data\":7}", &waiting);
        let counted = waiting.read();
        assert!((10..200).contains(&counted), "{counted}");
        let data = text.bytes().slice(8..9);
        assert_eq!((&*text, &data[..], waiting.read()), ("{\"data\":7}", &b"7"[..], counted));
        assert_eq!(data.as_ptr(), text[8..].as_ptr());
        drop(text);
        assert_eq!(waiting.read(), counted, "a part keeps the whole");
        drop(data);
        assert_eq!(waiting.read(), 0);
    }
}
