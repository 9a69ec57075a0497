//! Every bound of the engine: its unit is in its name, its reason beside it.
//!
//! What an application may want to change is a field of [`Limits`]; what follows from the kernel or
//! from the layout of an identifier is a constant. Relations between them are asserted when the
//! crate is compiled.

use std::time::Duration;

use crate::id::ConnectionId;

/// Connections that one core can name: 24 bits of [`ConnectionId`].
pub const CONNECTIONS_PER_CORE_MAX: u32 = 1 << ConnectionId::FIELD_BITS;

/// Cores of one engine. The interest table has a bit for each.
pub const CORES_MAX: usize = 64;

/// Submission entries of a data ring. A turn that needs more submits in the middle.
pub const SUBMISSION_ENTRIES: u32 = 1024;

/// Completion entries of a data ring. Past it the kernel keeps completions in a list of its own
/// (they are not lost), which costs an allocation each, and ends multishot requests.
pub const COMPLETION_ENTRIES: u32 = 8192;

/// Direct descriptors of a ring beyond the connections that it may hold: for those that are one too many,
/// to be accepted and closed at once. Without any the accept fails and rests until the next tick.
pub const SOCKETS_SPARE: u32 = 256;

/// Completions that one turn handles before it sends what they caused.
pub const TURN_COMPLETIONS_MAX: usize = 1024;

/// Completions that one `io_uring_enter` is asked for once a turn has come back full. The kernel's
/// own cap is 20 (`IO_LOCAL_TW_DEFAULT_MAX`, Linux 6.13), which overlaps best with the peer at rest
/// and drags when a thousand sockets speak at once.
pub const REAP_MAX: u32 = 256;

/// Bytes of one receive buffer. Small messages touch only its first cache lines; a large one costs
/// a completion per buffer.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

/// Receive buffers of one core: 4 MiB of address space, preallocated. A buffer is held only from
/// its completion to the end of the turn, or while an echo is sent straight out of it.
pub const RECEIVE_BUFFERS: u16 = 256;

/// Messages within one heartbeat interval that promote a connection to a multishot receive.
pub const HOT_MESSAGES: u16 = 8;

/// Messages within one heartbeat interval below which a hot connection is demoted again.
pub const QUIET_MESSAGES: u16 = 2;

/// Cancels per second and core, for demotions. A cancel costs up to 226 µs with 400,000 requests
/// armed, so that 40 of them stay under one percent of a core.
pub const CANCELS_PER_SECOND_MAX: u32 = 40;

/// Bytes that leave in one send: what one turn has for one connection is joined up to here, and what is larger
/// leaves in several. The kernel reports a send only when all of it has left, and until then it can't be told
/// whether the peer reads.
pub const CORK_BYTES_MAX: usize = 64 * 1024;

/// Bytes that the kernel takes for a connection beyond those that are on their way (`TCP_NOTSENT_LOWAT`; it asks
/// for more when half of them have gone). Without this bound it takes megabytes (`net.ipv4.tcp_wmem`, in `tcp(7)`)
/// for a peer that reads slowly, and shows that some of them have left only when a third has: too late to tell
/// it from a peer that has gone.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Payload bytes from which a shared frame is queued by itself and not copied into a joined send.
pub const JOIN_COPY_BYTES_MAX: usize = 4 * 1024;

/// Entries in one lane of the mesh; an entry is one turn's batch for one core.
pub const LANE_ENTRIES: usize = 128;

/// Batches that wait on the sending core for a full lane. Past it a publication to that core is
/// refused and counted in `mesh_refused`.
pub const LANE_BACKLOG_MAX: usize = 65_536;

/// Commands from other threads that wait for one core. Past it the call returns
/// [`Overloaded`](crate::Overloaded).
pub const COMMANDS_MAX: usize = 65_536;

/// Commands that one turn takes, so that a flood of them does not starve the sockets.
pub const TURN_COMMANDS_MAX: usize = 1024;

/// Connections that one turn wakes at times that the handler has asked for: a million may have asked for the same.
pub const TURN_WAKES_MAX: usize = TURN_COMPLETIONS_MAX / 4;

/// Connections that one turn of a drain closes. Each causes three completions, so that with peers that answer at once
/// they end as fast as they are closed, and what a close needs is needed for few at a time.
pub const TURN_CLOSES_MAX: usize = TURN_COMPLETIONS_MAX / 4;

/// Close frames that a drain has out without an answer, on one core, as long as it has the time: they follow as
/// connections end. What the kernel hears no acknowledgement of it sends again, to all at the same time; of a crowd a host
/// drops most of that (`netdev_max_backlog` on loopback, the queue of a device), again and again.
pub const DRAIN_UNANSWERED_MAX: usize = 1024;

/// Completions of a turn in which little happens.
pub const CALM_COMPLETIONS_MAX: usize = 8;

/// Connections whose peers have gone that such a turn ends.
pub const CALM_LEAVING_MAX: usize = 64;

