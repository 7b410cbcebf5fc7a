//! Queues between the driver's thread and the workers, and the threads behind them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use teem_core::ids::JobId;
use teem_core::machine::JobResult;

use super::workers::{self, Class};
use super::{Task, Ticket};
use crate::lanes::{Lanes, Tally};
use crate::storage::Storage;

/// Staged payload that is worth waking a worker for before the driver's turn ends.
const HAND_OVER_BYTES: usize = 256 * 1024;

/// Locks also after a panic elsewhere: what these mutexes guard is whole between calls.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A completion on its way to the driver's thread.
pub(super) struct Arrived {
    pub(super) ticket: Ticket,
    pub(super) result: JobResult,
    pub(super) opened: Option<Arc<dyn Storage>>,
}

/// What all workers of a pool share: the way back.
pub(super) struct Shared {
    pub(super) lanes: Lanes,
    hashed: Mutex<Tally>,
    arrived: Mutex<Inbox>,
    wait: Condvar,
    waker: Mutex<Option<Waker>>,
    stopping: AtomicBool,
    cancelled: Mutex<BTreeSet<JobId>>,
    cancelled_len: AtomicUsize,
}

#[derive(Default)]
struct Inbox {
    queue: Vec<Arrived>,
    waiting: bool,
}

impl Shared {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self {
            lanes,
            hashed: Mutex::default(),
            arrived: Mutex::default(),
            wait: Condvar::new(),
            waker: Mutex::default(),
            stopping: AtomicBool::new(false),
            cancelled: Mutex::default(),
            cancelled_len: AtomicUsize::new(0),
        }
    }

    pub(super) fn count_hashed(&self, tally: Tally) {
        *lock(&self.hashed) += tally;
    }

    pub(super) fn hashed(&self) -> Tally {
        *lock(&self.hashed)
    }

    /// Sends a batch back; wakes the driver if there was nothing before.
    pub(super) fn publish(&self, batch: &mut Vec<Arrived>) {
        if batch.is_empty() {
            return;
        }
        let (first, waiting) = {
            let mut arrived = lock(&self.arrived);
            let first = arrived.queue.is_empty();
            arrived.queue.append(batch);
            (first, arrived.waiting)
        };
        if waiting {
            self.wait.notify_one();
        }
        if first {
            self.wake();
        }
    }

    /// Takes all that was sent back; `into` is empty, and lends its memory to the next batch.
    pub(super) fn collect(&self, into: &mut Vec<Arrived>) {
        std::mem::swap(&mut lock(&self.arrived).queue, into);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.arrived).queue.is_empty()
    }

    #[cfg(test)]
    pub(super) fn cancelled_len(&self) -> usize {
        self.cancelled_len.load(Ordering::Relaxed)
    }

    /// Waits until something was sent back.
    pub(super) fn wait(&self) {
        let mut arrived = lock(&self.arrived);
        arrived.waiting = true;
        while arrived.queue.is_empty() {
            arrived = self.wait.wait(arrived).unwrap_or_else(PoisonError::into_inner);
        }
        arrived.waiting = false;
    }

    pub(super) fn set_waker(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
        if !lock(&self.arrived).queue.is_empty() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn cancel(&self, id: JobId) {
        let mut cancelled = lock(&self.cancelled);
        cancelled.insert(id);
        self.cancelled_len.store(cancelled.len(), Ordering::Relaxed);
    }

    /// Whether nobody waits for this job.
    pub(super) fn is_cancelled(&self, id: JobId) -> bool {
        self.stopping.load(Ordering::Relaxed)
            || (self.cancelled_len.load(Ordering::Relaxed) > 0
                && lock(&self.cancelled).contains(&id))
    }

    pub(super) fn forget_cancelled(&self, id: JobId) {
        if self.cancelled_len.load(Ordering::Relaxed) > 0 {
            let mut cancelled = lock(&self.cancelled);
            cancelled.remove(&id);
            self.cancelled_len.store(cancelled.len(), Ordering::Relaxed);
        }
    }

    /// Ids that were stale when they were cancelled go here.
    pub(super) fn forget_all_cancelled(&self) {
        if self.cancelled_len.load(Ordering::Relaxed) > 0 {
            lock(&self.cancelled).clear();
            self.cancelled_len.store(0, Ordering::Relaxed);
        }
    }
}

/// The threads of one class of work, and their queue.
pub(super) struct Crew {
    class: Class,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    threads_max: usize,
    threads: Vec<JoinHandle<()>>,
    staged: Vec<Task>,
    staged_bytes: usize,
}

/// How much a thread takes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) tasks_max: usize,
    pub(super) bytes_max: usize,
    /// From how many tasks on it is worth having waited for more; none: a thread never waits, and
    /// leaves the others their share.
    pub(super) gather: Option<usize>,
}

/// How long a thread waits for more tasks than there are: five of 256 KiB come over a link of a
/// gigabit in that time. No longer, for a piece is not announced meanwhile.
const GATHER_TIME: Duration = Duration::from_millis(10);

/// After a wait in vain, a thread takes so many batches as they are before it waits again: a slow
/// torrent should not be slower for it.
const GATHER_PAUSE: u32 = 7;

