//! What live WebSockets come to, measured against real processes: how soon they are cut, what passes afterwards, what
//! they weigh and what the relay costs. Run by `cargo xtask bench`, with the path of the `tenure` to measure.

mod cuts;
mod peers;
mod relay;
mod stand;

use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: sockets TENURE [cuts SOCKETS | expiry SOCKETS | fleet SOCKETS | loss SOCKETS | memory SOCKETS | relay SECONDS]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&words)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockets: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<(), Failure> {
    match *words {
        [tenure] => {
            for (what, amount) in
                [("cuts", 1_000), ("expiry", 1_000), ("fleet", 500), ("loss", 200), ("memory", 5_000), ("relay", 5)]
            {
                one(tenure, what, amount).await?;
            }
            Ok(())
        }
        [tenure, what, amount] => one(tenure, what, amount.parse()?).await,
        _ => Err(USAGE.into()),
    }
}

async fn one(tenure: &str, what: &str, amount: usize) -> Result<(), Failure> {
    match what {
        "cuts" => {
            cuts::revocation(tenure, false, amount).await?;
            cuts::revocation(tenure, true, amount).await
        }
        "expiry" => {
            cuts::expiry(tenure, false, amount).await?;
            cuts::expiry(tenure, true, amount).await
        }
        "fleet" => cuts::fleet(tenure, amount).await,
        "loss" => cuts::loss(tenure, amount).await,
        "memory" => relay::memory(tenure, amount).await,
        "relay" => relay::throughput(tenure, amount as u64).await,
        _ => Err(USAGE.into()),
    }
}
