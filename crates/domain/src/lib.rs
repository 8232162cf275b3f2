//! The rules of Tenure: what a session is, when a token holds, what ends what.
//!
//! Every input is a value, so nothing here reads a clock, draws randomness or does I/O. A use case loads a
//! [`Device`] (the unit of consistency, because the cap spans its sessions), asks it to decide, and gets back a
//! [`Commit`] that a store applies if, and only if, nothing else was committed in between.
//!
//! Stores and front ends translate. If one of them compares a time with an expiry, the rule is in the wrong place.

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
