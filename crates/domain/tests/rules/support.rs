//! Makes sessions, tokens and decisions out of small numbers.

use std::sync::Arc;

use proptest::prelude::*;
use tenure_domain::*;

/// A plausible present.
pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn laptop() -> DeviceId {
    DeviceId::new("laptop").unwrap()
}

/// 16 bytes that differ for each number, with no two bytes alike.
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

/// Settings with every rule in play at a scale of seconds.
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

/// A session alone on its device, with its token.
pub(crate) fn issued(policy: &Policy, now: Timestamp) -> (Session, Token) {
    let issue = Device::unknown(laptop()).issue(new_session(1, policy.terms(None).unwrap()), policy, now).unwrap();
    (issue.session, issue.token)
}

pub(crate) fn device_of(sessions: &[Session]) -> Device {
    Device::new(laptop(), Revision::new(7), sessions.to_vec(), None)
}

/// The rotated session, its new token and the commit; panics where the token does not rotate.
pub(crate) fn rotated(session: &Session, token: &Token, fresh: u64, policy: &Policy, now: Timestamp) -> Rotation {
    match device_of(std::slice::from_ref(session)).rotate(token, &RotationSecret::new(half(fresh)), policy, now) {
        Decision::Accept(rotation) => rotation,
        other => panic!("did not rotate: {other:?}"),
    }
}

/// The session, ended by an operator.
pub(crate) fn revoked(session: &Session, now: Timestamp) -> Session {
    let device = device_of(std::slice::from_ref(session));
    let cause = EndCause::by_rule(EndReason::Revoked);
    device.revoke(&Selection::one(session.id), &cause, &Policy::default(), now).ended.remove(0)
}

/// Instants around which the rules change, and any other.
pub(crate) fn span() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_000_u64, 0..300_000_u64, Just(40_000), Just(39_999), Just(100_000), Just(99_999), Just(10_001)]
}
