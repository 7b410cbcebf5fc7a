//! Streams: connecting, reading, writing, closing.

use std::net::SocketAddr;

use teem_core::ids::StreamId;
use teem_core::machine::{Connect, Input, Machine, Shutdown, StreamInput};
use teem_core::time::{Duration, Instant};

use super::secure::{Shaken, flush};
use super::{Pump, RETRY};
use crate::errors::stream_error;
use crate::jobs::Executor;
use crate::net;
use crate::readiness::{Direction, Gate, Kind, Reactor, Source, Token};
use crate::tls::Session;

/// Bytes that a stream may receive in one turn, before it is the next one's turn.
pub(super) const READ_BUDGET: usize = 512 * 1024;

/// Bytes that a stream may send in one turn.
pub(super) const WRITE_BUDGET: usize = 1024 * 1024;

/// Bytes that are borrowed from the machine at a time.
const LOAN_MAX: usize = 256 * 1024;

/// A stream that was closed while the other side may still send is kept open this long, so that
/// what was sent arrives; see [`net::finish`].
const LINGER: Duration = Duration::from_secs(2);

/// Streams that are kept open so; the oldest give way.
const LINGERING_MAX: usize = 64;

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The system connects it.
    Connecting,
    /// It is up, and its TLS is not; with our address, if the machine asked for the stream and
    /// waits to be told.
    Handshaking(Option<SocketAddr>),
    /// The machine may use it.
    Open,
}

#[derive(Debug)]
pub(super) struct Stream<S> {
    pub(super) source: S,
    pub(super) phase: Phase,
    pub(super) tls: Option<Box<Session>>,
    /// The other side sends no more, and was told so.
    pub(super) read_closed: bool,
    pub(super) read: Gate,
    pub(super) write: Gate,
    /// It is in the ready queue.
    pub(super) queued: bool,
}

impl<S> Stream<S> {
    const fn new(source: S, phase: Phase, tls: Option<Box<Session>>) -> Self {
        let read = if matches!(phase, Phase::Connecting) { Gate::SHUT } else { Gate::OPEN };
        let (read_closed, write, queued) = (false, Gate::OPEN, true);
        Self { source, phase, tls, read_closed, read, write, queued }
    }
}

#[derive(Debug)]
pub(super) struct Lingering<S> {
    pub(super) until: Instant,
    source: S,
    /// It has still to be sent.
    tls: Option<Box<Session>>,
}

impl<M: Machine, E: Executor, R: Reactor> Pump<M, E, R> {
    pub(super) fn connect(&mut self, connect: &Connect) {
        let id = connect.stream;
        let tls = match connect.tls.as_deref().map(|name| self.tls.connect(name)).transpose() {
            Ok(tls) => tls.map(Box::new),
            Err(why) => {
                self.tell(id, StreamInput::ConnectFailed(why.into()));
                return;
            }
        };
        let token = Token::new(Kind::Stream, id);
        match net::connect(connect).and_then(|socket| self.register(socket, token)) {
            Ok(source) => {
                self.streams.insert(id, Stream::new(source, Phase::Connecting, tls));
                self.enqueue(token);
            }
            Err(error) => self.tell(id, StreamInput::ConnectFailed(stream_error(&error))),
        }
    }

    /// Takes in a stream that the machine granted.
    pub(super) fn adopt(&mut self, id: StreamId, source: R::Source, tls: Option<Box<Session>>) {
        let phase = if tls.is_some() { Phase::Handshaking(None) } else { Phase::Open };
        self.streams.insert(id, Stream::new(source, phase, tls));
        self.enqueue(Token::new(Kind::Stream, id));
    }

    pub(super) fn close(&mut self, id: StreamId, how: Shutdown) {
        if let Some(stream) = self.streams.get_mut(id)
            && (how == Shutdown::Abort || stream.phase != Phase::Open)
        {
            net::abort(stream.source.socket());
            self.streams.remove(id);
        } else {
            self.let_go(id);
        }
    }

    /// Closes a stream so that what was sent arrives.
    pub(super) fn let_go(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.remove(id) else { return };
        if let Some(tls) = &mut stream.tls {
            tls.finish();
            if matches!(flush(&mut stream.source, &mut stream.write, tls), Ok(false)) {
                // Nobody tells when it can be, as its name may be another stream's by then.
                self.flush_at = self.flush_at.or_else(|| Some(self.clock.now() + RETRY));
                self.linger(stream.source, stream.tls);
                return;
            }
        }
        if !net::finish(stream.source.socket()) && !stream.read_closed {
            self.linger(stream.source, None);
        }
    }

    fn linger(&mut self, source: R::Source, tls: Option<Box<Session>>) {
        if self.lingering.len() >= LINGERING_MAX {
            self.lingering.pop_front();
        }
        let until = self.clock.now() + LINGER;
        self.lingering.push_back(Lingering { until, source, tls });
    }

    /// Sends what closed streams have still to send.
    pub(super) fn flush_lingering(&mut self) {
        let mut left = false;
        for lingering in &mut self.lingering {
            let Some(tls) = &mut lingering.tls else { continue };
            let mut gate = Gate::SHUT;
            if matches!(flush(&mut lingering.source, &mut gate, tls), Ok(false)) {
                left = true;
            } else {
                lingering.tls = None;
                net::finish(lingering.source.socket());
            }
        }
        self.flush_at = left.then(|| self.clock.now() + RETRY);
    }

    /// Serves the stream in that slot within its budget. Returns whether it has more to do.
    pub(super) fn serve_stream(&mut self, slot: u32) -> bool {
        let Some((id, stream)) = self.streams.at_slot(slot) else { return false };
        stream.queued = false;
        if stream.phase == Phase::Connecting && !self.finish_connecting(id) {
            return false;
        }
        let Some(stream) = self.streams.get_mut(id) else { return false };
        if let Phase::Handshaking(local) = stream.phase {
            match self.shake_hands(id, local) {
                Shaken::Up => {}
                Shaken::Waits => return false,
                Shaken::Again => {
                    let Some(stream) = self.streams.get_mut(id) else { return false };
                    stream.queued = true;
                    return true;
                }
            }
        }
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let there = if stream.tls.is_some() {
            self.read_secure(id) && self.write_secure(id)
        } else {
            self.read_stream(id) && self.write_stream(id)
        };
        if !there {
            return false;
        }
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.queued = stream.read.is_open() || stream.write.is_open();
        stream.queued
    }

    /// Returns whether the stream is connected.
    fn finish_connecting(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        match stream.source.attempt(Direction::Write, net::connected) {
            Ok(None) => {
                stream.write.set_blocked();
                false
            }
            Ok(Some(local)) => {
                stream.read = Gate::OPEN;
                if stream.tls.is_some() {
                    stream.phase = Phase::Handshaking(Some(local));
                } else {
                    stream.phase = Phase::Open;
                    self.tell(id, StreamInput::Connected { local });
                }
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

    pub(super) fn tell(&mut self, id: StreamId, input: StreamInput) {
        self.machine.handle_input(self.clock.now(), Input::Stream(id, input));
    }
}
