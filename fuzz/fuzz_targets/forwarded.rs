//! Any bytes as what another proxy says that was asked for.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenure_gateway::fuzz::forwarded(bytes));
