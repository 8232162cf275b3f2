//! What of a damaged journal can be kept: every line that checks out, every line in which one bit has changed, and
//! nothing else.

use std::collections::BTreeSet;

use tenure_domain::SessionId;

use super::Loss;
use crate::apply::{News, apply};
use crate::format::{Op, Problem, Tx, may_begin_line, mended, parse_line, starts_of_lines};
use crate::journal::is_torn;
use crate::table::Table;

/// What was read.
#[derive(Default)]
pub(super) struct Salvaged {
    pub(super) table: Table,
    /// The number of the last transaction, lost ones counted.
    pub(super) through: u64,
    pub(super) losses: Vec<Loss>,
    /// Named by what was lost: an end may be among it.
    pub(super) suspects: BTreeSet<SessionId>,
    /// The last line's time, the machine's run, and its length.
    pub(super) stamp: Option<(u64, String, u64)>,
    /// Lines that checked out.
    pub(super) good: u64,
    /// Lines since the last one that did.
    bad: u64,
    /// How many lines the first one says the snapshot has.
    snapshot: u64,
}

/// Where a piece of the file is.
#[derive(Clone, Copy)]
struct Place {
    line: u64,
    offset: u64,
}

/// Reads all that can be read.
pub(super) fn salvage(bytes: &[u8]) -> Salvaged {
    let mut all = Salvaged::default();
    let (mut at, mut line, mut judged) = (0, 0, false);
    while at < bytes.len() {
        line += 1;
        let location = Place { line, offset: at as u64 };
        let end = memchr::memchr(b'\n', &bytes[at..]).map(|length| at + length);
        let piece = &bytes[at..end.unwrap_or(bytes.len())];
        let message = match parse_line(piece) {
            Ok((tx, _)) => {
                all.take(tx, location);
                if end.is_none() {
                    all.losses.push(Loss::NoNewline { line });
                }
                None
            }
            Err(message) => Some(message),
        };
        let Some(message) = message else {
            at += piece.len() + 1;
            continue;
        };
        // By the rule that writers cut by; a snapshot was whole before the file became the store.
        let beyond = all.good > 0 && line > all.snapshot;
        if beyond && (end.is_none() || !std::mem::replace(&mut judged, true)) {
            let rest = &bytes[at..];
            if is_torn(rest, at as u64, all.through + all.bad + 1) {
                all.losses.push(Loss::Torn { offset: at as u64, bytes: rest.len() as u64 });
                all.bad += 1 + memchr::memchr_iter(b'\n', rest).count() as u64;
                break;
            }
        }
        let next = end.map(|end| &bytes[end + 1..]).unwrap_or_default();
        let next = &next[..memchr::memchr(b'\n', next).unwrap_or(next.len())];
        if let Some(joined) = mend_joined(piece, next) {
            all.mended(&joined, location);
            at += joined.len() + 1;
            line += 1;
        } else {
            all.sift(piece, location, &message);
            at += piece.len() + 1;
        }
    }
    all.through += all.bad;
    all
}

impl Salvaged {
    /// Applies a line that checks out, as far as what came before it allows.
    fn take(&mut self, tx: Tx<'_>, location: Place) {
        if self.good > 0 && tx.number <= self.through {
            let message = format!("transaction {} stands behind transaction {}", tx.number, self.through);
            let sessions: Vec<_> = tx.ops.iter().filter_map(session_of).collect();
            self.drop_line(location, 0, message, sessions);
            return;
        }
        let expected = self.through + self.bad + 1;
        if self.good > 0 && tx.number > expected {
            self.losses.push(Loss::Missing { from: expected, to: tx.number - 1 });
        }
        (self.through, self.bad) = (tx.number, 0);
        self.stamp = Some((tx.at, tx.boot.to_string(), tx.elapsed));
        self.good += 1;
        let Tx { number, at, ops, .. } = tx;
        for op in ops.into_iter().flat_map(singly) {
            if let Op::Head(head) = op {
                if location.line == 1 {
                    self.snapshot = head.lines;
                } else {
                    let message = "a first line stands in the middle".to_owned();
                    self.losses.push(Loss::Skipped { line: location.line, message });
                }
                continue;
            }
            let session = session_of(&op);
            let one = Tx { number, at, ops: vec![op], ..Tx::default() };
            if let Err(message) = apply(&mut self.table, one, &mut News::default()) {
                self.skip(location.line, session, &message);
            }
        }
    }

