//! Setting one changed bit right: a checksum tells not only that one has changed, but which.

use super::{BEFORE_CRC, TX_AT, parse_line};

/// What one byte does to a CRC-32C (Castagnoli's polynomial, reflected).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut value, mut bit) = (at as u32, 0);
        while bit < 8 {
            value = (value >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(value & 1));
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// The line as it was before one of its bits changed, where that is all that happened to it. `line` is without its
/// newline, and does not check out.
pub(crate) fn mended(line: &[u8]) -> Option<Vec<u8>> {
    let last = line.len().checked_sub(1)?;
    let mut line = line.to_vec();
    for at in (0..TX_AT.min(last)).chain([last]) {
        for bit in 0..8 {
            line[at] ^= 1 << bit;
            if parse_line(&line).is_ok() {
                return Some(line);
            }
            line[at] ^= 1 << bit;
        }
    }
    let said = line.get(BEFORE_CRC.len()..BEFORE_CRC.len() + 8)?;
    let said = u32::from_str_radix(std::str::from_utf8(said).ok()?, 16).ok()?;
    let difference = crc32c::crc32c(line.get(TX_AT..last)?) ^ said;
    // What each bit of a byte does to the checksum; with each byte that follows it goes through the register again.
    let mut effects: [u32; 8] = std::array::from_fn(|bit| TABLE[1 << bit]);
    for at in (TX_AT..last).rev() {
        if let Some(bit) = effects.iter().position(|effect| *effect == difference) {
            line[at] ^= 1 << bit;
            return parse_line(&line).is_ok().then_some(line);
        }
        effects = effects.map(|effect| (effect >> 8) ^ TABLE[(effect & 0xff) as usize]);
    }
    None
}
