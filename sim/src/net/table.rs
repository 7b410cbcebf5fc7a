//! A small sorted map in one allocation: what a host has many kinds of and few of each.
//!
//! 100,000 hosts have a few dozen streams each, mostly one listener and mostly no socket; a tree's
//! nodes would be larger than what is in them. It grows by a quarter.

use teem_core::ids::Key;

/// Entries in the order of their keys.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<K: Key + Ord, V: Copy> Table<K, V> {
    pub(super) fn get(&self, key: K) -> Option<V> {
        let at = self.place(key).ok()?;
        Some(self.entries[at].1)
    }

    /// Puts a value under a key, in place of one that is there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.place(key) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => {
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(self.entries.len() / 4 + 1);
                }
                self.entries.insert(at, (key, value));
            }
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.place(key).ok()?;
        Some(self.entries.remove(at).1)
    }

    /// All entries, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> {
        self.entries.iter().copied()
    }

    fn place(&self, key: K) -> Result<usize, usize> {
        // Slots are dense: mostly all before this one are there.
        let slot = key.slot() as usize;
        if self.entries.get(slot).is_some_and(|entry| entry.0 == key) {
            return Ok(slot);
        }
        self.entries.binary_search_by_key(&key, |entry| entry.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use teem_core::ids::StreamId;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(
            steps in prop::collection::vec((0..3_u8, 0..20_u32, 1..3_u32, any::<u16>()), 0..100),
        ) {
            let (mut table, mut tree) = (Table::default(), BTreeMap::new());
            for (step, slot, generation, value) in steps {
                let key = StreamId::from_parts(slot, generation);
                match step {
                    0 => prop_assert_eq!(table.remove(key), tree.remove(&key)),
                    1 => prop_assert_eq!(table.get(key), tree.get(&key).copied()),
                    _ => {
                        table.insert(key, value);
                        tree.insert(key, value);
                    }
                }
                prop_assert!(table.iter().eq(tree.iter().map(|(key, value)| (*key, *value))));
            }
        }
    }
}
