//! Any headers that may carry a token, and the cookies of an upstream.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::presented_token(bytes);
});
