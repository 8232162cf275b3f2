//! Header fields by name: which a request brings to the upstream, which are taken away, and which the gateway sets. One
//! table, by which the code goes and from which the documentation is written.

use std::fmt::Write as _;
use std::sync::LazyLock;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName, ORIGIN,
    PROXY_AUTHORIZATION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};
use rustc_hash::FxHashMap;

use crate::options::Options;
use crate::peer::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::request_id::X_REQUEST_ID;

pub(crate) const X_TENURE_SESSION: HeaderName = HeaderName::from_static("x-tenure-session");
pub(crate) const X_TENURE_DEVICE: HeaderName = HeaderName::from_static("x-tenure-device");
/// Tells a client that its token should be rotated now.
pub(crate) const TENURE_ROTATE: HeaderName = HeaderName::from_static("tenure-rotate");

/// What becomes of a field of a request on its way to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Removed,
    /// Removed from a request whose method changes nothing.
    RemovedFromSafe,
}

/// Fields that share a fate for one reason.
struct Group {
    what: &'static str,
    why: &'static str,
    fate: Fate,
    names: &'static [&'static str],
    beginnings: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        what: "who the client is",
        why: "only the gateway says that",
        fate: Fate::Removed,
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
        beginnings: &[
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
    Group {
        what: "where the request came from",
        why: "the gateway sets its own fields for that; from a trusted proxy it reads `X-Forwarded-For`, \
              `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Request-Id`, and the rest may be the client's",
        fate: Fate::Removed,
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
        beginnings: &["x-forwarded-"],
    },
    Group {
        what: "a path other than the request line's",
        why: "the gateway judges the path in the request line (`X-Forwarded-Uri`, `-Path` and `-Prefix` are removed \
              as above)",
        fate: Fate::Removed,
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
        beginnings: &[],
    },
    Group {
        what: "a method other than the request line's",
        why: "a cookie is enough for requests that change nothing; on `POST` and other changes they pass",
        fate: Fate::RemovedFromSafe,
        names: &["x-http-method", "x-http-method-override", "x-method-override"],
        beginnings: &[],
    },
    Group {
        what: "a variable of the environment",
        why: "CGI turns it into `HTTP_PROXY`",
        fate: Fate::Removed,
        names: &["proxy"],
        beginnings: &[],
    },
];

/// Fields of one connection: RFC 9110 section 7.6.1, and those that old software sends besides.
pub(crate) static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that `Connection` takes away from nobody: without them a request is another one.
pub(crate) static NEVER_OF_ONE_CONNECTION: [HeaderName; 1] = [HOST];

/// Fields that the gateway reads, sets or takes away under this spelling; any other one is taken away.
static OWN: [HeaderName; 14] = [
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

/// A field that the gateway sets, and what stands in it.
struct Set {
    name: HeaderName,
    what: &'static str,
}

/// What the upstream is told of every request.
static TOLD: [Set; 5] = [
    Set { name: HOST, what: "as the client sent it; the upstream's own if there was none (HTTP/1.0)" },
    Set { name: X_FORWARDED_FOR, what: "the client's address, and the trusted proxy's behind it" },
    Set { name: X_FORWARDED_PROTO, what: "`https` or `http`: how the client connected" },
    Set { name: X_FORWARDED_HOST, what: "the host that the client asked for" },
    Set { name: X_REQUEST_ID, what: "new, or the trusted proxy's" },
];

/// What the upstream is told of a session, and not on public paths. The user's own field comes before these.
static TOLD_OF_SESSIONS: [Set; 2] =
    [Set { name: X_TENURE_DEVICE, what: "the device's id" }, Set { name: X_TENURE_SESSION, what: "the session's id" }];

/// What the client is told with the upstream's answer.
static ANSWERED: [Set; 4] = [
    Set { name: X_REQUEST_ID, what: "set: the same as the upstream got" },
    Set { name: TENURE_ROTATE, what: "removed; set to `due` if the token should be rotated" },
    Set {
        name: SET_COOKIE,
        what: "passed, except the token's cookies; the gateway's own with `gateway.auto_rotate_cookies`",
    },
    Set {
        name: STRICT_TRANSPORT_SECURITY,
        what: "passed; if the gateway speaks TLS and the upstream sent none, set by `gateway.hsts`",
    },
];

/// The longest name that can be one of the table's.
const LONGEST: usize = 96;

/// Letters and digits of a name, in lower case. Servers that follow CGI take `-` and `_` for the same, and some all
/// else as well.
fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase())
}

fn fold(name: &str) -> Box<[u8]> {
    letters(name).collect()
}

/// What the table says of a name.
enum Rule {
    Of(Fate),
    /// It is the gateway's own, and this is how it is spelled.
    Own(HeaderName),
}

