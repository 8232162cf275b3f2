//! Header fields by name: which ones pass to the upstream, which ones are removed, and which ones are set. It is one
//! table, which the code follows and from which the documentation is written.

use std::fmt::Write as _;
use std::sync::LazyLock;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName, ORIGIN,
    PROXY_AUTHORIZATION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};
use rustc_hash::FxHashMap;

use super::peer::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::config::EnforcementConfig;

/// The field that identifies a request in the logs of every server that handles it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The field that tells an upstream the session.
pub const X_TENURE_SESSION: HeaderName = HeaderName::from_static("x-tenure-session");
/// The field that tells an upstream the device.
pub const X_TENURE_DEVICE: HeaderName = HeaderName::from_static("x-tenure-device");
/// The field that tells a client to rotate its token now.
pub const TENURE_ROTATE: HeaderName = HeaderName::from_static("tenure-rotate");

/// What happens to a field of a request on its way to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pass,
    Remove,
    /// Remove the field from a request whose method changes nothing.
    RemoveFromSafe,
}

/// A group of fields that are treated alike for one reason.
struct FieldGroup {
    title: &'static str,
    reason: &'static str,
    action: Action,
    names: &'static [&'static str],
    prefixes: &'static [&'static str],
}

const GROUPS: &[FieldGroup] = &[
    FieldGroup {
        title: "who the client is",
        reason: "only the gateway says that",
        action: Action::Remove,
        names: &[
            "auth-user",
            "client-cert",
            "client-cert-chain",
            "remote-email",
            "remote-group",
            "remote-groups",
            "remote-name",
            "remote-user",
            "sm-universalid",
            "sm-user",
            "x-arr-clientcert",
            "x-auth-email",
            "x-auth-groups",
            "x-auth-user",
            "x-auth-username",
            "x-authenticated-groups",
            "x-authenticated-user",
            "x-authenticated-userid",
            "x-client-cert",
            "x-credential-identifier",
            "x-openclaw-scopes",
            "x-remote-email",
            "x-remote-group",
            "x-remote-groups",
            "x-remote-name",
            "x-remote-user",
            "x-user",
            "x-user-email",
            "x-user-id",
            "x-username",
        ],
        prefixes: &[
            "cf-access-",
            "oidc-claim-",
            "ssl-client-",
            "tailscale-user-",
            "x-amzn-oidc-",
            "x-auth-request-",
            "x-authentik-",
            "x-consumer-",
            "x-goog-authenticated-user-",
            "x-goog-iap-",
            "x-ms-client-principal",
            "x-pomerium-",
            "x-remote-extra-",
            "x-ssl-client-",
            "x-tenure-",
            "x-vouch-",
            "x-webauth-",
        ],
    },
    FieldGroup {
        title: "where the request came from",
        reason: "the gateway sets its own fields for that; from a trusted proxy it reads `X-Forwarded-For`, \
              `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Request-Id`, and the rest may be the client's",
        action: Action::Remove,
        names: &[
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-pseudo-ipv4",
            "fastly-client-ip",
            "fly-client-ip",
            "forwarded",
            "forwarded-for",
            "front-end-https",
            "true-client-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-envoy-external-address",
            "x-host",
            "x-http-host-override",
            "x-original-for",
            "x-original-forwarded-for",
            "x-original-host",
            "x-original-method",
            "x-original-proto",
            "x-original-remote-addr",
            "x-original-scheme",
            "x-originating-ip",
            "x-real-ip",
            "x-real-port",
            "x-remote-addr",
            "x-remote-ip",
            "x-scheme",
            "x-url-scheme",
        ],
        prefixes: &["x-forwarded-"],
    },
    FieldGroup {
        title: "a path other than the request line's",
        reason: "the gateway judges the path in the request line (`X-Forwarded-Uri`, `-Path` and `-Prefix` are removed \
              as above)",
        action: Action::Remove,
        names: &[
            "x-envoy-original-path",
            "x-original-path",
            "x-original-uri",
            "x-original-url",
            "x-override-url",
            "x-proxy-url",
            "x-replaced-path",
            "x-request-uri",
            "x-rewrite-path",
            "x-rewrite-uri",
            "x-rewrite-url",
            "x-script-name",
        ],
        prefixes: &[],
    },
    FieldGroup {
        title: "a method other than the request line's",
        reason: "a cookie is enough for requests that change nothing; on `POST` and other changes they pass",
        action: Action::RemoveFromSafe,
        names: &["x-http-method", "x-http-method-override", "x-method-override"],
        prefixes: &[],
    },
    FieldGroup {
        title: "a variable of the environment",
        reason: "CGI turns it into `HTTP_PROXY`",
        action: Action::Remove,
        names: &["proxy"],
        prefixes: &[],
    },
];

