#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| teem_fuzz::session_hashes(bytes));
