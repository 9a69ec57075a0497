//! Compressed messages, and messages to compress.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crore_fuzz::deflate::check(data));
