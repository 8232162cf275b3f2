//! The position up to which a process has read the journal.

use std::collections::VecDeque;

use super::checksums::Checksums;
use crate::format::SnapshotHeader;

/// The position in the file up to which every line was applied, and what is known about the lines before it.
#[derive(Clone, Default)]
pub(crate) struct Position {
    /// The offset of the end of the last line that was applied.
    pub(crate) end: u64,
    /// The number of that line's transaction.
    pub(crate) number: u64,
    /// The checksum of that line.
    pub(crate) crc: u32,
    /// The number of lines up to `end`.
    pub(crate) lines: u64,
    /// The last transaction known to be durable.
    pub(crate) synced_number: u64,
    /// The offset of the end of that transaction's line.
    pub(crate) synced_end: u64,
    /// The last transaction that did more than record activity.
    pub(crate) last_change: u64,
    /// The number and the end of each line that is not known to be durable.
    pub(super) pending: VecDeque<(u64, u64)>,
    /// Whether another process wrote any of the pending lines.
    pub(crate) has_foreign_lines: bool,
    /// The header of the snapshot, from the file's first line.
    pub(crate) header: SnapshotHeader,
    /// The checksums of the file up to `end`. They are incomplete if reading began in the middle of the file.
    pub(crate) checksums: Checksums,
    /// The time that the last line records.
    pub(crate) recorded: RecordedTime,
    /// If another file replaced this one and its snapshot is older than the table: the number and the checksum of the
    /// last transaction that was already applied. Lines up to it are skipped.
    pub(super) skip_through: Option<(u64, u32)>,
}

impl Position {
    /// Returns the position at the end of the snapshot that this header describes. A snapshot is durable before its
    /// file becomes the store.
    pub(super) fn at_snapshot_end(header: SnapshotHeader) -> Self {
        Self {
            end: header.size,
            number: header.through,
            crc: header.last_crc,
            lines: header.lines,
            synced_number: header.through,
            synced_end: header.size,
            header,
            ..Self::default()
        }
    }

    /// Derives the pending lines of a position that an index recorded. All lines that are not known to be durable count
    /// as one, and as written by another process.
    pub(crate) fn restore_pending(&mut self) {
        self.has_foreign_lines = self.number > self.synced_number;
        self.pending = if self.has_foreign_lines { [(self.number, self.end)].into() } else { VecDeque::new() };
    }
}

/// A time that a line records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordedTime {
    /// The store's time, in Unix milliseconds.
    pub(crate) at: u64,
    /// The machine's boot id.
    pub(crate) boot: String,
    /// The machine's uptime in milliseconds.
    pub(crate) uptime: u64,
}

impl RecordedTime {
    /// Changes to the time of another line. It allocates only if the boot id differs.
    pub(super) fn update(&mut self, at: u64, boot: &str, uptime: u64) {
        (self.at, self.uptime) = (at, uptime);
        if self.boot != boot {
            boot.clone_into(&mut self.boot);
        }
    }
}
