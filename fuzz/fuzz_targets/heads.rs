//! Any bytes as heads and bodies of requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenure_gateway::fuzz::heads(bytes));
