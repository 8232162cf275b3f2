//! The rows, in pieces of one size: adding one never moves the others, and many can be filled at the same time.

use super::Row;

/// How many rows a piece has: a power of two, so that finding one costs no division.
pub(crate) const PIECE: usize = 4096;

#[derive(Default)]
pub(super) struct Rows {
    pieces: Vec<Vec<Row>>,
    len: usize,
}

impl Rows {
    /// All pieces are full but for the last.
    pub(super) fn from_pieces(pieces: Vec<Vec<Row>>) -> Self {
        let len = pieces.iter().map(Vec::len).sum();
        Self { pieces, len }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: u32) -> Option<&Row> {
        self.pieces.get(at as usize / PIECE)?.get(at as usize % PIECE)
    }

    pub(super) fn push(&mut self, row: Row) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(row),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(row);
                self.pieces.push(piece);
            }
        }
        self.len += 1;
    }

    pub(super) fn from(&self, from: u32) -> impl Iterator<Item = &Row> + Clone {
        let pieces = self.pieces.get(from as usize / PIECE..).unwrap_or_default();
        let first = pieces.first().and_then(|piece| piece.get(from as usize % PIECE..)).unwrap_or_default();
        first.iter().chain(pieces.iter().skip(1).flatten())
    }
}

impl std::ops::Index<u32> for Rows {
    type Output = Row;

    fn index(&self, at: u32) -> &Row {
        &self.pieces[at as usize / PIECE][at as usize % PIECE]
    }
}

impl std::ops::IndexMut<u32> for Rows {
    fn index_mut(&mut self, at: u32) -> &mut Row {
        &mut self.pieces[at as usize / PIECE][at as usize % PIECE]
    }
}
