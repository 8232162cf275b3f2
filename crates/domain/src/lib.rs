//! The rules of Tenure: what a session is, when its token is valid, and what ends it.
//!
//! Every input is a value: nothing here reads a clock, draws random bytes or does I/O. A use case loads a [`Device`],
//! asks it to decide, and gets a [`Commit`] that a store applies only if nothing else was committed in between. The
//! device is the unit of consistency, because the limit on its sessions spans all of them.
//!
//! Stores and front ends translate. If one of them compares a time with an expiry, the rule is in the wrong place.
//!
//! ```
//! use std::sync::Arc;
//!
//! use tenure_domain::{
//!     ClientInfo, Decision, Device, DeviceId, Family, Millis, NewSession, Policy, Refusal, Revision, RotationSecret,
//!     Subject, Timestamp,
//! };
//!
//! let (policy, now) = (Policy::default(), Timestamp::from_millis(1_764_000_000_000));
//! let laptop = Device::unknown(DeviceId::new("laptop").unwrap());
//!
//! // The random bytes come from outside. A real use case draws them.
//! let new_session = NewSession {
//!     id: [1; 12],
//!     family: Family::new([2; 16]),
//!     rotation_secret: RotationSecret::new([3; 16]),
//!     subject: Subject::new("anna").unwrap(),
//!     client: Arc::new(ClientInfo::default()),
//!     terms: policy.terms(None).unwrap(),
//!     expires_by: None,
//! };
//! let issue = laptop.issue(new_session, &policy, now).unwrap();
//!
//! // A store applies the commit. The device then has the session, until its 24 hours are over.
//! let sessions = issue.commit.changes.iter().map(|change| change.session().clone()).collect();
//! let laptop = Device::new(laptop.id().clone(), Revision::new(1), sessions, None);
//! assert!(matches!(laptop.authenticate(&issue.token, &policy, now), Decision::Accept(_)));
//! let tomorrow = now.plus(Millis::hours(24));
//! assert!(matches!(laptop.authenticate(&issue.token, &policy, tomorrow), Decision::Reject(Refusal::Expired)));
//! ```

mod base62;
mod client;
mod commit;
mod device;
mod filter;
mod id;
mod policy;
mod refusal;
mod session;
mod text;
mod time;
mod token;

pub use client::{ClientField, ClientInfo};
pub use commit::{Applied, Change, Commit, Guard, Revision, RevocationWatermark, Touch};
pub use device::{
    Decision, Device, EndCause, ImportOutcome, ImportPlan, Issue, IssueRefusal, NewSession, ReplacementRefusal,
    Revocation, Rotation, Selection,
};
pub use filter::{Filter, Scope, SortKey};
pub use id::{BUCKETS, Bucket, IdError, IdPrefix, SessionId};
pub use policy::{Policy, PolicyError, PolicySettings, Terms};
pub use refusal::{EndReason, Refusal};
pub use session::{
    Credential, End, Replaced, Session, SessionError, SessionParts, State, TokenMatch, Verdict, is_expired,
};
pub use text::{Actor, DeviceId, Note, Subject, TextError, cleaned, visible};
pub use time::{DurationError, Millis, Remaining, Timestamp};
pub use token::{Digest, Family, RotationSecret, Secret, Token, TokenError, TokenInspection, TokenText};
