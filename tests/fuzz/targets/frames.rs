//! The frames of a stream, against tungstenite.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crore_fuzz::frames::check(data));
