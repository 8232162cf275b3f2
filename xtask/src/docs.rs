//! `cargo xtask docs`: files in the repository that the `tenure` binary itself writes, so that they cannot lag behind it.

mod claims;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;
use crate::cargo::{capture, cargo, root};

/// A file and the arguments with which `tenure` prints it, or a part of it: what stands between the lines [`begin`] and
/// [`END`].
struct Generated {
    path: &'static str,
    args: &'static [&'static str],
}

const GENERATED: &[Generated] = &[
    Generated { path: "docs/cli.md", args: &["generate", "cli-reference"] },
    Generated { path: "docs/gateway.md", args: &["generate", "header-table"] },
    Generated { path: "docs/openapi.json", args: &["generate", "openapi"] },
    Generated { path: "docs/settings.schema.json", args: &["config", "schema"] },
];

const END: &str = "<!-- end of what is generated -->\n";

fn begin(file: &Generated) -> String {
    format!("<!-- Written by `cargo xtask docs` from `tenure {}`: change the code. -->\n", file.args.join(" "))
}

/// What a file should be: what was printed, or what it is now with its part renewed.
fn renewed(file: &Generated, kept: Option<&[u8]>, fresh: Vec<u8>) -> Vec<u8> {
    let (begin, kept) = (begin(file), kept.and_then(|kept| std::str::from_utf8(kept).ok()));
    let parts = kept.and_then(|kept| {
        let (before, rest) = kept.split_once(&begin)?;
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    match parts {
        Some((before, after)) => {
            [before.as_bytes(), begin.as_bytes(), b"\n", &fresh, b"\n", END.as_bytes(), after.as_bytes()].concat()
        }
        None => fresh,
    }
}

/// Writes every generated file.
pub(crate) fn write() -> Result<()> {
    let tenure = build()?;
    let root = root();
    for file in GENERATED {
        let path = root.join(file.path);
        let kept = read(&path)?;
        let fresh = renewed(file, kept.as_deref(), generate(&tenure, file)?);
        if kept.as_deref() == Some(&fresh) {
            println!("{}: unchanged", file.path);
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .map_err(|error| format!("could not make {}: {error}", directory.display()))?;
        }
        fs::write(&path, fresh).map_err(|error| format!("could not write {}: {error}", path.display()))?;
        println!("{}: written", file.path);
    }
    Ok(())
}

/// Fails if a generated file is not what `write` would make it, or if a claim has no test.
pub(crate) fn check() -> Result<()> {
    let (generated, claims) = (generated(), claims::check());
    generated.and(claims)
}

fn generated() -> Result<()> {
    let tenure = build()?;
    let root = root();
    let mut stale = Vec::new();
    for file in GENERATED {
        // One that cannot be generated must not hide the state of the others.
        let drift = generate(&tenure, file).and_then(|fresh| {
            let kept = read(&root.join(file.path))?;
            Ok(drift(kept.as_deref(), &renewed(file, kept.as_deref(), fresh)))
        });
        match drift {
            Ok(None) => println!("{}: in step", file.path),
            Ok(Some(drift)) => {
                println!("{}: {drift}", file.path);
                stale.push(file.path);
            }
            Err(error) => {
                println!("{}: {error}", file.path);
                stale.push(file.path);
            }
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!(
        "generated files out of step: {}: run `cargo xtask docs`, look at `git diff docs`, and commit it",
        stale.join(", ")
    ))
}

/// Builds `tenure` and says where it is. Built apart from being run, because cargo needs the home directory that the run
/// must not see.
fn build() -> Result<PathBuf> {
    let messages = capture(&mut cargo(&[
        "build",
        "--quiet",
        "--package",
        "tenure",
        "--bin",
        "tenure",
        "--message-format",
        "json-render-diagnostics",
    ]))?;
    String::from_utf8_lossy(&messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "tenure")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo built package `tenure` but named no program: has it a `[[bin]]`?".to_owned())
}

/// What `tenure` prints for this file. It runs without the environment, in an empty home and without a terminal, so that
/// nobody's settings, colours or window width get into the repository.
fn generate(tenure: &Path, file: &Generated) -> Result<Vec<u8>> {
    let line = format!("tenure {}", file.args.join(" "));
    let home = tempfile::tempdir().map_err(|error| format!("could not make a temporary directory: {error}"))?;
    let output = Command::new(tenure)
        .args(file.args)
        .env_clear()
        .env("HOME", home.path())
        .env("NO_COLOR", "1")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("could not start {}: {error}", tenure.display()))?;
    if !output.status.success() {
        return Err(format!(
            "`{line}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ));
    }
    if output.stdout.is_empty() {
        return Err(format!("`{line}` printed nothing"));
    }
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("could not read {}: {error}", path.display())),
    }
}

/// How the file in the repository differs from a fresh one: the first line that does.
fn drift(kept: Option<&[u8]>, fresh: &[u8]) -> Option<String> {
    let Some(kept) = kept else {
        return Some("missing".to_owned());
    };
    if kept == fresh {
        return None;
    }
    let (kept, fresh) = (String::from_utf8_lossy(kept), String::from_utf8_lossy(fresh));
    let (mut old, mut new) = (kept.split('\n'), fresh.split('\n'));
    for number in 1.. {
        let (old, new) = (old.next(), new.next());
        if old == new && old.is_some() {
            continue;
        }
        let show = |line: Option<&str>| line.unwrap_or("(end of file)").to_owned();
        return Some(format!("out of step from line {number}\n  - {}\n  + {}", show(old), show(new)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_in_step() {
        assert_eq!(drift(Some(b"a\nb\n"), b"a\nb\n"), None);
    }

    #[test]
    fn a_missing_file_is_drift() {
        assert_eq!(drift(None, b"a\n").as_deref(), Some("missing"));
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(drift(Some(b"a\nb\n"), b"a\nc\n").as_deref(), Some("out of step from line 2\n  - b\n  + c"));
    }

    #[test]
    fn a_part_is_renewed_where_its_file_marks_it_and_else_the_file_is_all_of_it() {
        let file = Generated { path: "a.md", args: &["x"] };
        let page = |part: &str| format!("before\n{}\n{part}\n{END}after\n", begin(&file)).into_bytes();
        assert_eq!(renewed(&file, Some(&page("old\n")), b"new\n".to_vec()), page("new\n"));
        assert_eq!(renewed(&file, Some(b"old\n"), b"new\n".to_vec()), b"new\n");
        assert_eq!(renewed(&file, None, b"new\n".to_vec()), b"new\n");
    }

    #[test]
    fn a_lost_last_newline_is_drift() {
        assert_eq!(drift(Some(b"a"), b"a\n").as_deref(), Some("out of step from line 2\n  - (end of file)\n  + "));
    }
}
