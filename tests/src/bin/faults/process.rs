//! Processes that are started, listened to and killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// A process of this program that says lines.
pub(crate) struct Speaker {
    pub(crate) number: u64,
    child: Child,
    pub(crate) lines: Receiver<String>,
}

impl Speaker {
    pub(crate) fn start(number: u64, what: &str, store: &Path, more: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(what).arg(store).args(more);
        Self::spawn(number, command)
    }

    pub(crate) fn spawn(number: u64, mut command: Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { number, child, lines })
    }

    /// One that writes for ever.
    pub(crate) fn writer(number: u64, store: &Path) -> Result<Self, Failure> {
        Self::start(number, "write", store, &[&format!("w{number}")])
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Hands a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let input = self.child.stdin.as_mut().ok_or("no standard input")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// The next line; a failure if none comes in two minutes.
    pub(crate) fn next(&self) -> Result<String, Failure> {
        self.lines
            .recv_timeout(Duration::from_secs(120))
            .map_err(|error| format!("a process says nothing: {error}").into())
    }

    /// Kills it and answers all that it still said.
    pub(crate) fn end(&mut self) -> Result<Vec<String>, Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.lines.iter().collect())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that judges tokens.
pub(crate) struct Verifier {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Verifier {
    pub(crate) fn start(store: &Path) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["verify".as_ref(), store.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, input, output })
    }

    pub(crate) fn ask(&mut self, token: &str) -> Result<String, Failure> {
        writeln!(self.input, "{token}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
