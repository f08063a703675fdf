//! See `fuzz::permission`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::permission::check(data));
