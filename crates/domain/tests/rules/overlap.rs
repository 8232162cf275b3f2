//! Tests of replaced tokens: how long they are valid, when they are late requests, and when they are theft.

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::*;

/// A chain of rotations: each token with its expiry, and the time at which it was replaced. The last token was not.
struct Chain {
    session: Session,
    tokens: Vec<Token>,
    replaced_at: Vec<u64>,
    expiries: Vec<u64>,
}

fn chain(policy: &Policy, gaps: &[u64]) -> Chain {
    let (mut session, token) = issued(policy, at(START));
    let (mut now, mut tokens, mut replaced_at) = (START, vec![token], Vec::new());
    let mut expiries = vec![session.expires_at.as_millis()];
    for (n, gap) in gaps.iter().enumerate() {
        now += gap;
        if session.state(at(now)) != State::Active {
            break;
        }
        let rotation = rotated(&session, tokens.last().unwrap(), 100 + n as u64, policy, at(now));
        assert_eq!(rotation.session.generation, session.generation + 1);
        assert_eq!(rotation.session.rotated_at, Some(at(now)));
        assert!(rotation.session.expires_at <= rotation.session.created_at.plus(policy.max_lifetime()));
        assert_eq!(
            rotation.session.expires_at,
            at(now).plus(policy.token_ttl()).min(at(START).plus(policy.max_lifetime()))
        );
        session = rotation.session;
        expiries.push(session.expires_at.as_millis());
        tokens.push(rotation.token);
        replaced_at.push(now);
    }
    Chain { session, tokens, replaced_at, expiries }
}

fn gaps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0..500_u64, 0..39_999_u64], 1..6)
}

/// Shows that it does not matter if another process' clock is behind the clock by which a token was rotated.
#[test]
fn a_replaced_token_is_refused_by_a_clock_that_lags_behind_its_rotation() {
    let Chain { session, tokens, replaced_at, .. } = chain(&lively(5, 0, 10_000), &[5_000, 5_000]);
    for behind in [0, 1, 2_000, 7_000] {
        let now = at(replaced_at[1] - behind);
        for old in &tokens[..2] {
            assert_eq!(session.verdict(old, now), Verdict::Refused(Refusal::Rotated), "{behind} ms behind");
        }
        assert_eq!(session.verdict(&tokens[2], now), Verdict::Valid(TokenMatch::Current));
    }
}

proptest! {
    #[test]
    fn every_token_of_a_chain_is_judged_by_its_age(
        gaps in gaps(), overlap in prop_oneof![Just(0), 0..20_000_u64, Just(300_000)],
        tolerance in prop_oneof![Just(0), 0..20_000_u64, Just(300_000)], later in span(),
    ) {
        let policy = lively(5, overlap, tolerance);
        let Chain { session, tokens, replaced_at, expiries } = chain(&policy, &gaps);
        let last = tokens.len() - 1;
        let now = replaced_at.last().copied().unwrap_or(START) + later;
        let idle = now >= session.idle_at().unwrap().as_millis();
        for (place, token) in tokens.iter().enumerate() {
            let verdict = session.verdict(token, at(now));
            if now >= session.expires_at.as_millis() {
                prop_assert_eq!(verdict, Verdict::Refused(Refusal::Expired));
                continue;
            }
            if idle {
                prop_assert_eq!(verdict, Verdict::EndRequired(EndReason::Idle));
                continue;
            }
            if place == last {
                prop_assert_eq!(verdict, Verdict::Valid(TokenMatch::Current));
                continue;
            }
            // The directly previous token is valid until the end of its overlap, but never past its expiry. An older
            // token stopped being valid at the last rotation, if not before.
            let stopped = if place + 1 == last {
                (replaced_at[place] + overlap).min(expiries[place])
            } else {
                replaced_at[last - 1]
            };
            let expected = if now < stopped {
                Verdict::Valid(TokenMatch::Overlap)
            } else if now - stopped > tolerance {
                Verdict::EndRequired(EndReason::Replayed)
            } else {
                Verdict::Refused(Refusal::Rotated)
            };
            prop_assert_eq!(verdict, expected, "token {} of {} at {}", place, last, now - START);
        }
    }

    #[test]
    fn a_replaced_token_never_rotates(gaps in gaps(), overlap in 0..60_000_u64, later in span()) {
        let policy = lively(5, overlap, 10_000);
        let Chain { session, tokens, replaced_at, .. } = chain(&policy, &gaps);
        let now = at(replaced_at.last().copied().unwrap_or(START) + later);
        let device = device_of(std::slice::from_ref(&session));
        for (place, token) in tokens.iter().enumerate() {
            let decision = device.rotate(token, &RotationSecret::new(half(999)), &policy, now);
            let current = place + 1 == tokens.len();
            match decision {
                Decision::Accept(rotation) => {
                    prop_assert!(current);
                    prop_assert_eq!(session.state(now), State::Active);
                    // The commit must not be applied once the session has expired or is idle.
                    prop_assert!(rotation.commit.not_after < session.expires_at);
                    prop_assert!(rotation.commit.not_after < session.idle_at().unwrap());
                    prop_assert!(rotation.commit.not_after >= now);
                }
                Decision::Reject(refusal) => {
                    let over = session.state(now) == State::Expired;
                    prop_assert_eq!(refusal, if over { Refusal::Expired } else { Refusal::Rotated });
                }
                Decision::EndSession(reason, commit) => {
                    prop_assert!(reason == EndReason::Idle || (reason == EndReason::Replayed && !current));
                    prop_assert_eq!(commit.changes.len(), 1);
                    let State::Ended(ended) = commit.changes[0].session().state(now) else { panic!("not ended") };
                    prop_assert_eq!(ended, reason);
                }
            }
        }
    }

    #[test]
    fn without_overlap_the_old_token_is_refused_at_once(gap in 0..39_999_u64) {
        let policy = lively(5, 0, 10_000);
        let chain = chain(&policy, &[gap]);
        let verdict = chain.session.verdict(&chain.tokens[0], at(START + gap));
        prop_assert_eq!(verdict, Verdict::Refused(Refusal::Rotated));
        // The digest of the old token is not kept.
        prop_assert_eq!(&chain.session.credential.replaced.as_ref().unwrap().digest, &None);
    }

    #[test]
    fn a_clock_that_lags_behind_the_issuer_makes_no_impossible_session(lag in 0..1_000_000_u64) {
        let policy = lively(5, 0, 10_000);
        let (session, token) = issued(&policy, at(START));
        let rotation = rotated(&session, &token, 9, &policy, at(START - lag));
        prop_assert!(Session::from_parts(rotation.session.clone().into_parts()).is_ok());
        prop_assert!(rotation.session.expires_at >= session.expires_at);
    }
}
