//! Tests of tokens: they are parsed as they were written, typing errors are found, and secrets are never printed.

use proptest::prelude::*;
use tenure_domain::*;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::support::{half, laptop, new_session};

/// A token that an independent program made (Python: `zlib.crc32`, integers in base 62). Its secret is the bytes 0 to 31.
const KNOWN: &str = "tnr_k3f90000000000000000_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3QWiyD";
/// A token that the same program made with 2^256 as the secret, which has too many bits.
const TOO_LARGE: &str = "tnr_k3f90000000000000000_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp230vSKl";

fn token() -> impl Strategy<Value = Token> {
    (any::<[u8; 12]>(), any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(id, family, fresh)| {
        let id = SessionId::new(Bucket::of(&laptop()), id);
        Token::new(id, Secret::new(&Family::new(family), &RotationSecret::new(fresh)))
    })
}

/// Generates tokens with extreme secrets, with which arithmetic goes wrong first.
fn extreme() -> impl Strategy<Value = Token> {
    prop::sample::select(vec![[0_u8; 16], [0xff; 16], [0x80; 16], half(1)]).prop_flat_map(|family| {
        prop::sample::select(vec![[0_u8; 16], [0xff; 16], [1; 16]]).prop_map(move |fresh| {
            let id = SessionId::from_u128((1 << 100) - 1).unwrap();
            Token::new(id, Secret::new(&Family::new(family), &RotationSecret::new(fresh)))
        })
    })
}

fn same(a: &Token, b: &Token) -> bool {
    a.session() == b.session()
        && a.secret().digest() == b.secret().digest()
        && a.secret().family().digest() == b.secret().family().digest()
}