/// The same of a turn in which so many go that it does nothing but to take note of it.
pub const BUSY_LEAVING_MIN: usize = 2;

/// The same of a turn in which much else happens.
pub const BUSY_LEAVING_MAX: usize = TURN_COMPLETIONS_MAX / 4;

/// The part of a core's connections, numerator over denominator, from which those that have gone make room for others first.
pub const CROWDED_NUMERATOR: usize = 15;
/// See [`CROWDED_NUMERATOR`].
pub const CROWDED_DENOMINATOR: usize = 16;

/// Bytes of messages that are joined for a connection which has asked for it ([`Coalescing`](crate::Coalescing)). A larger
/// message leaves alone: the cost of a frame is nothing beside it.
pub const COALESCED_BYTES_MAX: usize = 16 * 1024;

/// Milliseconds of one tick of the timer wheel: the grain of every time-out.
pub const TICK_MS: u64 = 100;

/// Slots of the timer wheel. A deadline further off than a revolution waits for the next one.
pub const WHEEL_SLOTS: usize = 512;

/// Milliseconds by which the end of a connection without a heartbeat is put off while the core is late itself.
pub const PING_TIMEOUT_DEFERRED_MS: u64 = 1000;

/// Empty send buffers that one core keeps for reuse.
pub const SEND_BUFFERS_KEPT_MAX: usize = 256;

/// Capacity of a send buffer above which it is freed instead of kept.
pub const SEND_BUFFER_KEPT_BYTES_MAX: usize = 16 * 1024;

/// The part of what the cgroup's memory limit leaves, or of the memory that the host has available, that is the budget
/// if none is set. The rest is for what is not counted: the allocator's own cost, and data in the kernel's buffers.
pub const BUDGET_PERCENT: u64 = 80;

/// New connections are let in while a core holds less than this part of its share of the budget, numerator over
/// denominator: the rest is for those that are there.
pub const MEMORY_ADMISSION_NUMERATOR: u64 = 15;
/// See [`MEMORY_ADMISSION_NUMERATOR`].
pub const MEMORY_ADMISSION_DENOMINATOR: u64 = 16;

/// Bytes of output or input below which a connection is not closed for them, however short memory is.
pub const SHED_BYTES_MIN: usize = 4 * 1024;

/// Slots that one turn looks at for connections to be closed for want of memory: some 50 µs.
pub const SHED_SLOTS_MAX: usize = 4096;

/// Seconds after which a client is asked to try again that was turned away, for want of memory or because too many
/// came at once: from this many…
pub const RETRY_AFTER_SECONDS_MIN: u32 = 5;
/// … to this many.
pub const RETRY_AFTER_SECONDS_MAX: u32 = 30;

/// When a client that is turned away is to try again, in seconds: different for each, so that they do not come back all
/// at once.
#[must_use]
pub const fn retry_after_seconds(id: ConnectionId) -> u32 {
    // Fibonacci hashing of a number that each connection has for itself.
    let mixed = id.generation().wrapping_mul(2_654_435_769) >> 16;
    RETRY_AFTER_SECONDS_MIN + mixed % (RETRY_AFTER_SECONDS_MAX - RETRY_AFTER_SECONDS_MIN + 1)
}

/// Bytes of the header in which a proxy says whose a connection is. Addresses take 52 of them at most; proxies that
/// speak TLS add names of certificates.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Milliseconds between two trims of a core's pools: what has not been needed for so long is freed.
pub const TRIM_INTERVAL_MS: u64 = 1000;

/// Entries of a list of one turn that it keeps room for; a burst's larger ones go back.
pub const LIST_ENTRIES_KEPT_MAX: usize = 1024;

/// Busy turns after which the worker lets the other tasks of its runtime run.
pub const BUSY_TURNS_MAX: u32 = 64;

const _: () = {
    assert!(COMPLETION_ENTRIES >= SUBMISSION_ENTRIES, "a full submission must find room for its completions");
    assert!(RECEIVE_BUFFERS.is_power_of_two(), "the kernel's buffer ring is indexed by a mask");
    assert!(RECEIVE_BUFFER_BYTES.is_multiple_of(4096), "buffers are whole pages");
    assert!(QUIET_MESSAGES < HOT_MESSAGES, "between the two a connection keeps its class");
    assert!(JOIN_COPY_BYTES_MAX <= CORK_BYTES_MAX, "what is copied must fit a joined send");
    assert!(RETRY_AFTER_SECONDS_MIN <= RETRY_AFTER_SECONDS_MAX, "a span of seconds");
    assert!(MEMORY_ADMISSION_NUMERATOR < MEMORY_ADMISSION_DENOMINATOR, "a part");
    assert!(REAP_MAX as usize <= TURN_COMPLETIONS_MAX, "one reap fits one turn");
};

/// What happens to a connection that reads more slowly than it is sent to, once its outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The connection is closed with 1013 (try again later). Nothing is lost in silence.
    #[default]
    Disconnect,
    /// The new message is dropped and counted.
    DropNewest,
    /// The oldest message that has not begun to leave is dropped and counted.
    DropOldest,
}

