//! The torrent that a fuzzed session has, and the disk below it, which remembers what is durable.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use teem_core::hash::{HashAlgorithm, HashState, sha1};
use teem_core::ids::{JobId, PieceIndex};
use teem_core::machine::{
    FileOp, FileStat, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult,
};
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::torrent::resume::Resume;

/// Bytes per piece: two blocks.
pub(crate) const PIECE_LEN: usize = 32 * 1024;
/// Bytes of the torrent: the last piece is short.
pub(crate) const TOTAL: usize = 3 * PIECE_LEN + 10_000;
/// Its pieces.
pub(crate) const PIECES: usize = TOTAL.div_ceil(PIECE_LEN);

/// The content, and the torrent of it.
pub(crate) static TORRENT: LazyLock<(Bytes, Arc<Metainfo>)> = LazyLock::new(|| {
    let content: Vec<u8> = (0..TOTAL).map(|at| (at * at / 251 + at / 7) as u8).collect();
    let options = Options { piece_len: Some(PIECE_LEN as u32), ..Options::default() };
    let files = [20_000, TOTAL as u64 - 20_000];
    let files = files.iter().enumerate().map(|(at, len)| (vec![format!("file {at}")], *len));
    let draft = Draft::new("content", Content::Folder(files.collect()), options).expect("legal");
    let hashes: Vec<_> = content.chunks(PIECE_LEN).map(sha1).collect();
    (content.into(), Arc::new(draft.finish(&hashes).expect("a hash for each piece")))
});

/// Where a piece lies in the content.
pub(crate) fn range_of(piece: usize) -> std::ops::Range<usize> {
    piece * PIECE_LEN..((piece + 1) * PIECE_LEN).min(TOTAL)
}

/// A job that was taken, and when it was a flush, what it will make durable.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: JobId,
    job: Job,
    flushes: Option<[bool; PIECES]>,
}

impl Taken {
    /// Whether it runs after what was taken before it, and before what was taken after it: the
    /// order that [`Job`] promises.
    pub(crate) const fn runs_alone(&self) -> bool {
        match &self.job {
            Job::Files { op, .. } => {
                !matches!(op, FileOp::Flush | FileOp::Check | FileOp::Room { .. })
            }
            Job::Fence { .. } => true,
            _ => false,
        }
    }
}

