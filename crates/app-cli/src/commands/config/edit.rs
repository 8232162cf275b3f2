//! `tenure config set` and `tenure config unset`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::known;
use crate::atomic_file;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{self, ConfigPath, Key};

pub(super) const SET_EXAMPLES: &str = "\
Examples:
  tenure config set session.token_ttl 36s
  tenure config set gateway.tls_cert cert.pem gateway.tls_key key.pem";

pub(super) const UNSET_EXAMPLES: &str = "\
Examples:
  tenure config unset session.token_ttl
  tenure config unset gateway.tls_cert gateway.tls_key";

/// The settings to change, and their new values.
// Does not derive `Debug`: a URL may hold a password.
#[derive(clap::Args)]
pub(crate) struct SetArgs {
    /// A setting's name, such as session.token_ttl, and its new value; lists are written with commas
    #[arg(value_names = ["KEY", "VALUE"], num_args = 2.., required = true)]
    pairs: Vec<String>,
}

/// The settings to remove.
#[derive(Debug, clap::Args)]
pub(crate) struct UnsetArgs {
    /// The settings' names, such as session.token_ttl
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

/// Returns the file that a path leads to. Links to settings files are common, so the link stays and its target is edited.
pub(super) fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn text(config: &ConfigPath) -> Result<String, CliError> {
    // A missing file is created, even if a flag or the environment names it.
    let usual = ConfigPath { path: config.path.clone(), asked: false };
    Ok(usual.read()?.unwrap_or_default())
}

pub(super) fn set(args: &SetArgs, config: &ConfigPath, out: Output) -> Result<(), CliError> {
    let pairs = args.pairs.chunks(2).map(|pair| match pair {
        [key, value] => Ok((known(key)?, value.as_str())),
        _ => Err(CliError::Usage(format!(
            "{} has no value; write KEY VALUE, repeated for several settings",
            pair.join(" ")
        ))),
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<_> = pairs.iter().map(|(key, _)| *key).collect();
    no_key_twice(&keys)?;
    let edited = settings::set(&config.path, &text(config)?, &pairs)?;
    atomic_file::make_directories(&config.path)?;
    atomic_file::replace(&target(&config.path), edited.as_bytes())?;
    told(config, &keys, true, out)
}

pub(super) fn unset(args: &UnsetArgs, config: &ConfigPath, out: Output) -> Result<(), CliError> {
    let keys = args.keys.iter().map(|key| known(key)).collect::<Result<Vec<_>, _>>()?;
    no_key_twice(&keys)?;
    let before = text(config)?;
    let edited = settings::unset(&config.path, &before, &keys)?;
    for key in edited.missing {
        out.note(format_args!("{} does not set {}", config.path.display(), key.name));
    }
    let changed = edited.text != before;
    if changed {
        atomic_file::check_owner(&config.path)?;
        atomic_file::replace(&target(&config.path), edited.text.as_bytes())?;
    }
    told(config, &keys, changed, out)
}

fn no_key_twice(keys: &[&'static Key]) -> Result<(), CliError> {
    let twice = (1..keys.len()).find(|at| keys[..*at].iter().any(|key| key.name == keys[*at].name));
    twice.map_or(Ok(()), |at| Err(CliError::Usage(format!("{} is named twice", keys[at].name))))
}

fn told(config: &ConfigPath, keys: &[&'static Key], changed: bool, out: Output) -> Result<(), CliError> {
    if out.json {
        let file = config.path.display().to_string();
        return out.value(&match keys {
            [key] => json!({ "key": key.name, "file": file, "changed": changed }),
            keys => {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                json!({ "keys": names, "file": file, "changed": changed })
            }
        });
    }
    if changed {
        out.note(format_args!("wrote {}", config.path.display()));
    }
    Ok(())
}
