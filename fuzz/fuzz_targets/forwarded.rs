//! Any bytes as a target, a proxy's word about one too: what is public is so for whoever resolves it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tenure_gateway::fuzz::forwarded(bytes);
});
