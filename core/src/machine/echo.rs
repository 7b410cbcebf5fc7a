//! The smallest machine that uses all of the contract: streams, datagrams, jobs, timers, commands.
//!
//! It returns what it receives. A stream's bytes go back as they come, with a bounded backlog (so
//! its credit runs out when the other side does not read); when the other side has sent
//! everything, the echo hashes it in a job, and closes. A dialled stream sends its message, waits
//! for the echo, and closes. A datagram goes back to its sender. A stream on which nothing happens
//! for [`IDLE_TIMEOUT`], or what it was [made with](Echo::with_idle_timeout), is closed.
//!
//! Drivers are written and tested against it; it is also the example of how a machine is built.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Application, Bind, Clock, Connect, Deadline, HashSource, Incoming, Input, Job, JobOutput, Jobs,
    Listen, ListenerInput, Machine, Outbox, Output, RECV_CREDIT_MIN, SendQueue, Shutdown,
    SocketInput, StreamEdges, StreamInput, Transmit, TransmitLimit,
};
use crate::chunks::Chunks;
use crate::hash::{Digest, HashAlgorithm, HashState};
use crate::ids::{CommandToken, JobId, ListenerId, Slab, SocketId, StreamId, TimerId, TorrentId};
use crate::time::{Duration, Instant};
use crate::timers::Timers;

/// A stream on which nothing happens for this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of echo that wait to be sent before a stream's credit runs out.
pub const BACKLOG_MAX: usize = 256 * 1024;

/// Datagrams that wait to be sent; more are dropped and counted, as a network would.
pub const DATAGRAMS_MAX: usize = 64;

/// Streams at a time; more are refused.
pub const STREAMS_MAX: usize = 1024;

/// What an [`Echo`] can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Listen for streams: [`Event::Listening`] or [`Event::Failed`].
    Listen(CommandToken, SocketAddr),
    /// Bind a datagram socket: [`Event::Bound`] or [`Event::Failed`].
    Bind(CommandToken, SocketAddr),
    /// Connect, send the message, wait for its echo: [`Event::Echoed`] or [`Event::Failed`].
    Dial(CommandToken, SocketAddr, Bytes),
    /// Connect and say nothing until the other side closes: [`Event::Failed`].
    Hold(CommandToken, SocketAddr),
    /// Send a datagram from the first bound socket: [`Event::Datagram`] tells of the echo.
    Say(CommandToken, SocketAddr, Bytes),
}

/// What an [`Echo`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It listens there.
    Listening(CommandToken, SocketAddr),
    /// A socket is bound there.
    Bound(CommandToken, SocketAddr),
    /// A message came back whole.
    Echoed(CommandToken, Bytes),
    /// A command came to nothing.
    Failed(CommandToken),
    /// A stranger's stream ended: this is the hash of all it sent, and how much that was.
    Served(Digest, u64),
    /// A stranger's stream was closed because nothing happened on it.
    Idle,
    /// A datagram arrived.
    Datagram(Bytes),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Echo {
    clock: Clock,
    idle_timeout: Duration,
    out: Outbox,
    jobs: Jobs<u64>,
    timers: Timers<StreamId>,
    streams: Slab<StreamId, Stream>,
    listeners: Slab<ListenerId, CommandToken>,
    sockets: Slab<SocketId, Socket>,
    events: VecDeque<Event>,
    dropped: u64,
}

#[derive(Debug)]
struct Stream {
    role: Role,
    send: SendQueue,
    idle: TimerId,
    edges: StreamEdges,
    read_closed: bool,
}

#[derive(Debug)]
enum Role {
    Dialled { token: CommandToken, message: Bytes, echo: Vec<u8> },
    Held { token: CommandToken },
    Served { hash: Chunks },
}

#[derive(Debug)]
struct Socket {
    token: CommandToken,
    bound: bool,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    want_transmit: bool,
}

