//! Tests of the pool: order, batches, failures, the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::Wake;
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use teem_core::chunks::Chunks;
use teem_core::hash::{HashAlgorithm, HashState, sha1};
use teem_core::ids::Key;
use teem_core::machine::Location;

use super::*;
use crate::lanes::LANES;
use crate::storage::testing::{layout, open_files};
use crate::storage::{FileStats, FileStore, MemoryStore, error};

const BLOCK: usize = 16 * 1024;

/// Longest wait for a completion before a test fails, in hundredths of a second.
const PATIENCE: u32 = 2000;

fn torrent(n: u32) -> TorrentId {
    TorrentId::from_parts(n, 1)
}

/// Wakes the test's thread, and counts.
struct Counter {
    thread: Thread,
    calls: AtomicUsize,
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

struct Bench {
    pool: ThreadPool,
    next: u32,
    wakes: Arc<Counter>,
}

impl Bench {
    fn new(store: Arc<dyn Store>) -> Self {
        Self::with(PoolConfig::default(), store)
    }

    fn with(config: PoolConfig, store: Arc<dyn Store>) -> Self {
        let mut pool = ThreadPool::new(config, store);
        let thread = std::thread::current();
        let wakes = Arc::new(Counter { thread, calls: AtomicUsize::new(0) });
        pool.set_waker(Waker::from(Arc::clone(&wakes)));
        Self { pool, next: 0, wakes }
    }

    fn submit(&mut self, job: Job) -> JobId {
        let id = JobId::from_parts(self.next, 1);
        self.next += 1;
        self.pool.submit(id, job);
        id
    }

    /// The next completions, as many as asked for.
    fn wait(&mut self, count: usize) -> Vec<(JobId, JobResult)> {
        let mut done = Vec::new();
        self.pool.flush();
        loop {
            while let Some(completion) = self.pool.try_completion() {
                done.push(completion);
                if done.len() == count {
                    return done;
                }
            }
            let calls = self.wakes.calls.load(Ordering::SeqCst);
            if self.pool.shared.is_empty() {
                // What arrives from here on must wake us.
                let woken = (0..PATIENCE).any(|_| {
                    std::thread::park_timeout(Duration::from_millis(10));
                    self.wakes.calls.load(Ordering::SeqCst) > calls
                });
                assert!(woken, "waited in vain after {done:?}");
            }
        }
    }

    /// Does one job.
    fn run(&mut self, job: Job) -> JobResult {
        let id = self.submit(job);
        let (done, result) = self.wait(1).remove(0);
        assert_eq!(done, id);
        result
    }

    fn open(&mut self, n: u32) {
        let folder = std::path::Path::new("/nowhere");
        let mut files = open_files(&layout(&[("f", 8 << 20)]), folder);
        files.key = format!("{n}").into();
        self.run(files_op(n, FileOp::Open(files.into()))).expect("opened");
    }
}

fn files_op(n: u32, op: FileOp) -> Job {
    Job::Files { torrent: torrent(n), op }
}

fn write(n: u32, offset: u64, data: Vec<u8>) -> Job {
    Job::Write { torrent: torrent(n), offset, data: Bytes::from(data).into() }
}

fn read(n: u32, offset: u64, len: u32) -> Job {
    Job::Read { torrent: torrent(n), offset, len }
}

fn hash(n: u32, source: HashSource) -> Job {
    let state = HashState::new(HashAlgorithm::Sha1).into();
    Job::Hash { torrent: torrent(n), state, source, last: true }
}

/// A store that notes what it is asked, does it only while its gate is open, and fails where it
/// is told to.
#[derive(Default)]
struct Probe {
    inner: MemoryStore,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Notes {
    log: Mutex<Vec<String>>,
    shut: Mutex<bool>,
    gate: Condvar,
    /// Reads and writes that touch this byte fail, or panic.
    broken: Mutex<Option<(u64, bool)>>,
}

struct Probed {
    inner: Arc<dyn Storage>,
    notes: Arc<Notes>,
}

impl Notes {
    fn shut(&self, shut: bool) {
        *self.shut.lock().expect("whole") = shut;
        self.gate.notify_all();
    }

