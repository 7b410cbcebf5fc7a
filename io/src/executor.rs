//! Jobs on threads: the [`ThreadPool`] is an [`Executor`] over any [`Store`].
//!
//! ```text
//!   driver's thread                             worker threads, started at first use
//!   submit --> order per torrent --> staged --> write (1)   coalesces adjacent writes
//!                |  ^                           read (2)    coalesces adjacent reads
//!        in memory  |                           hash (n)    gathers streams into sets
//!                |  |                           files (1)   one file operation at a time
//!                v  |                           save (1)    blobs, in order
//!   try_completion -+--------------- arrived <- resolve (4) names
//!                                       +-----> wake, once per batch
//! ```
//!
//! The order that [`Job`] promises is kept on the driver's thread: jobs of a torrent are numbered;
//! a fence completes when no lower number is left; a file operation starts when it has the lowest
//! number, and holds back all jobs after it until it is done. Workers therefore know no order, and
//! nothing but the queues between threads is locked.
//!
//! Hand-overs cost a system call only when a worker sleeps, and submitted jobs are staged until
//! [`Executor::flush`], or until there is enough for a worker to be worth waking. One that hashes in
//! [lanes](crate::lanes) waits a few milliseconds for streams to fill them, as long as that helps:
//! sixteen side by side cost what four cost one after the other. What is in memory already is read on
//! the driver's thread: that takes less than to ask another one for it, and what was read is in the
//! right processor's cache when it is sent.

mod pool;
mod queue;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use teem_core::ids::{JobId, TorrentId};
use teem_core::machine::{
    FileOp, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult, OpenFiles,
};

use crate::jobs::{Executor, literal};
use crate::lanes::{Lanes, Tally};
use crate::storage::{Storage, Store};
use pool::Pool;
use queue::{Arrived, Crew, Shared};
use workers::Class;

/// Bounds of a [`ThreadPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Jobs submitted whose completion was not taken; room ends there.
    pub jobs_max: usize,
    /// Payload bytes in these jobs; room ends there.
    pub bytes_max: usize,
    /// Threads that read content.
    pub read_threads: usize,
    /// Threads that hash.
    pub hash_threads: usize,
    /// Threads that wait for the system's resolver.
    pub resolve_threads: usize,
    /// Whether those that hash do it in lanes, where that pays.
    pub lanes: Lanes,
}

impl Default for PoolConfig {
    /// 1024 jobs, 16 MiB; two threads that read, four that resolve, and as many that hash as there
    /// are processors besides the driver's own, one to four.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            jobs_max: 1024,
            bytes_max: 16 << 20,
            read_threads: 2,
            hash_threads: (processors - 1).clamp(1, 4),
            resolve_threads: 4,
            lanes: Lanes::Auto,
        }
    }
}

/// An [`Executor`] on threads of its own. Dropping it shuts it down.
///
/// Room is one for all: a torrent whose files are being moved holds its waiting jobs here.
pub struct ThreadPool {
    config: PoolConfig,
    store: Arc<dyn Store>,
    torrents: BTreeMap<TorrentId, Torrent>,
    crews: [Crew; Class::ALL.len()],
    shared: Arc<Shared>,
    /// What is read at once is lent in these.
    buffers: Pool,
    arrived: Vec<Arrived>,
    ready: VecDeque<(Ticket, JobResult)>,
    resolving: BTreeMap<JobId, Ticket>,
    /// With workers or parked; not yet `ready`.
    unfinished: usize,
    jobs: usize,
    bytes: usize,
    closed: bool,
}

/// What is known of a job while it is away.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    id: JobId,
    /// Its torrent and its number there.
    place: Option<(TorrentId, u64)>,
    bytes: usize,
    resolve: bool,
}

/// A job on its way to a worker.
struct Task {
    ticket: Ticket,
    work: Work,
}

enum Work {
    Job { job: Job, storage: Option<Arc<dyn Storage>> },
    Open { files: Box<OpenFiles>, store: Arc<dyn Store> },
}

/// Order among the jobs of one torrent.
#[derive(Default)]
struct Torrent {
    storage: Option<Arc<dyn Storage>>,
    next: u64,
    /// Numbers of all jobs that are not finished, fences apart.
    unfinished: BTreeSet<u64>,
    fences: VecDeque<(u64, Ticket)>,
    /// Jobs that wait behind a file operation; the first is one, or nothing is parked.
    parked: VecDeque<(Ticket, Job)>,
    /// The number of the file operation that runs.
    alone: Option<u64>,
}

/// Whether a job must not overlap with others of its torrent. What only looks at the files, or makes
/// durable what was written before, may: a slow disk then holds nothing else up.
const fn runs_alone(job: &Job) -> bool {
    match job {
        Job::Files { op, .. } => !matches!(op, FileOp::Flush | FileOp::Check | FileOp::Room { .. }),
        _ => false,
    }
}

