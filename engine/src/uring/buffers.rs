//! The pool of receive buffers: a provided-buffer ring (`io_uring_register_buf_ring(3)`, Linux 5.19).

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::driver::BufferId;

/// The group under which the ring's receives find the pool.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Memory from `mmap(2)`, zeroed, page aligned and resident from the start.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: an anonymous private mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned the null page"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size, and no reference into it outlives
        // `self`: all of them borrow the pool.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Buffers of one size that the kernel takes from, and that come back by [`BufferPool::release`].
///
/// Invariant: at any time a buffer is either in the ring, and then only the kernel writes to it, or
/// named by exactly one [`BufferId`], and then only its holder touches it.
pub(super) struct BufferPool {
    ring: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: usize,
    /// Where the next released buffer goes; published to the kernel with every release.
    tail: u16,
    free: usize,
}

impl BufferPool {
    /// Reserves `count` buffers (a power of two) of `buffer_bytes`. All of them are in the ring.
    pub(super) fn new(count: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel indexes the ring by a mask");
        let ring = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes)?;
        let mut pool = Self { ring, memory, count, buffer_bytes, tail: 0, free: 0 };
        for id in 0..count {
            pool.release(BufferId(id));
        }
        Ok(pool)
    }

    /// Address of the ring, as `IORING_REGISTER_PBUF_RING` takes it.
    pub(super) fn ring_address(&self) -> u64 {
        self.ring.start.as_ptr() as u64
    }

    /// Number of buffers.
    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of all buffers.
    pub(super) fn bytes_in_all(&self) -> usize {
        usize::from(self.count) * self.buffer_bytes
    }

    /// Buffers that lie in the ring.
    pub(super) const fn free(&self) -> usize {
        self.free
    }

    /// Takes the buffer that the kernel says it has filled.
    pub(super) fn taken(&mut self, id: u16) -> BufferId {
        assert!(id < self.count, "the kernel named buffer {id} of {}", self.count);
        self.free -= 1;
        BufferId(id)
    }

    /// The bytes of a buffer that the caller holds.
    pub(super) fn bytes(&mut self, id: &BufferId) -> &mut [u8] {
        assert!(id.0 < self.count, "buffer {} is another pool's", id.0);
        let offset = usize::from(id.0) * self.buffer_bytes;
        // SAFETY: `id.0 < count`, so the range lies in `memory`; the holder of the id is the only one to
        // touch it (the pool's invariant).
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr().add(offset), self.buffer_bytes) }
    }

    /// Puts a buffer back into the ring.
    pub(super) fn release(&mut self, id: BufferId) {
        let address = self.bytes(&id).as_mut_ptr() as u64;
        let entries = self.ring.start.as_ptr().cast::<BufRingEntry>();
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index < count`, so the entry lies in `ring`; the kernel does not read it before
        // the tail that follows has passed it. Of the first entry the setters leave alone the two
        // bytes which carry the tail.
        let entry = unsafe { &mut *entries.add(index) };
        entry.set_addr(address);
        #[expect(clippy::cast_possible_truncation, reason = "buffers are far smaller than 4 GiB")]
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id.0);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
        // SAFETY: the tail lies in the first entry of the ring, aligned to two bytes, and is shared
        // with the kernel: hence the atomic, and release so that the entry is seen before the tail.
        unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() }.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_apart_and_come_back() {
        let mut pool = BufferPool::new(4, 4096).unwrap();
        assert_eq!(pool.free(), 4);
        let ids: Vec<BufferId> = (0..4).map(|id| pool.taken(id)).collect();
        assert_eq!(pool.free(), 0);
        for (id, fill) in ids.iter().zip(1u8..) {
            pool.bytes(id).fill(fill);
        }
        for (id, fill) in ids.iter().zip(1u8..) {
            assert!(pool.bytes(id).iter().all(|byte| *byte == fill));
        }
        for id in ids {
            pool.release(id);
        }
        assert_eq!(pool.free(), 4);
    }
}
