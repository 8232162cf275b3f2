//! Tests of the state of a session at an instant, and of its verdict on a token.

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::*;

fn quiet() -> Policy {
    Policy::new(&PolicySettings { token_ttl: Some(Millis::seconds(100)), ..PolicySettings::default() }).unwrap()
}

#[test]
fn refusals_have_stable_codes_and_plain_words() {
    let codes = [
        (Refusal::Malformed, "malformed", "token malformed"),
        (Refusal::Unknown, "unknown", "token unknown"),
        (Refusal::Expired, "expired", "token expired"),
        (Refusal::Rotated, "rotated", "token rotated"),
        (Refusal::Ended(EndReason::Idle), "idle", "token idle"),
        (Refusal::Ended(EndReason::Revoked), "revoked", "token revoked"),
        (Refusal::Ended(EndReason::Evicted), "evicted", "token evicted"),
        (Refusal::Ended(EndReason::Replayed), "replayed", "token replayed"),
        (Refusal::Ended(EndReason::LoggedOut), "logged_out", "token logged out"),
    ];
    for (refusal, code, words) in codes {
        assert_eq!((refusal.code(), refusal.to_string().as_str()), (code, words));
        assert_eq!(code.parse(), Ok(refusal));
        assert_eq!(refusal.may_be_guess(), ["malformed", "unknown"].contains(&code), "{code}");
        assert_eq!(refusal.is_final(), !["malformed", "rotated"].contains(&code), "{code}");
    }
    assert_eq!("active".parse::<Refusal>(), Err(()));
    for reason in EndReason::ALL {
        assert_eq!(reason.code().parse::<EndReason>(), Ok(reason));
        assert_eq!(State::Ended(reason).code(), reason.code());
    }
    assert_eq!("active".parse::<EndReason>(), Err(()));
    assert_eq!([State::Active.code(), State::Expired.code(), State::Idle.code()], ["active", "expired", "idle"]);
}

#[test]
fn only_an_end_that_was_asked_for_or_follows_from_a_copied_token_is_explicit() {
    let explicit: Vec<_> = EndReason::ALL.into_iter().filter(|reason| reason.is_explicit()).collect();
    assert_eq!(explicit, [EndReason::Revoked, EndReason::Replayed, EndReason::LoggedOut]);
}

#[test]
fn parts_that_contradict_each_other_are_not_a_session() {
    type Damage = fn(&mut SessionParts);
    let (session, _) = issued(&quiet(), at(START));
    let replaced = Replaced { digest: None, stops_at: at(START), tolerance: Millis::ZERO };
    let damages: [(&str, Damage); 7] = [
        ("generation is 0", |parts| parts.generation = 0),
        ("rotation time", |parts| parts.generation = 2),
        ("rotation time", |parts| parts.rotated_at = Some(parts.created_at)),
        ("TTL is zero", |parts| parts.terms.ttl = Millis::ZERO),
        ("before it was created", |parts| parts.expires_at = parts.created_at.minus(Millis::new(1))),
        ("past its maximum lifetime", |parts| {
            parts.expires_at = parts.created_at.plus(parts.terms.max_lifetime).plus(Millis::new(1));
        }),
        ("activity is before", |parts| parts.last_activity = parts.created_at.minus(Millis::new(1))),
    ];
    for (words, damage) in damages {
        let mut parts = session.clone().into_parts();
        damage(&mut parts);
        let error = Session::from_parts(parts).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(&session.id.to_string()));
    }
    let mut parts = session.clone().into_parts();
    parts.credential.replaced = Some(replaced);
    assert!(Session::from_parts(parts).unwrap_err().to_string().contains("replaced token"));
    assert_eq!(Session::from_parts(session.clone().into_parts()), Ok(session));
}

#[test]
fn nothing_secret_is_printed_with_a_session() {
    let (session, _) = issued(&quiet(), at(START));
    let printed = format!("{session:?}");
    assert!(printed.contains("Digest(redacted)"));
    let digest = session.credential.current.as_bytes();
    let hex: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!printed.contains(&hex) && !printed.contains(&format!("{}, {}, {}", digest[0], digest[1], digest[2])));
}

