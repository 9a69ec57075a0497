//! Plain counters of each core, written by its worker alone and summed when they are read.

use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Stats {
            /// Each counter's name, what it counts, and its value.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }

        impl Sum for Stats {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::default(), |sum, one| Self { $($name: sum.$name + one.$name,)+ })
            }
        }

        /// Counters of one core, where other threads can read them.
        #[derive(Debug, Default)]
        pub(crate) struct CoreStats {
            $($name: AtomicU64,)+
        }

        impl CoreStats {
            /// The values at this moment, each for itself.
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }

            /// Makes the worker's own counters visible. Called by its worker alone, once a turn.
            pub(crate) fn publish(&self, stats: &Stats) {
                $(self.$name.store(stats.$name, Ordering::Relaxed);)+
            }
        }
    };
}

counters! {
    /// Connections that are accepted and not yet ended, those in the handshake among them.
    connections,
    /// Connections that are open: upgraded and not yet ended.
    connections_open,
    /// Open connections on a multishot receive.
    connections_hot,
    /// Connections accepted since the start.
    accepted,
    /// Accepts that failed, for want of descriptors or because the peer had gone.
    accepts_failed,
    /// Connections closed right after the accept, at `connections_per_core_max`.
    refused_full,
    /// Upgrades answered with 503 because the core's share of `memory_budget_bytes` was used up.
    refused_memory,
    /// Upgrades answered with 503 because the core's part of `upgrades_per_second_max` was used up.
    refused_pace,
    /// Connections cut because they began without a proxy's header, or came from no trusted proxy.
    refused_proxy,
    /// Upgrades.
    upgrades,
    /// Requests that were answered with an error.
    refused_requests,
    /// Messages received.
    messages_received,
    /// Messages handed to the kernel or to an outbox; one for each receiver.
    messages_sent,
    /// Messages compressed: one that many connections are sent, once for each size of window among them.
    compressions,
    /// Bytes of their frames before.
    compression_bytes_in,
    /// Bytes of their frames after.
    compression_bytes_out,
    /// Compressed messages received, each counted at its end.
    decompressions,
    /// Bytes of their payloads as they came.
    decompression_bytes_in,
    /// Bytes of their payloads, decompressed.
    decompression_bytes_out,
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Messages dropped at the bound of an outbox.
    messages_dropped,
    /// Messages replaced by newer ones of the same key while they waited in an outbox.
    messages_conflated,
    /// Messages sent joined with others, to connections that have asked for it.
    messages_coalesced,
    /// Gaps announced: places where messages were dropped of what a connection is sent.
    gaps_announced,
    /// Connections closed as slow consumers.
    closed_slow,
    /// Connections closed because they held the most when the core's share of `memory_budget_bytes` was used up.
    closed_memory,
    /// Connections closed for breaking the protocol or a limit.
    closed_protocol,
    /// Connections cut because nothing came between two heartbeats.
    closed_ping_timeout,
    /// Heartbeats found without an answer that were put off because the core had yet to read what has come.
    ping_timeouts_deferred,
    /// Connections cut in the handshake or the close handshake because time was up.
    closed_timeout,
    /// Heartbeats sent.
    pings_sent,
    /// Receives that had to wait for a buffer of the pool.
    buffers_exhausted,
    /// Demotions put off because `CANCELS_PER_SECOND_MAX` was reached.
    cancels_deferred,
    /// Turns in which a drain closed nobody: as many as may be were without an answer, or the rest was not due yet.
    drain_waits,
    /// Commands to another core refused because its lane and the backlog were full.
    mesh_refused,
    /// Topics on this core.
    topics,
    /// Turns of the worker.
    turns,
    /// Times that the worker had nothing to do and parked.
    parks,
}
