//! The lines of an export: each is one session in JSON, without loss, with its digests and without its token.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tenure_domain::{
    Actor, Credential, DeviceId, Digest, End, EndReason, Millis, Note, Replaced, Session, SessionParts, Subject, Terms,
    Timestamp,
};

use crate::view::{SessionView, parse_rfc3339, rfc3339};

/// One line of an export: a session with everything that a store keeps of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    #[serde(flatten)]
    view: SessionView,
    order: u64,
    terms: TermsRecord,
    credential: CredentialRecord,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TermsRecord {
    ttl_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_timeout_ms: Option<u64>,
    max_lifetime_ms: u64,
    retention_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CredentialRecord {
    current_sha256: String,
    family_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<ReplacedRecord>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplacedRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    stops_at: String,
    tolerance_ms: u64,
}

/// The reason why a line of an import is not a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct RecordError {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with the line.
    pub message: String,
}

impl SessionRecord {
    /// Makes the record of a session. `now` affects only the state that the record shows.
    #[must_use]
    pub fn new(session: &Session, now: Timestamp) -> Self {
        let (terms, credential) = (&session.terms, &session.credential);
        Self {
            view: SessionView::new(session, now),
            order: session.order,
            terms: TermsRecord {
                ttl_ms: terms.ttl.get(),
                idle_timeout_ms: terms.idle_timeout.map(Millis::get),
                max_lifetime_ms: terms.max_lifetime.get(),
                retention_ms: terms.retention.get(),
            },
            credential: CredentialRecord {
                current_sha256: hex(&credential.current),
                family_sha256: hex(&credential.family),
                replaced: credential.replaced.as_ref().map(|replaced| ReplacedRecord {
                    sha256: replaced.digest.as_ref().map(hex),
                    stops_at: rfc3339(replaced.stops_at),
                    tolerance_ms: replaced.tolerance.get(),
                }),
            },
        }
    }

    /// Parses one line of an export. `line` is its number, for the error.
    ///
    /// # Errors
    /// [`RecordError`] with the line's number and what is wrong. It repeats no digest.
    pub fn parse(line: u64, text: &str) -> Result<Session, RecordError> {
        let fail = |message: String| RecordError { line, message };
        // serde_json would repeat an invalid value in its message, and a digest must not reach a terminal.
        let record: Self = serde_json::from_str(text)
            .map_err(|error| fail(format!("not a session as sessions export writes it (column {})", error.column())))?;
        record.session().map_err(fail)
    }

    fn session(self) -> Result<Session, String> {
        let Self { view, order, terms, credential } = self;
        let end = view.end()?;
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let at = |text: &str| parse_rfc3339(text).map_err(|error| words(&error));
        let replaced = credential.replaced.map(|replaced| {
            Ok::<_, String>(Replaced {
                digest: replaced.sha256.as_deref().map(digest).transpose()?,
                stops_at: at(&replaced.stops_at)?,
                tolerance: Millis::new(replaced.tolerance_ms),
            })
        });
        let session = Session::from_parts(SessionParts {
            id: view.session_id.parse().map_err(|error| words(&error))?,
            device: DeviceId::recorded(&view.device_id).map_err(|error| words(&error))?,
            subject: Subject::recorded(&view.subject).map_err(|error| words(&error))?,
            client: Arc::new(view.client_info.check().map_err(|error| words(&error))?),
            created_at: at(&view.created_at)?,
            order,
            last_activity: at(&view.last_activity)?,
            expires_at: at(&view.expires_at)?,
            generation: view.token_generation,
            rotated_at: view.rotated_at.as_deref().map(at).transpose()?,
            terms: Terms {
                ttl: Millis::new(terms.ttl_ms),
                idle_timeout: terms.idle_timeout_ms.map(Millis::new),
                max_lifetime: Millis::new(terms.max_lifetime_ms),
                retention: Millis::new(terms.retention_ms),
            },
            credential: Credential {
                current: digest(&credential.current_sha256)?,
                family: digest(&credential.family_sha256)?,
                replaced: replaced.transpose()?,
            },
            end,
        })
        .map_err(|error| words(&error))?;
        if session.is_in_its_bucket() {
            Ok(session)
        } else {
            Err(format!("session {}: its id does not belong to its device", session.id))
        }
    }
}

impl SessionView {
    fn end(&self) -> Result<Option<End>, String> {
        let (Some(reason), Some(at)) = (&self.end_reason, &self.ended_at) else {
            return match (&self.end_reason, &self.ended_at) {
                (None, None) => Ok(None),
                _ => Err("endReason and endedAt belong together".to_owned()),
            };
        };
        let bounded = |error: tenure_domain::TextError| error.to_string();
        Ok(Some(End {
            reason: reason.parse::<EndReason>().map_err(|()| format!("{reason:?} is no end reason"))?,
            at: parse_rfc3339(at).map_err(|error| error.to_string())?,
            note: self.end_text.as_deref().map(Note::new).transpose().map_err(bounded)?,
            actor: self.end_actor.as_deref().map(Actor::new).transpose().map_err(bounded)?,
        }))
    }
}

fn hex(digest: &Digest) -> String {
    use std::fmt::Write as _;
    digest.as_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(text: &str) -> Result<Digest, String> {
    let wrong = || "a digest has 64 hexadecimal digits".to_owned();
    // `from_str_radix` alone would take a sign.
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_hexadecimal_digits_and_nothing_else() {
        assert!(digest(&"0f".repeat(32)).is_ok());
        for text in ["+f".repeat(32), "0f".repeat(31), "0g".repeat(32), " f".repeat(32), "é".repeat(32)] {
            assert!(digest(&text).is_err(), "{text}");
        }
    }
}
