//! Crore's connection engine.

pub mod id;
