//! One round of the writer: lock, catch up, check, append, sync, answer.

use std::io;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tenure_domain::{Change, Commit, EndReason, Revision, SessionId, Timestamp};
use tenure_ports::{Clock as _, CommitError, Purged, StoreError};

use super::append::write;
use super::{Job, Reply, Shared, decide};
use crate::format::{Line, Ops};
use crate::guard::{failed, parent, unavailable};
use crate::index;
use crate::journal::{Journal, Tail};
use crate::lock::{Held, Lock};
use crate::purge;
use crate::snapshot;
use crate::vfs::Access;

/// Activity is never waited for; beyond this much of it the writer syncs of itself, so that little is ever unsettled.
const UNSYNCED_MOST: u64 = 64 << 10;
/// How many sessions' activity one line records.
const TOUCHES_A_LINE: usize = 4096;

/// What the writer remembers from one round to the next.
#[derive(Default)]
pub(super) struct State {
    /// A sync failed, and what the file holds on the disk is not known: it has to be written anew.
    suspect: bool,
    /// No compaction before the file has this size: the last one failed.
    compact_from: u64,
    /// What a killed process may have left behind was looked for.
    tidied: bool,
    /// The index was looked after, once, for what this process had to read.
    indexed: bool,
}

/// A commit that was checked and stands in the bytes to write.
struct Accepted {
    commit: Commit,
    reply: Reply<Revision, CommitError>,
    number: u64,
    /// Where its line begins and ends.
    start: usize,
    end: usize,
}

#[derive(Default)]
struct Waiting {
    commits: Vec<(Commit, Reply<Revision, CommitError>)>,
    purges: Vec<(tenure_ports::Purge, Option<tenure_ports::Cursor>, Reply<Purged>)>,
    syncs: Vec<Reply<()>>,
    others: Vec<Reply<()>>,
    compactions: Vec<Reply<()>>,
    indexings: Vec<Reply<()>>,
}

/// Nobody may wait any more: the answer is lost then, and that is fine.
fn answer<T, E>(reply: Reply<T, E>, result: Result<T, E>) {
    drop(reply.send(result));
}

pub(super) fn run(
    shared: &Shared,
    lock: &mut Lock,
    state: &mut State,
    jobs: Vec<Job>,
    touches: HashMap<SessionId, Timestamp>,
) {
    let mut waiting = Waiting::default();
    for job in jobs {
        match job {
            Job::Commit(commit, reply) => waiting.commits.push((commit, reply)),
            Job::Purge(purge, after, reply) => waiting.purges.push((purge, after, reply)),
            Job::Sync(reply) => waiting.syncs.push(reply),
            Job::Flush(reply) | Job::Probe(reply) => waiting.others.push(reply),
            Job::Compact(reply) => waiting.compactions.push(reply),
            Job::Index(reply) => waiting.indexings.push(reply),
        }
    }
    let Waiting { commits, purges, syncs, others, compactions, indexings } = waiting;
    let nothing = commits.is_empty() && purges.is_empty() && others.is_empty() && compactions.is_empty();
    if nothing && indexings.is_empty() && touches.is_empty() && !state.suspect && !shared.journal.read().is_unsure() {
        let result = sync_only(shared);
        return syncs.into_iter().for_each(|reply| answer(reply, result.clone()));
    }
    let held = match prepare(shared, lock, state) {
        Ok(held) => held,
        Err(error) => {
            refuse(shared, commits, &error);
            shared.put_back(touches);
            purges.into_iter().for_each(|(_, _, reply)| answer(reply, Err(error.clone())));
            let rest = syncs.into_iter().chain(others).chain(compactions).chain(indexings);
            return rest.for_each(|reply| answer(reply, Err(error.clone())));
        }
    };
    let written = append(shared, state, commits, &touches, !syncs.is_empty());
    syncs.into_iter().chain(others).for_each(|reply| answer(reply, written.clone()));
    for (purge, after, reply) in purges {
        answer(reply, purge::run(shared, &purge, after, |shared, fill| append_line(shared, state, fill)));
    }
    if compactions.is_empty() {
        compact_if_due(shared, state);
    } else {
        let result = compact(shared, state);
        compactions.into_iter().for_each(|reply| answer(reply, result.clone()));
    }
    index_if_due(shared, state);
    indexings.into_iter().for_each(|reply| answer(reply, Ok(())));
    drop(held);
}

/// A reader wants to be sure of what another process wrote.
fn sync_only(shared: &Shared) -> Result<(), StoreError> {
    let file = Arc::clone(&shared.journal.read().file);
    file.sync().map_err(|error| failed(&shared.path, "sync the store", &error))
}

