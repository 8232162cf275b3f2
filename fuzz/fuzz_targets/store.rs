//! Any bytes as a JSON store: it opens, or says what is wrong, and can be repaired.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenure_json_test_storage::fuzz::store(bytes));
