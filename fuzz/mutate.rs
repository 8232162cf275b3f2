//! Bytes changed as fuzzers change them, alike on each run: for the short runs among the ordinary tests, which take this
//! file in by its path.

use std::path::Path;

/// Numbers below a bound that look random and depend on the seed alone (SplitMix64).
pub(crate) fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = state;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) as usize % bound
    }
}

/// Changes bytes in one to four places; `special` are words that mean something to whoever reads them.
pub(crate) fn mutated(bytes: &[u8], special: &[&[u8]], choose: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=choose(4) {
        let at = choose(bytes.len().max(1)).min(bytes.len());
        let end = (at + 1 + choose(40)).min(bytes.len());
        match choose(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << choose(8),
            1 if at < bytes.len() => bytes[at] = choose(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = choose(bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            4 => bytes.truncate(at),
            5 if at < bytes.len() => bytes[at..end].fill(0),
            _ => {
                let special = special[choose(special.len())];
                drop(bytes.splice(at..at, special.iter().copied()));
            }
        }
    }
    bytes
}

/// The small inputs that the fuzzer of this name starts from, always in the same order.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    // Named so by hand: what a fuzzer adds has a digest for a name.
    files.retain(|file| file.file_name().is_some_and(|name| name.len() < 40));
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Runs a target on its corpus, and on so many inputs that are made of it. The sum of what the target answers.
pub(crate) fn run(target: &str, rounds: usize, special: &[&[u8]], mut call: impl FnMut(&[u8]) -> usize) -> usize {
    let corpus = corpus(target);
    assert!(corpus.len() > 3, "{target} starts from nothing");
    let mut sum: usize = corpus.iter().map(|bytes| call(bytes)).sum();
    let mut choose = dice(target.bytes().fold(8, |seed, byte| seed * 31 + u64::from(byte)));
    let mut last = corpus[0].clone();
    for _ in 0..rounds {
        // Now and then on from what came last, which goes further away from the corpus.
        let from = if choose(3) == 0 && last.len() < 2_000 { &last } else { &corpus[choose(corpus.len())] };
        last = mutated(from, special, &mut choose);
        sum += call(&last);
    }
    sum
}