#[test]
fn a_token_looks_as_promised() {
    let token = new_session(5, Policy::default().terms(None).unwrap()).token(&laptop());
    let text = token.to_text();
    let text = text.expose();
    assert_eq!(text.len(), 74);
    assert_eq!(&text[..4], "tnr_");
    assert_eq!(&text[4..24], token.session().to_string());
    assert_eq!(&text[24..25], "_");
    assert!(text[25..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
}

#[test]
fn the_checksum_is_the_crc_32_of_all_before_it() {
    let token = Token::parse(KNOWN).unwrap();
    assert_eq!(token.session().to_string(), "k3f90000000000000000");
    let mut family = [0; 16];
    let mut fresh = [0; 16];
    for n in 0..16 {
        family[n] = n as u8;
        fresh[n] = n as u8 + 16;
    }
    assert_eq!(token.secret().digest(), Secret::new(&Family::new(family), &RotationSecret::new(fresh)).digest());
    assert_eq!(token.to_text().expose(), KNOWN);
}

#[test]
fn a_text_that_is_not_a_token_is_refused_with_the_reason_and_not_repeated() {
    let text = new_session(6, Policy::default().terms(None).unwrap()).token(&laptop()).to_text().expose().to_owned();
    let broken = |from: usize, with: &str| format!("{}{with}{}", &text[..from], &text[from + with.len()..]);
    let swapped = if text.ends_with('0') { "1" } else { "0" };
    for (bad, problem) in [
        (String::new(), TokenError::Prefix),
        ("ghp_something".to_owned(), TokenError::Prefix),
        (format!(" {text}"), TokenError::Prefix),
        (format!("{text}\n"), TokenError::Length(75)),
        (text[..73].to_owned(), TokenError::Length(73)),
        ("tnr_".to_owned(), TokenError::Length(4)),
        (broken(30, "-"), TokenError::Characters),
        (broken(73, swapped), TokenError::Checksum),
    ] {
        let error = Token::parse(&bad).unwrap_err();
        assert_eq!(error, problem);
        assert!(bad.is_empty() || !error.to_string().contains(&bad));
    }
}

#[test]
fn a_number_too_large_is_no_secret_even_with_a_right_checksum() {
    let token = Token::parse(TOO_LARGE);
    assert_eq!(token.unwrap_err(), TokenError::Characters);
    let inspected = Token::inspect(TOO_LARGE);
    assert!(inspected.prefix_ok && inspected.checksum_ok && inspected.session.is_some());
    assert_eq!(inspected.problem, Some(TokenError::Characters));
}

#[test]
fn an_inspection_finds_out_what_it_can() {
    let text = new_session(6, Policy::default().terms(None).unwrap()).token(&laptop()).to_text().expose().to_owned();
    let good = Token::inspect(&text);
    assert!(good.prefix_ok && good.checksum_ok && good.problem.is_none());
    assert_eq!(good.session.unwrap().to_string(), text[4..24]);
    let cut = Token::inspect(&text[..60]);
    assert!(cut.prefix_ok && !cut.checksum_ok && cut.session == good.session);
    assert_eq!(cut.problem, Some(TokenError::Length(60)));
    let none = Token::inspect("hello");
    assert!(!none.prefix_ok && !none.checksum_ok && none.session.is_none());
    assert_eq!(none.problem, Some(TokenError::Prefix));
}

/// Whether `text` shows bytes of the secret or of its digest, in hexadecimal, in decimal or as part of a token.
fn shows_bytes(text: &str, secret: &Token) -> bool {
    let digest = secret.secret().digest();
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", &digest.as_bytes()[..4]);
    let whole = secret.to_text();
    text.contains(&hex[..8])
        || text.contains(list.trim_matches(['[', ']']))
        || text.contains(&whole.expose()[25..37])
        || text.chars().any(|c| c.is_ascii_digit())
}

proptest! {
    #[test]
    fn a_token_is_read_as_it_was_written(token in prop_oneof![token(), extreme()]) {
        let text = token.to_text();
        let again = Token::parse(text.expose()).unwrap();
        prop_assert!(same(&again, &token));
        let written_again = again.to_text();
        prop_assert_eq!(written_again.expose(), text.expose());
    }

    #[test]
    fn no_single_wrong_character_passes(token in prop_oneof![token(), extreme()], place in 0..74_usize) {
        let text = token.to_text().expose().to_owned();
        // Try every other ASCII character in that place, and one character that takes two bytes.
        for byte in 0..=0x7f_u8 {
            if text.as_bytes()[place] != byte {
                let mut typo = text.clone().into_bytes();
                typo[place] = byte;
                prop_assert!(Token::parse(std::str::from_utf8(&typo).unwrap()).is_err(), "{place}: {byte}");
            }
        }
        let mut typo = text.clone();
        typo.replace_range(place..=place, "é");
        prop_assert!(Token::parse(&typo).is_err());
    }

    #[test]
    fn no_lost_or_added_character_passes(token in token(), place in 0..74_usize, extra in any::<char>()) {
        let text = token.to_text().expose().to_owned();
        let mut lost = text.clone();
        lost.remove(place);
        prop_assert!(Token::parse(&lost).is_err());
        let mut added = text;
        added.insert(place, extra);
        prop_assert!(Token::parse(&added).is_err());
        added.remove(place);
        added.push(extra);
        prop_assert!(Token::parse(&added).is_err());
    }

    /// Swaps two neighbouring characters. They are a burst of 16 bits, which a CRC-32 always detects, in the text as in
    /// the checksum. That does not hold for the last character of the text and the first of the checksum (place 67).
    #[test]
    fn no_two_swapped_neighbours_pass(token in token(), place in 0..73_usize) {
        prop_assume!(place != 67);
        let mut text = token.to_text().expose().to_owned().into_bytes();
        prop_assume!(text[place] != text[place + 1]);
        text.swap(place, place + 1);
        prop_assert!(Token::parse(std::str::from_utf8(&text).unwrap()).is_err());
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,90}|tnr_[0-9a-zA-Z_]{66,74}|tnr_.{70}") {
        let parsed = Token::parse(&text);
        let inspected = Token::inspect(&text);
        prop_assert_eq!(parsed.err(), inspected.problem);
    }

    #[test]
    fn a_successor_keeps_session_and_family_only(token in token(), fresh: [u8; 16]) {
        let next = token.successor(&RotationSecret::new(fresh));
        prop_assert_eq!(next.session(), token.session());
        prop_assert_eq!(next.secret().family().digest(), token.secret().family().digest());
        prop_assert_ne!(next.secret().digest(), token.secret().digest());
    }

    #[test]
    fn nothing_of_a_secret_is_ever_printed(token in token(), fresh: [u8; 16]) {
        let secret = token.secret();
        let printed = format!(
            "{secret:?} {secret:#?} {:?} {:?} {:?} {:?}",
            secret.family(), RotationSecret::new(fresh), secret.digest(), token.to_text(),
        );
        prop_assert!(!shows_bytes(&printed, &token), "{}", printed);
        let printed = format!("{token:?}").replace(&token.session().to_string(), "");
        prop_assert!(!shows_bytes(&printed, &token), "{}", printed);
    }
}

/// Compiles only if the types do not implement `PartialEq`. Otherwise the compiler would have two `some` to choose from.
macro_rules! have_no_equality {
    ($($secret:ty),*) => {$(
        const _: fn() = || {
            struct Comparable;
            trait Some<Kind> {
                fn some() {}
            }
            impl<T: ?Sized> Some<()> for T {}
            impl<T: ?Sized + PartialEq> Some<Comparable> for T {}
            let _ = <$secret as Some<_>>::some;
        };
    )*};
}
have_no_equality!(Secret, Family, RotationSecret, Token, TokenText);

#[test]
fn digests_are_compared_in_constant_time_and_secrets_not_at_all() {
    // Only digests can be compared, and `subtle` does that in constant time. This reads the source, because measuring
    // times would not be reliable enough for a test.
    let source = include_str!("../../src/token.rs");
    let (_, after) = source.split_once("pub struct Digest").unwrap();
    let (_, equality) = after.split_once("impl PartialEq for Digest {").unwrap();
    let (equality, _) = equality.split_once("\n}\n").unwrap();
    assert!(equality.contains("self.0.ct_eq(&other.0).into()") && !equality.contains("=="), "{equality}");
    let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
    assert!(one == one && one != two);
}

/// Compiles only if the type is wiped when it is dropped.
const fn wiped<T: ZeroizeOnDrop>() {}
const _: () = {
    wiped::<Secret>();
    wiped::<Family>();
    wiped::<RotationSecret>();
    wiped::<TokenText>();
};

#[test]
fn what_is_wiped_is_nothing_but_zeros() {
    let mut secret = Secret::new(&Family::new([7; 16]), &RotationSecret::new([9; 16]));
    secret.zeroize();
    assert!(secret.digest() == Secret::new(&Family::new([0; 16]), &RotationSecret::new([0; 16])).digest());
    let mut family = Family::new([7; 16]);
    family.zeroize();
    assert!(family.digest() == Family::new([0; 16]).digest());
}
