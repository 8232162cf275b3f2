//! Repairing one changed bit of a line. The checksum shows not only that a bit has changed, but also which one.

use super::{BEFORE_CRC, TX_AT, parse_line};

/// The effect of each byte on a CRC-32C (Castagnoli's polynomial, reflected).
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

/// Returns an invalid line as it was before one of its bits changed. `None` if it has more damage than that. `line` is
/// without its newline.
pub(crate) fn repair_bit(line: &[u8]) -> Option<Vec<u8>> {
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
    let recorded = line.get(BEFORE_CRC.len()..BEFORE_CRC.len() + 8)?;
    let recorded = u32::from_str_radix(std::str::from_utf8(recorded).ok()?, 16).ok()?;
    let difference = crc32c::crc32c(line.get(TX_AT..last)?) ^ recorded;
    // The effect of each bit of a byte on the checksum. Each byte that follows it shifts the effect through the
    // register.
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
