//! The table of all settings: the schema for the file, the environment and the flags. Only this file has their names. Other
//! code uses keys, such as `GATEWAY.listen`, and the typed values of a section.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use tenure_domain::{Millis, Policy, Subject};
use tenure_tower::{CookieName, PublicPath};

use super::choice::{Choice as _, Durability, Profile};
use super::value::Kind;
use super::{Settings, SettingsError};
use crate::backends::BackendKind;

/// The key of a setting: its name and everything else that is known about it.
#[derive(Debug)]
pub(crate) struct Key {
    /// The name: section and key, as in the file.
    pub(crate) name: &'static str,
    /// The values that it takes.
    pub(crate) kind: Kind,
    /// The default.
    pub(crate) default: Fallback,
    /// The documentation.
    pub(crate) doc: &'static str,
    /// A shorter environment variable, besides [`Key::variable`].
    pub(crate) short: Option<&'static str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The value of a setting that no layer sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// A fixed value.
    Is(&'static str),
    /// The value that the policy derives from other settings, which is usually the one given here.
    Policy(&'static str, fn(&Policy) -> Millis),
    /// A file below `$XDG_STATE_HOME/tenure`.
    State(&'static str),
    /// No value.
    Unset,
}

impl Fallback {
    /// Returns the default for people; `None` if there is none.
    pub(crate) fn shown(self) -> Option<String> {
        match self {
            Self::Is(text) | Self::Policy(text, _) => Some(text.to_owned()),
            Self::State(name) => Some(format!("$XDG_STATE_HOME/tenure/{name}")),
            Self::Unset => None,
        }
    }
}

impl Key {
    /// Returns the environment variable that sets it, which is made from its name.
    pub(crate) fn variable(&self) -> String {
        format!("TENURE_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Returns the section and the name within it. Top-level settings have no section.
    pub(crate) fn parts(&self) -> (Option<&'static str>, &'static str) {
        match self.name.split_once('.') {
            Some((section, key)) => (Some(section), key),
            None => (None, self.name),
        }
    }
}

/// Finds the setting with this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name)
}

/// Returns up to three names that are similar to `wanted`.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = names.map(|name| (likeness(wanted, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    let close = scored.into_iter().take_while(|(score, _)| *score >= 0.75 && *score >= best - 0.05);
    close.take(3).map(|(_, name)| name).collect()
}

/// Returns how similar two names are, from 0 to 1: the higher of their similarity as a whole and in their last part. If
/// the last part of one contains the other, they count as very similar.
fn likeness(wanted: &str, name: &str) -> f64 {
    let last =
        |name: &'_ str| name.rsplit(['.', ' ']).next().and_then(|part| part.rsplit("__").next()).map_or(0, str::len);
    let (short, own) = (&wanted[wanted.len() - last(wanted)..], &name[name.len() - last(name)..]);
    let alike =
        strsim::normalized_damerau_levenshtein(wanted, name).max(strsim::normalized_damerau_levenshtein(short, own));
    if short.len() >= 3 && own.contains(short) { alike.max(0.95) } else { alike }
}

const fn span(least: Millis, most: Millis) -> Kind {
    Kind::Span { least, most, off: false }
}

const NONE: Millis = Millis::ZERO;
const LEAST_WAIT: Millis = Millis::new(10);

/// Declares the settings of one section: their keys and, if a struct is named, that struct with a typed value for each.
macro_rules! section {
    (@short) => { None };
    (@short $short:literal) => { Some($short) };
    ($name:literal, $Keys:ident, $KEYS:ident, {
        $($field:ident $(as $type:ty)? = $kind:expr, $default:expr, $doc:literal $(, $short:literal)?;)*
    }) => {
        /// The keys of a section.
        pub(crate) struct $Keys {
            $(pub(crate) $field: Key,)*
        }

        pub(crate) static $KEYS: $Keys = $Keys {
            $($field: Key {
                name: concat!($name, ".", stringify!($field)),
                kind: $kind,
                default: $default,
                doc: $doc,
                short: section!(@short $($short)?),
            },)*
        };

        impl $Keys {
            fn all(&'static self) -> Vec<&'static Key> {
                vec![$(&self.$field,)*]
            }
        }
    };
    ($name:literal, $Keys:ident, $KEYS:ident, $(#[$meta:meta])* $Values:ident, {
        $($field:ident as $type:ty = $kind:expr, $default:expr, $doc:literal $(, $short:literal)?;)*
    }) => {
        section! { $name, $Keys, $KEYS, {
            $($field as $type = $kind, $default, $doc $(, $short)?;)*
        }}

        $(#[$meta])*
        pub(crate) struct $Values {
            $(pub(crate) $field: $type,)*
        }

        impl $Values {
            /// Reads the values of the section that are in force.
            ///
            /// # Errors
            /// [`SettingsError`] that names a setting without the value that it needs.
            pub(crate) fn read(settings: &Settings) -> Result<Self, SettingsError> {
                Ok(Self { $($field: settings.read(&$KEYS.$field)?,)* })
            }
        }
    };
}

/// The key of the backend, which is not in a section.
pub(crate) static BACKEND: Key = Key {
    name: "backend",
    kind: Kind::Choice(&BackendKind::NAMES),
    default: Fallback::Is("json"),
    doc: "Which store keeps the sessions: one JSON file, or a Redis that many machines share.",
    short: None,
};

section! { "session", SessionKeys, SESSION, {
    token_ttl = span(Millis::seconds(1), Millis::hours(8_760)), Fallback::Is("24h"),
        "How long a token is valid after it was issued or rotated.";
    rotate_before_expiry = span(NONE, Millis::hours(8_760)), Fallback::Policy("2h", Policy::rotate_before_expiry),
        "How long before expiry a rotation is due; less than token_ttl. The default is a twelfth of token_ttl where \
         that is shorter than 24h.";
    max_sessions_per_device = Kind::Count { least: 1, most: 100 }, Fallback::Is("10"),
        "How many active sessions a device may have; one more evicts the oldest.";
    idle_timeout = Kind::Span { least: Millis::seconds(30), most: Millis::hours(8_760), off: true }, Fallback::Is("off"),
        "How long a session may go unused before it ends; at most token_ttl.";
    max_lifetime = span(Millis::seconds(1), Millis::days(3_650)), Fallback::Policy("30d", Policy::max_lifetime),
        "How long a session can live in total, however often it is rotated; at least token_ttl. The default is \
         token_ttl if that is longer.";
    rotation_overlap = span(NONE, Millis::minutes(5)), Fallback::Is("0s"),
        "How long the token that was just replaced stays valid after a rotation.";
    replay_tolerance = span(NONE, Millis::minutes(5)), Fallback::Is("10s"),
        "How long after it stopped being valid a replaced token counts as a late request and is only refused. Used \
         later, it counts as stolen and ends the session.";
    retention = span(NONE, Millis::days(90)), Fallback::Is("24h"),
        "How long an ended or expired session stays in the store.";
}}

section! { "json", JsonKeys, JSON, {
    store = Kind::Path, Fallback::State("sessions.jsonl"),
        "The file of the json backend.", "TENURE_STORE";
}}

section! { "redis", RedisKeys, REDIS, #[doc = "The settings of the Redis store."] RedisSettings, {
    url as String = Kind::RedisUrl, Fallback::Is("redis://127.0.0.1:6379"),
        "The Redis server, Sentinels or cluster.", "TENURE_REDIS_URL";
    password_file as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "A file with the password for Redis.", "TENURE_REDIS_PASSWORD_FILE";
    sentinel_password_file as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "A file with the Sentinels' own password; if not set, they are tried without a password, then with the one \
         for Redis.";
    prefix as String = Kind::KeyPrefix, Fallback::Is("tenure"),
        "What every key in Redis starts with.";
    tls_ca as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "The certificate authority to trust for Redis (PEM), instead of the system's.";
    tls_cert as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "The client certificate for Redis (PEM).";
    tls_key as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "The key of the client certificate (PEM).";
    near_cache as bool = Kind::Flag, Fallback::Is("false"),
        "Whether verified sessions are cached in memory. Another process may then take up to half a second to notice \
         a change.";
    durability as Durability = Kind::Choice(Durability::NAMES), Fallback::Is("local"),
        "Whether a change is acknowledged once the server has it, or once a replica has it too.";
    response_timeout as Millis = span(LEAST_WAIT, Millis::seconds(30)), Fallback::Is("250ms"),
        "How long one reply from Redis may take.";
    connect_timeout as Millis = span(LEAST_WAIT, Millis::seconds(30)), Fallback::Is("500ms"),
        "How long a connection to Redis may take.";
    operation_timeout as Millis = span(LEAST_WAIT, Millis::minutes(1)), Fallback::Is("1s"),
        "How long an operation may take in total, reconnecting included.";
}}

section! { "gateway", GatewayKeys, GATEWAY, #[doc = "The settings of the gateway."] GatewaySettings, {
    listen as SocketAddr = Kind::Address, Fallback::Is("127.0.0.1:8470"),
        "Where clients connect.";
    admin_listen as SocketAddr = Kind::Address, Fallback::Is("127.0.0.1:8471"),
        "Where operators connect.";
    upstream as Option<String> = Kind::HttpUrl, Fallback::Unset,
        "The service to forward to; without it, the gateway only answers forward-auth requests.";
    enrol_secret_file as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "A file with the secret for clients to enrol themselves; without it they cannot.";
    enrol_subject as Subject = Kind::Subject, Fallback::Is("operator"),
        "The subject of sessions that clients enrol themselves.";
    admin_secret_file as Option<PathBuf> = Kind::Path, Fallback::State("admin.secret"),
        "The file with the operators' secret; created at the first start.";
    upstream_secret_file as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "A file with the upstream's own static token, which clients never see.";
    upstream_auth_header as String = Kind::HeaderScheme, Fallback::Is("Authorization: Bearer"),
        "The header that carries the upstream's own token.";
    store_loss_grace as Duration = span(NONE, Millis::hours(1)), Fallback::Is("15s"),
        "How long open connections stay when the store cannot be read.";
    trusted_proxies as Vec<IpNet> = Kind::Networks, Fallback::Is(""),
        "Proxies whose forwarding headers are trusted.";
    public_paths as Vec<PublicPath> = Kind::UrlPaths, Fallback::Is(""),
        "Paths that need no token.";
    user_header as HeaderName = Kind::Header, Fallback::Is("X-Forwarded-User"),
        "The header that tells the upstream the subject.";
    profile as Option<Profile> = Kind::Choice(Profile::NAMES), Fallback::Unset,
        "For services whose clients do not send the token in a header.";
    openclaw_client_address as IpAddr = Kind::IpAddress, Fallback::Is("192.0.2.1"),
        "The client address that OpenClaw is told for a client on loopback, since it refuses loopback addresses.";
    cookie_name as CookieName = Kind::CookieName, Fallback::Is("tenure"),
        "The name of the browser cookie; over TLS it is prefixed with __Host-. Gateways on one host need different \
         names, because its ports share cookies.";
    auto_rotate_cookies as bool = Kind::Flag, Fallback::Is("false"),
        "Whether a browser's cookie is renewed with a response once rotation is due.";
    cors_origins as Vec<String> = Kind::Origins, Fallback::Is(""),
        "Web origins whose pages may send requests with a token and read the responses (CORS); cookies do not work \
         for them.";
    response_timeout as Duration = span(Millis::seconds(1), Millis::hours(24)), Fallback::Is("2m"),
        "How long the upstream may take to begin its response, counted from the last piece of the request body.";
    keep_alive_timeout as Duration = span(Millis::seconds(1), Millis::hours(1)), Fallback::Is("30s"),
        "How long a connection may wait for its next request, and how long a request header may take.";
    stall_timeout as Duration = span(Millis::seconds(1), Millis::hours(1)), Fallback::Is("1m"),
        "How long a client may accept nothing of a response.";
    metrics_secret_file as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "A file with a secret that opens /metrics and nothing else, for a scraper.";
    admin_hosts as Vec<String> = Kind::Hosts, Fallback::Is(""),
        "Further host names under which the admin listener answers, besides IP addresses, localhost and this \
         machine's own name.";
    admin_tls as Option<bool> = Kind::Flag, Fallback::Unset,
        "Whether the admin listener speaks TLS with the gateway's certificate. If not set, it does so beyond loopback \
         if there is a certificate.";
    tls_cert as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "The gateway's certificate chain (PEM).";
    tls_key as Option<PathBuf> = Kind::Path, Fallback::Unset,
        "The key of the gateway's certificate (PEM).";
    hsts as Option<Duration> = Kind::Span { least: NONE, most: Millis::hours(17_520), off: true }, Fallback::Is("365d"),
        "How long browsers must use only TLS for this host. Sent only if the gateway itself speaks TLS.";
    max_connections as usize = Kind::Count { least: 1, most: 1_000_000 }, Fallback::Is("16384"),
        "How many client connections may be open at once, as far as the limit of file descriptors allows.";
    max_connections_per_address as usize = Kind::Count { least: 1, most: 1_000_000 }, Fallback::Is("1024"),
        "How many connections one address may have (IPv6: one /64); loopback and trusted proxies are exempt.";
    max_header_bytes as usize = Kind::Count { least: 8_192, most: 262_144 }, Fallback::Is("65536"),
        "The largest request header, request line included.";
}}

/// Returns every key, in the order in which settings are shown.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    [vec![&BACKEND], SESSION.all(), JSON.all(), REDIS.all(), GATEWAY.all()].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_default_is_within_its_own_range() {
        for key in keys() {
            if let Fallback::Is(text) | Fallback::Policy(text, _) = key.default {
                assert!(key.kind.read(text).is_ok(), "{}", key.name);
            }
        }
    }

    #[test]
    fn near_misses_are_found() {
        let names = || keys().map(|key| key.name);
        assert_eq!(near("session.tokn_ttl", names())[0], "session.token_ttl");
        assert_eq!(near("session.ttl", names())[0], "session.token_ttl");
        assert_eq!(near("retention", names())[0], "session.retention");
        assert!(near("zzz", names()).is_empty());
    }

    #[test]
    fn the_defaults_are_those_of_the_rules() {
        let given: String = keys()
            .filter(|key| key.parts().0 == SESSION.token_ttl.parts().0)
            .filter_map(|key| {
                let default = key.kind.read(&key.default.shown()?).ok()?;
                Some(format!("{key} = {}\n", default.to_toml()))
            })
            .collect();
        assert_eq!(given.lines().count(), SESSION.all().len());
        assert_eq!(Settings::of_file(Path::new("/c.toml"), &given).unwrap().policy(), Policy::default());
    }

    /// Fails for a row whose type does not fit its kind, even if it has no default.
    #[test]
    fn every_value_has_the_type_of_its_field() {
        let sample = |key: &Key| match key.kind {
            Kind::Choice(words) => words[0],
            Kind::Span { most, .. } if most >= Millis::hours(1) => "1h",
            Kind::Span { .. } => "1s",
            Kind::Count { .. } => "8192",
            Kind::Flag => "true",
            Kind::Path => "/a",
            Kind::RedisUrl => "redis://a",
            Kind::KeyPrefix | Kind::Subject | Kind::CookieName => "a",
            Kind::HttpUrl => "http://a",
            Kind::Address => "127.0.0.1:1",
            Kind::IpAddress => "127.0.0.1",
            Kind::Header | Kind::HeaderScheme => "A",
            Kind::Networks => "127.0.0.1, 10.0.0.0/8",
            Kind::UrlPaths => "/a",
            Kind::Origins => "http://a",
            Kind::Hosts => "a",
        };
        let toml = |key: &Key| format!("{key} = {}\n", key.kind.read(sample(key)).unwrap().to_toml());
        for text in ["".to_owned(), REDIS.all().into_iter().chain(GATEWAY.all()).map(toml).collect()] {
            let settings = Settings::of_file(Path::new("/c.toml"), &text).unwrap();
            RedisSettings::read(&settings).unwrap();
            GatewaySettings::read(&settings).unwrap();
        }
    }

    /// Fails if a name is written out where the compiler could check a key.
    #[test]
    fn no_key_is_written_out_anywhere_else() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                files += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap_or_default();
                for key in keys().filter(|key| key.parts().0.is_some()) {
                    assert!(!text.contains(&format!("\"{key}\"")), "{} has \"{key}\"", path.display());
                }
            }
        }
        assert!(files > 50, "{files} files were read");
    }
}
