//! Random histories of one device, with every invariant checked after each step.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::*;

/// An action on a device.
#[derive(Clone, Debug)]
enum Action {
    /// Issue a session to the subject with this number.
    Issue(usize),
    /// Issue a session to the subject with this number, which takes the device over.
    TakeOver(usize),
    /// Rotate a token: the number of its session, and its age. The current token has age 0.
    Rotate(usize, usize),
    /// Verify a token: the number of its session, and its age.
    Authenticate(usize, usize),
    /// Try a guessed token of the session with this number.
    Guess(usize),
    /// Revoke the session with this number.
    Revoke(usize),
    /// Revoke all sessions of the device.
    RevokeAll,
    /// Report use of the session with this number, which was so many milliseconds ago.
    Touch(usize, u64),
    /// Let so many milliseconds pass.
    Pass(u64),
    /// End all idle sessions.
    EndIdle,
}

fn action() -> impl Strategy<Value = Action> {
    let session = || 0..40_usize;
    let age = || prop_oneof![6 => Just(0_usize), 2 => Just(1), 1 => 2..5_usize];
    prop_oneof![
        6 => prop_oneof![5 => Just(0_usize), 1 => Just(1)].prop_map(Action::Issue),
        1 => (0..2_usize).prop_map(Action::TakeOver),
        6 => (session(), age()).prop_map(|(session, age)| Action::Rotate(session, age)),
        6 => (session(), age()).prop_map(|(session, age)| Action::Authenticate(session, age)),
        1 => session().prop_map(Action::Guess),
        2 => session().prop_map(Action::Revoke),
        1 => Just(Action::RevokeAll),
        6 => (session(), 0..60_000_u64).prop_map(|(session, late)| Action::Touch(session, late)),
        6 => prop_oneof![0..10_u64, 0..5_000_u64, 0..50_000_u64].prop_map(Action::Pass),
        1 => Just(Action::EndIdle),
    ]
}

fn subject(whose: usize) -> Subject {
    Subject::new(["anna", "bert"][whose]).unwrap()
}

/// A simulated store with one device, and the tokens that the owners of its sessions have.
struct Simulation {
    policy: Policy,
    now: Timestamp,
    revision: u64,
    records: BTreeMap<SessionId, Session>,
    watermark: Option<RevocationWatermark>,
    /// The tokens of each session, the current one last. The sessions are in the order of their issue.
    owned: Vec<(SessionId, Vec<Token>)>,
    drawn: u64,
}

impl Simulation {
    fn new(policy: Policy) -> Self {
        let now = at(START);
        Self { policy, now, revision: 0, records: BTreeMap::new(), watermark: None, owned: Vec::new(), drawn: 0 }
    }

    fn load(&self) -> Device {
        let open = self.records.values().filter(|session| session.end.is_none()).cloned().collect();
        Device::new(laptop(), Revision::new(self.revision), open, self.watermark)
    }

    fn load_by_session(&self, id: SessionId) -> Device {
        let wanted = self.records.values().filter(|session| session.end.is_none() || session.id == id);
        Device::new(laptop(), Revision::new(self.revision), wanted.cloned().collect(), self.watermark)
    }

    fn commit(&mut self, commit: &Commit) {
        assert_eq!(commit.expected.get(), self.revision);
        assert!(commit.not_after >= self.now);
        for guard in &commit.guards {
            assert_eq!(self.records[&guard.session].last_activity, guard.last_activity);
        }
        for change in &commit.changes {
            let new = change.session();
            assert_eq!(Session::from_parts(new.clone().into_parts()).as_ref(), Ok(new));
            let old = self.records.insert(new.id, new.clone());
            match change {
                Change::Issued(_) => assert!(old.is_none()),
                Change::Rotated(_) => assert_eq!(new.generation, old.unwrap().generation + 1),
                Change::Ended(_) => assert_eq!(new.generation, old.unwrap().generation),
                other => panic!("unexpected: {other:?}"),
            }
        }
        for id in &commit.expired {
            assert_eq!(self.records[id].state(self.now), State::Expired);
        }
        self.watermark = commit.watermark;
        self.revision += 1;
    }

