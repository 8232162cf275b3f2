//! The request id, which identifies a request in the logs of every server that handles it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue};

use tenure_tower::request::header_fields::X_REQUEST_ID;
use tenure_tower::request::headers::HeaderValues;

/// The most characters of an id that is kept.
const MAX_LENGTH: usize = 128;

/// A key that differs from process to process, so that two processes make different ids. It is not a secret.
static PROCESS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Returns a request's id: the one that a trusted proxy gave it, or a new one.
pub(crate) fn of(headers: &HeaderMap, trusted: bool, values: &mut HeaderValues) -> HeaderValue {
    let given = headers.get(X_REQUEST_ID).filter(|id| trusted && is_valid(id));
    given.cloned().unwrap_or_else(|| generate(values))
}

fn is_valid(id: &HeaderValue) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn generate(values: &mut HeaderValues) -> HeaderValue {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    values.of(format_args!("{:016x}", PROCESS.hash_one(count))).unwrap_or_else(|| HeaderValue::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_from_a_trusted_proxy_only_and_only_if_it_is_valid() {
        let given = |id: &str| HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::try_from(id).unwrap())]);
        let of = |headers: &HeaderMap, trusted| of(headers, trusted, &mut HeaderValues::default());
        assert_eq!(of(&given("abc-1"), true), "abc-1");
        assert_ne!(of(&given("abc-1"), false), "abc-1");
        for odd in ["", "two words", &"x".repeat(129)] {
            assert_ne!(of(&given(odd), true), odd);
        }
        assert_ne!(of(&HeaderMap::new(), true), of(&HeaderMap::new(), true));
    }
}
