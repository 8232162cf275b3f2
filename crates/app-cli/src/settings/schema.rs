//! The table of all settings: the one schema for file, environment and flags.

use tenure_domain::Millis;

use super::value::Kind;
use crate::backends::BackendKind;

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name: section and key, as the file has them.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What it is where nothing sets it.
    pub(crate) default: Fallback,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// A shorter environment variable for the same.
    pub(crate) short: Option<&'static str>,
}

/// What a setting is where nothing sets it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// This.
    Is(&'static str),
    /// A file below `$XDG_STATE_HOME/tenure`.
    State(&'static str),
    /// Nothing.
    Unset,
}

impl Fallback {
    /// The default in words; `None` where there is none.
    pub(crate) fn shown(self) -> Option<String> {
        match self {
            Self::Is(text) => Some(text.to_owned()),
            Self::State(name) => Some(format!("$XDG_STATE_HOME/tenure/{name}")),
            Self::Unset => None,
        }
    }
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Fallback, doc: &'static str) -> Self {
        Self { name, kind, default, doc, short: None }
    }

    const fn or(mut self, short: &'static str) -> Self {
        self.short = Some(short);
        self
    }

    /// The environment variable that sets it, made from its name.
    pub(crate) fn variable(&self) -> String {
        format!("TENURE_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Section and key; top-level keys have no section.
    pub(crate) fn parts(&self) -> (Option<&'static str>, &'static str) {
        match self.name.split_once('.') {
            Some((section, key)) => (Some(section), key),
            None => (None, self.name),
        }
    }
}

/// The setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Up to three names that are nearly `wanted`.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = names.map(|name| (likeness(wanted, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    let close = scored.into_iter().take_while(|(score, _)| *score >= 0.75 && *score >= best - 0.05);
    close.take(3).map(|(_, name)| name).collect()
}

/// How alike two names are, 0 to 1: as a whole, or in their last part, where a part of the other counts for much.
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

/// Every setting, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    Key::new(
        "backend",
        Kind::Choice(&BackendKind::NAMES),
        Fallback::Is("json"),
        "Which store keeps the sessions: one JSON file, or a Redis that many machines share.",
    ),
    Key::new(
        "session.token_ttl",
        span(Millis::seconds(1), Millis::hours(8_760)),
        Fallback::Is("24h"),
        "How long a token is valid after it was issued or rotated.",
    ),
    Key::new(
        "session.rotate_before_expiry",
        span(NONE, Millis::hours(8_760)),
        Fallback::Is("2h"),
        "How long before expiry a rotation is due; less than token_ttl. The default is a twelfth of token_ttl where \
         that is shorter than 24h.",
    ),
    Key::new(
        "session.max_sessions_per_device",
        Kind::Count { least: 1, most: 100 },
        Fallback::Is("10"),
        "How many active sessions a device may have; one more evicts the oldest.",
    ),
    Key::new(
        "session.idle_timeout",
        Kind::Span { least: Millis::seconds(30), most: Millis::hours(8_760), off: true },
        Fallback::Is("off"),
        "How long a session may go unused before it ends; at most token_ttl.",
    ),
    Key::new(
        "session.max_lifetime",
        span(Millis::seconds(1), Millis::days(3_650)),
        Fallback::Is("30d"),
        "How long a session can live in total, however often it is rotated; at least token_ttl. The default is \
         token_ttl if that is longer.",
    ),
    Key::new(
        "session.rotation_overlap",
        span(NONE, Millis::minutes(5)),
        Fallback::Is("0s"),
        "How long the token that was just replaced stays valid after a rotation.",
    ),
    Key::new(
        "session.replay_tolerance",
        span(NONE, Millis::minutes(5)),
        Fallback::Is("10s"),
        "How long after it stopped being valid a replaced token counts as a late request and is only refused. Used \
         later, it counts as stolen and ends the session.",
    ),
    Key::new(
        "session.retention",
        span(NONE, Millis::days(90)),
        Fallback::Is("24h"),
        "How long an ended or expired session stays in the store.",
    ),
    Key::new("json.store", Kind::Path, Fallback::State("sessions.jsonl"), "The file of the json backend.")
        .or("TENURE_STORE"),
    Key::new(
        "redis.url",
        Kind::RedisUrl,
        Fallback::Is("redis://127.0.0.1:6379"),
        "The Redis server, Sentinels or cluster.",
    )
    .or("TENURE_REDIS_URL"),
    Key::new("redis.password_file", Kind::Path, Fallback::Unset, "A file with the password for Redis.")
        .or("TENURE_REDIS_PASSWORD_FILE"),
    Key::new(
        "redis.sentinel_password_file",
        Kind::Path,
        Fallback::Unset,
        "A file with the Sentinels' own password; if not set, they are tried without a password, then with the one \
         for Redis.",
    ),
    Key::new("redis.prefix", Kind::KeyPrefix, Fallback::Is("tenure"), "What every key in Redis starts with."),
    Key::new(
        "redis.tls_ca",
        Kind::Path,
        Fallback::Unset,
        "The certificate authority to trust for Redis (PEM), instead of the system's.",
    ),
    Key::new("redis.tls_cert", Kind::Path, Fallback::Unset, "The client certificate for Redis (PEM)."),
    Key::new("redis.tls_key", Kind::Path, Fallback::Unset, "The key of the client certificate (PEM)."),
    Key::new(
        "redis.near_cache",
        Kind::Flag,
        Fallback::Is("false"),
        "Whether verified sessions are cached in memory. Another process may then take up to half a second to notice \
         a change.",
    ),
    Key::new(
        "redis.durability",
        Kind::Choice(&["local", "replicated"]),
        Fallback::Is("local"),
        "Whether a change is acknowledged once the server has it, or once a replica has it too.",
    ),
    Key::new(
        "redis.response_timeout",
        span(LEAST_WAIT, Millis::seconds(30)),
        Fallback::Is("250ms"),
        "How long one reply from Redis may take.",
    ),
    Key::new(
        "redis.connect_timeout",
        span(LEAST_WAIT, Millis::seconds(30)),
        Fallback::Is("500ms"),
        "How long a connection to Redis may take.",
    ),
    Key::new(
        "redis.operation_timeout",
        span(LEAST_WAIT, Millis::minutes(1)),
        Fallback::Is("1s"),
        "How long an operation may take in total, reconnecting included.",
    ),
    Key::new("gateway.listen", Kind::Address, Fallback::Is("127.0.0.1:8470"), "Where clients connect."),
    Key::new("gateway.admin_listen", Kind::Address, Fallback::Is("127.0.0.1:8471"), "Where operators connect."),
    Key::new(
        "gateway.upstream",
        Kind::HttpUrl,
        Fallback::Unset,
        "The service to forward to; without it, the gateway only answers forward-auth requests.",
    ),
    Key::new(
        "gateway.enrol_secret_file",
        Kind::Path,
        Fallback::Unset,
        "A file with the secret for clients to enrol themselves; without it they cannot.",
    ),
    Key::new(
        "gateway.enrol_subject",
        Kind::Subject,
        Fallback::Is("operator"),
        "The subject of sessions that clients enrol themselves.",
    ),
    Key::new(
        "gateway.admin_secret_file",
        Kind::Path,
        Fallback::State("admin.secret"),
        "The file with the operators' secret; created at the first start.",
    ),
    Key::new(
        "gateway.upstream_secret_file",
        Kind::Path,
        Fallback::Unset,
        "A file with the upstream's own static token, which clients never see.",
    ),
    Key::new(
        "gateway.upstream_auth_header",
        Kind::HeaderScheme,
        Fallback::Is("Authorization: Bearer"),
        "The header that carries the upstream's own token.",
    ),
    Key::new(
        "gateway.store_loss_grace",
        span(NONE, Millis::hours(1)),
        Fallback::Is("15s"),
        "How long open connections stay when the store cannot be read.",
    ),
    Key::new(
        "gateway.trusted_proxies",
        Kind::Networks,
        Fallback::Is(""),
        "Proxies whose forwarding headers are trusted.",
    ),
    Key::new("gateway.public_paths", Kind::UrlPaths, Fallback::Is(""), "Paths that need no token."),
    Key::new(
        "gateway.user_header",
        Kind::Header,
        Fallback::Is("X-Forwarded-User"),
        "The header that tells the upstream the subject.",
    ),
    Key::new(
        "gateway.profile",
        Kind::Choice(&["openclaw"]),
        Fallback::Unset,
        "For services whose clients do not send the token in a header.",
    ),
    Key::new(
        "gateway.openclaw_client_address",
        Kind::IpAddress,
        Fallback::Is("192.0.2.1"),
        "The client address that OpenClaw is told for a client on loopback, since it refuses loopback addresses.",
    ),
    Key::new(
        "gateway.cookie_name",
        Kind::CookieName,
        Fallback::Is("tenure"),
        "The name of the browser cookie; over TLS it is prefixed with __Host-. Gateways on one host need different \
         names, because its ports share cookies.",
    ),
    Key::new(
        "gateway.auto_rotate_cookies",
        Kind::Flag,
        Fallback::Is("false"),
        "Whether a browser's cookie is renewed with a response once rotation is due.",
    ),
    Key::new(
        "gateway.cors_origins",
        Kind::Origins,
        Fallback::Is(""),
        "Web origins whose pages may send requests with a token and read the responses (CORS); cookies do not work \
         for them.",
    ),
    Key::new(
        "gateway.response_timeout",
        span(Millis::seconds(1), Millis::hours(24)),
        Fallback::Is("2m"),
        "How long the upstream may take to begin its response, counted from the last piece of the request body.",
    ),
    Key::new(
        "gateway.keep_alive_timeout",
        span(Millis::seconds(1), Millis::hours(1)),
        Fallback::Is("30s"),
        "How long a connection may wait for its next request, and how long a request header may take.",
    ),
    Key::new(
        "gateway.stall_timeout",
        span(Millis::seconds(1), Millis::hours(1)),
        Fallback::Is("1m"),
        "How long a client may accept nothing of a response.",
    ),
    Key::new(
        "gateway.metrics_secret_file",
        Kind::Path,
        Fallback::Unset,
        "A file with a secret that opens /metrics and nothing else, for a scraper.",
    ),
    Key::new(
        "gateway.admin_hosts",
        Kind::Hosts,
        Fallback::Is(""),
        "Further host names under which the admin listener answers, besides IP addresses, localhost and this \
         machine's own name.",
    ),
    Key::new(
        "gateway.admin_tls",
        Kind::Flag,
        Fallback::Unset,
        "Whether the admin listener speaks TLS with the gateway's certificate. If not set, it does so beyond loopback \
         if there is a certificate.",
    ),
    Key::new("gateway.tls_cert", Kind::Path, Fallback::Unset, "The gateway's certificate chain (PEM)."),
    Key::new("gateway.tls_key", Kind::Path, Fallback::Unset, "The key of the gateway's certificate (PEM)."),
    Key::new(
        "gateway.hsts",
        Kind::Span { least: NONE, most: Millis::hours(17_520), off: true },
        Fallback::Is("365d"),
        "How long browsers must use only TLS for this host. Sent only if the gateway itself speaks TLS.",
    ),
    Key::new(
        "gateway.max_connections",
        Kind::Count { least: 1, most: 1_000_000 },
        Fallback::Is("16384"),
        "How many client connections may be open at once, as far as the limit of file descriptors allows.",
    ),
    Key::new(
        "gateway.max_connections_per_address",
        Kind::Count { least: 1, most: 1_000_000 },
        Fallback::Is("1024"),
        "How many connections one address may have (IPv6: one /64); loopback and trusted proxies are exempt.",
    ),
    Key::new(
        "gateway.max_header_bytes",
        Kind::Count { least: 8_192, most: 262_144 },
        Fallback::Is("65536"),
        "The largest request header, request line included.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_own_range() {
        for key in KEYS {
            if let Fallback::Is(text) = key.default {
                assert!(key.kind.read(text).is_ok(), "{}", key.name);
            }
        }
    }

    #[test]
    fn near_misses_are_found() {
        let names = || KEYS.iter().map(|key| key.name);
        assert_eq!(near("session.tokn_ttl", names())[0], "session.token_ttl");
        assert_eq!(near("session.ttl", names())[0], "session.token_ttl");
        assert_eq!(near("retention", names())[0], "session.retention");
        assert!(near("zzz", names()).is_empty());
    }
}
