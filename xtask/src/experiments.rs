//! The long experiments, too long for every change: run by a person, their figures written down in `docs/`.

use crate::Result;
use crate::cargo::{cargo, stream};

/// So many processes are killed in the middle of writing.
const KILLS: &str = "1000";

/// Kills, and whatever else can befall a store, in their full lengths.
pub(crate) fn faults() -> Result<()> {
    stream(&mut cargo(&["run", "--release", "--package", "tenure-tests", "--bin", "faults", "--", "kill", KILLS]))
}

/// Every benchmark, each beside its bare floor in the same run.
pub(crate) fn bench() -> Result<()> {
    stream(&mut cargo(&["bench", "--workspace", "--benches"]))
}
