//! OpenClaw's messages beside what `JSON.parse` makes of them: of a name that stands twice, the last one.

use tenure_domain::{ClientField, ClientInfo, cleaned};

use super::{Connect, accepts, challenge, refusal};
use tenure_tower::problem::{Problem, TokenRejection};

/// Reads bytes as a client's first message, as a challenge, and as an answer. How many of these they are.
///
/// # Panics
/// Where something else is read in it than its receiver reads.
pub fn connect(bytes: &[u8]) -> usize {
    let connect = Connect::parse(bytes);
    if let Some(connect) = &connect {
        is_what_the_upstream_reads(connect, bytes);
    }
    let challenge = challenge(bytes);
    if let Some(text) = challenge {
        assert_eq!(text.as_bytes(), bytes);
        assert_eq!(text_at(bytes, &["type"]), Some("event".to_owned()));
        assert_eq!(text_at(bytes, &["event"]), Some("connect.challenge".to_owned()));
    }
    let answers = answers(bytes);
    usize::from(connect.is_some()) + usize::from(challenge.is_some()) + usize::from(answers)
}

fn is_what_the_upstream_reads(connect: &Connect<'_>, bytes: &[u8]) {
    let read = |path: &[&str]| text_at(bytes, path);
    assert_eq!(read(&["type"]).as_deref(), Some("req"));
    assert_eq!(read(&["method"]).as_deref(), Some("connect"));
    assert_eq!(read(&["id"]).as_deref(), Some(&*connect.id));
    assert_eq!(read(&["params", "auth", "token"]).as_deref(), connect.token());
    let known = connect.client_info(ClientInfo::default());
    for (field, path) in [
        (ClientField::Id, &["params", "client", "id"]),
        (ClientField::DisplayName, &["params", "client", "displayName"]),
        (ClientField::Platform, &["params", "client", "platform"]),
        (ClientField::Version, &["params", "client", "version"]),
        (ClientField::DeviceKey, &["params", "device", "id"]),
    ] {
        if let Some(text) = known.get(field) {
            let said = read(path).map(|said| cleaned(&said).into_owned());
            assert_eq!(said.as_deref(), Some(text), "{}", field.name());
        }
    }
    // The refusal is an answer to this message and to no other, whatever its id is made of.
    let refusal = refusal(&connect.id, &Problem::Unauthorized(TokenRejection::Missing));
    assert_eq!(text_at(refusal.as_bytes(), &["id"]).as_deref(), Some(&*connect.id));
    assert_eq!(accepts(refusal.as_bytes(), &connect.id), Some(false));
    assert_eq!(accepts(refusal.as_bytes(), &format!("{}x", connect.id)), None);
}

/// Whether they are an answer that accepts or refuses something.
fn answers(bytes: &[u8]) -> bool {
    if serde_json::from_slice::<serde_json::Value>(bytes).is_err() {
        // The beginning of one at most: nothing to be held against it but that it can be looked at.
        return accepts(bytes, "1").is_some();
    }
    let Some(id) = text_at(bytes, &["id"]) else { return false };
    let found = accepts(bytes, &id);
    let ok = value_at(bytes, &["ok"]);
    if found.is_some() {
        assert_eq!(text_at(bytes, &["type"]).as_deref(), Some("res"));
        assert_eq!(found, ok.and_then(|ok| serde_json::from_slice(ok).ok()));
        assert_eq!(accepts(bytes, &format!("{id}x")), None);
    }
    found.is_some()
}

/// The text at this path of a JSON text.
fn text_at(json: &[u8], path: &[&str]) -> Option<String> {
    serde_json::from_slice(value_at(json, path)?).ok()
}

/// The value at this path of what is known to be a JSON text.
fn value_at<'a>(json: &'a [u8], path: &[&str]) -> Option<&'a [u8]> {
    path.iter().try_fold(json, |value, name| member(value, name))
}

/// The last member of this name, where this is an object.
fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let inner = object.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut found = None;
    for member in split(inner, b',') {
        let mut halves = split(member, b':');
        let (Some(key), Some(value)) = (halves.next(), halves.next()) else { continue };
        if serde_json::from_slice::<String>(key).is_ok_and(|key| key == name) {
            found = Some(value);
        }
    }
    found
}

/// The pieces between separators that stand in no text and within no brackets.
fn split(json: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    json.split(move |byte| {
        match (text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => text = !text,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, byte) => return *byte == separator && depth == 0,
            _ => {}
        }
        false
    })
}
