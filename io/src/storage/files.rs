//! Content in files, below a folder that nothing leaves.
//!
//! What it promises: no byte of a file that was there is changed but by writes, and no file is ever
//! shortened (a longer one keeps its tail, and its length shows in the statistics); a file that
//! vanished after it was opened is not silently made anew, since what was verified in it is gone;
//! after [`Storage::flush`] returned, data and names are on the disk. Links (BEP 47) are not made.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{self as sys, FallocateFlags};
use rustix::io::Errno;
use teem_core::machine::{Allocation, JobError, JobErrorKind, Location, OpenFiles};
use teem_core::metainfo::{self, Layout};

use super::handles::{HANDLES_MAX, Handles};
use super::lock::Lock;
use super::root::{Access, Root, file_stat, split};
use super::{
    Cursor, FileStats, Storage, Store, ahead, cached, check_range, error, is_stored, relocate,
    system,
};

/// Parts of one vectored write; more are written in several.
const PARTS_MAX: usize = 1024;

/// Keeps torrents in files, with at most 128 of them open at a time.
#[derive(Debug)]
pub struct FileStore {
    handles: Arc<Handles>,
}

impl FileStore {
    /// A store with no file open.
    pub fn new() -> Self {
        Self { handles: Arc::new(Handles::new(HANDLES_MAX)) }
    }
}

impl Default for FileStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for FileStore {
    fn open(&self, files: &OpenFiles) -> Result<(Arc<dyn Storage>, FileStats), JobError> {
        let (storage, stats) = FileStorage::open(files, &self.handles)?;
        Ok((Arc::new(storage), stats))
    }
}

/// One torrent's files.
#[derive(Debug)]
struct FileStorage {
    owner: u64,
    layout: Arc<Layout>,
    key: Box<str>,
    allocation: Allocation,
    writable: bool,
    handles: Arc<Handles>,
    place: RwLock<Place>,
    /// Files that were there, or that we made.
    known: Box<[AtomicBool]>,
    unsynced: Mutex<Unsynced>,
}

/// Where the files are. The lock is given back when this is dropped.
#[derive(Debug)]
struct Place {
    root: Root,
    #[expect(dead_code, reason = "held, not used")]
    lock: Option<Lock>,
}

/// What was changed and is not durable yet.
#[derive(Debug, Default)]
struct Unsynced {
    files: BTreeSet<usize>,
    /// Folders that got new names.
    folders: BTreeSet<String>,
}

impl Unsynced {
    /// Notes that a file was made, and the folders above it.
    fn made(&mut self, path: &str, folders: &[String]) {
        self.folders.insert(split(path).0.to_owned());
        self.folders.extend(folders.iter().map(|folder| split(folder).0.to_owned()));
    }
}

impl FileStorage {
    fn open(files: &OpenFiles, handles: &Arc<Handles>) -> Result<(Self, FileStats), JobError> {
        let folder = system::path(&files.folder);
        let at = |failed: io::Error| system::fail(&folder, &failed);
        let root = Root::open(&folder, files.writable).map_err(at)?;
        let lock = take_lock(&root, &files.key, files.writable)?;
        let storage = Self {
            owner: handles.owner(),
            layout: Arc::clone(&files.layout),
            key: files.key.clone(),
            allocation: files.allocation,
            writable: files.writable,
            handles: Arc::clone(handles),
            place: RwLock::new(Place { root, lock }),
            known: files.layout.files().map(|_| AtomicBool::new(false)).collect(),
            unsynced: Mutex::default(),
        };
        let mut made = (Vec::new(), Vec::new());
        let stats = storage.prepare(&files.wanted, &mut made);
        if stats.is_err() {
            // A torrent that could not be opened leaves nothing behind.
            let place = storage.place();
            for path in made.0.iter().rev() {
                let _ = place.root.remove_file(path);
            }
            for path in made.1.iter().rev() {
                let _ = place.root.remove_folder(path);
            }
        }
        stats.map(|stats| (storage, stats))
    }

