//! Streams with TLS: the handshake, and bytes both ways.

use std::net::SocketAddr;

use teem_core::ids::StreamId;
use teem_core::machine::{Input, Machine, StreamError, StreamInput, TlsError};

use super::Pump;
use super::streams::{Phase, READ_BUDGET, WRITE_BUDGET};
use crate::errors::stream_error;
use crate::jobs::Executor;
use crate::readiness::{Direction, Gate, Reactor, Source};
use crate::tls::{LOAN_MAX, Session, Taken};

/// Reads of a handshake in one turn.
const HANDSHAKE_BUDGET: usize = 32;

/// Where a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shaken {
    /// The stream is up.
    Up,
    /// It waits for its socket, or is gone.
    Waits,
    /// It goes on in the next turn.
    Again,
}

/// Writes what is enciphered, while the socket takes it. Returns whether it took all.
pub(super) fn flush(
    source: &mut impl Source,
    gate: &mut Gate,
    tls: &mut Session,
) -> std::io::Result<bool> {
    while tls.wants_send() {
        let sent = source.attempt(Direction::Write, |mut socket| tls.send(&mut socket))?;
        if sent.is_none() {
            gate.set_blocked();
            return Ok(false);
        }
    }
    Ok(true)
}

impl<M: Machine, E: Executor, R: Reactor> Pump<M, E, R> {
    /// Goes on with a handshake; `local` is what the machine is told when it is done, if it was
    /// the one that asked for the stream.
    pub(super) fn shake_hands(&mut self, id: StreamId, local: Option<SocketAddr>) -> Shaken {
        for _ in 0..HANDSHAKE_BUDGET {
            let Some(stream) = self.streams.get_mut(id) else { return Shaken::Waits };
            let Some(tls) = stream.tls.as_deref_mut() else { return Shaken::Waits };
            if let Err(error) = flush(&mut stream.source, &mut stream.write, tls) {
                return self.shaken_off(id, stream_error(&error));
            }
            if !tls.is_handshaking() {
                stream.phase = Phase::Open;
                if let Some(local) = local {
                    self.tell(id, StreamInput::Connected { local });
                }
                return Shaken::Up;
            }
            let received = stream.source.attempt(Direction::Read, |mut it| tls.receive(&mut it));
            match received {
                Ok(None) => {
                    stream.read.set_blocked();
                    return Shaken::Waits;
                }
                Ok(Some(0)) => return self.shaken_off(id, TlsError::Truncated.into()),
                Ok(Some(_)) => {
                    if let Err(why) = tls.decipher() {
                        // The other side is told, if there is room for it.
                        let _ = flush(&mut stream.source, &mut stream.write, tls);
                        return self.shaken_off(id, why.into());
                    }
                }
                Err(error) => return self.shaken_off(id, stream_error(&error)),
            }
        }
        Shaken::Again
    }

    fn shaken_off(&mut self, id: StreamId, why: StreamError) -> Shaken {
        let Some(stream) = self.streams.get_mut(id) else { return Shaken::Waits };
        let asked = matches!(stream.phase, Phase::Handshaking(Some(_)));
        self.let_go(id);
        let input = if asked { StreamInput::ConnectFailed(why) } else { StreamInput::Closed(why) };
        self.tell(id, input);
        Shaken::Waits
    }

    /// Returns whether the stream is still there.
    ///
    /// There is plaintext in between only while the socket counts as ready, as it is not asked
    /// before all is taken: so readiness and want are all that must be looked at here, too.
    pub(super) fn read_secure(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(tls) = stream.tls.as_deref_mut() else { return false };
        let now = self.clock.now();
        let mut budget = READ_BUDGET;
        while stream.read.is_open() && budget > 0 && !stream.read_closed {
            let credit = self.machine.recv_credit(id);
            if credit == 0 {
                stream.read.set_sated();
                break;
            }
            let input = match tls.take(credit) {
                Taken::Bytes(bytes) => StreamInput::Received(bytes),
                Taken::End => {
                    stream.read_closed = true;
                    StreamInput::ReadClosed
                }
                Taken::Nothing => {
                    let received =
                        stream.source.attempt(Direction::Read, |mut it| tls.receive(&mut it));
                    let failed = match received {
                        Ok(None) => {
                            stream.read.set_blocked();
                            break;
                        }
                        Ok(Some(0)) => Some(TlsError::Truncated.into()),
                        Ok(Some(count)) => {
                            budget -= count.min(budget);
                            tls.decipher().err().map(StreamError::from)
                        }
                        Err(error) => Some(stream_error(&error)),
                    };
                    if tls.wants_send() {
                        // The machine has nothing to do with it.
                        stream.write.set_wanted();
                    }
                    if let Some(why) = failed {
                        let _ = flush(&mut stream.source, &mut stream.write, tls);
                        self.broken(id, why);
                        return false;
                    }
                    continue;
                }
            };
            self.machine.handle_input(now, Input::Stream(id, input));
        }
        if stream.read_closed {
            stream.read = Gate::SHUT;
        }
        true
    }

    /// Returns whether the stream is still there.
    pub(super) fn write_secure(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(tls) = stream.tls.as_deref_mut() else { return false };
        let now = self.clock.now();
        let mut budget = WRITE_BUDGET;
        while stream.write.is_open() && budget > 0 {
            match flush(&mut stream.source, &mut stream.write, tls) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.broken(id, stream_error(&error));
                    return false;
                }
            }
            if tls.owes() {
                let sent = tls.settle();
                budget -= sent.min(budget);
                self.machine.handle_input(now, Input::Stream(id, StreamInput::Sent(sent)));
                continue;
            }
            self.lent.clear();
            if self.machine.poll_send(now, id, LOAN_MAX, &mut self.lent) == 0 {
                stream.write.set_sated();
                break;
            }
            tls.write(&self.lent);
            self.lent.clear();
        }
        true
    }

    fn broken(&mut self, id: StreamId, why: StreamError) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let owes = stream.tls.as_deref().is_some_and(Session::owes);
        self.let_go(id);
        if owes {
            self.tell(id, StreamInput::Sent(0));
        }
        self.tell(id, StreamInput::Closed(why));
    }
}