/// Fields that belong to one connection (RFC 9110 section 7.6.1), and those that old software sends as well.
pub static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that are kept even if `Connection` lists them: without them the request would be a different one.
pub static NEVER_OF_ONE_CONNECTION: [HeaderName; 1] = [HOST];

/// Fields that the gateway reads, sets or removes in this spelling. Any other spelling is removed.
static EXACT_SPELLINGS: [HeaderName; 14] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    ORIGIN,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
    HeaderName::from_static("sec-fetch-site"),
    TENURE_ROTATE,
    X_REQUEST_ID,
];

/// A field that the gateway sets, and what it contains.
struct SetField {
    name: HeaderName,
    title: &'static str,
}

/// The fields that are set on every request to the upstream.
static SET_ON_REQUESTS: [SetField; 5] = [
    SetField { name: HOST, title: "as the client sent it; the upstream's own if there was none (HTTP/1.0)" },
    SetField { name: X_FORWARDED_FOR, title: "the client's address, and the trusted proxy's behind it" },
    SetField { name: X_FORWARDED_PROTO, title: "`https` or `http`: how the client connected" },
    SetField { name: X_FORWARDED_HOST, title: "the host that the client asked for" },
    SetField { name: X_REQUEST_ID, title: "new, or the trusted proxy's" },
];

/// The fields that tell the upstream about a session; they are not set on public paths. The configurable user field
/// comes before these.
static SET_WITH_SESSION: [SetField; 2] = [
    SetField { name: X_TENURE_DEVICE, title: "the device's id" },
    SetField { name: X_TENURE_SESSION, title: "the session's id" },
];

/// The fields that are set on the upstream's response to the client.
static SET_ON_RESPONSES: [SetField; 4] = [
    SetField { name: X_REQUEST_ID, title: "set: the same as the upstream got" },
    SetField { name: TENURE_ROTATE, title: "removed; set to `due` if the token should be rotated" },
    SetField {
        name: SET_COOKIE,
        title: "passed, except the token's cookies; the gateway's own with `gateway.auto_rotate_cookies`",
    },
    SetField {
        name: STRICT_TRANSPORT_SECURITY,
        title: "passed; if the gateway speaks TLS and the upstream sent none, set by `gateway.hsts`",
    },
];

/// The length of the longest name in the table.
const MAX_NAME_LENGTH: usize = 96;

/// The letters and digits of a name, in lower case. Servers that follow CGI treat `-` and `_` as equal, and some treat
/// every other character so too.
fn alphanumerics(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase())
}

fn fold(name: &str) -> Box<[u8]> {
    alphanumerics(name).collect()
}

/// What the table says about a name.
enum Rule {
    Of(Action),
    /// The name is the gateway's own, in this spelling.
    Own(HeaderName),
}

/// The table, in a form for fast lookup.
struct Rules {
    /// A fast hash is safe here: clients choose the names that are looked up, but not those in the table.
    names: FxHashMap<Box<[u8]>, Rule>,
    prefixes: Vec<(Box<[u8]>, Action)>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let own = EXACT_SPELLINGS.iter().chain(&HOP_BY_HOP).map(|name| (fold(name.as_str()), Rule::Own(name.clone())));
    let of = |group: &'static FieldGroup| group.names.iter().map(|name| (fold(name), Rule::Of(group.action)));
    let prefixes = GROUPS.iter().flat_map(|group| group.prefixes.iter().map(|name| (fold(name), group.action)));
    Rules { names: own.chain(GROUPS.iter().flat_map(of)).collect(), prefixes: prefixes.collect() }
});

/// Whether two names are equal to a server that compares letters and digits only.
fn fold_alike(one: &HeaderName, other: &HeaderName) -> bool {
    alphanumerics(one.as_str()).eq(alphanumerics(other.as_str()))
}

