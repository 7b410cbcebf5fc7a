//! Jobs that a driven machine asked for, and how they end.

use bytes::Bytes;
use teem_core::ids::{JobId, TorrentId};
use teem_core::machine::{
    FileOp, FileStat, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult,
};

use super::World;

/// Most bytes that a read without a world yields.
const READ_MAX: u32 = 1024 * 1024;

/// Taken jobs that are not completed, in the order that they were taken in.
#[derive(Debug, Default)]
pub(super) struct Taken {
    jobs: Vec<(JobId, Job)>,
    /// How many files each opened torrent has.
    files: Vec<(TorrentId, usize)>,
}

impl Taken {
    pub(super) fn push(&mut self, id: JobId, job: Job) {
        if let Job::Files { torrent, op: FileOp::Open(open) } = &job {
            self.files.retain(|(known, _)| known != torrent);
            self.files.push((*torrent, open.layout.file_count()));
        }
        self.jobs.push((id, job));
    }

    pub(super) const fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The job at `at`, or the one that the rules of [`Job`] want before it.
    pub(super) fn lawful(&self, at: usize) -> usize {
        let alone = |job: &Job| match job {
            Job::Files { op, .. } => {
                !matches!(op, FileOp::Flush | FileOp::Check | FileOp::Room { .. })
            }
            Job::Fence { .. } => true,
            _ => false,
        };
        let waits = at > 0 && alone(&self.jobs[at].1);
        if waits || self.jobs[..at].iter().any(|(_, job)| alone(job)) { 0 } else { at }
    }

    pub(super) fn position(&self, id: JobId) -> Option<usize> {
        self.jobs.iter().position(|(known, _)| *known == id)
    }

    pub(super) fn remove(&mut self, at: usize) -> (JobId, Job) {
        self.jobs.remove(at)
    }

    /// How a job ends well.
    pub(super) fn succeed(&self, job: Job, world: &mut impl World) -> JobResult {
        if let Some(result) = world.job(&job) {
            return result;
        }
        Ok(match job {
            Job::Read { len, .. } => {
                JobOutput::Read(Bytes::from(vec![0; len.min(READ_MAX) as usize]))
            }
            Job::Hash { mut state, source, last, .. } => {
                match source {
                    HashSource::Memory(chunks) => {
                        chunks.parts().iter().for_each(|part| state.update(part));
                    }
                    HashSource::Stored { len, .. } => {
                        state.update(&vec![0; len.min(READ_MAX) as usize]);
                    }
                }
                if last { JobOutput::Digest(state.finish()) } else { JobOutput::Hashed(state) }
            }
            Job::Files { op: FileOp::Open(_) | FileOp::Flush | FileOp::Check, torrent } => {
                let count = self.files.iter().find(|(known, _)| *known == torrent);
                let stat = FileStat { len: 1, modified: 1, allocated: 1 };
                JobOutput::Files(vec![Some(stat); count.map_or(0, |(_, count)| *count)].into())
            }
            Job::Resolve { port, .. } => JobOutput::Resolved(
                [([192, 0, 2, 1], port).into(), ([10, 0, 0, 1], port).into()].into(),
            ),
            _ => JobOutput::Done,
        })
    }
}

/// How a job fails.
pub(super) fn failure(how: u8) -> JobResult {
    let kinds = [
        JobErrorKind::Full,
        JobErrorKind::NotFound,
        JobErrorKind::PermissionDenied,
        JobErrorKind::Obstructed,
        JobErrorKind::Busy,
        JobErrorKind::NoSuchHost,
        JobErrorKind::Cancelled,
        JobErrorKind::Io,
    ];
    let kind = kinds[usize::from(how) % kinds.len()];
    Err(JobError { kind, detail: "as the bytes say".into() })
}