    /// Looks at all files, then makes what is missing.
    fn prepare(
        &self,
        wanted: &[bool],
        made: &mut (Vec<String>, Vec<String>),
    ) -> Result<FileStats, JobError> {
        let stats = self.check()?;
        for (file, stat) in self.layout.files().zip(&stats) {
            if !is_stored(file) {
                continue;
            }
            let index = file.index();
            self.known[index].store(stat.is_some(), Ordering::Relaxed);
            let wanted = wanted.get(index).copied().unwrap_or(true) || file.len() == 0;
            if !self.writable || !wanted {
                continue;
            }
            match stat {
                None => {
                    self.create(&self.place().root, file, &mut made.1)?;
                    made.0.push(file.path().to_owned());
                }
                Some(stat) if stat.len < file.len() => {
                    let longer = self.handle(index, true).and_then(|handle| {
                        lengthen(&handle, stat.len, file.len(), self.allocation)
                            .map_err(|failed| fail(&self.place().root, file, &failed))
                    });
                    self.unsynced().files.insert(index);
                    longer?;
                }
                // An earlier run may have written to it, and not come to make that durable.
                Some(_) => drop(self.unsynced().files.insert(index)),
            }
        }
        Ok(stats)
    }

    fn place(&self) -> RwLockReadGuard<'_, Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsynced(&self) -> std::sync::MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a file of its full length. `folders` gets the paths of new folders.
    fn create(
        &self,
        root: &Root,
        file: metainfo::File<'_>,
        folders: &mut Vec<String>,
    ) -> Result<Arc<File>, JobError> {
        let (path, before) = (file.path(), folders.len());
        let access = Access::New { executable: file.attributes().executable };
        let made = root
            .create_folder(split(path).0, folders)
            .and_then(|_| self.open_file(root, path, access));
        self.unsynced().made(path, &folders[before..]);
        let handle = match made {
            Ok(handle) => handle,
            // Another thread was faster.
            Err(failed) if failed.kind() == io::ErrorKind::AlreadyExists => {
                let opened = self.open_file(root, path, Access::Write);
                opened.map_err(|failed| fail(root, file, &failed))?
            }
            Err(failed) => return Err(fail(root, file, &failed)),
        };
        if let Err(failed) = lengthen(&handle, 0, file.len(), self.allocation) {
            let _ = root.remove_file(path);
            return Err(fail(root, file, &failed));
        }
        self.known[file.index()].store(true, Ordering::Relaxed);
        self.unsynced().files.insert(file.index());
        let handle = Arc::new(handle);
        self.handles.put((self.owner, file.index()), Arc::clone(&handle), true);
        Ok(handle)
    }

    /// Opens a file, at the cost of others if the process has too many open.
    fn open_file(&self, root: &Root, path: &str, access: Access) -> io::Result<File> {
        let opened = match root.open_file(path, access) {
            Err(failed)
                if matches!(Errno::from_io_error(&failed), Some(Errno::MFILE | Errno::NFILE)) =>
            {
                self.handles.shrink();
                root.open_file(path, access)
            }
            opened => opened,
        };
        opened.map(|(file, _)| file)
    }

    /// The open file.
    fn handle(&self, index: usize, write: bool) -> Result<Arc<File>, JobError> {
        if let Some(handle) = self.handles.get((self.owner, index), write) {
            return Ok(handle);
        }
        let Some(file) = self.layout.file(index) else {
            return Err(error(JobErrorKind::NotFound, "no such file in the torrent"));
        };
        let root = &self.place().root;
        if write && !self.writable {
            let detail = format!("{}: opened for reading only", root.path().display());
            return Err(error(JobErrorKind::PermissionDenied, detail));
        }
        let mut writable = self.writable;
        let access = if writable { Access::Write } else { Access::Read };
        let mut opened = self.open_file(root, file.path(), access);
        if let Err(failed) = &opened {
            let kind = system::kind(failed);
            if write && kind == JobErrorKind::NotFound && !self.known[index].load(Ordering::Relaxed)
            {
                return self.create(root, file, &mut Vec::new());
            }
            if !write && writable && kind == JobErrorKind::PermissionDenied {
                writable = false;
                opened = self.open_file(root, file.path(), Access::Read);
            }
        }
        let handle = Arc::new(opened.map_err(|failed| fail(root, file, &failed))?);
        self.handles.put((self.owner, index), Arc::clone(&handle), writable);
        Ok(handle)
    }

