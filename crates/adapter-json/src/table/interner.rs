//! Interning values that many rows share: each is stored once, with the number of its uses.

use std::hash::{BuildHasher as _, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// A value with a key that is cheaper to make than the value itself.
pub(crate) trait Keyed {
    type Key<'a>: Hash + Copy;
    fn key(&self) -> Self::Key<'_>;
    fn has_key(&self, key: Self::Key<'_>) -> bool;
}

struct Slot<T> {
    value: Option<T>,
    use_count: u32,
}

/// A set of distinct values, each in a numbered slot.
pub(crate) struct Interner<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// The slot that was found last. Neighbouring lines of the file often share values.
    last_found: u32,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        let hasher = DefaultHashBuilder::default();
        Self { slots: Vec::new(), free: Vec::new(), index: HashTable::new(), last_found: 0, hasher }
    }
}

impl<T: Keyed> Interner<T> {
    /// Makes an interner with these slots: the value of each, and the number of its uses.
    pub(crate) fn from_slots(values: Vec<Option<(T, u32)>>) -> Self {
        let mut interner = Self::default();
        interner.slots.reserve_exact(values.len());
        interner.index.reserve(values.len(), |_| 0);
        for (value, at) in values.into_iter().zip(0..) {
            let (value, use_count) = value.map_or((None, 0), |(value, use_count)| (Some(value), use_count));
            match &value {
                None => interner.free.push(at),
                Some(value) => {
                    let hash = interner.hasher.hash_one(value.key());
                    interner.index.insert_unique(hash, at, |_| 0);
                }
            }
            interner.slots.push(Slot { value, use_count });
        }
        interner
    }

    /// Returns the slot of the value with this key.
    pub(crate) fn find(&self, key: T::Key<'_>) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&at| self.get(at).is_some_and(|value| value.has_key(key))).copied()
    }

    /// Returns the slot of the value with this key. It is faster than [`Interner::find`] if the value was also found
    /// last.
    pub(crate) fn find_cached(&mut self, key: T::Key<'_>) -> Option<u32> {
        if !self.get(self.last_found).is_some_and(|value| value.has_key(key)) {
            self.last_found = self.find(key)?;
        }
        Some(self.last_found)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.value.as_mut()
    }

    /// Returns the number of rows that use a value.
    pub(crate) fn use_count(&self, at: u32) -> u32 {
        self.slots.get(at as usize).map_or(0, |slot| slot.use_count)
    }

    /// Returns the number of slots, free ones included.
    pub(crate) fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Adds a value that is not in the set yet, with 0 uses. Returns its slot.
    pub(crate) fn add(&mut self, value: T) -> u32 {
        let hash = self.hasher.hash_one(value.key());
        let slot = Slot { value: Some(value), use_count: 0 };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                reserve_one(&mut self.slots);
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

    /// Counts one more use of a value.
    pub(crate) fn acquire(&mut self, at: u32) {
        self.slots[at as usize].use_count += 1;
    }

    /// Counts one use of a value less, and returns how many are left.
    pub(crate) fn release(&mut self, at: u32) -> u32 {
        let use_count = &mut self.slots[at as usize].use_count;
        *use_count = use_count.saturating_sub(1);
        *use_count
    }

    /// Removes a value that has no uses.
    pub(crate) fn remove(&mut self, at: u32) {
        let Some(value) = self.slots[at as usize].value.take() else { return };
        let hash = self.hasher.hash_one(value.key());
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
    }
}

/// Reserves space for one more value. The vector grows by an eighth, because doubling could leave half of it empty.
fn reserve_one<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(16));
    }
}
