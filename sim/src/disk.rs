//! A disk in memory: content per torrent, and saved blobs.
//!
//! It keeps the rules of [`Job`] that an executor keeps, does each job at once where it stands, and
//! leaves it to the [network](crate::net) when the completion comes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use teem_core::chunks::Chunks;
use teem_core::hash::HashState;
use teem_core::ids::TorrentId;
use teem_core::machine::{
    FileOp, FileStat, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult, Location,
    OpenFiles,
};
use teem_core::metainfo::{File, Layout};
use teem_core::time::Instant;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Disk {
    now: Option<Instant>,
    contents: BTreeMap<Place, Content>,
    open: BTreeMap<TorrentId, Place>,
    saved: BTreeMap<(Bytes, Box<str>), Bytes>,
    names: BTreeMap<Box<str>, Vec<IpAddr>>,
    full_at: Option<u64>,
    bytes_written: u64,
}

/// Where a torrent's content lies: a folder, and the torrent's key.
type Place = (Bytes, Box<str>);

/// What a torrent's files hold, in one row as its layout says.
#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// Since it was opened first.
    layout: Option<Arc<Layout>>,
    /// Each file that exists.
    files: Vec<Option<FileState>>,
}

#[derive(Clone, Copy, Debug)]
struct FileState {
    modified: i64,
    allocated: u64,
}