impl Echo {
    /// An echo that does nothing yet.
    pub fn new(now: Instant) -> Self {
        Self::with_idle_timeout(now, IDLE_TIMEOUT)
    }

    /// An echo that closes streams on which nothing happens for `idle_timeout`.
    pub fn with_idle_timeout(now: Instant, idle_timeout: Duration) -> Self {
        Self {
            clock: Clock::new(now),
            idle_timeout,
            out: Outbox::default(),
            jobs: Jobs::new(),
            timers: Timers::new(),
            streams: Slab::new(),
            listeners: Slab::new(),
            sockets: Slab::new(),
            events: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Datagrams dropped because too many waited.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn open_stream(&mut self, role: Role) -> StreamId {
        let now = self.clock.now();
        let stream = self.streams.next_key();
        let idle = self.timers.insert(stream);
        self.timers.set(idle, now, Some(now + self.idle_timeout));
        self.streams.insert(Stream {
            role,
            send: SendQueue::new(),
            idle,
            edges: StreamEdges::new(),
            read_closed: false,
        })
    }

    fn dial(&mut self, role: Role, to: SocketAddr) {
        let stream = self.open_stream(role);
        let connect = Connect { stream, to, from: None, tls: None };
        self.out.push(Output::Connect(connect.into()));
    }

    fn drop_stream(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(id)?;
        self.timers.remove(stream.idle);
        Some(stream)
    }

    fn close(&mut self, id: StreamId, how: Shutdown) -> Option<Stream> {
        let stream = self.drop_stream(id)?;
        self.out.push(Output::Close { stream: id, how });
        Some(stream)
    }

    fn queue(&mut self, id: StreamId, bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.send.push(bytes) {
            stream.edges.want_write(id, &mut self.out);
        }
    }

    fn on_stream(&mut self, id: StreamId, input: StreamInput) {
        let now = self.clock.now();
        let Some(stream) = self.streams.get_mut(id) else { return };
        self.timers.set(stream.idle, now, Some(now + self.idle_timeout));
        match input {
            StreamInput::Connected { .. } => {
                let Role::Dialled { message, .. } = &stream.role else { return };
                let message = message.clone();
                if message.is_empty() {
                    // It is whole already.
                    self.on_received(id, message);
                } else {
                    self.queue(id, message);
                }
            }
            StreamInput::Received(bytes) => self.on_received(id, bytes),
            StreamInput::Sent(count) => self.on_sent(id, count),
            StreamInput::ReadClosed => {
                stream.read_closed = true;
                self.finish_served(id);
                self.finish_dialled(id);
            }
            StreamInput::ConnectFailed(_) | StreamInput::Closed(_) => self.on_closed(id),
        }
    }

    fn on_received(&mut self, id: StreamId, bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        match &mut stream.role {
            Role::Served { hash } => {
                hash.push(bytes.clone());
                self.queue(id, bytes);
            }
            Role::Dialled { token, message, echo } => {
                echo.extend_from_slice(&bytes);
                if echo.len() >= message.len() {
                    let event = Event::Echoed(*token, Bytes::from(core::mem::take(echo)));
                    self.events.push_back(event);
                    self.close(id, Shutdown::Graceful);
                }
            }
            Role::Held { .. } => {}
        }
    }

    fn on_sent(&mut self, id: StreamId, count: usize) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let had_credit = credit(stream) > 0;
        stream.send.settle(count);
        if !had_credit && credit(stream) > 0 {
            stream.edges.want_read(id, &mut self.out);
        }
        self.finish_served(id);
    }

    /// Closes a served stream once everything has come and gone.
    fn finish_served(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else { return };
        let done = stream.read_closed && stream.send.is_empty();
        if !done || !matches!(stream.role, Role::Served { .. }) {
            return;
        }
        if let Some(stream) = self.close(id, Shutdown::Graceful) {
            self.hash_served(stream);
        }
    }

    /// Closes a dialled stream on which nothing more can come back.
    fn finish_dialled(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else { return };
        if let Role::Dialled { token, .. } | Role::Held { token } = stream.role {
            self.events.push_back(Event::Failed(token));
            self.close(id, Shutdown::Graceful);
        }
    }

    fn hash_served(&mut self, stream: Stream) {
        let Role::Served { hash } = stream.role else { return };
        let length = hash.len() as u64;
        let job = Job::Hash {
            torrent: <TorrentId as crate::ids::Key>::from_parts(0, 1),
            state: HashState::new(HashAlgorithm::Sha1).into(),
            source: HashSource::Memory(hash),
            last: true,
        };
        self.jobs.submit(length, job, &mut self.out);
    }

    /// The driver says that a stream is gone.
    fn on_closed(&mut self, id: StreamId) {
        let Some(stream) = self.drop_stream(id) else { return };
        match stream.role {
            Role::Dialled { token, .. } | Role::Held { token } => {
                self.events.push_back(Event::Failed(token));
            }
            // The other side closed at once after it had everything: no echo is owed any more.
            Role::Served { .. } => self.hash_served(stream),
        }
    }

    fn on_idle(&mut self, id: StreamId) {
        let Some(stream) = self.close(id, Shutdown::Abort) else { return };
        self.events.push_back(match stream.role {
            Role::Dialled { token, .. } | Role::Held { token } => Event::Failed(token),
            Role::Served { .. } => Event::Idle,
        });
    }

    fn send_datagram(&mut self, on: SocketId, to: SocketAddr, bytes: Bytes) {
        let Some(socket) = self.sockets.get_mut(on) else { return };
        if socket.waiting.len() >= DATAGRAMS_MAX {
            self.dropped += 1;
            return;
        }
        socket.waiting.push_back((to, bytes));
        if socket.bound && !socket.want_transmit {
            socket.want_transmit = true;
            self.out.push(Output::WantTransmit(on));
        }
    }

    fn on_socket(&mut self, id: SocketId, input: SocketInput) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match input {
            SocketInput::Bound(address) => {
                socket.bound = true;
                self.events.push_back(Event::Bound(socket.token, address));
                if !socket.waiting.is_empty() && !socket.want_transmit {
                    socket.want_transmit = true;
                    self.out.push(Output::WantTransmit(id));
                }
            }
            SocketInput::Failed(_) => {
                self.events.push_back(Event::Failed(socket.token));
                self.sockets.remove(id);
            }
            SocketInput::AddressChanged(_)
            | SocketInput::Unreachable(_)
            | SocketInput::TooBig { .. } => {}
        }
    }

