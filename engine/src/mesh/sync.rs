//! The atomics and cells of the mesh: the standard ones, or loom's while a model is checked.

use std::sync::atomic::Ordering;

#[cfg(crore_loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, fence},
    },
};
#[cfg(not(crore_loom))]
pub(super) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, fence},
};

/// The standard cell with the access by closure that loom's cell has, so that loom sees each access.
#[cfg(not(crore_loom))]
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(crore_loom))]
impl<T> UnsafeCell<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lends the place for one exclusive access; the caller makes sure that it is exclusive.
    pub(super) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// Keeps what one core writes out of the cache lines that another core writes.
///
/// 128 bytes are two lines: processors of x86-64 fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct CachePadded<T>(pub(super) T);

/// The barrier between "I have written" and "I look at what the other one has written".
///
/// When two threads each write one place, pass this barrier and read the other's place, at least one
/// of them sees the other's write. Every wake-up of the mesh rests on that.
pub(super) fn store_then_look_barrier() {
    fence(Ordering::SeqCst);
}

/// Checks a model under all schedules of at most four preemptions: sleeping multiplies the schedules,
/// and a fault that needs more is hardly known.
#[cfg(all(test, crore_loom))]
pub(super) fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}