impl Disk {
    /// Nothing on it, and room for everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// What time files change at, from now on.
    pub const fn set_now(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Puts the first bytes of a torrent's content there, padding included; its key is what
    /// [`OpenFiles::key`] will be. The files that begin before the end of `content` exist.
    pub fn preload(&mut self, folder: &Location, key: &str, content: &[u8]) {
        let content = Content { bytes: content.to_vec(), ..Content::default() };
        self.contents.insert((folder.0.clone(), key.into()), content);
    }

    /// What lies there.
    pub fn content(&self, folder: &Location, key: &str) -> Option<&[u8]> {
        let content = self.contents.get(&(folder.0.clone(), key.into()));
        content.map(|content| content.bytes.as_slice())
    }

    /// What lies there, to damage it.
    pub fn content_mut(&mut self, folder: &Location, key: &str) -> Option<&mut [u8]> {
        let content = self.contents.get_mut(&(folder.0.clone(), key.into()));
        content.map(|content| content.bytes.as_mut_slice())
    }

    /// A saved blob.
    pub fn saved(&self, location: &Location, name: &str) -> Option<&Bytes> {
        self.saved.get(&(location.0.clone(), name.into()))
    }

    /// Gives a name addresses.
    pub fn add_name(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.names.entry(name.into()).or_default().extend(addresses);
    }

    /// From here on there is room for that many more bytes; none: for everything.
    pub fn set_room(&mut self, bytes: Option<u64>) {
        self.full_at = bytes.map(|bytes| self.bytes_written + bytes);
    }

    /// Forgets which torrents are open, as a crash does.
    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// Bytes written so far.
    pub const fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Does a job.
    pub fn run(&mut self, job: Job) -> JobResult {
        match job {
            Job::Read { torrent, offset, len } => {
                let part = self.stored(torrent, offset, len)?;
                Ok(JobOutput::Read(Bytes::copy_from_slice(part)))
            }
            Job::Write { torrent, offset, data } => self.write(torrent, offset, &data),
            Job::Hash { torrent, state, source, last } => self.hash(torrent, state, &source, last),
            Job::Fence { .. } => Ok(JobOutput::Done),
            Job::Files { torrent, op } => self.files(torrent, op),
            Job::Save { location, name, data } => {
                self.take_room(data.len())?;
                self.saved.insert((location.0, name), data);
                Ok(JobOutput::Done)
            }
            Job::Resolve { host, port } => self.resolve(&host, port),
            _ => Err(failure(JobErrorKind::Io, "unknown job")),
        }
    }

    fn stored(&self, torrent: TorrentId, offset: u64, len: u32) -> Result<&[u8], JobError> {
        let content = self.contents.get(self.place(torrent)?);
        let found = content.and_then(|content| content.read(offset, len as usize));
        found.ok_or_else(|| failure(JobErrorKind::NotFound, "no such file, or it is shorter"))
    }

    fn place(&self, torrent: TorrentId) -> Result<&Place, JobError> {
        self.open.get(&torrent).ok_or_else(|| failure(JobErrorKind::Io, "the files are not open"))
    }

    fn opened(&mut self, torrent: TorrentId) -> Result<&mut Content, JobError> {
        let place = self.place(torrent)?.clone();
        let content = self.contents.get_mut(&place);
        content.ok_or_else(|| failure(JobErrorKind::NotFound, "the files were deleted"))
    }

    fn modified(&self) -> i64 {
        let micros = self.now.map_or(0, Instant::as_micros);
        i64::try_from(micros).unwrap_or(0) * 1_000
    }

    fn write(&mut self, torrent: TorrentId, offset: u64, data: &Chunks) -> JobResult {
        self.opened(torrent)?;
        self.take_room(data.len())?;
        let modified = self.modified();
        self.opened(torrent)?.write(offset, data, modified)?;
        Ok(JobOutput::Done)
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), JobError> {
        let after = self.bytes_written + bytes as u64;
        if self.full_at.is_some_and(|full_at| after > full_at) {
            return Err(failure(JobErrorKind::Full, "no room left"));
        }
        self.bytes_written = after;
        Ok(())
    }

    fn hash(
        &self,
        torrent: TorrentId,
        mut state: Box<HashState>,
        source: &HashSource,
        last: bool,
    ) -> JobResult {
        match source {
            HashSource::Memory(chunks) => {
                for part in chunks.parts() {
                    state.update(part);
                }
            }
            HashSource::Stored { offset, len } => {
                state.update(self.stored(torrent, *offset, *len)?);
            }
        }
        Ok(if last { JobOutput::Digest(state.finish()) } else { JobOutput::Hashed(state) })
    }

    fn files(&mut self, torrent: TorrentId, op: FileOp) -> JobResult {
        match op {
            FileOp::Open(open) => {
                let place = (open.folder.0.clone(), open.key.clone());
                if self.open.values().any(|there| *there == place) {
                    return Err(failure(JobErrorKind::Busy, "open already"));
                }
                let modified = self.modified();
                let content = self.contents.entry(place.clone()).or_default();
                content.adopt(&open, modified);
                let found = content.stats();
                if open.writable {
                    content.create(&open, modified);
                }
                self.open.insert(torrent, place);
                Ok(found)
            }
            FileOp::Flush | FileOp::Check => Ok(self.opened(torrent)?.stats()),
            FileOp::Move { to } => {
                let from = self.place(torrent)?.clone();
                let to = (to.0, from.1.clone());
                if self.contents.contains_key(&to) {
                    return Err(failure(JobErrorKind::Obstructed, "something is there"));
                }
                let content = self.contents.remove(&from).unwrap_or_default();
                self.contents.insert(to.clone(), content);
                self.open.insert(torrent, to);
                Ok(JobOutput::Done)
            }
            FileOp::Delete => {
                let place = self.place(torrent)?.clone();
                self.contents.remove(&place);
                Ok(JobOutput::Done)
            }
            FileOp::Close => {
                self.open.remove(&torrent);
                Ok(JobOutput::Done)
            }
            _ => Err(failure(JobErrorKind::Io, "unknown work on files")),
        }
    }

    fn resolve(&self, host: &str, port: u16) -> JobResult {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let found = match bare.unwrap_or(host).parse() {
            Ok(literal) => vec![literal],
            Err(_) => self.names.get(host).cloned().unwrap_or_default(),
        };
        if found.is_empty() {
            return Err(failure(JobErrorKind::NoSuchHost, "nobody knows it"));
        }
        let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(JobOutput::Resolved(addresses))
    }
}

impl Content {
    /// Learns the layout, and which files there are.
    fn adopt(&mut self, open: &OpenFiles, modified: i64) {
        if self.layout.is_some() {
            return;
        }
        let len = self.bytes.len() as u64;
        let files = open.layout.files().map(|file| {
            let exists = file.offset() < len && !file.is_pad();
            let allocated = file.len().min(len.saturating_sub(file.offset()));
            exists.then_some(FileState { modified, allocated })
        });
        self.files = files.collect();
        self.layout = Some(Arc::clone(&open.layout));
    }