    fn note(&self, what: String) {
        self.log.lock().expect("whole").push(what);
        let shut = self.shut.lock().expect("whole");
        drop(self.gate.wait_while(shut, |shut| *shut).expect("whole"));
    }

    /// Waits until so much was noted.
    fn wait(&self, count: usize) {
        while self.log().len() < count {
            std::thread::yield_now();
        }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().expect("whole").clone()
    }

    fn check(&self, offset: u64, len: usize) -> Result<(), JobError> {
        let broken = *self.broken.lock().expect("whole");
        match broken.filter(|(at, _)| (offset..offset + len as u64).contains(at)) {
            Some((_, true)) => panic!("a probe that panics"),
            Some(_) => Err(error(JobErrorKind::Full, "broken here")),
            None => Ok(()),
        }
    }
}

impl Store for Probe {
    fn open(&self, files: &OpenFiles) -> Result<(Arc<dyn Storage>, FileStats), JobError> {
        let (inner, stats) = self.inner.open(files)?;
        Ok((Arc::new(Probed { inner, notes: Arc::clone(&self.notes) }), stats))
    }
}

impl Storage for Probed {
    fn room(&self, _: u64) -> Result<(), JobError> {
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), JobError> {
        self.notes.note(format!("read {offset}+{}", buf.len()));
        self.notes.check(offset, buf.len())?;
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), JobError> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.notes.note(format!("write {offset}+{len}"));
        self.notes.check(offset, len)?;
        self.inner.write_at(offset, parts)
    }

    fn flush(&self) -> Result<FileStats, JobError> {
        self.notes.note("flush".into());
        self.inner.flush()
    }

    fn check(&self) -> Result<FileStats, JobError> {
        self.notes.note("check".into());
        self.inner.check()
    }

    fn move_to(&self, to: &Location) -> Result<(), JobError> {
        self.notes.note("move".into());
        self.inner.move_to(to)
    }

