//! The rows of a table, in chunks of one size. Adding a row never moves others, and several chunks can be filled at
//! once.

use super::Row;

/// The number of rows in a chunk. It is a power of two, so that finding a row needs no division.
pub(crate) const ROWS_PER_CHUNK: usize = 4096;

/// The rows of a table, by slot.
#[derive(Default)]
pub(super) struct Rows {
    chunks: Vec<Vec<Row>>,
    len: usize,
}

impl Rows {
    /// Makes the rows from chunks. All but the last must be full.
    pub(super) fn from_chunks(chunks: Vec<Vec<Row>>) -> Self {
        let len = chunks.iter().map(Vec::len).sum();
        Self { chunks, len }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: u32) -> Option<&Row> {
        self.chunks.get(at as usize / ROWS_PER_CHUNK)?.get(at as usize % ROWS_PER_CHUNK)
    }

    pub(super) fn push(&mut self, row: Row) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < ROWS_PER_CHUNK => chunk.push(row),
            _ => {
                let mut chunk = Vec::with_capacity(ROWS_PER_CHUNK);
                chunk.push(row);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
    }

    /// Returns the rows from the slot `from` on, free ones included.
    pub(super) fn from(&self, from: u32) -> impl Iterator<Item = &Row> + Clone {
        let chunks = self.chunks.get(from as usize / ROWS_PER_CHUNK..).unwrap_or_default();
        let first = chunks.first().and_then(|chunk| chunk.get(from as usize % ROWS_PER_CHUNK..)).unwrap_or_default();
        first.iter().chain(chunks.iter().skip(1).flatten())
    }
}

impl std::ops::Index<u32> for Rows {
    type Output = Row;

    fn index(&self, at: u32) -> &Row {
        &self.chunks[at as usize / ROWS_PER_CHUNK][at as usize % ROWS_PER_CHUNK]
    }
}

impl std::ops::IndexMut<u32> for Rows {
    fn index_mut(&mut self, at: u32) -> &mut Row {
        &mut self.chunks[at as usize / ROWS_PER_CHUNK][at as usize % ROWS_PER_CHUNK]
    }
}
