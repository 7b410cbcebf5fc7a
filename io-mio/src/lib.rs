//! Drives a machine on mio: a plain readiness loop, one thread, no async.
//!
//! ```no_run
//! # use teem_core::machine::echo::{Command, Echo};
//! # use teem_core::ids::CommandToken;
//! # fn main() -> std::io::Result<()> {
//! let mut driver = teem_io_mio::Driver::make(Echo::new, teem_io::jobs::Inline::new())?;
//! driver.handle_command(Command::Listen(CommandToken(1), ([127, 0, 0, 1], 7).into()));
//! loop {
//!     if let Some(event) = driver.next_event(None)? {
//!         println!("{event:?}");
//!     }
//! }
//! # }
//! ```
//!
//! What it does is the [pump](teem_io::pump)'s; this crate only waits, and to wait for other things
//! as well, [`Driver::waker`] ends a wait from anywhere.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::{Wake, Waker};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};
use socket2::Socket;
use teem_core::machine::{Application, Machine};
use teem_core::time::{Duration, Instant};
use teem_io::clock::Clock;
use teem_io::jobs::Executor;
use teem_io::pump::{Pump, Stats};
use teem_io::readiness::{Direction, Reactor, Token, nonblocking};
use teem_io::tls::TlsConfig;

/// Events that one wait brings.
const EVENTS_MAX: usize = 1024;

/// Turns in one call, if the sockets never run dry.
const TURNS_MAX: usize = 16;

/// The waker's token; sources have tokens below 2^31.
const WAKER: mio::Token = mio::Token(usize::MAX >> 1);

/// Drives a machine, whenever one of its methods that wait is called; between those it stands
/// still.
#[derive(Debug)]
pub struct Driver<M, E> {
    pump: Pump<M, E, Mio>,
    poll: Poll,
    events: Events,
}

impl<M: Machine, E: Executor> Driver<M, E> {
    /// Drives the machine that `make` makes at the driver's time.
    pub fn make(make: impl FnOnce(Instant) -> M, executor: E) -> io::Result<Self> {
        let clock = Clock::new();
        let machine = make(clock.now());
        Self::with_clock(machine, executor, clock)
    }

    /// Drives `machine`, which was made at [`Instant::ORIGIN`].
    pub fn new(machine: M, executor: E) -> io::Result<Self> {
        Self::with_clock(machine, executor, Clock::new())
    }

    /// Drives `machine`, which was made with `clock`'s time or earlier.
    pub fn with_clock(machine: M, executor: E, clock: Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = Arc::new(poll.registry().try_clone()?);
        let waker = Arc::new(MioWaker(mio::Waker::new(&registry, WAKER)?)).into();
        let pump = Pump::new(machine, executor, Mio { registry, waker }, clock);
        Ok(Self { pump, poll, events: Events::with_capacity(EVENTS_MAX) })
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

    /// Ends a wait, from any thread.
    pub fn waker(&mut self) -> Waker {
        self.pump.reactor_mut().waker()
    }

    /// Runs the machine: does what is to be done now, waits for more, at most `timeout` (none:
    /// as long as it takes), and does that. Returns early if there is much to do.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let more = self.turns();
        let wait = if more { Some(Duration::ZERO) } else { least(timeout, self.pump.wait()) };
        self.wait(wait)?;
        self.turns();
        Ok(())
    }

    /// Returns whether there is more to do.
    fn turns(&mut self) -> bool {
        (0..TURNS_MAX).all(|_| self.pump.turn())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            let number = event.token().0;
            let Ok(number) = u32::try_from(number) else { continue };
            let token = Token::from_number(number);
            if is_readable(event) {
                self.pump.on_ready(token, Direction::Read);
            }
            if is_writable(event) {
                self.pump.on_ready(token, Direction::Write);
            }
        }
        Ok(())
    }
}

impl<M: Application, E: Executor> Driver<M, E> {
    /// Does what the embedder asks for; its outcome is an event.
    pub fn handle_command(&mut self, command: M::Command) {
        self.pump.handle_command(command);
    }

    /// An event that is there already.
    pub fn poll_event(&mut self) -> Option<M::Event> {
        self.pump.poll_event()
    }

    /// Runs the machine until it has an event, at most for `timeout` (none: as long as it takes),
    /// or until somebody [wakes](Self::waker) it.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> io::Result<Option<M::Event>> {
        let until = timeout.map(|timeout| self.now() + timeout);
        loop {
            if let Some(event) = self.poll_event() {
                return Ok(Some(event));
            }
            let more = self.turns();
            if let Some(event) = self.poll_event() {
                return Ok(Some(event));
            }
            let left = until.map(|until| until.saturating_since(self.now()));
            if left.is_some_and(|left| left.is_zero()) && !more {
                return Ok(None);
            }
            let wait = if more { Some(Duration::ZERO) } else { least(left, self.pump.wait()) };
            self.wait(wait)?;
        }
    }
}

fn least(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    [a, b].into_iter().flatten().min()
}

/// An error is told by the next call; so is the end.
fn is_readable(event: &Event) -> bool {
    event.is_readable() || event.is_read_closed() || event.is_error()
}

fn is_writable(event: &Event) -> bool {
    event.is_writable() || event.is_write_closed() || event.is_error()
}

struct MioWaker(mio::Waker);

impl Wake for MioWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only when the poll is gone, and then nobody waits.
        let _ = self.0.wake();
    }
}

/// The reactor: edge-triggered, all sources registered for both directions all the time.
#[derive(Debug)]
pub struct Mio {
    registry: Arc<Registry>,
    waker: Waker,
}

impl Reactor for Mio {
    type Source = Source;

    fn register(&mut self, socket: Socket, token: Token) -> io::Result<Source> {
        let fd = socket.as_raw_fd();
        let number = mio::Token(token.to_number() as usize);
        self.registry.register(
            &mut SourceFd(&fd),
            number,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok(Source { socket, registry: Arc::clone(&self.registry) })
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// A socket that mio watches.
#[derive(Debug)]
pub struct Source {
    socket: Socket,
    registry: Arc<Registry>,
}

impl Drop for Source {
    fn drop(&mut self) {
        // Closing the socket does the same where this fails.
        let _ = self.registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()));
    }
}

impl teem_io::readiness::Source for Source {
    fn attempt<R>(
        &mut self,
        _: Direction,
        mut op: impl FnMut(&Socket) -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        nonblocking(|| op(&self.socket))
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }
}
