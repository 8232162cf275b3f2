//! What can befall Redis while many processes use it: run in full by `cargo xtask faults`, and shortly by the tests.

mod expiry;
mod load;
mod moves;
mod outage;
mod room;

use std::process::ExitCode;
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "\
usage: redis_faults stop ROUNDS        stop (SIGSTOP) and kill (SIGKILL) the server under load, in turn
       redis_faults failover ROUNDS    kill the primary behind sentinels under load
       redis_faults slots SECONDS      move slots of a cluster under load
       redis_faults flush SECONDS      make the server forget its scripts ten times a second
       redis_faults full               reach maxmemory
       redis_faults expire SESSIONS    look what is left when everything is over";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis_faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match words {
        ["stop", rounds] => runtime.block_on(outage::stop(number(rounds)?)),
        ["failover", rounds] => runtime.block_on(outage::failover(number(rounds)?)),
        ["slots", seconds] => runtime.block_on(moves::slots(Duration::from_secs(number(seconds)?))),
        ["flush", seconds] => runtime.block_on(moves::flush(Duration::from_secs(number(seconds)?))),
        ["full"] => runtime.block_on(room::full()),
        ["expire", sessions] => runtime.block_on(expiry::run(number(sessions)?)),
        _ => Err(USAGE.into()),
    }
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| format!("{text} is no number\n{USAGE}").into())
}
