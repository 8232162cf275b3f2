//! Salvaging a damaged journal: every valid line is kept, and every line in which only one bit has changed.

use std::collections::BTreeSet;

use tenure_domain::SessionId;

use super::plan::Loss;
use crate::format::{FormatError, Op, Transaction, find_line_starts, is_line_prefix, parse_line, repair_bit};
use crate::journal::is_torn;
use crate::table::Table;
use crate::table::apply::{AppliedEvents, apply};

/// The result of salvaging a journal: what is kept, and what is lost.
#[derive(Default)]
pub(super) struct Salvaged {
    pub(super) table: Table,
    /// The number of the last transaction, kept or lost.
    pub(super) through: u64,
    pub(super) losses: Vec<Loss>,
    /// The sessions that lost lines name. A lost line may have ended them.
    pub(super) suspects: BTreeSet<SessionId>,
    /// The time, the boot id and the uptime that the last line records.
    pub(super) recorded_time: Option<(u64, String, u64)>,
    /// The number of valid lines.
    pub(super) valid_lines: u64,
    /// The number of invalid lines since the last valid one.
    invalid_run: u64,
    /// The number of lines that the snapshot has according to the first line.
    snapshot: u64,
}

/// The position of a line in the file.
#[derive(Clone, Copy)]
struct LinePosition {
    line: u64,
    offset: u64,
}

/// Salvages the journal in `bytes`.
pub(super) fn salvage(bytes: &[u8]) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let (mut at, mut line, mut has_looked_for_tear) = (0, 0, false);
    while at < bytes.len() {
        line += 1;
        let position = LinePosition { line, offset: at as u64 };
        let end = memchr::memchr(b'\n', &bytes[at..]).map(|length| at + length);
        let piece = &bytes[at..end.unwrap_or(bytes.len())];
        let message = match parse_line(piece) {
            Ok((tx, _)) => {
                salvaged.apply_line(tx, position);
                if end.is_none() {
                    salvaged.losses.push(Loss::MissingNewline { line });
                }
                None
            }
            Err(message) => Some(message),
        };
        let Some(message) = message else {
            at += piece.len() + 1;
            continue;
        };
        // Writers cut a torn tail by the same rule. A snapshot is never torn, because it was durable before its file
        // became the store.
        let beyond = salvaged.valid_lines > 0 && line > salvaged.snapshot;
        if beyond && (end.is_none() || !std::mem::replace(&mut has_looked_for_tear, true)) {
            let rest = &bytes[at..];
            if is_torn(rest, at as u64, salvaged.through + salvaged.invalid_run + 1) {
                salvaged.losses.push(Loss::Torn { offset: at as u64, bytes: rest.len() as u64 });
                salvaged.invalid_run += 1 + memchr::memchr_iter(b'\n', rest).count() as u64;
                break;
            }
        }
        let next = end.map(|end| &bytes[end + 1..]).unwrap_or_default();
        let next = &next[..memchr::memchr(b'\n', next).unwrap_or(next.len())];
        if let Some(joined) = repair_split_line(piece, next) {
            salvaged.take_repaired(&joined, position);
            at += joined.len() + 1;
            line += 1;
        } else {
            salvaged.salvage_parts(piece, position, &message);
            at += piece.len() + 1;
        }
    }
    salvaged.through += salvaged.invalid_run;
    salvaged
}

impl Salvaged {
    /// Applies the operations of a valid line, except for those that contradict what came before.
    fn apply_line(&mut self, tx: Transaction<'_>, position: LinePosition) {
        if self.valid_lines > 0 && tx.number <= self.through {
            let message = format!("transaction {} comes after transaction {}", tx.number, self.through);
            let sessions: Vec<_> = tx.ops.iter().filter_map(session_of).collect();
            self.drop_line(position, 0, message, sessions);
            return;
        }
        let expected = self.through + self.invalid_run + 1;
        if self.valid_lines > 0 && tx.number > expected {
            self.losses.push(Loss::Missing { from: expected, to: tx.number - 1 });
        }
        (self.through, self.invalid_run) = (tx.number, 0);
        self.recorded_time = Some((tx.at, tx.boot.to_string(), tx.uptime));
        self.valid_lines += 1;
        let Transaction { number, at, ops, .. } = tx;
        for op in ops.into_iter().flat_map(split_by_session) {
            if let Op::Header(header) = op {
                if position.line == 1 {
                    self.snapshot = header.lines;
                } else {
                    let message = "a first line is in the middle of the file".to_owned();
                    self.losses.push(Loss::Skipped { line: position.line, message });
                }
                continue;
            }
            let session = session_of(&op);
            let one = Transaction { number, at, ops: vec![op], ..Transaction::default() };
            if let Err(message) = apply(&mut self.table, one, &mut AppliedEvents::default()) {
                self.skip(position.line, session, &message);
            }
        }
    }

