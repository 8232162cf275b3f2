//! Tests of instants, of spans, and of their texts.

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::at;

fn words(millis: u64) -> String {
    Remaining::until(at(millis), at(0)).to_string()
}

#[test]
fn remaining_time_reads_as_promised() {
    for (millis, text) in [
        (86_399_999, "23h 59m"),
        (86_340_000, "23h 59m"),
        (86_400_000, "1d 0h"),
        (30 * 86_400_000 - 1, "29d 23h"),
        (3_600_000, "1h 0m"),
        (3_599_999, "59m 59s"),
        (303_000, "5m 3s"),
        (60_000, "1m 0s"),
        (59_999, "59s"),
        (12_000, "12s"),
        (12_999, "12s"),
        (1_000, "1s"),
        (999, "<1s"),
        (1, "<1s"),
        (0, "expired"),
    ] {
        assert_eq!(words(millis), text, "{millis} ms");
    }
    assert_eq!(Remaining::until(at(5), at(6)).to_string(), "expired");
}

#[test]
fn durations_are_read_in_every_form_that_is_documented() {
    for (text, millis) in [
        ("36s", 36_000),
        ("250ms", 250),
        ("1h 30m", 5_400_000),
        ("1h30m", 5_400_000),
        (" 24h ", 86_400_000),
        ("30d", 2_592_000_000),
        ("0s", 0),
        ("90m", 5_400_000),
    ] {
        assert_eq!(text.parse::<Millis>().unwrap(), Millis::new(millis), "{text}");
    }
    for text in ["", " ", "5", "h", "1.5h", "-1s", "5 s", "1w", "5S", "1h,30m", "٣s", "1s\u{0}"] {
        assert!(matches!(text.parse::<Millis>(), Err(DurationError::Malformed(_))), "{text:?}");
    }
    for text in ["18446744073709551616ms", "18446744073709551615s", "213503982335d", "18446744073709551615ms 1ms"] {
        assert!(matches!(text.parse::<Millis>(), Err(DurationError::TooLong(_))), "{text:?}");
    }
    assert_eq!("x".repeat(500).parse::<Millis>().unwrap_err().to_string().len(), 40 + 2 + 61);
}

#[test]
fn durations_are_written_as_people_write_them() {
    for (millis, text) in [
        (Millis::hours(24), "24h"),
        (Millis::days(30), "30d"),
        (Millis::hours(25), "25h"),
        (Millis::minutes(90), "1h 30m"),
        (Millis::new(250), "250ms"),
        (Millis::ZERO, "0s"),
        (Millis::hours(8_760), "365d"),
    ] {
        assert_eq!(millis.to_string(), text);
    }
}

proptest! {
    #[test]
    fn a_duration_is_read_as_it_was_written(millis in prop_oneof![any::<u64>(), 0..100_000_000_u64]) {
        let span = Millis::new(millis);
        prop_assert_eq!(span.to_string().parse::<Millis>().unwrap(), span);
    }

    #[test]
    fn no_text_makes_a_duration_panic(text in "\\PC{0,40}|[0-9]{0,25}(ms|s|m|h|d| ){0,5}") {
        let _ = text.parse::<Millis>();
    }

    #[test]
    fn instants_stop_at_their_bounds(millis: u64, span: u64) {
        let (instant, span) = (at(millis), Millis::new(span));
        prop_assert!(instant <= Timestamp::MAX);
        prop_assert!(instant.plus(span) >= instant && instant.plus(span) <= Timestamp::MAX);
        prop_assert!(instant.minus(span) <= instant);
        if instant.plus(span) < Timestamp::MAX {
            prop_assert_eq!(instant.plus(span).since(instant), span);
            prop_assert_eq!(instant.plus(span).minus(span), instant);
        }
        prop_assert_eq!(instant.since(instant.plus(span)), Millis::ZERO);
    }

    #[test]
    fn remaining_words_are_short_and_never_late(millis in 0..10_000_000_000_u64) {
        let text = words(millis);
        prop_assert_eq!(text == "expired", millis == 0);
        prop_assert_eq!(text == "<1s", (1..1_000).contains(&millis));
        // The time that is shown is never more than the time that is left.
        if let Ok(shown) = text.parse::<Millis>() {
            prop_assert!(shown.get() <= millis && millis - shown.get() < 3_600_000);
        }
    }
}
