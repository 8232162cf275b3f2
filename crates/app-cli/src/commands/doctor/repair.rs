//! `tenure doctor --repair`: shows what would be lost, asks, and repairs.

use crate::backends::{Repair, plan_repair};
use crate::error::CliError;
use crate::input;
use crate::output::Output;
use crate::settings::Settings;

/// Repairs the store, if the person agrees. Returns `None` if it needs no repair.
pub(super) fn run(settings: &Settings, yes: bool, out: Output) -> Result<Option<Repair>, CliError> {
    let Some(repair) = plan_repair(settings)? else {
        out.note("the store needs no repair");
        return Ok(None);
    };
    let text = repair.describe().join("\n");
    if out.json {
        out.note(text);
    } else {
        out.data(&(text + "\n"))?;
    }
    if !yes {
        if !input::is_interactive() {
            return Err(CliError::Usage("this would change the store: add --yes to confirm".to_owned()));
        }
        if !input::confirmed("Repair the store this way?") {
            return Err(CliError::Failed("nothing was changed".to_owned()));
        }
    }
    repair.carry_out(settings)?;
    out.note(format_args!("repaired; the original file is {}", repair.backup()));
    Ok(Some(repair))
}
