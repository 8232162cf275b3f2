//! Issuing sessions: who may have a session on a device, and which sessions it evicts.

use std::sync::Arc;

use super::{CommitBuilder, Device, EndCause, last_before};
use crate::client::ClientInfo;
use crate::commit::{Change, Commit};
use crate::id::{Bucket, SessionId};
use crate::policy::{Policy, Terms};
use crate::refusal::EndReason;
use crate::session::{Credential, Session, SessionParts, State};
use crate::text::{DeviceId, Subject};
use crate::time::Timestamp;
use crate::token::{Family, RotationSecret, Secret, Token};

/// The parts of a new session. The random bytes come from outside.
///
/// After a conflict, deciding again with a clone makes the same session with the same token.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The random part of the session's id.
    pub id: [u8; 12],
    /// The half of the secret that all tokens of the session share.
    pub family: Family,
    /// The second half of the first token's secret.
    pub rotation_secret: RotationSecret,
    /// The subject that the session belongs to.
    pub subject: Subject,
    /// What is known about the client.
    pub client: Arc<ClientInfo>,
    /// The session's terms, which are fixed for its life.
    pub terms: Terms,
    /// The latest expiry of the first token. It is set if the session replaces another credential.
    pub expires_by: Option<Timestamp>,
}

impl NewSession {
    /// Returns the id that the session will have on `device`.
    #[must_use]
    pub fn session_id(&self, device: &DeviceId) -> SessionId {
        SessionId::new(Bucket::of(device), self.id)
    }

    /// Returns the token that the session will have on `device`, so that it can be stored before the commit.
    #[must_use]
    pub fn token(&self, device: &DeviceId) -> Token {
        Token::new(self.session_id(device), Secret::new(&self.family, &self.rotation_secret))
    }
}

/// The decision to issue a session.
#[derive(Debug)]
pub struct Issue {
    /// The new session.
    pub session: Session,
    /// The session's token, which is shown once.
    pub token: Token,
    /// The evicted sessions of the same subject, oldest first.
    pub evicted: Vec<SessionId>,
    /// The sessions of other subjects that a take-over ended.
    pub revoked: Vec<Session>,
    /// The commit for the store.
    pub commit: Commit,
}

/// The reason why a device accepts no session of a subject. The message names no subject, because it may reach a client
/// that enrols itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueRefusal {
    /// The device belongs to another subject: it has active sessions, and none of them is the subject's.
    #[error("the device has active sessions of another subject")]
    OtherOwner {
        /// The subjects of these sessions, each once, in order.
        owners: Vec<Subject>,
    },
    /// The device is shared, and the sessions of other subjects alone reach its cap.
    #[error("the device has as many active sessions of other subjects as it may have, {cap}")]
    Full {
        /// The subjects of these sessions, each once, in order.
        owners: Vec<Subject>,
        /// How many sessions may be active on the device.
        cap: usize,
    },
}

impl IssueRefusal {
    /// Returns the other subjects that have active sessions on the device. Only operators may see them.
    #[must_use]
    pub fn owners(&self) -> &[Subject] {
        match self {
            Self::OtherOwner { owners } | Self::Full { owners, .. } => owners,
        }
    }
}

/// The reason why a device accepts none of the sessions that would replace exposed credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplacementRefusal {
    /// The device issues no session to the subject.
    #[error(transparent)]
    Refused(#[from] IssueRefusal),
    /// The replacements would evict active sessions, or one another.
    #[error("the device would have {active} active sessions, and may have {cap}")]
    OverCap {
        /// How many sessions would be active.
        active: usize,
        /// How many sessions may be active on the device.
        cap: usize,
    },
}

