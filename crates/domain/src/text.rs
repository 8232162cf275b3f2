//! Texts that come from outside: names, notes and actors, each with its bounds.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The reason why a text was refused. It names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text is empty.
    #[error("{field} is empty; it takes 1 to {max} characters")]
    Empty {
        /// The field's name.
        field: &'static str,
        /// The most characters that the field takes.
        max: usize,
    },
    /// The text has more characters than the field takes.
    #[error("{field} has {got} characters; it takes at most {max}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// How many characters there were.
        got: usize,
        /// The most characters that the field takes.
        max: usize,
    },
    /// The text has a control character, which could forge a line of a log or control a terminal.
    #[error("{field} has a control character at position {position}; remove it")]
    Control {
        /// The field's name.
        field: &'static str,
        /// The character's position, counted from 1.
        position: usize,
    },
    /// The text has an invisible character (zero-width, directional, blank), so that two names could look alike.
    #[error("{field} has an invisible character (U+{character:04X}) at position {position}; remove it")]
    Invisible {
        /// The field's name.
        field: &'static str,
        /// The character's position, counted from 1.
        position: usize,
        /// The character's code point.
        character: u32,
    },
    /// The text has a space at one of its ends, which is invisible too.
    #[error("{field} {place} with a space; remove it")]
    EdgeSpace {
        /// The field's name.
        field: &'static str,
        /// `begins` or `ends`.
        place: &'static str,
    },
}

/// The longest identifier, in characters.
pub(crate) const ID_MAX: usize = 128;
/// The longest other text, in characters.
pub(crate) const TEXT_MAX: usize = 256;

/// Whether `c` can forge a line of a log or control a terminal. Unicode's line and paragraph separators and direction
/// overrides can, like control characters.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `c` is invisible: Unicode's `Default_Ignorable_Code_Point` (zero-width, joining and directional characters,
/// variation selectors, tags, fillers), the annotation marks and the blank Braille pattern.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Checks the bounds of a text in a record, whichever release wrote it.
pub(crate) fn check_recorded(field: &'static str, text: &str, max: usize) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty { field, max });
    }
    // A text of n characters has at least n bytes, so most texts are decided by their length alone.
    let got = if text.len() <= max { text.len() } else { text.chars().count() };
    if got > max {
        return Err(TextError::TooLong { field, got, max });
    }
    match text.chars().position(is_control) {
        Some(at) => Err(TextError::Control { field, position: at + 1 }),
        None => Ok(()),
    }
}

/// Checks the bounds of a new name, which must not have invisible characters either.
pub(crate) fn check_name(field: &'static str, text: &str, max: usize) -> Result<(), TextError> {
    check_recorded(field, text, max)?;
    for (place, edge) in [("begins", text.chars().next()), ("ends", text.chars().next_back())] {
        if edge.is_some_and(char::is_whitespace) {
            return Err(TextError::EdgeSpace { field, place });
        }
    }
    match text.chars().enumerate().find(|(_, c)| is_invisible(*c)) {
        Some((at, c)) => Err(TextError::Invisible { field, position: at + 1, character: u32::from(c) }),
        None => Ok(()),
    }
}

/// Returns a text to show to people. Invisible characters, spaces at the ends and characters that control a terminal
/// are written as `\u{200b}`. Records of earlier releases may have such texts.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let inner = text.trim();
    let is_plain = |c: char| !is_control(c) && !is_invisible(c);
    if inner.len() == text.len() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let start = text.len() - text.trim_start().len();
    let edge = |at: usize| at < start || at >= start + inner.len();
    let mut shown = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        if is_plain(c) && !edge(at) { shown.push(c) } else { shown.extend(c.escape_unicode()) }
    }
    Cow::Owned(shown)
}

/// Returns what a client says about itself, without invisible characters and without white space at the ends.
#[must_use]
pub fn cleaned(text: &str) -> Cow<'_, str> {
    // No invisible character is ASCII, and most texts are.
    if !text.is_ascii() && text.chars().any(is_invisible) {
        return Cow::Owned(text.replace(is_invisible, "").trim().to_owned());
    }
    Cow::Borrowed(text.trim())
}

macro_rules! bounded_text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:expr, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes the value from a text within its bounds.
            ///
            /// # Errors
            /// [`TextError`] for a text that is empty, too long, or has a control character, and for a name also if it
            /// has an invisible character or a space at an end.
            pub fn new(text: &str) -> Result<Self, TextError> {
                Self::from_shared(Arc::from(text))
            }

            /// Makes the value from a text in shared memory, without a copy.
            ///
            /// # Errors
            /// As [`Self::new`].
            pub fn from_shared(text: Arc<str>) -> Result<Self, TextError> {
                $check($field, &text, $max)?;
                Ok(Self(text))
            }

            /// Returns the text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the text in shared memory, for stores that keep equal texts once.
            #[must_use]
            pub fn shared(&self) -> &Arc<str> {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// Writes the text for people, like [`visible`]. The text itself is [`Self::as_str`].
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&visible(&self.0))
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
    /// The name of a device: 1 to 128 characters. Whoever asks for the session chooses it, so it proves nothing.
    DeviceId, "device id", ID_MAX, check_name
);
bounded_text!(
    /// The owner of a session, a user or a service account: 1 to 128 characters.
    Subject, "subject", ID_MAX, check_name
);
bounded_text!(
    /// The person or program that ended a session, such as a subject, `cli` or `gateway`: 1 to 128 characters.
    Actor, "actor", ID_MAX, check_recorded
);
bounded_text!(
    /// A note in a person's words, such as the reason for a revocation: 1 to 256 characters.
    Note, "text", TEXT_MAX, check_recorded
);

macro_rules! recorded_name {
    ($name:ident, $field:literal) => {
        impl $name {
            /// Makes a name that was recorded before, for stores, imports and look-ups. Earlier releases accepted
            /// invisible characters and spaces at the ends.
            ///
            /// # Errors
            /// [`TextError`] for a text that is empty, too long, or has a control character.
            pub fn recorded(text: &str) -> Result<Self, TextError> {
                check_recorded($field, text, ID_MAX)?;
                Ok(Self(Arc::from(text)))
            }
        }
    };
}

recorded_name!(DeviceId, "device id");
recorded_name!(Subject, "subject");

impl Default for Subject {
    /// Returns `operator`, for gateways that only one person uses.
    fn default() -> Self {
        Self(Arc::from("operator"))
    }
}
