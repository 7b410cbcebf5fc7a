//! Jobs under way: which may start, and which completes next.
//!
//! A job that started has a time at which it is due; what it does happens then, at once, so two
//! jobs never overlap in their effects. The rules of [`Job`] are kept by
//! not starting a job that may not overtake another.

use std::collections::VecDeque;

use teem_core::ids::{JobId, TorrentId};
use teem_core::machine::{HashSource, Job, JobErrorKind};

use super::JOBS_MAX;
use super::counts::JobKind;
use crate::time::Nanos;

/// A job under way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: JobId,
    pub(super) kind: JobKind,
    pub(super) job: Job,
    /// How it will fail, if that is settled.
    pub(super) fails: Option<(JobErrorKind, &'static str)>,
    /// What it makes durable, if it is a flush.
    pub(super) seal: u32,
    /// When it completes; [`Nanos::NEVER`] while it waits.
    due: Nanos,
}

impl Task {
    pub(super) const fn new(id: JobId, kind: JobKind, job: Job) -> Self {
        Self { id, kind, job, fails: None, seal: 0, due: Nanos::NEVER }
    }

    /// Of which torrent it is.
    pub(super) const fn torrent(&self) -> Option<TorrentId> {
        match &self.job {
            Job::Read { torrent, .. }
            | Job::Write { torrent, .. }
            | Job::Hash { torrent, .. }
            | Job::Fence { torrent }
            | Job::Files { torrent, .. } => Some(*torrent),
            _ => None,
        }
    }

    /// Whether it has to do with storage, so that it needs a hand.
    pub(super) const fn is_stored(&self) -> bool {
        !matches!(self.job, Job::Fence { .. } | Job::Hash { source: HashSource::Memory(_), .. })
    }

    pub(super) fn is_started(&self) -> bool {
        self.due != Nanos::NEVER
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order in which they were taken; at most [`JOBS_MAX`].
    tasks: VecDeque<Task>,
    /// The due time and place of the task that completes next.
    next: Option<(Nanos, u32)>,
    /// The latest due time ever given.
    due_last: Nanos,
    waiting: u32,
    /// Hands in use.
    busy: u32,
    /// Tasks that run alone, started or not.
    exclusive: u32,
    /// Some task was started before an earlier one, or is due before it.
    mixed: bool,
}

impl Queue {
    pub(super) fn room(&self) -> usize {
        JOBS_MAX - self.tasks.len()
    }

    pub(super) fn next(&self) -> Option<Nanos> {
        self.next.map(|(due, _)| due)
    }

    /// Takes a task, which waits.
    pub(super) fn push(&mut self, task: Task) {
        assert!(self.tasks.len() < JOBS_MAX, "a job is submitted only while there is room");
        self.exclusive += u32::from(task.kind.is_exclusive());
        self.waiting += 1;
        self.tasks.push_back(task);
    }

    /// Which task may start now, if any: a hand is free for it and, where jobs overtake one
    /// another, it need not wait for an earlier one. In order, only the first that waits.
    pub(super) fn startable(&self, hands: u16, reorders: bool) -> Option<usize> {
        if self.waiting == 0 {
            return None;
        }
        let free = self.busy < u32::from(hands);
        let starts = |task: &Task| free || !task.is_stored();
        if !reorders {
            // Those that wait are the last ones, unless jobs overtook one another before.
            let first = self.tasks.len() - self.waiting as usize;
            let first = if self.mixed { 0 } else { first };
            let mut left = (first..self.tasks.len()).filter(|at| !self.tasks[*at].is_started());
            return left.next().filter(|at| starts(&self.tasks[*at]));
        }
        (0..self.tasks.len()).find(|at| {
            let task = &self.tasks[*at];
            !task.is_started() && starts(task) && !self.is_held(*at)
        })
    }

