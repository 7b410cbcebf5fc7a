//! Slow work that a machine leaves to others: storage, hashing, names.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunks::Chunks;
use crate::hash::{Digest, HashState};
use crate::ids::TorrentId;
use crate::metainfo::Layout;

/// One piece of slow work. Offsets count through a torrent's content as its
/// [`Layout`] lays it out, pad files included.
///
/// Jobs run and finish in any order, but for these rules, which executors keep: a job sees what
/// writes of the same torrent wrote that were *completed* before it was taken; a
/// [`Job::Fence`] completes after every job of its torrent taken before it; a
/// [`FileOp`] other than [`FileOp::Flush`], [`FileOp::Check`] and [`FileOp::Room`] runs alone among the jobs of its
/// torrent, after those taken before it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Job {
    /// Read content: [`JobOutput::Read`].
    Read {
        /// Of which torrent.
        torrent: TorrentId,
        /// First byte.
        offset: u64,
        /// How many, all within the content.
        len: u32,
    },
    /// Write content. Completed when the executor no longer holds the bytes on the machine's
    /// account: [`JobOutput::Done`]. It is durable only after [`FileOp::Flush`].
    Write {
        /// Of which torrent.
        torrent: TorrentId,
        /// First byte.
        offset: u64,
        /// The bytes, all within the content.
        data: Chunks,
    },
    /// Take a hash one step further: [`JobOutput::Hashed`], or after the last step
    /// [`JobOutput::Digest`].
    Hash {
        /// Of which torrent; for accounting and order only.
        torrent: TorrentId,
        /// The hash so far.
        state: Box<HashState>,
        /// What to hash.
        source: HashSource,
        /// Whether this is the last step.
        last: bool,
    },
    /// Nothing; see the order above. [`JobOutput::Done`].
    Fence {
        /// Of which torrent.
        torrent: TorrentId,
    },
    /// Work on a torrent's files.
    Files {
        /// Of which torrent.
        torrent: TorrentId,
        /// What work.
        op: FileOp,
    },
    /// Save a blob under a name, wholly or not at all, replacing an older one, durably:
    /// [`JobOutput::Done`].
    Save {
        /// Where the names live.
        location: Location,
        /// A file name, made of `[0-9a-z._-]`.
        name: Box<str>,
        /// The blob.
        data: Bytes,
    },
    /// Find the addresses of a name: [`JobOutput::Resolved`].
    Resolve {
        /// The name, or an address in writing.
        host: Box<str>,
        /// The port to give the addresses.
        port: u16,
    },
}

/// What a hash step hashes.
#[derive(Clone, Debug)]
pub enum HashSource {
    /// These bytes.
    Memory(Chunks),
    /// Content from storage.
    Stored {
        /// First byte.
        offset: u64,
        /// How many, all within the content.
        len: u32,
    },
}

/// Work on a torrent's files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FileOp {
    /// Make a torrent's storage ready: the first job of each torrent. Takes the folder's lock, so
    /// that no second instance writes the same content ([`JobErrorKind::Busy`]); creates what is
    /// missing and wanted, and empty files; lengthens what is too short; changes no byte of an
    /// existing file and never shortens one. [`JobOutput::Files`], as they were found: none for a
    /// file means that there is nothing in it to check.
    Open(Box<OpenFiles>),
    /// Make every write durable that was completed before this was taken:
    /// [`JobOutput::Files`], as the files are then. It may run beside other jobs.
    Flush,
    /// Look at the files again: [`JobOutput::Files`].
    Check,
    /// Say whether so many bytes more find room: [`JobOutput::Done`], or
    /// [`JobErrorKind::Full`]. It may run beside other jobs.
    Room {
        /// How many.
        bytes: u64,
    },
    /// Take the files elsewhere: [`JobOutput::Done`].
    Move {
        /// The new folder.
        to: Location,
    },
    /// Remove the files that belong to the torrent, and folders that are then empty:
    /// [`JobOutput::Done`].
    Delete,
    /// Close files and give the lock back; the last job of each torrent. [`JobOutput::Done`].
    Close,
}

/// What [`FileOp::Open`] needs.
#[derive(Clone, Debug)]
pub struct OpenFiles {
    /// The files and where each lies in the content.
    pub layout: Arc<Layout>,
    /// The folder that holds them.
    pub folder: Location,
    /// What the lock is for: the torrent's info hash in lower-case hex. 1 to 64 of `[0-9a-z]`.
    pub key: Box<str>,
    /// How new files get their size.
    pub allocation: Allocation,
    /// Whether files may be created and written; else they are only read.
    pub writable: bool,
    /// Which files are wanted, by index; empty: all. Others are created only when written.
    pub wanted: Box<[bool]>,
}

/// How new files get their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocation {
    /// At once, without blocks on the disk.
    #[default]
    Sparse,
    /// At once, with blocks on the disk, so that it cannot fill up later.
    Full,
}

/// A folder, as the platform writes paths: raw bytes on Unix, UTF-8 elsewhere. The core only
/// passes it on.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location(pub Bytes);

impl core::fmt::Debug for Location {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// How a job ended.
pub type JobResult = Result<JobOutput, JobError>;

/// What a job yielded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JobOutput {
    /// Done; there is nothing more to say.
    Done,
    /// The bytes, as many as were asked for.
    Read(Bytes),
    /// The hash, one step further.
    Hashed(Box<HashState>),
    /// The finished hash.
    Digest(Digest),
    /// Each file of the layout as it is, in order; none for pad files and files that do not exist.
    Files(Box<[Option<FileStat>]>),
    /// Addresses, at least one.
    Resolved(Box<[SocketAddr]>),
}

/// A file as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub modified: i64,
    /// Bytes that the disk holds for it; less than `len` in a sparse file.
    pub allocated: u64,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{kind}: {detail}")]
pub struct JobError {
    /// What it means for a machine.
    pub kind: JobErrorKind,
    /// What a person should read: the file and what the system said.
    pub detail: Box<str>,
}

/// What a failed job means for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JobErrorKind {
    /// No room, or over quota.
    #[error("the disk is full")]
    Full,
    /// A file or folder is not there, or shorter than what was to be read.
    #[error("not found")]
    NotFound,
    /// Not allowed.
    #[error("permission denied")]
    PermissionDenied,
    /// Something of that name is there and is not what it should be.
    #[error("in the way")]
    Obstructed,
    /// Another instance works on the same content.
    #[error("in use by another instance")]
    Busy,
    /// The name has no address.
    #[error("no such host")]
    NoSuchHost,
    /// It was cancelled before it was done.
    #[error("cancelled")]
    Cancelled,
    /// No job's: a torrent says two things of the same bytes.
    #[error("the torrent contradicts itself")]
    Contradiction,
    /// Something else, such as a broken disk.
    #[error("input/output error")]
    Io,
}