    /// An operation that contradicts what came before it. What it left half done goes.
    fn skip(&mut self, line: u64, session: Option<SessionId>, message: &Problem) {
        self.losses.push(Loss::Skipped { line, message: message.to_string() });
        let Some(id) = session else { return };
        match self.table.find(id) {
            Some(at) if self.table.check(at).is_err() => self.table.remove(at),
            _ => {}
        }
        self.suspects.insert(id);
    }

    fn mended(&mut self, line: &[u8], location: Place) {
        if let Ok((tx, _)) = parse_line(line) {
            self.losses.push(Loss::Mended { line: location.line });
            self.take(tx, location);
        }
    }

    /// Keeps what can be kept of a line that does not check out: a changed newline makes two of one.
    fn sift(&mut self, piece: &[u8], location: Place, message: &Problem) {
        let starts = starts_of_lines(piece);
        if starts.len() < 2 && starts.first().is_none_or(|start| *start == 0) {
            return self.sift_one(piece, location, message);
        }
        let bounds: Vec<usize> = std::iter::once(0)
            .chain(starts.iter().copied().filter(|start| *start > 0))
            .chain(std::iter::once(piece.len()))
            .collect();
        for part in bounds.windows(2) {
            let location = Place { offset: location.offset + part[0] as u64, ..location };
            self.sift_one(&piece[part[0]..part[1]], location, message);
        }
    }

    fn sift_one(&mut self, piece: &[u8], location: Place, message: &Problem) {
        if let Some((_, line)) = piece.split_last()
            && parse_line(line).is_ok()
        {
            return self.mended(line, location);
        }
        if let Ok((tx, _)) = parse_line(piece) {
            return self.take(tx, location);
        }
        if let Some(line) = mended(piece) {
            return self.mended(&line, location);
        }
        self.drop_line(location, piece.len() as u64, message.to_string(), ids_in(piece));
    }

    fn drop_line(&mut self, location: Place, bytes: u64, message: String, sessions: Vec<SessionId>) {
        self.bad += u64::from(bytes > 0);
        self.suspects.extend(sessions.iter().copied());
        let Place { line, offset } = location;
        self.losses.push(Loss::Dropped { line, offset, bytes, message, sessions });
    }
}

/// The line that a changed bit cut into these two.
fn mend_joined(piece: &[u8], next: &[u8]) -> Option<Vec<u8>> {
    if next.is_empty() || !may_begin_line(piece) || parse_line(next).is_ok() {
        return None;
    }
    mended(&[piece, b"\n", next].concat())
}

/// An operation on several sessions as several operations.
fn singly(op: Op<'_>) -> Vec<Op<'_>> {
    match op {
        Op::Purge(ids) => ids.into_iter().map(|id| Op::Purge(vec![id])).collect(),
        Op::Lapse(ids) => ids.into_iter().map(|id| Op::Lapse(vec![id])).collect(),
        other => vec![other],
    }
}

fn session_of(op: &Op<'_>) -> Option<SessionId> {
    match op {
        Op::Record(_, record) => record.patch.id,
        Op::Patch(_, patch) => patch.id,
        Op::Head(_) | Op::Device { .. } | Op::Lapse(_) | Op::Purge(_) | Op::Touch(_) => None,
    }
}

/// Every session that a damaged line names other than for its activity.
fn ids_in(bytes: &[u8]) -> Vec<SessionId> {
    let mut ids: Vec<_> = memchr::memchr_iter(b'"', bytes)
        .filter_map(|at| {
            let quoted = bytes.get(at + 1..at + 22)?.strip_suffix(b"\"")?;
            let is_activity = bytes.get(at + 22) == Some(&b':');
            SessionId::from_ascii(quoted).ok().filter(|_| !is_activity)
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
