//! The header of a proxy, against a reader of our own.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crore_fuzz::proxy::check(data));
