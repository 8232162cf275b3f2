//! The directory of an index: the part of the journal that the index covers, and the places of its blocks.

use super::bytes::{ByteReader, ByteWriter};
use crate::format::SnapshotHeader;
use crate::journal::position::{Position, RecordedTime};
use crate::table::{ROWS_PER_CHUNK, Table};

/// The first bytes of the footer. The last of them is the version of the index format.
const MAGIC: [u8; 16] = *b"tenure-index\0\0\0\x01";
/// The size of the footer in bytes.
pub(super) const FOOTER_SIZE: u64 = 32;
/// The size in bytes of the largest directory that is read. The directory of ten million sessions has 100 KiB.
const MAX_DIRECTORY_SIZE: u32 = 64 << 20;

/// The kind of what a block contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Devices,
    Subjects,
    Clients,
    Terms,
    Rows,
}

impl BlockKind {
    const ALL: [Self; 5] = [Self::Devices, Self::Subjects, Self::Clients, Self::Terms, Self::Rows];
}

/// One block of the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) crc: u32,
    /// The number of slots in the block.
    pub(super) count: u32,
}

/// The number of slots of each part of the table, free ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) devices: u32,
    pub(super) subjects: u32,
    pub(super) clients: u32,
    pub(super) terms: u32,
    pub(super) rows: u32,
}

impl Counts {
    pub(super) fn of(table: &Table) -> Self {
        Self {
            devices: table.devices.slot_count(),
            subjects: table.subjects.slot_count(),
            clients: table.clients.slot_count(),
            terms: table.terms.slot_count(),
            rows: table.slot_count(),
        }
    }

    const fn of_kind(&self, kind: BlockKind) -> u32 {
        match kind {
            BlockKind::Devices => self.devices,
            BlockKind::Subjects => self.subjects,
            BlockKind::Clients => self.clients,
            BlockKind::Terms => self.terms,
            BlockKind::Rows => self.rows,
        }
    }
}

/// The directory of an index.
pub(super) struct Directory {
    /// The position in the journal at which the index was made.
    pub(super) position: Position,
    /// The length and the CRC-32C of each block of the journal.
    pub(super) checksums: Vec<(u32, u32)>,
    pub(super) counts: Counts,
    pub(super) blocks: Vec<Block>,
}

/// Returns the footer for a directory at `offset`.
pub(super) fn footer(offset: u64, directory: &[u8]) -> Vec<u8> {
    let mut out = ByteWriter::default();
    out.raw(&MAGIC);
    out.u64(offset);
    out.u32(u32::try_from(directory.len()).unwrap_or(u32::MAX));
    out.u32(crc32c::crc32c(directory));
    out.bytes().to_vec()
}

/// Parses the footer of a file of `size` bytes. Returns the offset, the length and the checksum of the directory.
/// `None` if the footer is not valid.
pub(super) fn parse_footer(footer: &[u8], size: u64) -> Option<(u64, u32, u32)> {
    let mut footer = ByteReader(footer);
    let magic = footer.array::<16>()?;
    let (offset, length, crc) = (footer.u64()?, footer.u32()?, footer.u32()?);
    let ends = offset.checked_add(length.into())?.checked_add(FOOTER_SIZE)?;
    (magic == MAGIC && ends == size && length <= MAX_DIRECTORY_SIZE).then_some((offset, length, crc))
}

impl Directory {
    /// Appends the directory in its binary form.
    pub(super) fn encode(&self, out: &mut ByteWriter) {
        let Self { position: at, checksums, counts, blocks } = self;
        for number in [at.end, at.number, at.lines, at.synced_number, at.synced_end, at.last_change] {
            out.u64(number);
        }
        out.u32(at.crc);
        for number in [at.header.through, at.header.size, at.header.lines, at.header.records] {
            out.u64(number);
        }
        out.u32(at.header.last_crc);
        out.u64(at.recorded.at);
        out.u64(at.recorded.uptime);
        out.text(&at.recorded.boot);
        let Counts { devices, subjects, clients, terms, rows } = *counts;
        for count in [devices, subjects, clients, terms, rows, checksums.len() as u32, blocks.len() as u32] {
            out.u32(count);
        }
        for (length, crc) in checksums {
            out.u32(*length);
            out.u32(*crc);
        }
        for Block { kind, offset, length, crc, count } in blocks {
            out.u8(*kind as u8);
            out.u64(*offset);
            for number in [*length, *crc, *count] {
                out.u32(number);
            }
        }
    }

    /// Parses a directory that begins at `offset`, and checks that its blocks are complete, in order and of the right
    /// sizes.
    pub(super) fn read(bytes: &[u8], offset: u64) -> Option<Self> {
        let mut bytes = ByteReader(bytes);
        let mut at = Position::default();
        for number in
            [&mut at.end, &mut at.number, &mut at.lines, &mut at.synced_number, &mut at.synced_end, &mut at.last_change]
        {
            *number = bytes.u64()?;
        }
        at.crc = bytes.u32()?;
        at.header = SnapshotHeader {
            through: bytes.u64()?,
            size: bytes.u64()?,
            lines: bytes.u64()?,
            records: bytes.u64()?,
            last_crc: bytes.u32()?,
        };
        at.recorded = RecordedTime { at: bytes.u64()?, uptime: bytes.u64()?, boot: bytes.text()?.to_owned() };
        at.restore_pending();
        let counts = Counts {
            devices: bytes.u32()?,
            subjects: bytes.u32()?,
            clients: bytes.u32()?,
            terms: bytes.u32()?,
            rows: bytes.u32()?,
        };
        let (sums_count, blocks_count) = (bytes.u32()?, bytes.u32()?);
        let checksums = (0..sums_count).map(|_| Some((bytes.u32()?, bytes.u32()?))).collect::<Option<Vec<_>>>()?;
        let blocks = (0..blocks_count).map(|_| block(&mut bytes)).collect::<Option<Vec<_>>>()?;
        bytes.end()?;
        let directory = Self { position: at, checksums, counts, blocks };
        directory.is_whole(offset).then_some(directory)
    }

    fn is_whole(&self, offset: u64) -> bool {
        let contiguous = self
            .blocks
            .iter()
            .try_fold(0_u64, |end, block| (block.offset == end).then(|| end.saturating_add(block.length.into())));
        let counted = BlockKind::ALL.into_iter().all(|kind| {
            let of_kind = self.blocks.iter().filter(|block| block.kind == kind);
            of_kind.map(|block| u64::from(block.count)).sum::<u64>() == u64::from(self.counts.of_kind(kind))
        });
        // Every slot takes at least one byte. So a wrong count cannot make the program allocate more than the size of
        // the file suggests.
        let plausible = self.blocks.iter().all(|block| block.count <= block.length);
        let rows: Vec<u32> =
            self.blocks.iter().filter(|block| block.kind == BlockKind::Rows).map(|block| block.count).collect();
        let full = rows.iter().rev().skip(1).all(|count| *count as usize == ROWS_PER_CHUNK)
            && rows.last().is_none_or(|count| *count as usize <= ROWS_PER_CHUNK);
        let covered = self.checksums.iter().map(|(length, _)| u64::from(*length)).sum::<u64>() == self.position.end;
        contiguous == Some(offset)
            && counted
            && plausible
            && full
            && covered
            && self.position.lines >= self.position.header.lines
    }
}

fn block(bytes: &mut ByteReader<'_>) -> Option<Block> {
    let kind = *BlockKind::ALL.get(usize::from(bytes.u8()?))?;
    Some(Block { kind, offset: bytes.u64()?, length: bytes.u32()?, crc: bytes.u32()?, count: bytes.u32()? })
}
