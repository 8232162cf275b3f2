//! Texts that come from outside, bounded where they enter.

use std::fmt;
use std::sync::Arc;

/// Why a text was refused; names the field that it was meant for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Nothing was given.
    #[error("{field} is empty; it takes 1 to {max} characters")]
    Empty {
        /// The field's name.
        field: &'static str,
        /// The most characters it takes.
        max: usize,
    },
    /// More characters than the field takes.
    #[error("{field} has {got} characters; it takes at most {max}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// How many characters there were.
        got: usize,
        /// The most characters it takes.
        max: usize,
    },
    /// A control character, which could forge a line of a log or drive a terminal.
    #[error("{field} has a control character at position {position}; remove it")]
    Control {
        /// The field's name.
        field: &'static str,
        /// Its place, counted in characters from 1.
        position: usize,
    },
}

/// The longest identifier, in characters.
pub(crate) const ID_MAX: usize = 128;
/// The longest other text, in characters.
pub(crate) const TEXT_MAX: usize = 256;

/// Unicode's line and paragraph separators and direction overrides do in a terminal what control characters do.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(crate) fn check(field: &'static str, text: &str, max: usize) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty { field, max });
    }
    // A text of n characters has at least n bytes: most are told by their length alone.
    let got = if text.len() <= max { text.len() } else { text.chars().count() };
    if got > max {
        return Err(TextError::TooLong { field, got, max });
    }
    match text.chars().position(is_control) {
        Some(at) => Err(TextError::Control { field, position: at + 1 }),
        None => Ok(()),
    }
}

macro_rules! bounded_text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the bounds and takes the text.
            ///
            /// # Errors
            /// [`TextError`] for an empty or too long text, or one with a control character.
            pub fn new(text: &str) -> Result<Self, TextError> {
                Self::from_shared(Arc::from(text))
            }

            /// The same for a text that is shared already, so that nothing is copied.
            ///
            /// # Errors
            /// As [`Self::new`].
            pub fn from_shared(text: Arc<str>) -> Result<Self, TextError> {
                check($field, &text, $max)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for stores that intern.
            #[must_use]
            pub fn shared(&self) -> &Arc<str> {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }
    };
}

bounded_text!(
    /// The name of a device, chosen by whoever asks for the session: 1 to 128 characters.
    DeviceId, "device id", ID_MAX
);
bounded_text!(
    /// Who a session belongs to, a user or a service account: 1 to 128 characters.
    Subject, "subject", ID_MAX
);
bounded_text!(
    /// Who ended a session: a subject, `cli`, `gateway` and the like: 1 to 128 characters.
    Actor, "actor", ID_MAX
);
bounded_text!(
    /// Any other text: 1 to 256 characters.
    Text, "text", TEXT_MAX
);

impl Default for Subject {
    /// `operator`: the one person that most gateways have.
    fn default() -> Self {
        Self(Arc::from("operator"))
    }
}
