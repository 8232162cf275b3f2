//! Replaying a large part of the file. Several threads read and parse chunks of it, while this thread applies the
//! chunks that were parsed before.

use std::ops::Range;
use std::path::Path;

use parking_lot::Mutex;
use tenure_ports::StoreError;

use super::Journal;
use crate::error::{corrupt, io_error};
use crate::format::{Transaction, parse_line};
use crate::storage::StorageFile;
use crate::table::apply::AppliedEvents;

/// The number of bytes that one thread parses at a time. It is so small that the parsed transactions nearly fit a
/// processor's own cache.
const CHUNK_SIZE: u64 = 256 << 10;
/// The average number of chunks that each thread parses before all threads wait for one another.
const CHUNKS_PER_THREAD: usize = 2;
/// The size in bytes from which on threads save more than they cost.
const MIN_SIZE: u64 = 4 << 20;
/// The number of bytes at the end of a chunk that are searched for the end of its last line.
const LAST_LINE_WINDOW: u64 = 64 << 10;
/// The largest number of threads.
const MAX_THREADS: usize = 8;

/// A parsed chunk, each of whose lines is valid by itself.
struct Chunk<'a> {
    /// Each line's transaction, its checksum, and its length in bytes with the newline.
    lines: Vec<(Transaction<'a>, u32, u64)>,
    length: u32,
    crc: u32,
}

/// Returns the ranges of the next `count` chunks of the file, from the offset `from` up to `size`.
fn next_chunks(file: &dyn StorageFile, mut from: u64, size: u64, count: usize) -> std::io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::with_capacity(count);
    let mut last_bytes = vec![0; LAST_LINE_WINDOW as usize];
    while ranges.len() < count && from < size {
        let to = size.min(from + CHUNK_SIZE);
        let look_from = to.saturating_sub(LAST_LINE_WINDOW).max(from);
        let read = file.read_at(&mut last_bytes[..(to - look_from) as usize], look_from)?;
        let Some(newline) = memchr::memrchr(b'\n', &last_bytes[..read]) else { break };
        let end = look_from + newline as u64 + 1;
        ranges.push(from..end);
        from = end;
    }
    Ok(ranges)
}

/// Reads and parses one chunk. `None` if a line is not valid. Reading line by line then finds out why.
fn parse<'a>(file: &dyn StorageFile, range: &Range<u64>, bytes: &'a mut Vec<u8>) -> std::io::Result<Option<Chunk<'a>>> {
    bytes.resize((range.end - range.start) as usize, 0);
    if file.read_at(bytes, range.start)? != bytes.len() {
        return Ok(None);
    }
    let bytes: &'a [u8] = bytes;
    let mut lines = Vec::new();
    let mut from = 0;
    while let Some(length) = memchr::memchr(b'\n', &bytes[from..]) {
        let Ok((tx, crc)) = parse_line(&bytes[from..from + length]) else { return Ok(None) };
        lines.push((tx, crc, length as u64 + 1));
        from += length + 1;
    }
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    Ok((from == bytes.len()).then(|| Chunk { lines, length, crc: crc32c::crc32c(bytes) }))
}

/// The chunks that were parsed in one step.
enum Parsed<'a> {
    /// More may follow.
    More(Vec<Chunk<'a>>),
    /// No more follow, because the file ends here or a line is not valid.
    Last(Vec<Chunk<'a>>),
}

/// Returns the number of threads to use. Counting the processors reads files of the system, so do not call this for
/// every look-up.
pub(crate) fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS))
}

