//! Tokens, their texts, and the digests of them that a store may keep.
//!
//! ```text
//! tnr_ k3f90000000000000000 _ <43 base62: the 256-bit secret> <6 base62: CRC-32 of all before it>
//! ```
//! The prefix and the checksum let a secret scanner or a check for typing errors work offline. They add no security.
//! The first half of the secret (its *family*) is drawn once per session, the second half at each rotation. So a
//! replaced token of any age is recognised by its family, and no history of tokens has to be kept.
//!
//! A secret has 256 random bits, and each rotation draws 128 of them anew. OWASP ASVS 5.0 (7.2.3) asks for at least
//! 128.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base62;
use crate::id::SessionId;

const PREFIX: &[u8; 4] = b"tnr_";
const ID_AT: usize = 4;
const SECRET_AT: usize = 25;
const SUM_AT: usize = SECRET_AT + base62::WIDE;
const LENGTH: usize = SUM_AT + base62::NARROW;

/// The reason why a text is not a token. The message contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text does not start with `tnr_`.
    #[error("a token starts with tnr_")]
    Prefix,
    /// The text is too short or too long.
    #[error("a token has {LENGTH} characters, this has {0}")]
    Length(usize),
    /// The text has characters that a token cannot have in that place, or a number that is out of range.
    #[error("the token has characters that no token has in that place")]
    Characters,
    /// The checksum differs: a character was mistyped or lost.
    #[error("the token's checksum is wrong; a character was changed or lost on the way")]
    Checksum,
}

/// The half of a token's secret that all tokens of a session share: 128 random bits, drawn once per session. A store
/// keeps only its digest.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Family([u8; 16]);

/// The half of a token's secret that each rotation replaces: 128 random bits, drawn at issue and at each rotation.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RotationSecret([u8; 16]);

impl Family {
    /// Makes the half from 16 bytes of the operating system's random source.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl RotationSecret {
    /// Makes the half from 16 bytes of the operating system's random source.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }
}

/// The 256 secret bits of a token. `Debug` does not print them, and they are wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Makes a secret from its two halves.
    #[must_use]
    pub fn new(family: &Family, rotation_secret: &RotationSecret) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&family.0);
        bytes[16..].copy_from_slice(&rotation_secret.0);
        Self(bytes)
    }

    /// Returns the half that all tokens of one session share.
    #[must_use]
    pub fn family(&self) -> Family {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        Family(half)
    }

    /// Returns the SHA-256 digest of the whole secret.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.0).into())
    }
}

impl Family {
    /// Returns the SHA-256 digest of the family half.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.0).into())
    }
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}
redacted!(Family, RotationSecret, Secret, Digest, TokenText);

/// The SHA-256 digest of a secret, which is all that a store keeps of it. Digests are compared in constant time, and
/// `Debug` does not print them.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Makes a digest from its bytes in a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the digest, for a store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

/// A token as a client presents it: the session that it names, and the secret that must prove it.
#[derive(Clone, Debug)]
pub struct Token {
    session: SessionId,
    secret: Secret,
}

/// The text of a token, from its creation until its owner has it. It is wiped when dropped. It stays in one place in
/// memory, so that moving the value leaves no copy behind.
pub struct TokenText(Box<Zeroizing<[u8; LENGTH]>>);

impl ZeroizeOnDrop for TokenText {}

impl TokenText {
    /// Returns the token's text, which is secret. The caller is responsible for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        // Only ASCII is ever written into it.
        std::str::from_utf8(&**self.0).unwrap_or_default()
    }
}

/// What can be found out about a token's text offline, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInspection {
    /// Whether the text starts with `tnr_`.
    pub prefix_ok: bool,
    /// The session that the token names, if it can be read.
    pub session: Option<SessionId>,
    /// Whether the checksum agrees with the rest.
    pub checksum_ok: bool,
    /// The reason why the text is not a token, if it is not.
    pub problem: Option<TokenError>,
}

impl Token {
    /// The prefix of every token.
    pub const PREFIX: &str = "tnr_";
    /// The number of characters of a token.
    pub const LENGTH: usize = LENGTH;

    /// Makes a token from its session and its secret.
    #[must_use]
    pub const fn new(session: SessionId, secret: Secret) -> Self {
        Self { session, secret }
    }

    /// Parses a token. White space around it is not allowed.
    ///
    /// # Errors
    /// [`TokenError`] that says what is wrong. It contains nothing of the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.as_bytes();
        if !text.starts_with(PREFIX) {
            return Err(TokenError::Prefix);
        }
        let text: &[u8; LENGTH] = text.try_into().map_err(|_| TokenError::Length(text.len()))?;
        let (body, sum) = split(text);
        if sum.and_then(base62::decode_narrow) != Some(crc32fast::hash(body)) {
            let plain = text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            return Err(if plain { TokenError::Checksum } else { TokenError::Characters });
        }
        if text[SECRET_AT - 1] != b'_' {
            return Err(TokenError::Characters);
        }
        let session = SessionId::from_ascii(&text[ID_AT..SECRET_AT - 1]).map_err(|_| TokenError::Characters)?;
        let secret = text[SECRET_AT..SUM_AT].first_chunk().and_then(base62::decode_wide);
        Ok(Self { session, secret: Secret(secret.ok_or(TokenError::Characters)?) })
    }

    /// Returns what can be found out about `text` without a store and without its secret.
    #[must_use]
    pub fn inspect(text: &str) -> TokenInspection {
        let bytes = text.as_bytes();
        let whole: Option<&[u8; LENGTH]> = bytes.try_into().ok();
        let checksum_ok = whole.is_some_and(|whole| {
            let (body, sum) = split(whole);
            base62::is_alphabet(&whole[SECRET_AT..])
                && sum.and_then(base62::decode_narrow) == Some(crc32fast::hash(body))
        });
        TokenInspection {
            prefix_ok: bytes.starts_with(PREFIX),
            session: bytes.get(ID_AT..SECRET_AT - 1).and_then(|id| SessionId::from_ascii(id).ok()),
            checksum_ok,
            problem: Self::parse(text).err(),
        }
    }

    /// Returns the session that the token names.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Returns the token's secret.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the token that replaces this one in a rotation: the same session and family with a new second half.
    #[must_use]
    pub fn successor(&self, rotation_secret: &RotationSecret) -> Self {
        Self { session: self.session, secret: Secret::new(&self.secret.family(), rotation_secret) }
    }

    /// Returns the token's text, to hand it to its owner.
    #[must_use]
    pub fn to_text(&self) -> TokenText {
        let mut text = Box::new(Zeroizing::new([0; LENGTH]));
        text[..ID_AT].copy_from_slice(PREFIX);
        text[ID_AT..SECRET_AT - 1].copy_from_slice(&self.session.to_ascii());
        text[SECRET_AT - 1] = b'_';
        let mut secret = Zeroizing::new([0; base62::WIDE]);
        base62::encode_wide(&self.secret.0, &mut secret);
        text[SECRET_AT..SUM_AT].copy_from_slice(&*secret);
        let mut sum = [0; base62::NARROW];
        base62::encode_narrow(crc32fast::hash(&text[..SUM_AT]), &mut sum);
        text[SUM_AT..].copy_from_slice(&sum);
        TokenText(text)
    }
}

fn split(text: &[u8; LENGTH]) -> (&[u8], Option<&[u8; base62::NARROW]>) {
    let (body, sum) = text.split_at(SUM_AT);
    (body, sum.first_chunk())
}
