//! Replacing exposed credentials of another kind: each one that is still valid gets a new session and a new token.

use std::collections::BTreeMap;

use tenure_domain::{ClientInfo, DeviceId, ReplacementRefusal, Subject, Timestamp, Token, is_expired};
use tenure_ports::StoreError;

use crate::{IssueError, IssueRequest, OverCap, PreparedIssue, Sessions};

/// The reason why replacements could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A replacement could not be prepared.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// A credential of another kind that counts as exposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldCredential {
    /// The credential's id in the system that it comes from.
    pub old_id: String,
    /// The device that uses it.
    pub device: DeviceId,
    /// What is known about the client.
    pub client: ClientInfo,
    /// When the credential expires. Its replacement expires no later.
    pub expires_at: Timestamp,
}

/// A new session in the place of an old credential, not yet issued.
#[derive(Debug)]
pub struct Replacement {
    /// The old credential's id.
    pub old_id: String,
    /// The new session.
    pub prepared: PreparedIssue,
}

impl Replacement {
    /// Returns the token that the new session will have.
    #[must_use]
    pub fn token(&self) -> Token {
        self.prepared.token()
    }
}

/// The plan for replacing credentials.
#[derive(Debug, Default)]
pub struct ReplacementPlan {
    /// The sessions to issue, once their tokens are stored.
    pub replacements: Vec<Replacement>,
    /// How many credentials had expired, and are skipped.
    pub expired: u64,
    /// Devices on which more sessions than the cap would be active. None of their credentials is replaced.
    pub over_cap: Vec<OverCap>,
    /// Devices that belong to other subjects. None of their credentials is replaced.
    pub owned: Vec<OwnedDevice>,
}

/// A device that belongs to other subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedDevice {
    /// The device.
    pub device: DeviceId,
    /// The subjects that have active sessions there.
    pub owners: Vec<Subject>,
}

impl Sessions {
    /// Prepares new sessions of the default subject, one for each credential that has not expired. Changes nothing.
    ///
    /// # Errors
    /// [`ReplaceError`] if the store cannot be read, or a session cannot be prepared.
    pub async fn prepare_replacements(&self, credentials: Vec<OldCredential>) -> Result<ReplacementPlan, ReplaceError> {
        let now = self.clock.now();
        let policy = self.policy();
        let subject = Subject::default();
        let mut plan = ReplacementPlan::default();
        let mut devices: BTreeMap<DeviceId, Vec<OldCredential>> = BTreeMap::new();
        for credential in credentials {
            if is_expired(credential.expires_at, now) {
                plan.expired += 1;
            } else {
                devices.entry(credential.device.clone()).or_default().push(credential);
            }
        }
        for (device, credentials) in devices {
            let loaded = self.repository.load(&device).await?;
            match loaded.check_replacements(&subject, credentials.len(), &policy, now) {
                Ok(()) => {}
                Err(ReplacementRefusal::OverCap { active, cap }) => {
                    plan.over_cap.push(OverCap { device, active, cap });
                    continue;
                }
                Err(ReplacementRefusal::Refused(refusal)) => {
                    plan.owned.push(OwnedDevice { device, owners: refusal.owners().to_vec() });
                    continue;
                }
            }
            for OldCredential { old_id, device, client, expires_at } in credentials {
                let request = IssueRequest { device, subject: subject.clone(), client, ttl: None };
                let prepared = self.prepare_issue(request)?.expiring_by(expires_at);
                plan.replacements.push(Replacement { old_id, prepared });
            }
        }
        Ok(plan)
    }
}
