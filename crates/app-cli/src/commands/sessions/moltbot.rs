//! Import of a Moltbot file by `tenure sessions import`: new sessions and tokens replace the exposed ones.

use std::path::Path;

use serde_json::json;
use tenure_domain::Subject;
use tenure_service::{OldCredential, OwnedDevice, Replacement, ReplacementPlan, Sessions};
use zeroize::Zeroizing;

use super::over_cap::{name_over_cap, over_cap_json};
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::output::progress::Progress;
use crate::{atomic_file, signals};

pub(super) async fn run(
    tokens_out: Option<&Path>,
    dry_run: bool,
    incoming: Vec<OldCredential>,
    sessions: &Sessions,
    out: Output,
) -> Result<(), CliError> {
    let ReplacementPlan { replacements, expired, over_cap, owned } = sessions.prepare_replacements(incoming).await?;
    let total = replacements.len();
    if let Some(place) = tokens_out.filter(|_| !dry_run && total > 0) {
        atomic_file::create(place, tokens(&replacements)?.as_bytes())?;
        issue(replacements, place, sessions, out).await?;
    }
    if out.json {
        out.value(&json!({
            "issued": total,
            "expired": expired,
            "overCap": over_cap_json(&over_cap),
            "otherOwner": owned_json(&owned),
            "dryRun": dry_run,
        }))?;
    } else {
        let verb = if dry_run { "would issue" } else { "issued" };
        let count = format::sessions(total);
        let replaced = format::agreeing(total, "an old one", "old ones");
        let skipped = format::counted(expired, "expired one");
        out.data(&format!("{verb} {count} to replace {replaced}; {skipped} skipped\n"))?;
    }
    if let Some(place) = tokens_out.filter(|_| !dry_run && total > 0) {
        out.note(format_args!("the new tokens are in {}; hand them out and remove it", place.display()));
    }
    name_over_cap(&over_cap);
    for OwnedDevice { device, owners } in &owned {
        crate::output::errors(&format!(
            "device {device}: not imported, because its active sessions belong to {}; revoke them first, with tenure \
             sessions revoke --device-id",
            format::names(owners)
        ));
    }
    if over_cap.is_empty() && owned.is_empty() { Ok(()) } else { Err(CliError::Partly) }
}

/// Returns the devices that belong to other subjects as JSON, for scripts.
fn owned_json(devices: &[OwnedDevice]) -> serde_json::Value {
    let device = |owned: &OwnedDevice| {
        let owners: Vec<&str> = owned.owners.iter().map(Subject::as_str).collect();
        json!({ "deviceId": owned.device.as_str(), "owners": owners })
    };
    devices.iter().map(device).collect()
}

/// Returns the new tokens, with one JSON object on each line.
fn tokens(replacements: &[Replacement]) -> Result<Zeroizing<String>, CliError> {
    let mut lines = Zeroizing::new(String::new());
    for replacement in replacements {
        let token = replacement.token();
        let line = json!({
            "oldSessionId": replacement.old_id,
            "sessionId": token.session().to_string(),
            "token": token.to_text().expose(),
        });
        lines.push_str(&Zeroizing::new(line.to_string()));
        lines.push('\n');
    }
    Ok(lines)
}

async fn issue(replacements: Vec<Replacement>, place: &Path, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let total = replacements.len();
    let progress = Progress::new(out, "issuing", Some(total as u64));
    let work = async {
        for (done, replacement) in (1..).zip(replacements) {
            sessions.issue_prepared(replacement.prepared).await?;
            progress.at(done);
        }
        Ok::<(), CliError>(())
    };
    let outcome = signals::unless_stopped(work).await;
    let so_far = so_far(progress.done(), total, place);
    drop(progress);
    match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(failure)) => {
            out.note(so_far);
            Err(failure)
        }
        None => Err(signals::stopped(so_far)),
    }
}

/// Returns which of the new tokens are valid after an import that stopped.
fn so_far(done: u64, total: usize, place: &Path) -> String {
    let tokens = format::counted(total, "token");
    let first = if done == 1 { "the first".to_owned() } else { format!("the first {done}") };
    format!(
        "{first} of {tokens} in {} {} valid; revoke {} before you run it again",
        place.display(),
        format::agreeing(done, "is", "are"),
        format::agreeing(done, "its session", "their sessions")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_hold_are_counted_in_good_english() {
        let told = |done, total| so_far(done, total, Path::new("t"));
        assert_eq!(told(1, 3), "the first of 3 tokens in t is valid; revoke its session before you run it again");
        assert_eq!(told(2, 3), "the first 2 of 3 tokens in t are valid; revoke their sessions before you run it again");
    }
}
