//! Any bytes as requests of one HTTP/1.1 connection, beside hyper.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::heads(bytes);
});
