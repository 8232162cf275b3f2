//! The device: the sessions that share one cap, and every decision about them.

use std::sync::Arc;

use crate::client::ClientInfo;
use crate::commit::{Change, Commit, Guard, Horizon, Revision};
use crate::id::SessionId;
use crate::policy::Policy;
use crate::refusal::{EndReason, Refusal};
use crate::session::{Credential, End, Holds, Replaced, Session, SessionParts, State, Verdict};
use crate::text::{Actor, DeviceId, Subject, Text};
use crate::time::{Millis, Timestamp};
use crate::token::{Fresh, Token};

mod import;
mod issue;

pub use import::{ImportOutcome, ImportPlan};
pub use issue::{Enrolment, Issue, IssueRefusal};

/// A device's sessions as a store held them at one revision: all that have not ended, and any ended one that was
/// asked for by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    id: DeviceId,
    revision: Revision,
    sessions: Vec<Session>,
    horizon: Option<Horizon>,
}

/// A rotation, decided.
#[derive(Debug)]
pub struct Rotation {
    /// The session with its new expiry.
    pub session: Session,
    /// Its new token: shown once.
    pub token: Token,
    /// For the store.
    pub commit: Commit,
}

/// Ends, decided.
#[derive(Debug)]
pub struct Revocation {
    /// Sessions that this ends.
    pub ended: Vec<Session>,
    /// Sessions that were meant and are over already.
    pub already: Vec<Session>,
    /// For the store; `None` where there is nothing to do.
    pub commit: Option<Commit>,
}

/// Why, by whom and in what words sessions are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The stable reason.
    pub reason: EndReason,
    /// In somebody's words.
    pub text: Option<Text>,
    /// By whom.
    pub actor: Option<Actor>,
}

impl Cause {
    /// A reason that needs no words: the rules themselves ended it.
    #[must_use]
    pub const fn rule(reason: EndReason) -> Self {
        Self { reason, text: None, actor: None }
    }

    fn at(&self, at: Timestamp) -> End {
        End { reason: self.reason, at, text: self.text.clone(), actor: self.actor.clone() }
    }
}

/// Which of a device's sessions are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; `None` for any.
    pub ids: Option<Vec<SessionId>>,
    /// Only this subject's.
    pub subject: Option<Subject>,
    /// Not this one.
    pub except: Option<SessionId>,
}

impl Selection {
    /// The one session with this id.
    #[must_use]
    pub fn one(id: SessionId) -> Self {
        Self { ids: Some(vec![id]), ..Self::default() }
    }

    /// Whether `session` is meant.
    #[must_use]
    pub fn includes(&self, session: &Session) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.subject.as_ref().is_none_or(|subject| *subject == session.subject)
            && self.except != Some(session.id)
    }
}

/// What a device answers to a token.
#[derive(Debug)]
pub enum Decision<T> {
    /// So be it.
    Do(T),
    /// No.
    Refuse(Refusal),
    /// No; and before it is said, the session must be ended by this commit.
    End(EndReason, Commit),
}

impl Device {
    /// Takes what a store loaded.
    #[must_use]
    pub const fn new(id: DeviceId, revision: Revision, sessions: Vec<Session>, horizon: Option<Horizon>) -> Self {
        Self { id, revision, sessions, horizon }
    }

    /// A device that a store knows nothing of.
    #[must_use]
    pub const fn unknown(id: DeviceId) -> Self {
        Self::new(id, Revision::NONE, Vec::new(), None)
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &DeviceId {
        &self.id
    }

    /// The revision it was loaded at.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The sessions that were loaded.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// What it remembers of sessions ended before their time.
    #[must_use]
    pub const fn horizon(&self) -> Option<Horizon> {
        self.horizon
    }

    /// One of the loaded sessions.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id)
    }

