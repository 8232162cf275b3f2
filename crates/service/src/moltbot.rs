//! Taking over a Moltbot `sessions.json`. Its tokens stood in plain text, so they count as exposed: each session
//! that still holds gets a new session and a new token.

use std::collections::BTreeMap;

use serde::Deserialize;
use tenure_domain::{ClientField, ClientInfo, DeviceId, State, Subject, Timestamp, Token};
use tenure_ports::StoreError;

use crate::{IssueError, IssueRequest, Issuing, OverCap, Sessions};

/// Why a file is no Moltbot `sessions.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoltbotError {
    /// Not its shape.
    #[error("not a Moltbot sessions.json (line {line}, column {column}); nothing was imported")]
    Shape {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// A field out of bounds.
    #[error("session {session:?}: {problem}; nothing was imported")]
    Field {
        /// Its id in the file.
        session: String,
        /// What is wrong.
        problem: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A replacement could not be prepared.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

#[derive(Deserialize)]
struct File {
    sessions: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    session_id: Option<String>,
    device_id: Option<String>,
    expires_at: u64,
    client_info: Option<EntryClient>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryClient {
    id: Option<String>,
    platform: Option<String>,
    version: Option<String>,
    display_name: Option<String>,
}

/// One session of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoltbotSession {
    /// Its id there.
    pub old_id: String,
    /// The device: `deviceId`, else `clientInfo.id`.
    pub device: DeviceId,
    /// What the file knew of the client.
    pub client: ClientInfo,
    /// When it would have expired.
    pub expires_at: Timestamp,
}

/// A new session in an old one's place, not yet made.
#[derive(Debug)]
pub struct Replacement {
    /// The old session's id.
    pub old_id: String,
    /// The new session.
    pub issuing: Issuing,
}

impl Replacement {
    /// The token that the new session will have.
    #[must_use]
    pub fn token(&self) -> Token {
        self.issuing.token()
    }
}

/// What an import of the file would do.
#[derive(Debug, Default)]
pub struct MoltbotImport {
    /// To be issued, once their tokens are in a safe place.
    pub replacements: Vec<Replacement>,
    /// Expired sessions, which are skipped.
    pub expired: u64,
    /// Devices that would have more than their cap active; nothing of them is taken.
    pub over_cap: Vec<OverCap>,
    /// Devices that are other subjects'; nothing of them is taken.
    pub owned: Vec<Owned>,
}

/// A device whose active sessions are other subjects'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Which device.
    pub device: DeviceId,
    /// Whose they are.
    pub owners: Vec<Subject>,
}

impl MoltbotSession {
    /// Reads the file. Tokens in it are not even looked at.
    ///
    /// # Errors
    /// [`MoltbotError`].
    pub fn parse(text: &str) -> Result<Vec<Self>, MoltbotError> {
        let file: File = serde_json::from_str(text)
            .map_err(|error| MoltbotError::Shape { line: error.line(), column: error.column() })?;
        file.sessions.into_iter().map(|(key, entry)| Self::read(key, entry)).collect()
    }

    fn read(key: String, entry: Entry) -> Result<Self, MoltbotError> {
        let old_id = entry.session_id.unwrap_or(key);
        let field = |problem: String| MoltbotError::Field { session: old_id.chars().take(64).collect(), problem };
        let client = entry.client_info.unwrap_or_default();
        let device = entry.device_id.as_deref().or(client.id.as_deref());
        let device = device.ok_or_else(|| field("neither deviceId nor clientInfo.id is there".to_owned()))?;
        let device = DeviceId::new(device).map_err(|error| field(error.to_string()))?;
        let texts = [
            (ClientField::Id, client.id),
            (ClientField::DisplayName, client.display_name),
            (ClientField::Platform, client.platform),
            (ClientField::Version, client.version),
        ];
        let client = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
        let client =
            client.filter(|(_, text)| !text.is_empty()).try_fold(ClientInfo::default(), |info, (name, text)| {
                info.with(name, &text).map_err(|error| field(error.to_string()))
            })?;
        let expires_at = Timestamp::from_millis(entry.expires_at);
        Ok(Self { old_id, device, client, expires_at })
    }
}

impl Sessions {
    /// Prepares new sessions in the place of those that have not expired. Changes nothing.
    ///
    /// # Errors
    /// [`MoltbotError`].
    pub async fn prepare_moltbot(&self, sessions: Vec<MoltbotSession>) -> Result<MoltbotImport, MoltbotError> {
        let now = self.clock.now();
        let policy = self.policy();
        let subject = Subject::default();
        let mut import = MoltbotImport::default();
        let mut devices: BTreeMap<DeviceId, Vec<MoltbotSession>> = BTreeMap::new();
        for session in sessions {
            if session.expires_at <= now {
                import.expired += 1;
            } else {
                devices.entry(session.device.clone()).or_default().push(session);
            }
        }
        for (device, sessions) in devices {
            let loaded = self.repository.load(&device).await?;
            if let Err(refusal) = loaded.room_for(&subject, &policy, now) {
                import.owned.push(Owned { device, owners: refusal.owners().to_vec() });
                continue;
            }
            let active = loaded.sessions().iter().filter(|session| session.state(now) == State::Active).count();
            let (active, cap) = (active + sessions.len(), policy.cap());
            if active > cap {
                import.over_cap.push(OverCap { device, active, cap });
                continue;
            }
            for MoltbotSession { old_id, device, client, expires_at } in sessions {
                let request = IssueRequest { device, subject: subject.clone(), client, ttl: None };
                let issuing = self.prepare_issue(request)?.expiring_by(expires_at);
                import.replacements.push(Replacement { old_id, issuing });
            }
        }
        Ok(import)
    }
}
