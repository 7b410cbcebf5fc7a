//! What a driver keeps for the ids that a machine gives out.

use teem_core::ids::Key;

/// A value per id. Ids name slots and are given out densely, so this is a vector.
///
/// A machine may give out a slot again before the driver has heard that the one before is dead
/// (it is told in the next output). Such a predecessor is set aside and still found by its id.
#[derive(Debug)]
pub struct Table<K, V> {
    slots: Vec<Option<(K, V)>>,
    aside: Vec<(K, V)>,
    len: usize,
}

impl<K: Key + PartialEq, V> Table<K, V> {
    /// Empty; allocates nothing.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), aside: Vec::new(), len: 0 }
    }

    /// Keeps `value` under `key`; what was under the very same key comes back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let slot = key.slot() as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.len += 1;
        match self.slots[slot].replace((key, value)) {
            Some((old, value)) if old == key => {
                self.len -= 1;
                Some(value)
            }
            Some(old) => {
                self.aside.push(old);
                None
            }
            None => None,
        }
    }

    /// Takes out what is under `key`.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let entry = self.slots.get_mut(key.slot() as usize)?;
        let value = if entry.as_ref().is_some_and(|(there, _)| *there == key) {
            entry.take().map(|(_, value)| value)
        } else {
            let at = self.aside.iter().position(|(there, _)| *there == key)?;
            Some(self.aside.swap_remove(at).1)
        };
        self.len -= usize::from(value.is_some());
        value
    }

    /// What is under `key`.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        match self.slots.get_mut(key.slot() as usize)? {
            Some((there, value)) if *there == key => Some(value),
            _ => self.aside.iter_mut().find(|(there, _)| *there == key).map(|(_, value)| value),
        }
    }

    /// The latest that has the slot.
    pub fn at_slot(&mut self, slot: u32) -> Option<(K, &mut V)> {
        let (key, value) = self.slots.get_mut(slot as usize)?.as_mut()?;
        Some((*key, value))
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All, in slot order; those set aside at the end.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        let slots = self.slots.iter_mut().flatten();
        slots.chain(self.aside.iter_mut()).map(|(key, value)| (*key, value))
    }
}

impl<K: Key + PartialEq, V> Default for Table<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;
    use teem_core::ids::StreamId;

    proptest! {
        #[test]
        fn it_behaves_like_a_map(
            steps in prop::collection::vec((0_u32..4, 1_u32..4, 0_u8..3), 0..80),
        ) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            for (slot, generation, step) in steps {
                let key = StreamId::from_parts(slot, generation);
                match step {
                    0 => {
                        // One key is never given out twice, not even while it is aside.
                        if let Entry::Vacant(vacant) = model.entry(key) {
                            prop_assert_eq!(table.insert(key, generation), None);
                            vacant.insert(generation);
                        }
                    }
                    1 => prop_assert_eq!(table.remove(key), model.remove(&key)),
                    _ => prop_assert_eq!(table.get_mut(key), model.get_mut(&key)),
                }
                prop_assert_eq!(table.len(), model.len());
                let mut all: Vec<_> = table.iter_mut().map(|(key, value)| (key, *value)).collect();
                all.sort_unstable();
                prop_assert!(all.into_iter().eq(model.iter().map(|(key, value)| (*key, *value))));
            }
        }
    }
}
