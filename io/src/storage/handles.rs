//! Open files, a bounded number of them, the least recently used closed first.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that one store keeps open.
pub(super) const HANDLES_MAX: usize = 128;

/// Whose file, and which.
pub(super) type Key = (u64, usize);

/// A cache of open files, shared by all storages of a store.
#[derive(Debug)]
pub(super) struct Handles {
    max: usize,
    inner: Mutex<Lru>,
}

#[derive(Debug, Default)]
struct Lru {
    files: BTreeMap<Key, Entry>,
    /// By time of the last use.
    used: BTreeMap<u64, Key>,
    now: u64,
    owners: u64,
}

#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    writable: bool,
    used: u64,
}

impl Handles {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Lru> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new owner of files.
    pub(super) fn owner(&self) -> u64 {
        let mut lru = self.lock();
        lru.owners += 1;
        lru.owners
    }

    /// The open file, if it is open for what is to be done.
    pub(super) fn get(&self, key: Key, write: bool) -> Option<Arc<File>> {
        let lru = &mut *self.lock();
        let entry = lru.files.get_mut(&key).filter(|entry| entry.writable || !write)?;
        lru.used.remove(&entry.used);
        lru.now += 1;
        entry.used = lru.now;
        lru.used.insert(lru.now, key);
        Some(Arc::clone(&entry.file))
    }

    /// Keeps a file open; closes another if there are too many.
    pub(super) fn put(&self, key: Key, file: Arc<File>, writable: bool) {
        // Closing may wait for the disk: not while others wait for us.
        let mut closing = Vec::new();
        let lru = &mut *self.lock();
        lru.now += 1;
        let entry = Entry { file, writable, used: lru.now };
        lru.used.insert(lru.now, key);
        if let Some(old) = lru.files.insert(key, entry) {
            lru.used.remove(&old.used);
            closing.push(old);
        }
        while lru.files.len() > self.max {
            let Some((_, key)) = lru.used.pop_first() else { break };
            closing.extend(lru.files.remove(&key));
        }
    }

    /// Closes all files of an owner.
    pub(super) fn forget(&self, owner: u64) {
        let mut closing = Vec::new();
        let mut lru = self.lock();
        let keys: Vec<Key> =
            lru.files.range((owner, 0)..=(owner, usize::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(entry) = lru.files.remove(&key) {
                lru.used.remove(&entry.used);
                closing.push(entry);
            }
        }
        drop(lru);
    }

    /// Closes half of all files: the process has too many.
    pub(super) fn shrink(&self) {
        let mut closing = Vec::new();
        let mut lru = self.lock();
        for _ in 0..lru.files.len().div_ceil(2) {
            let Some((_, key)) = lru.used.pop_first() else { break };
            closing.extend(lru.files.remove(&key));
        }
        drop(lru);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let lru = self.lock();
        assert_eq!(lru.files.len(), lru.used.len());
        lru.files.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_file_is_closed_first() {
        let handles = Handles::new(2);
        let file = || Arc::new(tempfile::tempfile().expect("a file"));
        handles.put((1, 0), file(), true);
        handles.put((1, 1), file(), false);
        assert!(handles.get((1, 0), true).is_some());
        handles.put((2, 0), file(), true);
        assert!(handles.get((1, 1), false).is_none());
        assert!(handles.get((1, 0), false).is_some());
        handles.forget(1);
        assert_eq!(handles.len(), 1);
        assert!(handles.get((2, 0), false).is_some());
    }

    #[test]
    fn a_file_that_is_open_for_reading_is_not_written_to() {
        let handles = Handles::new(2);
        handles.put((1, 0), Arc::new(tempfile::tempfile().expect("a file")), false);
        assert!(handles.get((1, 0), true).is_none());
        assert!(handles.get((1, 0), false).is_some());
    }
}
