//! Requests for an upgrade, and answers to them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crore_fuzz::handshake::check(data));
