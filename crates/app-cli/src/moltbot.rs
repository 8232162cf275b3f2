//! The format of a Moltbot `sessions.json`. Its tokens are in plain text, so they count as exposed: each session that is
//! still valid is replaced by a new session with a new token.

use std::collections::HashSet;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tenure_domain::{ClientField, ClientInfo, DeviceId, Timestamp};
use tenure_service::OldCredential;

/// The reason why a file is not a Moltbot `sessions.json`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoltbotError {
    /// The file has another structure.
    #[error("not a Moltbot sessions.json (line {line}, column {column}); nothing was imported")]
    Shape {
        /// The line of the problem, counted from 1.
        line: usize,
        /// The column of the problem, counted from 1.
        column: usize,
    },
    /// The JSON is incomplete.
    #[error(
        "it ends in the middle (line {line}, column {column}): cut off, or still being written; nothing was imported"
    )]
    Truncated {
        /// The line of the problem, counted from 1.
        line: usize,
        /// The column of the problem, counted from 1.
        column: usize,
    },
    /// A session has an invalid field.
    #[error("session {session:?}: {message}; nothing was imported")]
    Field {
        /// The session's id in the file.
        session: String,
        /// The problem.
        message: String,
    },
}

#[derive(Deserialize)]
struct File {
    sessions: Entries,
}

/// The members of an object in their order, including names that occur twice.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of sessions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Entries(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Times that are probably in seconds. As milliseconds they would be in 1973 or before.
const SECONDS: std::ops::Range<f64> = 1e9..1e11;
/// The latest plausible time in milliseconds, in the year 5138. Later ones are probably in microseconds.
const LATEST: f64 = 1e14;

/// Parses the file. The tokens in it are not read.
///
/// # Errors
/// [`MoltbotError`].
pub(crate) fn parse(text: &str) -> Result<Vec<OldCredential>, MoltbotError> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.is_eof() { MoltbotError::Truncated { line, column } } else { MoltbotError::Shape { line, column } }
    })?;
    let mut seen = HashSet::new();
    let read = |(key, entry): (String, Value)| {
        let session = read_entry(&key, &entry)?;
        if seen.insert(session.old_id.clone()) {
            return Ok(session);
        }
        Err(field(&session.old_id, "it is in the file twice"))
    };
    file.sessions.0.into_iter().map(read).collect()
}

fn read_entry(key: &str, entry: &Value) -> Result<OldCredential, MoltbotError> {
    let Value::Object(entry) = entry else {
        return Err(field(key, "it is not an object"));
    };
    let old_id = text(key, "sessionId", entry.get("sessionId"))?.unwrap_or(key);
    let none = Map::new();
    let client = match entry.get("clientInfo") {
        None | Some(Value::Null) => &none,
        Some(Value::Object(client)) => client,
        Some(_) => return Err(field(old_id, "clientInfo is not an object")),
    };
    let texts = [
        (ClientField::Id, "clientInfo.id", "id"),
        (ClientField::DisplayName, "clientInfo.displayName", "displayName"),
        (ClientField::Platform, "clientInfo.platform", "platform"),
        (ClientField::Version, "clientInfo.version", "version"),
    ];
    let mut info = ClientInfo::default();
    for (name, path, member) in texts {
        if let Some(value) = text(old_id, path, client.get(member))?.filter(|value| !value.is_empty()) {
            info = info.with(name, value).map_err(|error| field(old_id, &error.to_string()))?;
        }
    }
    let device = text(old_id, "deviceId", entry.get("deviceId"))?;
    let device = match device {
        Some(device) => Some(device),
        None => text(old_id, "clientInfo.id", client.get("id"))?,
    };
    let device = device.ok_or_else(|| field(old_id, "it has neither deviceId nor clientInfo.id"))?;
    let device = DeviceId::new(device).map_err(|error| field(old_id, &error.to_string()))?;
    let expires_at = expiry(entry.get("expiresAt")).map_err(|message| field(old_id, &message))?;
    Ok(OldCredential { old_id: old_id.to_owned(), device, client: info, expires_at })
}

