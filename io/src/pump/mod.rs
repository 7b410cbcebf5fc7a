//! The loop that all real drivers share, one turn at a time.
//!
//! A turn hands in what the sockets have (each within a budget, then it is the next one's turn),
//! finished jobs, and the time if a deadline has come; then it acts on what the machine asks for.
//! Nothing here is a decision: the machine makes those. Only ready sources are touched, so that the
//! cost of a busy stream does not depend on the number of idle ones.
//!
//! What is left to a driver is to wait: until a socket is ready ([`Pump::on_ready`]), a job is done
//! (its executor wakes it), or [`Pump::deadline`] has come.

mod secure;
mod sockets;
mod streams;

use std::collections::VecDeque;
use std::io;
use std::mem;

use bytes::Bytes;
use teem_core::ids::{ListenerId, SocketId, StreamId};
use teem_core::machine::{Application, Input, Machine, Output};
use teem_core::time::{Duration, Instant};

use crate::clock::Clock;
use crate::errors;
use crate::jobs::Executor;
use crate::read::ReadBuffer;
use crate::readiness::{Direction, Gate, Kind, Reactor, Token};
use crate::table::Table;
use crate::tls::TlsConfig;
use sockets::{Listener, Socket};
use streams::{Lingering, Stream};

/// Outputs that one turn acts on; the rest waits for the next.
const OUTPUTS_MAX: usize = 4096;

/// Completions that one turn hands in.
const COMPLETIONS_MAX: usize = 256;

/// When the system is out of something, it is asked again after this long.
const RETRY: Duration = Duration::from_millis(5);

/// What went wrong without being an error of anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns.
    pub turns: u64,
    /// Calls to accept that failed.
    pub accept_errors: u64,
    /// Connections that the machine refused.
    pub refused: u64,
    /// Datagrams that could not be sent.
    pub datagrams_lost: u64,
    /// Calls to receive datagrams that failed.
    pub receive_errors: u64,
    /// Sends and accepts put off because the system was out of something.
    pub retries: u64,
}

/// Drives a machine; see the [module](self).
#[derive(Debug)]
pub struct Pump<M, E, R: Reactor> {
    machine: M,
    executor: E,
    reactor: R,
    clock: Clock,
    streams: Table<StreamId, Stream<R::Source>>,
    listeners: Table<ListenerId, Listener<R::Source>>,
    sockets: Table<SocketId, Socket<R::Source>>,
    /// Sources with something to do, each once.
    ready: VecDeque<Token>,
    lingering: VecDeque<Lingering<R::Source>>,
    retry: Vec<Token>,
    retry_at: Option<Instant>,
    tls: TlsConfig,
    /// When closed streams that have still to send are looked at again.
    flush_at: Option<Instant>,
    jobs_wanted: bool,
    read: ReadBuffer,
    lent: Vec<Bytes>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    stats: Stats,
}

impl<M: Machine, E: Executor, R: Reactor> Pump<M, E, R> {
    /// Drives `machine`, which was made with `clock`'s time or earlier.
    pub fn new(machine: M, mut executor: E, reactor: R, clock: Clock) -> Self {
        executor.set_waker(reactor.waker());
        Self {
            machine,
            executor,
            reactor,
            clock,
            streams: Table::new(),
            listeners: Table::new(),
            sockets: Table::new(),
            ready: VecDeque::new(),
            lingering: VecDeque::new(),
            retry: Vec::new(),
            retry_at: None,
            tls: TlsConfig::default(),
            flush_at: None,
            jobs_wanted: true,
            read: ReadBuffer::new(),
            lent: Vec::new(),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// The machine.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine. Whatever it wants afterwards is found in the next turn.
    pub const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The reactor.
    pub const fn reactor_mut(&mut self) -> &mut R {
        &mut self.reactor
    }

    /// The executor.
    pub const fn executor_mut(&mut self) -> &mut E {
        &mut self.executor
    }

    /// Whom streams with TLS trust from now on, and what listeners with TLS show. At first: whom
    /// this machine trusts, and nothing.
    pub fn set_tls(&mut self, tls: TlsConfig) {
        self.tls = tls;
    }

    /// The time that the machine lives by.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// What went wrong.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Streams, listeners and datagram sockets that are open.
    pub const fn sources(&self) -> usize {
        self.streams.len() + self.listeners.len() + self.sockets.len()
    }

    /// When the next turn is due, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let machine = self.machine.poll_timeout().map(|deadline| deadline.at);
        let lingering = self.lingering.front().map(|lingering| lingering.until);
        [machine, lingering, self.retry_at, self.flush_at].into_iter().flatten().min()
    }

    /// How long that is from now; a little more rather than less. None: nothing is due.
    pub fn wait(&self) -> Option<Duration> {
        self.deadline().map(|at| at.saturating_since(self.clock.now()))
    }

    /// The reactor says that a source is ready. One that is gone is ignored.
    pub fn on_ready(&mut self, token: Token, direction: Direction) {
        let Some((gates, queued)) = self.gates(token) else { return };
        let gate = match direction {
            Direction::Read => gates.read,
            Direction::Write => gates.write,
        };
        gate.set_ready();
        if gate.is_open() && !mem::replace(queued, true) {
            self.ready.push_back(token);
        }
    }

    fn gates(&mut self, token: Token) -> Option<(Gates<'_>, &mut bool)> {
        let (kind, slot) = token.parts();
        Some(match kind {
            Kind::Stream => {
                let (_, stream) = self.streams.at_slot(slot)?;
                let gates = Gates { read: &mut stream.read, write: &mut stream.write };
                (gates, &mut stream.queued)
            }
            Kind::Listener => {
                let (_, listener) = self.listeners.at_slot(slot)?;
                let gates = Gates { read: &mut listener.read, write: &mut listener.write };
                (gates, &mut listener.queued)
            }
            Kind::Socket => {
                let (_, socket) = self.sockets.at_slot(slot)?;
                let gates = Gates { read: &mut socket.read, write: &mut socket.write };
                (gates, &mut socket.queued)
            }
        })
    }

    /// Does what is to be done now. Returns whether there is more, so that the driver should look
    /// for readiness without waiting, and take another turn.
    pub fn turn(&mut self) -> bool {
        self.stats.turns += 1;
        self.serve_ready();
        self.complete_jobs();
        self.keep_time();
        let more = self.act();
        self.hand_out_jobs();
        more || !self.ready.is_empty() || self.executor.has_completion()
    }

    fn serve_ready(&mut self) {
        // Those that get more to do meanwhile come after all that have it now, in the next turn.
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            let (kind, slot) = token.parts();
            let again = match kind {
                Kind::Stream => self.serve_stream(slot),
                Kind::Listener => self.serve_listener(slot),
                Kind::Socket => self.serve_socket(slot),
            };
            if again {
                self.ready.push_back(token);
            }
        }
    }

