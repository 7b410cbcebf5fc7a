#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| teem_fuzz::metadata_message(bytes));
