//! The steps of a run: each is made and timed, and the summary says what became of it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{Looked, Result};

/// What each step came to, in the order they ran.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<Done>,
}

struct Done {
    name: &'static str,
    took: Duration,
    failed: bool,
    /// Why it could not be made, which is neither.
    not_checked: Option<String>,
}

impl Report {
    /// A step that passes or fails.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        self.look(name, || run().map(|()| Looked::Clean));
    }

    /// A step that may be impossible here.
    pub(crate) fn look(&mut self, name: &'static str, run: impl FnOnce() -> Result<Looked>) {
        println!("\n==> {name}");
        let start = Instant::now();
        let result = run();
        if let Err(error) = &result {
            println!("error: {error}");
        }
        let failed = result.is_err();
        let not_checked = match result {
            Ok(Looked::NotChecked(why)) => Some(why),
            _ => None,
        };
        if let Some(why) = &not_checked {
            println!("NOT CHECKED: {why}");
        }
        self.steps.push(Done { name, took: start.elapsed(), failed, not_checked });
    }

    /// Prints the summary, its count as the last line of all.
    pub(crate) fn finish(&self) -> ExitCode {
        print!("\n{}", self.summary());
        if self.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn failed(&self) -> usize {
        self.steps.iter().filter(|step| step.failed).count()
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        for Done { name, took, failed, not_checked } in &self.steps {
            let result = match (failed, not_checked) {
                (true, _) => "FAILED",
                (false, Some(_)) => "ABSENT",
                (false, None) => "passed",
            };
            text += &format!("{result}  {name:<16} {:>7.1} s\n", took.as_secs_f64());
            if let Some(why) = not_checked {
                text += &format!("        not checked: {why}\n");
            }
        }
        let total: Duration = self.steps.iter().map(|step| step.took).sum();
        text += &format!("total   {:<16} {:>7.1} s\n", "", total.as_secs_f64());
        let failed = self.failed();
        let passed = self.steps.iter().filter(|step| !step.failed && step.not_checked.is_none()).count();
        text + &format!("{passed} passed, {failed} failed\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_stops_none_after_it_and_is_counted() {
        let mut report = Report::default();
        report.step("first", || Ok(()));
        report.step("second", || Err("made to fail".to_owned()));
        report.step("third", || Ok(()));
        let summary = report.summary();
        let lines: Vec<&str> = summary.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("passed  first "));
        assert!(lines[1].starts_with("FAILED  second "));
        assert!(lines[2].starts_with("passed  third "));
        assert!(lines[3].starts_with("total "));
        assert_eq!(lines[4], "2 passed, 1 failed");
        assert_eq!(report.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn what_could_not_be_checked_is_said_and_counts_as_nothing() {
        let mut report = Report::default();
        report.look("first", || Ok(Looked::NotChecked("no network".to_owned())));
        report.step("second", || Ok(()));
        let summary = report.summary();
        assert!(summary.starts_with("ABSENT  first "), "{summary}");
        assert!(
            summary.contains("not checked: no network\n") && summary.ends_with("1 passed, 0 failed\n"),
            "{summary}"
        );
    }

    #[test]
    fn it_succeeds_only_where_every_step_did() {
        let mut report = Report::default();
        report.step("only", || Ok(()));
        assert_eq!(report.finish(), ExitCode::SUCCESS);
    }
}