    /// Whether a task has to wait for one that was taken before it.
    fn is_held(&self, at: usize) -> bool {
        let task = &self.tasks[at];
        let alone = task.kind.is_exclusive() || task.kind == JobKind::Fence;
        if !alone && self.exclusive == 0 {
            return false;
        }
        let Some(torrent) = task.torrent() else { return false };
        let mut before = self.tasks.range(..at).filter(|task| task.torrent() == Some(torrent));
        before.any(|before| alone || before.kind.is_exclusive())
    }

    pub(super) fn task(&self, at: usize) -> &Task {
        &self.tasks[at]
    }

    /// Starts a task that [may](Self::startable). In order, it is not due before any other.
    pub(super) fn start(&mut self, at: usize, due: Nanos, reorders: bool) {
        // What is due never still counts as started.
        let due = Nanos(due.0.min(Nanos::NEVER.0 - 1));
        let due = if reorders { due } else { due.max(self.due_last) };
        let waited = self.tasks.len() - self.waiting as usize;
        self.mixed |= at != waited || due < self.due_last;
        self.due_last = self.due_last.max(due);
        let task = &mut self.tasks[at];
        task.due = due;
        self.busy += u32::from(task.is_stored());
        self.waiting -= 1;
        if self.next.is_none_or(|next| (due, at as u32) < next) {
            self.next = Some((due, at as u32));
        }
    }

    /// Takes out the task that is due by now.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<Task> {
        let (_, at) = self.next.filter(|(due, _)| *due <= now)?;
        let task = self.tasks.remove(at as usize).expect("the next task is one of them");
        self.busy -= u32::from(task.is_stored());
        self.exclusive -= u32::from(task.kind.is_exclusive());
        if self.tasks.is_empty() {
            // Given back: most hosts have no job under way.
            self.tasks = VecDeque::new();
            self.mixed = false;
        }
        self.next = if self.mixed {
            let started = (0_u32..).zip(&self.tasks).filter(|(_, task)| task.is_started());
            started.map(|(at, task)| (task.due, at)).min()
        } else {
            let first = self.tasks.front().filter(|task| task.is_started());
            first.map(|task| (task.due, 0))
        };
        Some(task)
    }

    /// Settles that a task fails, if it still waits and is one that may be left out.
    pub(super) fn cancel(&mut self, id: JobId) {
        let task = self.tasks.iter_mut().find(|task| task.id == id && !task.is_started());
        if let Some(task) = task.filter(|task| matches!(task.kind, JobKind::Read | JobKind::Hash)) {
            task.fails = Some((JobErrorKind::Cancelled, "nobody waits for it"));
        }
    }

