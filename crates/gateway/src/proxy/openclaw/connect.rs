//! The messages of OpenClaw that the gateway reads and writes (protocol 4, as of version 2026.9).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::json;
use tenure_domain::{ClientField, ClientInfo, cleaned};

use tenure_tower::problem::Problem;

/// A client's first message.
#[derive(Deserialize)]
pub(super) struct Connect<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Object<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    auth: Option<Object<Auth<'a>>>,
    #[serde(borrow, default)]
    client: Option<Object<Client<'a>>>,
    #[serde(borrow, default)]
    device: Option<Object<Device<'a>>>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    display_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    platform: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Device<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

/// A value that is written as an object. By default serde accepts a list of its fields too, which other readers do not.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Only(PhantomData))
    }
}

impl<'a> Connect<'a> {
    /// Parses a connect message. Returns `None` for another message, and for one with a repeated member, which the
    /// upstream might read differently.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        // serde does not check that the values which it skips are valid UTF-8.
        let message = std::str::from_utf8(message).ok()?;
        let Object(connect): Object<Self> = serde_json::from_str(message).ok()?;
        (connect.kind == "req" && connect.method == "connect").then_some(connect)
    }

    /// Returns the token that the message presents.
    pub(super) fn token(&self) -> Option<&str> {
        self.params.0.auth.as_ref()?.0.token.as_deref()
    }

    /// Returns what the message says about the client, added to what the gateway sees.
    pub(super) fn client_info(&self, seen: ClientInfo) -> ClientInfo {
        let Object(Params { client, device, .. }) = &self.params;
        let client = client.as_ref().map(|Object(client)| client);
        let said = [
            (ClientField::Id, client.and_then(|client| client.id.as_deref())),
            (ClientField::DisplayName, client.and_then(|client| client.display_name.as_deref())),
            (ClientField::Platform, client.and_then(|client| client.platform.as_deref())),
            (ClientField::Version, client.and_then(|client| client.version.as_deref())),
            (ClientField::DeviceKey, device.as_ref().and_then(|Object(device)| device.id.as_deref())),
        ];
        said.into_iter().fold(seen, |info, (field, text)| match text {
            Some(text) => with(info, field, text),
            None => info,
        })
    }
}

/// Returns the description with one more field, if its text can be recorded.
pub(super) fn with(info: ClientInfo, field: ClientField, text: &str) -> ClientInfo {
    info.clone().with(field, &cleaned(text)).unwrap_or(info)
}

/// Returns the message if it is the upstream's challenge.
pub(super) fn challenge(message: &[u8]) -> Option<&str> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        event: Cow<'a, str>,
    }
    let Object(event): Object<Event<'_>> = serde_json::from_slice(message).ok()?;
    if event.kind != "event" || event.event != "connect.challenge" {
        return None;
    }
    std::str::from_utf8(message).ok()
}

/// Returns the answer to a connect message that is refused. At `AUTH_TOKEN_MISMATCH` clients stop trying and show the
/// message; if the store failed they are to keep trying.
pub(super) fn refusal(id: &str, problem: &Problem) -> String {
    let message = problem.detail();
    let error = match problem {
        Problem::Store(_) => json!({ "code": "UNAVAILABLE", "message": message, "retryable": true }),
        _ => json!({
            "code": "INVALID_REQUEST",
            "message": message,
            "details": { "code": "AUTH_TOKEN_MISMATCH", "reason": problem.code() },
        }),
    };
    json!({ "type": "res", "id": id, "ok": false, "error": error }).to_string()
}

/// Whether a message, or its beginning, accepts the request with this id. `None` if it does not answer the request.
pub(super) fn accepts(message: &[u8], id: &str) -> Option<bool> {
    let mut answer = Answer::default();
    // The beginning of a message ends in an error; what comes before it has been read.
    let _ = serde_json::Deserializer::from_slice(message).deserialize_map(&mut answer);
    let Answer { kind, id: answered, ok } = answer;
    (kind.as_deref() == Some("res") && answered.as_deref() == Some(id)).then_some(ok?)
}

/// The members of a message that tell what it answers.
#[derive(Default)]
struct Answer {
    kind: Option<String>,
    id: Option<String>,
    ok: Option<bool>,
}

