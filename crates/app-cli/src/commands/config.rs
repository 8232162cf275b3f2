//! `tenure config …`

mod edit;
mod init;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, json};

use crate::commands::doctor;
use crate::diagnosis;
use crate::error::CliError;
use crate::global::Global;
use crate::output::masking::masked;
use crate::output::{DIM, Output, styled};
use crate::settings::{self, ConfigPath, Effective, Key, Settings, SettingsError, Source, Value};
use tenure_ports::{Diagnosis, Severity};

/// Show, check and edit the settings.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings in effect, and where each value comes from
    Show,
    /// Print one setting
    #[command(after_help = "Example:\n  tenure config get session.token_ttl")]
    Get(KeyArgs),
    /// Change settings in the settings file, all of them or none; comments stay
    #[command(after_help = edit::SET_EXAMPLES)]
    Set(edit::SetArgs),
    /// Remove settings from the settings file, all of them or none; comments stay
    #[command(after_help = edit::UNSET_EXAMPLES)]
    Unset(edit::UnsetArgs),
    /// Check the settings from file, environment and flags, and the files that the gateway's settings name
    Validate,
    /// Print the JSON Schema of the settings file
    Schema,
    /// Write a settings file that explains every key
    #[command(after_help = init::EXAMPLES)]
    Init(InitArgs),
    /// Print where the settings file is
    Path,
}

/// Names a setting.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// The setting's name, such as session.token_ttl
    #[arg(value_name = "KEY")]
    key: String,
}

/// Write a settings file that explains every key.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Copy security.session.* from this Moltbot (Clawdbot, OpenClaw) configuration
    #[arg(long, value_name = "FILE")]
    from_moltbot: Option<PathBuf>,
}

pub(crate) fn run(command: ConfigCommand, global: &Global, out: Output) -> Result<(), CliError> {
    match command {
        ConfigCommand::Show => show(&Settings::load(global)?, out),
        ConfigCommand::Get(args) => get(known(&args.key)?, &Settings::load(global)?, out),
        ConfigCommand::Set(args) => edit::set(&args, &ConfigPath::find(global)?, out),
        ConfigCommand::Unset(args) => edit::unset(&args, &ConfigPath::find(global)?, out),
        ConfigCommand::Validate => validate(global, out),
        ConfigCommand::Schema => schema(out),
        ConfigCommand::Init(args) => init::run(&args, &ConfigPath::find(global)?, out),
        ConfigCommand::Path => path(&ConfigPath::find(global)?, out),
    }
}

fn known(name: &str) -> Result<&'static Key, CliError> {
    settings::find(name).ok_or_else(|| SettingsError::one(settings::unknown_key(name, "")).into())
}

/// Returns a value as it may be shown: without the secrets of a URL, and without a token.
fn shown(setting: &Effective<'_>) -> Option<Value> {
    setting.value.clone().map(|value| match value {
        Value::Text(text) if setting.key.kind.is_url() => Value::Text(settings::masked(&text)),
        // The token itself may be here by mistake, instead of the path of its file.
        Value::Text(text) => Value::Text(masked(&text).into_owned()),
        value => value,
    })
}

fn show(settings: &Settings, out: Output) -> Result<(), CliError> {
    settings.warn(out);
    let all = settings::keys().map(|key| settings.effective(key));
    if out.json {
        let entry = |setting: Effective<'_>| {
            let value = shown(&setting).map_or(serde_json::Value::Null, |value| value.to_json());
            (setting.key.name.to_owned(), json!({ "value": value, "source": setting.source.to_string() }))
        };
        return out.value(&all.map(entry).collect::<Map<_, _>>());
    }
    let lines = all.map(|setting| {
        let value = shown(&setting).map(|value| value.to_toml().to_string().trim().to_owned());
        let pair = format!("{} = {}", setting.key.name, value.unwrap_or_else(|| "(not set)".to_owned()));
        match setting.source {
            Source::Default => format!("{pair}\n"),
            source => format!("{pair:<46} {}\n", styled(DIM, format_args!("# {source}"))),
        }
    });
    out.data(&lines.collect::<String>())
}

fn get(key: &'static Key, settings: &Settings, out: Output) -> Result<(), CliError> {
    let setting = settings.effective(key);
    let Some(value) = shown(&setting) else {
        return Err(CliError::Failed(format!("{} is not set and has no default", key.name)));
    };
    if out.json {
        let source = setting.source.to_string();
        return out.value(&json!({ "key": key.name, "value": value.to_json(), "source": source }));
    }
    out.data(&format!("{value}\n"))
}

fn validate(global: &Global, out: Output) -> Result<(), CliError> {
    let config = ConfigPath::find(global)?;
    let settings = Settings::load(global)?;
    settings.warn(out);
    let findings: Vec<Diagnosis> =
        doctor::gateway::examine(&settings).into_iter().filter(|finding| finding.severity != Severity::Ok).collect();
    let (failed, warned): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.severity == Severity::Failure);
    let path = config.path.display().to_string();
    let is_there = config.path.exists();
    if out.json {
        let list: Vec<_> = findings.iter().map(diagnosis::json).collect();
        let valid = failed.is_empty();
        out.value(&json!({ "valid": valid, "file": path, "fileExists": is_there, "findings": list }))?;
    }
    let line = |finding: &&Diagnosis| format!("{}; {}", finding.finding, finding.advice);
    warned.iter().for_each(|finding| out.warn(line(finding)));
    if !failed.is_empty() {
        return Err(SettingsError(failed.iter().map(line).collect()).into());
    }
    if out.json {
        return Ok(());
    }
    let with = if is_there { format!("with {path}") } else { format!("no file {path}: defaults apply") };
    out.data(&format!("the settings are valid ({with})\n"))
}

fn schema(out: Output) -> Result<(), CliError> {
    // The repository has a copy, so the output is the same on a terminal and in a pipe.
    let text = serde_json::to_string_pretty(&settings::json_schema());
    out.data(&(text.map_err(|error| CliError::Failed(error.to_string()))? + "\n"))
}

fn path(config: &ConfigPath, out: Output) -> Result<(), CliError> {
    let path = config.path.display().to_string();
    if out.json {
        return out.value(&json!({ "path": path, "exists": config.path.exists() }));
    }
    out.data(&format!("{path}\n"))
}
