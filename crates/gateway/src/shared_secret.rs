//! Secrets that operators share with programs: the admin secret, the enrolment secret, the upstream's token.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use tenure_tower::Problem;
use tenure_tower::request::peer::Peer;

/// A shared secret. Does not print, is wiped when dropped, and is compared in constant time.
#[derive(Clone)]
pub struct SharedSecret {
    text: Zeroizing<String>,
    digest: [u8; 32],
}

impl SharedSecret {
    /// Takes a secret as it was read, without the white space around it. `None` where nothing is left, or where it
    /// has characters that no HTTP header can carry.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        fits.then(|| Self { text: Zeroizing::new(text.to_owned()), digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// Whether `presented` is the secret. Takes as long for every text of one length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        // Digests have one length, so that a comparison tells nothing of the secret's.
        let presented: [u8; 32] = Sha256::digest(presented).into();
        presented.ct_eq(&self.digest).into()
    }

    /// Asks whoever shares the secret for it. It is looked at first: what is right is let in however much was guessed from
    /// there. `note` counts a wrong one, and says how long whoever showed it is locked out.
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
                    tracing::warn!(address = %peer.address, remote = %peer.remote, "somebody sent a wrong secret");
                    Err(Problem::Secret)
                }
            },
            // Nothing was guessed.
            None => Err(Problem::Secret),
        }
    }

    /// The text itself. Whoever calls this answers for where it goes.
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

    /// Compiles only where the type has no `==`: with one there would be two `some` to choose from.
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