    /// Fills `buf` with the content from `offset` on: `read` gets each part that a file holds, and
    /// where in the file it begins; all else is zeros.
    fn fill<E>(
        &self,
        offset: u64,
        buf: &mut [u8],
        mut read: impl FnMut(metainfo::File<'_>, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        for slice in self.layout.map(offset, buf.len() as u64) {
            let Some(file) = self.layout.file(slice.file).filter(|file| is_stored(*file)) else {
                continue;
            };
            let start = (file.offset() + slice.offset - offset) as usize;
            let end = start + slice.len as usize;
            buf[done..start].fill(0);
            done = end;
            read(file, slice.offset, &mut buf[start..end])?;
        }
        buf[done..].fill(0);
        Ok(())
    }

    fn sync(&self, unsynced: &Unsynced) -> Result<(), JobError> {
        for &index in &unsynced.files {
            // To make durable what is there, reading is enough; it may not be ours to write.
            let handle = self.handle(index, false).or_else(|_| self.handle(index, true))?;
            if let (Err(failed), Some(file)) = (handle.sync_data(), self.layout.file(index)) {
                return Err(fail(&self.place().root, file, &failed));
            }
        }
        let root = &self.place().root;
        for path in &unsynced.folders {
            let synced = root.open_folder(path).and_then(|folder| Ok(sys::fsync(&folder)?));
            synced.map_err(|failed| system::fail(&root.path().join(path), &failed))?;
        }
        Ok(())
    }

    /// All folders that files are in, each behind those above it.
    fn folders(&self) -> BTreeSet<&str> {
        let mut folders = BTreeSet::new();
        for file in self.layout.files().filter(|file| is_stored(*file)) {
            let mut path = split(file.path()).0;
            while !path.is_empty() && folders.insert(path) {
                path = split(path).0;
            }
        }
        folders
    }
}

/// What a failure on a file means.
fn fail(root: &Root, file: metainfo::File<'_>, failed: &io::Error) -> JobError {
    system::fail(&root.path().join(file.path()), failed)
}

fn take_lock(root: &Root, key: &str, writable: bool) -> Result<Option<Lock>, JobError> {
    Lock::take(root, key, writable).map_err(|failed| match failed.kind() {
        io::ErrorKind::WouldBlock => {
            let detail = format!("{}: another instance works on {key}", root.path().display());
            error(JobErrorKind::Busy, detail)
        }
        _ => system::fail(root.path(), &failed),
    })
}

/// Gives a file its length, never less than it has.
fn lengthen(file: &File, len: u64, wanted: u64, allocation: Allocation) -> io::Result<()> {
    if len >= wanted {
        return Ok(());
    }
    if allocation == Allocation::Full {
        loop {
            match sys::fallocate(file, FallocateFlags::empty(), 0, wanted) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // Not every file system can; the statistics tell.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(failed) => return Err(failed.into()),
            }
        }
    }
    Ok(sys::ftruncate(file, wanted)?)
}

