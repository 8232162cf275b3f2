//! Any bytes as WebSocket frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::frames(bytes);
});
