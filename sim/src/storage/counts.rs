//! Kinds of jobs, and how many of each a disk took and did.

use teem_core::machine::{FileOp, HashSource, Job};

/// What a [`Job`] is about, as fine as faults and counts tell jobs apart. Names are not looked up
/// by a disk, so there is no kind for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// [`Job::Read`].
    Read,
    /// [`Job::Write`].
    Write,
    /// [`Job::Hash`], from memory or from storage.
    Hash,
    /// [`Job::Fence`].
    Fence,
    /// [`FileOp::Open`].
    Open,
    /// [`FileOp::Flush`].
    Flush,
    /// [`FileOp::Check`].
    Check,
    /// [`FileOp::Room`].
    Room,
    /// [`FileOp::Move`].
    Move,
    /// [`FileOp::Delete`].
    Delete,
    /// [`FileOp::Close`].
    Close,
    /// [`Job::Save`].
    Save,
}

impl JobKind {
    /// How many kinds there are.
    pub const COUNT: usize = 12;

    /// Every kind, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Read,
        Self::Write,
        Self::Hash,
        Self::Fence,
        Self::Open,
        Self::Flush,
        Self::Check,
        Self::Room,
        Self::Move,
        Self::Delete,
        Self::Close,
        Self::Save,
    ];

    /// The kind of a job; none for one that no disk does, such as [`Job::Resolve`].
    pub const fn of(job: &Job) -> Option<Self> {
        Some(match job {
            Job::Read { .. } => Self::Read,
            Job::Write { .. } => Self::Write,
            Job::Hash { .. } => Self::Hash,
            Job::Fence { .. } => Self::Fence,
            Job::Save { .. } => Self::Save,
            Job::Files { op, .. } => match op {
                FileOp::Open(_) => Self::Open,
                FileOp::Flush => Self::Flush,
                FileOp::Check => Self::Check,
                FileOp::Room { .. } => Self::Room,
                FileOp::Move { .. } => Self::Move,
                FileOp::Delete => Self::Delete,
                FileOp::Close => Self::Close,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Whether it runs alone among the jobs of its torrent.
    pub(super) const fn is_exclusive(self) -> bool {
        matches!(self, Self::Open | Self::Move | Self::Delete | Self::Close)
    }
}

/// Bytes that a job moves or hashes.
pub(super) fn bytes_of(job: &Job) -> u64 {
    match job {
        Job::Read { len, .. } | Job::Hash { source: HashSource::Stored { len, .. }, .. } => {
            u64::from(*len)
        }
        Job::Write { data, .. } | Job::Hash { source: HashSource::Memory(data), .. } => {
            data.len() as u64
        }
        Job::Save { data, .. } => data.len() as u64,
        _ => 0,
    }
}

/// How many jobs of a kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Taken so far. What was taken and is neither done nor failed is under way, or was lost in a
    /// crash.
    pub taken: u32,
    /// Completed well.
    pub done: u32,
    /// Completed with an error.
    pub failed: u32,
}

/// What a disk did since it was made, crashes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    jobs: [Count; JobKind::COUNT],
    /// Bytes of content that were read, for hashes too.
    pub read_bytes: u64,
    /// Bytes that were written: content, and saved blobs.
    pub written_bytes: u64,
}

impl Counts {
    /// How many jobs of that kind.
    pub const fn of(&self, kind: JobKind) -> Count {
        self.jobs[kind as usize]
    }

    /// Counts a job that was taken; yields which of its kind it is, counted from one.
    pub(super) const fn take(&mut self, kind: JobKind) -> u32 {
        let count = &mut self.jobs[kind as usize];
        count.taken += 1;
        count.taken
    }

    pub(super) const fn complete(&mut self, kind: JobKind, well: bool) {
        let count = &mut self.jobs[kind as usize];
        if well {
            count.done += 1;
        } else {
            count.failed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_where_they_stand_in_the_list() {
        let mut counts = Counts::default();
        for (at, kind) in JobKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            assert_eq!(counts.take(kind), 1);
            counts.complete(kind, at % 2 == 0);
        }
        assert_eq!(counts.of(JobKind::Write), Count { taken: 1, done: 0, failed: 1 });
        assert_eq!(counts.of(JobKind::Save), Count { taken: 1, done: 0, failed: 1 });
    }
}