    /// Skips an operation that contradicts what came before. If it has left a record that contradicts itself, that
    /// record is removed.
    fn skip(&mut self, line: u64, session: Option<SessionId>, message: &FormatError) {
        self.losses.push(Loss::Skipped { line, message: message.to_string() });
        let Some(id) = session else { return };
        match self.table.find(id) {
            Some(at) if self.table.check(at).is_err() => self.table.remove(at),
            _ => {}
        }
        self.suspects.insert(id);
    }

    /// Applies a line in which one bit was corrected.
    fn take_repaired(&mut self, line: &[u8], position: LinePosition) {
        if let Ok((tx, _)) = parse_line(line) {
            self.losses.push(Loss::BitRepaired { line: position.line });
            self.apply_line(tx, position);
        }
    }

    /// Salvages the parts of an invalid line. If a newline was changed, it is two lines.
    fn salvage_parts(&mut self, piece: &[u8], position: LinePosition, message: &FormatError) {
        let starts = find_line_starts(piece);
        if starts.len() < 2 && starts.first().is_none_or(|start| *start == 0) {
            return self.salvage_part(piece, position, message);
        }
        let bounds: Vec<usize> = std::iter::once(0)
            .chain(starts.iter().copied().filter(|start| *start > 0))
            .chain(std::iter::once(piece.len()))
            .collect();
        for part in bounds.windows(2) {
            let position = LinePosition { offset: position.offset + part[0] as u64, ..position };
            self.salvage_part(&piece[part[0]..part[1]], position, message);
        }
    }

    fn salvage_part(&mut self, piece: &[u8], position: LinePosition, message: &FormatError) {
        if let Some((_, line)) = piece.split_last()
            && parse_line(line).is_ok()
        {
            return self.take_repaired(line, position);
        }
        if let Ok((tx, _)) = parse_line(piece) {
            return self.apply_line(tx, position);
        }
        if let Some(line) = repair_bit(piece) {
            return self.take_repaired(&line, position);
        }
        self.drop_line(position, piece.len() as u64, message.to_string(), ids_in(piece));
    }

    fn drop_line(&mut self, position: LinePosition, bytes: u64, message: String, sessions: Vec<SessionId>) {
        self.invalid_run += u64::from(bytes > 0);
        self.suspects.extend(sessions.iter().copied());
        let LinePosition { line, offset } = position;
        self.losses.push(Loss::Dropped { line, offset, bytes, message, sessions });
    }
}

/// Returns the line that a changed bit has cut into these two. `None` if that is not what happened.
fn repair_split_line(piece: &[u8], next: &[u8]) -> Option<Vec<u8>> {
    if next.is_empty() || !is_line_prefix(piece) || parse_line(next).is_ok() {
        return None;
    }
    repair_bit(&[piece, b"\n", next].concat())
}

/// Splits an operation on several sessions into one operation for each.
fn split_by_session(op: Op<'_>) -> Vec<Op<'_>> {
    match op {
        Op::Purge(ids) => ids.into_iter().map(|id| Op::Purge(vec![id])).collect(),
        Op::Expire(ids) => ids.into_iter().map(|id| Op::Expire(vec![id])).collect(),
        other => vec![other],
    }
}

fn session_of(op: &Op<'_>) -> Option<SessionId> {
    match op {
        Op::Record(_, record) => record.patch.id,
        Op::Patch(_, patch) => patch.id,
        Op::Header(_) | Op::Device { .. } | Op::Expire(_) | Op::Purge(_) | Op::Touch(_) => None,
    }
}

/// Returns the sessions that a damaged line names, except for those whose activity it records.
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