    fn delete(&self) -> Result<(), JobError> {
        self.inner.delete()
    }
}

fn probed() -> (Bench, Arc<Notes>) {
    let probe = Probe::default();
    let notes = Arc::clone(&probe.notes);
    let mut bench = Bench::new(Arc::new(probe));
    bench.open(0);
    (bench, notes)
}

#[test]
fn what_was_written_is_read_and_hashed() {
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    bench.open(0);
    let data: Vec<u8> = (0..600_000_u32).map(|n| (n / 7) as u8).collect();
    assert_eq!(bench.run(write(0, 1000, data.clone())), Ok(JobOutput::Done));
    let Ok(JobOutput::Read(bytes)) = bench.run(read(0, 1000, 600_000)) else { panic!("read") };
    assert_eq!(bytes, data);
    let stored = HashSource::Stored { offset: 1000, len: 600_000 };
    for source in [stored, HashSource::Memory(Bytes::from(data.clone()).into())] {
        let Ok(JobOutput::Digest(digest)) = bench.run(hash(0, source)) else { panic!("hashed") };
        assert_eq!(digest.as_bytes(), sha1(&data));
    }
}

#[test]
fn a_hash_that_is_not_at_its_end_comes_back_to_go_on() {
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    let state = HashState::new(HashAlgorithm::Sha256).into();
    let source = HashSource::Memory(Bytes::from_static(b"abc").into());
    let job = Job::Hash { torrent: torrent(0), state, source, last: false };
    let Ok(JobOutput::Hashed(state)) = bench.run(job) else { panic!("a state") };
    assert_eq!(state.len(), 3);
}

#[test]
fn adjacent_writes_that_wait_become_one() {
    let (mut bench, notes) = probed();
    notes.shut(true);
    bench.submit(write(0, 4 << 20, vec![1; 10]));
    bench.pool.flush();
    notes.wait(1);
    for n in (0..64_u64).rev() {
        bench.submit(write(0, n * BLOCK as u64, vec![n as u8; BLOCK]));
    }
    bench.pool.flush();
    notes.shut(false);
    assert!(bench.wait(65).iter().all(|(_, result)| result.is_ok()));
    assert_eq!(notes.log()[1..], [format!("write 0+{}", 1 << 20)]);
    let Ok(JobOutput::Read(bytes)) = bench.run(read(0, 0, 1 << 20)) else { panic!("read") };
    assert!(bytes.iter().zip(0..).all(|(byte, at)| usize::from(*byte) == at / BLOCK));
}

#[test]
fn adjacent_reads_that_come_together_become_one() {
    let (mut bench, notes) = probed();
    let data: Vec<u8> = (0..4 * BLOCK as u32).map(|n| (n / 100) as u8).collect();
    bench.run(write(0, 0, data.clone())).expect("written");
    bench.pool.crews[Class::Read as usize].set_threads_max(1);
    let ids: Vec<_> =
        (0..4).map(|n| bench.submit(read(0, n * BLOCK as u64, BLOCK as u32))).collect();
    for (id, result) in bench.wait(4) {
        let n = ids.iter().position(|other| *other == id).expect("ours");
        let Ok(JobOutput::Read(bytes)) = result else { panic!("read") };
        assert_eq!(bytes, data[n * BLOCK..(n + 1) * BLOCK]);
    }
    assert_eq!(notes.log()[1..], [format!("read 0+{}", 4 * BLOCK)]);
}

#[test]
fn what_is_in_memory_is_read_as_soon_as_it_is_asked_for_and_wakes_nobody() {
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    bench.open(0);
    bench.run(write(0, 5, vec![7; BLOCK])).expect("written");
    let woken = bench.wakes.calls.load(Ordering::SeqCst);
    assert!(!bench.pool.has_completion());
    let id = bench.submit(read(0, 4, 3));
    assert!(bench.pool.has_completion());
    let done = bench.pool.try_completion();
    assert_eq!(done, Some((id, Ok(JobOutput::Read(Bytes::from_static(&[0, 7, 7]))))));
    assert!(!bench.pool.has_completion());
    assert_eq!(bench.wakes.calls.load(Ordering::SeqCst), woken);
    // Nor is a thread there for it; but it waits for what must come first.
    assert!(bench.pool.crews[Class::Read as usize].is_empty());
    bench.submit(files_op(0, FileOp::Delete));
    bench.submit(read(0, 4, 3));
    assert!(!bench.pool.has_completion());
    let done = bench.wait(2);
    assert_eq!(done[1].1, Ok(JobOutput::Read(Bytes::from_static(&[0; 3]))));
}

#[test]
fn of_merged_jobs_only_those_fail_that_are_at_fault() {
    let (mut bench, notes) = probed();
    *notes.broken.lock().expect("whole") = Some((BLOCK as u64 + 1, false));
    let ids: Vec<_> =
        (0..3).map(|n| bench.submit(write(0, n * BLOCK as u64, vec![1; BLOCK]))).collect();
    for (id, result) in bench.wait(3) {
        assert_eq!(
            result.err().map(|failed| failed.kind),
            (id == ids[1]).then_some(JobErrorKind::Full)
        );
    }
    let ids: Vec<_> =
        (0..3).map(|n| bench.submit(read(0, n * BLOCK as u64, BLOCK as u32))).collect();
    for (id, result) in bench.wait(3) {
        assert_eq!(result.is_err(), id == ids[1]);
    }
}

#[test]
fn a_panic_fails_its_job_and_the_pool_goes_on() {
    let (mut bench, notes) = probed();
    *notes.broken.lock().expect("whole") = Some((7, true));
    for job in [
        write(0, 0, vec![1; 10]),
        read(0, 0, 10),
        hash(0, HashSource::Stored { offset: 0, len: 10 }),
    ] {
        let failed = bench.run(job).expect_err("panics");
        assert_eq!(failed.kind, JobErrorKind::Io);
        assert!(failed.detail.contains("a probe that panics"), "{}", failed.detail);
    }
    *notes.broken.lock().expect("whole") = None;
    bench.run(write(0, 0, vec![1; 10])).expect("the thread lives");
}

#[test]
fn a_fence_completes_after_what_was_before_it_and_holds_nothing_back() {
    let (mut bench, notes) = probed();
    notes.shut(true);
    let before = bench.submit(write(0, 0, vec![1; 10]));
    let fence = bench.submit(Job::Fence { torrent: torrent(0) });
    let other = bench.submit(Job::Fence { torrent: torrent(1) });
    let after = bench.submit(hash(0, HashSource::Memory(Chunks::new())));
    let first: Vec<_> = bench.wait(2).into_iter().map(|(id, _)| id).collect();
    assert!(first.contains(&other) && first.contains(&after));
    notes.shut(false);
    let rest: Vec<_> = bench.wait(2).into_iter().map(|(id, _)| id).collect();
    assert_eq!(rest, [before, fence]);
}

#[test]
fn a_file_operation_runs_alone_among_the_jobs_of_its_torrent() {
    let (mut bench, notes) = probed();
    bench.open(1);
    notes.shut(true);
    bench.submit(write(0, 0, vec![1; 10]));
    bench.submit(files_op(0, elsewhere()));
    bench.submit(read(0, 0, 10));
    bench.submit(files_op(0, elsewhere()));
    bench.submit(write(0, 10, vec![2; 5]));
    bench.submit(read(1, 0, 3));
    bench.pool.flush();
    notes.wait(2);
    notes.shut(false);
    bench.wait(6);
    let mut log = notes.log();
    log.retain(|note| note != "read 0+3");
    assert_eq!(log, ["write 0+10", "move", "read 0+10", "move", "write 10+5"]);
}

/// A file operation that overlaps with nothing.
fn elsewhere() -> FileOp {
    FileOp::Move { to: Location(Bytes::from_static(b"elsewhere")) }
}

#[test]
fn a_flush_holds_nothing_up() {
    let (mut bench, notes) = probed();
    notes.shut(true);
    let before = bench.submit(write(0, 0, vec![1; 10]));
    let flush = bench.submit(files_op(0, FileOp::Flush));
    let after = bench.submit(hash(0, HashSource::Memory(Chunks::new())));
    let (first, result) = bench.wait(1).remove(0);
    assert!(first == after && result.is_ok(), "{first:?}");
    notes.shut(false);
    let mut rest: Vec<_> = bench.wait(2).into_iter().map(|(id, _)| id).collect();
    rest.sort();
    assert_eq!(rest, [before, flush]);
}

#[test]
fn a_torrent_that_is_not_open_has_no_content_but_can_be_closed() {
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    for job in [
        read(0, 0, 1),
        write(0, 0, vec![1]),
        hash(0, HashSource::Stored { offset: 0, len: 1 }),
        files_op(0, FileOp::Flush),
    ] {
        assert_eq!(bench.run(job).expect_err("not open").kind, JobErrorKind::NotFound);
    }
    assert_eq!(bench.run(files_op(0, FileOp::Close)), Ok(JobOutput::Done));
    bench.open(0);
    assert_eq!(bench.run(files_op(0, FileOp::Close)), Ok(JobOutput::Done));
    assert_eq!(bench.run(read(0, 0, 1)).expect_err("closed").kind, JobErrorKind::NotFound);
    assert!(bench.pool.torrents.is_empty());
    bench.open(0);
}

#[test]
fn a_cancelled_job_that_did_not_start_says_so() {
    let (mut bench, notes) = probed();
    notes.shut(true);
    let read_threads = bench.pool.config.read_threads as u64;
    for n in 0..read_threads {
        bench.submit(read(0, n * (1 << 20), 10));
        bench.pool.flush();
        notes.wait(n as usize + 1);
    }
    let cancelled = bench.submit(read(0, 0, 11));
    bench.pool.flush();
    bench.pool.cancel(cancelled);
    bench.pool.cancel(JobId::from_parts(999, 1));
    notes.shut(false);
    for (id, result) in bench.wait(read_threads as usize + 1) {
        let kind = result.err().map(|failed| failed.kind);
        assert_eq!(kind, (id == cancelled).then_some(JobErrorKind::Cancelled));
    }
    assert_eq!(bench.pool.shared.cancelled_len(), 0);
}

#[test]
fn room_ends_with_jobs_or_bytes_and_comes_back_with_completions_taken() {
    let config = PoolConfig { jobs_max: 3, bytes_max: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config, Arc::new(MemoryStore::new()));
    bench.open(0);
    bench.submit(write(0, 0, vec![0; 99]));
    assert!(bench.pool.has_room());
    bench.submit(write(0, 0, vec![0; 1]));
    assert!(!bench.pool.has_room());
    bench.wait(2);
    for _ in 0..3 {
        assert!(bench.pool.has_room());
        bench.submit(Job::Fence { torrent: torrent(9) });
    }
    assert!(!bench.pool.has_room());
    bench.wait(3);
    assert!(bench.pool.has_room());
}

#[test]
fn a_burst_of_jobs_wakes_the_driver_a_few_times_only() {
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    bench.open(0);
    let before = bench.wakes.calls.load(Ordering::SeqCst);
    for n in 0..256_u64 {
        bench.submit(write(0, n * BLOCK as u64, vec![1; BLOCK]));
    }
    bench.wait(256);
    let calls = bench.wakes.calls.load(Ordering::SeqCst) - before;
    assert!((1..=64).contains(&calls), "{calls}");
}

#[test]
fn shutdown_finishes_what_was_written_and_completes_everything() {
    let (mut bench, notes) = probed();
    notes.shut(true);
    let mut ids = vec![bench.submit(write(0, 0, vec![1; 10]))];
    bench.pool.flush();
    notes.wait(1);
    ids.push(bench.submit(files_op(0, elsewhere())));
    ids.push(bench.submit(read(0, 0, 10)));
    ids.push(bench.submit(write(0, 10, vec![2; 10])));
    ids.push(bench.submit(hash(0, HashSource::Stored { offset: 0, len: 10 })));
    ids.push(bench.submit(Job::Fence { torrent: torrent(0) }));
    ids.push(bench.submit(Job::Resolve { host: "a.invalid".into(), port: 1 }));
    let notes_too = Arc::clone(&notes);
    let opener =
        std::thread::Builder::new().spawn(move || notes_too.shut(false)).expect("a thread");
    bench.pool.shutdown();
    opener.join().expect("ended");
    ids.push(bench.submit(read(0, 0, 1)));
    let mut done = Vec::new();
    while let Some((id, result)) = bench.pool.try_completion() {
        let wanted = [0, 1, 3, 5].into_iter().any(|n| ids[n] == id);
        assert_eq!(result.is_ok(), wanted, "{id:?} {result:?}");
        done.push(id);
    }
    done.sort();
    assert_eq!(done, ids);
    assert_eq!(notes.log(), ["write 0+10", "move", "write 10+10"]);
    assert!(!bench.pool.has_room());
}

#[test]
fn addresses_in_writing_are_answered_at_once_and_names_are_asked_for() {
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    bench.submit(Job::Resolve { host: "[::1]".into(), port: 7 });
    let (_, result) = bench.pool.try_completion().expect("at once");
    assert_eq!(result, Ok(JobOutput::Resolved(["[::1]:7".parse().expect("one")].into())));
    let found = bench.run(Job::Resolve { host: "localhost".into(), port: 7 });
    assert!(matches!(found, Ok(JobOutput::Resolved(_))), "{found:?}");
}

#[test]
fn a_saved_blob_can_be_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = crate::storage::testing::location(folder.path());
    let mut bench = Bench::new(Arc::new(MemoryStore::new()));
    for blob in ["one", "two"] {
        let name = "a.resume".into();
        bench.submit(Job::Save { location: location.clone(), name, data: blob.into() });
    }
    assert!(bench.wait(2).iter().all(|(_, result)| *result == Ok(JobOutput::Done)));
    let loaded = crate::storage::load(&location, "a.resume").expect("readable");
    assert_eq!(loaded.as_deref(), Some(&b"two"[..]));
}

