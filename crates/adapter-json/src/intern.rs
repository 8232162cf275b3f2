//! Values that many rows share, kept once and counted.

use std::hash::{BuildHasher as _, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// What is found by something cheaper than itself.
pub(crate) trait Keyed {
    type Key<'a>: Hash + Copy;
    fn key(&self) -> Self::Key<'_>;
    fn is(&self, key: Self::Key<'_>) -> bool;
}

struct Slot<T> {
    value: Option<T>,
    uses: u32,
}

pub(crate) struct Interner<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// What was found last: neighbours in the file share much.
    recent: u32,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        let hasher = DefaultHashBuilder::default();
        Self { slots: Vec::new(), free: Vec::new(), index: HashTable::new(), recent: 0, hasher }
    }
}

impl<T: Keyed> Interner<T> {
    /// From what each place holds, and how often that is used.
    pub(crate) fn from_slots(values: Vec<Option<(T, u32)>>) -> Self {
        let mut interner = Self::default();
        interner.slots.reserve_exact(values.len());
        interner.index.reserve(values.len(), |_| 0);
        for (value, at) in values.into_iter().zip(0..) {
            let (value, uses) = value.map_or((None, 0), |(value, uses)| (Some(value), uses));
            match &value {
                None => interner.free.push(at),
                Some(value) => {
                    let hash = interner.hasher.hash_one(value.key());
                    interner.index.insert_unique(hash, at, |_| 0);
                }
            }
            interner.slots.push(Slot { value, uses });
        }
        interner
    }

    pub(crate) fn find(&self, key: T::Key<'_>) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&at| self.get(at).is_some_and(|value| value.is(key))).copied()
    }

    /// The same, quickly where it is the same as the last time.
    pub(crate) fn find_again(&mut self, key: T::Key<'_>) -> Option<u32> {
        if !self.get(self.recent).is_some_and(|value| value.is(key)) {
            self.recent = self.find(key)?;
        }
        Some(self.recent)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.value.as_mut()
    }

    /// How many rows use it.
    pub(crate) fn uses(&self, at: u32) -> u32 {
        self.slots.get(at as usize).map_or(0, |slot| slot.uses)
    }

    /// One past the last place that is or was in use.
    pub(crate) fn bound(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts a value that is not there yet, with no use.
    pub(crate) fn add(&mut self, value: T) -> u32 {
        let hash = self.hasher.hash_one(value.key());
        let slot = Slot { value: Some(value), uses: 0 };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                grow(&mut self.slots);
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let Self { slots, index, hasher, .. } = self;
        index.insert_unique(hash, at, |&other| {
            slots[other as usize].value.as_ref().map_or(0, |value| hasher.hash_one(value.key()))
        });
        at
    }

    pub(crate) fn acquire(&mut self, at: u32) {
        self.slots[at as usize].uses += 1;
    }

    /// One use less; answers how many are left.
    pub(crate) fn release(&mut self, at: u32) -> u32 {
        let uses = &mut self.slots[at as usize].uses;
        *uses = uses.saturating_sub(1);
        *uses
    }

    pub(crate) fn remove(&mut self, at: u32) {
        let Some(value) = self.slots[at as usize].value.take() else { return };
        let hash = self.hasher.hash_one(value.key());
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
    }
}

/// Room for one more, an eighth at a time: doubling would leave half of a large vector empty.
pub(crate) fn grow<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(16));
    }
}
