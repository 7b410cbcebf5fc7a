//! Parts that every root machine is made of: the output queue, the edges of streams in it, the job
//! table, send queues, and the clock that never runs backwards.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::job::Job;
use super::output::Output;
use crate::chunks::Chunks;
use crate::ids::{JobId, Slab, StreamId};
use crate::time::Instant;

/// The latest `now` seen.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Instant,
    regressions: u64,
}

impl Clock {
    /// Starts at `now`.
    pub const fn new(now: Instant) -> Self {
        Self { now, regressions: 0 }
    }

    /// Takes in a caller's `now` and returns the one to work with: the latest seen.
    pub fn advance(&mut self, now: Instant) -> Instant {
        if now < self.now {
            self.regressions += 1;
        } else {
            self.now = now;
        }
        self.now
    }

    /// The latest seen.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How often a caller's time ran backwards.
    pub const fn regressions(&self) -> u64 {
        self.regressions
    }
}

/// Control outputs, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Output>,
}

impl Outbox {
    /// Queues an output.
    pub fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    /// The next output. Gives memory back when it runs empty.
    pub fn pop(&mut self) -> Option<Output> {
        let output = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        output
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Which edges of a stream wait in the [`Outbox`]: each waits there once at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamEdges {
    read: bool,
    write: bool,
}

impl StreamEdges {
    /// None.
    pub const fn new() -> Self {
        Self { read: false, write: false }
    }

    /// `stream`, whose edges these are, has credit again.
    pub fn want_read(&mut self, stream: StreamId, out: &mut Outbox) {
        if !mem::replace(&mut self.read, true) {
            out.push(Output::WantRead(stream));
        }
    }

    /// `stream`, whose edges these are, has something to send again.
    pub fn want_write(&mut self, stream: StreamId, out: &mut Outbox) {
        if !mem::replace(&mut self.write, true) {
            out.push(Output::WantWrite(stream));
        }
    }

    /// The driver takes one of them, if `output` is one.
    pub const fn taken(&mut self, output: &Output) {
        match output {
            Output::WantRead(_) => self.read = false,
            Output::WantWrite(_) => self.write = false,
            _ => {}
        }
    }
}

/// Jobs that wait to be taken, and the owners of all that are not completed.
#[derive(Debug)]
pub struct Jobs<T> {
    owners: Slab<JobId, T>,
    waiting: VecDeque<(JobId, Job)>,
    wanted: bool,
    stale: u64,
}

impl<T> Jobs<T> {
    /// No jobs; allocates nothing.
    pub const fn new() -> Self {
        Self { owners: Slab::new(), waiting: VecDeque::new(), wanted: false, stale: 0 }
    }

    /// Queues `job`; `owner` comes back with its completion.
    pub fn submit(&mut self, owner: T, job: Job, out: &mut Outbox) -> JobId {
        let id = self.owners.insert(owner);
        self.waiting.push_back((id, job));
        if !self.wanted {
            self.wanted = true;
            out.push(Output::WantJob);
        }
        id
    }

    /// The next job for an executor.
    pub fn pop(&mut self) -> Option<(JobId, Job)> {
        let job = self.waiting.pop_front();
        if job.is_none() {
            self.wanted = false;
        }
        job
    }

    /// The owner of a completed job, once; a stale id is counted.
    pub fn complete(&mut self, id: JobId) -> Option<T> {
        let owner = self.owners.remove(id);
        self.stale += u64::from(owner.is_none());
        owner
    }

    /// Jobs that are not completed.
    pub const fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether every job is completed.
    pub const fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Completions of jobs that nobody knew.
    pub const fn stale(&self) -> u64 {
        self.stale
    }
}

impl<T> Default for Jobs<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The unsent bytes of one stream, and what of them is lent.
///
/// One part is held in place: a short message that leaves before the next allocates nothing.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// The first `gone` of them have left and are empty.
    parts: SmallVec<[Bytes; 1]>,
    gone: u32,
    lent: u32,
    len: usize,
}

impl SendQueue {
    /// Nothing to send; allocates nothing.
    pub const fn new() -> Self {
        Self { parts: SmallVec::new_const(), gone: 0, lent: 0, len: 0 }
    }

