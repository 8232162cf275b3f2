//! Revoking sessions: one, all of a device or a subject, all, or all but one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use tenure_domain::{
    Actor, ClientInfo, DeviceId, EndCause, EndReason, Filter, Note, Scope, Selection, Session, SessionId, Subject,
};
use tenure_ports::{FindOptions, StoreError};

use crate::change::Revoked;
use crate::error::{RevokeError, WriteError};
use crate::retry::{DeviceRef, Outcome};
use crate::{CONCURRENCY, Sessions};

/// The number of sessions that one step of a walk reads.
const PAGE: usize = 1_000;

/// The sessions to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sessions with these ids.
    Ids(Vec<SessionId>),
    /// All active sessions of a device.
    Device(DeviceId),
    /// All active sessions of a subject.
    Subject(Subject),
    /// All active sessions.
    All,
}

impl Sessions {
    /// Ends every session of the target except `except`. The ends are durable once the call returns.
    ///
    /// The sessions of one device are ended by one commit; several devices are not one step. Sessions that are issued
    /// after the call began may be left.
    ///
    /// # Errors
    /// [`RevokeError`] with what was done before it stopped.
    pub async fn revoke(
        &self,
        target: &Target,
        except: Option<SessionId>,
        cause: &EndCause,
    ) -> Result<Revoked, RevokeError> {
        let mut done = Revoked::default();
        let outcome = match target {
            Target::Ids(ids) => self.revoke_ids(ids, except, cause, &mut done).await,
            Target::Device(device) => {
                let selection = Selection { except, ..Selection::default() };
                self.revoke_on_device(DeviceRef::Device(device), &selection, cause, &mut done).await
            }
            Target::Subject(subject) => self.revoke_matching(Some(subject), except, cause, &mut done).await,
            Target::All => self.revoke_matching(None, except, cause, &mut done).await,
        };
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => Err(RevokeError { done, error }),
        }
    }

    /// Returns what [`Sessions::revoke`] would do now. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn preview_revoke(&self, target: &Target, except: Option<SessionId>) -> Result<Revoked, StoreError> {
        let now = self.clock.now();
        let mut would = Revoked::default();
        let (device, subject) = match target {
            Target::Ids(ids) => {
                for &id in ids.iter().filter(|id| except != Some(**id)) {
                    match self.repository.find(id, FindOptions::EXACT).await?.filter(|session| session.is_retained(now))
                    {
                        None => would.unknown.push(id),
                        Some(session) if session.inactive_since(now).is_some() => would.already_ended.push(session),
                        Some(session) => would.ended.push(session),
                    }
                }
                return Ok(would);
            }
            Target::Device(device) => (Some(device.clone()), None),
            Target::Subject(subject) => (None, Some(subject.clone())),
            Target::All => (None, None),
        };
        let filter = Filter { device, subject, scope: Scope::Active };
        let mut cursor = None;
        loop {
            let page = self.repository.page(&filter, now, cursor, PAGE).await?;
            would.ended.extend(page.sessions.into_iter().filter(|session| except != Some(session.id)));
            cursor = page.next;
            if cursor.is_none() {
                return Ok(would);
            }
        }
    }

    /// Ends a session because its owner logged out.
    ///
    /// # Errors
    /// [`RevokeError`] if the end is not acknowledged.
    pub async fn log_out(&self, session: &Session) -> Result<Revoked, RevokeError> {
        let actor = Actor::from_shared(session.subject.shared().clone()).ok();
        let cause = EndCause { reason: EndReason::LoggedOut, note: None, actor };
        self.revoke(&Target::Ids(vec![session.id]), None, &cause).await
    }

    /// Makes the cause of a revocation by a person or a program.
    #[must_use]
    pub const fn revocation(text: Option<Note>, actor: Option<Actor>) -> EndCause {
        EndCause { reason: EndReason::Revoked, note: text, actor }
    }

    /// Adds what a connection shows about its client to the session's description of the client.
    ///
    /// # Errors
    /// [`WriteError`] if the change is not acknowledged. The session stays valid.
    pub async fn update_client(&self, id: SessionId, client: &ClientInfo) -> Result<(), WriteError> {
        let policy = self.policy();
        let described = self.commit_with_retry(DeviceRef::Session(id), |device, now| {
            match device.and_then(|device| device.update_client(id, client, &policy, now)) {
                Some(commit) => Outcome::Commit(commit, ()),
                None => Outcome::Answer(()),
            }
        });
        described.await.map_err(|unacknowledged| unacknowledged.error)
    }

    /// Ends the sessions with these ids: those of one device in one step, several devices concurrently.
    async fn revoke_ids(
        &self,
        ids: &[SessionId],
        except: Option<SessionId>,
        cause: &EndCause,
        done: &mut Revoked,
    ) -> Result<(), WriteError> {
        let ids: BTreeSet<_> = ids.iter().copied().filter(|id| except != Some(*id)).collect();
        if ids.len() == 1 {
            // A single id needs no grouping, which saves a round trip.
            return self.revoke_ids_of_device(&Vec::from_iter(ids), cause, done).await;
        }
        let mut devices: BTreeMap<DeviceId, Vec<SessionId>> = BTreeMap::new();
        for id in ids {
            match self.repository.find(id, FindOptions::EXACT).await? {
                Some(session) => devices.entry(session.device.clone()).or_default().push(id),
                None => done.unknown.push(id),
            }
        }
        let mut work = stream::iter(devices.into_values())
            .map(|ids| async move {
                let mut part = Revoked::default();
                let outcome = self.revoke_ids_of_device(&ids, cause, &mut part).await;
                (part, outcome)
            })
            .buffer_unordered(CONCURRENCY);
        let mut failed = None;
        while let Some((part, outcome)) = work.next().await {
            done.ended.extend(part.ended);
            done.already_ended.extend(part.already_ended);
            done.unknown.extend(part.unknown);
            failed = failed.or(outcome.err());
        }
        done.ended.sort_unstable_by_key(|session| session.id);
        done.already_ended.sort_unstable_by_key(|session| session.id);
        done.unknown.sort_unstable();
        failed.map_or(Ok(()), Err)
    }

    /// Ends sessions that are all of one device, in one step.
    ///
    /// The device is loaded by the first id. Its other sessions that have ended are not part of what was loaded, so
    /// each of those is loaded by its own id.
    async fn revoke_ids_of_device(
        &self,
        ids: &[SessionId],
        cause: &EndCause,
        done: &mut Revoked,
    ) -> Result<(), WriteError> {
        let Some(&first) = ids.first() else {
            return Ok(());
        };
        let selection = Selection { ids: Some(ids.to_vec()), ..Selection::default() };
        self.revoke_on_device(DeviceRef::Session(first), &selection, cause, done).await?;
        for &id in ids {
            let is = |session: &Session| session.id == id;
            if done.ended.iter().any(is) || done.already_ended.iter().any(is) {
                continue;
            }
            if id == first {
                done.unknown.push(id);
                continue;
            }
            // `find` is not enough: an end may be reported only if it is durable, which a load makes sure of.
            let device = self.repository.load_by_session(id).await?;
            let found = device.as_ref().and_then(|device| device.session(id));
            match found.filter(|session| session.is_retained(self.clock.now())) {
                Some(session) => done.already_ended.push(session.clone()),
                None => done.unknown.push(id),
            }
        }
        Ok(())
    }

    async fn revoke_on_device(
        &self,
        device: DeviceRef<'_>,
        selection: &Selection,
        cause: &EndCause,
        done: &mut Revoked,
    ) -> Result<(), WriteError> {
        let policy = self.policy();
        let answer = self.commit_with_retry(device, |device, now| {
            let Some(device) = device else {
                return Outcome::Answer((Vec::new(), Vec::new()));
            };
            let revocation = device.revoke(selection, cause, &policy, now);
            let mut already_ended = revocation.already_ended;
            already_ended.retain(|session| session.is_retained(now));
            let answer = (revocation.ended, already_ended);
            match revocation.commit {
                Some(commit) => Outcome::Commit(commit, answer),
                None => Outcome::Answer(answer),
            }
        });
        match answer.await {
            Ok((ended, already_ended)) => {
                done.ended.extend(ended);
                // For a whole device, only the sessions that this call ended are reported.
                if selection.ids.is_some() {
                    done.already_ended.extend(already_ended);
                }
                Ok(())
            }
            Err(unacknowledged) => {
                // The change was made, though not durably: the caller gets the sessions with the error.
                if let (WriteError::NotDurable { .. }, Some(made)) = (&unacknowledged.error, unacknowledged.intended) {
                    done.ended.extend(made.0);
                }
                Err(unacknowledged.error)
            }
        }
    }

    async fn revoke_matching(
        &self,
        subject: Option<&Subject>,
        except: Option<SessionId>,
        cause: &EndCause,
        done: &mut Revoked,
    ) -> Result<(), WriteError> {
        let filter = Filter { device: None, subject: subject.cloned(), scope: Scope::Active };
        let selection = Selection { ids: None, subject: subject.cloned(), except };
        let now = self.clock.now();
        let mut cursor = None;
        loop {
            let page = self.repository.page(&filter, now, cursor, PAGE).await?;
            let meant = page.sessions.into_iter().filter(|session| selection.includes(session));
            let devices: BTreeSet<DeviceId> = meant.map(|session| session.device.clone()).collect();
            let selection = &selection;
            let mut work = stream::iter(devices)
                .map(|device| async move {
                    let mut part = Revoked::default();
                    let outcome = self.revoke_on_device(DeviceRef::Device(&device), selection, cause, &mut part).await;
                    (part, outcome)
                })
                .buffer_unordered(CONCURRENCY);
            let mut failed = None;
            while let Some((part, outcome)) = work.next().await {
                done.ended.extend(part.ended);
                failed = failed.or(outcome.err());
            }
            if let Some(error) = failed {
                return Err(error);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}
