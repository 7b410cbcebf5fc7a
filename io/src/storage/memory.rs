//! Content in memory: for tests, and for embedders who want no files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use teem_core::machine::{FileStat, JobError, JobErrorKind, Location, OpenFiles};
use teem_core::metainfo::Layout;

use super::{Cursor, FileStats, Storage, Store, check_range, error, is_stored};

/// Memory is taken by pages of this size, as they are written.
const PAGE_LEN: usize = 16 * 1024;

/// Keeps torrents in memory. What was written stays until it is deleted or the store is dropped,
/// also while the torrent is closed.
#[derive(Debug, Default)]
pub struct MemoryStore {
    torrents: Mutex<BTreeMap<Box<str>, Arc<Mutex<Pages>>>>,
}

#[derive(Debug, Default)]
struct Pages {
    written: BTreeMap<u64, Box<[u8]>>,
    /// Counts changes, in place of a time.
    changes: i64,
    open: bool,
}

/// One torrent's pages.
#[derive(Debug)]
struct MemoryStorage {
    layout: Arc<Layout>,
    writable: bool,
    pages: Arc<Mutex<Pages>>,
}

impl MemoryStore {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for MemoryStore {
    fn open(&self, files: &OpenFiles) -> Result<(Arc<dyn Storage>, FileStats), JobError> {
        let pages = Arc::clone(lock(&self.torrents).entry(files.key.clone()).or_default());
        if std::mem::replace(&mut lock(&pages).open, true) {
            return Err(error(JobErrorKind::Busy, format!("{}: open already", files.key)));
        }
        let layout = Arc::clone(&files.layout);
        let storage = MemoryStorage { layout, writable: files.writable, pages };
        let stats = storage.check()?;
        Ok((Arc::new(storage), stats))
    }
}

impl Pages {
    fn write(&mut self, mut offset: u64, mut part: &[u8]) {
        while !part.is_empty() {
            let (page, at) = split(offset);
            let (now, rest) = part.split_at(part.len().min(PAGE_LEN - at));
            let page = self.written.entry(page).or_insert_with(|| vec![0; PAGE_LEN].into());
            page[at..at + now.len()].copy_from_slice(now);
            offset += now.len() as u64;
            part = rest;
        }
    }
}

/// The page of an offset, and where in it.
const fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_LEN as u64, (offset % PAGE_LEN as u64) as usize)
}

impl Storage for MemoryStorage {
    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), JobError> {
        check_range(&self.layout, offset, buf.len())?;
        let pages = lock(&self.pages);
        while !buf.is_empty() {
            let (page, at) = split(offset);
            let (now, rest) = buf.split_at_mut(buf.len().min(PAGE_LEN - at));
            match pages.written.get(&page) {
                Some(page) => now.copy_from_slice(&page[at..at + now.len()]),
                None => now.fill(0),
            }
            offset += now.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.read_at(offset, buf).is_ok()
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), JobError> {
        let len = parts.iter().map(|part| part.len()).sum();
        check_range(&self.layout, offset, len)?;
        if !self.writable {
            return Err(error(JobErrorKind::PermissionDenied, "opened for reading only"));
        }
        let mut pages = lock(&self.pages);
        pages.changes += 1;
        let (mut cursor, mut done) = (Cursor::new(parts), offset);
        for slice in self.layout.map(offset, len as u64) {
            let Some(file) = self.layout.file(slice.file) else { continue };
            let mut at = file.offset() + slice.offset;
            cursor.skip(at - done);
            done = at + slice.len;
            cursor.take(slice.len, |part| {
                if is_stored(file) {
                    pages.write(at, part);
                    at += part.len() as u64;
                }
            });
        }
        Ok(())
    }

    fn flush(&self) -> Result<FileStats, JobError> {
        self.check()
    }

    fn check(&self) -> Result<FileStats, JobError> {
        let pages = lock(&self.pages);
        let stats = self.layout.files().map(|file| {
            let range =
                split(file.offset()).0..(file.offset() + file.len()).div_ceil(PAGE_LEN as u64);
            let held = pages.written.range(range).count() * PAGE_LEN;
            (is_stored(file) && (held > 0 || pages.changes > 0)).then(|| FileStat {
                len: file.len(),
                modified: pages.changes,
                allocated: held as u64,
            })
        });
        Ok(stats.collect())
    }

    fn room(&self, _: u64) -> Result<(), JobError> {
        Ok(())
    }

    fn move_to(&self, _: &Location) -> Result<(), JobError> {
        Ok(())
    }

    fn delete(&self) -> Result<(), JobError> {
        let mut pages = lock(&self.pages);
        pages.written.clear();
        pages.changes = 0;
        Ok(())
    }
}

impl Drop for MemoryStorage {
    fn drop(&mut self) {
        lock(&self.pages).open = false;
    }
}