    fn on_listener(&mut self, id: ListenerId, input: ListenerInput) {
        let Some(&token) = self.listeners.get(id) else { return };
        self.events.push_back(match input {
            ListenerInput::Bound(address) => Event::Listening(token, address),
            ListenerInput::Failed(_) => {
                self.listeners.remove(id);
                Event::Failed(token)
            }
        });
    }
}

/// Room for a whole backlog's worth of bytes, or none below the least credit.
fn credit(stream: &Stream) -> usize {
    let room = match stream.role {
        Role::Dialled { .. } | Role::Held { .. } => BACKLOG_MAX,
        Role::Served { .. } => BACKLOG_MAX.saturating_sub(stream.send.len()),
    };
    if room < RECV_CREDIT_MIN { 0 } else { room }
}

impl Machine for Echo {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let now = self.clock.advance(now);
        match input {
            Input::Timeout => {
                while let Some(stream) = self.timers.pop(now) {
                    self.on_idle(stream);
                }
            }
            Input::Datagram(datagram) => {
                for data in datagram.split() {
                    let bytes = Bytes::copy_from_slice(data);
                    self.events.push_back(Event::Datagram(bytes.clone()));
                    // An echo of an echo would never end: a leading zero byte marks the answer.
                    if data.first().is_some_and(|first| *first != 0) {
                        let mut answer = Vec::with_capacity(data.len() + 1);
                        answer.push(0);
                        answer.extend_from_slice(data);
                        self.send_datagram(datagram.socket, datagram.from, Bytes::from(answer));
                    }
                }
            }
            Input::Stream(id, input) => self.on_stream(id, input),
            Input::Job(id, result) => {
                let Some(length) = self.jobs.complete(id) else { return };
                if let Ok(JobOutput::Digest(digest)) = result {
                    self.events.push_back(Event::Served(digest, length));
                }
            }
            Input::Listener(id, input) => self.on_listener(id, input),
            Input::Socket(id, input) => self.on_socket(id, input),
            Input::WallClock(_) => {}
        }
    }

    fn accept(&mut self, now: Instant, _: Incoming) -> Option<StreamId> {
        self.clock.advance(now);
        let room = self.streams.len() < STREAMS_MAX;
        room.then(|| self.open_stream(Role::Served { hash: Chunks::new() }))
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.out.pop()?;
        match output {
            Output::WantRead(id) | Output::WantWrite(id) => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.edges.taken(&output);
                }
            }
            Output::WantTransmit(id) => {
                if let Some(socket) = self.sockets.get_mut(id) {
                    socket.want_transmit = false;
                }
            }
            _ => {}
        }
        Some(output)
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.jobs.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.next().map(|(at, _)| Deadline { at, reason: "stream idle" })
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.clock.advance(now);
        let socket = self.sockets.get_mut(on)?;
        if !socket.bound || socket.waiting.front()?.1.len() > limit.bytes {
            return None;
        }
        let (to, bytes) = socket.waiting.pop_front()?;
        buf.extend_from_slice(&bytes);
        Some(Transmit { to, from: None, ecn: None, len: bytes.len(), segment: None })
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.clock.advance(now);
        self.streams.get_mut(id).map_or(0, |stream| stream.send.lend(max, out))
    }

    fn recv_credit(&self, id: StreamId) -> usize {
        self.streams.get(id).map_or(0, credit)
    }
}

