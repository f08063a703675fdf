//! See `fuzz::graphql`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::graphql::check(data));
