//! A progress bar for work that takes longer than half a second, on a terminal.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// How long the work takes before the bar appears.
const PATIENCE: Duration = Duration::from_millis(500);

/// The progress of some work, with a bar if a person watches.
pub(crate) struct Progress {
    began: Instant,
    what: &'static str,
    total: Option<u64>,
    watched: bool,
    done: Cell<u64>,
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress {
    pub(crate) fn new(out: Output, what: &'static str, total: Option<u64>) -> Self {
        let watched = out.is_watched();
        Self { began: Instant::now(), what, total, watched, done: Cell::new(0), bar: RefCell::new(None) }
    }

    /// Records how much is done, and updates the bar.
    pub(crate) fn at(&self, done: u64) {
        self.done.set(done);
        if !self.watched || self.began.elapsed() < PATIENCE {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        bar.get_or_insert_with(|| self.new_bar()).set_position(done);
    }

    /// Returns how much is done.
    pub(crate) fn done(&self) -> u64 {
        self.done.get()
    }

    fn new_bar(&self) -> ProgressBar {
        let (bar, template) = match self.total {
            Some(total) => (ProgressBar::new(total), "{msg} {wide_bar} {pos}/{len} ({eta})"),
            None => (ProgressBar::new_spinner(), "{msg} {spinner} {pos}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style).with_message(self.what)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