/// Takes the lock, catches up and repairs what a dead writer left.
fn prepare(shared: &Shared, lock: &mut Lock, state: &mut State) -> Result<Held, StoreError> {
    let held = lock.acquire()?;
    loop {
        let (tail, file, end) = {
            let mut journal = shared.journal.write();
            let tail = journal.refresh()?;
            (tail, Arc::clone(&journal.file), journal.at.end)
        };
        match tail {
            Tail::Clean => break,
            Tail::Changed => continue,
            Tail::Torn | Tail::LacksNewline => {}
        }
        writable(shared)?;
        let repair = || match tail {
            Tail::LacksNewline => {
                let size = file.stat()?.size;
                snapshot::write_all(&*file, b"\n", size)
            }
            _ => {
                file.truncate(end)?;
                // What is written there next must not mix with what was cut, should the power fail.
                file.sync()
            }
        };
        repair().map_err(|error| failed(&shared.path, "cut the incomplete line at the store's end", &error))?;
    }
    writable(shared)?;
    if let Some(message) = shared.clock.message() {
        return Err(unavailable(&shared.path, message));
    }
    if !std::mem::replace(&mut state.tidied, true) {
        snapshot::discard_unfinished(&*shared.vfs, &shared.path);
    }
    if state.suspect {
        rewrite(shared, state)?;
    }
    Ok(held)
}

/// A store that could only be opened to read may have become writable.
fn writable(shared: &Shared) -> Result<(), StoreError> {
    if !shared.journal.read().read_only {
        return Ok(());
    }
    let opened = shared.vfs.open(&shared.path, Access::Write);
    let file = opened.map_err(|error| failed(&shared.path, "open the store to write", &error))?;
    let mut journal = shared.journal.write();
    // The old one has its one name still, so this is the same file.
    if journal.file.stat().is_ok_and(|stat| stat.links != 0) {
        (journal.file, journal.read_only) = (file, false);
    }
    Ok(())
}

/// Answers commits that were not tried.
fn refuse(shared: &Shared, commits: Vec<(Commit, Reply<Revision, CommitError>)>, error: &StoreError) {
    for (commit, reply) in commits {
        deny(shared, &commit);
        answer(reply, Err(error.clone().into()));
    }
}

/// An end that somebody asked for and that could not be written holds in this process all the same. What ended by the
/// way does not: an issue that failed evicts nobody, and idleness is decided anew at the next use.
fn deny(shared: &Shared, commit: &Commit) {
    for change in &commit.changes {
        let Change::Ended(session) = change else { continue };
        match session.end.as_ref().map(|end| end.reason) {
            Some(EndReason::Revoked | EndReason::LoggedOut | EndReason::Replayed) => {
                shared.journal.write().denied.insert(session.id, session.clone());
            }
            Some(EndReason::Evicted | EndReason::Idle) | None => {}
        }
    }
}

/// Whether a commit would go on with a session that this process was told to end and could not.
fn check_denied(shared: &Shared, journal: &Journal, commit: &Commit) -> Result<(), CommitError> {
    let is_denied = |change: &&Change| {
        let session = change.session();
        session.end.is_none() && journal.denied.contains_key(&session.id)
    };
    match commit.changes.iter().find(is_denied) {
        Some(change) => {
            let id = change.session().id;
            let message = format!("session {id} was to be ended and that could not be written; revoke it again");
            Err(unavailable(&shared.path, message).into())
        }
        None => Ok(()),
    }
}

/// What a line that is written now begins with.
fn line<'a>(shared: &'a Shared, journal: &Journal, at: Timestamp) -> Line<'a> {
    let (boot, elapsed) = (shared.clock.boot_id(), shared.clock.elapsed().get());
    Line { number: journal.at.number + 1, at, synced: journal.at.synced, boot, elapsed }
}

/// Writes activity and commits; answers the commits. The result is about the activity, and about durability where
/// `must_sync` asks for it.
fn append(
    shared: &Shared,
    state: &mut State,
    commits: Vec<(Commit, Reply<Revision, CommitError>)>,
    touches: &HashMap<SessionId, Timestamp>,
    must_sync: bool,
) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    let mut accepted = Vec::new();
    {
        let journal = shared.journal.read();
        let now = shared.clock.now();
        let mut line = line(shared, &journal, now);
        let seen: Vec<_> =
            touches.iter().filter(|(id, _)| is_live(&journal, **id)).map(|(id, at)| (*id, *at)).collect();
        for some in seen.chunks(TOUCHES_A_LINE) {
            let mut ops = Ops::begin(&mut bytes, line);
            ops.touch(some.iter().copied());
            ops.end();
            line.number += 1;
        }
        let mut changed = HashSet::new();
        for (commit, reply) in commits {
            // Whoever comes second decided on a state that is about to be past.
            let fresh = !changed.contains(&commit.device);
            let checked = if fresh { decide::check(&journal.table, &commit, now) } else { Err(CommitError::Conflict) };
            let checked = checked.and_then(|()| check_denied(shared, &journal, &commit));
            if let Err(error) = checked {
                answer(reply, Err(error));
                continue;
            }
            let start = bytes.len();
            let mut ops = Ops::begin(&mut bytes, line);
            decide::write(&mut ops, &journal.table, &commit);
            ops.end();
            changed.insert(commit.device.clone());
            accepted.push(Accepted { commit, reply, number: line.number, start, end: bytes.len() });
            line.number += 1;
        }
    }
    if bytes.is_empty() && !must_sync {
        return Ok(());
    }
    let written = write(shared, &bytes);
    let sync = must_sync || !accepted.is_empty();
    let synced = settle(shared, state, sync);
    for Accepted { commit, reply, number, start, end } in accepted {
        let result = written.outcome(start, end, &synced).map(|()| Revision::new(number));
        if result.is_ok() {
            forgive(shared, &commit);
        } else {
            deny(shared, &commit);
        }
        answer(reply, result);
    }
    written.message.map_or(synced, Err)
}

