//! See `fuzz::caller`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::caller::check(data));
