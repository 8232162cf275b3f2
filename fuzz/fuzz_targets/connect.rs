//! Any bytes as OpenClaw's first message, challenge and answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::connect(bytes);
});
