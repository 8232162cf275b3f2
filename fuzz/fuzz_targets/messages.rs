//! Any bytes as messages of a WebSocket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tenure_gateway::fuzz::messages(bytes));
