//! What can befall a store, against real processes and real file systems: run in full by `cargo xtask faults`, and
//! shortly by the tests.

mod child;
mod contend;
mod histories;
mod journal;
mod kill;
mod known;
mod process;
mod room;
mod stopped;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "\
usage: faults kill ROUNDS SESSIONS   kill -9 writers; the store holds so many sessions beside theirs
       faults contend SECONDS        two writers, one reader, and a compaction each second
       faults room SIZES             full disks, limits to the file's size, a read-only file system (Linux)
       faults stopped TIMES          stop whoever holds the lock
       faults histories TIMES        are many clients' answers what one client could get, on a journal and on a Redis";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["kill", rounds, sessions] => number(rounds).and_then(|rounds| kill::run(rounds, number(sessions)?)),
        ["contend", seconds] => number(seconds).and_then(|seconds| contend::run(Duration::from_secs(seconds))),
        ["room", sizes] => number(sizes).and_then(room::run),
        ["stopped", times] => number(times).and_then(stopped::run),
        ["histories", times] => number(times).and_then(histories::run),
        // What the experiments start.
        ["write", store, name] => child::write(Path::new(store), name),
        ["verify", store] => child::verify(Path::new(store)),
        ["compact", store] => child::compact(Path::new(store)),
        ["issue", store] => child::issue(Path::new(store)),
        ["room-inside", folder, sizes] => number(sizes).and_then(|sizes| room::inside(Path::new(folder), sizes)),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| format!("{text} is no number\n{USAGE}").into())
}
