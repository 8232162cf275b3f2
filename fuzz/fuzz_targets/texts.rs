//! Any text as a token, an id, a duration and a bounded text.
#![no_main]

use tenure_domain::{DeviceId, IdPrefix, Millis, SessionId, Text, Token};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.to_text().expose(), text);
    }
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(span) = text.parse::<Millis>() {
        assert_eq!(span.to_string().parse(), Ok(span));
    }
    drop(text.parse::<IdPrefix>());
    drop(DeviceId::new(text));
    drop(Text::new(text));
});
