//! A test that calls the function of the text fuzzer with a fixed seed.

#[path = "../../../../fuzz/mutate.rs"]
mod mutate;
#[path = "../../../../fuzz/texts.rs"]
mod texts;

const SPECIAL: [&[u8]; 16] = [
    b"tnr_",
    b"_",
    b"0",
    b"z",
    b"00000000000000000000",
    b"d",
    b"h",
    b"m",
    b"s",
    b"ms",
    b"18446744073709551615",
    b" ",
    b"\xc3\xa9",
    b"\xe2\x80\x8b",
    b"\n",
    b"tnr_k3f90000000000000000_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3QWiyD",
];

#[test]
fn texts_are_written_as_they_were_read() {
    let read = mutate::run("texts", 40_000, &SPECIAL, |bytes| texts::texts(&String::from_utf8_lossy(bytes)));
    assert!(read > 2_000, "{read} read");
}
