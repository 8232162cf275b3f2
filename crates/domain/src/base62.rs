//! Fixed-width base 62 (`0-9A-Za-z`, most significant first), without secret-dependent allocation.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
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

/// Characters of a 256-bit number.
pub(crate) const WIDE: usize = 43;
/// Characters of a 32-bit number.
pub(crate) const NARROW: usize = 6;

/// Ten characters are the most whose value always fits into 64 bits.
const CHUNK: usize = 10;

fn chunk(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |sum, &byte| {
        let value = VALUES[usize::from(byte)];
        (value != 0xff).then(|| sum * 62 + u64::from(value))
    })
}

/// Whether every byte belongs to the alphabet.
pub(crate) fn is_alphabet(text: &[u8]) -> bool {
    text.iter().all(|&byte| VALUES[usize::from(byte)] != 0xff)
}

/// Reads 43 characters; `None` for a foreign character or a value of more than 256 bits.
pub(crate) fn decode_wide(text: &[u8; WIDE]) -> Option<[u8; 32]> {
    // Limbs of the number, the least significant first.
    let mut limbs = [0_u64; 4];
    for part in text.chunks(CHUNK) {
        let mut carry = u128::from(chunk(part)?);
        let factor = 62_u128.pow(u32::try_from(part.len()).ok()?);
        for limb in &mut limbs {
            let sum = u128::from(*limb) * factor + carry;
            *limb = sum as u64;
            carry = sum >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    let mut bytes = [0; 32];
    for (place, limb) in bytes.rchunks_exact_mut(8).zip(limbs) {
        place.copy_from_slice(&limb.to_be_bytes());
    }
    Some(bytes)
}

/// Writes a 256-bit number as 43 characters.
pub(crate) fn encode_wide(bytes: &[u8; 32], out: &mut [u8; WIDE]) {
    let mut limbs = [0_u32; 8];
    for (limb, place) in limbs.iter_mut().zip(bytes.chunks_exact(4)) {
        *limb = place.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
    }
    for character in out.iter_mut().rev() {
        let mut remainder = 0_u64;
        for limb in &mut limbs {
            let value = remainder << 32 | u64::from(*limb);
            *limb = (value / 62) as u32;
            remainder = value % 62;
        }
        *character = ALPHABET[remainder as usize];
    }
}

/// Reads 6 characters; `None` for a foreign character or a value of more than 32 bits.
pub(crate) fn decode_narrow(text: &[u8; NARROW]) -> Option<u32> {
    u32::try_from(chunk(text)?).ok()
}

/// Writes a 32-bit number as 6 characters.
pub(crate) fn encode_narrow(mut number: u32, out: &mut [u8; NARROW]) {
    for character in out.iter_mut().rev() {
        *character = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
}
