//! A session as JSON shows it: to scripts by the CLI, to clients by the gateway. No secret and no digest is in it.

use serde::{Deserialize, Serialize};
use tenure_domain::{ClientField, ClientInfo, Session, State, TextError, Timestamp};

/// A time as text: RFC 3339, UTC, milliseconds (`2026-11-24T02:10:46.120Z`).
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time; write it like 2026-11-24T02:10:46.120Z (RFC 3339)")]
pub struct TimeError(String);

/// Reads an RFC 3339 time; what is finer than a millisecond is cut.
///
/// # Errors
/// [`TimeError`].
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, TimeError> {
    let wrong = || TimeError(text.chars().take(40).collect());
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(at.as_millisecond()).map(Timestamp::from_millis).map_err(|_| wrong())
}

/// What is known of a client; what is not is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of tenure_domain::ClientField, which explains them")]
pub struct ClientView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_key: Option<String>,
}

impl ClientView {
    fn slot(&mut self, field: ClientField) -> &mut Option<String> {
        match field {
            ClientField::Id => &mut self.id,
            ClientField::DisplayName => &mut self.display_name,
            ClientField::Platform => &mut self.platform,
            ClientField::Version => &mut self.version,
            ClientField::Address => &mut self.address,
            ClientField::UserAgent => &mut self.user_agent,
            ClientField::DeviceKey => &mut self.device_key,
        }
    }

    /// The description, its bounds checked as those of a record: an export of an earlier release is read.
    ///
    /// # Errors
    /// [`TextError`] that names the field.
    pub fn check(mut self) -> Result<ClientInfo, TextError> {
        ClientField::ALL.into_iter().try_fold(ClientInfo::default(), |info, field| match self.slot(field).take() {
            Some(text) => info.with_recorded(field, &text),
            None => Ok(info),
        })
    }
}

impl From<&ClientInfo> for ClientView {
    fn from(info: &ClientInfo) -> Self {
        let mut view = Self::default();
        for (field, text) in info.iter() {
            *view.slot(field) = Some(text.to_owned());
        }
        view
    }
}

/// A session for scripts. A field with no value is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// Its id.
    pub session_id: String,
    /// The device it counts on.
    pub device_id: String,
    /// Who it belongs to.
    pub subject: String,
    /// `active`, `expired`, `idle`, `revoked`, `evicted`, `replayed` or `logged_out`.
    pub state: String,
    /// When it was issued.
    pub created_at: String,
    /// Its latest verified use.
    pub last_activity: String,
    /// The first instant at which it no longer holds.
    pub expires_at: String,
    /// When it got its present token, if not at issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<String>,
    /// When it was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it was ended: a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
    /// Why it was ended, in somebody's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_text: Option<String>,
    /// Who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_actor: Option<String>,
    /// How many tokens it has had.
    pub token_generation: u32,
    /// What is known of the client.
    #[serde(default, skip_serializing_if = "ClientView::is_empty")]
    pub client_info: ClientView,
}

impl ClientView {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SessionView {
    /// The session as it is at `now`.
    #[must_use]
    pub fn new(session: &Session, now: Timestamp) -> Self {
        let end = session.end.as_ref();
        let state = session.state(now);
        Self {
            session_id: session.id.to_string(),
            device_id: session.device.as_str().to_owned(),
            subject: session.subject.as_str().to_owned(),
            state: state.code().to_owned(),
            created_at: rfc3339(session.created_at),
            last_activity: rfc3339(session.last_activity),
            expires_at: rfc3339(session.expires_at),
            rotated_at: session.rotated_at.map(rfc3339),
            ended_at: end.map(|end| rfc3339(end.at)),
            end_reason: match state {
                State::Ended(reason) => Some(reason.code().to_owned()),
                _ => None,
            },
            end_text: end.and_then(|end| end.note.as_ref()).map(|text| text.as_str().to_owned()),
            end_actor: end.and_then(|end| end.actor.as_ref()).map(|actor| actor.as_str().to_owned()),
            token_generation: session.generation,
            client_info: ClientView::from(&*session.client),
        }
    }
}
