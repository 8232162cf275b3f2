//! The JSON view of a session, for scripts and for clients of the gateway. It contains no secret and no digest.

use serde::{Deserialize, Serialize};
use tenure_domain::{ClientField, ClientInfo, Session, State, TextError, Timestamp};

/// Returns a time as text: RFC 3339 in UTC with milliseconds, such as `2026-11-24T02:10:46.120Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// The reason why a text is not a time: it does not follow RFC 3339, or is before 1970.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time; write it like 2026-11-24T02:10:46.120Z (RFC 3339)")]
pub struct TimeError(String);

/// Parses an RFC 3339 time. Fractions of a millisecond are cut off.
///
/// # Errors
/// [`TimeError`] if the text is not such a time, or is before 1970.
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, TimeError> {
    let wrong = || TimeError(text.chars().take(40).collect());
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(at.as_millisecond()).map(Timestamp::from_millis).map_err(|_| wrong())
}

/// What is known about a client. Unknown fields are left out.
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

    /// Checks the bounds of each text, and returns the description. The bounds are those of records, so that exports of
    /// earlier releases can be read.
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
    /// The session's id.
    pub session_id: String,
    /// The device that the session belongs to.
    pub device_id: String,
    /// The subject that the session belongs to.
    pub subject: String,
    /// `active`, `expired`, `idle`, `revoked`, `evicted`, `replayed` or `logged_out`.
    pub state: String,
    /// When the session was issued.
    pub created_at: String,
    /// The session's latest verified use.
    pub last_activity: String,
    /// The first instant at which the session is no longer valid.
    pub expires_at: String,
    /// When the session got its current token, if not at issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<String>,
    /// When the session was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why the session was ended, as a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
    /// Why the session was ended, in the words of the person who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_text: Option<String>,
    /// Who ended the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_actor: Option<String>,
    /// How many tokens the session has had.
    pub token_generation: u32,
    /// What is known about the client.
    #[serde(default, skip_serializing_if = "ClientView::is_empty")]
    pub client_info: ClientView,
}

impl ClientView {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SessionView {
    /// Makes the view of a session at `now`.
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
