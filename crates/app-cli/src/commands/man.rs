//! `tenure man`

use std::path::{Path, PathBuf};

use clap::Command;

use crate::error::CliError;
use crate::output::Output;

/// Print the manual page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tenure man | man -l -\n  tenure man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs, mut command: Command, out: Output) -> Result<(), CliError> {
    command.build();
    match &args.dir {
        None => out.data(&String::from_utf8_lossy(&page(&command, "tenure")?)),
        Some(directory) => {
            let count = write(&command, "tenure", directory)?;
            out.note(format_args!("wrote {count} pages to {}", directory.display()));
            Ok(())
        }
    }
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone().display_name(name.to_owned())).render(&mut text);
    rendered.map_err(|error| CliError::Failed(format!("could not write the page {name}: {error}")))?;
    Ok(text)
}

fn write(command: &Command, name: &str, directory: &Path) -> Result<usize, CliError> {
    let path = directory.join(format!("{name}.1"));
    let written = std::fs::write(&path, page(command, name)?);
    written.map_err(|error| CliError::Failed(format!("could not write {}: {error}", path.display())))?;
    let mut count = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        count += write(below, &format!("{name}-{}", below.get_name()), directory)?;
    }
    Ok(count)
}
