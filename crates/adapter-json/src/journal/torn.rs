//! What the end of a journal is, where it is no good line.
//!
//! A power loss can leave any of the 512-byte sectors unwritten that were not known to be on the disk: the file then
//! ends early, or such a sector reads as zeros. Neither was ever acknowledged, so both may be cut. A flipped bit or
//! an edit looks otherwise, and is never cut.

use crate::format::{may_begin_line, parse_line};

const SECTOR: u64 = 512;

/// The end of the file, as a reader finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// It ends with a whole line.
    Clean,
    /// A line is under way, or was when its writer died.
    Torn,
    /// The last line is whole but for its newline.
    LacksNewline,
    /// It changed while it was read.
    Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Torn,
    LacksNewline,
    Corrupt,
}

/// Judges the bytes from the end of the last good line, at `offset`, to the end of the file. `number` is the
/// transaction that should stand there.
pub(super) fn judge(rest: &[u8], offset: u64, number: u64) -> Verdict {
    // A later line that is good and knows this one to be on the disk: it was promised.
    let mut later = rest.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty());
    if later.any(|line| parse_line(line).is_ok_and(|(tx, _)| tx.synced >= number)) {
        return Verdict::Corrupt;
    }
    if has_lost_sector(rest, offset) {
        return Verdict::Torn;
    }
    if rest.contains(&b'\n') {
        return Verdict::Corrupt;
    }
    match parse_line(rest) {
        Ok((tx, _)) if tx.number == number => Verdict::LacksNewline,
        Ok(_) => Verdict::Corrupt,
        // A whole line and then one byte too many: its newline was changed.
        Err(_) if rest.split_last().is_some_and(|(_, line)| parse_line(line).is_ok()) => Verdict::Corrupt,
        Err(_) if may_begin_line(rest) => Verdict::Torn,
        Err(_) => Verdict::Corrupt,
    }
}

/// Whether the bytes from `offset` to the end of the file were never promised, and a writer would cut them.
pub(crate) fn is_torn(rest: &[u8], offset: u64, number: u64) -> bool {
    judge(rest, offset, number) == Verdict::Torn
}

/// Whether some sector, as far as it lies in `rest`, ends in zeros that no flipped bit explains: no line has a zero
/// byte, and a byte that ends the file is a newline, which is two bits from zero.
fn has_lost_sector(rest: &[u8], offset: u64) -> bool {
    let first = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(rest.len()).min(rest.len());
    let (head, tail) = rest.split_at(first);
    let ends_in = |sector: &[u8]| sector.iter().rev().take_while(|byte| **byte == 0).count();
    let lost = |sector: &[u8]| ends_in(sector) >= 2.min(sector.len().max(1));
    lost(head) || tail.chunks(SECTOR as usize).any(lost) || rest.last() == Some(&0)
}
