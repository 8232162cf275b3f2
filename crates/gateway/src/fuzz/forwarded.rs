//! Public paths, compared with how four kinds of servers resolve the same octets.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::resolve;
use tenure_tower::admission::forward_auth::{self, AppendedTarget, TARGET_HEADERS};
use tenure_tower::{EnforcementConfig, PublicPath};

/// Reads bytes as a target in every place that one comes in. How often it is public.
///
/// # Panics
/// Where it is public, and some server finds a path in it that is not.
pub fn forwarded(bytes: &[u8]) -> usize {
    judge(bytes, &config())
}

const BELOW: &str = "/public/";
const EXACT: &str = "/health";

/// Returns the settings of a gateway with public paths.
pub(crate) fn config() -> EnforcementConfig {
    let public_paths = vec![PublicPath(BELOW.to_owned()), PublicPath(EXACT.to_owned())];
    EnforcementConfig { public_paths, ..EnforcementConfig::default() }
}

/// Whether a resolved path is one that the operator opened.
fn is_open(path: &[u8]) -> bool {
    path == EXACT.as_bytes() || path.starts_with(BELOW.as_bytes()) || path == BELOW.trim_end_matches('/').as_bytes()
}

/// The target that the other server resolves, where a proxy says the whole URL: scheme and host are the proxy's words.
fn behind_host(url: &[u8]) -> &[u8] {
    let lower = url.to_ascii_lowercase();
    let start = [&b"http://"[..], b"https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(start) = start else { return url };
    let rest = &url[start.len()..];
    rest.iter().position(|byte| *byte == b'/').map_or(&b""[..], |at| &rest[at..])
}

#[track_caller]
fn hold(what: &str, target: &[u8]) {
    let odd = |byte: &u8| matches!(byte, b'#' | b'\\') || !byte.is_ascii_graphic();
    assert!(!target.iter().any(odd), "{what}: {:?} is public", String::from_utf8_lossy(target));
    for (server, path) in resolve::all(target) {
        let (target, path) = (String::from_utf8_lossy(target), String::from_utf8_lossy(&path).into_owned());
        assert!(is_open(path.as_bytes()), "{what}: {target:?} is public, and {path:?} {server}");
    }
}

/// Judges a text in every place that it may come in, and resolves it where it is public. How often it was.
///
/// # Panics
/// Where it is public, and some server finds a path in it that is not.
pub(crate) fn judge(text: &[u8], config: &EnforcementConfig) -> usize {
    judge_named(text, config) + judge_own(text, config)
}

/// The same where a proxy names it.
pub(crate) fn judge_named(text: &[u8], config: &EnforcementConfig) -> usize {
    let mut public = 0;
    for name in TARGET_HEADERS {
        let Ok(value) = HeaderValue::from_bytes(text) else { continue };
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
        if forward_auth::is_public(&headers, None, config) {
            public += 1;
            let target = behind_host(text);
            let before = &text[..text.len() - target.len()];
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]/".contains(byte);
            assert!(before.iter().all(plain), "{name}: {:?} is public", String::from_utf8_lossy(text));
            hold(name, target);
        }
    }
    if let Ok(text) = std::str::from_utf8(text) {
        let headers = HeaderMap::new();
        if forward_auth::is_public(&headers, Some(AppendedTarget::Whole(text)), config) {
            public += 1;
            hold("appended", text.as_bytes());
        }
    }
    public
}

/// The same where it is the request's own target.
fn judge_own(text: &[u8], config: &EnforcementConfig) -> usize {
    let mut public = 0;
    if config.is_public(text) {
        public += 1;
        hold("as octets", text);
    }
    // In proxy mode what was parsed is judged and goes on. A `#` has been refused before.
    if !text.contains(&b'#')
        && let Ok(uri) = Uri::try_from(text)
        && config.is_public_uri(&uri)
    {
        public += 1;
        hold("parsed", uri.path_and_query().map_or(&b""[..], |target| target.as_str().as_bytes()));
    }
    public
}

#[cfg(test)]
mod tests;
