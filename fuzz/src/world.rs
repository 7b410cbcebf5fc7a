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

/// Bytes per block.
const BLOCK_LEN: usize = 16 * 1024;
/// Blocks of the content; a piece is a whole number of them.
const BLOCKS: usize = TOTAL.div_ceil(BLOCK_LEN);

/// Hashing is most of what a life would cost, and nearly always of the same bytes: the states of
/// SHA-1 before and after each true block of a piece.
static HASHED: LazyLock<Vec<(HashState, HashState)>> = LazyLock::new(|| {
    let mut state = HashState::new(HashAlgorithm::Sha1);
    let hashed = (0..BLOCKS).map(|block| {
        if (block * BLOCK_LEN).is_multiple_of(PIECE_LEN) {
            state = HashState::new(HashAlgorithm::Sha1);
        }
        let before = state.clone();
        state.update(true_block(block));
        (before, state.clone())
    });
    hashed.collect()
});

/// What a disk holds where nothing was written.
static HOLE: LazyLock<Bytes> = LazyLock::new(|| vec![0; BLOCK_LEN].into());

fn block_range(block: usize) -> std::ops::Range<usize> {
    block * BLOCK_LEN..((block + 1) * BLOCK_LEN).min(TOTAL)
}

fn true_block(block: usize) -> &'static [u8] {
    &TORRENT.0[block_range(block)]
}

/// Hashes `data`: true blocks after what comes before them in their piece are known, anything else
/// is hashed indeed.
fn hash(state: &mut HashState, mut data: &[u8]) {
    'next: while !data.is_empty() {
        for (block, (before, after)) in HASHED.iter().enumerate() {
            if before == state
                && let Some(rest) = data.strip_prefix(true_block(block))
            {
                (*state, data) = (after.clone(), rest);
                continue 'next;
            }
        }
        let (here, rest) = data.split_at(data.len().min(BLOCK_LEN));
        state.update(here);
        data = rest;
    }
}

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
    /// Each block, shared as long as it is true or a hole.
    blocks: [Bytes; BLOCKS],
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
            blocks: std::array::from_fn(|block| HOLE.slice(..block_range(block).len())),
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
        self.blocks = std::array::from_fn(|block| TORRENT.0.slice(block_range(block)));
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
                let (start, len) = (offset as usize, len as usize);
                assert!(len > 0 && start + len <= TOTAL, "a read of {len} at {offset}");
                if self.exists {
                    Ok(JobOutput::Read(self.read(start, len)))
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
                    HashSource::Memory(chunks) => match chunks.parts() {
                        [whole] => hash(&mut state, whole),
                        _ => hash(&mut state, &chunks.to_vec()),
                    },
                    HashSource::Stored { offset, len } => {
                        hash(&mut state, &self.read(offset as usize, len as usize));
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

    fn read(&self, start: usize, len: usize) -> Bytes {
        let (block, within) = (start / BLOCK_LEN, start % BLOCK_LEN);
        if within + len <= self.blocks[block].len() {
            return self.blocks[block].slice(within..within + len);
        }
        let mut read = Vec::with_capacity(len);
        let mut at = start;
        while at < start + len {
            let (block, within) = (at / BLOCK_LEN, at % BLOCK_LEN);
            let here = (self.blocks[block].len() - within).min(start + len - at);
            read.extend_from_slice(&self.blocks[block][within..within + here]);
            at += here;
        }
        read.into()
    }

    fn write(&mut self, start: usize, mut data: &[u8]) {
        let end = start + data.len();
        assert!(!data.is_empty() && end <= TOTAL, "a write of {} at {start}", data.len());
        for block in start / BLOCK_LEN..end.div_ceil(BLOCK_LEN) {
            let range = block_range(block);
            let within = start.max(range.start) - range.start;
            let (here, rest) = data.split_at(data.len().min(range.len() - within));
            data = rest;
            let now = if here.len() == range.len() {
                Bytes::copy_from_slice(here)
            } else {
                let mut now = self.blocks[block].to_vec();
                now[within..within + here.len()].copy_from_slice(here);
                now.into()
            };
            let is_true = now == true_block(block);
            self.blocks[block] = if is_true { TORRENT.0.slice(range) } else { now };
        }
        self.exists = true;
        self.modified += 1;
        for piece in start / PIECE_LEN..end.div_ceil(PIECE_LEN) {
            let range = range_of(piece);
            let mut blocks = range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN);
            self.right[piece] = blocks.all(|block| self.blocks[block] == true_block(block));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_hash_is_the_real_one() {
        let wrong: Vec<u8> = TORRENT.0.iter().map(|byte| byte ^ 1).collect();
        for content in [&TORRENT.0[..], &wrong] {
            for cut in [1, 100, BLOCK_LEN, BLOCK_LEN + 1, PIECE_LEN, TOTAL] {
                for piece in 0..PIECES {
                    let mut state = HashState::new(HashAlgorithm::Sha1);
                    for part in content[range_of(piece)].chunks(cut) {
                        hash(&mut state, part);
                    }
                    assert_eq!(state.finish().as_bytes(), sha1(&content[range_of(piece)]));
                }
            }
        }
    }

    #[test]
    fn a_disk_holds_what_was_written() {
        let mut disk = Disk::new();
        let mut model = vec![0; TOTAL];
        for (start, len) in [(0, TOTAL), (5, 1), (BLOCK_LEN - 3, 7), (PIECE_LEN, BLOCK_LEN)] {
            for wrong in [1, 0] {
                let data: Vec<u8> =
                    TORRENT.0[start..start + len].iter().map(|byte| byte ^ wrong).collect();
                disk.write(start, &data);
                model[start..start + len].copy_from_slice(&data);
                assert_eq!(disk.read(0, TOTAL), model);
                assert_eq!(disk.read(start, len), data);
                for piece in 0..PIECES {
                    let right = model[range_of(piece)] == TORRENT.0[range_of(piece)];
                    assert_eq!(disk.right[piece], right, "piece {piece}");
                }
            }
        }
    }
}
