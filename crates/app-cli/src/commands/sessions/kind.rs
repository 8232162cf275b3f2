//! The kind of a file to import, which is determined before anything is imported.

use serde::Deserialize as _;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// The kind of a file to import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An empty file, which is an export of no sessions.
    Empty,
    /// An export, with one session on each line.
    Export,
    /// A Moltbot `sessions.json`.
    Moltbot,
}

/// Determines the kind of a file by its text.
///
/// # Errors
/// What the file is instead, and what to do.
pub(super) fn of(text: &str) -> Result<Kind, String> {
    if text.starts_with('\u{feff}') {
        return Err("it starts with a byte order mark, which JSON does not allow; save it as UTF-8 without \
                    one"
        .to_owned());
    }
    if text.trim().is_empty() {
        return Ok(Kind::Empty);
    }
    let opened = text.trim_start().strip_prefix('{').map(str::trim_start);
    let is_sessions = opened.is_some_and(|rest| rest.starts_with("\"sessions\""));
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(members) if members.contains_key("sessions") => Ok(Kind::Moltbot),
        Ok(members) if members.is_empty() => {
            Err("it is an empty object: neither an export nor a Moltbot file".to_owned())
        }
        Ok(members) if members.values().all(is_conversation) => Err(
            "it is Moltbot's map of conversations (sessionId, updatedAt): it has no tokens and no expiry, so there is \
             nothing to import; issue a token for each device (tenure token issue)"
                .to_owned(),
        ),
        Ok(_) => Ok(Kind::Export),
        Err(_) if first_is_json(text) => Ok(Kind::Export),
        Err(_) if json5::from_str::<IgnoredAny>(text).is_ok() => Err(
            "it is JSON5 (comments, names without quotes, trailing commas), not JSON as Moltbot writes it: somebody \
             edited it; convert it to JSON first"
                .to_owned(),
        ),
        Err(error) if error.is_eof() && !is_sessions => Err(format!(
            "it is incomplete (ends at line {}, column {}): cut off, or still being written",
            error.line(),
            error.column()
        )),
        Err(_) if is_sessions => Ok(Kind::Moltbot),
        // Reading it as an export reports the invalid line.
        Err(_) => Ok(Kind::Export),
    }
}

/// Returns whether a text starts with a complete JSON value, as JSON lines do.
fn first_is_json(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text);
    IgnoredAny::deserialize(&mut values).is_ok()
}

fn is_conversation(value: &Value) -> bool {
    value.as_object().is_some_and(|entry| {
        (entry.contains_key("sessionId") || entry.contains_key("updatedAt"))
            && !entry.contains_key("token")
            && !entry.contains_key("expiresAt")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_for_what_it_is() {
        let conversations = "{\"agent:main:main\": {\"sessionId\": \"x\", \"updatedAt\": 1795000000000}}";
        for (text, wanted) in [
            ("", Ok(Kind::Empty)),
            (" \n", Ok(Kind::Empty)),
            ("{\"sessions\": {}}", Ok(Kind::Moltbot)),
            ("{\n \"version\": 1,\n \"sessions\": {}\n}\n", Ok(Kind::Moltbot)),
            ("{\"sessions\": {broken", Ok(Kind::Moltbot)),
            ("{\"sessions\": {\"a\": {\"token\": \"x\"", Ok(Kind::Moltbot)),
            ("{\"sessionId\":\"a\"}\n{\"sessionId\":\"b\"}\n", Ok(Kind::Export)),
            ("{\"sessionId\":\"a\"}\n{\"sessionId\":\"b", Ok(Kind::Export)),
            ("{\"sessionId\":\"a\"}\n", Ok(Kind::Export)),
            ("hello", Ok(Kind::Export)),
            ("{}", Err("an empty object")),
            ("\u{feff}{\"sessions\": {}}", Err("byte order mark")),
            (conversations, Err("map of conversations")),
            (&conversations[..40], Err("it is incomplete (ends at line 1")),
            ("{\"sessionId\":\"a", Err("it is incomplete (ends at line 1")),
            ("// mine\n{\"sessions\": {}}", Err("JSON5")),
            ("{sessions: {}}", Err("JSON5")),
            ("{\"sessions\": {},}", Err("JSON5")),
        ] {
            match (of(text), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{text}"),
                (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
