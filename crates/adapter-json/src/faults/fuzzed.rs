//! The fuzzers' entry functions, on a fixed seed: real lines and whole journals, changed in ways that fuzzers change
//! them; and the corpus that the fuzzers start from.

use super::*;
use crate::fuzz;

const SPECIAL: [&[u8]; 12] = [
    b"\"",
    b"\\",
    b"\n",
    b"\0\0",
    b"{",
    b"}]}",
    b"18446744073709551616",
    b"{\"op\":\"head\"}",
    b"\\u0000",
    b"\xff\xfe",
    b",\"gen\":0",
    b"}}\n{\"crc\":\"",
];

/// Changes bytes in one to four places.
fn mutated(bytes: &[u8], choose: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
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
                let special = SPECIAL[choose(SPECIAL.len())];
                drop(bytes.splice(at..at, special.iter().copied()));
            }
        }
    }
    bytes
}

/// A journal with each kind of line.
fn journal() -> Vec<u8> {
    let (fs, time, mut log) = (empty_disk(), Time::new(), Log::default());
    run(async {
        let store = mount(&fs, &time).unwrap();
        for n in 0..12 {
            time.pass(50);
            step(&store, n, &mut log).await.unwrap();
        }
    });
    fs.content(&path()).unwrap()
}

/// The transaction in a line.
fn body(line: &[u8]) -> &[u8] {
    &line[23..line.len() - 1]
}

#[test]
fn changed_lines_are_read_or_refused() {
    let journal = journal();
    let lines: Vec<&[u8]> = journal.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut choose = dice(1);
    for _ in 0..20_000 {
        let line = lines[choose(lines.len())];
        fuzz::line(&mutated(line, &mut choose));
        fuzz::line(&mutated(body(line), &mut choose));
    }
}

#[test]
fn changed_stores_open_or_are_refused_and_can_be_repaired() {
    let journal = journal();
    let bodies: Vec<&[u8]> = journal.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(body).collect();
    let sealed = [b"+", &bodies.join(&b'\n')[..]].concat();
    let mut choose = dice(2);
    for _ in 0..300 {
        fuzz::store(&mutated(&journal, &mut choose));
        fuzz::store(&mutated(&sealed, &mut choose));
    }
}

#[test]
fn the_fuzzers_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, run) in [("line", fuzz::line as fn(&[u8])), ("store", fuzz::store)] {
        let files: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() > 3, "{name}");
        files.iter().for_each(|file| run(&std::fs::read(file).unwrap()));
    }
}
