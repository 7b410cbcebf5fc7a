//! A driver that is a future: what drivers for async runtimes share.
//!
//! Every source has wakers of its own, which put its token into a queue, so that a wake-up touches
//! only sources that are ready and never asks them all.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use teem_core::machine::{Application, Machine};
use teem_core::time::{Duration, Instant};

use crate::clock::Clock;
use crate::jobs::Executor;
use crate::pump::{Pump, Stats};
use crate::readiness::{Direction, Reactor, Token};
use crate::tls::TlsConfig;

/// Turns in one poll; then others on the same thread get theirs.
const TURNS_MAX: usize = 16;

/// Which sources were woken since the driver last looked.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    inner: Mutex<Woken>,
}

#[derive(Debug, Default)]
struct Woken {
    sources: Vec<Arc<SourceWaker>>,
    task: Option<Waker>,
    /// Woken for something other than a source.
    other: bool,
}

impl ReadyQueue {
    /// A waker for one direction of a source.
    pub fn waker(self: &Arc<Self>, token: Token, direction: Direction) -> Waker {
        let queue = Arc::clone(self);
        let queued = AtomicBool::new(false);
        Waker::from(Arc::new(SourceWaker { queue, token, direction, queued }))
    }

    fn lock(&self) -> MutexGuard<'_, Woken> {
        // Nothing panics under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on, wake-ups wake `task`, once.
    fn set_task(&self, task: &Waker) {
        let mut woken = self.lock();
        match &mut woken.task {
            Some(old) => old.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    /// Moves the woken sources to `into`. Returns whether there was any wake-up.
    fn take(&self, into: &mut Vec<Arc<SourceWaker>>) -> bool {
        let mut woken = self.lock();
        mem::swap(&mut woken.sources, into);
        mem::take(&mut woken.other) || !into.is_empty()
    }
}

impl Wake for ReadyQueue {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = self.lock();
        woken.other = true;
        let task = woken.task.take();
        drop(woken);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[derive(Debug)]
struct SourceWaker {
    queue: Arc<ReadyQueue>,
    token: Token,
    direction: Direction,
    queued: AtomicBool,
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut woken = self.queue.lock();
        woken.sources.push(Arc::clone(self));
        let task = woken.task.take();
        drop(woken);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A reactor of an async runtime, with its timer.
pub trait TaskReactor: Reactor {
    /// A reactor that tells of readiness in `queue`: its sources use wakers made by it, and
    /// [`Reactor::waker`] is the queue itself.
    fn new(queue: Arc<ReadyQueue>) -> Self;

    /// Sets the one timer, from now.
    fn set_timer(&mut self, after: Duration);

    /// Ready once the timer has fired. It may be early or late; the driver asks the clock.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Drives a machine as a future: whoever awaits one of its methods runs the machine; between those
/// it stands still.
#[derive(Debug)]
pub struct TaskDriver<M, E, R: Reactor> {
    pump: Pump<M, E, R>,
    queue: Arc<ReadyQueue>,
    woken: Vec<Arc<SourceWaker>>,
    timer: Option<Instant>,
}

impl<M: Machine, E: Executor, R: TaskReactor> TaskDriver<M, E, R> {
    /// Drives the machine that `make` makes at the driver's time.
    pub fn make(make: impl FnOnce(Instant) -> M, executor: E) -> Self {
        let clock = Clock::new();
        let machine = make(clock.now());
        Self::with_clock(machine, executor, clock)
    }

    /// Drives `machine`, which was made at [`Instant::ORIGIN`].
    pub fn new(machine: M, executor: E) -> Self {
        Self::with_clock(machine, executor, Clock::new())
    }

    /// Drives `machine`, which was made with `clock`'s time or earlier.
    pub fn with_clock(machine: M, executor: E, clock: Clock) -> Self {
        let queue = Arc::<ReadyQueue>::default();
        let reactor = R::new(Arc::clone(&queue));
        let pump = Pump::new(machine, executor, reactor, clock);
        Self { pump, queue, woken: Vec::new(), timer: None }
    }

    /// The machine.
    pub const fn machine(&self) -> &M {
        self.pump.machine()
    }

    /// The machine. Whatever it wants afterwards is found when the driver runs.
    pub const fn machine_mut(&mut self) -> &mut M {
        self.pump.machine_mut()
    }

    /// The executor.
    pub const fn executor_mut(&mut self) -> &mut E {
        self.pump.executor_mut()
    }

    /// Whom streams with TLS trust from now on, and what listeners with TLS show. At first: whom
    /// this machine trusts, and nothing.
    pub fn set_tls(&mut self, tls: TlsConfig) {
        self.pump.set_tls(tls);
    }

    /// The time that the machine lives by.
    pub fn now(&self) -> Instant {
        self.pump.now()
    }

    /// What went wrong without being an error of anything.
    pub const fn stats(&self) -> Stats {
        self.pump.stats()
    }

    /// Takes turns until `done` says so or there is nothing to do now.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut done: impl FnMut(&mut M, &mut Context<'_>) -> Option<T>,
    ) -> Poll<T> {
        self.queue.set_task(cx.waker());
        for _ in 0..TURNS_MAX {
            if let Some(result) = done(self.pump.machine_mut(), cx) {
                return Poll::Ready(result);
            }
            self.take_woken();
            if self.pump.turn() {
                continue;
            }
            // A turn may have queued events, and jobs may be done already: look before resting.
            if let Some(result) = done(self.pump.machine_mut(), cx) {
                return Poll::Ready(result);
            }
            if !self.take_woken() && self.rest(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the pump of all sources that were woken. Returns whether anything was.
    fn take_woken(&mut self) -> bool {
        let any = self.queue.take(&mut self.woken);
        for source in self.woken.drain(..) {
            source.queued.store(false, Ordering::Release);
            self.pump.on_ready(source.token, source.direction);
        }
        any
    }

    /// Returns whether to wait; else something is due.
    fn rest(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.pump.deadline() else { return true };
        // A timer that fires early costs a look at the clock, less than setting it each time that
        // a deadline moves back.
        if self.timer.is_none_or(|timer| timer > at) {
            let after = at.saturating_since(self.pump.now());
            if after.is_zero() {
                return false;
            }
            self.pump.reactor_mut().set_timer(after);
            self.timer = Some(at);
        }
        if self.pump.reactor_mut().poll_timer(cx).is_ready() {
            self.timer = None;
            return false;
        }
        true
    }

    /// Runs the machine until `until` is done, and leaves its events where they are. Can be
    /// dropped at any time.
    pub async fn run_until<F: Future>(&mut self, until: F) -> F::Output {
        let mut until = pin!(until);
        poll_fn(|cx| {
            self.poll(cx, |_, cx| match until.as_mut().poll(cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        })
        .await
    }
}

impl<M: Application, E: Executor, R: TaskReactor> TaskDriver<M, E, R> {
    /// Does what the embedder asks for; its outcome is an event.
    pub fn handle_command(&mut self, command: M::Command) {
        self.pump.handle_command(command);
    }

    /// An event that is there already.
    pub fn poll_event(&mut self) -> Option<M::Event> {
        self.pump.poll_event()
    }

    /// Runs the machine until it has an event. Can be dropped at any time: nothing is lost, and the
    /// next call goes on where this one stopped.
    pub async fn next_event(&mut self) -> M::Event {
        poll_fn(|cx| self.poll(cx, |machine, _| machine.poll_event())).await
    }
}

/// `op`, again and again while the readiness that `poll_ready` waits for is there.
///
/// For runtimes whose sources are armed after a call would have blocked.
pub fn attempt<R>(
    mut op: impl FnMut() -> io::Result<R>,
    mut poll_ready: impl FnMut() -> Poll<io::Result<()>>,
) -> io::Result<Option<R>> {
    loop {
        if let Some(result) = crate::readiness::nonblocking(&mut op)? {
            return Ok(Some(result));
        }
        match poll_ready() {
            Poll::Pending => return Ok(None),
            Poll::Ready(ready) => ready?,
        }
    }
}
