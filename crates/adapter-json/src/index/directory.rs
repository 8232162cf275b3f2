//! What an index is about, and where its blocks lie.

use super::bytes::{In, Out};
use crate::format::Head;
use crate::journal::{Position, Recorded};
use crate::table::{PIECE, Table};

/// The last of these is the version of everything in this module's parent.
const MAGIC: [u8; 16] = *b"tenure-index\0\0\0\x01";
pub(super) const FOOTER: u64 = 32;
/// No directory is larger: that of ten million sessions has 100 KiB.
const DIRECTORY_MOST: u32 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Devices,
    Subjects,
    Clients,
    Terms,
    Rows,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Devices, Self::Subjects, Self::Clients, Self::Terms, Self::Rows];
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) crc: u32,
    /// How many places of the table it has.
    pub(super) count: u32,
}

/// How many places each part of the table has, free ones included.
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
            devices: table.devices.bound(),
            subjects: table.subjects.bound(),
            clients: table.clients.bound(),
            terms: table.terms.bound(),
            rows: table.bound(),
        }
    }

    const fn of_kind(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Devices => self.devices,
            Kind::Subjects => self.subjects,
            Kind::Clients => self.clients,
            Kind::Terms => self.terms,
            Kind::Rows => self.rows,
        }
    }
}

pub(super) struct Directory {
    /// Where the journal was when the index was made.
    pub(super) at: Position,
    /// The journal's blocks: length and CRC-32C.
    pub(super) sums: Vec<(u32, u32)>,
    pub(super) counts: Counts,
    pub(super) blocks: Vec<Block>,
}

pub(super) fn footer(offset: u64, directory: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.raw(&MAGIC);
    out.long(offset);
    out.word(u32::try_from(directory.len()).unwrap_or(u32::MAX));
    out.word(crc32c::crc32c(directory));
    out.bytes().to_vec()
}

/// Where the directory of a file of this size lies, and its checksum.
pub(super) fn find(footer: &[u8], size: u64) -> Option<(u64, u32, u32)> {
    let mut footer = In(footer);
    let magic = footer.array::<16>()?;
    let (offset, length, crc) = (footer.long()?, footer.word()?, footer.word()?);
    let ends = offset.checked_add(length.into())?.checked_add(FOOTER)?;
    (magic == MAGIC && ends == size && length <= DIRECTORY_MOST).then_some((offset, length, crc))
}

impl Directory {
    pub(super) fn put(&self, out: &mut Out) {
        let Self { at, sums, counts, blocks } = self;
        for number in [at.end, at.number, at.lines, at.synced, at.durable, at.rules] {
            out.long(number);
        }
        out.word(at.crc);
        for number in [at.head.through, at.head.size, at.head.lines, at.head.records] {
            out.long(number);
        }
        out.word(at.head.last);
        out.long(at.recorded.at);
        out.long(at.recorded.elapsed);
        out.text(&at.recorded.boot);
        let Counts { devices, subjects, clients, terms, rows } = *counts;
        for count in [devices, subjects, clients, terms, rows, sums.len() as u32, blocks.len() as u32] {
            out.word(count);
        }
        for (length, crc) in sums {
            out.word(*length);
            out.word(*crc);
        }
        for Block { kind, offset, length, crc, count } in blocks {
            out.byte(*kind as u8);
            out.long(*offset);
            for number in [*length, *crc, *count] {
                out.word(number);
            }
        }
    }

    /// Reads it, and checks that its blocks are all there, in their order and of the right size.
    pub(super) fn read(bytes: &[u8], offset: u64) -> Option<Self> {
        let mut bytes = In(bytes);
        let mut at = Position::default();
        for number in [&mut at.end, &mut at.number, &mut at.lines, &mut at.synced, &mut at.durable, &mut at.rules] {
            *number = bytes.long()?;
        }
        at.crc = bytes.word()?;
        at.head = Head {
            through: bytes.long()?,
            size: bytes.long()?,
            lines: bytes.long()?,
            records: bytes.long()?,
            last: bytes.word()?,
        };
        at.recorded = Recorded { at: bytes.long()?, elapsed: bytes.long()?, boot: bytes.text()?.to_owned() };
        at.resume();
        let counts = Counts {
            devices: bytes.word()?,
            subjects: bytes.word()?,
            clients: bytes.word()?,
            terms: bytes.word()?,
            rows: bytes.word()?,
        };
        let (sums_count, blocks_count) = (bytes.word()?, bytes.word()?);
        let sums = (0..sums_count).map(|_| Some((bytes.word()?, bytes.word()?))).collect::<Option<Vec<_>>>()?;
        let blocks = (0..blocks_count).map(|_| block(&mut bytes)).collect::<Option<Vec<_>>>()?;
        bytes.end()?;
        let directory = Self { at, sums, counts, blocks };
        directory.is_whole(offset).then_some(directory)
    }

    fn is_whole(&self, offset: u64) -> bool {
        let contiguous = self
            .blocks
            .iter()
            .try_fold(0_u64, |end, block| (block.offset == end).then(|| end.saturating_add(block.length.into())));
        let counted = Kind::ALL.into_iter().all(|kind| {
            let of_kind = self.blocks.iter().filter(|block| block.kind == kind);
            of_kind.map(|block| u64::from(block.count)).sum::<u64>() == u64::from(self.counts.of_kind(kind))
        });
        // Every place takes a byte at least, so that no count makes this program use more memory than the file has.
        let plausible = self.blocks.iter().all(|block| block.count <= block.length);
        let rows: Vec<u32> =
            self.blocks.iter().filter(|block| block.kind == Kind::Rows).map(|block| block.count).collect();
        let full = rows.iter().rev().skip(1).all(|count| *count as usize == PIECE)
            && rows.last().is_none_or(|count| *count as usize <= PIECE);
        let covered = self.sums.iter().map(|(length, _)| u64::from(*length)).sum::<u64>() == self.at.end;
        contiguous == Some(offset) && counted && plausible && full && covered && self.at.lines >= self.at.head.lines
    }
}

fn block(bytes: &mut In<'_>) -> Option<Block> {
    let kind = *Kind::ALL.get(usize::from(bytes.byte()?))?;
    Some(Block { kind, offset: bytes.long()?, length: bytes.word()?, crc: bytes.word()?, count: bytes.word()? })
}
