//! Tests of the settings: their ranges, and the defaults that depend on other settings.

use proptest::prelude::*;
use tenure_domain::*;

fn refused(settings: PolicySettings) -> String {
    Policy::new(&settings).unwrap_err().to_string()
}

fn none() -> PolicySettings {
    PolicySettings::default()
}

#[test]
fn without_settings_the_policy_is_the_documented_default() {
    let policy = Policy::new(&none()).unwrap();
    assert_eq!(policy, Policy::default());
    assert_eq!(policy.token_ttl(), Millis::hours(24));
    assert_eq!(policy.rotate_before_expiry(), Millis::hours(2));
    assert_eq!(policy.cap(), 10);
    assert_eq!(policy.idle_timeout(), None);
    assert_eq!(policy.max_lifetime(), Millis::days(30));
    assert_eq!(policy.rotation_overlap(), Millis::ZERO);
    assert_eq!(policy.replay_tolerance(), Millis::seconds(10));
    assert_eq!(policy.retention(), Millis::hours(24));
    assert_eq!(policy.retained_per_device(), 100);
}

#[test]
fn each_setting_has_its_range_and_the_error_says_so() {
    let (ms, s, h, d) = (Millis::new, Millis::seconds, Millis::hours, Millis::days);
    for (settings, text) in [
        (PolicySettings { token_ttl: Some(ms(999)), ..none() }, "session.token_ttl is 999ms; it takes 1s to 365d"),
        (PolicySettings { token_ttl: Some(h(8_761)), ..none() }, "session.token_ttl is 8761h; it takes 1s to 365d"),
        (
            PolicySettings { rotate_before_expiry: Some(h(24)), ..none() },
            "session.rotate_before_expiry is 24h; it takes 0s to less than session.token_ttl (24h)",
        ),
        (
            PolicySettings { max_sessions_per_device: Some(0), ..none() },
            "session.max_sessions_per_device is 0; it takes 1 to 100",
        ),
        (
            PolicySettings { max_sessions_per_device: Some(101), ..none() },
            "session.max_sessions_per_device is 101; it takes 1 to 100",
        ),
        (
            PolicySettings { idle_timeout: Some(ms(29_999)), ..none() },
            "session.idle_timeout is 29s 999ms; it takes off, or 30s to session.token_ttl (24h)",
        ),
        (
            PolicySettings { idle_timeout: Some(h(25)), ..none() },
            "session.idle_timeout is 25h; it takes off, or 30s to session.token_ttl (24h)",
        ),
        (PolicySettings { max_lifetime: Some(h(23)), ..none() }, "session.max_lifetime is 23h; it takes 24h to 3650d"),
        (
            PolicySettings { max_lifetime: Some(d(3_651)), ..none() },
            "session.max_lifetime is 3651d; it takes 24h to 3650d",
        ),
        (
            PolicySettings { rotation_overlap: Some(s(301)), ..none() },
            "session.rotation_overlap is 5m 1s; it takes 0s to 5m",
        ),
        (
            PolicySettings { replay_tolerance: Some(s(301)), ..none() },
            "session.replay_tolerance is 5m 1s; it takes 0s to 5m",
        ),
        (PolicySettings { retention: Some(d(91)), ..none() }, "session.retention is 91d; it takes 0s to 90d"),
    ] {
        assert_eq!(refused(settings), text);
    }
    for settings in [
        PolicySettings { token_ttl: Some(s(1)), rotate_before_expiry: Some(Millis::ZERO), ..none() },
        PolicySettings { token_ttl: Some(s(1)), rotate_before_expiry: Some(ms(999)), ..none() },
        PolicySettings { token_ttl: Some(h(8_760)), max_lifetime: Some(d(3_650)), ..none() },
        PolicySettings { max_sessions_per_device: Some(1), idle_timeout: Some(s(30)), ..none() },
        PolicySettings { max_sessions_per_device: Some(100), idle_timeout: Some(h(24)), ..none() },
        PolicySettings { rotation_overlap: Some(s(300)), replay_tolerance: Some(s(300)), ..none() },
        PolicySettings {
            rotation_overlap: Some(ms(0)),
            replay_tolerance: Some(ms(0)),
            retention: Some(ms(0)),
            ..none()
        },
        PolicySettings { retention: Some(d(90)), max_lifetime: Some(h(24)), ..none() },
    ] {
        assert!(Policy::new(&settings).is_ok(), "{settings:?}");
    }
}