/// Whether a thread waits for more tasks than there are.
#[derive(Debug, Default)]
pub(super) struct Patience {
    pause: u32,
}

/// Tasks that wait for a thread.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    gathered: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Threads that sleep and were not called yet.
    sleeping: usize,
    /// A thread waits until there are so many tasks, and is called then; others leave them to it.
    gathering: Option<usize>,
    threads: usize,
    closed: bool,
}

impl Crew {
    pub(super) fn new(class: Class, threads_max: usize, shared: &Arc<Shared>) -> Self {
        Self {
            class,
            queue: Arc::new(Queue::default()),
            shared: Arc::clone(shared),
            threads_max,
            threads: Vec::new(),
            staged: Vec::new(),
            staged_bytes: 0,
        }
    }

    /// Keeps a task for the next hand-over; hands over when there is enough.
    pub(super) fn stage(&mut self, task: Task) -> std::io::Result<()> {
        self.staged_bytes += task.ticket.bytes;
        self.staged.push(task);
        if self.staged_bytes >= HAND_OVER_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Gives all staged tasks to the threads. Fails only if there is no thread and none can be
    /// started; the tasks stay staged then.
    pub(super) fn hand_over(&mut self) -> std::io::Result<()> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let (idle, waiting) = {
            let state = lock(&self.queue.state);
            (state.sleeping, state.tasks.len() + self.staged.len())
        };
        let more = self.threads_max - self.threads.len();
        for _ in 0..more.min(waiting.saturating_sub(idle)) {
            if let Err(error) = self.start_thread() {
                if self.threads.is_empty() {
                    return Err(error);
                }
                break;
            }
        }
        let wake = {
            let mut state = lock(&self.queue.state);
            state.tasks.extend(self.staged.drain(..));
            match state.gathering {
                Some(wanted) => {
                    if state.tasks.len() >= wanted {
                        self.queue.gathered.notify_one();
                    }
                    false
                }
                None => state.call_one(),
            }
        };
        self.staged_bytes = 0;
        if wake {
            self.queue.ready.notify_one();
        }
        Ok(())
    }

    /// The staged tasks, after a failed hand-over.
    pub(super) fn take_back(&mut self) -> Vec<Task> {
        self.staged_bytes = 0;
        std::mem::take(&mut self.staged)
    }

    /// Ends the threads once their queue is empty, and waits for them; not for resolvers.
    pub(super) fn close(&mut self) {
        lock(&self.queue.state).closed = true;
        self.queue.ready.notify_all();
        self.queue.gathered.notify_all();
        for thread in self.threads.drain(..) {
            if self.class != Class::Resolve {
                // A worker that panicked outside of its work said so already.
                drop(thread.join());
            }
        }
    }

    /// Whether no thread was ever needed.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    #[cfg(test)]
    pub(super) fn set_threads_max(&mut self, threads_max: usize) {
        self.threads_max = threads_max;
    }

    fn start_thread(&mut self) -> std::io::Result<()> {
        let (class, queue, shared) =
            (self.class, Arc::clone(&self.queue), Arc::clone(&self.shared));
        let builder = Builder::new().name(class.thread_name().into());
        let thread = builder.spawn(move || workers::run(class, &queue, &shared))?;
        lock(&self.queue.state).threads += 1;
        self.threads.push(thread);
        Ok(())
    }
}

impl Queue {
    /// Waits for tasks and takes a share of them: at most `tasks_max`, and no more after
    /// `bytes_max` are reached. None when the queue was closed and is empty.
    pub(super) fn take(&self, batch: Batch, patience: &mut Patience) -> Option<Vec<Task>> {
        let Batch { tasks_max, bytes_max, gather } = batch;
        let mut state = lock(&self.state);
        while state.tasks.is_empty() || state.gathering.is_some() {
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(worth) = gather
            && state.tasks.len() < tasks_max
            && !patience.is_exhausted()
        {
            state.gathering = Some(tasks_max);
            let more = |state: &mut State| state.tasks.len() < tasks_max && !state.closed;
            let waited = self.gathered.wait_timeout_while(state, GATHER_TIME, more);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.gathering = None;
            patience.gathered(state.tasks.len() >= worth);
        }
        let threads = if gather.is_some() { 1 } else { state.threads.max(1) };
        let share = state.tasks.len().div_ceil(threads).min(tasks_max);
        let mut batch = Vec::with_capacity(share);
        let mut bytes = 0;
        while batch.len() < share && bytes < bytes_max {
            let Some(task) = state.tasks.pop_front() else { break };
            bytes += task.ticket.bytes;
            batch.push(task);
        }
        let wake = !state.tasks.is_empty() && state.call_one();
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        Some(batch)
    }
}

impl Patience {
    /// Whether to take what there is.
    pub(super) fn is_exhausted(&mut self) -> bool {
        let exhausted = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        exhausted
    }

    pub(super) fn gathered(&mut self, enough: bool) {
        self.pause = if enough { 0 } else { GATHER_PAUSE };
    }
}

impl State {
    /// Claims a sleeping thread to be notified. A spurious wake-up leaves one claim too many,
    /// which costs a call for nobody.
    fn call_one(&mut self) -> bool {
        let any = self.sleeping > 0;
        self.sleeping -= usize::from(any);
        any
    }
}
