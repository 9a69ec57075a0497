//! What the tests across layers share: engines in this process, a client, and what the system says.
//!
//! Every test runs once for each kind of descriptor that the kernel allows ([`on_each_kind`]), against
//! an engine on a port of the kernel's choice. No test asserts a time; each wait has a deadline that is
//! far beyond what it needs, so that a failure is a message and not a hang.

pub mod actor;
pub mod client;
pub mod deflate;
pub mod frame;
pub mod network;
pub mod server;
pub mod system;

use std::time::{Duration, Instant};

pub use actor::{Actor, Event};
pub use client::{Client, Heard};
pub use deflate::DeflateClient;
pub use frame::Frame;
pub use server::{Server, Setup, limits, on_each_kind};

/// How long any single wait may last before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `done` is true.
///
/// # Panics
/// If it is still false at the [`DEADLINE`].
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        // Most waits are for one turn of a worker: too short to sleep through.
        if start.elapsed() < Duration::from_millis(1) {
            std::thread::yield_now();
            continue;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