/// What was written, and what of it would survive a crash.
#[derive(Debug)]
pub(crate) struct Disk {
    content: Vec<u8>,
    right: [bool; PIECES],
    durable: [bool; PIECES],
    /// Grows with each write, as times do.
    modified: i64,
    exists: bool,
    saves: usize,
    /// Files vanished behind the session's back, which it does not notice before it is started
    /// anew: what it claims from here on is not held against the disk.
    vanished: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            content: vec![0; TOTAL],
            right: [false; PIECES],
            durable: [false; PIECES],
            modified: 1,
            exists: false,
            saves: 0,
            vanished: false,
        }
    }

    /// All content is there, since long ago.
    pub(crate) fn fill(&mut self) {
        self.content = TORRENT.0.to_vec();
        (self.right, self.durable, self.exists) = ([true; PIECES], [true; PIECES], true);
    }

    /// Nothing is there any more.
    fn wipe(&mut self) {
        let (modified, saves, vanished) = (self.modified + 1, self.saves, self.vanished);
        *self = Self { modified, saves, vanished, ..Self::new() };
    }

    /// Somebody removes the files while nobody looks.
    pub(crate) fn vanish(&mut self) {
        self.wipe();
        self.vanished = true;
    }

    /// How often resume data was saved.
    pub(crate) const fn saves(&self) -> usize {
        self.saves
    }

    /// Whether files vanished; see there.
    pub(crate) const fn vanished(&self) -> bool {
        self.vanished
    }

    /// Whether the piece was written as it should be, as far as a session can know.
    pub(crate) fn is_right(&self, PieceIndex(piece): PieceIndex) -> bool {
        self.vanished || self.right[piece as usize]
    }

    pub(crate) fn take(&self, id: JobId, job: Job) -> Taken {
        let is_flush = matches!(&job, Job::Files { op: FileOp::Flush, .. });
        Taken { id, job, flushes: is_flush.then_some(self.right) }
    }

    /// Does a job.
    pub(crate) fn run(&mut self, taken: Taken) -> (JobId, JobResult) {
        let result = match taken.job {
            Job::Read { offset, len, .. } => {
                let start = offset as usize;
                let end = start + len as usize;
                assert!(len > 0 && end <= TOTAL, "a read of {len} at {offset}");
                if self.exists {
                    Ok(JobOutput::Read(Bytes::copy_from_slice(&self.content[start..end])))
                } else {
                    Err(error(JobErrorKind::NotFound))
                }
            }
            Job::Write { offset, data, .. } => {
                self.write(offset as usize, &data.to_vec());
                Ok(JobOutput::Done)
            }
            Job::Hash { mut state, source, last, .. } => {
                match source {
                    HashSource::Memory(chunks) => {
                        chunks.parts().iter().for_each(|part| state.update(part));
                    }
                    HashSource::Stored { offset, len } => {
                        let start = offset as usize;
                        state.update(&self.content[start..start + len as usize]);
                    }
                }
                Ok(if last { JobOutput::Digest(state.finish()) } else { JobOutput::Hashed(state) })
            }
            Job::Files { op, .. } => Ok(self.files(&op, taken.flushes)),
            Job::Save { data, .. } => {
                self.check_saved(&data);
                self.saves += 1;
                Ok(JobOutput::Done)
            }
            Job::Resolve { .. } => Err(error(JobErrorKind::NoSuchHost)),
            _ => Ok(JobOutput::Done),
        };
        (taken.id, result)
    }

    /// Does a job, and says that it yielded what another kind of job yields.
    pub(crate) fn run_and_mistake(&mut self, taken: Taken, how: u8) -> (JobId, JobResult) {
        let (id, result) = self.run(taken);
        let other = match how % 4 {
            0 => JobOutput::Done,
            1 => JobOutput::Read(Bytes::from_static(b"of another job")),
            2 => JobOutput::Resolved([].into()),
            _ => JobOutput::Digest(HashState::new(HashAlgorithm::Sha256).finish()),
        };
        (id, result.map(|_| other))
    }

    /// Does not do a job.
    pub(crate) fn fail(taken: &Taken, how: u8) -> (JobId, JobResult) {
        let kind = match how % 4 {
            0 => JobErrorKind::Full,
            1 => JobErrorKind::NotFound,
            2 => JobErrorKind::Cancelled,
            _ => JobErrorKind::Io,
        };
        (taken.id, Err(error(kind)))
    }

    fn write(&mut self, start: usize, data: &[u8]) {
        let end = start + data.len();
        assert!(!data.is_empty() && end <= TOTAL, "a write of {} at {start}", data.len());
        self.content[start..end].copy_from_slice(data);
        self.exists = true;
        self.modified += 1;
        for piece in start / PIECE_LEN..end.div_ceil(PIECE_LEN) {
            let range = range_of(piece);
            self.right[piece] = self.content[range.clone()] == TORRENT.0[range];
            self.durable[piece] &= self.right[piece];
        }
    }

    fn files(&mut self, op: &FileOp, flushes: Option<[bool; PIECES]>) -> JobOutput {
        match op {
            FileOp::Open(_) | FileOp::Check | FileOp::Flush => {
                for (durable, flushed) in self.durable.iter_mut().zip(flushes.unwrap_or_default()) {
                    *durable |= flushed;
                }
                let stat = |len| FileStat { len, modified: self.modified, allocated: len };
                let files = [20_000, TOTAL as u64 - 20_000];
                JobOutput::Files(files.map(|len| self.exists.then(|| stat(len))).into())
            }
            FileOp::Delete => {
                self.wipe();
                JobOutput::Done
            }
            _ => JobOutput::Done,
        }
    }

    fn check_saved(&self, data: &[u8]) {
        let hash = TORRENT.1.info().swarm_hash();
        let saved = Resume::from_bytes(data, hash, PIECES as u32, 2).expect("resume data");
        for piece in saved.have.iter() {
            let durable = self.vanished || self.durable[piece as usize];
            assert!(durable, "saved piece {piece} would survive a crash");
        }
    }
}

fn error(kind: JobErrorKind) -> JobError {
    JobError { kind, detail: "as the script says".into() }
}
