//! What holds for any text that is read as a token, an id, a duration or a bounded text. The fuzzer and the ordinary tests
//! both take this file in by its path.

use tenure_domain::{DeviceId, IdPrefix, Millis, Note, SessionId, Token};

/// Reads a text as all of them. How many it is.
///
/// # Panics
/// Where one is written otherwise than it was read.
pub(crate) fn texts(text: &str) -> usize {
    let mut read = 0;
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.to_text().expose(), text);
        read += 1;
    }
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string(), text);
        read += 1;
    }
    if let Ok(span) = text.parse::<Millis>() {
        assert_eq!(span.to_string().parse(), Ok(span));
        read += 1;
    }
    drop(text.parse::<IdPrefix>());
    if let Ok(device) = DeviceId::new(text) {
        assert_eq!(device.as_str(), text);
    }
    if let Ok(bounded) = Note::new(text) {
        assert_eq!(bounded.as_str(), text);
    }
    read
}