fn is_live(journal: &Journal, id: SessionId) -> bool {
    journal.table.find(id).is_some_and(|at| journal.table.row(at).end().is_none())
}

fn forgive(shared: &Shared, commit: &Commit) {
    let nothing = shared.journal.read().denied.is_empty();
    if nothing {
        return;
    }
    for change in &commit.changes {
        shared.journal.write().denied.remove(&change.session().id);
    }
}

/// One line, written and synced: for what is no commit.
fn append_line(shared: &Shared, state: &mut State, fill: purge::Fill<'_>) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    {
        let journal = shared.journal.read();
        let mut line = Ops::begin(&mut bytes, line(shared, &journal, shared.clock.now()));
        fill(&mut line, &journal.table);
        line.end();
    }
    match write(shared, &bytes).message {
        Some(message) => Err(message),
        None => settle(shared, state, true),
    }
}

/// Brings what was written to the disk, where that is asked for or much has gathered.
fn settle(shared: &Shared, state: &mut State, must: bool) -> Result<(), StoreError> {
    let (file, number, unsynced) = {
        let journal = shared.journal.read();
        (Arc::clone(&journal.file), journal.at.number, journal.at.end - journal.at.durable)
    };
    if !must && unsynced < UNSYNCED_MOST {
        return Ok(());
    }
    match name(shared).and_then(|()| file.sync()) {
        Ok(()) => {
            shared.journal.write().synced_through(number);
            Ok(())
        }
        Err(error) => {
            // Once a sync has failed, another on the same file can succeed without having written anything.
            tracing::warn!(%error, path = %shared.path.display(), "a sync failed; the store is written anew");
            state.suspect = true;
            rewrite(shared, state)
        }
    }
}

/// Whoever put the file in place may have died before the directory was on the disk.
fn name(shared: &Shared) -> io::Result<()> {
    if !shared.journal.read().named {
        shared.vfs.sync_dir(&parent(&shared.path))?;
        shared.journal.write().named = true;
    }
    Ok(())
}

fn rewrite(shared: &Shared, state: &mut State) -> Result<(), StoreError> {
    match snapshot::rewrite(&*shared.vfs, &shared.path, &shared.clock, &shared.journal) {
        Ok(()) => {
            (state.suspect, state.indexed) = (false, false);
            Ok(())
        }
        Err(failure) => {
            state.suspect |= failure.renamed;
            Err(failure.error)
        }
    }
}

/// Writes the file anew once it is more than twice the last snapshot and the floor, or once most of what that had is
/// gone: each byte is so copied about once.
fn compact_if_due(shared: &Shared, state: &mut State) {
    let (size, head, records) = {
        let journal = shared.journal.read();
        (journal.at.end, journal.at.head, journal.table.len() as u64)
    };
    let grown = size > head.size.saturating_mul(2).saturating_add(shared.floors.compact);
    let emptied = size > shared.floors.compact && records < head.records / 4;
    if !(grown || emptied) || size < state.compact_from {
        return;
    }
    state.compact_from = 0;
    if let Err(error) = compact(shared, state) {
        tracing::warn!(%error, "the store could not be compacted; it goes on growing until it can");
        state.compact_from = size.saturating_add(shared.floors.compact);
    }
}

/// Writes the index anew after the file was, and once for what this process had to read line by line when it began:
/// at most an eighth of the file (and the floor) beyond what the last index covered. Its own lines it does not index
/// again, so that each byte costs at most three more in indexes, and none in a process that runs on.
fn index_if_due(shared: &Shared, state: &mut State) {
    if std::mem::replace(&mut state.indexed, true) || !shared.wants_index() {
        return;
    }
    match index::write(&*shared.vfs, &shared.path, &shared.journal) {
        Ok(Some(end)) => shared.journal.write().indexed = Some(end),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, path = %shared.path.display(), "the store's index could not be written"),
    }
}

/// Removes what nobody may ask about any more, and writes the rest anew.
fn compact(shared: &Shared, state: &mut State) -> Result<(), StoreError> {
    purge::stale(shared, |shared, fill| append_line(shared, state, fill))?;
    rewrite(shared, state)
}
