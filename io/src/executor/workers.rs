//! What the threads of a pool do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use teem_core::chunks::Chunks;
use teem_core::hash::{HashAlgorithm, HashState};
use teem_core::machine::{FileOp, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult};

use super::pool::Pool;
use super::queue::{Arrived, Batch, Patience, Queue, Shared};
use super::{Task, Ticket, Work, cancelled};
use crate::dns;
use crate::lanes::{LANES, Lanes};
use crate::storage::{Storage, blob, error};

/// Adjacent writes are merged up to this size.
const WRITE_RUN_MAX: usize = 1 << 20;

/// Parts of one merged write: what one vectored write takes on Linux.
const WRITE_PARTS_MAX: usize = 1024;

/// Adjacent reads are merged up to this size. A block that is slow to leave pins the whole run, so
/// this is less than for writes.
const READ_RUN_MAX: usize = 128 * 1024;

/// Payload in one set of streams that are hashed together, so that the first completion does not
/// wait for too much: one or two milliseconds in lanes.
const HASH_SET_BYTES_MAX: usize = 8 << 20;

/// What is read of one stored stream at a time. Where [`LANES`] of them are read side by side, what
/// was read is still in the processor's cache when it is hashed.
const STORED_STEP: usize = 256 * 1024;
const STORED_STEP_IN_LANES: usize = 64 * 1024;

/// A kind of work with threads of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Write,
    Read,
    Hash,
    Files,
    Save,
    Resolve,
}

impl Class {
    pub(super) const ALL: [Self; 6] =
        [Self::Write, Self::Read, Self::Hash, Self::Files, Self::Save, Self::Resolve];

    pub(super) const fn thread_name(self) -> &'static str {
        match self {
            Self::Write => "teem-write",
            Self::Read => "teem-read",
            Self::Hash => "teem-hash",
            Self::Files => "teem-files",
            Self::Save => "teem-save",
            Self::Resolve => "teem-resolve",
        }
    }

    /// What a thread takes at once.
    fn batch(self, lanes: Lanes) -> Batch {
        let (tasks_max, bytes_max) = match self {
            Self::Write => (256, 4 << 20),
            Self::Read => (32, 1 << 20),
            Self::Hash => (LANES, HASH_SET_BYTES_MAX),
            Self::Files | Self::Save | Self::Resolve => (1, usize::MAX),
        };
        let hash = self == Self::Hash;
        let gather = lanes.worth(HashAlgorithm::Sha1).filter(|_| hash);
        Batch { tasks_max, bytes_max, gather }
    }
}

