//! Tests that call the functions of the fuzzers with a fixed seed. The inputs are real lines and whole journals, changed
//! as fuzzers change them, and the corpus that the fuzzers start from.

#[path = "../../../../fuzz/mutate.rs"]
mod mutate;

use mutate::{dice, mutated, run as fuzzed};

use super::common::machine;
use super::{Log, empty_disk, mount, path, run, step};
use tenure_domain::Millis;
use tenure_json_test_storage::fuzz;

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

/// Makes a journal with each kind of line.
fn journal() -> Vec<u8> {
    let (fs, time, mut log) = (empty_disk(), machine(), Log::default());
    run(async {
        let store = mount(&fs, &time).unwrap();
        for n in 0..12 {
            time.pass(Millis::new(50));
            step(&store, n, &mut log).await.unwrap();
        }
    });
    fs.content(&path()).unwrap()
}

/// Returns the transaction in a line.
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
        fuzz::line(&mutated(line, &SPECIAL, &mut choose));
        fuzz::line(&mutated(body(line), &SPECIAL, &mut choose));
    }
}

#[test]
fn changed_stores_open_or_are_refused_and_can_be_repaired() {
    let journal = journal();
    let bodies: Vec<&[u8]> = journal.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(body).collect();
    let sealed = [b"+", &bodies.join(&b'\n')[..]].concat();
    let mut choose = dice(2);
    for _ in 0..300 {
        fuzz::store(&mutated(&journal, &SPECIAL, &mut choose));
        fuzz::store(&mutated(&sealed, &SPECIAL, &mut choose));
    }
}

#[test]
fn the_fuzzers_corpus_holds_however_it_is_changed() {
    let done = |call: fn(&[u8])| {
        move |bytes: &[u8]| {
            call(bytes);
            1
        }
    };
    assert!(fuzzed("line", 4_000, &SPECIAL, done(fuzz::line)) > 4_000);
    assert!(fuzzed("store", 300, &SPECIAL, done(fuzz::store)) > 300);
}
