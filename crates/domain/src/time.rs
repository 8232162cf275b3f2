//! Instants and spans of time in whole milliseconds, and how they are written.

use std::fmt;
use std::str::FromStr;

/// An instant in milliseconds since the Unix epoch (UTC, without leap seconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The latest instant, the last millisecond of the year 9999: the last one that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Makes the instant `millis` milliseconds after the epoch, or [`Timestamp::MAX`] if that is earlier.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// Returns the milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns `self + span`, at most [`Timestamp::MAX`].
    #[must_use]
    pub const fn plus(self, span: Millis) -> Self {
        Self::from_millis(self.0.saturating_add(span.0))
    }

    /// Returns `self - span`, at least the epoch.
    #[must_use]
    pub const fn minus(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// Returns the span from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time in milliseconds.
///
/// It is parsed from texts such as `1h 30m`, `36s`, `250ms` or `30d`, and written in the same form. The units are `ms`,
/// `s`, `m`, `h` and `d`; spaces between the parts are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Makes a span of `n` milliseconds.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// Makes a span of `n` seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// Makes a span of `n` minutes.
    #[must_use]
    pub const fn minutes(n: u64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }

    /// Makes a span of `n` hours.
    #[must_use]
    pub const fn hours(n: u64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }

    /// Makes a span of `n` days of 24 hours.
    #[must_use]
    pub const fn days(n: u64) -> Self {
        Self::hours(n.saturating_mul(24))
    }

    /// Returns the number of milliseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the span divided by `divisor`, rounded down.
    #[must_use]
    pub const fn divided_by(self, divisor: u64) -> Self {
        Self(self.0 / divisor)
    }

    /// Whether the span is empty.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Millis> for std::time::Duration {
    fn from(span: Millis) -> Self {
        Self::from_millis(span.0)
    }
}

/// The reason why a text is not a span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// The text has no number with a unit.
    #[error("{0:?} is not a duration; write for example 36s, 90m, 24h or 1h 30m")]
    Malformed(String),
    /// The span has more milliseconds than can be counted.
    #[error("{0:?} is longer than can be counted; the longest setting is 3650d")]
    TooLong(String),
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Millis {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || DurationError::Malformed(clip(text));
        let too_long = || DurationError::TooLong(clip(text));
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(malformed());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            if number.is_empty() {
                return Err(malformed());
            }
            let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
            let factor = factor.ok_or_else(malformed)?;
            let value = number.parse::<u64>().map_err(|_| too_long())?;
            let span = value.checked_mul(factor).ok_or_else(too_long)?;
            total = total.checked_add(span).ok_or_else(too_long)?;
            rest = tail.trim_start();
        }
        Ok(Self(total))
    }
}

/// Returns at most 40 characters of a text, so that an error fits a line.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        let mut first = true;
        // Days are written only from two whole days on, so that the default reads 24h, as in the documentation.
        let largest = if rest.is_multiple_of(UNITS[4].1) && rest > UNITS[4].1 { 5 } else { 4 };
        for (name, factor) in UNITS[..largest].iter().rev() {
            let count = rest / factor;
            rest %= factor;
            if count > 0 {
                if !first {
                    f.write_str(" ")?;
                }
                first = false;
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

/// The words for the time that a session has left: `6d 23h`, `23h 59m`, `5m 3s`, `12s`, `<1s`, `expired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining(Millis);

impl Remaining {
    /// Returns the time that is left at `now` until `expires_at`.
    #[must_use]
    pub fn until(expires_at: Timestamp, now: Timestamp) -> Self {
        Self(expires_at.since(now))
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.get();
        let seconds = millis / 1_000;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match () {
            () if millis == 0 => f.write_str("expired"),
            () if seconds == 0 => f.write_str("<1s"),
            () if seconds < 60 => write!(f, "{seconds}s"),
            () if seconds < 3_600 => write!(f, "{minutes}m {}s", seconds % 60),
            () if days == 0 => write!(f, "{hours}h {minutes}m"),
            () => write!(f, "{days}d {hours}h"),
        }
    }
}
