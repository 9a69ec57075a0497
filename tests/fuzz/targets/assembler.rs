//! Streams in any pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crore_fuzz::assembler::check(data));
