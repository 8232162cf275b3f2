//! `tenure config init`

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use tenure_domain::Millis;

use super::InitArgs;
use super::edit::target;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{self, ConfigPath, Key, SESSION, Settings, Value};
use crate::{atomic_file, input};

pub(super) const EXAMPLES: &str = "\
Examples:
  tenure config init
  tenure config init --from-moltbot ~/.openclaw/openclaw.json";

#[derive(Deserialize)]
struct Moltbot {
    #[serde(default)]
    security: Security,
}

#[derive(Default, Deserialize)]
struct Security {
    #[serde(default)]
    session: Session,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    token_ttl_hours: Option<f64>,
    rotate_before_expiry_hours: Option<f64>,
    max_sessions_per_device: Option<u64>,
}

pub(super) fn run(args: &InitArgs, config: &ConfigPath, out: Output) -> Result<(), CliError> {
    let path = &config.path;
    if path.symlink_metadata().is_ok() && !args.force {
        return Err(CliError::Failed(format!("{} already exists; --force replaces it", path.display())));
    }
    let taken = args.from_moltbot.as_deref().map_or(Ok(Vec::new()), from_moltbot)?;
    let text = settings::template(&taken);
    Settings::of_file(path, &text)?;
    atomic_file::make_directories(path)?;
    atomic_file::replace(&target(path), text.as_bytes())?;
    if out.json {
        let taken = taken.iter().map(|(key, value)| (key.to_string(), value.to_json()));
        let taken: serde_json::Map<_, _> = taken.collect();
        return out.value(&json!({ "file": path.display().to_string(), "taken": taken }));
    }
    for (key, value) in &taken {
        out.note(format_args!("{key} = {value}"));
    }
    out.data(&format!("{}\n", path.display()))
}

fn from_moltbot(file: &Path) -> Result<Vec<(&'static Key, Value)>, CliError> {
    let failed = |problem: &str| CliError::Failed(format!("{}: {problem}; nothing was written", file.display()));
    // Moltbot configurations are JSON5: comments, trailing commas and names without quotes are valid.
    let read: Moltbot = json5::from_str(&input::file(file)?).map_err(|error| {
        let place = error.position().map_or_else(String::new, |at| format!(" (line {})", at.line + 1));
        failed(&format!("not a Moltbot configuration{place}"))
    })?;
    let session = read.security.session;
    let hours = |name: &str, hours: f64| {
        let millis = (hours * 3_600_000.0).round();
        // The upper bound is beyond every range, and still exact as a float.
        let counts = (0.0..=1e15).contains(&millis);
        if counts { Ok(Value::Span(Millis::new(millis as u64))) } else { Err(failed(&format!("{name} is {hours}"))) }
    };
    let mut taken = Vec::new();
    if let Some(ttl) = session.token_ttl_hours {
        taken.push((&SESSION.token_ttl, hours("tokenTtlHours", ttl)?));
    }
    if let Some(window) = session.rotate_before_expiry_hours {
        taken.push((&SESSION.rotate_before_expiry, hours("rotateBeforeExpiryHours", window)?));
    }
    if let Some(cap) = session.max_sessions_per_device {
        taken.push((&SESSION.max_sessions_per_device, Value::Count(cap)));
    }
    if taken.is_empty() {
        return Err(failed("it sets nothing in security.session"));
    }
    Ok(taken)
}
