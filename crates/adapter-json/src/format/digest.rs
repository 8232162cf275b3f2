//! The text of a digest in the journal: base64url without padding (RFC 4648, section 5), 43 characters for 32 bytes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tenure_domain::Digest;

/// The length of the text of a digest, in characters.
const LENGTH: usize = 43;

/// Appends the text of a digest.
pub(super) fn encode(digest: &Digest, out: &mut Vec<u8>) {
    let mut text = [0; LENGTH];
    URL_SAFE_NO_PAD.encode_slice(digest.as_bytes(), &mut text).expect("32 bytes are 43 characters");
    out.extend_from_slice(&text);
}

/// Returns the digest that [`encode`] writes as this text. `None` for any other text, so that each digest has only one
/// text: no padding, no other length, and no set bits after the last byte.
pub(super) fn decode(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != LENGTH {
        return None;
    }
    let mut bytes = [0; 32];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(bytes.len())).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tenure_domain::Digest;

    use super::{LENGTH, decode, encode};

    fn text(bytes: [u8; 32]) -> Vec<u8> {
        let mut text = Vec::new();
        encode(&Digest::from_bytes(bytes), &mut text);
        text
    }

    proptest! {
        #[test]
        fn digests_come_back(bytes: [u8; 32]) {
            prop_assert_eq!(decode(&text(bytes)), Some(bytes));
        }

        #[test]
        fn a_text_that_decodes_is_the_one_that_encode_writes(bytes: [u8; 32], at in 0..LENGTH, byte: u8) {
            let mut spelling = text(bytes);
            spelling[at] = byte;
            if let Some(decoded) = decode(&spelling) {
                prop_assert_eq!(text(decoded), spelling);
            }
        }
    }

    #[test]
    fn the_text_is_base64url() {
        let written = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let bytes: [u8; 32] = std::array::from_fn(|at| at as u8);
        assert_eq!(text(bytes), written);
        assert_eq!(decode(written), Some(bytes));
        assert_eq!(text([0xff; 32]), b"__________________________________________8");
        assert_eq!(&text([0xfb; 32])[..4], b"-_v7");
    }

    #[test]
    fn the_text_is_appended() {
        let mut out = b"before".to_vec();
        encode(&Digest::from_bytes([0; 32]), &mut out);
        assert_eq!(out, [b"before".as_slice(), &[b'A'; LENGTH]].concat());
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = [b'A'; LENGTH];
        assert!(decode(&good).is_some());
        // Bits behind the last byte.
        for last in *b"BCDP_" {
            let mut bits = good;
            bits[LENGTH - 1] = last;
            assert_eq!(decode(&bits), None, "{}", char::from(last));
        }
        // Padding, in place of a character and beside all of them.
        let mut padded = good;
        padded[LENGTH - 1] = b'=';
        assert_eq!(decode(&padded), None);
        assert_eq!(decode(&[&good[..], b"="].concat()), None);
        // The other alphabet, and what is in none.
        for byte in *b"+/ \n\0\"\x80\xff" {
            let mut other = good;
            other[7] = byte;
            assert_eq!(decode(&other), None, "{byte}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        for length in (0..=2 * LENGTH).filter(|length| *length != LENGTH) {
            assert_eq!(decode(&vec![b'A'; length]), None, "{length}");
        }
    }
}
