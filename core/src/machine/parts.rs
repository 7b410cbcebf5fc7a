//! Parts that every root machine is made of: the output queue, the job table, send queues, and
//! the clock that never runs backwards.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::job::Job;
use super::output::Output;
use crate::chunks::Chunks;
use crate::ids::{JobId, Slab};
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
#[derive(Debug, Default)]
pub struct SendQueue {
    parts: VecDeque<Bytes>,
    len: usize,
    lent: usize,
}

impl SendQueue {
    /// Nothing to send; allocates nothing.
    pub const fn new() -> Self {
        Self { parts: VecDeque::new(), len: 0, lent: 0 }
    }

    /// Queues `bytes`. Returns whether there was nothing before: the time for an edge.
    pub fn push(&mut self, bytes: Bytes) -> bool {
        let first = self.len == 0;
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.parts.push_back(bytes);
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

    /// Bytes that could be lent now: none while a loan lasts.
    pub const fn lendable(&self) -> usize {
        if self.lent == 0 { self.len } else { 0 }
    }

    /// Lends the next bytes: at most `max`, all of them handles, none of them copies. Nothing
    /// while a loan lasts.
    pub fn lend(&mut self, max: usize, out: &mut Vec<Bytes>) -> usize {
        if self.lent > 0 {
            return 0;
        }
        for part in &self.parts {
            let room = max - self.lent;
            if room == 0 {
                break;
            }
            let take = part.len().min(room);
            out.push(part.slice(..take));
            self.lent += take;
        }
        self.lent
    }

    /// Puts in place of the bytes from `start` to `end`, which are queued and not lent, what
    /// `change` makes of a copy of them. `start` is a place where a part begins: the front, or the
    /// end of an earlier change.
    pub(crate) fn rewrite(&mut self, start: usize, end: usize, change: impl FnOnce(&mut [u8])) {
        debug_assert!(start < end && end <= self.len && self.lent == 0);
        let (mut first, mut at) = (0, 0);
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
        let count = count.min(self.lent);
        self.lent = 0;
        self.len -= count;
        let mut left = count;
        while left > 0 {
            let part = self.parts.front_mut().expect("lent bytes are queued");
            if left < part.len() {
                drop(part.split_to(left));
                break;
            }
            left -= part.len();
            self.parts.pop_front();
        }
        if self.parts.is_empty() {
            self.parts = VecDeque::new();
        }
        count
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
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            steps in prop::collection::vec((0_usize..12, 0_usize..12), 0..60),
        ) {
            let mut queue = SendQueue::new();
            for part in &parts {
                queue.push(Bytes::copy_from_slice(part));
            }
            let mut sent = Vec::new();
            for (max, settle) in steps {
                let mut out = Vec::new();
                let lent = queue.lend(max, &mut out);
                prop_assert_eq!(out.concat().len(), lent);
                prop_assert!(lent <= max);
                let count = queue.settle(settle);
                prop_assert!(count <= lent);
                sent.extend_from_slice(&out.concat()[..count]);
            }
            prop_assert_eq!(sent.len() + queue.len(), parts.concat().len());
            prop_assert!(parts.concat().starts_with(&sent));
        }
    }
}