#[test]
fn files_of_a_torrent_go_their_whole_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::new(Arc::new(FileStore::new()));
    let files = open_files(&layout(&[("a", 20_000), ("b", 30_000)]), folder.path());
    bench.run(files_op(0, FileOp::Open(files.clone().into()))).expect("opened");
    let again = bench.run(files_op(1, FileOp::Open(files.into()))).expect_err("locked");
    assert_eq!(again.kind, JobErrorKind::Busy);
    bench.run(write(0, 10_000, vec![3; 20_000])).expect("written");
    let Ok(JobOutput::Files(stats)) = bench.run(files_op(0, FileOp::Flush)) else {
        panic!("stats")
    };
    assert_eq!(bench.run(files_op(0, FileOp::Check)), Ok(JobOutput::Files(stats)));
    bench.run(files_op(0, FileOp::Close)).expect("closed");
    assert_eq!(std::fs::read(folder.path().join("t/b")).expect("there")[..10_000], [3; 10_000]);
    assert!(!folder.path().join(".teem").exists());
}

#[test]
fn a_closed_torrent_can_be_opened_again_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::new(Arc::new(FileStore::new()));
    let files = open_files(&layout(&[("a", 500_000)]), folder.path());
    for _ in 0..200 {
        bench.run(files_op(0, FileOp::Open(files.clone().into()))).expect("not locked");
        for n in 0..8 {
            bench.submit(read(0, n * 2 * BLOCK as u64, BLOCK as u32));
            bench.submit(write(0, n * 2 * BLOCK as u64, vec![1; 10]));
            bench.submit(hash(0, HashSource::Stored { offset: 0, len: 10 }));
        }
        bench.submit(files_op(0, FileOp::Close));
        assert!(bench.wait(25).iter().all(|(_, result)| result.is_ok()));
    }
}

