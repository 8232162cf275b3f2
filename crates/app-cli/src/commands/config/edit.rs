//! `tenure config set` and `tenure config unset`

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::exit::Failure;
use crate::files;
use crate::output::Output;
use crate::settings::{self, ConfigPath, Key};

/// The file itself, where the path is a link to it: links to settings are common, and stay.
pub(super) fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn text(config: &ConfigPath) -> Result<String, Failure> {
    // One that is not there yet is made, even where it was asked for by name.
    let usual = ConfigPath { path: config.path.clone(), asked: false };
    Ok(usual.read()?.unwrap_or_default())
}

pub(super) fn set(config: &ConfigPath, key: &'static Key, value: &str, out: Output) -> Result<(), Failure> {
    let edited = settings::set(&config.path, &text(config)?, key, value)?;
    files::make_directories(&config.path)?;
    files::replace(&target(&config.path), edited.as_bytes())?;
    told(config, key, true, out)
}

pub(super) fn unset(config: &ConfigPath, key: &'static Key, out: Output) -> Result<(), Failure> {
    let edited = settings::unset(&config.path, &text(config)?, key)?;
    let was_set = edited.is_some();
    match edited {
        Some(edited) => files::replace(&target(&config.path), edited.as_bytes())?,
        None => out.note(format_args!("{} does not set {}", config.path.display(), key.name)),
    }
    told(config, key, was_set, out)
}

fn told(config: &ConfigPath, key: &Key, changed: bool, out: Output) -> Result<(), Failure> {
    if out.json {
        return out.value(&json!({ "key": key.name, "file": config.path.display().to_string(), "changed": changed }));
    }
    if changed {
        out.note(format_args!("wrote {}", config.path.display()));
    }
    Ok(())
}
