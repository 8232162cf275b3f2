//! The bounds of texts from outside.

use proptest::prelude::*;
use tenure_domain::*;

#[test]
fn texts_are_bounded_and_the_error_names_the_field() {
    assert_eq!(DeviceId::new("").unwrap_err().to_string(), "device id is empty; it takes 1 to 128 characters");
    let long = "ü".repeat(129);
    assert_eq!(Subject::new(&long).unwrap_err().to_string(), "subject has 129 characters; it takes at most 128");
    // Characters count, not bytes.
    assert!(DeviceId::new(&"ü".repeat(128)).is_ok());
    assert!(Text::new(&"x".repeat(256)).is_ok());
    assert_eq!(Text::new(&"x".repeat(257)), Err(TextError::TooLong { field: "text", got: 257, max: 256 }));
    assert_eq!(Actor::new("a\u{7f}"), Err(TextError::Control { field: "actor", position: 2 }));
    assert_eq!(Subject::default().as_str(), "operator");
}

#[test]
fn nothing_that_drives_a_terminal_gets_in() {
    for evil in ['\0', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{2028}', '\u{202e}', '\u{2066}'] {
        let text = format!("ok{evil}");
        let refused = TextError::Control { field: "device id", position: 3 };
        assert_eq!(DeviceId::new(&text), Err(refused), "{evil:?}");
        for field in ClientField::ALL {
            assert!(ClientInfo::default().with(field, &text).is_err(), "{field:?} {evil:?}");
        }
    }
}

#[test]
fn client_fields_have_their_own_names_and_bounds() {
    let long = "x".repeat(129);
    let refused = ClientInfo::default().with(ClientField::Id, &long).unwrap_err();
    assert_eq!(refused.to_string(), "client id has 129 characters; it takes at most 128");
    assert!(ClientInfo::default().with(ClientField::UserAgent, &long).is_ok());
    let refused = ClientInfo::default().with(ClientField::DisplayName, &"x".repeat(257)).unwrap_err();
    assert_eq!(refused.to_string(), "client name has 257 characters; it takes at most 256");
}

fn info() -> impl Strategy<Value = ClientInfo> {
    prop::collection::vec(prop::option::of("[a-z]{1,8}"), 7).prop_map(|texts| {
        ClientField::ALL.into_iter().zip(texts).fold(ClientInfo::default(), |info, (field, text)| match text {
            Some(text) => info.with(field, &text).unwrap(),
            None => info,
        })
    })
}

proptest! {
    #[test]
    fn a_text_is_taken_exactly_when_it_is_within_bounds(text in ".{0,140}|\\PC{0,140}") {
        let count = text.chars().count();
        let plain = !text.chars().any(|c| {
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        let taken = DeviceId::new(&text);
        prop_assert_eq!(taken.is_ok(), (1..=128).contains(&count) && plain);
        if let Ok(taken) = taken {
            prop_assert_eq!(taken.as_str(), &text);
            prop_assert_eq!(taken.to_string(), text.clone());
            prop_assert_eq!(text.parse::<DeviceId>().unwrap(), taken);
        }
    }

    #[test]
    fn newer_client_facts_replace_and_missing_ones_do_not(old in info(), new in info()) {
        let both = old.updated_by(&new);
        for field in ClientField::ALL {
            prop_assert_eq!(both.get(field), new.get(field).or(old.get(field)));
        }
        prop_assert_eq!(both.iter().count() == 0, both.is_empty());
        prop_assert_eq!(old.updated_by(&old), old);
    }
}
