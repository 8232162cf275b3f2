//! The use cases of sessions: issue, verify, rotate, revoke, list, show, clean up, export and import.
//!
//! A use case loads what it needs, reads the clock, lets the domain decide, and commits the decision. If another
//! process committed first, it decides again, a bounded number of times. If the answer to a commit is lost, it submits
//! the same commit again to find out whether it was applied. The rules are in `tenure-domain`.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::sync::Arc;
//!
//! use tenure_adapter_memory::MemoryStore;
//! use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
//! use tenure_ports::{SystemClock, SystemRandom};
//! use tenure_service::{ActivityMode, IssueRequest, Sessions, Target, VerifyError};
//!
//! let clock = Arc::new(SystemClock);
//! let store = MemoryStore::new(clock.clone());
//! let sessions = Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default());
//!
//! let request = IssueRequest {
//!     device: DeviceId::new("laptop").unwrap(),
//!     subject: Subject::new("anna").unwrap(),
//!     client: ClientInfo::default(),
//!     ttl: None,
//! };
//! let issued = sessions.issue(request).await.unwrap();
//! assert!(sessions.verify(&issued.token, ActivityMode::Record).await.is_ok());
//!
//! let target = Target::Ids(vec![issued.session.id]);
//! sessions.revoke(&target, None, &Sessions::revocation(None, None)).await.unwrap();
//! let refused = sessions.verify(&issued.token, ActivityMode::Record).await;
//! assert!(matches!(refused, Err(VerifyError::Refused(_))));
//! # });
//! ```

mod activity;
mod change;
mod error;
mod issue;
mod read;
mod record;
mod replace;
mod retry;
mod revoke;
mod rotate;
mod transfer;
mod verify;
mod view;
mod watch;

use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::{Millis, Policy, Timestamp};
use tenure_ports::{Clock, EventStream, RandomSource, SessionRepository, StoreError};

pub use activity::ActivityMode;
pub use change::{Issued, Revoked, Rotated};
pub use error::{IssueError, ResolveError, RevokeError, RotateError, Unacknowledged, VerifyError, WriteError};
pub use issue::{IssueRequest, PreparedIssue};
pub use record::{RecordError, SessionRecord};
pub use replace::{OldCredential, OwnedDevice, ReplaceError, Replacement, ReplacementPlan};
pub use revoke::Target;
pub use rotate::PreparedRotation;
pub use transfer::{ExportError, ImportReport, OverCap};
pub use verify::Verified;
pub use view::{ClientView, SessionView, TimeError, parse_rfc3339, rfc3339};
pub use watch::{EventKind, Watch, WatchEvent};

use activity::Activity;

/// The number of devices that are changed concurrently. They can then share one sync or round trip of the store.
const CONCURRENCY: usize = 64;

/// The use cases of sessions, over one store.
pub struct Sessions {
    repository: Arc<dyn SessionRepository>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn RandomSource>,
    policy: RwLock<Policy>,
    activity: Activity,
}

impl Sessions {
    /// Makes the use cases over these ports. If the store has a clock of its own, that is the one to pass.
    #[must_use]
    pub fn new(
        repository: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn RandomSource>,
        policy: Policy,
    ) -> Self {
        Self { repository, clock, random, policy: RwLock::new(policy), activity: Activity::default() }
    }

    /// Returns the policy in force.
    #[must_use]
    pub fn policy(&self) -> Policy {
        *self.policy.read()
    }

    /// Replaces the policy. Sessions keep the terms that they were issued with.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write() = policy;
    }

    /// Returns the store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns how far the store's time is ahead of this machine's clock. It is ahead if a clock was once set too far
    /// forward. Spans are still right, but a time that another program compares with its own clock has to be moved back
    /// by this much.
    #[must_use]
    pub fn clock_lead(&self) -> Millis {
        let now = self.clock.now();
        now.since(self.clock.wall())
    }

    /// Subscribes to events of changes by any process. Events are a hint and not a guarantee; see [`EventStream`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be subscribed to.
    pub async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.repository.subscribe().await
    }

    /// Checks that the store answers and would accept a commit. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if it would not.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        self.repository.check_writable().await
    }

    fn random_bytes<const N: usize>(&self) -> Result<[u8; N], tenure_ports::RandomSourceError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes)?;
        Ok(bytes)
    }
}
