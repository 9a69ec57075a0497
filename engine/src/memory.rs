//! Bytes by class: what each core holds, counted by its worker and summed when it is read.
//!
//! What is counted is what was asked of the allocator, or mapped. Its own cost is not (mimalloc: about a tenth),
//! nor what there is once for a core or a process whatever it serves: rings, lanes, stacks, code. There is no class
//! for TLS as long as there is no TLS.
//!
//! Memory comes back. What a connection does not use any more is freed with it or goes to its core's pools; a pool
//! frees what it could do without for [`TRIM_INTERVAL_MS`](crate::limits::TRIM_INTERVAL_MS), and when nothing has
//! happened for as long, the rest. Whether the process shrinks by that is up to its allocator, which
//! [`Handler::on_trim`](crate::Handler::on_trim) may ask to. Receive buffers are resident from the start, so that no
//! message touches one for the first time. The slots of connections stay, as many as there were at one
//! time, until a core has none at all.
//!
//! The server `crore` asks mimalloc to return everything that is free, and keeps off huge pages, each of which stays
//! as a whole for a few bytes in use: three seconds after 1 MB from and to each of 100 connections its resident set
//! is within 1 % of what it was. `server/tests/memory.rs` holds it to 5 %.
//!
//! A count changes where memory is taken and given back, never with a message that finds room; what other threads
//! read is as old as the core's last tick ([`TICK_MS`](crate::limits::TICK_MS)).

use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! classes {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Bytes at one moment, by class.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Memory {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Memory {
            /// The name of each class, and its bytes.
            pub fn classes(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }

        impl Sum for Memory {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::default(), |sum, one| Self { $($name: sum.$name + one.$name,)+ })
            }
        }

        /// Bytes of one core, where other threads can read them.
        #[derive(Debug, Default)]
        pub(crate) struct CoreMemory {
            $($name: AtomicU64,)+
        }

        impl CoreMemory {
            /// The values at this moment, each for itself.
            pub(crate) fn read(&self) -> Memory {
                Memory { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }

            /// Makes the worker's own counts visible. Called by its worker alone, with each tick.
            pub(crate) fn publish(&self, memory: &Memory) {
                $(self.$name.store(memory.$name, Ordering::Relaxed);)+
            }
        }
    };
}

classes! {
    /// Slots of connections and of the timer wheel, as many as were in use at one time since there was none, without
    /// the handler's part of them; and the rare parts that some connections have.
    slab,
    /// Receive buffers: preallocated, whatever is received.
    receive_pool,
    /// Input that is not handled yet: messages, frames and request heads that have come in part, what a paused
    /// connection has sent, and the buffers that are kept for the next ones.
    partial,
    /// Output that has not left: in sends that the kernel works on and in outboxes, frames that several
    /// connections share once; and the buffers that are kept for the next ones.
    outbox,
    /// Topics, their names and subscribers, and the sets of topics of connections that have several. The
    /// reserve of tables is counted, although pages that were never touched take no memory.
    topics,
    /// Compressors, decompressors, and the windows of connections with context takeover.
    deflate,
    /// The handler's state: its part of the slots, and what [`Handler::memory_bytes`](crate::Handler::memory_bytes)
    /// reports.
    session,
    /// An estimate of what the kernel keeps for the connections: the sizes of its objects, as found at the start,
    /// times the connections. Data in its buffers is not in it (`net.ipv4.tcp_mem` bounds that, in `tcp(7)`).
    kernel,
}

/// Somebody whose bytes can be counted.
pub(crate) trait Holds {
    /// What it holds, by class.
    fn memory(&self) -> Memory;

    /// Messages that wait to be sent.
    fn outbox_messages(&self) -> usize;
}

impl Memory {
    /// Bytes of the process: all classes but the kernel's.
    #[must_use]
    pub fn user_bytes(&self) -> u64 {
        self.total_bytes() - self.kernel
    }

    /// Bytes of all classes: what [`Limits::memory_budget_bytes`](crate::Limits::memory_budget_bytes) bounds.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.classes().map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_and_summed_by_class() {
        let core = CoreMemory::default();
        let memory = Memory { slab: 1, outbox: 20, kernel: 300, ..Memory::default() };
        core.publish(&memory);
        assert_eq!(core.read(), memory);
        let sum: Memory = [core.read(), core.read()].into_iter().sum();
        assert_eq!((sum.slab, sum.outbox, sum.kernel), (2, 40, 600));
        assert_eq!((sum.user_bytes(), sum.total_bytes()), (42, 642));
        assert_eq!(sum.classes().find(|(name, _)| *name == "outbox"), Some(("outbox", 40)));
    }
}
