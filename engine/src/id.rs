//! Names of things: cores, connections, topics.

use std::fmt;

/// A worker, and the CPU that it is pinned to, counted from 0 in the order of the engine's cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The position of the core in tables that hold one entry per core.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One connection for as long as the process lives: 16 bits of core, 24 of slot, 24 of generation.
///
/// The generation counts what the core has accepted. So the identifier of a connection that has gone matches
/// another one only after 2^24 further accepts of the core, and then only if that one has the same slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Bits of the slot and of the generation.
    pub const FIELD_BITS: u32 = 24;
    const FIELD_MASK: u32 = (1 << Self::FIELD_BITS) - 1;

    /// Joins the three parts; only the lower 24 bits of `slot` and `generation` count.
    #[must_use]
    pub const fn new(core: CoreId, slot: u32, generation: u32) -> Self {
        Self(
            ((core.0 as u64) << (2 * Self::FIELD_BITS))
                | (((slot & Self::FIELD_MASK) as u64) << Self::FIELD_BITS)
                | (generation & Self::FIELD_MASK) as u64,
        )
    }

    /// The core that owns the connection.
    #[must_use]
    pub const fn core(self) -> CoreId {
        CoreId((self.0 >> (2 * Self::FIELD_BITS)) as u16)
    }

    /// The slot in its core's slab.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 24 bits")]
    pub const fn slot(self) -> u32 {
        (self.0 >> Self::FIELD_BITS) as u32 & Self::FIELD_MASK
    }

    /// Which user of the slot it is.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 24 bits")]
    pub const fn generation(self) -> u32 {
        self.0 as u32 & Self::FIELD_MASK
    }

    /// The identifier as a number, for wire formats and logs.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The inverse of [`Self::as_u64`]. Any number is an identifier; most match no connection.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.core().0, self.slot(), self.generation())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// A topic in the table of one core: a slot, reused once the topic has lost its last subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub u32);

impl TopicId {
    /// The position of the topic in its core's table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_keeps_its_three_parts() {
        let id = ConnectionId::new(CoreId(513), 0xab_cdef, 0x12_3456);
        assert_eq!((id.core(), id.slot(), id.generation()), (CoreId(513), 0xab_cdef, 0x12_3456));
        assert_eq!(ConnectionId::from_u64(id.as_u64()), id);
        assert_eq!(id.to_string(), "201-abcdef-123456");
    }
}
