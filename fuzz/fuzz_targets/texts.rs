//! Any text as a token, an id, a duration and a bounded text.
#![no_main]

#[path = "../texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|text: &str| {
    texts::texts(text);
});
