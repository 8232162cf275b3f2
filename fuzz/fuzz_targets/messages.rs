//! Any bytes as WebSocket messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::messages(bytes);
});
