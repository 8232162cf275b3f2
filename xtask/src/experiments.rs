//! The long experiments, too long for every change: run by a person, their figures written down in `docs/`.

pub(crate) mod openclaw;
pub(crate) mod proxies;

use std::path::PathBuf;

use crate::Result;
use crate::cargo::{cargo, root, stream};

/// The experiments with processes and file systems: 1,000 kills beside 100,000 sessions, a minute of two writers with a
/// compaction each second, full disks, stopped lock holders; and 20,000 histories of concurrent clients on each
/// store, judged for linearizability.
const FAULTS: [&[&str]; 5] =
    [&["kill", "1000", "100000"], &["contend", "60"], &["room", "40"], &["stopped", "10"], &["histories", "20000"]];

/// Those with servers: outages, failovers, slots that move, scripts that are forgotten, no memory, no processes left.
const REDIS_FAULTS: [&[&str]; 6] =
    [&["stop", "20"], &["failover", "20"], &["slots", "60"], &["flush", "30"], &["full"], &["expire", "20000"]];

/// So often a primary is lost, killed and cut off by turns; as root, since that takes network namespaces.
const FAILOVERS: &str = "20";

/// Whatever can befall a store, in full length: also those that a failure before them would hide.
pub(crate) fn faults() -> Result<()> {
    let mut failed = Vec::new();
    let all = FAULTS.map(|experiment| ("faults", experiment)).into_iter();
    for (program, experiment) in all.chain(REDIS_FAULTS.map(|experiment| ("redis_faults", experiment))) {
        println!("\n==> {program} {}", experiment.join(" "));
        let run = ["run", "--release", "--package", "tenure-tests", "--bin", program, "--"];
        failed.extend(stream(&mut cargo(&[&run, experiment].concat())).err());
    }
    println!("\n==> a cut at every byte and every single changed bit of a journal");
    let mut damage = cargo(&["test", "--release", "--package", "tenure-adapter-json", "--test", "damage"]);
    failed.extend(stream(damage.env("TEST_FAULTS", "all")).err());
    if cfg!(target_os = "linux") {
        println!("\n==> acknowledged revocations while a primary is killed or cut off");
        let run = ["run", "--release", "--package", "tenure-tests", "--bin", "failover", "--", "all", FAILOVERS];
        failed.extend(stream(&mut cargo(&run)).err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// Every benchmark, each beside its bare floor in the same run.
pub(crate) fn bench() -> Result<()> {
    stream(&mut cargo(&["bench", "--workspace", "--benches"]))?;
    stream(&mut cargo(&["build", "--release", "--package", "tenure"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut sockets = cargo(&["run", "--release", "--package", "tenure-tests", "--bin", "sockets", "--"]);
    stream(sockets.arg(target.join("release/tenure")))
}
