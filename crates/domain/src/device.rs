//! Devices: the sessions that share one cap, and every decision about them.

use std::sync::Arc;

use crate::client::ClientInfo;
use crate::commit::{Change, Commit, Guard, Revision, RevocationWatermark};
use crate::id::SessionId;
use crate::policy::Policy;
use crate::refusal::{EndReason, Refusal};
use crate::session::{Credential, End, Replaced, Session, SessionParts, State, TokenMatch, Verdict};
use crate::text::{Actor, DeviceId, Note, Subject};
use crate::time::{Millis, Timestamp};
use crate::token::{RotationSecret, Token};

mod import;
mod issue;

pub use import::{ImportOutcome, ImportPlan};
pub use issue::{Issue, IssueRefusal, NewSession, ReplacementRefusal};

/// A device, with its sessions as a store held them at one revision: all that have not ended, and an ended one if the
/// device was loaded by that one's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    id: DeviceId,
    revision: Revision,
    sessions: Vec<Session>,
    watermark: Option<RevocationWatermark>,
}

/// The decision to rotate a token.
#[derive(Debug)]
pub struct Rotation {
    /// The session with its new expiry.
    pub session: Session,
    /// The session's new token, which is shown once.
    pub token: Token,
    /// The commit for the store.
    pub commit: Commit,
}

/// The decision to end sessions.
#[derive(Debug)]
pub struct Revocation {
    /// The sessions that this ends.
    pub ended: Vec<Session>,
    /// The selected sessions that had already ended.
    pub already_ended: Vec<Session>,
    /// The commit for the store. `None` if no session has to be ended.
    pub commit: Option<Commit>,
}

/// The cause of an end: the reason, a note, and who ended the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndCause {
    /// The stable reason.
    pub reason: EndReason,
    /// A note in the words of the person who ended the session.
    pub note: Option<Note>,
    /// Who ended the session. `None` if a rule did, or if that is not known.
    pub actor: Option<Actor>,
}

impl EndCause {
    /// Makes the cause of an end by a rule, which has neither a note nor an actor.
    #[must_use]
    pub const fn by_rule(reason: EndReason) -> Self {
        Self { reason, note: None, actor: None }
    }

    fn at(&self, at: Timestamp) -> End {
        End { reason: self.reason, at, note: self.note.clone(), actor: self.actor.clone() }
    }
}

/// A selection among the sessions of a device. A session is included if all conditions include it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these sessions. `None` is for any.
    pub ids: Option<Vec<SessionId>>,
    /// Only sessions of this subject. `None` is for any.
    pub subject: Option<Subject>,
    /// All but this session.
    pub except: Option<SessionId>,
}

impl Selection {
    /// Selects the one session with this id.
    #[must_use]
    pub fn one(id: SessionId) -> Self {
        Self { ids: Some(vec![id]), ..Self::default() }
    }

    /// Whether the selection includes `session`.
    #[must_use]
    pub fn includes(&self, session: &Session) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.subject.as_ref().is_none_or(|subject| *subject == session.subject)
            && self.except != Some(session.id)
    }
}

/// The decision about a token that was presented.
#[derive(Debug)]
pub enum Decision<T> {
    /// The token is valid.
    Accept(T),
    /// The token is refused.
    Reject(Refusal),
    /// The token is refused, and its session must first be ended by this commit.
    EndSession(EndReason, Commit),
}

impl Device {
    /// Makes a device from what a store loaded.
    #[must_use]
    pub const fn new(
        id: DeviceId,
        revision: Revision,
        sessions: Vec<Session>,
        watermark: Option<RevocationWatermark>,
    ) -> Self {
        Self { id, revision, sessions, watermark }
    }

    /// Makes a device that no store knows yet.
    #[must_use]
    pub const fn unknown(id: DeviceId) -> Self {
        Self::new(id, Revision::NONE, Vec::new(), None)
    }

    /// Returns the device's name.
    #[must_use]
    pub const fn id(&self) -> &DeviceId {
        &self.id
    }

    /// Returns the revision that the device was loaded at.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the sessions that were loaded.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Returns what the device remembers about sessions that were ended before their expiry.
    #[must_use]
    pub const fn revocation_watermark(&self) -> Option<RevocationWatermark> {
        self.watermark
    }