    /// Creates what is missing and wanted, and empty files; lengthens what is too short.
    fn create(&mut self, open: &OpenFiles, modified: i64) {
        for (file, state) in open.layout.files().zip(&mut self.files) {
            let wanted = open.wanted.get(file.index()).copied().unwrap_or(true);
            if !file.is_pad() && (wanted || file.len() == 0) && state.is_none() {
                *state = Some(FileState { modified, allocated: 0 });
            }
        }
        let len = usize::try_from(open.layout.space_len()).expect("content fits into memory");
        self.bytes.resize(len.max(self.bytes.len()), 0);
    }

    fn read(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let layout = self.layout.as_ref()?;
        let there = layout.map(offset, len as u64).all(|slice| {
            self.files[slice.file].is_some() || layout.file(slice.file).is_some_and(File::is_pad)
        });
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(len)?).filter(|_| there)
    }

    fn write(&mut self, offset: u64, data: &Chunks, modified: i64) -> Result<(), JobError> {
        let outside = || failure(JobErrorKind::Io, "outside of the content, or not writable");
        let layout = self.layout.as_ref().ok_or_else(outside)?;
        let at = usize::try_from(offset).map_err(|_| outside())?;
        let end = at.checked_add(data.len()).ok_or_else(outside)?;
        let mut room = self.bytes.get_mut(at..end).ok_or_else(outside)?;
        for part in data.parts() {
            let (here, rest) = room.split_at_mut(part.len());
            here.copy_from_slice(part);
            room = rest;
        }
        for slice in layout.map(offset, data.len() as u64) {
            let Some(file) = layout.file(slice.file).filter(|file| !file.is_pad()) else {
                continue;
            };
            let before = self.files[slice.file].map_or(0, |state| state.allocated);
            let allocated = file.len().min(before + slice.len);
            self.files[slice.file] = Some(FileState { modified, allocated });
        }
        Ok(())
    }

    fn stats(&self) -> JobOutput {
        let len = self.bytes.len() as u64;
        let files = self.layout.iter().flat_map(|layout| layout.files());
        let stats = files.zip(&self.files).map(|(file, state)| {
            let FileState { modified, allocated } = (*state)?;
            let len = file.len().min(len.saturating_sub(file.offset()));
            Some(FileStat { len, modified, allocated })
        });
        JobOutput::Files(stats.collect())
    }
}