/// Returns the error for a session of the file. It repeats no value, since one of them is a token.
fn field(session: &str, message: &str) -> MoltbotError {
    MoltbotError::Field { session: session.chars().take(64).collect(), message: message.to_owned() }
}

fn text<'a>(session: &str, name: &str, value: Option<&'a Value>) -> Result<Option<&'a str>, MoltbotError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(field(session, &format!("{name} is not a string"))),
    }
}

/// Returns when the old session would have expired. A value that could mean two times is refused.
fn expiry(value: Option<&Value>) -> Result<Timestamp, String> {
    let wrong = |what: &str| Err(format!("expiresAt {what}; it takes Unix milliseconds, a whole number"));
    let number = match value {
        None | Some(Value::Null) => return wrong("is missing, so it is unknown whether the session is still valid"),
        Some(Value::Number(number)) => number,
        Some(Value::String(_)) => return wrong("is a string"),
        Some(_) => return wrong("is not a number"),
    };
    let value = number.as_f64().unwrap_or(f64::NAN);
    if value.fract() != 0.0 || value.is_nan() {
        return wrong("has a fraction");
    }
    if SECONDS.contains(&value) {
        return wrong("looks like seconds");
    }
    if !(0.0..=LATEST).contains(&value) {
        return wrong("is out of range");
    }
    // A whole number in range, so the conversion is exact.
    Ok(Timestamp::from_millis(value as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(entry: &str) -> String {
        let text = format!("{{\"sessions\": {{\"a\": {entry}}}}}");
        match parse(&text) {
            Ok(sessions) => sessions[0].expires_at.as_millis().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_time_is_taken_as_milliseconds_or_refused() {
        for (value, wanted) in [
            ("1795000000000", "1795000000000"),
            ("1795000000000.0", "1795000000000"),
            ("1.795e12", "1795000000000"),
            ("0", "0"),
            ("3", "3"),
            ("1795000000", "expiresAt looks like seconds"),
            ("1795000000.25", "expiresAt has a fraction"),
            ("1795000000000.5", "expiresAt has a fraction"),
            ("1795000000000000", "expiresAt is out of range"),
            ("1e400", "not a Moltbot sessions.json"),
            ("-1", "expiresAt is out of range"),
            ("\"1795000000000\"", "expiresAt is a string"),
            ("\"2026-11-24T00:00:00Z\"", "expiresAt is a string"),
            ("null", "expiresAt is missing"),
            ("true", "expiresAt is not a number"),
        ] {
            let told = told(&format!("{{\"deviceId\": \"d\", \"expiresAt\": {value}}}"));
            assert!(told.contains(wanted), "{value}: {told}");
        }
    }

    #[test]
    fn each_field_is_told_by_name() {
        for (entry, wanted) in [
            ("{\"deviceId\": \"d\"}", "session \"a\": expiresAt is missing"),
            ("{\"sessionId\": \"x\", \"updatedAt\": 1}", "session \"x\": it has neither deviceId nor clientInfo.id"),
            ("{\"deviceId\": 7, \"expiresAt\": 3}", "deviceId is not a string"),
            ("{\"sessionId\": {}, \"expiresAt\": 3}", "sessionId is not a string"),
            ("{\"deviceId\": \"d\", \"clientInfo\": \"x\", \"expiresAt\": 3}", "clientInfo is not an object"),
            ("{\"deviceId\": \"d\", \"clientInfo\": {\"id\": 1}, \"expiresAt\": 3}", "clientInfo.id is not a string"),
            ("[]", "it is not an object"),
            ("{\"deviceId\": \"d\", \"expiresAt\": 3", "it ends in the middle (line 1"),
            (
                "{\"deviceId\": \"d\", \"expiresAt\": 3}, \"a\": {\"deviceId\": \"d\", \"expiresAt\": 3}",
                "in the file twice",
            ),
        ] {
            let text = format!("{{\"sessions\": {{\"a\": {entry}");
            let text = if wanted.contains("middle") { text } else { format!("{text}}}}}") };
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.ends_with("nothing was imported"), "{entry}: {error}");
        }
    }
}