    /// Returns the session with this id, if it was loaded.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id)
    }

    /// Decides to give the token's session a new token and a new expiry. Only the session's current token can be
    /// rotated: one that an earlier rotation replaced is refused as rotated, even within its overlap.
    #[must_use]
    pub fn rotate(
        &self,
        token: &Token,
        rotation_secret: &RotationSecret,
        policy: &Policy,
        now: Timestamp,
    ) -> Decision<Rotation> {
        let session = match self.authenticate(token, policy, now) {
            Decision::Accept((TokenMatch::Current, session)) => session,
            Decision::Accept((TokenMatch::Overlap, _)) => return Decision::Reject(Refusal::Rotated),
            Decision::Reject(refusal) => return Decision::Reject(refusal),
            Decision::EndSession(reason, commit) => return Decision::EndSession(reason, commit),
        };
        let successor = token.successor(rotation_secret);
        let overlap = policy.rotation_overlap();
        let replaced = Replaced {
            digest: (!overlap.is_zero()).then_some(session.credential.current),
            stops_at: now.plus(overlap).min(session.expires_at),
            tolerance: policy.replay_tolerance(),
        };
        let rotated = Session::new_unchecked(SessionParts {
            expires_at: session.expiry_from(now),
            generation: session.generation.saturating_add(1),
            rotated_at: Some(now),
            credential: Credential {
                current: successor.secret().digest(),
                family: session.credential.family,
                replaced: Some(replaced),
            },
            ..session.clone().touched(now).into_parts()
        });
        let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
        builder.changes.push(Change::Rotated(rotated.clone()));
        builder.not_after = last_before(session.active_until());
        Decision::Accept(Rotation { token: successor, session: rotated, commit: builder.build() })
    }

    /// Decides whether a token is valid, is refused, or ends its session.
    #[must_use]
    pub fn authenticate(&self, token: &Token, policy: &Policy, now: Timestamp) -> Decision<(TokenMatch, &Session)> {
        let Some(session) = self.session(token.session()) else {
            return Decision::Reject(Refusal::Unknown);
        };
        match session.verdict(token, now) {
            Verdict::Valid(token_match) => Decision::Accept((token_match, session)),
            Verdict::Refused(refusal) => Decision::Reject(refusal),
            Verdict::EndRequired(reason) => {
                let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
                if reason == EndReason::Idle {
                    builder.guard(session);
                }
                builder.end(session, &EndCause::by_rule(reason));
                Decision::EndSession(reason, builder.build())
            }
        }
    }

    /// Decides to end the selected sessions that are active.
    #[must_use]
    pub fn revoke(&self, selection: &Selection, cause: &EndCause, policy: &Policy, now: Timestamp) -> Revocation {
        let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
        let (mut ended, mut already) = (Vec::new(), Vec::new());
        for session in self.sessions.iter().filter(|session| selection.includes(session)) {
            match session.state(now) {
                State::Active | State::Idle => ended.push(builder.end(session, cause)),
                State::Expired | State::Ended(_) => already.push(session.clone()),
            }
        }
        let commit = (!ended.is_empty()).then(|| builder.build());
        Revocation { ended, already_ended: already, commit }
    }

    /// Decides to end the sessions that are idle. Returns `None` if there are none.
    #[must_use]
    pub fn end_idle(&self, policy: &Policy, now: Timestamp) -> Option<Commit> {
        let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
        builder.end_idle_sessions();
        (!builder.changes.is_empty()).then(|| builder.build())
    }

    /// Decides to add new facts about a session's client. Returns `None` if the session is unknown or not active, or if
    /// nothing is new.
    #[must_use]
    pub fn update_client(&self, id: SessionId, client: &ClientInfo, policy: &Policy, now: Timestamp) -> Option<Commit> {
        let session = self.session(id).filter(|session| session.state(now) == State::Active)?;
        let updated = session.client.updated_by(client);
        if updated == *session.client {
            return None;
        }
        let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
        let parts = SessionParts { client: Arc::new(updated), ..session.clone().into_parts() };
        builder.changes.push(Change::ClientUpdated(Session::new_unchecked(parts)));
        builder.not_after = last_before(session.expires_at);
        Some(builder.build())
    }
}

/// Returns the last instant before `at`.
const fn last_before(at: Timestamp) -> Timestamp {
    at.minus(Millis::new(1))
}

/// A builder of the commit of one decision.
struct CommitBuilder<'a> {
    device: &'a Device,
    retain: usize,
    now: Timestamp,
    not_after: Timestamp,
    guards: Vec<Guard>,
    changes: Vec<Change>,
    watermark: Option<RevocationWatermark>,
}

impl<'a> CommitBuilder<'a> {
    fn new(device: &'a Device, retain: usize, now: Timestamp) -> Self {
        let watermark = device.watermark.filter(|watermark| now < watermark.until);
        Self { device, retain, now, not_after: Timestamp::MAX, guards: Vec::new(), changes: Vec::new(), watermark }
    }

    fn guard(&mut self, session: &Session) {
        self.guards.push(Guard { session: session.id, last_activity: session.last_activity });
    }

    fn end(&mut self, session: &Session, cause: &EndCause) -> Session {
        let ended = session.clone().ended(cause.at(self.now));
        self.watermark = Some(RevocationWatermark::including(self.watermark, &ended));
        self.changes.push(Change::Ended(ended.clone()));
        ended
    }

    /// The device's sessions after the commit, ended ones included.
    fn after(&self) -> impl Iterator<Item = &Session> {
        let changed = |session: &&Session| self.changes.iter().any(|change| change.session().id == session.id);
        let unchanged = self.device.sessions.iter().filter(move |session| !changed(session));
        self.changes.iter().map(Change::session).chain(unchanged)
    }

    fn end_idle_sessions(&mut self) {
        let idle: Vec<_> = self.after().filter(|session| session.state(self.now) == State::Idle).cloned().collect();
        for session in &idle {
            self.guard(session);
            self.end(session, &EndCause::by_rule(EndReason::Idle));
        }
    }

    fn build(self) -> Commit {
        let expired = self.after().filter(|session| session.state(self.now) == State::Expired);
        let expired = expired.map(|session| session.id).collect();
        Commit {
            device: self.device.id.clone(),
            expected: self.device.revision,
            not_after: self.not_after,
            guards: self.guards,
            changes: self.changes,
            expired,
            retain: self.retain,
            watermark: self.watermark,
        }
    }
}
