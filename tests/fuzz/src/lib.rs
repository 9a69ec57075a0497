//! What holds for any bytes at all; one module for each fuzz target.
//!
//! A `check` takes the fuzzer's bytes and panics where the promise is broken. How the bytes are read as an
//! input is said at each of them, so that one can be written by hand.

#![forbid(unsafe_code)]

pub mod assembler;
pub mod deflate;
pub mod frames;
pub mod handshake;
pub mod json;
pub mod proxy;
pub mod stream;