impl ThreadPool {
    /// A pool that keeps content in `store`. Starts no thread yet.
    pub fn new(config: PoolConfig, store: Arc<dyn Store>) -> Self {
        let shared = Arc::new(Shared::new(config.lanes));
        let crews = Class::ALL.map(|class| Crew::new(class, config.threads(class), &shared));
        Self {
            config,
            store,
            torrents: BTreeMap::new(),
            crews,
            shared,
            buffers: Pool::default(),
            arrived: Vec::new(),
            ready: VecDeque::new(),
            resolving: BTreeMap::new(),
            unfinished: 0,
            jobs: 0,
            bytes: 0,
            closed: false,
        }
    }

    /// How blocks were hashed so far.
    pub fn hashed(&self) -> Tally {
        self.shared.hashed()
    }

    /// Decides whether a job of a torrent may start.
    fn enter(&mut self, mut ticket: Ticket, torrent: TorrentId, job: Job) {
        let order = self.torrents.entry(torrent).or_default();
        let number = order.next;
        order.next += 1;
        ticket.place = Some((torrent, number));
        if matches!(job, Job::Fence { .. }) {
            order.fences.push_back((number, ticket));
            self.settle(torrent);
            return;
        }
        order.unfinished.insert(number);
        if runs_alone(&job) || order.alone.is_some() || !order.parked.is_empty() {
            order.parked.push_back((ticket, job));
            self.settle(torrent);
        } else {
            let storage = order.storage.clone();
            self.start(ticket, job, storage);
        }
    }

    /// Completes fences and starts parked jobs, as far as the order allows; forgets a torrent that
    /// has nothing left.
    fn settle(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let lowest = torrent.unfinished.first().copied().unwrap_or(u64::MAX);
        while let Some((_, ticket)) = torrent.fences.pop_front_if(|(number, _)| *number < lowest) {
            self.unfinished -= 1;
            self.ready.push_back((ticket, Ok(JobOutput::Done)));
        }
        let mut starting = Vec::new();
        while torrent.alone.is_none() {
            let Some((ticket, job)) = torrent.parked.front() else { break };
            if runs_alone(job) {
                let number = ticket.place.map(|(_, number)| number);
                if torrent.unfinished.first().copied() != number {
                    break;
                }
                torrent.alone = number;
            }
            starting.extend(torrent.parked.pop_front());
        }
        // Closing files may wait for the disk: the worker that closes gets the last handle.
        let closes = |(_, job): &(Ticket, Job)| matches!(job, Job::Files { op: FileOp::Close, .. });
        let storage = if starting.iter().any(closes) {
            torrent.storage.take()
        } else {
            torrent.storage.clone()
        };
        if torrent.storage.is_none() && torrent.unfinished.is_empty() && torrent.fences.is_empty() {
            self.torrents.remove(&id);
        }
        for (ticket, job) in starting {
            self.start(ticket, job, storage.clone());
        }
    }

    /// Hands a job to the workers of its class, or answers what needs none.
    fn start(&mut self, ticket: Ticket, job: Job, storage: Option<Arc<dyn Storage>>) {
        if let (Job::Read { offset, len, .. }, Some(storage)) = (&job, &storage)
            && let Some(read) = self.read_cached(*offset, *len, &**storage)
        {
            let result = Ok(JobOutput::Read(read));
            return self.finish(Arrived { ticket, result, opened: None });
        }
        let class = match &job {
            Job::Read { .. } => Class::Read,
            Job::Write { .. } => Class::Write,
            Job::Hash { .. } => Class::Hash,
            Job::Files { .. } => Class::Files,
            Job::Save { .. } => Class::Save,
            Job::Resolve { .. } => Class::Resolve,
            _ => {
                let detail = "this executor does not know such a job".into();
                let error = JobError { kind: JobErrorKind::Io, detail };
                return self.finish(Arrived { ticket, result: Err(error), opened: None });
            }
        };
        let work = match job {
            Job::Files { op: FileOp::Open(files), .. } if storage.is_none() => {
                Work::Open { files, store: Arc::clone(&self.store) }
            }
            job => Work::Job { job, storage },
        };
        let crew = &mut self.crews[class as usize];
        if let Err(error) = crew.stage(Task { ticket, work }) {
            self.fail_staged(class, &error);
        }
    }

    /// Reads at once what takes no waiting: that costs less than to have another thread do it, whose
    /// cache it is in then.
    fn read_cached(&mut self, offset: u64, len: u32, storage: &dyn Storage) -> Option<Bytes> {
        let len = len as usize;
        let mut buf = self.buffers.take(len);
        let read = storage.read_cached(offset, &mut buf[..len]);
        let bytes = self.buffers.lend(buf, len);
        read.then_some(bytes)
    }

    /// No thread could be started for these jobs.
    fn fail_staged(&mut self, class: Class, error: &std::io::Error) {
        for task in self.crews[class as usize].take_back() {
            let detail = format!("no thread could be started: {error}").into();
            let result = Err(JobError { kind: JobErrorKind::Io, detail });
            self.finish(Arrived { ticket: task.ticket, result, opened: None });
        }
    }

