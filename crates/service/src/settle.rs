//! The loop that every change goes through: load, decide, commit; again on conflict, a bounded number of times.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_domain::{Applied, Commit, Device, DeviceId, SessionId, Timestamp};
use tenure_ports::CommitError;

use crate::Sessions;
use crate::error::{Interrupted, WriteError};

/// How often a change is decided anew. 32 processes that issue on one device at once need at most 32.
const ATTEMPTS: u32 = 64;
/// How often the very same commit is sent after its answer was lost.
const RESUBMISSIONS: u32 = 3;

/// Which device a decision is about.
#[derive(Clone, Copy)]
pub(crate) enum Key<'a> {
    /// The device itself.
    Device(&'a DeviceId),
    /// The device of this session.
    Session(SessionId),
}

/// What a decision comes to.
pub(crate) enum Step<T> {
    /// An answer; nothing changes.
    Answer(T),
    /// An answer once this is committed.
    Commit(Commit, T),
}

/// What came of one commit.
enum Outcome {
    Applied,
    Conflict,
}

impl Sessions {
    /// Loads, decides and commits until an answer stands. `decide` gets no device where the session is unknown.
    pub(crate) async fn settle<T>(
        &self,
        key: Key<'_>,
        mut decide: impl FnMut(Option<&Device>, Timestamp) -> Step<T>,
    ) -> Result<T, Interrupted<T>> {
        for attempt in 0..ATTEMPTS {
            self.pause_before(attempt).await;
            let device = match key {
                Key::Device(id) => Some(self.repository.load(id).await?),
                Key::Session(id) => self.repository.load_of(id).await?,
            };
            let (commit, answer) = match decide(device.as_ref(), self.clock.now()) {
                Step::Answer(answer) => return Ok(answer),
                Step::Commit(commit, answer) => (commit, answer),
            };
            match self.submit(&commit).await {
                Ok(Outcome::Applied) => return Ok(answer),
                Ok(Outcome::Conflict) => tracing::debug!(device = %commit.device, attempt, "deciding anew"),
                Err(error) => {
                    let made = matches!(error, WriteError::OutcomeUnknown { .. } | WriteError::NotDurable { .. });
                    return Err(Interrupted { error, intended: made.then(|| Box::new(answer)) });
                }
            }
        }
        Err(WriteError::Contended { attempts: ATTEMPTS }.into())
    }

    /// Waits a little before trying again, less predictably the more often it was in vain.
    async fn pause_before(&self, attempt: u32) {
        if attempt < 2 {
            return;
        }
        let most = (1_u64 << attempt.min(6)).min(40);
        let random = self.draw::<1>().map_or(0, |[byte]| u64::from(byte));
        tokio::time::sleep(Duration::from_millis(1 + random % most)).await;
    }

    /// Commits, and finds out what became of it where the answer was lost: the very same commit again is either
    /// applied now, and then was not before, or conflicts, and then the records tell.
    async fn submit(&self, commit: &Commit) -> Result<Outcome, WriteError> {
        let mut lost: Option<WriteError> = None;
        for _ in 0..RESUBMISSIONS {
            match self.repository.commit(commit).await {
                Ok(_) => return Ok(Outcome::Applied),
                Err(CommitError::Conflict | CommitError::TooLate) => match lost {
                    None => return Ok(Outcome::Conflict),
                    Some(lost) => return self.find_out(commit, lost).await,
                },
                Err(CommitError::NotDurable { place, problem }) => {
                    return Err(WriteError::NotDurable { place, problem });
                }
                Err(CommitError::OutcomeUnknown { place, problem }) => {
                    lost = Some(WriteError::OutcomeUnknown { place, problem });
                }
                Err(CommitError::Store(error)) => match lost {
                    // Not sent this time, but an earlier one may yet be applied.
                    Some(_) => {}
                    None => return Err(error.into()),
                },
                Err(other) => {
                    lost = Some(WriteError::OutcomeUnknown { place: "store".to_owned(), problem: other.to_string() });
                }
            }
        }
        Err(lost.unwrap_or(WriteError::Contended { attempts: RESUBMISSIONS }))
    }

    async fn find_out(&self, commit: &Commit, lost: WriteError) -> Result<Outcome, WriteError> {
        let mut found = BTreeMap::new();
        for change in &commit.changes {
            let id = change.session().id;
            let Ok(session) = self.repository.find(id).await else {
                return Err(lost);
            };
            found.insert(id, session);
        }
        match commit.applied(|id| found.get(&id).cloned().flatten()) {
            Applied::Yes => Ok(Outcome::Applied),
            Applied::No => Ok(Outcome::Conflict),
        }
    }
}
