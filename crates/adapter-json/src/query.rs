//! Listings. A scan gives way to others every so many rows.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tenure_domain::{Filter, IdPrefix, Session, SessionError, SessionId, SortKey, Timestamp};
use tenure_ports::{Cursor, Page, StoreError};

use crate::guard::corrupt;
use crate::table::{Row, Table};
use crate::writer::Shared;

/// How many rows are looked at under one lock.
const ROWS_AT_ONCE: u32 = 16_384;

/// Rows that a filter can mean, in the order of their places.
enum Places {
    /// All, from a place on.
    All(u32),
    /// These, ascending.
    Some(Vec<u32>),
}

fn places(table: &Table, filter: &Filter, from: u32) -> Places {
    let listed = |rows: &mut dyn Iterator<Item = (u32, &Row)>| {
        let mut places: Vec<u32> = rows.map(|(at, _)| at).filter(|at| *at >= from).collect();
        places.sort_unstable();
        Places::Some(places)
    };
    if let Some(device) = &filter.device {
        return match table.devices.find(device.as_str()) {
            Some(device) => listed(&mut table.device_rows(device)),
            None => Places::Some(Vec::new()),
        };
    }
    if let Some(subject) = &filter.subject {
        return match table.subjects.find(subject.as_str()) {
            // Following a long list through memory costs more than to look at every row.
            Some(subject) if table.subjects.uses(subject) < table.bound() / 8 => {
                listed(&mut table.subject_rows(subject))
            }
            Some(_) => Places::All(from),
            None => Places::Some(Vec::new()),
        };
    }
    Places::All(from)
}

fn damaged(shared: &Shared, error: &SessionError) -> StoreError {
    corrupt(&shared.path, 0, &error.to_string())
}

pub(crate) fn page(
    shared: &Shared,
    filter: &Filter,
    now: Timestamp,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, StoreError> {
    let from = after.map_or(0, |cursor| u32::try_from(cursor.0).unwrap_or(u32::MAX));
    let journal = shared.journal.read();
    let table = &journal.table;
    let mut sessions = Vec::new();
    let mut take = |at: u32| {
        let session = table.session(at).map_err(|error| damaged(shared, &error))?;
        if filter.matches(&session, now) {
            sessions.push(session);
        }
        Ok::<_, StoreError>(sessions.len() >= limit.max(1))
    };
    let next = match places(table, filter, from) {
        Places::Some(places) => {
            let mut next = None;
            for at in places {
                if take(at)? {
                    next = Some(at + 1);
                    break;
                }
            }
            next
        }
        Places::All(from) => {
            let to = from.saturating_add(ROWS_AT_ONCE).min(table.bound());
            let mut next = (to < table.bound()).then_some(to);
            for (at, _) in table.rows_from(from).take_while(|(at, _)| *at < to) {
                if take(at)? {
                    next = Some(at + 1);
                    break;
                }
            }
            next
        }
    };
    Ok(Page { sessions, next: next.map(|next| Cursor(next.into())) })
}

/// The first of a listing that are known so far; the last of them on top.
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

/// Whether a row can come before a session in the order of `sort`: told by the packed numbers, so that the many that
/// cannot are never unpacked.
fn may_precede(row: &Row, session: &Session, sort: SortKey) -> bool {
    match sort {
        SortKey::LastActivity => row.active >= session.last_activity.as_millis(),
        SortKey::Created => row.created >= session.created_at.as_millis(),
        SortKey::Expires => row.expires <= session.expires_at.as_millis(),
    }
}

pub(crate) fn top(
    shared: &Arc<Shared>,
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
        let session = table.session(at).map_err(|error| damaged(shared, &error))?;
        if filter.matches(&session, now) {
            best.push(Ranked { session, sort });
            if full {
                best.pop();
            }
        }
        Ok::<_, StoreError>(())
    };
    // The youngest come first: where most rows were added in order, few of the others need to be unpacked.
    let mut to = u32::MAX;
    while to > 0 {
        let journal = shared.journal.read();
        let table = &journal.table;
        match places(table, filter, 0) {
            Places::Some(places) => {
                for at in places {
                    consider(table, at, table.row(at))?;
                }
                break;
            }
            Places::All(_) => {
                to = to.min(table.bound());
                let from = to.saturating_sub(ROWS_AT_ONCE);
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

pub(crate) fn starting_with(shared: &Shared, prefix: IdPrefix, limit: usize) -> Vec<SessionId> {
    let range = prefix.range();
    if range.start() == range.end() {
        let known = shared.journal.read().table.find(*range.start()).is_some();
        return if known && limit > 0 { vec![*range.start()] } else { Vec::new() };
    }
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let journal = shared.journal.read();
        let to = from + ROWS_AT_ONCE;
        let rows = journal.table.rows_from(from).take_while(|(at, _)| *at < to);
        found.extend(rows.map(|(_, row)| row.id).filter(|id| prefix.matches(*id)));
        // Only the first ones are asked for.
        if found.len() > limit.saturating_mul(2).max(1024) {
            found.sort_unstable();
            found.truncate(limit);
        }
        from = to;
        if from >= journal.table.bound() {
            break;
        }
    }
    found.sort_unstable();
    found.truncate(limit);
    found
}
