//! Tests of the bounds of texts from outside.

use proptest::prelude::*;
use tenure_domain::*;

#[test]
fn texts_are_bounded_and_the_error_names_the_field() {
    assert_eq!(DeviceId::new("").unwrap_err().to_string(), "device id is empty; it takes 1 to 128 characters");
    let long = "ü".repeat(129);
    assert_eq!(Subject::new(&long).unwrap_err().to_string(), "subject has 129 characters; it takes at most 128");
    // The bounds are in characters, not in bytes.
    assert!(DeviceId::new(&"ü".repeat(128)).is_ok());
    assert!(Note::new(&"x".repeat(256)).is_ok());
    assert_eq!(Note::new(&"x".repeat(257)), Err(TextError::TooLong { field: "text", got: 257, max: 256 }));
    assert_eq!(Actor::new("a\u{7f}"), Err(TextError::Control { field: "actor", position: 2 }));
    assert_eq!(Subject::default().as_str(), "operator");
}

#[test]
fn no_text_can_control_a_terminal() {
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
fn names_have_no_invisible_characters() {
    let told = |text: &str| DeviceId::new(text).unwrap_err().to_string();
    assert_eq!(told("lap\u{200b}top"), "device id has an invisible character (U+200B) at position 4; remove it");
    assert_eq!(told("laptop "), "device id ends with a space; remove it");
    assert_eq!(told("\u{a0}laptop"), "device id begins with a space; remove it");
    // These are directional marks, joiners, fillers, variation selectors, tags and blanks. All names share one table.
    for hidden in [
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{180e}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2060}',
        '\u{2064}',
        '\u{206a}',
        '\u{2800}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fffb}',
        '\u{e0041}',
        '\u{e0100}',
    ] {
        let text = format!("a{hidden}b");
        assert!(matches!(DeviceId::new(&text), Err(TextError::Invisible { position: 2, .. })), "{hidden:?}");
        assert!(Subject::new(&text).is_err(), "{hidden:?}");
        for field in ClientField::ALL {
            let refused = ClientInfo::default().with(field, &text).unwrap_err().to_string();
            assert!(refused.contains("has an invisible character"), "{refused}");
            let read = ClientInfo::default().with_recorded(field, &text).unwrap();
            assert_eq!(read.get(field), Some(text.as_str()));
        }
        // A name that an earlier release accepted is read as it is, and shown with its invisible characters.
        assert_eq!(DeviceId::recorded(&text).unwrap().as_str(), text);
        assert_eq!(Subject::recorded(&text).unwrap().to_string(), format!("a\\u{{{:x}}}b", u32::from(hidden)));
        assert_eq!(cleaned(&text), "ab");
    }
    for edge in [" a", "a ", "\u{3000}a", "a\u{2003}"] {
        assert!(matches!(DeviceId::new(edge), Err(TextError::EdgeSpace { .. })), "{edge:?}");
        assert!(ClientInfo::default().with(ClientField::DisplayName, edge).is_err(), "{edge:?}");
        assert!(DeviceId::recorded(edge).is_ok());
        assert_eq!(cleaned(edge), "a");
    }
    assert_eq!(visible(" a b "), "\\u{20}a b\\u{20}");
    assert_eq!(visible("   "), "\\u{20}\\u{20}\\u{20}");
    // A note may have invisible characters, and shows them on a screen.
    assert_eq!(Note::new("a\u{200c}b").unwrap().to_string(), "a\\u{200c}b");
    for fine in ["two words", "\u{1f4f1} pi", "e\u{301}", "\u{65e5}\u{672c}", "{pi}"] {
        assert!(DeviceId::new(fine).is_ok(), "{fine}");
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
    fn a_name_is_accepted_exactly_if_it_is_within_its_bounds(text in ".{0,140}|\\PC{0,140}|[ a\u{a0}\u{200d}\u{feff}\u{e9}]{0,4}") {
        let taken = DeviceId::new(&text);
        let inner = text.trim();
        let plain = visible(&text) == text && inner.len() == text.len();
        prop_assert_eq!(taken.is_ok(), (1..=128).contains(&text.chars().count()) && plain);
        prop_assert_eq!(Subject::new(&text).is_ok(), taken.is_ok());
        if let Ok(taken) = taken {
            prop_assert_eq!(taken.as_str(), &text);
            prop_assert_eq!(taken.to_string(), text.clone());
            prop_assert_eq!(text.parse::<DeviceId>().unwrap(), taken);
        }
    }

    /// Checks the table of invisible characters against Unicode's own.
    #[test]
    fn no_name_has_a_default_ignorable_character(c in "\\p{Default_Ignorable_Code_Point}") {
        let name = format!("a{c}b");
        prop_assert!(DeviceId::new(&name).is_err() && Subject::new(&name).is_err());
        prop_assert!(DeviceId::recorded(&name).is_ok() || Note::new(&name).is_err());
        prop_assert_eq!(cleaned(&name), "ab");
        let shown = visible(&name);
        prop_assert!(shown.starts_with("a\\u{"), "{shown:?}");
    }

    #[test]
    fn a_cleaned_text_is_a_name_and_a_visible_one_hides_nothing(text in "[ a\u{a0}\u{200d}\u{feff}\u{fe0f}\u{1f600}\u{e9}]{0,8}") {
        let clean = cleaned(&text);
        prop_assert!(clean.is_empty() || DeviceId::new(&clean).is_ok(), "{clean:?}");
        prop_assert_eq!(cleaned(&clean), clean.clone());
        let shown = visible(&text);
        prop_assert_eq!(visible(&shown), shown.clone());
        prop_assert_eq!(shown == text, text.is_empty() || DeviceId::new(&text).is_ok());
        if let Ok(old) = DeviceId::recorded(&text) {
            prop_assert_eq!((old.as_str(), old.to_string()), (text.as_str(), shown.into_owned()));
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
