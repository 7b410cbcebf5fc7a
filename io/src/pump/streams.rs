//! Streams: connecting, reading, writing, closing.

use teem_core::ids::StreamId;
use teem_core::machine::{Connect, Input, Machine, Shutdown, StreamError, StreamInput};
use teem_core::time::{Duration, Instant};

use super::Pump;
use crate::errors::stream_error;
use crate::jobs::Executor;
use crate::net;
use crate::readiness::{Direction, Gate, Kind, Reactor, Source, Token};

/// Bytes that a stream may receive in one turn, before it is the next one's turn.
const READ_BUDGET: usize = 512 * 1024;

/// Bytes that a stream may send in one turn.
const WRITE_BUDGET: usize = 1024 * 1024;

/// Bytes that are borrowed from the machine at a time.
const LOAN_MAX: usize = 256 * 1024;

/// A stream that was closed while the other side may still send is kept open this long, so that
/// what was sent arrives; see [`net::finish`].
const LINGER: Duration = Duration::from_secs(2);

/// Streams that are kept open so; the oldest give way.
const LINGERING_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Stream<S> {
    source: S,
    connecting: bool,
    /// The other side sends no more, and was told so.
    read_closed: bool,
    pub(super) read: Gate,
    pub(super) write: Gate,
    /// It is in the ready queue.
    pub(super) queued: bool,
}

impl<S> Stream<S> {
    const fn new(source: S, connecting: bool) -> Self {
        let read = if connecting { Gate::SHUT } else { Gate::OPEN };
        Self { source, connecting, read_closed: false, read, write: Gate::OPEN, queued: true }
    }
}

#[derive(Debug)]
pub(super) struct Lingering<S> {
    pub(super) until: Instant,
    _source: S,
}

impl<M: Machine, E: Executor, R: Reactor> Pump<M, E, R> {
    pub(super) fn connect(&mut self, connect: &Connect) {
        let id = connect.stream;
        if connect.tls.is_some() {
            self.tell(id, StreamInput::ConnectFailed(StreamError::Tls));
            return;
        }
        let token = Token::new(Kind::Stream, id);
        match net::connect(connect).and_then(|socket| self.register(socket, token)) {
            Ok(source) => {
                self.streams.insert(id, Stream::new(source, true));
                self.enqueue(token);
            }
            Err(error) => self.tell(id, StreamInput::ConnectFailed(stream_error(&error))),
        }
    }

    /// Takes in a stream that the machine granted.
    pub(super) fn adopt(&mut self, id: StreamId, source: R::Source) {
        self.streams.insert(id, Stream::new(source, false));
        self.enqueue(Token::new(Kind::Stream, id));
    }

    pub(super) fn close(&mut self, id: StreamId, how: Shutdown) {
        let Some(stream) = self.streams.remove(id) else { return };
        let socket = stream.source.socket();
        if how == Shutdown::Abort || stream.connecting {
            net::abort(socket);
        } else if !net::finish(socket) && !stream.read_closed {
            if self.lingering.len() >= LINGERING_MAX {
                self.lingering.pop_front();
            }
            let until = self.clock.now() + LINGER;
            self.lingering.push_back(Lingering { until, _source: stream.source });
        }
    }

    /// Serves the stream in that slot within its budget. Returns whether it has more to do.
    pub(super) fn serve_stream(&mut self, slot: u32) -> bool {
        let Some((id, stream)) = self.streams.at_slot(slot) else { return false };
        stream.queued = false;
        if stream.connecting && !self.finish_connecting(id) {
            return false;
        }
        if !self.read_stream(id) || !self.write_stream(id) {
            return false;
        }
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.queued = stream.read.is_open() || stream.write.is_open();
        stream.queued
    }

    /// Returns whether the stream is up.
    fn finish_connecting(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        match stream.source.attempt(Direction::Write, net::connected) {
            Ok(None) => {
                stream.write.set_blocked();
                false
            }
            Ok(Some(local)) => {
                stream.connecting = false;
                stream.read = Gate::OPEN;
                self.tell(id, StreamInput::Connected { local });
                true
            }
            Err(error) => {
                self.streams.remove(id);
                self.tell(id, StreamInput::ConnectFailed(stream_error(&error)));
                false
            }
        }
    }

    /// Returns whether the stream is still there.
    fn read_stream(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let now = self.clock.now();
        let mut budget = READ_BUDGET;
        while stream.read.is_open() && budget > 0 && !stream.read_closed {
            let credit = self.machine.recv_credit(id);
            if credit == 0 {
                stream.read.set_sated();
                break;
            }
            let max = credit.min(budget);
            let read = &mut self.read;
            let input = match stream.source.attempt(Direction::Read, |it| read.read(it, max)) {
                Ok(None) => {
                    stream.read.set_blocked();
                    break;
                }
                Ok(Some(bytes)) if bytes.is_empty() => {
                    stream.read_closed = true;
                    stream.read = Gate::SHUT;
                    StreamInput::ReadClosed
                }
                Ok(Some(bytes)) => {
                    budget -= bytes.len();
                    StreamInput::Received(bytes)
                }
                Err(error) => {
                    self.streams.remove(id);
                    self.tell(id, StreamInput::Closed(stream_error(&error)));
                    return false;
                }
            };
            self.machine.handle_input(now, Input::Stream(id, input));
        }
        if stream.read_closed {
            // Whatever the machine wants: there is nothing to come.
            stream.read = Gate::SHUT;
        }
        true
    }

    /// Returns whether the stream is still there.
    fn write_stream(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let now = self.clock.now();
        let mut budget = WRITE_BUDGET;
        while stream.write.is_open() && budget > 0 {
            self.lent.clear();
            let lent = &mut self.lent;
            if self.machine.poll_send(now, id, budget.min(LOAN_MAX), lent) == 0 {
                stream.write.set_sated();
                break;
            }
            let written = stream.source.attempt(Direction::Write, |it| net::write(it, lent));
            // Nobody else holds the handles while the machine settles the loan.
            lent.clear();
            let sent = match written {
                Ok(Some(sent)) => sent,
                Ok(None) => {
                    stream.write.set_blocked();
                    0
                }
                Err(error) => {
                    self.streams.remove(id);
                    self.tell(id, StreamInput::Sent(0));
                    self.tell(id, StreamInput::Closed(stream_error(&error)));
                    return false;
                }
            };
            budget -= sent.min(budget);
            self.machine.handle_input(now, Input::Stream(id, StreamInput::Sent(sent)));
        }
        true
    }

    fn tell(&mut self, id: StreamId, input: StreamInput) {
        self.machine.handle_input(self.clock.now(), Input::Stream(id, input));
    }
}
