//! Importing sessions from another store, without bringing back sessions that ended.

use super::{CommitBuilder, Device, EndCause};
use crate::commit::{Change, Commit, RevocationWatermark};
use crate::id::SessionId;
use crate::policy::Policy;
use crate::refusal::EndReason;
use crate::session::{Session, SessionParts, State};
use crate::time::Timestamp;

/// The outcome of importing one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportOutcome {
    /// The session is imported.
    Imported,
    /// The session is known here, in the same or a newer state. If either side has ended it, it is ended.
    AlreadyPresent,
    /// The session is no longer retained.
    NotRetained,
    /// The session is refused, because it may have ended here and its record may be gone.
    Blocked,
}

/// The decision about an import into one device.
#[derive(Debug)]
pub struct ImportPlan {
    /// The outcome of each session, in the order in which they were first given.
    pub outcomes: Vec<(SessionId, ImportOutcome)>,
    /// How many sessions would be active on the device after the import.
    pub active: usize,
    /// How many sessions the device may have active.
    pub cap: usize,
    /// The commit for the store. `None` if there is nothing to write, or if `active` is over the cap.
    pub commit: Option<Commit>,
}

impl ImportPlan {
    /// Whether nothing is imported because the device would have too many active sessions.
    #[must_use]
    pub fn is_over_cap(&self) -> bool {
        self.active > self.cap && self.outcomes.iter().any(|(_, outcome)| *outcome == ImportOutcome::Imported)
    }
}

impl Device {
    /// Decides which of the sessions `incoming` to import. They are all of this device. `known` are the records here
    /// that have the same ids, ended ones included. They were read before the device was loaded.
    ///
    /// If both sides know a session, or if `incoming` has it twice, the ended record wins, then the one that was
    /// rotated more often. If more sessions than the cap would be active, nothing is imported.
    #[must_use]
    pub fn import(&self, incoming: &[Session], known: &[Session], policy: &Policy, now: Timestamp) -> ImportPlan {
        let mut builder = CommitBuilder::new(self, policy.retained_per_device(), now);
        let mut outcomes = Vec::with_capacity(incoming.len());
        for session in latest_records(incoming) {
            // The device was read later, but it lacks ended sessions. A record that is no longer retained is ignored:
            // one store may still have it, and another may have dropped it.
            let says = |record: &&Session| record.is_retained(now) || record.device != self.id;
            let loaded = self.session(session.id).filter(says);
            let here = loaded.or_else(|| known.iter().filter(|known| known.id == session.id).find(says));
            let outcome = self.judge(session, here, now);
            outcomes.push((session.id, outcome));
            if outcome == ImportOutcome::Imported {
                builder.import(session, here);
            }
        }
        let active = builder.after().filter(|session| session.state(now) == State::Active).count();
        let commit = (active <= policy.cap() && !builder.changes.is_empty()).then(|| {
            // A session that is idle here was not counted, so it has to end with this commit.
            builder.end_idle_sessions();
            builder.build()
        });
        ImportPlan { outcomes, active, cap: policy.cap(), commit }
    }

    fn judge(&self, session: &Session, here: Option<&Session>, now: Timestamp) -> ImportOutcome {
        if !session.is_retained(now) {
            return ImportOutcome::NotRetained;
        }
        match here {
            Some(here) if self.has_ended(here, now) || !supersedes(session, here) => ImportOutcome::AlreadyPresent,
            None if session.state(now) == State::Active && self.may_have_ended(session, now) => ImportOutcome::Blocked,
            Some(_) | None => ImportOutcome::Imported,
        }
    }

    /// Whether a session that is known here has ended. A session that should have been loaded and was not has ended
    /// after its record was read, or belongs to another device.
    fn has_ended(&self, known: &Session, now: Timestamp) -> bool {
        known.end.is_some()
            || known.device != self.id
            || (known.state(now) != State::Expired && self.session(known.id).is_none())
    }

    fn may_have_ended(&self, session: &Session, now: Timestamp) -> bool {
        self.watermark.is_some_and(|watermark| now < watermark.until && session.created_at <= watermark.created_at)
    }
}

/// Whether `new` is the later of two records of a session.
fn supersedes(new: &Session, old: &Session) -> bool {
    old.end.is_none() && (new.end.is_some() || new.generation > old.generation)
}

/// Returns one record for each session.
fn latest_records(incoming: &[Session]) -> Vec<&Session> {
    let mut winners: Vec<&Session> = Vec::with_capacity(incoming.len());
    for session in incoming {
        match winners.iter_mut().find(|held| held.id == session.id) {
            Some(held) if supersedes(session, held) => *held = session,
            Some(_) => {}
            None => winners.push(session),
        }
    }
    winners
}

impl CommitBuilder<'_> {
    /// Imports one session, with the later activity of both sides. A session that is idle is imported as ended.
    fn import(&mut self, session: &Session, here: Option<&Session>) {
        let known = here.map_or(session.last_activity, |here| here.last_activity);
        let last_activity = session.last_activity.max(known);
        let mut taken = Session::new_unchecked(SessionParts { last_activity, ..session.clone().into_parts() });
        if taken.state(self.now) == State::Idle {
            if here.is_some() {
                self.guard(&taken);
            }
            taken = taken.ended(EndCause::by_rule(EndReason::Idle).at(self.now));
        }
        if taken.end.as_ref().is_some_and(|end| end.at < taken.expires_at) {
            self.watermark = Some(RevocationWatermark::including(self.watermark, &taken));
        }
        self.changes.push(if here.is_some() { Change::Merged(taken) } else { Change::Imported(taken) });
    }
}