impl Application for Echo {
    type Command = Command;
    type Event = Event;

    fn handle_command(&mut self, now: Instant, command: Command) {
        self.clock.advance(now);
        match command {
            Command::Listen(token, address) => {
                let listener = self.listeners.insert(token);
                self.out.push(Output::Listen(Listen { listener, address, tls: false }.into()));
            }
            Command::Bind(token, address) => {
                let socket = self.sockets.insert(Socket {
                    token,
                    bound: false,
                    waiting: VecDeque::new(),
                    want_transmit: false,
                });
                let bind = Bind { socket, address, reuse: false, multicast: None };
                self.out.push(Output::Bind(bind.into()));
            }
            Command::Dial(token, to, message) => {
                let echo = Vec::new();
                self.dial(Role::Dialled { token, message, echo }, to);
            }
            Command::Hold(token, to) => self.dial(Role::Held { token }, to),
            Command::Say(token, to, bytes) => {
                let first = self.sockets.keys().next();
                match first {
                    Some(socket) => self.send_datagram(socket, to, bytes),
                    None => self.events.push_back(Event::Failed(token)),
                }
            }
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::StreamError;
    use super::*;
    use std::string::ToString;

    fn address() -> SocketAddr {
        "192.0.2.1:7".parse().expect("an address")
    }

    fn dialled(echo: &mut Echo, message: &'static [u8]) -> StreamId {
        let token = CommandToken(1);
        let command = Command::Dial(token, address(), Bytes::from_static(message));
        echo.handle_command(Instant::ORIGIN, command);
        let Some(Output::Connect(connect)) = echo.poll_output() else { panic!("a connect") };
        connect.stream
    }

    #[test]
    fn a_dialled_stream_sends_only_once_it_is_connected() {
        let now = Instant::ORIGIN;
        let mut echo = Echo::new(now);
        let stream = dialled(&mut echo, b"hello");
        let mut out = Vec::new();
        assert_eq!(echo.poll_send(now, stream, 100, &mut out), 0);
        let connected = StreamInput::Connected { local: address() };
        echo.handle_input(now, Input::Stream(stream, connected));
        assert_eq!(echo.poll_output(), Some(Output::WantWrite(stream)));
        assert_eq!(echo.poll_send(now, stream, 100, &mut out), 5);
    }

    #[test]
    fn a_served_stream_runs_out_of_credit_when_nobody_reads_the_echo() {
        let now = Instant::ORIGIN;
        let mut echo = Echo::new(now);
        let on = echo.listeners.insert(CommandToken(0));
        let incoming = Incoming { on, from: address(), local: address() };
        let stream = echo.accept(now, incoming).expect("room");
        let bytes = Bytes::from(alloc::vec![1; BACKLOG_MAX]);
        echo.handle_input(now, Input::Stream(stream, StreamInput::Received(bytes)));
        assert_eq!(echo.recv_credit(stream), 0);
        let mut out = Vec::new();
        assert_eq!(echo.poll_send(now, stream, 5_000, &mut out), 5_000);
        echo.handle_input(now, Input::Stream(stream, StreamInput::Sent(5_000)));
        assert_eq!(echo.poll_output(), Some(Output::WantWrite(stream)));
        assert_eq!(echo.poll_output(), Some(Output::WantRead(stream)));
        assert_eq!(echo.recv_credit(stream), 5_000);
    }

    #[test]
    fn an_idle_stream_is_closed_when_its_deadline_comes() {
        let mut echo = Echo::new(Instant::ORIGIN);
        let stream = dialled(&mut echo, b"hello");
        let deadline = echo.poll_timeout().expect("armed");
        assert_eq!(deadline.at, Instant::ORIGIN + IDLE_TIMEOUT);
        echo.handle_input(deadline.at, Input::Timeout);
        let close = Output::Close { stream, how: Shutdown::Abort };
        assert_eq!(echo.poll_output(), Some(close));
        assert_eq!(echo.poll_event(), Some(Event::Failed(CommandToken(1))));
        assert_eq!(echo.poll_timeout(), None);
    }

    #[test]
    fn an_empty_message_is_whole_as_soon_as_the_stream_is_up() {
        let now = Instant::ORIGIN;
        let mut echo = Echo::new(now);
        let stream = dialled(&mut echo, b"");
        let connected = StreamInput::Connected { local: address() };
        echo.handle_input(now, Input::Stream(stream, connected));
        let close = Output::Close { stream, how: Shutdown::Graceful };
        assert_eq!(echo.poll_output(), Some(close));
        assert_eq!(echo.poll_event(), Some(Event::Echoed(CommandToken(1), Bytes::new())));
    }

    #[test]
    fn an_echo_that_ends_early_is_a_failure() {
        let now = Instant::ORIGIN;
        let mut echo = Echo::new(now);
        let stream = dialled(&mut echo, b"hello");
        let connected = StreamInput::Connected { local: address() };
        echo.handle_input(now, Input::Stream(stream, connected));
        echo.handle_input(now, Input::Stream(stream, StreamInput::ReadClosed));
        assert_eq!(echo.poll_event(), Some(Event::Failed(CommandToken(1))));
    }

    #[test]
    fn a_stale_stream_is_ignored() {
        let now = Instant::ORIGIN;
        let mut echo = Echo::new(now);
        let stream = dialled(&mut echo, b"hello");
        let failed = StreamInput::ConnectFailed(StreamError::Refused);
        echo.handle_input(now, Input::Stream(stream, failed.clone()));
        echo.handle_input(now, Input::Stream(stream, failed));
        assert_eq!(echo.poll_event(), Some(Event::Failed(CommandToken(1))));
        assert_eq!(echo.poll_event(), None);
        assert_eq!(echo.recv_credit(stream), 0);
        assert_eq!(StreamError::Refused.to_string(), "connection refused");
    }
}
