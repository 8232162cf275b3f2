//! Masking of what looks like a token, which no error, hint, log or question may show.

use std::borrow::Cow;
use std::ops::Range;

use tenure_domain::{SessionId, Token};

/// The prefix of every token. Mistyped ones may have it in upper case.
const PREFIX: &[u8] = b"tnr_";
/// The fewest characters after the prefix that look like a token. Fewer may be a name that starts the same way.
const LEAST: usize = 16;
/// The length of the session id in a token.
const ID: usize = 20;
/// The fewest characters after a session id and its underscore that look like a secret, even without the prefix.
const SECRET: usize = 40;

/// Returns the first part of a text that looks like a token: whole, truncated or mistyped.
pub(crate) fn token_in(text: &str) -> Option<&str> {
    found(text.as_bytes()).map(|range| &text[range])
}

/// Returns the session id in a part that looks like a token, if it can be read.
pub(crate) fn session_of(token: &str) -> Option<SessionId> {
    Token::inspect(token).session
}

/// Replaces what looks like a token by `tnr_***`.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    let mut rest = text;
    let mut safe = String::new();
    while let Some(range) = found(rest.as_bytes()) {
        safe.push_str(&rest[..range.start]);
        safe.push_str("tnr_***");
        rest = &rest[range.end..];
    }
    if safe.is_empty() && rest.len() == text.len() { Cow::Borrowed(text) } else { Cow::Owned(safe + rest) }
}

/// Finds the first part that looks like a token. It is ASCII, so both ends of the range are character boundaries.
fn found(text: &[u8]) -> Option<Range<usize>> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let run = |from: usize, belongs: fn(&u8) -> bool| text[from..].iter().take_while(|byte| belongs(byte)).count();
    let alphanumeric: fn(&u8) -> bool = u8::is_ascii_alphanumeric;
    let starts = |start: &usize| {
        let start = *start;
        let prefixed = text[start..].get(..PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX))
            && run(start + PREFIX.len(), alphanumeric) >= LEAST;
        let bare = (start == 0 || !word(&text[start - 1]))
            && run(start, alphanumeric) == ID
            && text.get(start + ID) == Some(&b'_')
            && run(start + ID + 1, alphanumeric) >= SECRET;
        prefixed || bare
    };
    let start = (0..text.len()).find(starts)?;
    Some(start..start + text[start..].iter().take_while(|byte| word(byte)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tnr_a2r4wbygt65w3697398x_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghi";

    #[test]
    fn tokens_are_found_whole_cut_mistyped_and_in_the_midst() {
        for part in [TOKEN, &TOKEN[..40], &TOKEN[..25], &TOKEN[4..], &TOKEN.to_ascii_uppercase()] {
            assert_eq!(token_in(part), Some(part));
            let text = format!("--reason=»{part}«, é");
            assert_eq!(masked(&text), "--reason=»tnr_***«, é", "{text}");
            assert_eq!(masked(&format!("{part} {part}")), "tnr_*** tnr_***");
        }
        assert_eq!(token_in(&format!("x{TOKEN}")), Some(TOKEN));
        assert_eq!(session_of(TOKEN).unwrap().to_string(), "a2r4wbygt65w3697398x");
    }

    #[test]
    fn names_paths_ids_and_digests_are_none() {
        for text in [
            "",
            "tnr_",
            "tnr_laptop",
            "tnr_sessions_backup_2026.jsonl",
            "a2r4wbygt65w3697398x",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "a2r4wbygt65w3697398x_laptop",
            "tnr",
        ] {
            assert_eq!(token_in(text), None);
            assert!(matches!(masked(text), Cow::Borrowed(same) if same == text));
        }
    }
}
