//! Reading much at once: threads read and parse pieces of the file while this one applies those before.

use std::ops::Range;
use std::path::Path;

use parking_lot::Mutex;
use tenure_ports::StoreError;

use super::Journal;
use crate::apply::News;
use crate::format::{Tx, parse_line};
use crate::guard::{corrupt, failed};
use crate::vfs::File;

/// A piece that one thread parses at a time: what comes of it fits a processor's own cache, nearly.
const PIECE: u64 = 256 << 10;
/// So many pieces a thread are taken between two meetings of all threads.
const PIECES_A_THREAD: usize = 2;
/// With less than this to read, threads cost more than they save.
const WORTH: u64 = 4 << 20;
/// A piece ends with a line; the end of the last one is looked for in so many bytes.
const LAST_LINE: u64 = 64 << 10;
const THREADS_MOST: usize = 8;

/// A piece that is parsed. Its lines are all good, as lines.
struct Piece<'a> {
    lines: Vec<(Tx<'a>, u32, u64)>,
    length: u32,
    crc: u32,
}

/// The next pieces of the file, as many as there are threads.
fn next_pieces(file: &dyn File, mut from: u64, size: u64, count: usize) -> std::io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::with_capacity(count);
    let mut end_of = vec![0; LAST_LINE as usize];
    while ranges.len() < count && from < size {
        let to = size.min(from + PIECE);
        let look_from = to.saturating_sub(LAST_LINE).max(from);
        let read = file.read_at(&mut end_of[..(to - look_from) as usize], look_from)?;
        let Some(newline) = memchr::memrchr(b'\n', &end_of[..read]) else { break };
        let end = look_from + newline as u64 + 1;
        ranges.push(from..end);
        from = end;
    }
    Ok(ranges)
}

/// Reads and parses one piece. `None` where not all of it is good: whoever reads it line by line tells why.
fn parse<'a>(file: &dyn File, range: &Range<u64>, bytes: &'a mut Vec<u8>) -> std::io::Result<Option<Piece<'a>>> {
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
    Ok((from == bytes.len()).then(|| Piece { lines, length, crc: crc32c::crc32c(bytes) }))
}

/// Whether the work that was begun can go on.
enum Step<'a> {
    Ready(Vec<Piece<'a>>),
    /// It ends here, before the end of the file or at it.
    Last(Vec<Piece<'a>>),
}

/// How many threads read at once.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MOST))
}

impl Journal {
    /// Applies as much of the file up to `size` as is plainly good, in large pieces. What is left, and whatever is
    /// wrong with it, is for the reader of lines.
    pub(super) fn read_ahead(&mut self, size: u64) -> Result<(), StoreError> {
        if size.saturating_sub(self.at.end) < WORTH {
            return Ok(());
        }
        // To count them, the system's files are read: too much for each look at the store.
        let threads = threads();
        if threads < 2 {
            return Ok(());
        }
        // Two sets of buffers: one is parsed into while what was parsed into the other is applied.
        let set = vec![Vec::new(); threads * PIECES_A_THREAD];
        let (mut even, mut odd) = (set.clone(), set);
        let mut next = self.at.end;
        let mut ready = Vec::new();
        loop {
            let step = self.step(&mut even, threads, &mut next, size, ready)?;
            let Step::Ready(pieces) = step else { return self.finish(step) };
            let step = self.step(&mut odd, threads, &mut next, size, pieces)?;
            let Step::Ready(pieces) = step else { return self.finish(step) };
            ready = pieces;
        }
    }

    fn finish(&mut self, step: Step<'_>) -> Result<(), StoreError> {
        let (Step::Ready(pieces) | Step::Last(pieces)) = step;
        self.absorb_pieces(pieces)
    }

    /// Parses the pieces from `next` on while those that are ready are applied.
    fn step<'a>(
        &mut self,
        buffers: &'a mut [Vec<u8>],
        threads: usize,
        next: &mut u64,
        size: u64,
        ready: Vec<Piece<'_>>,
    ) -> Result<Step<'a>, StoreError> {
        let file = std::sync::Arc::clone(&self.file);
        let cannot = |path: &Path, error: &std::io::Error| failed(path, "read the store", error);
        let ranges = next_pieces(&*file, *next, size, buffers.len()).map_err(|error| cannot(&self.path, &error))?;
        *next = ranges.last().map_or(*next, |range| range.end);
        let few = ranges.len() < buffers.len();
        let tasks = Mutex::new(ranges.into_iter().zip(buffers).enumerate());
        let work = || {
            let mut done = Vec::new();
            loop {
                // The guard must not live longer than this line.
                let task = tasks.lock().next();
                let Some((at, (range, bytes))) = task else { return done };
                done.push((at, parse(&*file, &range, bytes)));
            }
        };
        let (mut parsed, applied) = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let applied = self.absorb_pieces(ready);
            let mut parsed = work();
            for other in others {
                parsed.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            (parsed, applied)
        });
        parsed.sort_unstable_by_key(|(at, _)| *at);
        applied?;
        let mut pieces = Vec::with_capacity(parsed.len());
        for (_, piece) in parsed {
            match piece.map_err(|error| cannot(&self.path, &error))? {
                Some(piece) => pieces.push(piece),
                None => return Ok(Step::Last(pieces)),
            }
        }
        Ok(if few { Step::Last(pieces) } else { Step::Ready(pieces) })
    }

    fn absorb_pieces(&mut self, pieces: Vec<Piece<'_>>) -> Result<(), StoreError> {
        let mut news = News { wanted: self.feed.receiver_count() > 0, ..News::default() };
        let mut outcome = Ok(());
        for piece in pieces {
            let from = self.at.end;
            let mut last = None;
            self.table.warm(piece.lines.iter().flat_map(|(tx, ..)| tx.sessions()));
            for (tx, crc, length) in piece.lines {
                last = Some((tx.at, tx.boot.clone(), tx.elapsed));
                // The line's checksum is right, so no torn write explains what is wrong with it.
                outcome = self
                    .absorb_tx(tx, crc, length, &mut news)
                    .map_err(|message| corrupt(&self.path, self.at.lines + 1, &message));
                if outcome.is_err() {
                    break;
                }
                self.at.foreign |= !self.at.pending.is_empty();
            }
            if let Some((at, boot, elapsed)) = last {
                self.clock.record(at, &boot, elapsed);
                self.at.recorded.take(at, &boot, elapsed);
            }
            if outcome.is_err() {
                break;
            }
            self.at.sums.push(from, piece.length, piece.crc);
        }
        for item in news.items {
            drop(self.feed.send(item));
        }
        outcome
    }
}
