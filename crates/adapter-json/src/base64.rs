//! Digests as text: base64url without padding (RFC 4648, section 5), 32 bytes in 43 characters.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LENGTH: usize = 43;

const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut table = [0xff; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
}

pub(crate) fn encode(bytes: &[u8; 32], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let mut wide = [0; 4];
        wide[1..=chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes(wide);
        for i in 0..=chunk.len() {
            out.push(ALPHABET[(number >> (18 - 6 * i)) as usize & 63]);
        }
    }
}

/// The bytes that [`encode`] writes so; `None` for any other text, so that one digest has one spelling.
pub(crate) fn decode(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != LENGTH {
        return None;
    }
    let mut bytes = [0; 33];
    let mut bad = 0;
    for (group, out) in text.chunks(4).zip(bytes.chunks_mut(3)) {
        let mut number = 0_u32;
        for i in 0..4 {
            let value = group.get(i).map_or(0, |&byte| VALUES[usize::from(byte)]);
            bad |= value & 0x80;
            number = number << 6 | u32::from(value & 63);
        }
        out.copy_from_slice(&number.to_be_bytes()[1..]);
    }
    if bad != 0 || bytes[32] != 0 {
        return None;
    }
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digests_come_back(bytes: [u8; 32]) {
            let mut text = Vec::new();
            super::encode(&bytes, &mut text);
            prop_assert_eq!(text.len(), super::LENGTH);
            prop_assert_eq!(super::decode(&text), Some(bytes));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        assert_eq!(super::decode(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"), None);
        assert_eq!(super::decode(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), None);
        assert_eq!(super::decode(b"AAAA"), None);
    }
}