fn action_for(name: &HeaderName, config: &EnforcementConfig) -> Action {
    let is_lookalike = |header: &HeaderName| header != name && fold_alike(header, name);
    if fold_alike(name, &config.user_header) || config.upstream_auth_header.as_ref().is_some_and(is_lookalike) {
        return Action::Remove;
    }
    // A longer name is not in the table, and has the prefix that its first letters have.
    let mut room = [0; MAX_NAME_LENGTH];
    let mut length = 0;
    for (place, letter) in room.iter_mut().zip(alphanumerics(name.as_str())) {
        *place = letter;
        length += 1;
    }
    let folded = &room[..length];
    match RULES.names.get(folded) {
        Some(Rule::Of(action)) => return *action,
        Some(Rule::Own(own)) => return if own == name { Action::Pass } else { Action::Remove },
        None => {}
    }
    // The first letter decides most names.
    let begins = |beginning: &[u8]| folded.first() == beginning.first() && folded.starts_with(beginning);
    let begun = RULES.prefixes.iter().find(|(beginning, _)| begins(beginning));
    begun.map_or(Action::Pass, |(_, action)| *action)
}

/// Whether an operator may choose this field for something that the gateway sets. Fields that frame a message, belong
/// to one connection or to the client, or already have a meaning are not allowed.
#[must_use]
pub fn can_be_set(name: &HeaderName) -> bool {
    let told = SET_ON_REQUESTS.iter().chain(&SET_WITH_SESSION).map(|set| &set.name);
    let own = EXACT_SPELLINGS.iter().filter(|own| **own != AUTHORIZATION);
    !told.chain(own).chain(&HOP_BY_HOP).any(|taken| fold_alike(taken, name))
}

/// Removes the fields that no client and no proxy may set.
pub fn strip_claims(headers: &mut HeaderMap, method: &Method, config: &EnforcementConfig) {
    remove_fields(headers, |name| match action_for(name, config) {
        Action::Pass => false,
        Action::Remove => true,
        Action::RemoveFromSafe => method.is_safe(),
    });
}

/// Removes the fields whose names `remove` selects. It hashes and copies nothing if there is nothing to remove, as with
/// most messages.
pub fn remove_fields(headers: &mut HeaderMap, remove: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| remove(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Returns the table in Markdown, for docs/gateway.md.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| set in every request | |\n|---|---|\n");
    let rows = |text: &mut String, fields: &[SetField]| {
        for field in fields {
            let _ = writeln!(text, "| {} | {} |", code(field.name.as_str()), field.title);
        }
    };
    rows(&mut text, &SET_ON_REQUESTS);
    text += "\n| set with a session, not on public paths | |\n|---|---|\n";
    text += "| `X-Forwarded-User`, or `gateway.user_header` | the subject |\n";
    rows(&mut text, &SET_WITH_SESSION);
    text += "| the field of `gateway.upstream_auth_header` | the upstream's own secret |\n";
    text += "\n| removed from every request | by name | by prefix |\n|---|---|---|\n";
    for group in GROUPS {
        let when =
            if group.action == Action::RemoveFromSafe { " (`GET`, `HEAD`, `OPTIONS`, `TRACE` only)" } else { "" };
        let prefixes = list(group.prefixes.iter().map(|name| format!("{name}*")));
        let names = list(group.names.iter().map(ToString::to_string));
        let _ = writeln!(text, "| {}{when}: {} | {names} | {prefixes} |", group.title, group.reason);
    }
    let hops = list(HOP_BY_HOP.iter().map(ToString::to_string));
    let kept = list(NEVER_OF_ONE_CONNECTION.iter().map(ToString::to_string));
    let _ = writeln!(
        text,
        "| what belongs to one connection: RFC 9110 section 7.6.1 | {hops}, and what `Connection` names, except \
         {kept} | |"
    );
    let own = list(EXACT_SPELLINGS.iter().map(ToString::to_string));
    let _ = writeln!(text, "| another spelling of what the gateway reads | of {own} | |");
    text += "| the token | `Authorization` with a Tenure token; the token's cookies in `Cookie`; its entry in \
             `Sec-WebSocket-Protocol` | |\n";
    text += "| trailers | all, because they are not checked | |\n";
    text += "\n| in the response | |\n|---|---|\n";
    rows(&mut text, &SET_ON_RESPONSES);
    let _ = writeln!(text, "| {hops}, and what `Connection` names | removed |\n| trailers | removed |");
    text
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.map(|name| code(&name)).collect::<Vec<_>>().join(", ")
}

/// Returns a name with the capitals that standards use.
fn code(name: &str) -> String {
    let mut text = String::from("`");
    let mut begins = true;
    for letter in name.chars() {
        text.push(if begins { letter.to_ascii_uppercase() } else { letter });
        begins = letter == '-';
    }
    text + "`"
}

#[cfg(test)]
mod tests;