proptest! {
    #[test]
    fn accepted_one_millisecond_before_its_expiry_and_refused_at_it(
        start in 0..START * 2, ttl in 1_000..100_000_000_u64, later in 0..10_000_000_u64,
    ) {
        let policy = Policy::default();
        let terms = policy.terms(Some(Millis::new(ttl))).unwrap();
        let issue = Device::unknown(laptop()).issue(new_session(3, terms), &policy, at(start)).unwrap();
        let (session, token) = (issue.session, issue.token);
        prop_assert_eq!(session.expires_at, at(start + ttl));
        let holds = Verdict::Valid(TokenMatch::Current);
        let expired = Verdict::Refused(Refusal::Expired);
        prop_assert_eq!(session.verdict(&token, at(start)), holds);
        prop_assert_eq!(session.verdict(&token, at(start + ttl - 1)), holds);
        prop_assert_eq!(session.verdict(&token, at(start + ttl)), expired);
        prop_assert_eq!(session.verdict(&token, at(start + ttl + later)), expired);
    }

    #[test]
    fn a_session_is_idle_one_timeout_after_its_last_use_and_not_before(used in 0..60_000_u64, now in 0..99_999_u64) {
        let policy = lively(5, 0, 0);
        let (session, token) = issued(&policy, at(START));
        let session = session.touched(at(START + used));
        let verdict = session.verdict(&token, at(START + now));
        let idle = now >= used + 40_000;
        prop_assert_eq!(verdict == Verdict::EndRequired(EndReason::Idle), idle);
        prop_assert_eq!(verdict == Verdict::Valid(TokenMatch::Current), !idle);
        prop_assert_eq!(session.inactive_since(at(START + now)), idle.then(|| at(START + used + 40_000)));
    }

    #[test]
    fn any_order_of_touches_gives_the_same_last_activity(
        touches in prop::collection::vec(0..100_000_u64, 0..20).prop_flat_map(|touches| {
            (Just(touches.clone()), Just(touches).prop_shuffle())
        }),
    ) {
        let (session, _) = issued(&quiet(), at(START));
        let touch = |list: &[u64]| list.iter().fold(session.clone(), |session, used| session.touched(at(START + used)));
        let (a, b) = (touch(&touches.0), touch(&touches.1));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(a.last_activity, at(START + touches.0.iter().copied().max().unwrap_or(0)));
    }

    #[test]
    fn a_touch_never_moves_back_and_never_changes_an_ended_session(end in 0..50_000_u64, used in any::<u64>()) {
        let (session, _) = issued(&quiet(), at(START));
        prop_assert!(session.clone().touched(at(used)).last_activity >= session.last_activity);
        let ended = revoked(&session, at(START + end));
        prop_assert_eq!(ended.clone().touched(at(used)), ended);
    }

    #[test]
    fn an_ended_session_stays_ended(end in 0..99_000_u64, now in any::<u64>()) {
        let policy = lively(5, 60_000, 0);
        let (session, token) = issued(&policy, at(START));
        let rotation = rotated(&session, &token, 9, &policy, at(START));
        prop_assume!(rotation.session.state(at(START + end)) == State::Active);
        let ended = revoked(&rotation.session, at(START + end));
        for token in [&token, &rotation.token] {
            prop_assert_eq!(ended.verdict(token, at(now)), Verdict::Refused(Refusal::Ended(EndReason::Revoked)));
        }
        prop_assert_eq!(ended.inactive_since(at(now)), Some(at(START + end)));
        prop_assert_eq!(ended.is_retained(at(now)), at(now) < at(START + end).plus(policy.retention()));
    }

    #[test]
    fn a_guess_is_unknown_whatever_the_session_is(fresh: u64, family: u64, after in span(), rotate: bool) {
        let policy = lively(5, 60_000, 0);
        let (mut session, token) = issued(&policy, at(START));
        if rotate {
            session = rotated(&session, &token, 9, &policy, at(START)).session;
        }
        prop_assume!(family != 1);
        let guess = Token::new(session.id, secret(family, fresh));
        prop_assert_eq!(session.verdict(&guess, at(START + after)), Verdict::Refused(Refusal::Unknown));
        // The right secret with the id of another session is a guess as well.
        let other = SessionId::from_u128(session.id.as_u128() ^ 1).unwrap();
        let elsewhere = Token::new(other, token.secret().clone());
        prop_assert_eq!(session.verdict(&elsewhere, at(START + after)), Verdict::Refused(Refusal::Unknown));
    }

    #[test]
    fn a_rotation_is_due_in_the_window_if_it_would_extend_the_expiry(
        window in 0..100_000_u64, life in 100_000..400_000_u64, now in 0..100_001_u64,
    ) {
        let policy = Policy::new(&PolicySettings {
            token_ttl: Some(Millis::seconds(100)),
            rotate_before_expiry: Some(Millis::new(window.min(99_999))),
            max_lifetime: Some(Millis::new(life)),
            ..PolicySettings::default()
        }).unwrap();
        let (session, token) = issued(&policy, at(START));
        let left = 100_000_u64.saturating_sub(now);
        let extends = (now + 100_000).min(life) > 100_000;
        let due = left > 0 && left <= window.min(99_999) && extends;
        prop_assert_eq!(session.is_rotation_due(&policy, at(START + now)), due);
        if due {
            let rotation = rotated(&session, &token, 9, &policy, at(START + now));
            prop_assert!(rotation.session.expires_at > session.expires_at);
        }
    }

    #[test]
    fn a_shorter_ttl_than_the_window_is_due_in_its_last_twelfth(ttl in 1_000..7_200_000_u64, now in 0..7_200_000_u64) {
        let policy = Policy::default();
        let terms = policy.terms(Some(Millis::new(ttl))).unwrap();
        let session = Device::unknown(laptop()).issue(new_session(1, terms), &policy, at(START)).unwrap().session;
        let left = ttl.saturating_sub(now);
        // A rotation would extend the expiry at any time except at the instant of the issue.
        let due = left > 0 && left <= ttl / 12 && now > 0;
        prop_assert_eq!(session.is_rotation_due(&policy, at(START + now)), due);
    }
}

#[test]
fn a_connection_may_stay_open_while_its_session_is_active() {
    let policy = Policy::new(&PolicySettings { idle_timeout: Some(Millis::minutes(5)), ..PolicySettings::default() });
    let (session, _) = issued(&policy.unwrap(), at(START));
    let idle_at = session.idle_at().unwrap();
    assert_eq!(session.active_until(), idle_at, "idleness comes before expiry");
    assert_eq!(session.check_active(idle_at.minus(Millis::new(1))), Ok(()));
    assert_eq!(session.check_active(idle_at), Err(Refusal::Ended(EndReason::Idle)));
    assert_eq!(session.check_active(session.expires_at), Err(Refusal::Expired), "expired comes before idle");
    let ended = revoked(&session, at(START + 1));
    assert_eq!(ended.check_active(ended.expires_at), Err(Refusal::Ended(EndReason::Revoked)), "ended comes first");
    let (plain, _) = issued(&Policy::default(), at(START));
    assert_eq!(plain.active_until(), plain.expires_at);
}

#[test]
fn a_session_has_expired_from_its_expiry_on() {
    assert!(!is_expired(at(START), at(START - 1)));
    assert!(is_expired(at(START), at(START)));
}