/// Hashes as many streams, of memory and of storage in turn, as one set, and says how it went.
fn hash_side_by_side(config: PoolConfig) -> Tally {
    let mut bench = Bench::with(config, Arc::new(MemoryStore::new()));
    bench.open(0);
    let bytes: Vec<u8> = (0..LANES * BLOCK).map(|at| (at / 7) as u8).collect();
    bench.run(write(0, 0, bytes.clone())).expect("written");
    for stored in [false, true] {
        let jobs = bytes.chunks_exact(BLOCK).enumerate().map(|(n, block)| {
            let offset = (n * BLOCK) as u64;
            let source = if stored {
                HashSource::Stored { offset, len: BLOCK as u32 }
            } else {
                HashSource::Memory(Bytes::copy_from_slice(block).into())
            };
            (bench.submit(hash(0, source)), sha1(block))
        });
        let mut expected: Vec<_> = jobs.collect();
        let mut found: Vec<_> = bench
            .wait(LANES)
            .into_iter()
            .map(|(id, result)| match result {
                Ok(JobOutput::Digest(digest)) => {
                    (id, *digest.as_bytes().first_chunk().expect("20 bytes"))
                }
                other => panic!("{id:?}: {other:?}"),
            })
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }
    bench.pool.hashed()
}

#[test]
fn streams_that_wait_are_hashed_side_by_side() {
    let all = (2 * LANES * BLOCK / 64) as u64;
    // Several threads: one of them takes all.
    let config = PoolConfig { hash_threads: 3, ..PoolConfig::default() };
    let tally = hash_side_by_side(config);
    assert_eq!(tally.in_lanes + tally.alone, all);
    if Lanes::Auto.worth(HashAlgorithm::Sha1).is_some() {
        assert_eq!((tally.in_lanes, tally.room), (all, all));
    }
    let tally = hash_side_by_side(PoolConfig { lanes: Lanes::Off, ..config });
    assert_eq!((tally.in_lanes, tally.alone), (0, all));
}

