//! Session ids. They are public: safe to list and to log. A person needs to type only the first characters.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::text::DeviceId;

/// Crockford's base 32 in lower case, which has no i, l, o or u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 20;
const BITS: u32 = 100;
const RANDOM_BITS: u32 = 90;

/// The number of buckets that devices are spread over.
pub const BUCKETS: u16 = 1024;

const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut table = [0xff; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
}

/// The bucket of a device: SHA-256(device id), read as a big-endian number, modulo 1024.
///
/// Every session id of the device begins with it. So a store that is spread over machines finds a session, its device
/// and the device's other sessions in one place, from the id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// Returns the bucket of `device`.
    #[must_use]
    pub fn of(device: &DeviceId) -> Self {
        let digest = Sha256::digest(device.as_str().as_bytes());
        Self(u16::from_be_bytes([digest[30], digest[31]]) % BUCKETS)
    }

    /// Returns every bucket, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..BUCKETS).map(Self)
    }

    /// Returns the bucket's number, which is below [`BUCKETS`].
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Bucket {
    /// Writes the two characters with which the bucket's session ids begin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let characters = [ALPHABET[usize::from(self.0 >> 5)], ALPHABET[usize::from(self.0 & 31)]];
        f.pad(std::str::from_utf8(&characters).unwrap_or_default())
    }
}

/// The reason why a text is not a session id, or not the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text does not have 20 characters.
    #[error("a session id has {LENGTH} characters, this has {0}")]
    Length(usize),
    /// The prefix is empty, or longer than an id.
    #[error("the start of a session id has 1 to {LENGTH} characters, this has {0}")]
    PrefixLength(usize),
    /// The text has a character that is not in the alphabet.
    #[error("a session id has no {0:?}; its characters are 0-9 and a-z without i, l, o, u")]
    Character(char),
}

/// The id of a session: 20 characters of Crockford's base 32. The first two are the device's [`Bucket`], the other 18
/// are 90 random bits. An id is public and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// Makes an id from a bucket and 90 of these 96 random bits.
    #[must_use]
    pub const fn new(bucket: Bucket, random: [u8; 12]) -> Self {
        let mut wide = [0; 16];
        let mut i = 0;
        while i < 12 {
            wide[i + 4] = random[i];
            i += 1;
        }
        let random = u128::from_be_bytes(wide) & ((1 << RANDOM_BITS) - 1);
        Self((bucket.0 as u128) << RANDOM_BITS | random)
    }

    /// Returns the bucket of the session's device.
    #[must_use]
    pub const fn bucket(self) -> Bucket {
        Bucket((self.0 >> RANDOM_BITS) as u16)
    }

    /// Returns the id as a number of 100 bits. Numbers sort like the texts of their ids.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Returns the id with this number: the reverse of [`SessionId::as_u128`]. `None` if the number has more than 100
    /// bits.
    #[must_use]
    pub const fn from_u128(number: u128) -> Option<Self> {
        if number >> BITS == 0 { Some(Self(number)) } else { None }
    }

    /// Returns the id's 20 characters.
    #[must_use]
    pub const fn to_ascii(self) -> [u8; LENGTH] {
        let mut text = [0; LENGTH];
        let mut rest = self.0;
        let mut i = LENGTH;
        while i > 0 {
            i -= 1;
            text[i] = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }

    /// Parses the 20 characters of an id, exactly as [`SessionId::to_ascii`] writes them: capital letters are refused.
    ///
    /// # Errors
    /// [`IdError`] that says what is wrong.
    pub fn from_ascii(text: &[u8]) -> Result<Self, IdError> {
        if text.len() != LENGTH {
            return Err(IdError::Length(text.len()));
        }
        number(text).map(Self)
    }
}

fn number(text: &[u8]) -> Result<u128, IdError> {
    let mut sum = 0;
    for &byte in text {
        let value = VALUES[usize::from(byte)];
        if value == 0xff {
            return Err(IdError::Character(char::from(byte)));
        }
        sum = sum << 5 | u128::from(value);
    }
    Ok(sum)
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_ascii() { Self::from_ascii(text.as_bytes()) } else { Err(foreign(text)) }
    }
}

fn foreign(text: &str) -> IdError {
    IdError::Character(text.chars().find(|c| !c.is_ascii()).unwrap_or_default())
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_ascii()).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first characters of a session id, as a person types them. Case does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPrefix {
    first: u128,
    last: u128,
}

impl IdPrefix {
    /// Returns the range of the ids with this prefix.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<SessionId> {
        SessionId(self.first)..=SessionId(self.last)
    }

    /// Whether `id` has this prefix.
    #[must_use]
    pub fn matches(self, id: SessionId) -> bool {
        self.range().contains(&id)
    }

    /// Returns the buckets that ids with this prefix can be in. If the prefix has two characters or more, that is one.
    pub fn buckets(self) -> impl Iterator<Item = Bucket> {
        let range = self.range();
        (range.start().bucket().0..=range.end().bucket().0).map(Bucket)
    }
}

impl FromStr for IdPrefix {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_ascii() {
            return Err(foreign(text));
        }
        if text.is_empty() || text.len() > LENGTH {
            return Err(IdError::PrefixLength(text.len()));
        }
        let open = 5 * (LENGTH - text.len());
        let first = number(text.to_ascii_lowercase().as_bytes())? << open;
        Ok(Self { first, last: first | ((1 << open) - 1) })
    }
}
