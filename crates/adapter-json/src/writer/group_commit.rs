//! Group commit, one round of the writer: lock, catch up, check, append, sync, answer.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tenure_domain::{Commit, Revision, SessionId, Timestamp};
use tenure_ports::{Clock as _, CommitError, Cursor, Purge, Purged, StoreError};

use super::append::{append, append_line, next_line_header};
use super::durability::{rewrite, sync_if_needed, sync_only};
use super::local_refusals::{self, refuse_locally};
use super::maintenance::{compact, compact_if_due, index_if_due};
use super::{Job, Reply, Writer, WriterState, commit_lines, purge, validate};
use crate::error::{io_error, unavailable};
use crate::format::LineWriter;
use crate::journal::{Journal, Tail, snapshot};
use crate::state::StoreState;
use crate::storage::lock::WriterLockGuard;
use crate::storage::{OpenMode, write_all_at};

/// The largest number of sessions whose activity one line records.
const MAX_TOUCHES_PER_LINE: usize = 4096;

/// A valid commit whose line is in the bytes to append.
struct PendingCommit {
    commit: Commit,
    reply: Reply<Revision, CommitError>,
    number: u64,
    /// The offset of its line in these bytes.
    start: usize,
    /// The offset of the end of its line.
    end: usize,
}

type CommitJob = (Commit, Reply<Revision, CommitError>);

/// The jobs of a round, by their kind.
#[derive(Default)]
struct JobsByKind {
    commits: Vec<CommitJob>,
    purges: Vec<(Purge, Option<Cursor>, Reply<Purged>)>,
    syncs: Vec<Reply<()>>,
    /// Jobs that only need a round: flushing activity, and checking that the store can be written.
    others: Vec<Reply<()>>,
    compactions: Vec<Reply<()>>,
    indexings: Vec<Reply<()>>,
}

impl JobsByKind {
    fn new(jobs: Vec<Job>) -> Self {
        let mut sorted = Self::default();
        for job in jobs {
            match job {
                Job::Commit(commit, reply) => sorted.commits.push((commit, reply)),
                Job::Purge(purge, after, reply) => sorted.purges.push((purge, after, reply)),
                Job::Sync(reply) => sorted.syncs.push(reply),
                Job::FlushTouches(reply) | Job::CheckWritable(reply) => sorted.others.push(reply),
                Job::Compact(reply) => sorted.compactions.push(reply),
                Job::Index(reply) => sorted.indexings.push(reply),
            }
        }
        sorted
    }

    /// Whether there are no jobs but syncs.
    fn has_only_syncs(&self) -> bool {
        let Self { commits, purges, others, compactions, indexings, .. } = self;
        commits.is_empty() && purges.is_empty() && others.is_empty() && compactions.is_empty() && indexings.is_empty()
    }
}

/// Answers a job. If nobody waits for the answer any more, it is dropped.
fn send_reply<T, E>(reply: Reply<T, E>, result: Result<T, E>) {
    drop(reply.send(result));
}

/// Does all jobs of a round, and answers them.
pub(super) fn run(writer: &Writer, memory: &mut WriterState, jobs: Vec<Job>, touches: HashMap<SessionId, Timestamp>) {
    let state = &*writer.state;
    let jobs = JobsByKind::new(jobs);
    let is_sync_enough = jobs.has_only_syncs() && touches.is_empty() && !memory.must_rewrite;
    if is_sync_enough && !state.journal.read().is_sync_inconclusive() {
        let result = sync_only(state);
        return jobs.syncs.into_iter().for_each(|reply| send_reply(reply, result.clone()));
    }
    let JobsByKind { commits, purges, syncs, others, compactions, indexings } = jobs;
    let held = match lock_and_catch_up(writer, memory) {
        Ok(held) => held,
        Err(error) => {
            reject_all(state, commits, &error);
            writer.requeue_touches(touches);
            purges.into_iter().for_each(|(_, _, reply)| send_reply(reply, Err(error.clone())));
            let rest = syncs.into_iter().chain(others).chain(compactions).chain(indexings);
            return rest.for_each(|reply| send_reply(reply, Err(error.clone())));
        }
    };
    let written = write_commits(state, memory, commits, &touches, !syncs.is_empty());
    syncs.into_iter().chain(others).for_each(|reply| send_reply(reply, written.clone()));
    for (purge, after, reply) in purges {
        let result = purge::purge_page(state, &purge, after, |state, fill| append_line(state, memory, fill));
        send_reply(reply, result);
    }
    if compactions.is_empty() {
        compact_if_due(state, memory);
    } else {
        let result = compact(state, memory);
        compactions.into_iter().for_each(|reply| send_reply(reply, result.clone()));
    }
    index_if_due(state, memory);
    indexings.into_iter().for_each(|reply| send_reply(reply, Ok(())));
    drop(held);
}