    /// Queues `bytes`. Returns whether there was nothing before: the time for an edge.
    pub fn push(&mut self, bytes: Bytes) -> bool {
        let first = self.len == 0;
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.parts.push(bytes);
        }
        first && self.len > 0
    }

    /// Queues all parts of `chunks`, as [`push`](Self::push).
    pub fn push_chunks(&mut self, chunks: &Chunks) -> bool {
        let first = self.len == 0;
        for part in chunks.parts() {
            self.push(part.clone());
        }
        first && self.len > 0
    }

    /// Unsent bytes, lent ones included.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether everything was sent.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are lent.
    pub const fn lent(&self) -> usize {
        self.lent as usize
    }

    /// Bytes that could be lent now: none while a loan lasts.
    pub const fn lendable(&self) -> usize {
        if self.lent == 0 { self.len } else { 0 }
    }

    /// Lends the next bytes: at most `max` and 4 GiB, all of them handles, none of them copies.
    /// Nothing while a loan lasts.
    pub fn lend(&mut self, max: usize, out: &mut Vec<Bytes>) -> usize {
        if self.lent > 0 {
            return 0;
        }
        let mut room = u32::try_from(max).unwrap_or(u32::MAX) as usize;
        for part in &self.parts[self.gone as usize..] {
            if room == 0 {
                break;
            }
            let take = part.len().min(room);
            out.push(part.slice(..take));
            room -= take;
            self.lent += take as u32;
        }
        self.lent()
    }

    /// Puts in place of the bytes from `start` to `end`, which are queued and not lent, what
    /// `change` makes of a copy of them. `start` is a place where a part begins: the front, or the
    /// end of an earlier change.
    pub(crate) fn rewrite(&mut self, start: usize, end: usize, change: impl FnOnce(&mut [u8])) {
        debug_assert!(start < end && end <= self.len && self.lent == 0);
        let (mut first, mut at) = (self.gone as usize, 0);
        while at < start {
            at += self.parts[first].len();
            first += 1;
        }
        debug_assert_eq!(at, start, "a change begins where a part does");
        let mut bytes = Vec::with_capacity(end - start);
        let mut after = first;
        while bytes.len() < end - start {
            let part = &mut self.parts[after];
            let room = end - start - bytes.len();
            if part.len() > room {
                bytes.extend_from_slice(&part.split_to(room));
            } else {
                bytes.extend_from_slice(part);
                after += 1;
            }
        }
        change(&mut bytes);
        self.parts.drain(first..after);
        self.parts.insert(first, bytes.into());
    }

    /// Settles the loan: `count` bytes left, the rest goes back. Returns the number that counts:
    /// at most what was lent.
    pub fn settle(&mut self, count: usize) -> usize {
        let count = count.min(self.lent());
        self.lent = 0;
        self.len -= count;
        let mut left = count;
        while left > 0 {
            let part = &mut self.parts[self.gone as usize];
            if left < part.len() {
                part.advance(left);
                break;
            }
            left -= part.len();
            *part = Bytes::new();
            self.gone += 1;
        }
        self.forget_gone();
        count
    }

