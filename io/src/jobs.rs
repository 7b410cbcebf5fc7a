//! Who does the slow work.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use teem_core::ids::JobId;
use teem_core::machine::{HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult};

/// Does jobs, usually on other threads. Completes each exactly once, cancelled or not, and wakes
/// the driver when there is a completion, or room again, unless
/// [`has_completion`](Executor::has_completion) says so.
pub trait Executor {
    /// Whom to wake. Told before anything else.
    fn set_waker(&mut self, waker: Waker);

    /// Whether another job may be handed in.
    fn has_room(&self) -> bool;

    /// Takes a job. A driver asks [`has_room`](Self::has_room) first.
    fn submit(&mut self, id: JobId, job: Job);

    /// Sees to it that all jobs handed in so far make progress. A driver calls it when it has handed
    /// in what there was, before it waits: until then an executor may collect jobs, so as not to
    /// call another thread for each.
    fn flush(&mut self) {}

    /// Nobody waits for that job any more.
    fn cancel(&mut self, id: JobId) {
        let _ = id;
    }

    /// The next job that is done.
    fn try_completion(&mut self) -> Option<(JobId, JobResult)>;

    /// Whether there is one at hand that nobody is woken for: a job may be done as soon as it is
    /// handed in. A driver asks before it waits.
    fn has_completion(&self) -> bool {
        false
    }
}

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn set_waker(&mut self, waker: Waker) {
        (**self).set_waker(waker);
    }

    fn has_room(&self) -> bool {
        (**self).has_room()
    }

    fn submit(&mut self, id: JobId, job: Job) {
        (**self).submit(id, job);
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn cancel(&mut self, id: JobId) {
        (**self).cancel(id);
    }

    fn try_completion(&mut self) -> Option<(JobId, JobResult)> {
        (**self).try_completion()
    }

    fn has_completion(&self) -> bool {
        (**self).has_completion()
    }
}

/// Jobs that may wait for their completion to be taken.
const INLINE_MAX: usize = 64;

/// Does jobs at once, where it stands: hashes of bytes in memory, and addresses in writing. It has
/// no storage and asks nobody for names; such jobs fail. Enough for a node or a server without
/// files, and for tests.
#[derive(Debug, Default)]
pub struct Inline {
    done: VecDeque<(JobId, JobResult)>,
}

impl Inline {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Executor for Inline {
    fn set_waker(&mut self, _: Waker) {}

    fn has_room(&self) -> bool {
        self.done.len() < INLINE_MAX
    }

    fn submit(&mut self, id: JobId, job: Job) {
        self.done.push_back((id, run(job)));
    }

    fn try_completion(&mut self) -> Option<(JobId, JobResult)> {
        self.done.pop_front()
    }

    fn has_completion(&self) -> bool {
        !self.done.is_empty()
    }
}

fn run(job: Job) -> JobResult {
    match job {
        Job::Hash { mut state, source: HashSource::Memory(chunks), last, .. } => {
            for part in chunks.parts() {
                state.update(part);
            }
            Ok(if last { JobOutput::Digest(state.finish()) } else { JobOutput::Hashed(state) })
        }
        Job::Fence { .. } => Ok(JobOutput::Done),
        Job::Resolve { host, port } => match literal(&host) {
            Some(address) => Ok(JobOutput::Resolved(Box::new([SocketAddr::new(address, port)]))),
            None => Err(failure(JobErrorKind::NoSuchHost, "names are not looked up here")),
        },
        _ => Err(failure(JobErrorKind::Io, "there is no storage here")),
    }
}

fn failure(kind: JobErrorKind, detail: &str) -> JobError {
    JobError { kind, detail: detail.into() }
}

/// The address that `host` is in writing, with or without the brackets of a URL.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use teem_core::hash::{HashAlgorithm, HashState, sha1};
    use teem_core::ids::{Key, TorrentId};

    fn done(job: Job) -> JobResult {
        let mut inline = Inline::new();
        let id = JobId::from_parts(0, 1);
        assert!(!inline.has_completion());
        inline.submit(id, job);
        assert!(inline.has_completion());
        let (done, result) = inline.try_completion().expect("at once");
        assert_eq!(done, id);
        result
    }

    #[test]
    fn memory_is_hashed() {
        let job = Job::Hash {
            torrent: TorrentId::from_parts(0, 1),
            state: HashState::new(HashAlgorithm::Sha1).into(),
            source: HashSource::Memory(Bytes::from_static(b"abc").into()),
            last: true,
        };
        let Ok(JobOutput::Digest(digest)) = done(job) else { panic!("a digest") };
        assert_eq!(digest.as_bytes(), sha1(b"abc"));
    }

    #[test]
    fn an_address_in_writing_is_its_own_answer() {
        let resolve = |host: &str| done(Job::Resolve { host: host.into(), port: 7 });
        let expected: SocketAddr = "[::1]:7".parse().expect("an address");
        for host in ["::1", "[::1]"] {
            let Ok(JobOutput::Resolved(found)) = resolve(host) else { panic!("found") };
            assert_eq!(*found, [expected]);
        }
        assert!(resolve("example.org").is_err_and(|why| why.kind == JobErrorKind::NoSuchHost));
    }

    #[test]
    fn storage_fails() {
        let torrent = TorrentId::from_parts(0, 1);
        assert!(done(Job::Read { torrent, offset: 0, len: 1 }).is_err());
        assert_eq!(done(Job::Fence { torrent }), Ok(JobOutput::Done));
    }
}
