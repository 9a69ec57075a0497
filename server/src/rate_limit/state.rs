//! What is remembered of one sender.

/// What an [`Algorithm`](super::Algorithm) remembers of one sender: 16 bytes, which it alone can read. The default is
/// a sender that has sent nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub(super) [u64; 2]);

const _: () = assert!(size_of::<State>() <= 16, "a million senders: every byte is a megabyte");
