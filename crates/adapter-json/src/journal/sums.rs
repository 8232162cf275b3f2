//! Checksums over the file's bytes as they were read or written, from its beginning to one place: what an index says
//! of the journal that it was made from.

/// A block is closed once it has this size.
const BLOCK: u32 = 1 << 20;

/// One after the other, without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Each block's length and CRC-32C.
    blocks: Vec<(u32, u32)>,
    end: u64,
}

impl Sums {
    pub(crate) fn of(blocks: Vec<(u32, u32)>) -> Self {
        let end = blocks.iter().map(|(length, _)| u64::from(*length)).sum();
        Self { blocks, end }
    }

    /// Takes bytes at `from`. Once some were left out, the sums reach no further.
    pub(crate) fn extend(&mut self, from: u64, bytes: &[u8]) {
        if from != self.end || bytes.is_empty() {
            return;
        }
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        match self.blocks.last_mut().filter(|(length, _)| *length < BLOCK) {
            Some((before, crc)) => {
                let Some(sum) = before.checked_add(length) else { return };
                (*before, *crc) = (sum, crc32c::crc32c_append(*crc, bytes));
            }
            None => self.blocks.push((length, crc32c::crc32c(bytes))),
        }
        self.end += u64::from(length);
    }

    /// Takes a whole block at `from` whose sum is known.
    pub(crate) fn push(&mut self, from: u64, length: u32, crc: u32) {
        if from == self.end && length > 0 {
            self.blocks.push((length, crc));
            self.end += u64::from(length);
        }
    }

    /// The blocks, if they reach to exactly `end`.
    pub(crate) fn through(&self, end: u64) -> Option<&[(u32, u32)]> {
        (self.end == end).then_some(&self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_without_gaps_or_are_not_told() {
        let mut sums = Sums::default();
        sums.extend(0, b"12");
        sums.extend(2, b"3456789");
        assert_eq!(sums.through(9), Some(&[(9, 0xe306_9283)][..]));
        sums.push(9, 3, 7);
        sums.extend(12, b"x");
        assert_eq!(sums.through(13).map(<[_]>::len), Some(2));
        sums.extend(14, b"y");
        assert_eq!(sums.through(15), None);
        sums.extend(0, &vec![0; BLOCK as usize]);
        assert!(sums.through(13).is_some());
    }
}