    /// Takes in what a worker sent back.
    fn finish(&mut self, arrived: Arrived) {
        let Arrived { ticket, result, opened } = arrived;
        if ticket.resolve && self.resolving.remove(&ticket.id).is_none() {
            return; // cancelled by a shutdown that did not wait for the resolver
        }
        self.unfinished -= 1;
        self.shared.forget_cancelled(ticket.id);
        let place = ticket.place;
        self.ready.push_back((ticket, result));
        let Some((id, number)) = place else { return };
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        torrent.unfinished.remove(&number);
        if torrent.alone == Some(number) {
            torrent.alone = None;
        }
        if opened.is_some() {
            torrent.storage = opened;
        }
        self.settle(id);
    }

    fn collect(&mut self) {
        self.shared.collect(&mut self.arrived);
        let mut arrived = std::mem::take(&mut self.arrived);
        for arrived in arrived.drain(..) {
            self.finish(arrived);
        }
        self.arrived = arrived;
    }
}

impl PoolConfig {
    /// One thread writes, so that all waiting writes meet there; one saves, in order.
    fn threads(&self, class: Class) -> usize {
        let threads = match class {
            Class::Write | Class::Files | Class::Save => 1,
            Class::Read => self.read_threads,
            Class::Hash => self.hash_threads,
            Class::Resolve => self.resolve_threads,
        };
        threads.max(1)
    }
}

/// Payload that a job holds, or that its completion will hold.
fn payload(job: &Job) -> usize {
    match job {
        Job::Read { len, .. } => *len as usize,
        Job::Write { data, .. } | Job::Hash { source: HashSource::Memory(data), .. } => data.len(),
        Job::Save { data, .. } => data.len(),
        _ => 0,
    }
}

fn cancelled() -> JobError {
    JobError { kind: JobErrorKind::Cancelled, detail: "not started any more".into() }
}

impl Executor for ThreadPool {
    fn submit(&mut self, id: JobId, job: Job) {
        let resolve = matches!(job, Job::Resolve { .. });
        let ticket = Ticket { id, place: None, bytes: payload(&job), resolve };
        self.jobs += 1;
        self.bytes += ticket.bytes;
        if self.closed {
            self.ready.push_back((ticket, Err(cancelled())));
            return;
        }
        self.unfinished += 1;
        let torrent = match &job {
            Job::Read { torrent, .. }
            | Job::Write { torrent, .. }
            | Job::Hash { torrent, .. }
            | Job::Fence { torrent }
            | Job::Files { torrent, .. } => Some(*torrent),
            _ => None,
        };
        if let Some(torrent) = torrent {
            return self.enter(ticket, torrent, job);
        }
        if let Job::Resolve { host, port } = &job {
            if let Some(address) = literal(host) {
                let address = SocketAddr::new(address, *port);
                self.unfinished -= 1;
                self.ready.push_back((ticket, Ok(JobOutput::Resolved([address].into()))));
                return;
            }
            self.resolving.insert(id, ticket);
        }
        self.start(ticket, job, None);
    }

    fn cancel(&mut self, id: JobId) {
        if self.unfinished > 0 {
            self.shared.cancel(id);
        }
    }

    fn has_room(&self) -> bool {
        !self.closed && self.jobs < self.config.jobs_max && self.bytes < self.config.bytes_max
    }

    fn flush(&mut self) {
        for class in Class::ALL {
            if let Err(error) = self.crews[class as usize].hand_over() {
                self.fail_staged(class, &error);
            }
        }
    }

    fn try_completion(&mut self) -> Option<(JobId, JobResult)> {
        if self.ready.is_empty() {
            self.collect();
            self.flush(); // jobs that waited for what just arrived
        }
        let (ticket, result) = self.ready.pop_front()?;
        self.jobs -= 1;
        self.bytes -= ticket.bytes;
        if self.unfinished == 0 {
            self.shared.forget_all_cancelled();
        }
        Some((ticket.id, result))
    }

    fn has_completion(&self) -> bool {
        !self.ready.is_empty()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.shared.set_waker(waker);
    }
}

impl ThreadPool {
    /// Finishes writes, file operations and saves, cancels the rest, and waits for that. All
    /// completions can be taken afterwards; jobs submitted later are cancelled.
    pub fn shutdown(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.shared.stop();
        self.flush();
        while self.unfinished > self.resolving.len() {
            self.shared.wait();
            self.collect();
            self.flush();
        }
        // The system's resolver cannot be interrupted; nobody waits for it.
        for (_, ticket) in std::mem::take(&mut self.resolving) {
            self.unfinished -= 1;
            self.ready.push_back((ticket, Err(cancelled())));
        }
        for crew in &mut self.crews {
            crew.close();
        }
        self.torrents.clear();
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("config", &self.config)
            .field("torrents", &self.torrents.len())
            .field("jobs", &self.jobs)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
