//! Helpers that make sessions, tokens and decisions from small numbers.

use std::sync::Arc;

use proptest::prelude::*;
use tenure_domain::*;

/// The time at which the tests start, in Unix milliseconds: 2023-11-14T22:13:20Z.
pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn laptop() -> DeviceId {
    DeviceId::new("laptop").unwrap()
}

/// Returns 16 bytes that differ for each number.
pub(crate) fn half(n: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub(crate) fn secret(family: u64, fresh: u64) -> Secret {
    Secret::new(&Family::new(half(family)), &RotationSecret::new(half(fresh)))
}

pub(crate) fn new_session(n: u64, terms: Terms) -> NewSession {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[8..].copy_from_slice(&(n as u32).to_be_bytes());
    NewSession {
        id,
        family: Family::new(half(n)),
        rotation_secret: RotationSecret::new(half(n)),
        subject: Subject::default(),
        client: Arc::default(),
        terms,
        expires_by: None,
    }
}

/// Makes a policy in which every rule takes effect within seconds.
pub(crate) fn lively(cap: u64, overlap: u64, tolerance: u64) -> Policy {
    Policy::new(&PolicySettings {
        token_ttl: Some(Millis::seconds(100)),
        max_sessions_per_device: Some(cap),
        idle_timeout: Some(Millis::seconds(40)),
        max_lifetime: Some(Millis::seconds(250)),
        rotation_overlap: Some(Millis::new(overlap)),
        replay_tolerance: Some(Millis::new(tolerance)),
        ..PolicySettings::default()
    })
    .unwrap()
}

/// Issues a session, the only one on its device, and returns it with its token.
pub(crate) fn issued(policy: &Policy, now: Timestamp) -> (Session, Token) {
    let issue = Device::unknown(laptop()).issue(new_session(1, policy.terms(None).unwrap()), policy, now).unwrap();
    (issue.session, issue.token)
}

pub(crate) fn device_of(sessions: &[Session]) -> Device {
    Device::new(laptop(), Revision::new(7), sessions.to_vec(), None)
}

/// Rotates a token. Panics if the token is refused.
pub(crate) fn rotated(session: &Session, token: &Token, fresh: u64, policy: &Policy, now: Timestamp) -> Rotation {
    match device_of(std::slice::from_ref(session)).rotate(token, &RotationSecret::new(half(fresh)), policy, now) {
        Decision::Accept(rotation) => rotation,
        other => panic!("the token was refused: {other:?}"),
    }
}

/// Returns the session after an operator has ended it.
pub(crate) fn revoked(session: &Session, now: Timestamp) -> Session {
    let device = device_of(std::slice::from_ref(session));
    let cause = EndCause::by_rule(EndReason::Revoked);
    device.revoke(&Selection::one(session.id), &cause, &Policy::default(), now).ended.remove(0)
}

/// Generates spans in milliseconds, many of them near those at which a rule takes effect.
pub(crate) fn span() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_000_u64, 0..300_000_u64, Just(40_000), Just(39_999), Just(100_000), Just(99_999), Just(10_001)]
}