fn failure(kind: JobErrorKind, detail: &str) -> JobError {
    JobError { kind, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::hash::{HashAlgorithm, sha1};
    use teem_core::ids::Key;
    use teem_core::machine::Allocation;
    use teem_core::metainfo::create::{Content as Files, Draft, Options};

    fn torrent() -> TorrentId {
        TorrentId::from_parts(0, 1)
    }

    fn folder() -> Location {
        Location(Bytes::from_static(b"/downloads"))
    }

    fn open() -> Job {
        let files = vec![(vec!["a".into()], 5), (vec!["b".into()], 4)];
        let draft = Draft::new("t", Files::Folder(files), Options::default()).expect("legal");
        let open = OpenFiles {
            layout: Arc::new(draft.layout().clone()),
            folder: folder(),
            key: "key".into(),
            allocation: Allocation::Sparse,
            writable: true,
            wanted: Box::new([]),
        };
        Job::Files { torrent: torrent(), op: FileOp::Open(open.into()) }
    }

    /// A disk with a torrent of two files, of 5 and 4 bytes, which are open.
    fn opened(content: &[u8]) -> Disk {
        let mut disk = Disk::new();
        disk.preload(&folder(), "key", content);
        disk.run(open()).expect("they can be opened");
        disk
    }

    #[test]
    fn opening_tells_what_was_found_and_creates_the_rest() {
        let mut disk = Disk::new();
        disk.preload(&folder(), "key", b"hel");
        let lens = |result: JobResult| {
            let Ok(JobOutput::Files(files)) = result else { panic!("{result:?}") };
            files.iter().map(|file| file.map(|file| (file.len, file.allocated))).collect::<Vec<_>>()
        };
        assert_eq!(lens(disk.run(open())), [Some((3, 3)), None]);
        let again = disk.run(open());
        assert!(again.is_err_and(|error| error.kind == JobErrorKind::Busy));
        let check = Job::Files { torrent: torrent(), op: FileOp::Check };
        assert_eq!(lens(disk.run(check)), [Some((5, 3)), Some((4, 0))]);
        assert_eq!(disk.content(&folder(), "key"), Some(&b"hel\0\0\0\0\0\0"[..]));
    }

    fn read(disk: &mut Disk, offset: u64, len: u32) -> JobResult {
        disk.run(Job::Read { torrent: torrent(), offset, len })
    }

    #[test]
    fn what_was_preloaded_and_written_is_read_and_hashed() {
        let mut disk = opened(b"hello");
        let data = Chunks::from(Bytes::from_static(b"p me"));
        let write = Job::Write { torrent: torrent(), offset: 3, data };
        assert_eq!(disk.run(write), Ok(JobOutput::Done));
        assert_eq!(disk.content(&folder(), "key"), Some(&b"help me\0\0"[..]));
        assert_eq!(read(&mut disk, 1, 3), Ok(JobOutput::Read(Bytes::from_static(b"elp"))));
        let hash = Job::Hash {
            torrent: torrent(),
            state: HashState::new(HashAlgorithm::Sha1).into(),
            source: HashSource::Stored { offset: 0, len: 7 },
            last: true,
        };
        let Ok(JobOutput::Digest(digest)) = disk.run(hash) else { panic!("a digest") };
        assert_eq!(digest.as_bytes(), sha1(b"help me"));
    }

    #[test]
    fn reading_behind_the_end_or_without_opening_fails() {
        let mut disk = opened(b"hello");
        let behind = read(&mut disk, 7, 3);
        assert!(behind.is_err_and(|error| error.kind == JobErrorKind::NotFound));
        let files = Job::Files { torrent: torrent(), op: FileOp::Close };
        assert_eq!(disk.run(files), Ok(JobOutput::Done));
        assert!(read(&mut disk, 0, 1).is_err_and(|error| error.kind == JobErrorKind::Io));
        assert_eq!(disk.content(&folder(), "key"), Some(&b"hello\0\0\0\0"[..]));
    }

    #[test]
    fn a_full_disk_takes_nothing_and_keeps_what_it_has() {
        let mut disk = opened(b"hello");
        disk.set_room(Some(2));
        let write = |data: &'static [u8]| {
            let data = Chunks::from(Bytes::from_static(data));
            Job::Write { torrent: torrent(), offset: 0, data }
        };
        let full = disk.run(write(b"HEL"));
        assert!(full.is_err_and(|error| error.kind == JobErrorKind::Full));
        assert_eq!(disk.run(write(b"HE")), Ok(JobOutput::Done));
        assert_eq!(disk.content(&folder(), "key"), Some(&b"HEllo\0\0\0\0"[..]));
    }

    #[test]
    fn saved_blobs_and_names_are_found() {
        let mut disk = Disk::new();
        let (location, data) = (folder(), Bytes::from_static(b"state"));
        let save = Job::Save { location, name: "dht".into(), data: data.clone() };
        assert_eq!(disk.run(save), Ok(JobOutput::Done));
        assert_eq!(disk.saved(&folder(), "dht"), Some(&data));
        disk.add_name("tracker.example", ["192.0.2.9".parse().expect("an address")]);
        let resolve = Job::Resolve { host: "tracker.example".into(), port: 80 };
        let expected = "192.0.2.9:80".parse().expect("an address");
        assert_eq!(disk.run(resolve), Ok(JobOutput::Resolved(Box::new([expected]))));
        let unknown = disk.run(Job::Resolve { host: "example".into(), port: 80 });
        assert!(unknown.is_err_and(|error| error.kind == JobErrorKind::NoSuchHost));
    }
}
