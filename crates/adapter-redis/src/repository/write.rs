//! Sending a commit, and interpreting its answer.

use redis::Value;
use tenure_domain::{Bucket, Change, Commit, Revision};
use tenure_ports::{ChangeKind, CommitError, StoreError};

use crate::client::Invocation;
use crate::client::request_error::{RequestError, corrupt};
use crate::repository::RedisStore;
use crate::repository::record;
use crate::repository::scripts::{BARRIER, COMMIT, COMMIT_ALWAYS};

impl RedisStore {
    /// Sends a commit. Where the settings ask for it, waits until a replica has it.
    pub(crate) async fn submit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        let call = self.invocation(commit);
        let Some(replicator) = &self.replicator else {
            return self.outcome(commit, self.client.send_once(call).await);
        };
        let replicated = replicator.write(call).await;
        match self.outcome(commit, replicated.answer) {
            Ok(revision) => match self.check_durable(replicated.durable) {
                Ok(()) => Ok(revision),
                Err(message) => Err(CommitError::NotDurable {
                    location: self.client.location.clone(),
                    message: format!("the change was made, but {message}; until then a failover can undo it"),
                }),
            },
            Err(error @ (CommitError::Conflict | CommitError::TooLate)) => {
                // The caller may report the state that caused this, so that state must be durable too.
                self.confirm(Bucket::of(&commit.device)).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until a replica has everything that the server shows for a bucket, where the settings ask for replicas.
    pub(crate) async fn confirm(&self, bucket: Bucket) -> Result<(), StoreError> {
        let Some(replicator) = &self.replicator else {
            return Ok(());
        };
        let replicated = replicator.write(Invocation::new(&BARRIER, vec![self.keys.counter(bucket)])).await;
        replicated.answer.map_err(|failure| self.client.fail(failure, || self.keys.counter(bucket)))?;
        self.check_durable(replicated.durable).map_err(|message| {
            StoreError::unavailable(
                &*self.client.location,
                format!("the state on the server may not be durable yet: {message}"),
            )
        })
    }

    /// Returns an error where no replica is known to have the change; the error says why.
    fn check_durable(&self, durable: Result<bool, RequestError>) -> Result<(), String> {
        match durable {
            Ok(true) => Ok(()),
            Ok(false) => Err("no replica confirmed it in time; check that one is connected (tenure doctor)".to_owned()),
            Err(failure) => Err(self.client.fail(failure, String::new).to_string()),
        }
    }

    fn outcome(&self, commit: &Commit, answer: Result<Value, RequestError>) -> Result<Revision, CommitError> {
        let location = || self.client.location.clone();
        match answer {
            Ok(Value::BulkString(text)) => match &text[..] {
                b"conflict" => Err(CommitError::Conflict),
                b"late" => Err(CommitError::TooLate),
                b"corrupt" => {
                    let keys = commit.changes.iter().map(|change| self.keys.session(change.session().id));
                    let key = keys.collect::<Vec<_>>().join(" or ");
                    Err(corrupt(&location(), &key, "this is not a session record").into())
                }
                revision => {
                    let number = std::str::from_utf8(revision).ok().and_then(|text| text.parse().ok());
                    Ok(Revision::new(number.ok_or_else(|| self.unexpected_reply())?))
                }
            },
            Ok(_) => Err(self.unexpected_reply().into()),
            Err(RequestError::OutcomeUnknown(lost)) => Err(CommitError::OutcomeUnknown {
                location: location(),
                message: format!(
                    "{lost}; the change may have been made, or may still be made: check before you try again"
                ),
                source: lost.source,
            }),
            Err(failure) => {
                let key = || format!("{} or one that belongs to it", self.keys.device(&commit.device));
                Err(self.client.fail(failure, key).into())
            }
        }
    }

    fn invocation(&self, commit: &Commit) -> Invocation {
        let bucket = Bucket::of(&commit.device);
        let keys = &self.keys;
        let mut names = vec![
            keys.device(&commit.device),
            keys.inactive(&commit.device),
            keys.index(bucket, None),
            keys.counter(bucket),
        ];
        for session in commit.changes.iter().map(Change::session) {
            names.extend([
                keys.session(session.id),
                keys.activity(session.id),
                keys.index(bucket, Some(&session.subject)),
            ]);
        }
        let adds = |change: &Change| !matches!(change, Change::Rotated(_) | Change::Ended(_));
        let script = if commit.changes.iter().any(adds) { &COMMIT } else { &COMMIT_ALWAYS };
        let mut call = Invocation::new(script, names);
        let (watermark, until) = commit.watermark.map_or_else(Default::default, |watermark| {
            let (created, until) = (watermark.created_at.as_millis(), watermark.until.as_millis());
            (format!("{created},{until}"), until.to_string())
        });
        call.arg(keys.base(bucket)).arg(keys.channel()).arg(self.script_now());
        call.arg(commit.expected.get().to_string()).arg(commit.not_after.as_millis().to_string());
        call.arg(commit.retain.to_string()).arg(watermark).arg(until);
        for count in [commit.guards.len(), commit.changes.len(), commit.expired.len()] {
            call.arg(count.to_string());
        }
        for guard in &commit.guards {
            call.arg(guard.session.to_ascii()).arg(guard.last_activity.as_millis().to_string());
        }
        for change in &commit.changes {
            let session = change.session();
            let kind = match change {
                Change::Issued(_) => "issued",
                Change::Imported(_) => "imported",
                Change::Merged(_) => "merged",
                Change::Rotated(_) | Change::Ended(_) | Change::ClientUpdated(_) => "other",
            };
            call.arg(session.id.to_ascii()).arg(kind).arg(ChangeKind::of(change).code());
            call.arg(record::encode(session)).arg(if session.end.is_some() { "e" } else { "a" });
            for time in [session.ended_at(), session.retained_until(), session.last_activity] {
                call.arg(time.as_millis().to_string());
            }
        }
        for id in &commit.expired {
            call.arg(id.to_ascii());
        }
        call
    }
}
