//! Taking over sessions from another store, without bringing back what ended.

use super::{Cause, Device, Plan};
use crate::commit::{Change, Commit, Horizon};
use crate::id::SessionId;
use crate::policy::Policy;
use crate::refusal::EndReason;
use crate::session::{Session, State};
use crate::time::Timestamp;

/// What becomes of one imported session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportOutcome {
    /// Taken over.
    Taken,
    /// This side knows it already, in the same or a newer state: an ended one always wins.
    Kept,
    /// Its retention is over; there is nothing to keep.
    Lapsed,
    /// It may be one that ended here and whose record is gone.
    Barred,
}

/// An import into one device, decided.
#[derive(Debug)]
pub struct ImportPlan {
    /// What becomes of each, in the order given.
    pub outcomes: Vec<(SessionId, ImportOutcome)>,
    /// How many sessions would be active on the device.
    pub active: usize,
    /// For the store; `None` where there is nothing to write, or where `active` is over the cap.
    pub commit: Option<Commit>,
}

impl Device {
    /// Decides which of `incoming` (all of this device) to take. `known` are this side's records of the same ids,
    /// ended ones included.
    ///
    /// Where both sides know a session, the ended one wins, then the one rotated more often. Where that would leave
    /// more than the cap active, nothing is taken.
    #[must_use]
    pub fn import(&self, incoming: &[Session], known: &[Session], policy: &Policy, now: Timestamp) -> ImportPlan {
        let mut plan = Plan::new(self, policy.retained_per_device(), now);
        let mut after: Vec<Session> = self.sessions.clone();
        let mut outcomes = Vec::with_capacity(incoming.len());
        for session in incoming {
            let here = known.iter().find(|known| known.id == session.id).or_else(|| self.session(session.id));
            let outcome = self.admit(session, here, now);
            outcomes.push((session.id, outcome));
            if outcome == ImportOutcome::Taken {
                let taken = plan.import(session, here);
                after.retain(|other| other.id != taken.id);
                after.push(taken);
            }
        }
        let active = after.iter().filter(|session| session.state(now) == State::Active).count();
        let commit = (active <= policy.cap() && !plan.changes.is_empty()).then(|| {
            let (taken, now) = (plan.changes.len(), plan.now);
            // One left idle here was not counted above, so it has to end with this commit.
            plan.settle_idle();
            let arrived: Vec<SessionId> = plan.changes.iter().take(taken).map(|change| change.session().id).collect();
            // Settling must not undo what arrived for the same session.
            let mut place = 0;
            plan.changes.retain(|change| {
                place += 1;
                place <= taken || !arrived.contains(&change.session().id)
            });
            plan.guards.retain(|guard| !arrived.contains(&guard.session));
            let expired = |session: &&Session| session.state(now) == State::Expired;
            let late: Vec<SessionId> =
                plan.changes.iter().map(Change::session).filter(expired).map(|session| session.id).collect();
            let mut commit = plan.commit();
            commit.lapsed.retain(|id| !arrived.contains(id));
            commit.lapsed.extend(late);
            commit
        });
        ImportPlan { outcomes, active, commit }
    }

    fn admit(&self, session: &Session, here: Option<&Session>, now: Timestamp) -> ImportOutcome {
        if !session.is_retained(now) {
            return ImportOutcome::Lapsed;
        }
        match here {
            Some(here) if here.end.is_some() => ImportOutcome::Kept,
            Some(_) if session.end.is_some() => ImportOutcome::Taken,
            Some(here) if session.generation > here.generation => ImportOutcome::Taken,
            Some(_) => ImportOutcome::Kept,
            None if session.state(now) == State::Active && self.may_have_ended(session, now) => ImportOutcome::Barred,
            None => ImportOutcome::Taken,
        }
    }

    fn may_have_ended(&self, session: &Session, now: Timestamp) -> bool {
        self.horizon.is_some_and(|horizon| now < horizon.until && session.created_at <= horizon.created_at)
    }
}

impl Plan<'_> {
    /// Takes one session over, with whatever activity this side knows of; one that is idle arrives ended.
    fn import(&mut self, session: &Session, here: Option<&Session>) -> Session {
        let mut taken = session.clone();
        if let Some(here) = here {
            taken = taken.touched(here.last_activity);
        }
        if taken.state(self.now) == State::Idle {
            taken = taken.ended(Cause::rule(EndReason::Idle).at(self.now));
        }
        if taken.end.as_ref().is_some_and(|end| end.at < taken.expires_at) {
            self.horizon = Some(Horizon::including(self.horizon, &taken));
        }
        self.changes.push(Change::Imported(taken.clone()));
        taken
    }
}
