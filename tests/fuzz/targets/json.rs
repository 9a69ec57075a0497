//! The server's messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crore_fuzz::json::check(data));
