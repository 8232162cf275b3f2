//! Issuing: who may have a session on a device, and whom it displaces.

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

/// What a new session is made of. The randomness comes from outside.
///
/// Deciding again with a clone, after a conflict, makes the same session with the same token.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Names the session.
    pub id: [u8; 12],
    /// The secret's half for all its tokens.
    pub family: Family,
    /// The secret's half for the first token.
    pub rotation_secret: RotationSecret,
    /// Who it belongs to.
    pub subject: Subject,
    /// What is known of the client.
    pub client: Arc<ClientInfo>,
    /// Fixed for its life.
    pub terms: Terms,
    /// The latest expiry its first token may have, where the session takes the place of another credential.
    pub expires_by: Option<Timestamp>,
}

impl NewSession {
    /// The id that the session will have on `device`.
    #[must_use]
    pub fn session_id(&self, device: &DeviceId) -> SessionId {
        SessionId::new(Bucket::of(device), self.id)
    }

    /// The token that the session will have on `device`, for whoever must write it down before the commit.
    #[must_use]
    pub fn token(&self, device: &DeviceId) -> Token {
        Token::new(self.session_id(device), Secret::new(&self.family, &self.rotation_secret))
    }
}

/// An issue, decided.
#[derive(Debug)]
pub struct Issue {
    /// The new session.
    pub session: Session,
    /// Its token: shown once.
    pub token: Token,
    /// Whom it displaced, oldest first: sessions of the same subject.
    pub evicted: Vec<SessionId>,
    /// The sessions of other subjects that a take-over ended.
    pub revoked: Vec<Session>,
    /// For the store.
    pub commit: Commit,
}

/// Why a device takes no session of a subject. The words name nobody: they may reach a client that enrols itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueRefusal {
    /// The device is somebody else's: active sessions are there, and none of them is the subject's.
    #[error("the device has active sessions of another subject")]
    OtherOwner {
        /// Whose they are, each named once, in order.
        owners: Vec<Subject>,
    },
    /// The device is shared, and other subjects' sessions alone fill its cap.
    #[error("the device has as many active sessions of other subjects as it may have, {cap}")]
    Full {
        /// Whose they are, each named once, in order.
        owners: Vec<Subject>,
        /// How many the device may have active.
        cap: usize,
    },
}

impl IssueRefusal {
    /// The other subjects that have active sessions on the device; for operators only.
    #[must_use]
    pub fn owners(&self) -> &[Subject] {
        match self {
            Self::OtherOwner { owners } | Self::Full { owners, .. } => owners,
        }
    }
}

/// Why a device takes none of the sessions that would replace exposed credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplacementRefusal {
    /// The device issues no session to the subject.
    #[error(transparent)]
    Refused(#[from] IssueRefusal),
    /// The replacements would evict active sessions, or one another.
    #[error("the device would have {active} active sessions, and may have {cap}")]
    OverCap {
        /// How many would be active.
        active: usize,
        /// How many the device may have active.
        cap: usize,
    },
}

impl Device {
    /// Whose active sessions are on the device at `now`, each named once, in order. Nobody's: whoever comes next may
    /// have it. Several own it only where an import or an earlier release put them there.
    #[must_use]
    pub fn owners(&self, now: Timestamp) -> Vec<Subject> {
        let mut owners: Vec<Subject> = self.active(now).map(|session| session.subject.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Issues a session to a subject that owns the device or finds it free. Where the device would have more than its
    /// cap active, those of the subject's own that were created first are evicted; another's never are.
    ///
    /// # Errors
    /// [`IssueRefusal`] where the device is another subject's, or where others alone fill it.
    pub fn issue(&self, new_session: NewSession, policy: &Policy, now: Timestamp) -> Result<Issue, IssueRefusal> {
        let room = self.available_slots(&new_session.subject, policy, now)?;
        Ok(CommitBuilder::new(self, policy.retained_per_device(), now).issue(new_session, room))
    }

    /// How many sessions `subject` may have active on the device at `now`: what other subjects leave of the cap, and at
    /// least one.
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

    /// Whether `count` sessions of `subject` can replace credentials of another kind on this device: all of them, and
    /// without an eviction.
    ///
    /// # Errors
    /// [`ReplacementRefusal`] where the device is another subject's, or where more than the cap would be active.
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

    /// Issues a session whoever owns the device, and with the same commit ends the active sessions that other subjects
    /// have there.
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

    /// The place after all sessions that were created at `now` too. Others have no say: which of them are loaded is the
    /// store's business.
    fn next_order(&self, now: Timestamp) -> u64 {
        let same = self.sessions.iter().filter(|session| session.created_at == now);
        same.map(|session| session.order).max().map_or(0, |last| last.saturating_add(1))
    }
}

impl CommitBuilder<'_> {
    /// Issues a session, so that its subject has at most `most` active on the device.
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
        // A commit that was held up until the session is over would only be noise.
        self.not_after = last_before(session.expires_at);
        Issue { token: Token::new(session.id, secret), session, evicted, revoked: Vec::new(), commit: self.build() }
    }

    /// Evicts the oldest of the subject's loaded active sessions until only `most` of them are left.
    fn evict_down_to(&mut self, most: usize, subject: &Subject) -> Vec<SessionId> {
        let mut active: Vec<_> = self.device.active(self.now).filter(|session| session.subject == *subject).collect();
        active.sort_by(|a, b| a.cmp_issue_order(b));
        let surplus = active.len().saturating_sub(most);
        active.truncate(surplus);
        active.into_iter().map(|session| self.end(session, &EndCause::by_rule(EndReason::Evicted)).id).collect()
    }
}