/// Writes all parts, however many calls it takes.
fn write_parts(file: &File, mut offset: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !parts.is_empty() {
        let now = &parts[..parts.len().min(PARTS_MAX)];
        match rustix::io::pwritev(file, now, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(Errno::INTR) => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Ok(())
}

impl Storage for FileStorage {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), JobError> {
        check_range(&self.layout, offset, buf.len())?;
        self.fill(offset, buf, |file, at, part| {
            let handle = self.handle(file.index(), false)?;
            let Err(failed) = handle.read_exact_at(part, at) else { return Ok(()) };
            let root = &self.place().root;
            if failed.kind() == io::ErrorKind::UnexpectedEof {
                let path = root.path().join(file.path());
                let detail = format!("{}: shorter than it should be", path.display());
                return Err(error(JobErrorKind::NotFound, detail));
            }
            Err(fail(root, file, &failed))
        })
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        let read = |file: metainfo::File<'_>, at, part: &mut [u8]| {
            // To open one may take a while.
            let handle = self.handles.get((self.owner, file.index()), false).ok_or(())?;
            cached::read(&handle, part, at).then_some(()).ok_or(())
        };
        check_range(&self.layout, offset, buf.len()).is_ok() && self.fill(offset, buf, read).is_ok()
    }

    fn will_read(&self, offset: u64, len: usize) {
        if check_range(&self.layout, offset, len).is_err() {
            return;
        }
        for slice in self.layout.map(offset, len as u64) {
            let stored = self.layout.file(slice.file).is_some_and(is_stored);
            // What is wrong with a file will be said when it is read.
            let Some(handle) = stored.then(|| self.handle(slice.file, false).ok()).flatten() else {
                continue;
            };
            ahead::read(&handle, slice.offset, slice.len);
        }
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), JobError> {
        let len = parts.iter().map(|part| part.len()).sum();
        check_range(&self.layout, offset, len)?;
        let (mut cursor, mut done) = (Cursor::new(parts), offset);
        let mut now = Vec::with_capacity(parts.len());
        for slice in self.layout.map(offset, len as u64) {
            let Some(file) = self.layout.file(slice.file) else { continue };
            let start = file.offset() + slice.offset;
            cursor.skip(start - done);
            done = start + slice.len;
            if !is_stored(file) {
                cursor.skip(slice.len);
                continue;
            }
            now.clear();
            cursor.take(slice.len, |part| now.push(IoSlice::new(part)));
            let handle = self.handle(slice.file, true)?;
            self.unsynced().files.insert(slice.file);
            write_parts(&handle, slice.offset, &mut now)
                .map_err(|failed| fail(&self.place().root, file, &failed))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<FileStats, JobError> {
        let unsynced = std::mem::take(&mut *self.unsynced());
        if let Err(failed) = self.sync(&unsynced) {
            let mut again = self.unsynced();
            again.files.extend(unsynced.files);
            again.folders.extend(unsynced.folders);
            return Err(failed);
        }
        self.check()
    }

    fn check(&self) -> Result<FileStats, JobError> {
        let root = &self.place().root;
        let stats = self.layout.files().map(|file| {
            if !is_stored(file) {
                return Ok(None);
            }
            let stat = root.stat(file.path()).map_err(|failed| fail(root, file, &failed))?;
            Ok(stat.map(|stat| file_stat(&stat)))
        });
        stats.collect()
    }

    fn room(&self, bytes: u64) -> Result<(), JobError> {
        let place = self.place();
        let path = place.root.path();
        let failed = |failed: Errno| system::fail(path, &failed.into());
        let stat = sys::statvfs(path).map_err(failed)?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) >= bytes {
            Ok(())
        } else {
            Err(failed(Errno::NOSPC))
        }
    }

    fn move_to(&self, to: &Location) -> Result<(), JobError> {
        let mut place = self.place.write().unwrap_or_else(PoisonError::into_inner);
        let folder = system::path(to);
        let at = |failed: io::Error| system::fail(&folder, &failed);
        let root = Root::open(&folder, true).map_err(at)?;
        if root.is_same(&place.root).map_err(at)? {
            return Ok(());
        }
        let lock = take_lock(&root, &self.key, self.writable)?;
        self.handles.forget(self.owner);
        let stored = || self.layout.files().filter(|file| is_stored(*file));
        relocate::relocate(&place.root, &root, stored().map(metainfo::File::path))
            .map_err(|(path, failed)| system::fail(&folder.join(path), &failed))?;
        for path in self.folders().iter().rev() {
            let _ = place.root.remove_folder(path);
        }
        let mut unsynced = self.unsynced();
        unsynced.folders.clear();
        for file in stored() {
            if root.open_folder(split(file.path()).0).is_ok() {
                unsynced.made(file.path(), &[]);
            }
        }
        for path in self.folders() {
            if root.open_folder(path).is_ok() {
                unsynced.folders.insert(split(path).0.to_owned());
            }
        }
        *place = Place { root, lock };
        Ok(())
    }

    fn delete(&self) -> Result<(), JobError> {
        self.handles.forget(self.owner);
        let place = self.place();
        let mut first = Ok(());
        for file in self.layout.files().filter(|file| is_stored(*file)) {
            match place.root.remove_file(file.path()) {
                Ok(_) => self.known[file.index()].store(false, Ordering::Relaxed),
                Err(failed) => first = first.and_then(|()| Err(fail(&place.root, file, &failed))),
            }
        }
        for path in self.folders().iter().rev() {
            if let Err(failed) = place.root.remove_folder(path) {
                let path: &Path = path.as_ref();
                first =
                    first.and_then(|()| Err(system::fail(&place.root.path().join(path), &failed)));
            }
        }
        *self.unsynced() = Unsynced::default();
        first
    }
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        self.handles.forget(self.owner);
    }
}