    /// Frees the places of what has left once they are more than half of all: so a part is moved
    /// once on average, at most.
    fn forget_gone(&mut self) {
        let gone = self.gone as usize;
        if gone == self.parts.len() {
            self.parts = SmallVec::new_const();
            self.gone = 0;
        } else if gone > self.parts.len() / 2 {
            self.parts.drain(..gone);
            self.gone = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn the_clock_never_runs_backwards() {
        let mut clock = Clock::new(Instant::ORIGIN);
        let later = Instant::ORIGIN + Duration::from_secs(1);
        assert_eq!(clock.advance(later), later);
        assert_eq!(clock.advance(Instant::ORIGIN), later);
        assert_eq!(clock.regressions(), 1);
    }

    #[test]
    fn the_edges_of_a_stream_are_queued_once_until_they_are_taken() {
        let (mut edges, mut out) = (StreamEdges::new(), Outbox::default());
        let stream = Slab::<StreamId, ()>::new().next_key();
        for _ in 0..2 {
            edges.want_read(stream, &mut out);
            edges.want_write(stream, &mut out);
        }
        let output = out.pop().expect("an edge");
        assert_eq!(output, Output::WantRead(stream));
        edges.taken(&output);
        edges.want_write(stream, &mut out);
        edges.want_read(stream, &mut out);
        assert_eq!(out.pop(), Some(Output::WantWrite(stream)));
        assert_eq!(out.pop(), Some(Output::WantRead(stream)));
        assert_eq!(out.pop(), None);
    }

    #[test]
    fn the_job_edge_is_queued_once_until_the_jobs_ran_out() {
        let mut jobs = Jobs::new();
        let mut out = Outbox::default();
        let job = || Job::Resolve { host: "a".into(), port: 1 };
        jobs.submit('a', job(), &mut out);
        jobs.submit('b', job(), &mut out);
        assert_eq!(out.pop(), Some(Output::WantJob));
        assert_eq!(out.pop(), None);
        let (first, _) = jobs.pop().expect("a job");
        assert!(jobs.pop().is_some() && jobs.pop().is_none());
        jobs.submit('c', job(), &mut out);
        assert_eq!(out.pop(), Some(Output::WantJob));
        assert_eq!(jobs.complete(first), Some('a'));
        assert_eq!(jobs.complete(first), None);
        assert_eq!(jobs.stale(), 1);
    }

    #[test]
    fn a_second_loan_waits_for_the_first_to_be_settled() {
        let mut queue = SendQueue::new();
        assert!(queue.push(Bytes::from_static(b"abcdef")));
        assert!(!queue.push(Bytes::from_static(b"gh")));
        let mut out = Vec::new();
        assert_eq!(queue.lend(4, &mut out), 4);
        assert_eq!(queue.lend(4, &mut out), 0);
        assert_eq!(queue.settle(3), 3);
        assert_eq!(queue.settle(3), 0);
        out.clear();
        assert_eq!(queue.lend(100, &mut out), 5);
        assert_eq!(out.concat(), b"defgh");
        assert_eq!(queue.settle(100), 5);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn every_byte_leaves_once_and_in_order(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..40),
            steps in prop::collection::vec((0_usize..4, 0_usize..24, 0_usize..24), 0..60),
        ) {
            let mut queue = SendQueue::new();
            let (mut queued, mut sent) = (Vec::new(), Vec::new());
            let mut coming = parts.iter();
            for (pushes, max, settle) in steps {
                for part in coming.by_ref().take(pushes) {
                    let first = queue.push(Bytes::copy_from_slice(part));
                    prop_assert_eq!(first, queued.len() == sent.len() && !part.is_empty());
                    queued.extend_from_slice(part);
                }
                let mut out = Vec::new();
                let lent = queue.lend(max, &mut out);
                prop_assert_eq!(out.concat().len(), lent);
                prop_assert_eq!(lent, max.min(queued.len() - sent.len()));
                let count = queue.settle(settle);
                prop_assert_eq!(count, settle.min(lent));
                sent.extend_from_slice(&out.concat()[..count]);
                prop_assert_eq!(sent.len() + queue.len(), queued.len());
                prop_assert!(queued.starts_with(&sent));
                let gone = queue.gone as usize;
                prop_assert!(2 * gone <= queue.parts.len(), "{gone} places are kept");
            }
        }

        #[test]
        fn what_was_not_lent_is_rewritten_where_it_is(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 1..20),
            sent in 0_usize..60,
            upto in 1_usize..60,
        ) {
            let mut queue = SendQueue::new();
            for part in &parts {
                queue.push(Bytes::copy_from_slice(part));
            }
            let mut want = parts.concat();
            let (sent, mut out) = (sent.min(want.len() - 1), Vec::new());
            queue.lend(sent, &mut out);
            prop_assert_eq!(queue.settle(sent), sent);
            want.drain(..sent);
            let upto = upto.min(want.len());
            queue.rewrite(0, upto, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0xff));
            want[..upto].iter_mut().for_each(|byte| *byte ^= 0xff);
            out.clear();
            prop_assert_eq!(queue.lend(usize::MAX, &mut out), want.len());
            prop_assert_eq!(out.concat(), want);
        }
    }
}
