//! One table of hostile requests, and the real proxies with the files of docs/forward-auth in front of an app that keeps
//! the heads it got as they came. Whatever is asked, the app never sees a token, never an identity that Tenure did not
//! give, and nothing without a session outside the public path.

use tenure_domain::Policy;
use tenure_tower::PublicPath;

use crate::support::programs::{Other, Program};
use crate::support::site::GatewayFixture;
use crate::support::witness::{Witness, ask, ask_http2, folded, lines, with_token};

/// What has to become of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expectation {
    /// It reaches the app, as alice's.
    Alice,
    /// It does that, or is refused.
    AliceOrNone,
    /// It reaches the app, as nobody's, and on the public path only; or is refused.
    PublicOrNone,
    /// It does not reach the app.
    None,
}
use Expectation::{Alice, AliceOrNone, None, PublicOrNone};

/// A request line's target and the lines of its header, but for `Host`. `{T}` is a token that holds.
type Case = (Expectation, &'static [u8], &'static [&'static [u8]]);

const BEARER: &[u8] = b"Authorization: Bearer {T}";
const KEY: &[u8] = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &[u8] = b"Sec-WebSocket-Version: 13";
const SOCKET: &[u8] = b"Upgrade: websocket";
const UPGRADE: &[u8] = b"Connection: Upgrade";
const FOREIGN: &[u8] = b"Origin: http://evil.test";

/// Where the token stands, and what stands beside it.
const TOKENS: &[Case] = &[
    (Alice, b"/", &[BEARER]),
    (AliceOrNone, b"/", &[b"authorization:bearer   {T} "]),
    (AliceOrNone, b"/", &[BEARER, BEARER]),
    (AliceOrNone, b"/", &[BEARER, b"Authorization: Basic YTpi"]),
    (AliceOrNone, b"/", &[b"Authorization: Basic YTpi", BEARER]),
    (Alice, b"/", &[b"Cookie: tenure={T}", b"Authorization: Basic YTpi"]),
    (Alice, b"/", &[b"Cookie: tenure={T}"]),
    (Alice, b"/", &[b"Cookie: __Host-tenure={T}", BEARER]),
    (Alice, b"/", &[b"Cookie: a=1; tenure={T}; b=2"]),
    (Alice, b"/", &[b"Cookie: tenure={T}; tenure={T}"]),
    (Alice, b"/", &[b"Cookie: a=1; tenure={T}; b=2; tenure={T}; c=3; tenure={T}; d=4; tenure={T}; e=5"]),
    (Alice, b"/", &[b"Cookie: tenure={T};tenure={T};tenure={T}"]),
    (AliceOrNone, b"/", &[b"Cookie: a=1; tenure={T}", b"Cookie: tenure={T}; b=2"]),
    (AliceOrNone, b"/", &[b"Cookie: tenure={T}; __Host-tenure={T}"]),
    (AliceOrNone, b"/", &[b"Cookie: tenure={T};"]),
    (AliceOrNone, b"/", &[b"Cookie: ;; ;tenure={T};;"]),
    (AliceOrNone, b"/", &[b"Cookie: tenure ={T}"]),
    (AliceOrNone, b"/", &[b"Cookie:\ttenure\t=\t{T}\t"]),
    (AliceOrNone, b"/", &[b"Cookie: tenure=\"{T}\""]),
    (AliceOrNone, b"/", &[b"Cookie: a=\"1; tenure={T}; 2\""]),
    (AliceOrNone, b"/", &[b"Cookie: a=1,tenure={T}"]),
    (AliceOrNone, b"/", &[b"Cookie: $Version=1; tenure={T}; $Path=/"]),
    (Alice, b"/", &[BEARER, b"Cookie: Tenure={T}; TENURE={T}"]),
    (AliceOrNone, b"/", &[b"Cookie: name=J\xc3\xb6rg; tenure={T}"]),
    (AliceOrNone, b"/", &[b"Cookie: tenure={T}; name=\xff\xfe"]),
    (AliceOrNone, b"/", &[BEARER, b"Cookie: \x80tenure={T}; \xfftenure={T}\xff; tenure={T}"]),
    (PublicOrNone, b"/open/a", &[b"Cookie: name=\xff; tenure={T}; tenure={T}"]),
    (PublicOrNone, b"/open/a", &[BEARER, b"Cookie: a=1; tenure={T}; tenure={T}"]),
    (PublicOrNone, b"/open/a", &[b"Sec-WebSocket-Protocol: a, tenure.bearer.{T}"]),
    (Alice, b"/", &[b"Sec-WebSocket-Protocol: chat, tenure.bearer.{T}", SOCKET, UPGRADE, KEY, VERSION]),
    (Alice, b"/", &[b"Sec-WebSocket-Protocol: tenure.bearer.{T},chat", SOCKET, UPGRADE, KEY, VERSION]),
    (AliceOrNone, b"/", &[b"Sec-WebSocket-Protocol: tenure.bearer.{T}", SOCKET, UPGRADE, KEY, VERSION]),
    (
        AliceOrNone,
        b"/",
        &[
            b"Sec-WebSocket-Protocol: tenure.bearer.{T}, tenure.bearer.{T}, x",
            b"Sec-WebSocket-Protocol: y, tenure.bearer.{T}",
            SOCKET,
            UPGRADE,
            KEY,
            VERSION,
        ],
    ),
    (AliceOrNone, b"/", &[BEARER, b"Sec-WebSocket-Protocol: \xff, tenure.bearer.{T}", SOCKET, UPGRADE, KEY, VERSION]),
];

/// What a client says of itself, and how it takes away what was said of it.
const CLAIMS: &[Case] = &[
    (Alice, b"/", &[BEARER, b"X-Forwarded-User: root", b"X-Tenure-Session: 1", b"X-Tenure-Device: root"]),
    (Alice, b"/", &[BEARER, b"x-forwarded-USER: root", b"X-FORWARDED-USER: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X_Forwarded_User: root", b"X_Tenure_Session: 1", b"X_Tenure_Device: root"]),
    (AliceOrNone, b"/", &[b"X_Forwarded_User: root", BEARER, b"X-Forwarded_User: root", b"X_Forwarded-User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X.Forwarded.User: root", b"X.Tenure-Device: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X!Forwarded#User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X$Forwarded%User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X&Forwarded'User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X*Forwarded+User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X^Forwarded`User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X|Forwarded~User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X-Forwarded-User : root"]),
    (AliceOrNone, b"/", &[BEARER, b"X-Forwarded-User\x00: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X-A: 1\r\n X-Forwarded-User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X-A: 1\rX-Forwarded-User: root"]),
    (AliceOrNone, b"/", &[BEARER, b"X-A: 1\nX-Forwarded-User: root"]),
    (Alice, b"/", &[BEARER, b"Remote-User: root", b"X-Forwarded-Email: root", b"X-WebAuth-User: root"]),
    (Alice, b"/", &[BEARER, b"X-Forwarded-Groups: root", b"X-Forwarded-Preferred-Username: root"]),
    (PublicOrNone, b"/open/a", &[b"X-Forwarded-User: root", b"X_Forwarded_User: root", b"X.Tenure.Device: root"]),
    (PublicOrNone, b"/open/a", &[BEARER, b"Connection: X-Forwarded-User", b"X-Forwarded-User: root"]),
    (Alice, b"/", &[BEARER, b"Connection: X-Forwarded-User"]),
    (Alice, b"/", &[BEARER, b"Connection: close, x-forwarded-user, X-Tenure-Session,X-Tenure-Device"]),
    (Alice, b"/", &[BEARER, b"Connection: X-Forwarded-User", b"Connection: X-Tenure-Session"]),
    (AliceOrNone, b"/", &[BEARER, b"Connection: Authorization, Cookie", b"Cookie: tenure={T}; tenure={T}"]),
    (AliceOrNone, b"/", &[BEARER, b"Connection: Cookie", b"Cookie: tenure={T}"]),
    (AliceOrNone, b"/", &[BEARER, b"Connection: X-Forwarded-For, X-Forwarded-Uri, X-Original-URI, X-Forwarded-Method"]),
    (Alice, b"/", &[BEARER, b"Connection: Upgrade, X-Forwarded-User", SOCKET, KEY, VERSION]),
    (None, b"/", &[b"Connection: X-Forwarded-Uri, X-Original-URI", b"X-Forwarded-Uri: /open/a"]),
    (Alice, b"/", &[BEARER, b"X-Forwarded-For: 6.6.6.6", b"X-Real-IP: 6.6.6.6", b"Forwarded: for=6.6.6.6"]),
    (AliceOrNone, b"/", &[BEARER, b"X_Forwarded_For: 6.6.6.6", b"X_Real.IP: 6.6.6.6"]),
    (Alice, b"/", &[BEARER, b"X-Forwarded-Host: evil.test", b"X-Forwarded-Proto: https"]),
    (PublicOrNone, b"/open/a", &[b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: 6.6.6.6, 127.0.0.1"]),
];

/// What is asked for, and what is said to be.
const TARGETS: &[Case] = &[
    (Alice, b"/a/b?c=d&e[]=%2F", &[BEARER]),
    (PublicOrNone, b"/open/a?b", &[]),
    (None, b"/", &[]),
    (None, b"/open/#/../../secret", &[]),
    (None, b"/open/a#/../../secret", &[]),
    (None, b"/open/a?b#/../../secret", &[]),
    (None, b"/open/%23/../../secret", &[]),
    (None, b"/#/../open/a", &[]),
    (AliceOrNone, b"/open/#/../../secret", &[BEARER]),
    (None, b"http://tenure.test/open/#/../../secret", &[]),
    (None, b"http://tenure.test/open/../secret", &[]),
    (None, b"http://tenure.test/secret?/open/", &[]),
    (PublicOrNone, b"http://tenure.test/open/a", &[]),
    (None, b"/open/../secret", &[]),
    (None, b"/open/./../secret", &[]),
    (None, b"/open/..", &[]),
    (None, b"/open/..?a", &[]),
    (None, b"/open/../open/../secret", &[]),
    (None, b"/open//../secret", &[]),
    (None, b"/open//..//../secret", &[]),
    (None, b"//open/../secret", &[]),
    (None, b"/open/%2e%2e/secret", &[]),
    (None, b"/open/.%2E/secret", &[]),
    (None, b"/open/..%2fsecret", &[]),
    (None, b"/open/%2e%2e%2fsecret", &[]),
    (None, b"/open/a%2f..%2f..%2fsecret", &[]),
    (None, b"/open/%252e%252e/secret", &[]),
    (None, b"/open/..%5csecret", &[]),
    (None, b"/open/..\\secret", &[]),
    (None, b"/open\\..\\secret", &[]),
    (None, b"/open/..;/secret", &[]),
    (None, b"/open/..;a=b/secret", &[]),
    (None, b"/open/..%3b/secret", &[]),
    (None, b"/open/..%00/secret", &[]),
    (None, b"/open/..\xff/../../secret", &[]),
    (None, b"/secret?x=/open/a", &[]),
    (None, b"/secret#/open/a", &[]),
    (None, b"/secret;/open/a", &[]),
    (None, b"/_tenure/../secret", &[]),
    (None, b"/_tenure/%2e%2e/secret", &[]),
    (None, b"/_tenure/auth/../../secret", &[]),
    (None, b"/_tenure/#/../../secret", &[]),
    (None, b"/open/../_tenure_auth", &[]),
    (None, b"/_tenure_auth", &[b"X-Original-URI: /open/a"]),
    (None, b"*", &[]),
    (None, b"open/a", &[]),
    (None, b"/secret", &[b"X-Original-URL: http://tenure.test/open/a", b"X-Original-URI: /open/a"]),
    (None, b"/secret", &[b"X-Rewrite-URL: /open/a", b"X-Forwarded-Uri: /open/a", b"X-Forwarded-Path: /open/a"]),
    (None, b"/secret", &[b"X_Original_URI: /open/a", b"X.Forwarded.Uri: /open/a", b"X_Rewrite_URL: /open/a"]),
    (None, b"/secret", &[b"X-Forwarded-Prefix: /open", b"X-Envoy-Original-Path: /open/a", b":path: /open/a"]),
    (Alice, b"/", &[BEARER, b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin", b"X-Forwarded-Uri: /admin"]),
    (PublicOrNone, b"/open/a", &[b"X-Original-URL: /secret", b"X-Rewrite-URL: /secret", b"X-Original-URI: /secret"]),
    (PublicOrNone, b"/open/a", &[b"X-Rewrite-URL: /secret", b"X_Rewrite_URL: /secret", b"X.Original.URL: /secret"]),
    (None, b"/", &[b"Cookie: tenure={T}", FOREIGN, SOCKET, UPGRADE, KEY, VERSION]),
    (None, b"/", &[b"Cookie: tenure={T}", FOREIGN, SOCKET, b"Connection: Upgrade, Origin, Upgrade", KEY, VERSION]),
    (AliceOrNone, b"/", &[BEARER, b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAA"]),
    (PublicOrNone, b"/open/a", &[b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAA"]),
    (
        PublicOrNone,
        b"/open/a",
        &[b"Upgrade: h2c", SOCKET, b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: A"],
    ),
    (PublicOrNone, b"/open/a", &[b"Upgrade: websocket, h2c", UPGRADE, b"HTTP2-Settings: AAA"]),
];

/// Changes that another site's page asks for with the browser's cookie.
const CHANGES: &[Case] = &[
    (None, b"/", &[b"Cookie: tenure={T}", FOREIGN]),
    (None, b"/", &[b"Cookie: tenure={T}", FOREIGN, b"X-Original-Method: GET", b"X-Forwarded-Method: GET"]),
    (None, b"/", &[b"Cookie: tenure={T}", FOREIGN, b"Connection: X-Original-Method, X-Forwarded-Method"]),
    (None, b"/", &[b"Cookie: tenure={T}", FOREIGN, b"X-Forwarded-Host: evil.test"]),
    (None, b"/", &[b"Cookie: tenure={T}", b"Sec-Fetch-Site: cross-site"]),
    (None, b"/?/open/", &[FOREIGN]),
    (Alice, b"/", &[b"Cookie: tenure={T}", b"Origin: http://tenure.test"]),
    (Alice, b"/", &[BEARER, FOREIGN]),
];

/// Identity, and what only the proxy says, by names without what is no letter or digit.
const IDENTITY: [(&str, &str); 3] = [
    ("xforwardeduser", "x-forwarded-user"),
    ("xtenuresession", "x-tenure-session"),
    ("xtenuredevice", "x-tenure-device"),
];
const FORBIDDEN: [&str; 15] = [
    "remoteuser",
    "remotegroups",
    "xforwardedemail",
    "xforwardedgroups",
    "xforwardedpreferredusername",
    "xwebauthuser",
    "xoriginalurl",
    "xoriginaluri",
    "xoriginalmethod",
    "xrewriteurl",
    "xforwardeduri",
    "xforwardedmethod",
    "xenvoyoriginalpath",
    "forwarded",
    "proxyauthorization",
];

/// Whether all readings of a target lie below the public path: decoded once, twice or not, with and without what stands
/// behind a `#`, with backslashes for slashes, without parameters of segments.
fn lies_below(target: &[u8]) -> bool {
    let origin = target.strip_prefix(b"http://").map_or(target, |rest| {
        let slash = rest.iter().position(|&octet| octet == b'/').unwrap_or(rest.len());
        &rest[slash..]
    });
    let path = origin.split(|&octet| octet == b'?').next().unwrap();
    let mut readings = vec![path.to_vec(), path.split(|&octet| octet == b'#').next().unwrap().to_vec()];
    for _ in 0..2 {
        let decoded: Vec<_> = readings.iter().map(|path| decode(path)).collect();
        readings.extend(decoded);
    }
    readings.iter().all(|path| {
        let text = String::from_utf8_lossy(path).replace('\\', "/");
        let mut segments = Vec::new();
        for segment in text.split('/').skip(1) {
            match segment.split([';', '\0']).next().unwrap() {
                ".." => drop(segments.pop()),
                "." | "" => {}
                name => segments.push(name),
            }
        }
        segments.first() == Some(&"open")
    })
}

fn decode(path: &[u8]) -> Vec<u8> {
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(&octet) = path.get(at) {
        let digits = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| octet == b'%') {
            Some(read) => (decoded.push(read), at += 3),
            _ => (decoded.push(octet), at += 1),
        };
    }
    decoded
}

/// What is wrong with what the app got.
fn faults(fate: Expectation, head: &[u8], told: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    let text = String::from_utf8_lossy(head).into_owned();
    let mut fault = |wrong: bool, what: &str| {
        if wrong {
            faults.push(what.to_owned());
        }
    };
    fault(text.contains("tnr_"), "the app sees the token");
    fault(text.contains("6.6.6.6"), "the app sees an address that the client made up");
    let fields = lines(head);
    for (name, value) in &fields {
        let folded = folded(name);
        fault(FORBIDDEN.contains(&&*folded), &format!("the app sees {name}"));
        let claim = IDENTITY.iter().any(|(known, _)| *known == folded);
        let given = told.iter().any(|(known, said)| name.eq_ignore_ascii_case(known) && value == said);
        fault(claim && !given, &format!("the app sees {name}: {value}"));
        fault(folded == "xforwardedproto" && value.contains("https"), "the app sees a scheme that the client made up");
        fault(folded == "xforwardedhost" && value.contains("evil"), "the app sees a host that the client made up");
        let upgrade = folded == "upgrade" && !value.eq_ignore_ascii_case("websocket");
        fault(upgrade, &format!("the app sees Upgrade: {value}"));
    }
    for (known, said) in told {
        let times = fields.iter().filter(|(name, value)| name.eq_ignore_ascii_case(known) && value == said).count();
        fault(times != 1, &format!("the app sees {known}: {said} {times} times"));
    }
    let target = head.split(|&octet| octet == b' ').nth(1).unwrap_or_default();
    fault(fate == PublicOrNone && !lies_below(target), "the app is reached without a session");
    fault(fate == None, "the app is reached");
    faults
}

fn request(method: &str, target: &[u8], fields: &[Vec<u8>]) -> Vec<u8> {
    let start = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: tenure.test\r\n"].concat();
    let lines = fields.iter().flat_map(|field| [field, &b"\r\n"[..]].concat());
    let end: &[u8] = if method == "POST" { b"Content-Length: 0\r\n\r\n" } else { b"\r\n" };
    start.into_iter().chain(lines).chain(end.iter().copied()).collect()
}

async fn withstands(program: Program) {
    let site = GatewayFixture::with(Option::None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let app = Witness::default();
    let other = Other::start(program, site.address, app.start().await).await;
    let (issued, token) = site.issue("laptop").await;
    let id = issued.session.id.to_string();
    let told = IDENTITY.map(|(_, name)| name).into_iter().zip(["alice", &*id, "laptop"]).collect::<Vec<_>>();

    let mut found = Vec::new();
    let methods = [("GET", TOKENS), ("GET", CLAIMS), ("GET", TARGETS), ("POST", CHANGES), ("DELETE", CHANGES)];
    for (method, cases) in methods {
        for (fate, target, fields) in cases {
            let told: &[_] = if matches!(fate, Alice | AliceOrNone) { &told } else { &[] };
            let fields: Vec<_> = fields.iter().map(|field| with_token(field, &token)).collect();
            let status = ask(other.address, &request(method, target, &fields)).await.0;
            let heads = app.take();
            let mut wrong: Vec<_> = heads.iter().flat_map(|head| faults(*fate, head, told)).collect();
            let silent = heads.is_empty() && (200..300).contains(&status) && !target.starts_with(b"/_tenure");
            if silent || heads.len() > 1 || (*fate == Alice && heads.is_empty()) {
                wrong.push(format!("the app got {} requests", heads.len()));
            }
            // HTTP/2 has no upgrade of this kind: what is left is a request like any other.
            if !fields.iter().any(|field| field.starts_with(b"Upgrade")) {
                ask_http2(other.http2, method, target, &fields).await;
                let heads = app.take();
                wrong.extend(heads.iter().flat_map(|head| faults(*fate, head, told)).map(|fault| fault + " (HTTP/2)"));
                let connection = fields.iter().any(|field| field.starts_with(b"Connection"));
                if heads.len() > 1 || (*fate == Alice && heads.is_empty() && !connection) {
                    wrong.push(format!("the app got {} requests over HTTP/2", heads.len()));
                }
            }
            if !wrong.is_empty() {
                let fields: Vec<_> = fields.iter().map(|field| field.escape_ascii().to_string()).collect();
                let heads: Vec<_> = heads.iter().map(|head| head.escape_ascii().to_string()).collect();
                let target = target.escape_ascii();
                found.push(format!("{method} {target} {fields:?}: {status}, {wrong:?}, {heads:#?}"));
            }
        }
    }
    assert!(found.is_empty(), "{program:?}: {} faults\n{}", found.len(), found.join("\n"));
    drop(other);
    site.stop().await;
}

#[tokio::test]
async fn nginx_withstands_hostile_requests() {
    withstands(Program::Nginx).await;
}

#[tokio::test]
async fn caddy_withstands_hostile_requests() {
    withstands(Program::Caddy).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Traefik: `cargo xtask proxies` brings it"]
async fn traefik_withstands_hostile_requests() {
    withstands(Program::Traefik).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Envoy: `cargo xtask proxies` brings it"]
async fn envoy_withstands_hostile_requests() {
    withstands(Program::Envoy).await;
}
