//! Where torrents keep their content.
//!
//! An embedder who keeps content elsewhere implements the two small traits here, [`Storage`] for
//! one torrent and [`Store`] to open them; the [`ThreadPool`](crate::executor::ThreadPool) makes
//! the whole job interface out of them: order, coalescing, hashing, cancellation.

pub mod ahead;
pub(crate) mod blob;
mod cached;
mod files;
mod handles;
mod lock;
mod memory;
mod relocate;
mod root;
mod system;

use std::sync::Arc;

use teem_core::machine::{FileStat, JobError, JobErrorKind, Location, OpenFiles};
use teem_core::metainfo::{self, Layout};

pub use blob::{load, save};
pub use files::FileStore;
pub use memory::MemoryStore;

/// Each file of a layout as it is, in order; none for pad files and files that do not exist.
pub type FileStats = Box<[Option<FileStat>]>;

/// The content of one open torrent. Offsets count through the torrent's byte space; what no file
/// holds (padding, gaps) reads as zeros, and writes to it are dropped.
///
/// Reads and writes may run at the same time, on several threads. The others run alone.
pub trait Storage: Send + Sync {
    /// Fills `buf` from `offset` on. Content that is not there is
    /// [`JobErrorKind::NotFound`].
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), JobError>;

    /// Fills `buf` from `offset` on if that takes no waiting for a disk or the like. Returns whether
    /// it did; if not, whatever the reason, `buf` says nothing, and [`read_at`](Self::read_at) tells.
    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        let _ = (offset, buf);
        false
    }

    /// This will be read soon; a hint, which may be ignored. Returns at once.
    fn will_read(&self, offset: u64, len: usize) {
        let _ = (offset, len);
    }

    /// Writes all `parts`, one after the other, from `offset` on.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), JobError>;

    /// Makes everything written durable, then says how the files are.
    fn flush(&self) -> Result<FileStats, JobError>;

    /// Says how the files are.
    fn check(&self) -> Result<FileStats, JobError>;

    /// Whether `bytes` more find room, as far as can be told: [`JobErrorKind::Full`] if not.
    fn room(&self, bytes: u64) -> Result<(), JobError>;

    /// Takes the content elsewhere, or leaves it where it was and says why.
    fn move_to(&self, to: &Location) -> Result<(), JobError>;

    /// Removes the content.
    fn delete(&self) -> Result<(), JobError>;
}

/// Opens torrents' storages. What a storage holds on to is given back when it is dropped.
pub trait Store: Send + Sync {
    /// Makes a torrent's storage ready, as
    /// [`FileOp::Open`](teem_core::machine::FileOp::Open) says, and tells how it was found.
    fn open(&self, files: &OpenFiles) -> Result<(Arc<dyn Storage>, FileStats), JobError>;
}

/// An error for a machine, with what a person should read.
pub(crate) fn error(kind: JobErrorKind, detail: impl Into<Box<str>>) -> JobError {
    JobError { kind, detail: detail.into() }
}

/// Whether a file is one that is stored.
fn is_stored(file: metainfo::File<'_>) -> bool {
    !file.is_pad() && file.link_target().is_none()
}

/// Refuses what lies outside of the content.
fn check_range(layout: &Layout, offset: u64, len: usize) -> Result<(), JobError> {
    let end = offset.checked_add(len as u64);
    if end.is_none_or(|end| end > layout.space_len()) {
        let detail = format!("{len} bytes at {offset} are not all within the content");
        return Err(error(JobErrorKind::Io, detail));
    }
    Ok(())
}

/// Walks through parts that read as one.
struct Cursor<'a> {
    parts: std::slice::Iter<'a, &'a [u8]>,
    part: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn new(parts: &'a [&'a [u8]]) -> Self {
        Self { parts: parts.iter(), part: &[] }
    }

    fn skip(&mut self, count: u64) {
        self.take(count, |_| {});
    }

    fn take(&mut self, mut count: u64, mut found: impl FnMut(&'a [u8])) {
        while count > 0 {
            if self.part.is_empty() {
                let Some(part) = self.parts.next() else { return };
                self.part = part;
                continue;
            }
            let now = count.min(self.part.len() as u64);
            let (head, rest) = self.part.split_at(now as usize);
            found(head);
            self.part = rest;
            count -= now;
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
