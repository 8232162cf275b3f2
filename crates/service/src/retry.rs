//! The loop of every change: load, decide, commit. It repeats on a conflict, a bounded number of times.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_domain::{Applied, Commit, Device, DeviceId, SessionId, Timestamp};
use tenure_ports::{CommitError, ErrorSource, FindOptions};

use crate::Sessions;
use crate::error::{Unacknowledged, WriteError};

/// How often a change is decided before it fails as contended. If 32 processes issue on one device at once, none needs
/// more than 32.
const ATTEMPTS: u32 = 64;
/// How often the same commit is submitted again after its answer was lost.
const RESUBMISSIONS: u32 = 3;

/// The device that a decision is about.
#[derive(Clone, Copy)]
pub(crate) enum DeviceRef<'a> {
    /// The device itself.
    Device(&'a DeviceId),
    /// The device of this session.
    Session(SessionId),
}

/// The outcome of a decision.
pub(crate) enum Outcome<T> {
    /// An answer that needs no change.
    Answer(T),
    /// An answer that is given once this is committed.
    Commit(Commit, T),
}

/// The result of submitting one commit.
enum Submission {
    Applied,
    Conflict,
}

impl Sessions {
    /// Loads, decides and commits until there is an answer. `decide` gets no device if the session is unknown.
    pub(crate) async fn commit_with_retry<T>(
        &self,
        key: DeviceRef<'_>,
        mut decide: impl FnMut(Option<&Device>, Timestamp) -> Outcome<T>,
    ) -> Result<T, Unacknowledged<T>> {
        for attempt in 0..ATTEMPTS {
            self.pause_before(attempt).await;
            let device = match key {
                DeviceRef::Device(id) => Some(self.repository.load(id).await?),
                DeviceRef::Session(id) => self.repository.load_by_session(id).await?,
            };
            let (commit, answer) = match decide(device.as_ref(), self.clock.now()) {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::Commit(commit, answer) => (commit, answer),
            };
            match self.submit(&commit).await {
                Ok(Submission::Applied) => return Ok(answer),
                Ok(Submission::Conflict) => tracing::debug!(device = %commit.device, attempt, "deciding anew"),
                Err(error) => {
                    let made = matches!(error, WriteError::OutcomeUnknown { .. } | WriteError::NotDurable { .. });
                    return Err(Unacknowledged { error, intended: made.then(|| Box::new(answer)) });
                }
            }
        }
        Err(WriteError::Contended { attempts: ATTEMPTS }.into())
    }

    /// Waits a random time before another attempt. The time grows with the number of attempts.
    async fn pause_before(&self, attempt: u32) {
        if attempt < 2 {
            return;
        }
        let most = (1_u64 << attempt.min(6)).min(40);
        let random = self.random_bytes::<1>().map_or(0, |[byte]| u64::from(byte));
        tokio::time::sleep(Duration::from_millis(1 + random % most)).await;
    }

    /// Submits a commit. If the answer is lost, it submits the same commit again. Either that one is applied, so the
    /// first was not, or it conflicts, and then the records show what happened.
    async fn submit(&self, commit: &Commit) -> Result<Submission, WriteError> {
        let mut lost: Option<WriteError> = None;
        for _ in 0..RESUBMISSIONS {
            match self.repository.commit(commit).await {
                Ok(_) => return Ok(Submission::Applied),
                Err(CommitError::Conflict | CommitError::TooLate) => match lost {
                    None => return Ok(Submission::Conflict),
                    Some(lost) => return self.resolve_lost_commit(commit, lost).await,
                },
                Err(CommitError::NotDurable { location, message }) => {
                    return Err(WriteError::NotDurable { location, message });
                }
                Err(CommitError::OutcomeUnknown { location, message, source }) => {
                    lost = Some(WriteError::OutcomeUnknown { location, message, source });
                }
                Err(CommitError::Store(error)) => match lost {
                    // This one was not sent, but an earlier one may still be applied.
                    Some(_) => {}
                    None => return Err(error.into()),
                },
                Err(other) => {
                    let (location, message) = ("store".to_owned(), other.to_string());
                    lost = Some(WriteError::OutcomeUnknown { location, message, source: ErrorSource::new(other) });
                }
            }
        }
        Err(lost.unwrap_or(WriteError::Contended { attempts: RESUBMISSIONS }))
    }

    async fn resolve_lost_commit(&self, commit: &Commit, lost: WriteError) -> Result<Submission, WriteError> {
        let mut found = BTreeMap::new();
        for change in &commit.changes {
            let id = change.session().id;
            let Ok(session) = self.repository.find(id, FindOptions::EXACT).await else {
                return Err(lost);
            };
            found.insert(id, session);
        }
        match commit.applied(|id| found.get(&id).cloned().flatten()) {
            Applied::Yes => Ok(Submission::Applied),
            Applied::No => Ok(Submission::Conflict),
        }
    }
}
