//! Tables for people, without a frame and with one line for each row. In a narrow terminal, columns are left out and texts
//! are cut; nothing wraps.

use std::fmt::Write as _;
use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::{BOLD, styled};

/// A column of a table.
pub(crate) struct Column {
    pub(crate) header: &'static str,
    /// How soon the column is left out if there is no room. With 0 it stays, and its texts are cut instead.
    pub(crate) dispensable: u8,
}

/// A cell of a table: its text, and the same text in colour if it has one.
pub(crate) struct Cell {
    text: String,
    colored: Option<String>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, colored: None }
    }
}

impl Cell {
    /// Makes a cell that is shown in colour.
    pub(crate) const fn colored(text: String, colored: String) -> Self {
        Self { text, colored: Some(colored) }
    }
}

const GAP: usize = 2;
const LEAST: usize = 6;

/// Returns the width of the terminal on standard output; `None` if it is not a terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Returns the table as text, at most `room` columns wide if that is given.
pub(crate) fn layout(columns: &[Column], rows: &[Vec<Cell>], room: Option<usize>) -> String {
    let natural: Vec<usize> = (0..columns.len())
        .map(|at| rows.iter().map(|row| row[at].text.width()).chain([columns[at].header.width()]).max().unwrap_or(0))
        .collect();
    let (shown, widths) = fit(columns, natural, room);
    let mut text = String::new();
    line(&mut text, &shown, &widths, |at| (columns[at].header, Some(styled(BOLD, columns[at].header))));
    for row in rows {
        line(&mut text, &shown, &widths, |at| (&row[at].text, row[at].colored.clone()));
    }
    text
}

/// Returns the columns that are shown, and the width of each column.
fn fit(columns: &[Column], mut widths: Vec<usize>, room: Option<usize>) -> (Vec<usize>, Vec<usize>) {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let Some(room) = room else {
        return (shown, widths);
    };
    let total = |shown: &[usize], widths: &[usize]| {
        shown.iter().map(|at| widths[*at]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    while total(&shown, &widths) > room {
        let next = shown.iter().copied().max_by_key(|at| columns[*at].dispensable);
        match next.filter(|at| columns[*at].dispensable > 0) {
            Some(at) => shown.retain(|kept| *kept != at),
            // No more columns may be left out, so the widest one is cut by one character.
            None => match shown.iter().copied().max_by_key(|at| widths[*at]).filter(|at| widths[*at] > LEAST) {
                Some(widest) => widths[widest] -= 1,
                None => break,
            },
        }
    }
    (shown, widths)
}

fn line<'a>(text: &mut String, shown: &[usize], widths: &[usize], cell: impl Fn(usize) -> (&'a str, Option<String>)) {
    for (place, &at) in shown.iter().enumerate() {
        let (plain, colored) = cell(at);
        let width = widths[at];
        let is_cut = plain.width() > width;
        let cut = if is_cut { cut(plain, width) } else { plain.to_owned() };
        let padding = if place + 1 == shown.len() { 0 } else { width + GAP - cut.width() };
        let shown_text = colored.filter(|_| !is_cut).unwrap_or(cut);
        let _ = write!(text, "{shown_text}{:padding$}", "");
    }
    while text.ends_with(' ') {
        text.pop();
    }
    text.push('\n');
}

fn cut(text: &str, width: usize) -> String {
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(room: Option<usize>) -> String {
        let columns = [
            Column { header: "SESSION", dispensable: 0 },
            Column { header: "DEVICE", dispensable: 0 },
            Column { header: "CLIENT", dispensable: 1 },
        ];
        let rows =
            [vec!["k3f9".to_owned().into(), "wohnzimmer-日本".to_owned().into(), "openclaw 1".to_owned().into()]];
        anstream::adapter::strip_str(&layout(&columns, &rows, room)).to_string()
    }

    #[test]
    fn without_a_terminal_nothing_is_cut() {
        assert_eq!(plain(None), "SESSION  DEVICE           CLIENT\nk3f9     wohnzimmer-日本  openclaw 1\n");
    }

    #[test]
    fn in_a_narrow_one_columns_go_before_texts_are_cut() {
        assert_eq!(plain(Some(30)), "SESSION  DEVICE\nk3f9     wohnzimmer-日本\n");
        assert_eq!(plain(Some(20)), "SESSION  DEVICE\nk3f9     wohnzimmer…\n");
        assert!(plain(Some(1)).lines().all(|line| line.chars().count() <= 14));
    }
}
