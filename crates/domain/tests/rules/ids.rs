//! Tests of session ids, buckets and prefixes.

use proptest::prelude::*;
use tenure_domain::*;

const ALPHABET: &str = "0123456789abcdefghjkmnpqrstvwxyz";

fn id() -> impl Strategy<Value = SessionId> {
    (0..1_u128 << 100).prop_map(|number| SessionId::from_u128(number).unwrap())
}

#[test]
fn the_bucket_is_the_hash_of_the_device_modulo_1024() {
    // `printf laptop | sha256sum` ends in e942; 0xe942 mod 1024 = 0x142 = 10 * 32 + 2.
    let device = DeviceId::new("laptop").unwrap();
    assert_eq!(Bucket::of(&device).index(), 0x142);
    assert_eq!(Bucket::of(&device).to_string(), "a2");
    assert_eq!(Bucket::all().len(), usize::from(BUCKETS));
}

#[test]
fn a_text_that_is_not_an_id_is_refused_with_the_reason() {
    assert_eq!("k3f9".parse::<SessionId>(), Err(IdError::Length(4)));
    for foreign in ["i", "l", "o", "u", "A", "Z", "-", "_", " ", "\n"] {
        let text = format!("{}{foreign}", "0".repeat(19));
        assert_eq!(text.parse::<SessionId>(), Err(IdError::Character(foreign.chars().next().unwrap())));
    }
    assert_eq!("ä234567890123456789".parse::<SessionId>(), Err(IdError::Character('ä')));
    assert_eq!("".parse::<IdPrefix>(), Err(IdError::PrefixLength(0)));
    assert_eq!("0".repeat(21).parse::<IdPrefix>(), Err(IdError::PrefixLength(21)));
    assert_eq!("k3u".parse::<IdPrefix>(), Err(IdError::Character('u')));
    assert_eq!("ß".parse::<IdPrefix>(), Err(IdError::Character('ß')));
    assert_eq!(SessionId::from_u128(1 << 100), None);
}

proptest! {
    #[test]
    fn an_id_is_read_as_it_was_written(id in id()) {
        let text = id.to_string();
        prop_assert_eq!(text.len(), 20);
        prop_assert!(text.chars().all(|c| ALPHABET.contains(c)));
        prop_assert_eq!(text.parse::<SessionId>().unwrap(), id);
        prop_assert_eq!(SessionId::from_ascii(&id.to_ascii()).unwrap(), id);
        prop_assert_eq!(SessionId::from_u128(id.as_u128()), Some(id));
        prop_assert_eq!(format!("{id:?}"), text);
    }

    #[test]
    fn ids_sort_as_their_texts_do(a in id(), b in id()) {
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn an_id_carries_the_bucket_of_its_device(name in "[a-z0-9-]{1,40}", random: [u8; 12]) {
        let device = DeviceId::new(&name).unwrap();
        let id = SessionId::new(Bucket::of(&device), random);
        prop_assert_eq!(id.bucket(), Bucket::of(&device));
        prop_assert!(id.to_string().starts_with(&Bucket::of(&device).to_string()));
        prop_assert!(Bucket::of(&device).index() < BUCKETS);
        // 90 of the random bits count. If any of them differs, the id differs.
        let mut other = random;
        other[11] ^= 1;
        prop_assert_ne!(SessionId::new(Bucket::of(&device), other), id);
        other = random;
        other[0] ^= 0b1100_0000;
        other[1] ^= 1;
        prop_assert_ne!(SessionId::new(Bucket::of(&device), other), id);
    }

    #[test]
    fn only_the_canonical_text_is_an_id(text in "[0-9a-zA-Z]{18,22}") {
        match text.parse::<SessionId>() {
            Ok(id) => prop_assert_eq!(id.to_string(), text),
            Err(_) => prop_assert!(text.len() != 20 || text.chars().any(|c| !ALPHABET.contains(c))),
        }
    }

    #[test]
    fn a_prefix_matches_exactly_the_ids_that_start_with_it(id in id(), other in id(), length in 1..=20_usize) {
        let text = &id.to_string()[..length];
        let prefix: IdPrefix = text.parse().unwrap();
        prop_assert!(prefix.matches(id));
        prop_assert_eq!(prefix.matches(other), other.to_string().starts_with(text));
        prop_assert_eq!(text.to_uppercase().parse::<IdPrefix>().unwrap(), prefix);
        prop_assert!(prefix.buckets().any(|bucket| bucket == id.bucket()));
        prop_assert_eq!(prefix.buckets().count(), if length == 1 { 32 } else { 1 });
        let (first, last) = (*prefix.range().start(), *prefix.range().end());
        prop_assert!(first.to_string().starts_with(text) && last.to_string().starts_with(text));
        for outside in [first.as_u128().checked_sub(1), Some(last.as_u128() + 1)] {
            if let Some(outside) = outside.and_then(SessionId::from_u128) {
                prop_assert!(!outside.to_string().starts_with(text));
            }
        }
    }
}
