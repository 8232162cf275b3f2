//! The index from session ids to rows: one table of 8-byte entries. A look-up touches one cache line before the row
//! itself, and growing the table touches no row.

/// An entry: the upper half of a session's hash, then the slot of its row plus one. 0 is an empty entry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    const EMPTY: Self = Self(0);

    const fn new(hash: u64, at: u32) -> Self {
        Self(hash & 0xffff_ffff_0000_0000 | (at as u64 + 1))
    }

    const fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn at(self) -> u32 {
        (self.0 as u32).wrapping_sub(1)
    }
}

/// A hash table with open addressing and linear probing, at most three quarters full. The highest bits of a hash are
/// the home position of its entry, so that the entries are nearly in the order of their hashes.
#[derive(Default)]
pub(super) struct RowIndex {
    entries: Vec<Entry>,
    len: usize,
}

impl RowIndex {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the home position of a hash with these upper 32 bits.
    fn home(&self, tag: u32) -> usize {
        let bits = self.entries.len().trailing_zeros();
        ((u64::from(tag) << 32) >> 1 >> (63 - bits)) as usize
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.entries.len() - 1)
    }

    /// Returns the position of the entry for `hash` whose row `matches` accepts.
    fn slot(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let tag = (hash >> 32) as u32;
        let mut slot = self.home(tag);
        loop {
            let entry = self.entries[slot];
            if entry == Entry::EMPTY {
                return None;
            }
            if entry.tag() == tag && matches(entry.at()) {
                return Some(slot);
            }
            slot = self.next(slot);
        }
    }

    pub(super) fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        self.slot(hash, matches).map(|slot| self.entries[slot].at())
    }

    /// Reads the home positions of hashes, so that they are in the processor's cache.
    pub(super) fn prefetch(&self, hashes: impl Iterator<Item = u64>) {
        if !self.entries.is_empty() {
            let seen = hashes.fold(0, |seen, hash| seen ^ self.entries[self.home((hash >> 32) as u32)].0);
            std::hint::black_box(seen);
        }
    }

    /// Makes room for `count` entries.
    pub(super) fn reserve(&mut self, count: usize) {
        let capacity = (count + count / 3 + 1).next_power_of_two().max(16);
        if capacity <= self.entries.len() {
            return;
        }
        let old = std::mem::replace(&mut self.entries, vec![Entry::EMPTY; capacity]);
        for entry in old {
            if entry != Entry::EMPTY {
                self.place(entry);
            }
        }
    }

    /// Puts an entry into the first empty position from its home on.
    fn place(&mut self, entry: Entry) {
        let mut slot = self.home(entry.tag());
        while self.entries[slot] != Entry::EMPTY {
            slot = self.next(slot);
        }
        self.entries[slot] = entry;
    }

    /// Adds an entry that is not in the table yet.
    pub(super) fn insert(&mut self, hash: u64, at: u32) {
        self.reserve(self.len + 1);
        self.place(Entry::new(hash, at));
        self.len += 1;
    }

    /// Adds many entries that are not in the table yet. They are placed in the order of their hashes, so that each is
    /// near the one before.
    pub(super) fn insert_all(&mut self, all: impl Iterator<Item = (u64, u32)> + Clone) {
        const PARTS: usize = 256;
        let part = |hash: u64| (hash >> 56) as usize;
        let mut ends = [0; PARTS];
        all.clone().for_each(|(hash, _)| ends[part(hash)] += 1);
        let mut count = 0;
        for end in &mut ends {
            // From here on, `end` is the beginning of its part.
            count += std::mem::replace(end, count);
        }
        let mut sorted = vec![Entry::EMPTY; count];
        for (hash, at) in all {
            let position = &mut ends[part(hash)];
            sorted[*position] = Entry::new(hash, at);
            *position += 1;
        }
        self.reserve(self.len + count);
        sorted.into_iter().for_each(|entry| self.place(entry));
        self.len += count;
    }

    pub(super) fn remove(&mut self, hash: u64, at: u32) {
        let Some(mut hole) = self.slot(hash, |other| other == at) else { return };
        self.len -= 1;
        let mask = self.entries.len() - 1;
        let mut slot = hole;
        // An entry that could not be found across the hole moves into it.
        loop {
            slot = self.next(slot);
            let entry = self.entries[slot];
            if entry == Entry::EMPTY {
                break;
            }
            let from_home = slot.wrapping_sub(self.home(entry.tag())) & mask;
            if from_home >= (slot.wrapping_sub(hole) & mask) {
                self.entries[hole] = entry;
                hole = slot;
            }
        }
        self.entries[hole] = Entry::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::RowIndex;

    fn hash(key: u16) -> u64 {
        // Few different upper bits, so that entries crowd and wrap around.
        u64::from(key % 7) << 61 | u64::from(key) << 40
    }

    #[test]
    fn many_at_once_are_all_there() {
        let mut row_index = RowIndex::default();
        let hashes: Vec<u64> = (0..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        row_index.insert_all(hashes.iter().copied().zip(0..));
        assert_eq!(row_index.len(), hashes.len());
        for (hash, at) in hashes.iter().zip(0..) {
            assert_eq!(row_index.find(*hash, |other| other == at), Some(at));
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps: Vec<(bool, u16)>) {
            let (mut row_index, mut model) = (RowIndex::default(), HashMap::new());
            for (n, (add, key)) in steps.into_iter().enumerate() {
                let at = n as u32;
                match model.get(&key) {
                    None if add => {
                        row_index.insert(hash(key), at);
                        model.insert(key, at);
                    }
                    Some(&old) if !add => {
                        row_index.remove(hash(key), old);
                        model.remove(&key);
                    }
                    _ => {}
                }
                prop_assert_eq!(row_index.len(), model.len());
                for (key, at) in &model {
                    prop_assert_eq!(row_index.find(hash(*key), |other| other == *at), Some(*at));
                }
                prop_assert_eq!(row_index.find(hash(key), |other| !model.values().any(|at| *at == other)), None);
            }
        }
    }
}