    fn complete_jobs(&mut self) {
        for _ in 0..COMPLETIONS_MAX {
            let Some((id, result)) = self.executor.try_completion() else { return };
            self.machine.handle_input(self.clock.now(), Input::Job(id, result));
        }
        self.reactor.waker().wake();
    }

    /// Asks the clock, not the timer that woke the driver, whether something is due.
    fn keep_time(&mut self) {
        let now = self.clock.now();
        if let Some(wall) = self.clock.wall_news(now) {
            self.machine.handle_input(now, Input::WallClock(wall));
        }
        if self.machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            self.machine.handle_input(now, Input::Timeout);
        }
        while self.lingering.front().is_some_and(|lingering| lingering.until <= now) {
            self.lingering.pop_front();
        }
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_lingering();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for token in mem::take(&mut self.retry) {
                self.on_ready(token, Direction::Read);
                self.on_ready(token, Direction::Write);
            }
        }
    }

    /// Acts on what the machine asks for. Returns whether it asks for more.
    fn act(&mut self) -> bool {
        for _ in 0..OUTPUTS_MAX {
            let Some(output) = self.machine.poll_output() else { return false };
            match output {
                Output::WantRead(id) => {
                    let stream = self.streams.get_mut(id);
                    want(stream.map(|stream| (&mut stream.read, &mut stream.queued)))
                        .then(|| self.enqueue(Token::new(Kind::Stream, id)));
                }
                Output::WantWrite(id) => {
                    let stream = self.streams.get_mut(id);
                    want(stream.map(|stream| (&mut stream.write, &mut stream.queued)))
                        .then(|| self.enqueue(Token::new(Kind::Stream, id)));
                }
                Output::WantTransmit(id) => {
                    let socket = self.sockets.get_mut(id);
                    want(socket.map(|socket| (&mut socket.write, &mut socket.queued)))
                        .then(|| self.enqueue(Token::new(Kind::Socket, id)));
                }
                Output::WantJob => self.jobs_wanted = true,
                Output::CancelJob(id) => self.executor.cancel(id),
                Output::Connect(connect) => self.connect(&connect),
                Output::Close { stream, how } => self.close(stream, how),
                Output::Listen(listen) => self.listen(&listen),
                Output::Unlisten(id) => drop(self.listeners.remove(id)),
                Output::Bind(bind) => self.bind(&bind),
                Output::Unbind(id) => drop(self.sockets.remove(id)),
                // The contract may grow; a driver that does not know a thing does not do it.
                _ => {}
            }
        }
        true
    }

    fn hand_out_jobs(&mut self) {
        while self.jobs_wanted && self.executor.has_room() {
            match self.machine.poll_job() {
                Some((id, job)) => self.executor.submit(id, job),
                None => self.jobs_wanted = false,
            }
        }
        self.executor.flush();
    }

    fn enqueue(&mut self, token: Option<Token>) {
        self.ready.extend(token);
    }

    fn register(&mut self, socket: socket2::Socket, token: Option<Token>) -> io::Result<R::Source> {
        let token = token.ok_or(io::ErrorKind::OutOfMemory)?;
        self.reactor.register(socket, token)
    }

    /// The system is out of something, and will not tell when it has it again.
    fn retry_later(&mut self, token: Option<Token>) {
        self.stats.retries += 1;
        self.retry.extend(token);
        self.retry_at = self.retry_at.or_else(|| Some(self.clock.now() + RETRY));
    }
}

impl<M: Application, E: Executor, R: Reactor> Pump<M, E, R> {
    /// Does what the embedder asks for.
    pub fn handle_command(&mut self, command: M::Command) {
        self.machine.handle_command(self.clock.now(), command);
    }

    /// The next fact for the embedder.
    pub fn poll_event(&mut self) -> Option<M::Event> {
        self.machine.poll_event()
    }
}

/// Both gates of a source.
struct Gates<'a> {
    read: &'a mut Gate,
    write: &'a mut Gate,
}

/// The machine wants; whether the source is to be queued for it.
fn want(source: Option<(&mut Gate, &mut bool)>) -> bool {
    let Some((gate, queued)) = source else { return false };
    gate.set_wanted();
    gate.is_open() && !mem::replace(queued, true)
}

/// Whether a failed call may work later, without being told when.
fn may_pass(error: &io::Error) -> bool {
    errors::out_of_resources(error)
}
