//! Crore's connection engine.

pub mod clock;
pub mod driver;
pub mod id;
pub mod limits;
pub mod mesh;
pub mod message;
pub mod protocol;
pub mod uring;
