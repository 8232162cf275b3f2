//! Shared secrets: the admin secret, the enrolment secret, the upstream's secret.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use tenure_tower::Problem;
use tenure_tower::request::peer::Peer;

/// A shared secret. It does not print, is wiped when dropped, and is compared in constant time.
#[derive(Clone)]
pub struct SharedSecret {
    text: Zeroizing<String>,
    digest: [u8; 32],
}

impl SharedSecret {
    /// Makes a secret from a text, without the white space around it. Returns `None` if nothing is left, or if it has
    /// characters that no HTTP header can carry.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        fits.then(|| Self { text: Zeroizing::new(text.to_owned()), digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// Whether `presented` is the secret. The time depends only on the length of `presented`.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        // Digests have one length, so the comparison reveals nothing about the secret's length.
        let presented: [u8; 32] = Sha256::digest(presented).into();
        presented.ct_eq(&self.digest).into()
    }

    /// Requires the secret. The right secret is accepted however many guesses came from the address. `note` counts a
    /// wrong one, and returns how long its client is locked out.
    ///
    /// # Errors
    /// [`Problem::Secret`], [`Problem::TooMany`].
    pub(crate) fn check(
        &self,
        shown: Option<&str>,
        peer: &Peer,
        record_failure: impl FnOnce(&Peer) -> Option<Duration>,
    ) -> Result<(), Problem> {
        match shown {
            Some(text) if self.matches(text.as_bytes()) => Ok(()),
            Some(_) => match record_failure(peer) {
                Some(remaining) => Err(Problem::too_many(remaining)),
                None => {
                    tracing::warn!(address = %peer.address, remote = %peer.remote, "a client sent a wrong secret");
                    Err(Problem::Secret)
                }
            },
            // There was no secret, so it is not a guess.
            None => Err(Problem::Secret),
        }
    }

    /// Returns the text. The caller is responsible for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This compiles only if the type has no `==`: with one, `some` would be ambiguous.
    const _: fn() = || {
        struct Comparable;
        trait Some<Kind> {
            fn some() {}
        }
        impl<T: ?Sized> Some<()> for T {}
        impl<T: ?Sized + PartialEq> Some<Comparable> for T {}
        let _ = <SharedSecret as Some<_>>::some;
    };

    #[test]
    fn a_secret_is_compared_and_never_printed() {
        let secret = SharedSecret::new(" s3cret of the house\n").unwrap();
        assert!(secret.matches(b"s3cret of the house"));
        assert!(!secret.matches(b"s3cret of the hous"));
        assert!(!secret.matches(b""));
        assert_eq!(format!("{secret:?}"), "SharedSecret(redacted)");
        assert!(SharedSecret::new("\n").is_none());
        assert!(SharedSecret::new("two\nlines").is_none());
    }
}
