//! The tail of a journal: the bytes after its last valid line.
//!
//! A power loss can lose any 512-byte sector that was not synced. The file then ends early, or the sector reads as
//! zeros. Those lines were never acknowledged, so they may be cut. A flipped bit or an edit looks different, and is
//! never cut.

use crate::format::{is_line_prefix, parse_line};

/// The size in bytes of a sector, which a disk writes completely or not at all.
const SECTOR: u64 = 512;

/// The tail of a journal, as a reader finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The file ends with a whole line.
    Clean,
    /// The last line is incomplete. It is being written, or its writer died.
    Torn,
    /// The last line is whole but for its newline.
    LacksNewline,
    /// The tail changed while it was read.
    Changed,
}

/// The damage of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// A line that was never acknowledged is incomplete.
    Torn,
    /// The last line is whole but for its newline.
    LacksNewline,
    /// A line that may have been acknowledged was changed.
    Corrupt,
}

/// Classifies the bytes from the end of the last valid line, at `offset`, to the end of the file. `number` is the
/// number of the transaction that should be there.
pub(super) fn classify(rest: &[u8], offset: u64, number: u64) -> Damage {
    // A later valid line records that this transaction was durable, so it may have been acknowledged.
    let mut later = rest.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty());
    if later.any(|line| parse_line(line).is_ok_and(|(tx, _)| tx.synced >= number)) {
        return Damage::Corrupt;
    }
    if has_lost_sector(rest, offset) {
        return Damage::Torn;
    }
    if rest.contains(&b'\n') {
        return Damage::Corrupt;
    }
    match parse_line(rest) {
        Ok((tx, _)) if tx.number == number => Damage::LacksNewline,
        Ok(_) => Damage::Corrupt,
        // A whole line with one more byte: its newline was changed.
        Err(_) if rest.split_last().is_some_and(|(_, line)| parse_line(line).is_ok()) => Damage::Corrupt,
        Err(_) if is_line_prefix(rest) => Damage::Torn,
        Err(_) => Damage::Corrupt,
    }
}

/// Whether the bytes from `offset` to the end of the file are a torn write. They were never acknowledged, so a writer
/// cuts them.
pub(crate) fn is_torn(rest: &[u8], offset: u64, number: u64) -> bool {
    classify(rest, offset, number) == Damage::Torn
}

/// Whether a sector of `rest` was lost, so that it ends in zeros. No flipped bit explains that: no line contains a zero
/// byte, and a newline differs from zero in two bits.
fn has_lost_sector(rest: &[u8], offset: u64) -> bool {
    let to_boundary = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(rest.len()).min(rest.len());
    let (first, others) = rest.split_at(to_boundary);
    let trailing_zeros = |sector: &[u8]| sector.iter().rev().take_while(|byte| **byte == 0).count();
    let lost = |sector: &[u8]| trailing_zeros(sector) >= 2.min(sector.len().max(1));
    lost(first) || others.chunks(SECTOR as usize).any(lost) || rest.last() == Some(&0)
}