    /// Takes out everything, in the order in which it was taken in.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Task> + use<> {
        std::mem::take(self).tasks.into_iter()
    }

    /// Bytes of memory held, not counting what jobs own.
    pub(super) fn footprint(&self) -> usize {
        self.tasks.capacity() * size_of::<Task>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use teem_core::chunks::Chunks;
    use teem_core::ids::Key;
    use teem_core::machine::FileOp;

    fn torrent(slot: u32) -> TorrentId {
        TorrentId::from_parts(slot, 1)
    }

    fn push(queue: &mut Queue, number: u32, job: Job) {
        let kind = JobKind::of(&job).expect("a disk's");
        queue.push(Task::new(JobId::from_parts(number, 1), kind, job));
    }

    fn read(slot: u32) -> Job {
        Job::Read { torrent: torrent(slot), offset: 0, len: 1 }
    }

    fn write(slot: u32) -> Job {
        let data = Chunks::from(Bytes::from_static(b"x"));
        Job::Write { torrent: torrent(slot), offset: 0, data }
    }

    fn files(slot: u32, op: FileOp) -> Job {
        Job::Files { torrent: torrent(slot), op }
    }

    /// Starts what may start, each task due after so long.
    fn start(queue: &mut Queue, hands: u16, reorders: bool, due: &[u64]) -> Vec<u32> {
        let mut started = Vec::new();
        while let Some(at) = queue.startable(hands, reorders) {
            let slot = queue.task(at).id.slot();
            queue.start(at, Nanos(due[slot as usize]), reorders);
            started.push(slot);
        }
        started
    }

    fn drain(queue: &mut Queue, hands: u16, reorders: bool, due: &[u64]) -> Vec<u32> {
        let mut order = Vec::new();
        start(queue, hands, reorders, due);
        while let Some(now) = queue.next() {
            order.push(queue.pop(now).expect("it is due").id.slot());
            start(queue, hands, reorders, due);
        }
        assert_eq!(queue.footprint(), 0);
        order
    }

    #[test]
    fn in_order_a_slow_job_holds_up_the_ones_behind_it() {
        let mut queue = Queue::default();
        for number in 0..4 {
            push(&mut queue, number, read(0));
        }
        assert_eq!(drain(&mut queue, 4, false, &[5, 9, 1, 7]), [0, 1, 2, 3]);
        for number in 0..4 {
            push(&mut queue, number, read(0));
        }
        assert_eq!(drain(&mut queue, 4, true, &[15, 19, 11, 17]), [2, 0, 3, 1]);
    }

    #[test]
    fn a_fence_waits_for_what_was_taken_before_it_and_holds_nothing_up() {
        let mut queue = Queue::default();
        push(&mut queue, 0, write(0));
        push(&mut queue, 1, write(1));
        push(&mut queue, 2, Job::Fence { torrent: torrent(0) });
        push(&mut queue, 3, write(0));
        assert_eq!(start(&mut queue, 8, true, &[5, 9, 0, 1]), [0, 1, 3]);
        assert_eq!(queue.pop(Nanos(1)).expect("due").id.slot(), 3);
        assert_eq!(queue.startable(8, true), None);
        assert_eq!(queue.pop(Nanos(5)).expect("due").id.slot(), 0);
        assert_eq!(queue.startable(8, true), Some(1));
    }

    #[test]
    fn work_on_files_runs_alone_among_the_jobs_of_its_torrent() {
        let mut queue = Queue::default();
        push(&mut queue, 0, read(0));
        push(&mut queue, 1, files(0, FileOp::Delete));
        push(&mut queue, 2, read(0));
        push(&mut queue, 3, files(1, FileOp::Flush));
        push(&mut queue, 4, files(0, FileOp::Check));
        assert_eq!(start(&mut queue, 8, true, &[5, 6, 7, 8, 9]), [0, 3]);
        assert_eq!(drain(&mut queue, 8, true, &[5, 6, 7, 8, 9]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_job_waits_for_a_hand_unless_it_needs_none() {
        let mut queue = Queue::default();
        push(&mut queue, 0, write(0));
        push(&mut queue, 1, read(1));
        push(&mut queue, 2, Job::Fence { torrent: torrent(1) });
        push(&mut queue, 3, Job::Fence { torrent: torrent(2) });
        assert_eq!(start(&mut queue, 1, true, &[5, 6, 0, 0]), [0, 3]);
        assert_eq!(drain(&mut queue, 1, true, &[5, 6, 0, 0]), [3, 0, 1, 2]);
    }

    #[test]
    fn order_is_kept_from_the_moment_it_is_asked_for() {
        let mut queue = Queue::default();
        for number in 0..6 {
            push(&mut queue, number, read(0));
        }
        let due = [50, 10, 40, 1, 2, 3];
        assert_eq!(start(&mut queue, 3, true, &due), [0, 1, 2]);
        assert_eq!(drain(&mut queue, 3, false, &due), [1, 2, 0, 3, 4, 5]);
    }

    #[test]
    fn only_what_waits_and_changes_nothing_is_cancelled() {
        let mut queue = Queue::default();
        push(&mut queue, 0, read(0));
        push(&mut queue, 1, write(0));
        push(&mut queue, 2, read(0));
        start(&mut queue, 1, false, &[1, 2, 3]);
        for number in 0..3 {
            queue.cancel(JobId::from_parts(number, 1));
        }
        let cancelled: Vec<bool> = queue.take().map(|task| task.fails.is_some()).collect();
        assert_eq!(cancelled, [false, false, true]);
    }

    #[test]
    fn a_task_is_small() {
        assert!(size_of::<Task>() <= 136, "{}", size_of::<Task>());
    }
}