impl Device {
    /// Returns the subjects that have active sessions on the device at `now`, each once, in order. If there are none,
    /// any subject may use the device. There are several only after an import, or if an earlier release allowed it.
    #[must_use]
    pub fn owners(&self, now: Timestamp) -> Vec<Subject> {
        let mut owners: Vec<Subject> = self.active(now).map(|session| session.subject.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Decides to issue a session to a subject that owns the device, or to any subject if the device is free. If more
    /// sessions than the cap would be active, the subject's own oldest ones are evicted. Those of other subjects never
    /// are.
    ///
    /// # Errors
    /// [`IssueRefusal`] if the device belongs to another subject, or if others alone reach its cap.
    pub fn issue(&self, new_session: NewSession, policy: &Policy, now: Timestamp) -> Result<Issue, IssueRefusal> {
        let room = self.available_slots(&new_session.subject, policy, now)?;
        Ok(CommitBuilder::new(self, policy.retained_per_device(), now).issue(new_session, room))
    }

    /// Returns how many active sessions `subject` may have on the device at `now`, at least one: the cap less the
    /// active sessions of other subjects.
    ///
    /// # Errors
    /// As [`Device::issue`].
    pub fn available_slots(&self, subject: &Subject, policy: &Policy, now: Timestamp) -> Result<usize, IssueRefusal> {
        let mut owners = self.owners(now);
        let owns = owners.contains(subject);
        owners.retain(|owner| owner != subject);
        if !owns && !owners.is_empty() {
            return Err(IssueRefusal::OtherOwner { owners });
        }
        let others = self.active(now).filter(|session| session.subject != *subject).count();
        match policy.cap().saturating_sub(others) {
            0 => Err(IssueRefusal::Full { owners, cap: policy.cap() }),
            room => Ok(room),
        }
    }

    /// Checks that `count` more sessions of `subject` may be active on this device without an eviction. They are to
    /// replace credentials of another kind.
    ///
    /// # Errors
    /// [`ReplacementRefusal`] if the device belongs to another subject, or if more sessions than the cap would be
    /// active.
    pub fn check_replacements(
        &self,
        subject: &Subject,
        count: usize,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<(), ReplacementRefusal> {
        self.available_slots(subject, policy, now)?;
        let active = self.active(now).count() + count;
        if active > policy.cap() {
            return Err(ReplacementRefusal::OverCap { active, cap: policy.cap() });
        }
        Ok(())
    }

    /// Decides to issue a session, whoever owns the device. The same commit ends the active sessions of other subjects
    /// there.
    #[must_use]
    pub fn take_over(&self, new_session: NewSession, cause: &EndCause, policy: &Policy, now: Timestamp) -> Issue {
        let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
        let others = self.active(now).filter(|session| session.subject != new_session.subject);
        let revoked = others.map(|session| builder.end(session, cause)).collect();
        Issue { revoked, ..builder.issue(new_session, policy.cap()) }
    }

    fn active(&self, now: Timestamp) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(move |session| session.state(now) == State::Active)
    }

    /// Returns the position after all sessions that were created at `now`. Sessions of other times do not count,
    /// because it depends on the store which of them are loaded.
    fn next_order(&self, now: Timestamp) -> u64 {
        let same = self.sessions.iter().filter(|session| session.created_at == now);
        same.map(|session| session.order).max().map_or(0, |last| last.saturating_add(1))
    }
}

impl CommitBuilder<'_> {
    /// Issues a session, and evicts its subject's oldest ones so that the subject has at most `most` active sessions on
    /// the device.
    fn issue(mut self, new_session: NewSession, most: usize) -> Issue {
        let (device, now) = (self.device, self.now);
        let NewSession { id, family, rotation_secret, subject, client, terms, expires_by } = new_session;
        let secret = Secret::new(&family, &rotation_secret);
        let session = Session::new_unchecked(SessionParts {
            id: SessionId::new(Bucket::of(&device.id), id),
            device: device.id.clone(),
            subject,
            client,
            created_at: now,
            order: device.next_order(now),
            last_activity: now,
            expires_at: now.plus(terms.ttl.min(terms.max_lifetime)).min(expires_by.unwrap_or(Timestamp::MAX)).max(now),
            generation: 1,
            rotated_at: None,
            terms,
            credential: Credential { current: secret.digest(), family: family.digest(), replaced: None },
            end: None,
        });
        self.changes.insert(0, Change::Issued(session.clone()));
        self.end_idle_sessions();
        let evicted = self.evict_down_to(most.saturating_sub(1), &session.subject);
        // A commit that is delayed until the session has expired would be useless.
        self.not_after = last_before(session.expires_at);
        Issue { token: Token::new(session.id, secret), session, evicted, revoked: Vec::new(), commit: self.build() }
    }

    /// Evicts the subject's oldest active sessions until only `most` are left.
    fn evict_down_to(&mut self, most: usize, subject: &Subject) -> Vec<SessionId> {
        let mut active: Vec<_> = self.device.active(self.now).filter(|session| session.subject == *subject).collect();
        active.sort_by(|a, b| a.cmp_issue_order(b));
        let surplus = active.len().saturating_sub(most);
        active.truncate(surplus);
        active.into_iter().map(|session| self.end(session, &EndCause::by_rule(EndReason::Evicted)).id).collect()
    }
}