#[test]
fn who_waited_in_vain_does_not_wait_again_soon() {
    let mut patience = queue::Patience::default();
    for _ in 0..3 {
        assert!(!patience.is_exhausted());
        patience.gathered(true);
    }
    patience.gathered(false);
    let taken = (0..100).take_while(|_| patience.is_exhausted()).count();
    assert!((1..100).contains(&taken), "{taken}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8, u8),
    Read(u8),
    Hash(u8),
    Fence,
    Flush,
    Reopen,
    Cancel(u8),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    let step = prop_oneof![
        4 => any::<(u8, u8)>().prop_map(|(at, byte)| Step::Write(at, byte)),
        4 => any::<u8>().prop_map(Step::Read),
        2 => any::<u8>().prop_map(Step::Hash),
        1 => Just(Step::Fence),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => any::<u8>().prop_map(Step::Cancel),
        2 => Just(Step::Take),
    ];
    prop::collection::vec((0_u32..3, step), 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_job_completes_once_whatever_is_cancelled_and_whenever_it_ends(steps in steps()) {
        let mut bench = Bench::new(Arc::new(MemoryStore::new()));
        (0..3).for_each(|n| bench.open(n));
        let mut open = BTreeSet::new();
        let mut seen = Vec::new();
        let layout = layout(&[("f", 8 << 20)]);
        for (n, step) in steps {
            let at = |slot: u8| u64::from(slot % 16) * 1000;
            let job = match step {
                Step::Write(slot, byte) => write(n, at(slot), vec![byte; 1000]),
                Step::Read(slot) => read(n, at(slot), 1000),
                Step::Hash(slot) => hash(n, HashSource::Stored { offset: at(slot), len: 1000 }),
                Step::Fence => Job::Fence { torrent: torrent(n) },
                Step::Flush => files_op(n, FileOp::Flush),
                Step::Reopen => {
                    open.insert(bench.submit(files_op(n, FileOp::Close)));
                    let mut files = open_files(&layout, std::path::Path::new("/nowhere"));
                    files.key = format!("{n}").into();
                    files_op(n, FileOp::Open(files.into()))
                }
                Step::Cancel(back) => {
                    let id = bench.next.saturating_sub(u32::from(back % 8));
                    bench.pool.cancel(JobId::from_parts(id, 1));
                    continue;
                }
                Step::Take => {
                    bench.pool.flush();
                    seen.extend(bench.pool.try_completion());
                    continue;
                }
            };
            open.insert(bench.submit(job));
        }
        bench.pool.shutdown();
        seen.extend(std::iter::from_fn(|| bench.pool.try_completion()));
        for (id, result) in seen {
            prop_assert!(open.remove(&id), "{:?} twice", id);
            if let Err(failed) = result {
                prop_assert_eq!(failed.kind, JobErrorKind::Cancelled, "{:?}", failed);
            }
        }
        prop_assert!(open.is_empty(), "{:?} missing", open);
        prop_assert_eq!((bench.pool.jobs, bench.pool.bytes, bench.pool.unfinished), (0, 0, 0));
    }
}