impl<'de> Visitor<'de> for &mut Answer {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "type" => self.kind = Some(map.next_value()?),
                "id" => self.id = Some(map.next_value()?),
                "ok" => self.ok = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &str = r#"{"type":"req","id":"1","method":"connect","params":{"minProtocol":4,"maxProtocol":4,
        "client":{"id":"cli","version":"2026.9.6","platform":"linux","mode":"cli","displayName":"a laptop"},
        "role":"operator","scopes":["operator.admin"],"auth":{"token":"tnr_x"},
        "device":{"id":"d3adb33f","publicKey":"k","signature":"s","signedAt":1,"nonce":"n"}}}"#;

    #[test]
    fn a_connect_message_tells_token_and_client() {
        let connect = Connect::parse(CONNECT.as_bytes()).unwrap();
        assert_eq!((connect.token(), &*connect.id), (Some("tnr_x"), "1"));
        let info = connect.client_info(with(ClientInfo::default(), ClientField::Address, "203.0.113.7"));
        let found: Vec<_> = info.iter().map(|(field, text)| (field.name(), text)).collect();
        assert_eq!(
            found,
            [
                ("id", "cli"),
                ("displayName", "a laptop"),
                ("platform", "linux"),
                ("version", "2026.9.6"),
                ("address", "203.0.113.7"),
                ("deviceKey", "d3adb33f"),
            ]
        );
    }

    #[test]
    fn what_is_no_connect_or_can_be_read_two_ways_is_none() {
        for (from, to) in [
            (r#""type":"req""#, r#""type":"event""#),
            (r#""method":"connect""#, r#""method":"health""#),
            (r#""auth":{"token":"tnr_x"}"#, r#""auth":{"token":"tnr_x"},"auth":{"token":"other"}"#),
            (r#""auth":{"token":"tnr_x"}"#, r#""auth":{"token":"tnr_x","token":"other"}"#),
            (r#""auth":{"token":"tnr_x"}"#, r#""auth":{"token":7}"#),
            (r#""id":"1","#, ""),
            (r#""auth":{"token":"tnr_x"}"#, r#""auth":["tnr_x"]"#),
            (
                r#""client":{"id":"cli","version":"2026.9.6","platform":"linux","mode":"cli","displayName":"a laptop"}"#,
                r#""client":["cli"]"#,
            ),
        ] {
            let message = CONNECT.replacen(from, to, 1);
            assert_ne!(message, CONNECT);
            assert!(Connect::parse(message.as_bytes()).is_none(), "{to}");
        }
        assert!(Connect::parse(format!("{CONNECT}{CONNECT}").as_bytes()).is_none());
        assert!(Connect::parse(b"\xff").is_none());
        assert!(challenge(br#"["event","connect.challenge"]"#).is_none());
        assert!(challenge(br#"{"type":"event","event":"connect.challenge"}"#).is_some());
        assert!(Connect::parse(br#"["req","1","connect",{"auth":{"token":"tnr_x"}}]"#).is_none());
        let mut no_text = CONNECT.replace("2026.9.6\",", "2026.9.6\",\"x\":\"?\",").into_bytes();
        assert!(Connect::parse(&no_text).is_some());
        *no_text.iter_mut().find(|byte| **byte == b'?').unwrap() = 0xff;
        assert!(Connect::parse(&no_text).is_none());
    }

    #[test]
    fn texts_that_cannot_be_recorded_are_left_out() {
        let message = CONNECT.replace("a laptop", &"x".repeat(300)).replace("linux", "li\\nux");
        let info = Connect::parse(message.as_bytes()).unwrap().client_info(ClientInfo::default());
        assert_eq!(info.get(ClientField::DisplayName), None);
        assert_eq!(info.get(ClientField::Platform), None);
        assert_eq!(info.get(ClientField::Version), Some("2026.9.6"));
        // Of what nobody sees the rest is kept, if there is any.
        let message =
            CONNECT.replace("a laptop", " Anna\u{2019}s \u{1f5a5}\u{fe0f}\u{200b} ").replace("linux", "\u{200e} ");
        let info = Connect::parse(message.as_bytes()).unwrap().client_info(ClientInfo::default());
        assert_eq!(info.get(ClientField::DisplayName), Some("Anna\u{2019}s \u{1f5a5}"));
        assert_eq!(info.get(ClientField::Platform), None);
    }

    #[test]
    fn an_answer_is_told_by_its_beginning() {
        let answer = br#"{"type":"res","id":"1","ok":true,"payload":{"type":"hello-ok","snapshot":{}}}"#;
        assert_eq!(accepts(answer, "1"), Some(true));
        assert_eq!(accepts(answer, "2"), None);
        for end in 0..32 {
            assert_eq!(accepts(&answer[..end], "1"), None, "{end}");
        }
        for end in 40..answer.len() {
            assert_eq!(accepts(&answer[..end], "1"), Some(true), "{end}");
        }
        assert_eq!(accepts(br#"{"type":"res","id":"1","ok":false}"#, "1"), Some(false));
        assert_eq!(accepts(br#"{"type":"event","id":"1","ok":true}"#, "1"), None);
    }
}
