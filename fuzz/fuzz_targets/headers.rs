//! Any headers of a request: what goes on, and what is believed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::headers(bytes);
});