/// The bounds that an application can set. Times are rounded up to [`TICK_MS`]; one of more than 13
/// years, such as [`Duration::MAX`], never comes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of one core; more are closed at once after the accept. `None`: as many as descriptors, the
    /// ring's table and the memory budget allow; [`Running::room`](crate::Running::room) says which of them binds.
    pub connections_per_core_max: Option<u32>,
    /// Bytes that all cores together may hold, by the count of [`Memory`](crate::Memory), the kernel's share
    /// included; each core has an equal part. When 15/16 of it are used up, upgrades are answered with 503 and
    /// `Retry-After`; at all of it connections are closed with 1013, first those for whom most waits to be read, then
    /// those of whose messages most has come in part. Others stay, and none is closed for less than
    /// [`SHED_BYTES_MIN`]. `None`: [`BUDGET_PERCENT`] of what the cgroup's memory limit leaves
    /// or of what the host has available at the start, whichever is less.
    pub memory_budget_bytes: Option<u64>,
    /// Upgrades of the whole engine in a second, of which each core has an equal part, and a second's worth at once.
    /// Beyond it: 503, to be tried again after some seconds ([`retry_after_seconds`]). After a restart all clients come
    /// back at once, and each costs much more to let in than to keep. `None`, the default: as many as come.
    pub upgrades_per_second_max: Option<u32>,
    /// Bytes of one message, all its fragments together, that is taken whole. Beyond it: close with 1009, as soon
    /// as a header announces it.
    ///
    /// A message that does not lie in one receive buffer as a whole is put together in a buffer of its own, which
    /// grows with what has come and not with what is announced: to at most twice what has come (four times, while
    /// that is no more than [`RECEIVE_BUFFER_BYTES`]; 512 bytes at least) and never beyond this bound. While it
    /// moves to a larger place the old one is there, too, so that a connection never holds more than twice the
    /// bound. A compressed message is kept as it came until its last byte has come, and only then decompressed, up
    /// to the bound: while that takes, both are there.
    pub message_bytes_max: usize,
    /// Bytes of one message that the handler takes in pieces ([`Delivery::Pieces`](crate::Delivery::Pieces)).
    /// Beyond it: close with 1009. Such a message costs less than 512 bytes, whatever its size, and a decompressor
    /// (48 kB) if it is compressed. 0, the default: every message is taken whole, and the handler is not asked.
    pub pieces_bytes_max: usize,
    /// Fragments of one message, taken whole or in pieces. Beyond it: close with 1009. A message of 64 MiB in
    /// fragments of one byte needs 67,108,864.
    pub fragments_max: u32,
    /// Bytes of the request head, from `GET` to the empty line. Beyond it: 431.
    pub head_bytes_max: usize,
    /// Bytes that wait for one connection to read. At the bound [`Self::slow_consumer`] decides. A message that
    /// finds less waiting is taken whole, with those that it was joined with ([`CORK_BYTES_MAX`]): what waits is
    /// less than this and one message.
    /// A connection is not read from while half of it is taken, so that what a peer causes itself, one
    /// message for each of its own, always finds room if half is more than [`Self::message_bytes_max`] and
    /// [`RECEIVE_BUFFER_BYTES`] together.
    pub outbox_bytes_max: usize,
    /// Messages that wait for one connection to read. At the bound [`Self::slow_consumer`] decides, as for bytes.
    pub outbox_messages_max: usize,
    /// What happens at the two bounds of the outbox. Control frames are exempt.
    pub slow_consumer: SlowConsumer,
    /// Topics that one connection may be subscribed to. Beyond it `subscribe` returns an error.
    pub subscriptions_max: u32,
    /// Bytes of a topic's name. Beyond it `subscribe` returns an error.
    pub topic_bytes_max: usize,
    /// From the accept to the last byte of the request head. Beyond it the connection is cut.
    pub handshake_timeout: Duration,
    /// Between two pings; after one that a pause of the process has made late, from a half to one and a half of it, so
    /// that pings stay spread over the interval. A connection is cut that between two pings has neither sent anything nor taken about
    /// [`UNSENT_BYTES_MAX`] of what waits for it: its pong may wait behind a large message, or the ping behind one.
    pub ping_interval: Duration,
    /// From a sent close frame to the end of the connection. Beyond it the connection is cut.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_core_max: None,
            memory_budget_bytes: None,
            upgrades_per_second_max: None,
            message_bytes_max: 1024 * 1024,
            pieces_bytes_max: 0,
            fragments_max: 131_072,
            head_bytes_max: 8 * 1024,
            outbox_bytes_max: 1024 * 1024,
            outbox_messages_max: 16 * 1024,
            slow_consumer: SlowConsumer::default(),
            subscriptions_max: 1024,
            topic_bytes_max: 256,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
        }
    }
}