/// Takes the lock, applies what other processes wrote, and completes or cuts an incomplete line that a dead writer
/// left.
fn lock_and_catch_up(writer: &Writer, memory: &mut WriterState) -> Result<WriterLockGuard, StoreError> {
    let state = &*writer.state;
    let held = writer.lock.lock().acquire()?;
    loop {
        let (tail, file, end) = {
            let tail = state.refresh()?;
            let journal = state.journal.read();
            (tail, Arc::clone(&journal.file), journal.position.end)
        };
        match tail {
            Tail::Clean => break,
            Tail::Changed => continue,
            Tail::Torn | Tail::LacksNewline => {}
        }
        ensure_writable(state)?;
        let repair = || match tail {
            Tail::LacksNewline => {
                let size = file.metadata()?.size;
                write_all_at(&*file, b"\n", size)
            }
            _ => {
                file.truncate(end)?;
                // Otherwise a power loss could mix the next line with the bytes that were cut.
                file.sync()
            }
        };
        repair().map_err(|error| io_error(&state.path, "cut the incomplete line at the store's end", error))?;
    }
    ensure_writable(state)?;
    if let Some(message) = state.clock.error() {
        return Err(unavailable(&state.path, message));
    }
    if !std::mem::replace(&mut memory.has_removed_leftovers, true) {
        snapshot::discard_unfinished(&*state.storage, &state.path);
    }
    if memory.must_rewrite {
        rewrite(state, memory)?;
    }
    Ok(held)
}

/// Opens the file for writing, if it could only be opened for reading before.
fn ensure_writable(state: &StoreState) -> Result<(), StoreError> {
    if !state.journal.read().read_only {
        return Ok(());
    }
    let opened = state.storage.open(&state.path, OpenMode::Write);
    let file = opened.map_err(|error| io_error(&state.path, "open the store to write", error))?;
    let mut journal = state.journal.write();
    // As long as the file of the former handle has its name, the new handle is of the same file.
    if journal.file.metadata().is_ok_and(|metadata| metadata.links != 0) {
        (journal.file, journal.read_only) = (file, false);
    }
    Ok(())
}

/// Answers commits with an error before they were tried.
fn reject_all(state: &StoreState, commits: Vec<CommitJob>, error: &StoreError) {
    for (commit, reply) in commits {
        refuse_locally(state, &commit);
        send_reply(reply, Err(error.clone().into()));
    }
}

/// Writes activity and commits, and answers the commits. The result is that of the activity, and of the sync if
/// `must_sync` is set.
fn write_commits(
    state: &StoreState,
    memory: &mut WriterState,
    commits: Vec<CommitJob>,
    touches: &HashMap<SessionId, Timestamp>,
    must_sync: bool,
) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    let pending = encode(state, commits, touches, &mut bytes);
    if bytes.is_empty() && !must_sync {
        return Ok(());
    }
    let written = append(state, &bytes);
    let synced = sync_if_needed(state, memory, must_sync || !pending.is_empty());
    for PendingCommit { commit, reply, number, start, end } in pending {
        let result = written.outcome(start, end, &synced).map(|()| Revision::new(number));
        if result.is_ok() {
            local_refusals::clear(state, &commit);
        } else {
            refuse_locally(state, &commit);
        }
        send_reply(reply, result);
    }
    written.error.map_or(synced, Err)
}

/// Encodes activity and commits as lines. A commit that is not valid is answered at once.
fn encode(
    state: &StoreState,
    commits: Vec<CommitJob>,
    touches: &HashMap<SessionId, Timestamp>,
    bytes: &mut Vec<u8>,
) -> Vec<PendingCommit> {
    let journal = state.journal.read();
    let now = state.clock.now();
    let mut header = next_line_header(state, &journal, now);
    let touches = touches.iter().filter(|(id, _)| is_not_ended(&journal, **id)).map(|(id, at)| (*id, *at));
    for some in touches.collect::<Vec<_>>().chunks(MAX_TOUCHES_PER_LINE) {
        let mut line = LineWriter::begin(bytes, header);
        line.touch(some.iter().copied());
        line.finish();
        header.number += 1;
    }
    let mut pending = Vec::new();
    let mut changed = HashSet::new();
    for (commit, reply) in commits {
        // A second commit to a device was decided on a state that the first commit changes.
        let is_first = !changed.contains(&commit.device);
        let result = if is_first { validate::check(&journal.table, &commit, now) } else { Err(CommitError::Conflict) };
        if let Err(error) = result.and_then(|()| local_refusals::check(state, &journal, &commit)) {
            send_reply(reply, Err(error));
            continue;
        }
        let start = bytes.len();
        let mut line = LineWriter::begin(bytes, header);
        commit_lines::write(&mut line, &journal.table, &commit);
        line.finish();
        changed.insert(commit.device.clone());
        pending.push(PendingCommit { commit, reply, number: header.number, start, end: bytes.len() });
        header.number += 1;
    }
    pending
}

fn is_not_ended(journal: &Journal, id: SessionId) -> bool {
    journal.table.find(id).is_some_and(|at| journal.table.row(at).end().is_none())
}