    /// Gives the token's session a new token and a new expiry, if the token is its current one.
    #[must_use]
    pub fn rotate(&self, token: &Token, fresh: &Fresh, policy: &Policy, now: Timestamp) -> Decision<Rotation> {
        let session = match self.present(token, policy, now) {
            Decision::Do((Holds::Current, session)) => session,
            Decision::Do((Holds::Overlap, _)) => return Decision::Refuse(Refusal::Rotated),
            Decision::Refuse(refusal) => return Decision::Refuse(refusal),
            Decision::End(reason, commit) => return Decision::End(reason, commit),
        };
        let successor = token.successor(fresh);
        let overlap = policy.rotation_overlap();
        let replaced = Replaced {
            digest: (!overlap.is_zero()).then_some(session.credential.current),
            stops_at: now.plus(overlap).min(session.expires_at),
            tolerance: policy.replay_tolerance(),
        };
        let rotated = Session::trusted(SessionParts {
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
        let mut plan = Plan::new(self, policy.retained_per_device(), now);
        plan.changes.push(Change::Rotated(rotated.clone()));
        plan.not_after = last_before(session.idle_at().map_or(session.expires_at, |idle| idle.min(session.expires_at)));
        Decision::Do(Rotation { token: successor, session: rotated, commit: plan.commit() })
    }

    /// Answers a token: whether it holds, or is refused, or ends its session first.
    #[must_use]
    pub fn present(&self, token: &Token, policy: &Policy, now: Timestamp) -> Decision<(Holds, &Session)> {
        let Some(session) = self.session(token.session()) else {
            return Decision::Refuse(Refusal::Unknown);
        };
        match session.verdict(token, now) {
            Verdict::Holds(holds) => Decision::Do((holds, session)),
            Verdict::Refused(refusal) => Decision::Refuse(refusal),
            Verdict::MustEnd(reason) => {
                let mut plan = Plan::new(self, policy.retained_per_device(), now);
                if reason == EndReason::Idle {
                    plan.guard(session);
                }
                plan.end(session, &Cause::rule(reason));
                Decision::End(reason, plan.commit())
            }
        }
    }

    /// Ends the selected sessions that are not over yet.
    #[must_use]
    pub fn revoke(&self, selection: &Selection, cause: &Cause, policy: &Policy, now: Timestamp) -> Revocation {
        let mut plan = Plan::new(self, policy.retained_per_device(), now);
        let (mut ended, mut already) = (Vec::new(), Vec::new());
        for session in self.sessions.iter().filter(|session| selection.includes(session)) {
            match session.state(now) {
                State::Active | State::Idle => ended.push(plan.end(session, cause)),
                State::Expired | State::Ended(_) => already.push(session.clone()),
            }
        }
        let commit = (!ended.is_empty()).then(|| plan.commit());
        Revocation { ended, already, commit }
    }

    /// Records, as ended, the sessions that were left idle; `None` where there are none.
    #[must_use]
    pub fn settle(&self, policy: &Policy, now: Timestamp) -> Option<Commit> {
        let mut plan = Plan::new(self, policy.retained_per_device(), now);
        plan.settle_idle();
        (!plan.changes.is_empty()).then(|| plan.commit())
    }

    /// Adds what is newly known of a client; `None` where the session is over, unknown, or nothing is new.
    #[must_use]
    pub fn describe(&self, id: SessionId, client: &ClientInfo, policy: &Policy, now: Timestamp) -> Option<Commit> {
        let session = self.session(id).filter(|session| session.state(now) == State::Active)?;
        let updated = session.client.updated_by(client);
        if updated == *session.client {
            return None;
        }
        let mut plan = Plan::new(self, policy.retained_per_device(), now);
        let parts = SessionParts { client: Arc::new(updated), ..session.clone().into_parts() };
        plan.changes.push(Change::Described(Session::trusted(parts)));
        plan.not_after = last_before(session.expires_at);
        Some(plan.commit())
    }
}

/// The last instant before `at`.
const fn last_before(at: Timestamp) -> Timestamp {
    at.minus(Millis::new(1))
}

/// A commit in the making.
struct Plan<'a> {
    device: &'a Device,
    retain: usize,
    now: Timestamp,
    not_after: Timestamp,
    guards: Vec<Guard>,
    changes: Vec<Change>,
    horizon: Option<Horizon>,
}

impl<'a> Plan<'a> {
    fn new(device: &'a Device, retain: usize, now: Timestamp) -> Self {
        let horizon = device.horizon.filter(|horizon| now < horizon.until);
        Self { device, retain, now, not_after: Timestamp::MAX, guards: Vec::new(), changes: Vec::new(), horizon }
    }

    fn guard(&mut self, session: &Session) {
        self.guards.push(Guard { session: session.id, last_activity: session.last_activity });
    }

    fn end(&mut self, session: &Session, cause: &Cause) -> Session {
        let ended = session.clone().ended(cause.at(self.now));
        self.horizon = Some(Horizon::including(self.horizon, &ended));
        self.changes.push(Change::Ended(ended.clone()));
        ended
    }

    /// The device's sessions as this commit leaves them, ended ones included.
    fn after(&self) -> impl Iterator<Item = &Session> {
        let changed = |session: &&Session| self.changes.iter().any(|change| change.session().id == session.id);
        let unchanged = self.device.sessions.iter().filter(move |session| !changed(session));
        self.changes.iter().map(Change::session).chain(unchanged)
    }

    fn settle_idle(&mut self) {
        let idle: Vec<_> = self.after().filter(|session| session.state(self.now) == State::Idle).cloned().collect();
        for session in &idle {
            self.guard(session);
            self.end(session, &Cause::rule(EndReason::Idle));
        }
    }

    fn commit(self) -> Commit {
        let expired = self.after().filter(|session| session.state(self.now) == State::Expired);
        let lapsed = expired.map(|session| session.id).collect();
        Commit {
            device: self.device.id.clone(),
            expected: self.device.revision,
            not_after: self.not_after,
            guards: self.guards,
            changes: self.changes,
            lapsed,
            retain: self.retain,
            horizon: self.horizon,
        }
    }
}