/// The table, ready to be asked.
struct Rules {
    /// Asked with names of any client's making; the table is fixed, so none of them can make it slow.
    names: FxHashMap<Box<[u8]>, Rule>,
    beginnings: Vec<(Box<[u8]>, Fate)>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let own = OWN.iter().chain(&HOP_BY_HOP).map(|name| (fold(name.as_str()), Rule::Own(name.clone())));
    let of = |group: &'static Group| group.names.iter().map(|name| (fold(name), Rule::Of(group.fate)));
    let beginnings = GROUPS.iter().flat_map(|group| group.beginnings.iter().map(|name| (fold(name), group.fate)));
    Rules { names: own.chain(GROUPS.iter().flat_map(of)).collect(), beginnings: beginnings.collect() }
});

/// Whether two names are the same to a server that looks at letters and digits only.
fn are_alike(one: &HeaderName, other: &HeaderName) -> bool {
    letters(one.as_str()).eq(letters(other.as_str()))
}

fn fate(name: &HeaderName, options: &Options) -> Fate {
    let twin = |header: &HeaderName| header != name && are_alike(header, name);
    if are_alike(name, &options.user_header) || options.upstream_auth.as_ref().is_some_and(|auth| twin(&auth.header)) {
        return Fate::Removed;
    }
    // A longer one is none of the table's names, and begins as its first letters do.
    let mut room = [0; LONGEST];
    let mut length = 0;
    for (place, letter) in room.iter_mut().zip(letters(name.as_str())) {
        *place = letter;
        length += 1;
    }
    let folded = &room[..length];
    match RULES.names.get(folded) {
        Some(Rule::Of(fate)) => return *fate,
        Some(Rule::Own(own)) => return if own == name { Fate::Passes } else { Fate::Removed },
        None => {}
    }
    // Most names are told apart by their first letter.
    let begins = |beginning: &[u8]| folded.first() == beginning.first() && folded.starts_with(beginning);
    let begun = RULES.beginnings.iter().find(|(beginning, _)| begins(beginning));
    begun.map_or(Fate::Passes, |(_, fate)| *fate)
}

/// Whether an operator may have the gateway set a field to something of its own: none that frames a message, belongs to one
/// connection or to the client, or says something else already.
#[must_use]
pub fn can_be_set(name: &HeaderName) -> bool {
    let told = TOLD.iter().chain(&TOLD_OF_SESSIONS).map(|set| &set.name);
    let own = OWN.iter().filter(|own| **own != AUTHORIZATION);
    !told.chain(own).chain(&HOP_BY_HOP).any(|taken| are_alike(taken, name))
}

/// Removes what nobody may say, whoever it comes from.
pub(crate) fn strip_claims(headers: &mut HeaderMap, method: &Method, options: &Options) {
    remove_fields(headers, |name| match fate(name, options) {
        Fate::Passes => false,
        Fate::Removed => true,
        Fate::RemovedFromSafe => method.is_safe(),
    });
}

/// Removes the fields whose names are doomed. Nothing is hashed or copied where nothing is to go, as with most messages.
pub(crate) fn remove_fields(headers: &mut HeaderMap, doomed: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| doomed(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The table in Markdown, for docs/gateway.md.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| set in every request | |\n|---|---|\n");
    let rows = |text: &mut String, fields: &[Set]| {
        for field in fields {
            let _ = writeln!(text, "| {} | {} |", code(field.name.as_str()), field.what);
        }
    };
    rows(&mut text, &TOLD);
    text += "\n| set with a session, not on public paths | |\n|---|---|\n";
    text += "| `X-Forwarded-User`, or `gateway.user_header` | the subject |\n";
    rows(&mut text, &TOLD_OF_SESSIONS);
    text += "| the field of `gateway.upstream_auth_header` | the upstream's own secret |\n";
    text += "\n| removed from every request | by name | by prefix |\n|---|---|---|\n";
    for group in GROUPS {
        let when = if group.fate == Fate::RemovedFromSafe { " (`GET`, `HEAD`, `OPTIONS`, `TRACE` only)" } else { "" };
        let beginnings = list(group.beginnings.iter().map(|name| format!("{name}*")));
        let names = list(group.names.iter().map(ToString::to_string));
        let _ = writeln!(text, "| {}{when}: {} | {names} | {beginnings} |", group.what, group.why);
    }
    let hops = list(HOP_BY_HOP.iter().map(ToString::to_string));
    let kept = list(NEVER_OF_ONE_CONNECTION.iter().map(ToString::to_string));
    let _ = writeln!(
        text,
        "| what belongs to one connection: RFC 9110 section 7.6.1 | {hops}, and what `Connection` names, except \
         {kept} | |"
    );
    let own = list(OWN.iter().map(ToString::to_string));
    let _ = writeln!(text, "| another spelling of what the gateway reads | of {own} | |");
    text += "| the token | `Authorization` with a Tenure token; the token's cookies in `Cookie`; its entry in \
             `Sec-WebSocket-Protocol` | |\n";
    text += "| trailers | all: nobody has checked them | |\n";
    text += "\n| in the response | |\n|---|---|\n";
    rows(&mut text, &ANSWERED);
    let _ = writeln!(text, "| {hops}, and what `Connection` names | removed |\n| trailers | removed |");
    text
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.map(|name| code(&name)).collect::<Vec<_>>().join(", ")
}

/// A name as standards write it.
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