/// The life of a thread: batch after batch until its queue is closed and empty.
pub(super) fn run(class: Class, queue: &Queue, shared: &Shared) {
    let share = class.batch(shared.lanes);
    let mut buffer = Vec::new();
    let mut pool = Pool::default();
    let mut patience = Patience::default();
    while let Some(batch) = queue.take(share, &mut patience) {
        let mut sink = Sink::new(shared, &batch);
        let done = catch_unwind(AssertUnwindSafe(|| match class {
            Class::Write => write_all(batch, &mut sink),
            Class::Read => read_all(batch, &mut pool, &mut sink),
            Class::Hash => hash_all(batch, &mut buffer, &mut sink),
            Class::Files | Class::Save | Class::Resolve => one_by_one(batch, &mut sink),
        }));
        let missing = match done {
            Ok(()) => "a worker left it undone".into(),
            Err(panic) => format!("a worker panicked: {}", panic_text(&*panic)),
        };
        sink.finish(&missing);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// Collects completions; sees to it that each task of a batch has exactly one.
struct Sink<'a> {
    shared: &'a Shared,
    open: Vec<Ticket>,
    done: Vec<Arrived>,
}

impl<'a> Sink<'a> {
    fn new(shared: &'a Shared, batch: &[Task]) -> Self {
        let open = batch.iter().map(|task| task.ticket).collect();
        Self { shared, open, done: Vec::new() }
    }

    fn complete(&mut self, ticket: Ticket, result: JobResult) {
        self.complete_with(ticket, result, None);
    }

    fn complete_with(
        &mut self,
        ticket: Ticket,
        result: JobResult,
        opened: Option<Arc<dyn Storage>>,
    ) {
        if let Some(at) = self.open.iter().position(|open| open.id == ticket.id) {
            self.open.swap_remove(at);
            self.done.push(Arrived { ticket, result, opened });
        }
    }

    /// Answers a task that nobody waits for.
    fn refuse(&mut self, ticket: Ticket) -> bool {
        let refused = self.shared.is_cancelled(ticket.id);
        if refused {
            self.complete(ticket, Err(cancelled()));
        }
        refused
    }

    fn publish(&mut self) {
        self.shared.publish(&mut self.done);
    }

    fn finish(mut self, missing: &str) {
        for ticket in std::mem::take(&mut self.open) {
            let result = Err(error(JobErrorKind::Io, missing));
            self.done.push(Arrived { ticket, result, opened: None });
        }
        self.publish();
    }
}

fn not_open() -> JobError {
    error(JobErrorKind::NotFound, "the torrent's storage is not open")
}

/// A read or a write, to be put in order. It is dropped before its completion is published, so that
/// a torrent whose jobs are all completed has no handle of its storage left but the executor's.
struct Span<T> {
    ticket: Ticket,
    storage: Arc<dyn Storage>,
    offset: u64,
    what: T,
}

impl<T> Span<T> {
    fn place(&self) -> (Option<teem_core::ids::TorrentId>, u64) {
        (self.ticket.place.map(|(torrent, _)| torrent), self.offset)
    }

    /// How many of `spans`, which are in order, make one run.
    fn run_len(
        spans: &[Self],
        len_max: usize,
        mut parts_max: usize,
        size: fn(&T) -> (usize, usize),
    ) -> usize {
        let Some(first) = spans.first() else { return 0 };
        let (mut len, parts) = size(&first.what);
        parts_max = parts_max.saturating_sub(parts);
        let mut count = 1;
        for span in &spans[1..] {
            let (more, parts) = size(&span.what);
            let next = first.offset.checked_add(len as u64);
            if span.place().0 != first.place().0
                || Some(span.offset) != next
                || len + more > len_max
                || parts > parts_max
            {
                break;
            }
            len += more;
            parts_max -= parts;
            count += 1;
        }
        count
    }
}

fn write_all(batch: Vec<Task>, sink: &mut Sink<'_>) {
    let mut spans: Vec<Span<Chunks>> = Vec::with_capacity(batch.len());
    for Task { ticket, work } in batch {
        let Work::Job { job: Job::Write { offset, data, .. }, storage } = work else { continue };
        match storage {
            Some(storage) => spans.push(Span { ticket, storage, offset, what: data }),
            None => sink.complete(ticket, Err(not_open())),
        }
    }
    spans.sort_by_key(Span::place);
    let mut rest = spans.into_iter();
    loop {
        let spans = rest.as_slice();
        let size = |data: &Chunks| (data.len(), data.parts().len());
        let count = Span::run_len(spans, WRITE_RUN_MAX, WRITE_PARTS_MAX, size);
        if count == 0 {
            break;
        }
        let run = &spans[..count];
        let written = write_run(run);
        // Whose fault it was shows only one by one.
        let alone = written.is_err() && count > 1;
        for span in rest.by_ref().take(count) {
            let result =
                if alone { write_run(std::slice::from_ref(&span)) } else { written.clone() };
            sink.complete(span.ticket, result.map(|()| JobOutput::Done));
        }
        sink.publish();
    }
}

fn write_run(run: &[Span<Chunks>]) -> Result<(), JobError> {
    let Some(first) = run.first() else { return Ok(()) };
    let parts = run.iter().flat_map(|span| span.what.parts());
    let parts: Vec<&[u8]> = parts.map(|part| &part[..]).collect();
    first.storage.write_at(first.offset, &parts)
}

fn read_all(batch: Vec<Task>, pool: &mut Pool, sink: &mut Sink<'_>) {
    let mut spans: Vec<Span<usize>> = Vec::with_capacity(batch.len());
    for Task { ticket, work } in batch {
        let Work::Job { job: Job::Read { offset, len, .. }, storage } = work else { continue };
        if sink.refuse(ticket) {
            continue;
        }
        match storage {
            Some(storage) => spans.push(Span { ticket, storage, offset, what: len as usize }),
            None => sink.complete(ticket, Err(not_open())),
        }
    }
    spans.sort_by_key(Span::place);
    let mut rest = spans.into_iter();
    loop {
        let spans = rest.as_slice();
        let count = Span::run_len(spans, READ_RUN_MAX, usize::MAX, |len| (*len, 0));
        if count == 0 {
            break;
        }
        let mut read = read_run(&spans[..count], pool);
        let alone = read.is_err() && count > 1;
        for span in rest.by_ref().take(count) {
            let result = match &mut read {
                Ok(bytes) => Ok(bytes.split_to(span.what)),
                Err(_) if alone => read_run(std::slice::from_ref(&span), pool),
                Err(failed) => Err(failed.clone()),
            };
            sink.complete(span.ticket, result.map(JobOutput::Read));
        }
        sink.publish();
    }
}

fn read_run(run: &[Span<usize>], pool: &mut Pool) -> Result<Bytes, JobError> {
    let Some(first) = run.first() else { return Ok(Bytes::new()) };
    let len = run.iter().map(|span| span.what).sum();
    let mut buf = pool.take(len);
    first.storage.read_at(first.offset, &mut buf[..len])?;
    Ok(pool.lend(buf, len))
}

/// A hash job without its bytes.
struct Stream<T> {
    ticket: Ticket,
    state: Box<HashState>,
    last: bool,
    source: T,
}

impl<T> Stream<T> {
    fn complete(self, sink: &mut Sink<'_>) {
        let output = if self.last {
            JobOutput::Digest(self.state.finish())
        } else {
            JobOutput::Hashed(self.state)
        };
        sink.complete(self.ticket, Ok(output));
    }
}

/// A part of the content that is still to be hashed.
struct Stored {
    storage: Arc<dyn Storage>,
    offset: u64,
    left: usize,
}

fn hash_all(batch: Vec<Task>, buffer: &mut Vec<u8>, sink: &mut Sink<'_>) {
    let (mut memory, mut stored) = (Vec::new(), Vec::new());
    for Task { ticket, work } in batch {
        let Work::Job { job: Job::Hash { state, source, last, .. }, storage } = work else {
            continue;
        };
        if sink.refuse(ticket) {
            continue;
        }
        match (source, storage) {
            (HashSource::Memory(source), _) => memory.push(Stream { ticket, state, last, source }),
            (HashSource::Stored { offset, len }, Some(storage)) => {
                let source = Stored { storage, offset, left: len as usize };
                stored.push(Stream { ticket, state, last, source });
            }
            (HashSource::Stored { .. }, None) => sink.complete(ticket, Err(not_open())),
        }
    }
    let lanes = sink.shared.lanes;
    let mut set: Vec<_> = memory
        .iter_mut()
        .map(|stream: &mut Stream<Chunks>| (&mut *stream.state, stream.source.parts()))
        .collect();
    sink.shared.count_hashed(lanes.advance(&mut set));
    drop(set);
    for stream in memory {
        stream.complete(sink);
    }
    sink.publish();
    stored.sort_by_key(|stream| (stream.ticket.place.map(|place| place.0), stream.source.offset));
    // Side by side only for lanes: a disk likes to be read in order.
    let together = lanes.worth(HashAlgorithm::Sha1).is_some_and(|worth| stored.len() >= worth);
    let (width, step) = if together { (LANES, STORED_STEP_IN_LANES) } else { (1, STORED_STEP) };
    while !stored.is_empty() {
        let set: Vec<_> = stored.drain(..stored.len().min(width)).collect();
        if set.len() > 1 {
            for Stored { storage, offset, left } in set.iter().map(|stream| &stream.source) {
                storage.will_read(*offset, *left);
            }
        }
        hash_stored(set, step, buffer, sink);
    }
}

/// Reads and hashes streams side by side, `step` bytes of each at a time, through `buffer`, until
/// all are done or failed.
fn hash_stored(
    mut streams: Vec<Stream<Stored>>,
    step: usize,
    buffer: &mut Vec<u8>,
    sink: &mut Sink<'_>,
) {
    buffer.resize(streams.len() * step, 0);
    while !streams.is_empty() {
        let mut failed = Vec::new();
        let mut read = Vec::with_capacity(streams.len());
        for (at, (stream, buf)) in streams.iter_mut().zip(buffer.chunks_exact_mut(step)).enumerate()
        {
            let source = &mut stream.source;
            let buf = &mut buf[..source.left.min(step)];
            if let Err(error) = source.storage.read_at(source.offset, buf) {
                failed.push((at, error));
                continue;
            }
            source.offset += buf.len() as u64;
            source.left -= buf.len();
            read.push((&mut *stream.state, [&*buf]));
        }
        let mut set: Vec<_> =
            read.iter_mut().map(|(state, parts)| (&mut **state, &parts[..])).collect();
        sink.shared.count_hashed(sink.shared.lanes.advance(&mut set));
        drop(set);
        drop(read);
        for (at, error) in failed.into_iter().rev() {
            sink.complete(streams.swap_remove(at).ticket, Err(error));
        }
        for stream in streams.extract_if(.., |stream| stream.source.left == 0) {
            stream.complete(sink);
        }
        sink.publish();
    }
}

fn one_by_one(batch: Vec<Task>, sink: &mut Sink<'_>) {
    for Task { ticket, work } in batch {
        match work {
            Work::Open { files, store } => match store.open(&files) {
                Ok((storage, stats)) => {
                    sink.complete_with(ticket, Ok(JobOutput::Files(stats)), Some(storage));
                }
                Err(error) => sink.complete(ticket, Err(error)),
            },
            Work::Job { job: Job::Files { op, .. }, storage } => {
                sink.complete(ticket, file_op(op, storage));
            }
            Work::Job { job: Job::Save { location, name, data }, .. } => {
                let saved = blob::save(&location, &name, &data);
                sink.complete(ticket, saved.map(|()| JobOutput::Done));
            }
            Work::Job { job: Job::Resolve { host, port }, .. } => {
                if !sink.refuse(ticket) {
                    sink.complete(ticket, dns::resolve(&host, port));
                }
            }
            Work::Job { .. } => {}
        }
    }
}

fn file_op(op: FileOp, storage: Option<Arc<dyn Storage>>) -> JobResult {
    let Some(storage) = storage else {
        // Closing what did not open is what a torrent that is removed does.
        return if matches!(op, FileOp::Close) { Ok(JobOutput::Done) } else { Err(not_open()) };
    };
    match op {
        FileOp::Open(_) => Err(error(JobErrorKind::Busy, "the torrent's storage is open already")),
        FileOp::Flush => storage.flush().map(JobOutput::Files),
        FileOp::Check => storage.check().map(JobOutput::Files),
        FileOp::Room { bytes } => storage.room(bytes).map(|()| JobOutput::Done),
        FileOp::Move { to } => storage.move_to(&to).map(|()| JobOutput::Done),
        FileOp::Delete => storage.delete().map(|()| JobOutput::Done),
        // The executor kept no handle: files and lock go with this one.
        FileOp::Close => {
            drop(storage);
            Ok(JobOutput::Done)
        }
        _ => Err(error(JobErrorKind::Io, "this executor does not know such work on files")),
    }
}
