//! `io_uring_enter(2)` through a registered descriptor: what the crate of the ring does not offer.

use std::io;
use std::os::fd::RawFd;

use io_uring::types;

/// `IORING_ENTER_GETEVENTS`: run the task work and flush the overflow list.
const IORING_ENTER_GETEVENTS: u32 = 1 << 0;
/// `IORING_ENTER_EXT_ARG` (Linux 5.11): the last two arguments carry a time-out.
const IORING_ENTER_EXT_ARG: u32 = 1 << 3;
/// `IORING_ENTER_REGISTERED_RING` (Linux 5.18): the descriptor is an index.
const IORING_ENTER_REGISTERED_RING: u32 = 1 << 4;
/// `IORING_REGISTER_RING_FDS` (Linux 5.18).
const IORING_REGISTER_RING_FDS: u32 = 20;
/// `IORING_UNREGISTER_RING_FDS` (Linux 5.18).
const IORING_UNREGISTER_RING_FDS: u32 = 21;

/// The descriptor of a ring on the thread that uses it. The ring outlives it.
pub(super) struct RingDescriptor {
    descriptor: RawFd,
    /// Index under which it is registered, or -1 where the kernel does not know how: spares a look-up per
    /// enter.
    index: RawFd,
}

impl RingDescriptor {
    /// Registers the descriptor with the calling thread.
    pub(super) fn register(descriptor: RawFd) -> Self {
        let Ok(data) = u64::try_from(descriptor) else { return Self { descriptor, index: -1 } };
        let mut update = Update { offset: u32::MAX, reserved: 0, data };
        // SAFETY: one update is passed, and the kernel writes the chosen index into it.
        let registered = unsafe {
            libc::syscall(libc::SYS_io_uring_register, descriptor, IORING_REGISTER_RING_FDS, &raw mut update, 1)
        };
        let index = if registered == 1 { RawFd::try_from(update.offset).unwrap_or(-1) } else { -1 };
        Self { descriptor, index }
    }

    /// Undoes [`Self::register`]: the thread would keep the ring, and all it holds, until it ends.
    pub(super) fn unregister(&self) {
        let Ok(offset) = u32::try_from(self.index) else { return };
        let update = Update { offset, reserved: 0, data: 0 };
        // SAFETY: one update is passed, which the kernel only reads.
        unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.descriptor,
                IORING_UNREGISTER_RING_FDS,
                &raw const update,
                1,
            )
        };
    }

    /// Hands over so many submissions and collects what is there. With `wait` it collects up to so many
    /// completions, and does not sleep for the rest.
    pub(super) fn enter(&self, to_submit: u32, wait: u32) -> io::Result<()> {
        if wait == 0 {
            return self.call(to_submit, 0, IORING_ENTER_GETEVENTS, None);
        }
        let zero = types::Timespec::new();
        let arguments =
            ExtendedArguments { signal_mask: 0, signal_mask_bytes: 0, min_wait_us: 0, timeout: &raw const zero as u64 };
        self.call(to_submit, wait, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, Some(&arguments))
    }

    fn call(&self, to_submit: u32, wait: u32, flags: u32, arguments: Option<&ExtendedArguments>) -> io::Result<()> {
        let (descriptor, flags) =
            if self.index >= 0 { (self.index, flags | IORING_ENTER_REGISTERED_RING) } else { (self.descriptor, flags) };
        let (pointer, bytes) =
            arguments.map_or((std::ptr::null(), 0), |a| (&raw const *a, size_of::<ExtendedArguments>()));
        // SAFETY: the descriptor is the ring's; `pointer` is null or refers to arguments that live until
        // the call returns.
        let result =
            unsafe { libc::syscall(libc::SYS_io_uring_enter, descriptor, to_submit, wait, flags, pointer, bytes) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Interrupted by a signal, nothing came in time, or the kernel wants completions to be collected
/// first: all of them pass by entering again.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY))
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct ExtendedArguments {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}