impl Journal {
    /// Applies the valid lines of the file up to `size`, if there are many. The rest, with any error, is left to
    /// [`Journal::refresh`], which reads line by line.
    pub(super) fn replay_in_parallel(&mut self, size: u64) -> Result<(), StoreError> {
        if size.saturating_sub(self.position.end) < MIN_SIZE {
            return Ok(());
        }
        let threads = thread_count();
        if threads < 2 {
            return Ok(());
        }
        // Two sets of buffers: chunks are parsed from one while those parsed from the other are applied.
        let set = vec![Vec::new(); threads * CHUNKS_PER_THREAD];
        let (mut even, mut odd) = (set.clone(), set);
        let mut next = self.position.end;
        let mut parsed_before = Vec::new();
        loop {
            let parsed = self.parse_next(&mut even, threads, &mut next, size, parsed_before)?;
            let Parsed::More(chunks) = parsed else { return self.finish(parsed) };
            let parsed = self.parse_next(&mut odd, threads, &mut next, size, chunks)?;
            let Parsed::More(chunks) = parsed else { return self.finish(parsed) };
            parsed_before = chunks;
        }
    }

    fn finish(&mut self, parsed: Parsed<'_>) -> Result<(), StoreError> {
        let (Parsed::More(chunks) | Parsed::Last(chunks)) = parsed;
        self.apply_chunks(chunks)
    }

    /// Parses the chunks from the offset `next` on, and meanwhile applies those that were parsed before.
    fn parse_next<'a>(
        &mut self,
        buffers: &'a mut [Vec<u8>],
        threads: usize,
        next: &mut u64,
        size: u64,
        parsed_before: Vec<Chunk<'_>>,
    ) -> Result<Parsed<'a>, StoreError> {
        let file = std::sync::Arc::clone(&self.file);
        let cannot = |path: &Path, error: std::io::Error| io_error(path, "read the store", error);
        let ranges = next_chunks(&*file, *next, size, buffers.len()).map_err(|error| cannot(&self.path, error))?;
        *next = ranges.last().map_or(*next, |range| range.end);
        let is_last = ranges.len() < buffers.len();
        let tasks = Mutex::new(ranges.into_iter().zip(buffers).enumerate());
        let work = || {
            let mut done = Vec::new();
            loop {
                // This is a statement of its own, so that the lock is released before parsing.
                let task = tasks.lock().next();
                let Some((at, (range, bytes))) = task else { return done };
                done.push((at, parse(&*file, &range, bytes)));
            }
        };
        let (mut parsed, applied) = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let applied = self.apply_chunks(parsed_before);
            let mut parsed = work();
            for other in others {
                parsed.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            (parsed, applied)
        });
        parsed.sort_unstable_by_key(|(at, _)| *at);
        applied?;
        let mut chunks = Vec::with_capacity(parsed.len());
        for (_, chunk) in parsed {
            match chunk.map_err(|error| cannot(&self.path, error))? {
                Some(chunk) => chunks.push(chunk),
                None => return Ok(Parsed::Last(chunks)),
            }
        }
        Ok(if is_last { Parsed::Last(chunks) } else { Parsed::More(chunks) })
    }

    fn apply_chunks(&mut self, chunks: Vec<Chunk<'_>>) -> Result<(), StoreError> {
        let mut events = AppliedEvents { has_subscribers: self.events.receiver_count() > 0, ..Default::default() };
        let mut result = Ok(());
        for chunk in chunks {
            let from = self.position.end;
            let mut last_time = None;
            self.table.prefetch(chunk.lines.iter().flat_map(|(tx, ..)| tx.sessions()));
            for (tx, crc, length) in chunk.lines {
                last_time = Some((tx.at, tx.boot.clone(), tx.uptime));
                // The line's checksum is right, so no torn write explains what is wrong with it.
                result = self
                    .apply_transaction(tx, crc, length, &mut events)
                    .map_err(|message| corrupt(&self.path, self.position.lines + 1, &message));
                if result.is_err() {
                    break;
                }
                self.position.has_foreign_lines |= !self.position.pending.is_empty();
            }
            if let Some((at, boot, uptime)) = last_time {
                self.clock.record(at, &boot, uptime);
                self.position.recorded.update(at, &boot, uptime);
            }
            if result.is_err() {
                break;
            }
            self.position.checksums.push(from, chunk.length, chunk.crc);
        }
        self.publish(events);
        result
    }
}