    fn pick(&self, session: usize, age: usize) -> Option<(SessionId, Token, bool)> {
        let (id, tokens) = self.owned.get(session % self.owned.len().max(1))?;
        let place = tokens.len().checked_sub(1 + age)?;
        Some((*id, tokens[place].clone(), age == 0))
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn step(&mut self, action: &Action) {
        let now = self.now;
        match *action {
            Action::Issue(whose) => self.issue(subject(whose), false),
            Action::TakeOver(whose) => self.issue(subject(whose), true),
            Action::Rotate(session, age) => {
                let Some((id, token, current)) = self.pick(session, age) else { return };
                let fresh = RotationSecret::new(half(self.draw() << 32));
                match self.load_by_session(id).rotate(&token, &fresh, &self.policy, now) {
                    Decision::Accept(rotation) => {
                        assert!(current, "a replaced token rotated");
                        assert_eq!(self.records[&id].state(now), State::Active);
                        self.commit(&rotation.commit);
                        let tokens = self.owned.iter_mut().find(|(owned, _)| *owned == id).unwrap();
                        tokens.1.push(rotation.token);
                    }
                    Decision::Reject(refusal) => self.refused(id, current, refusal),
                    Decision::EndSession(reason, commit) => self.ended(id, current, reason, &commit),
                }
            }
            Action::Authenticate(session, age) => {
                let Some((id, token, current)) = self.pick(session, age) else { return };
                let device = self.load_by_session(id);
                match device.authenticate(&token, &self.policy, now) {
                    Decision::Accept((token_match, session)) => {
                        assert_eq!(session.state(now), State::Active);
                        assert_eq!(token_match == TokenMatch::Current, current);
                        if !current {
                            let rotated_at = session.rotated_at.unwrap();
                            assert_eq!(age, 1);
                            assert!(now < rotated_at.plus(self.policy.rotation_overlap()));
                        }
                    }
                    Decision::Reject(refusal) => self.refused(id, current, refusal),
                    Decision::EndSession(reason, commit) => self.ended(id, current, reason, &commit),
                }
            }
            Action::Guess(session) => {
                let Some((id, _, _)) = self.pick(session, 0) else { return };
                let n = self.draw();
                let guess = Token::new(id, secret(n << 40, n));
                let device = self.load_by_session(id);
                let verdict = device.authenticate(&guess, &self.policy, now);
                assert!(
                    matches!(verdict, Decision::Reject(Refusal::Unknown)),
                    "a guess was accepted, or ended the session"
                );
                let verdict = device.rotate(&guess, &RotationSecret::new(half(n)), &self.policy, now);
                assert!(matches!(verdict, Decision::Reject(Refusal::Unknown)), "a guess rotated");
            }
            Action::Revoke(session) => {
                let Some((id, _, _)) = self.pick(session, 0) else { return };
                self.revoke(&self.load_by_session(id), &Selection::one(id));
            }
            Action::RevokeAll => self.revoke(&self.load(), &Selection::default()),
            Action::Touch(session, late) => {
                let Some((id, _, _)) = self.pick(session, 0) else { return };
                let (record, used) = (self.records[&id].clone(), now.minus(Millis::new(late)));
                // Use counts only if the token was accepted at that time.
                if used >= record.created_at && record.state(used) == State::Active {
                    self.records.insert(id, record.touched(used));
                }
            }
            Action::Pass(millis) => self.now = now.plus(Millis::new(millis)),
            Action::EndIdle => {
                if let Some(commit) = self.load().end_idle(&self.policy, now) {
                    self.commit(&commit);
                }
                assert!(self.records.values().all(|session| session.state(now) != State::Idle));
            }
        }
    }

    fn issue(&mut self, subject: Subject, take_over: bool) {
        let n = self.draw();
        let new_session = NewSession { subject: subject.clone(), ..new_session(n, self.policy.terms(None).unwrap()) };
        let active: Vec<_> = self.owned.iter().map(|(id, _)| *id).filter(|id| self.is_active(*id)).collect();
        let (oldest, others): (Vec<_>, Vec<_>) = active.into_iter().partition(|id| self.records[id].subject == subject);
        let issue = if take_over {
            let cause = EndCause::by_rule(EndReason::Revoked);
            self.load().take_over(new_session, &cause, &self.policy, self.now)
        } else {
            match self.load().issue(new_session, &self.policy, self.now) {
                Ok(issue) => issue,
                Err(refusal) => {
                    assert!(!others.is_empty() && oldest.is_empty(), "{refusal} without a reason");
                    return;
                }
            }
        };
        assert!(take_over || others.is_empty(), "issued on another's device");
        let mut revoked: Vec<_> = issue.revoked.iter().map(|session| session.id).collect();
        revoked.sort_by_key(|id| self.owned.iter().position(|(owned, _)| owned == id));
        assert_eq!(revoked, others);
        let surplus = (oldest.len() + 1).saturating_sub(self.policy.cap());
        assert_eq!(issue.evicted, oldest[..surplus], "not the oldest");
        self.commit(&issue.commit);
        assert!(self.records.values().all(|session| session.state(self.now) != State::Idle));
        self.owned.push((issue.session.id, vec![issue.token]));
    }

    fn revoke(&mut self, device: &Device, selection: &Selection) {
        let revocation = device.revoke(selection, &EndCause::by_rule(EndReason::Revoked), &self.policy, self.now);
        if let Some(commit) = revocation.commit {
            self.commit(&commit);
        }
        for session in revocation.ended.iter().chain(&revocation.already_ended) {
            assert!(matches!(self.records[&session.id].state(self.now), State::Ended(_) | State::Expired));
        }
    }

    fn is_active(&self, id: SessionId) -> bool {
        self.records[&id].state(self.now) == State::Active
    }

    fn refused(&self, id: SessionId, current: bool, refusal: Refusal) {
        match self.records[&id].state(self.now) {
            State::Active => assert!(refusal == Refusal::Rotated && !current),
            State::Expired => assert_eq!(refusal, Refusal::Expired),
            State::Ended(reason) => assert_eq!(refusal, Refusal::Ended(reason)),
            State::Idle => panic!("an idle session was refused but not ended"),
        }
    }

    fn ended(&mut self, id: SessionId, current: bool, reason: EndReason, commit: &Commit) {
        match self.records[&id].state(self.now) {
            State::Active => {
                assert!(reason == EndReason::Replayed && !current);
                let rotated_at = self.records[&id].rotated_at.unwrap();
                assert!(
                    self.now.since(rotated_at) > self.policy.replay_tolerance(),
                    "a late request was taken for theft"
                );
            }
            State::Idle => assert_eq!(reason, EndReason::Idle),
            over => panic!("ended although it was inactive: {over}"),
        }
        self.commit(commit);
        assert_eq!(self.records[&id].state(self.now), State::Ended(reason));
    }

    fn check(&self, before: &BTreeMap<SessionId, Session>, then: Timestamp) {
        let active = self.records.values().filter(|session| session.state(self.now) == State::Active).count();
        assert!(active <= self.policy.cap(), "{active} active");
        assert!(self.load().owners(self.now).len() <= 1, "two owners");
        for session in self.records.values() {
            assert!(session.expires_at <= session.created_at.plus(session.terms.max_lifetime));
            assert!(session.expires_at <= self.now.plus(session.terms.ttl));
            assert!(session.is_in_its_bucket());
        }
        for (id, old) in before {
            let new = &self.records[id];
            match old.state(then) {
                State::Ended(_) => assert_eq!(new, old, "an ended session changed"),
                State::Expired => assert_eq!(new.state(self.now), State::Expired, "an expired session came back"),
                State::Active | State::Idle => assert!(new.last_activity >= old.last_activity),
            }
        }
        for (id, tokens) in &self.owned {
            let session = &self.records[id];
            assert_eq!(session.generation as usize, tokens.len(), "one generation for each token");
            let accepted = |token: &&Token| matches!(session.verdict(token, self.now), Verdict::Valid(_));
            let older = tokens.len().saturating_sub(2);
            assert_eq!(tokens[..older].iter().filter(accepted).count(), 0);
            assert_eq!(accepted(&tokens.last().unwrap()), session.state(self.now) == State::Active);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_history_of_a_device_breaks_a_rule(
        actions in prop::collection::vec(action(), 1..120),
        cap in 1..6_u64,
        overlap in prop_oneof![Just(0), 0..30_000_u64],
        tolerance in prop_oneof![Just(0), 0..30_000_u64],
    ) {
        let mut simulation = Simulation::new(lively(cap, overlap, tolerance));
        for action in &actions {
            let (before, then) = (simulation.records.clone(), simulation.now);
            simulation.step(action);
            simulation.check(&before, then);
        }
    }
}