#[test]
fn an_operator_may_choose_any_ttl_up_to_the_lifetime_and_a_client_only_a_shorter_one() {
    let policy = Policy::default();
    assert_eq!(policy.terms(Some(Millis::days(30))).unwrap().ttl, Millis::days(30));
    assert_eq!(policy.terms(Some(Millis::days(31))).unwrap_err().to_string(), "ttl is 31d; it takes 1s to 30d");
    assert!(policy.terms(Some(Millis::new(999))).is_err());
    assert_eq!(policy.terms_for_enrolment(Some(Millis::hours(24))).unwrap().ttl, Millis::hours(24));
    assert_eq!(
        policy.terms_for_enrolment(Some(Millis::hours(25))).unwrap_err().to_string(),
        "ttl is 25h; it takes 1s to 24h"
    );
    assert_eq!(policy.terms(None).unwrap(), policy.terms_for_enrolment(None).unwrap());
}

/// Generates settings, most of which are within their ranges.
fn settings() -> impl Strategy<Value = PolicySettings> {
    let span = || {
        let plain = prop_oneof![0..2_000_u64, 0..400_000_u64, 0..400_000_000_000_u64];
        prop::option::of(plain.prop_map(Millis::new))
    };
    (span(), span(), prop::option::of(0..120_u64), span(), span(), span(), span(), span()).prop_map(
        |(ttl, window, cap, idle, life, overlap, tolerance, retention)| PolicySettings {
            token_ttl: ttl,
            rotate_before_expiry: window,
            max_sessions_per_device: cap,
            idle_timeout: idle,
            max_lifetime: life,
            rotation_overlap: overlap,
            replay_tolerance: tolerance,
            retention,
        },
    )
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_in_range(settings in settings()) {
        match Policy::new(&settings) {
            Ok(policy) => {
                prop_assert!((Millis::seconds(1)..=Millis::hours(8_760)).contains(&policy.token_ttl()));
                prop_assert!(policy.rotate_before_expiry() < policy.token_ttl());
                prop_assert!((1..=100).contains(&policy.cap()));
                prop_assert_eq!(policy.retained_per_device(), 10 * policy.cap());
                let idle = policy.idle_timeout().unwrap_or(policy.token_ttl());
                prop_assert!(policy.idle_timeout().is_none() || idle >= Millis::seconds(30));
                prop_assert!(idle <= policy.token_ttl());
                prop_assert!((policy.token_ttl()..=Millis::days(3_650)).contains(&policy.max_lifetime()));
                prop_assert!(policy.rotation_overlap() <= Millis::minutes(5));
                prop_assert!(policy.replay_tolerance() <= Millis::minutes(5));
                prop_assert!(policy.retention() <= Millis::days(90));
            }
            Err(error) => prop_assert!(error.key.starts_with("session."), "{}", error),
        }
    }

    #[test]
    fn a_ttl_alone_is_always_accepted_and_the_defaults_follow_it(ttl in 1_000..=8_760 * 3_600_000_u64) {
        let ttl = Millis::new(ttl);
        let policy = Policy::new(&PolicySettings { token_ttl: Some(ttl), ..none() }).unwrap();
        let expected = Millis::hours(2).min(Millis::new(ttl.get() / 12));
        prop_assert_eq!(policy.rotate_before_expiry(), expected);
        prop_assert_eq!(policy.max_lifetime(), Millis::days(30).max(ttl));
    }

    #[test]
    fn the_rotation_window_is_shorter_than_any_ttl(window in 0..86_400_000_u64, ttl in 1..200_000_000_u64) {
        let settings = PolicySettings { rotate_before_expiry: Some(Millis::new(window)), ..none() };
        let policy = Policy::new(&settings).unwrap();
        let expected = if window < ttl { window } else { ttl / 12 };
        prop_assert_eq!(policy.rotation_window(Millis::new(ttl)), Millis::new(expected));
        prop_assert!(expected < ttl);
    }
}
