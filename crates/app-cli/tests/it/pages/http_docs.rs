//! Runs the commands of docs/http-api.md against a gateway, in order, and compares the output with the page.
//!
//! With `TEST_UPDATE=1` the page is updated with the output.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::support::home::Home;

/// A command of the page, and the output that the page shows.
struct Example {
    command: String,
    shown: String,
    /// The line numbers of `shown`, counted from 0.
    lines: std::ops::Range<usize>,
}

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api.md"))
}

/// Returns the commands in the `console` blocks. A command starts with `$ ` and may continue after a backslash.
fn examples(text: &str) -> Vec<Example> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        at += 1;
        if lines[at - 1] != "```console" {
            continue;
        }
        let mut command = lines[at].strip_prefix("$ ").expect("a console block starts with a command").to_owned();
        while command.ends_with('\\') {
            at += 1;
            command.pop();
            command += lines[at].trim_start();
        }
        let start = at + 1;
        let end = start + lines[start..].iter().position(|line| *line == "```").unwrap();
        found.push(Example { command, shown: lines[start..end].join("\n"), lines: start..end });
        at = end + 1;
    }
    found
}

/// Returns an output as the page shows it: formatted JSON if the page has that, and tokens without their secrets.
fn shown(output: &str, pretty: bool) -> String {
    let text = if pretty { indented(output.trim()) } else { output.replace('\r', "") };
    let lines = text.trim_end().lines().filter(|line| !line.starts_with("date: "));
    lines.map(|line| elided(line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// Formats JSON like `jq`.
fn indented(json: &str) -> String {
    serde_json::from_str::<Value>(json).unwrap_or_else(|error| panic!("{error}: {json:?}"));
    let (mut text, mut depth, mut quoted, mut escaped) = (String::new(), 0_usize, false, false);
    let mut characters = json.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        match c {
            '{' | '[' if !quoted && matches!(characters.peek(), Some('}' | ']')) => text.push(c),
            '{' | '[' if !quoted => {
                depth += 1;
                let _ = write!(text, "{c}\n{}", "  ".repeat(depth));
            }
            '}' | ']' if !quoted && !text.ends_with(['{', '[']) => {
                depth -= 1;
                let _ = write!(text, "\n{}{c}", "  ".repeat(depth));
            }
            ',' if !quoted => {
                let _ = write!(text, ",\n{}", "  ".repeat(depth));
            }
            ':' if !quoted => text.push_str(": "),
            c => text.push(c),
        }
    }
    text
}

/// Cuts tokens after the session id, since a page should show no secret, not even an invalid one.
fn elided(line: &str) -> String {
    let mut parts = line.split("tnr_");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '…');
        let _ = write!(text, "tnr_{}_…{rest}", &part[..20]);
    }
    text
}

/// Replaces what differs from run to run.
fn plain(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_' | '…');
    let mut plain = String::new();
    for line in text.lines() {
        let mut rest = line;
        while !rest.is_empty() {
            let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let (found, after) = if length == 0 { rest.split_at(1) } else { rest.split_at(length) };
            plain += kind(found);
            rest = after;
        }
        plain.push('\n');
    }
    plain
}

fn kind(word: &str) -> &str {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match word {
        word if word.len() == 20 && word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => "SESSION",
        word if word.starts_with("tnr_") => "TOKEN",
        word if word.len() == 24 && word.ends_with('Z') && word.contains('T') => "TIME",
        word if word.len() == 10 && digits(word) => "SECONDS",
        word if word.len() > 40 && word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => "CURSOR",
        word => word,
    }
}

#[test]
fn every_example_answers_what_the_page_shows() {
    let home = Home::json();
    home.write("enrol.secret", "an enrolment secret for examples");
    let gateway = Gateway::start(&home, &["--enrol-secret-file", "enrol.secret"]);
    let text = std::fs::read_to_string(page()).unwrap();
    let mut token = String::new();
    let mut fresh: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut offset, mut wrong) = (0_isize, Vec::new());
    let examples = examples(&text);
    assert!(examples.len() > 15, "the page has lost its examples");
    for Example { command, shown: expected, lines } in examples {
        let (call, pretty) = match command.strip_suffix(" | jq") {
            Some(call) => (call, true),
            None => (command.as_str(), false),
        };
        let call = call.replace("127.0.0.1:8470", &gateway.clients).replace("127.0.0.1:8471", &gateway.operators);
        let call = match std::env::var("TEST_CURL") {
            Ok(curl) => call.replace("curl -", &format!("{curl} -")),
            Err(_) => call,
        };
        let call = call.replace("tenure ", concat!(env!("CARGO_BIN_EXE_tenure"), " "));
        let mut shell = Command::new("sh");
        shell.env_clear().envs(home.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", std::env::var_os("PATH").unwrap()).env("TOKEN", &token).env("ADMIN", &gateway.admin_secret);
        shell.env("ENROL", "an enrolment secret for examples");
        let ran = shell.args(["-c", &call]).output().unwrap();
        let output = String::from_utf8(ran.stdout).unwrap();
        if let Some(at) = output.find("tnr_") {
            output[at..at + 74].clone_into(&mut token);
        }
        // The gateway has another address in each run.
        let output = output.replace(&gateway.clients, "127.0.0.1:8470").replace(&gateway.operators, "127.0.0.1:8471");
        let found = shown(&output, pretty);
        if plain(&found) != plain(&expected) {
            wrong.push(format!(
                "$ {command}\nshows\n{expected}\nand answers\n{found}\n{}",
                String::from_utf8_lossy(&ran.stderr)
            ));
        }
        let start = usize::try_from(lines.start as isize + offset).unwrap();
        let new: Vec<String> = found.lines().map(str::to_owned).collect();
        offset += new.len() as isize - lines.len() as isize;
        fresh.splice(start..start + lines.len(), new);
    }
    if std::env::var_os("TEST_UPDATE").is_some() {
        return std::fs::write(page(), fresh.join("\n") + "\n").unwrap();
    }
    assert!(wrong.is_empty(), "{}\nTEST_UPDATE=1 writes the page anew", wrong.join("\n"));
}
