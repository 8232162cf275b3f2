//! Any bytes as a line of the JSON journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenure_json_test_storage::fuzz::line(bytes));
