//! Any lines as a header with a token.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenure_gateway::fuzz::headers(bytes));
