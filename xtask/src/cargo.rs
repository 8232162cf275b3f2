//! How the other modules run cargo: the same one that runs them, in the root of the workspace.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Result;

/// The root of the workspace. Asked at run time first, because checkouts may share one target directory.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}

/// A cargo command in the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Runs a command with its output streamed; anything but exit code 0 is an error.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("$ {line}");
    let status = command.status().map_err(|error| format!("could not start `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed ({status})")) }
}

/// Runs a command and returns its standard output; its standard error is streamed.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let line = line(command);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("could not start `{line}`: {error}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("`{line}` failed ({})", output.status)) }
}

/// The folder that cargo builds in.
pub(crate) fn target_directory(metadata: &serde_json::Value) -> Result<PathBuf> {
    let folder = metadata["target_directory"].as_str();
    folder
        .map(PathBuf::from)
        .ok_or_else(|| "cargo metadata names no target directory: its format has changed".to_owned())
}

/// Fails unless a component of the toolchain, such as clippy, is installed.
pub(crate) fn require_component(component: &str, subcommand: &str) -> Result<()> {
    let output =
        cargo(&[subcommand, "--version"]).output().map_err(|error| format!("could not start cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{component} is missing: install it with `rustup component add {component}`, or from where this toolchain came"
    ))
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut line =
        program.file_name().map_or_else(|| program.display().to_string(), |name| name.to_string_lossy().into_owned());
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
