//! Queries over many sessions. A scan unlocks the table after each group of rows, so that writers are not delayed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tenure_domain::{Filter, IdPrefix, Session, SessionError, SessionId, SortKey, Timestamp};
use tenure_ports::{Cursor, Page, StoreError};

use crate::error::corrupt;
use crate::state::StoreState;
use crate::table::{Row, Table};

/// The number of rows that are scanned each time the table is locked.
const ROWS_PER_LOCK: u32 = 16_384;

/// The rows that can match a filter.
enum Candidates {
    /// All rows from this one on.
    All(u32),
    /// These rows, in ascending order.
    Listed(Vec<u32>),
}

/// Returns the rows from `from` on that can match a filter.
fn candidates(table: &Table, filter: &Filter, from: u32) -> Candidates {
    let listed = |rows: &mut dyn Iterator<Item = (u32, &Row)>| {
        let mut rows: Vec<u32> = rows.map(|(at, _)| at).filter(|at| *at >= from).collect();
        rows.sort_unstable();
        Candidates::Listed(rows)
    };
    if let Some(device) = &filter.device {
        return match table.devices.find(device.as_str()) {
            Some(device) => listed(&mut table.device_rows(device)),
            None => Candidates::Listed(Vec::new()),
        };
    }
    if let Some(subject) = &filter.subject {
        return match table.subjects.find(subject.as_str()) {
            // Following a long list through memory costs more than scanning every row.
            Some(subject) if table.subjects.use_count(subject) < table.slot_count() / 8 => {
                listed(&mut table.subject_rows(subject))
            }
            Some(_) => Candidates::All(from),
            None => Candidates::Listed(Vec::new()),
        };
    }
    Candidates::All(from)
}

fn corrupt_row(state: &StoreState, error: &SessionError) -> StoreError {
    corrupt(&state.path, 0, &error.to_string())
}

/// Reads one page of a walk through the sessions. See [`tenure_ports::SessionQueries::page`].
pub(crate) fn page(
    state: &StoreState,
    filter: &Filter,
    now: Timestamp,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, StoreError> {
    let from = after.map_or(0, |cursor| u32::try_from(cursor.0).unwrap_or(u32::MAX));
    let journal = state.journal.read();
    let table = &journal.table;
    let mut sessions = Vec::new();
    let mut add = |at: u32| {
        let session = table.session(at).map_err(|error| corrupt_row(state, &error))?;
        if filter.matches(&session, now) {
            sessions.push(session);
        }
        Ok::<_, StoreError>(sessions.len() >= limit.max(1))
    };
    let next = match candidates(table, filter, from) {
        Candidates::Listed(rows) => {
            let mut next = None;
            for at in rows {
                if add(at)? {
                    next = Some(at + 1);
                    break;
                }
            }
            next
        }
        Candidates::All(from) => {
            let to = from.saturating_add(ROWS_PER_LOCK).min(table.slot_count());
            let mut next = (to < table.slot_count()).then_some(to);
            for (at, _) in table.rows_from(from).take_while(|(at, _)| *at < to) {
                if add(at)? {
                    next = Some(at + 1);
                    break;
                }
            }
            next
        }
    };
    Ok(Page { sessions, next: next.map(|next| Cursor(next.into())) })
}

/// A session of a sorted listing. The session that comes last in the listing is the greatest.
struct Ranked {
    session: Session,
    sort: SortKey,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort.compare(&self.session, &other.session)
    }
}

/// Whether a row can come before a session in the order of `sort`. This compares the numbers of the row, so that most
/// rows need not be made into sessions.
fn may_precede(row: &Row, session: &Session, sort: SortKey) -> bool {
    match sort {
        SortKey::LastActivity => row.last_activity >= session.last_activity.as_millis(),
        SortKey::Created => row.created >= session.created_at.as_millis(),
        SortKey::Expires => row.expires <= session.expires_at.as_millis(),
    }
}

/// Lists the first `limit` sessions in the order of `sort`. See [`tenure_ports::SessionQueries::list_sorted`].
pub(crate) fn list_sorted(
    state: &StoreState,
    filter: &Filter,
    now: Timestamp,
    sort: SortKey,
    limit: usize,
) -> Result<Vec<Session>, StoreError> {
    let mut best: BinaryHeap<Ranked> = BinaryHeap::new();
    let mut consider = |table: &Table, at: u32, row: &Row| {
        let full = best.len() >= limit;
        if limit == 0 || (full && best.peek().is_some_and(|last| !may_precede(row, &last.session, sort))) {
            return Ok(());
        }
        let session = table.session(at).map_err(|error| corrupt_row(state, &error))?;
        if filter.matches(&session, now) {
            best.push(Ranked { session, sort });
            if full {
                best.pop();
            }
        }
        Ok::<_, StoreError>(())
    };
    // The newest rows come first. They were mostly inserted in order, so few of the others need to be made into
    // sessions.
    let mut to = u32::MAX;
    while to > 0 {
        let journal = state.journal.read();
        let table = &journal.table;
        match candidates(table, filter, 0) {
            Candidates::Listed(rows) => {
                for at in rows {
                    consider(table, at, table.row(at))?;
                }
                break;
            }
            Candidates::All(_) => {
                to = to.min(table.slot_count());
                let from = to.saturating_sub(ROWS_PER_LOCK);
                for at in (from..to).rev() {
                    let row = table.row(at);
                    if !row.is_free() {
                        consider(table, at, row)?;
                    }
                }
                to = from;
            }
        }
    }
    Ok(best.into_sorted_vec().into_iter().map(|ranked| ranked.session).collect())
}

/// Lists the first `limit` ids that begin with a prefix, in order.
pub(crate) fn ids_with_prefix(state: &StoreState, prefix: IdPrefix, limit: usize) -> Vec<SessionId> {
    let range = prefix.range();
    if range.start() == range.end() {
        let known = state.journal.read().table.find(*range.start()).is_some();
        return if known && limit > 0 { vec![*range.start()] } else { Vec::new() };
    }
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let journal = state.journal.read();
        let to = from + ROWS_PER_LOCK;
        let rows = journal.table.rows_from(from).take_while(|(at, _)| *at < to);
        found.extend(rows.map(|(_, row)| row.id).filter(|id| prefix.matches(*id)));
        // Only the first `limit` are needed.
        if found.len() > limit.saturating_mul(2).max(1024) {
            found.sort_unstable();
            found.truncate(limit);
        }
        from = to;
        if from >= journal.table.slot_count() {
            break;
        }
    }
    found.sort_unstable();
    found.truncate(limit);
    found
}
