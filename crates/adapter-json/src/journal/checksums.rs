//! The checksums of the journal, block by block from its beginning. An index records them, so that it is later known
//! whether the index fits the journal.

/// The size in bytes at which a block is full.
const BLOCK: u32 = 1 << 20;

/// The length and the CRC-32C of each block of a file, from its beginning and without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksums {
    blocks: Vec<(u32, u32)>,
    end: u64,
}

impl Checksums {
    /// Makes the checksums of consecutive blocks, from the beginning of the file.
    pub(crate) fn of(blocks: Vec<(u32, u32)>) -> Self {
        let end = blocks.iter().map(|(length, _)| u64::from(*length)).sum();
        Self { blocks, end }
    }

    /// Adds the bytes at the offset `from`, if they follow the last block. After a gap nothing more is added.
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

    /// Adds a whole block at the offset `from` whose checksum is known, if it follows the last block.
    pub(crate) fn push(&mut self, from: u64, length: u32, crc: u32) {
        if from == self.end && length > 0 {
            self.blocks.push((length, crc));
            self.end += u64::from(length);
        }
    }

    /// Returns the blocks, if they end exactly at the offset `end`.
    pub(crate) fn through(&self, end: u64) -> Option<&[(u32, u32)]> {
        (self.end == end).then_some(&self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_no_gaps() {
        let mut checksums = Checksums::default();
        checksums.extend(0, b"12");
        checksums.extend(2, b"3456789");
        assert_eq!(checksums.through(9), Some(&[(9, 0xe306_9283)][..]));
        checksums.push(9, 3, 7);
        checksums.extend(12, b"x");
        assert_eq!(checksums.through(13).map(<[_]>::len), Some(2));
        checksums.extend(14, b"y");
        assert_eq!(checksums.through(15), None);
        checksums.extend(0, &vec![0; BLOCK as usize]);
        assert!(checksums.through(13).is_some());
    }
}
