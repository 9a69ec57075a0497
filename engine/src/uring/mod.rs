//! The data ring: io_uring as a [`Driver`](crate::driver::Driver).
//!
//! ```text
//! verbs ─► operation (one submission entry) ─► Ring::enter ─► kernel
//!                                                   │
//! worker ◄─ next_completion ◄─ completion (decoded) ◄┘   buffers: the pool that receives draw from
//! ```
//!
//! A ring belongs to the thread that made it (`IORING_SETUP_SINGLE_ISSUER`), runs its task work only
//! when that thread enters it (`DEFER_TASKRUN`), and wakes a parked host through an eventfd that is
//! registered with it: task work alone does not wake who polls the ring's own descriptor.

mod buffers;
mod completion;
mod descriptors;
mod enter;
mod listener;
mod operation;
mod peer;
mod probe;
mod ring;

pub use descriptors::{DescriptorKind, DescriptorSetting, descriptor_limit, raise_descriptor_limit};
pub use listener::Listener;
pub use probe::{Capability, Features, KernelRelease, SetupError, capabilities, probe};
pub use ring::{Ring, RingConfig};
