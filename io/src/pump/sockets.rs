//! Listeners and datagram sockets.

use std::io;
use std::mem;
use std::net::SocketAddr;

use teem_core::ids::{ListenerId, SocketId};
use teem_core::machine::{
    Bind, Datagram, Incoming, Input, Listen, ListenerInput, Machine, SocketError, SocketInput,
    TransmitLimit,
};

use super::{Pump, may_pass};
use crate::errors::{SendFailure, send_failure, socket_error};
use crate::jobs::Executor;
use crate::net;
use crate::readiness::{Direction, Gate, Kind, Reactor, Source, Token};

/// Connections that a listener may accept in one turn.
const ACCEPT_BUDGET: usize = 64;

/// Datagrams that a socket may receive in one turn, and as many that it may send.
const DATAGRAM_BUDGET: usize = 64;

/// Bytes of the largest datagram there can be.
const DATAGRAM_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Listener<S> {
    source: S,
    address: SocketAddr,
    tls: bool,
    pub(super) read: Gate,
    pub(super) write: Gate,
    pub(super) queued: bool,
}

#[derive(Debug)]
pub(super) struct Socket<S> {
    source: S,
    /// A datagram that the machine gave away and the system did not take yet.
    unsent: Option<(SocketAddr, Vec<u8>)>,
    pub(super) read: Gate,
    pub(super) write: Gate,
    pub(super) queued: bool,
}

impl<M: Machine, E: Executor, R: Reactor> Pump<M, E, R> {
    pub(super) fn listen(&mut self, listen: &Listen) {
        let id = listen.listener;
        let token = Token::new(Kind::Listener, id);
        let made = net::listen(listen)
            .and_then(|(socket, address)| Ok((self.register(socket, token)?, address)));
        let input = match made {
            _ if listen.tls && !self.tls.has_identity() => {
                ListenerInput::Failed(SocketError::NoIdentity)
            }
            Ok((source, address)) => {
                let (read, write, tls) = (Gate::OPEN, Gate::SHUT, listen.tls);
                let listener = Listener { source, address, tls, read, write, queued: true };
                self.listeners.insert(id, listener);
                self.enqueue(token);
                ListenerInput::Bound(address)
            }
            Err(error) => ListenerInput::Failed(socket_error(&error)),
        };
        self.machine.handle_input(self.clock.now(), Input::Listener(id, input));
    }

    pub(super) fn bind(&mut self, bind: &Bind) {
        let id = bind.socket;
        let token = Token::new(Kind::Socket, id);
        let made = net::bind(bind)
            .and_then(|(socket, address)| Ok((self.register(socket, token)?, address)));
        let input = match made {
            Ok((source, address)) => {
                let (read, write) = (Gate::OPEN, Gate::OPEN);
                let socket = Socket { source, unsent: None, read, write, queued: true };
                self.sockets.insert(id, socket);
                self.enqueue(token);
                SocketInput::Bound(address)
            }
            Err(error) => SocketInput::Failed(socket_error(&error)),
        };
        self.machine.handle_input(self.clock.now(), Input::Socket(id, input));
    }

    /// Accepts within the budget. Returns whether there is more to do.
    pub(super) fn serve_listener(&mut self, slot: u32) -> bool {
        for _ in 0..ACCEPT_BUDGET {
            let Some((id, listener)) = self.listeners.at_slot(slot) else { return false };
            listener.queued = false;
            match listener.source.attempt(Direction::Read, net::accept) {
                Ok(Some((socket, from))) => {
                    let (address, tls) = (listener.address, listener.tls);
                    self.admit(id, address, tls, socket, from);
                }
                Ok(None) => {
                    listener.read.set_blocked();
                    return false;
                }
                Err(error) => {
                    self.stats.accept_errors += 1;
                    if may_pass(&error) {
                        listener.read.set_blocked();
                        self.retry_later(Token::new(Kind::Listener, id));
                        return false;
                    }
                    // That one is gone; the next one may be well.
                }
            }
        }
        let Some((_, listener)) = self.listeners.at_slot(slot) else { return false };
        listener.queued = true;
        true
    }

    fn admit(
        &mut self,
        on: ListenerId,
        address: SocketAddr,
        tls: bool,
        socket: socket2::Socket,
        from: SocketAddr,
    ) {
        let local = if address.ip().is_unspecified() {
            net::local(&socket).unwrap_or(address)
        } else {
            address
        };
        let now = self.clock.now();
        let tls = if tls { self.tls.accept().map(|tls| Some(Box::new(tls))) } else { Some(None) };
        // Without a certificate there is no listener, and the machine grants nothing twice.
        let Some(tls) = tls else { return };
        let Some(id) = self.machine.accept(now, Incoming { on, from, local }) else {
            self.stats.refused += 1;
            net::abort(&socket);
            return;
        };
        match self.register(socket, Token::new(Kind::Stream, id)) {
            Ok(source) => self.adopt(id, source, tls),
            Err(error) => {
                let closed = crate::errors::stream_error(&error);
                let input = teem_core::machine::StreamInput::Closed(closed);
                self.machine.handle_input(now, Input::Stream(id, input));
            }
        }
    }

    /// Receives and sends within the budget. Returns whether there is more to do.
    pub(super) fn serve_socket(&mut self, slot: u32) -> bool {
        let Some((id, socket)) = self.sockets.at_slot(slot) else { return false };
        socket.queued = false;
        self.receive(id);
        self.transmit(id);
        let Some(socket) = self.sockets.get_mut(id) else { return false };
        socket.queued = socket.read.is_open() || socket.write.is_open();
        socket.queued
    }

    fn receive(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !socket.read.is_open() {
            return;
        }
        let now = self.clock.now();
        self.incoming.resize(DATAGRAM_MAX, 0);
        for _ in 0..DATAGRAM_BUDGET {
            let buf = &mut self.incoming;
            match socket.source.attempt(Direction::Read, |it| net::receive_from(it, buf)) {
                Ok(Some((count, from))) => {
                    let data = &self.incoming[..count];
                    let datagram =
                        Datagram { socket: id, from, local: None, ecn: None, stride: 0, data };
                    self.machine.handle_input(now, Input::Datagram(datagram));
                }
                Ok(None) => {
                    socket.read.set_blocked();
                    return;
                }
                // What an earlier datagram of ours met on its way. The socket is well.
                Err(_) => self.stats.receive_errors += 1,
            }
        }
    }

    fn transmit(&mut self, id: SocketId) {
        let now = self.clock.now();
        let mut budget = DATAGRAM_BUDGET;
        while let Some(socket) = self.sockets.get_mut(id) {
            if !socket.write.is_open() || budget == 0 {
                return;
            }
            budget -= 1;
            let (to, buf) = if let Some(unsent) = socket.unsent.take() {
                unsent
            } else {
                let mut buf = mem::take(&mut self.outgoing);
                buf.clear();
                let limit = TransmitLimit::ONE;
                let Some(transmit) = self.machine.poll_transmit(now, id, limit, &mut buf) else {
                    self.outgoing = buf;
                    socket.write.set_sated();
                    return;
                };
                (transmit.to, buf)
            };
            let sent = socket.source.attempt(Direction::Write, |it| net::send_to(it, &buf, to));
            match sent {
                Ok(Some(())) => {}
                Ok(None) => {
                    socket.write.set_blocked();
                    socket.unsent = Some((to, buf));
                    return;
                }
                Err(error) => {
                    if !self.send_failed(id, to, &error) {
                        if let Some(socket) = self.sockets.get_mut(id) {
                            socket.unsent = Some((to, buf));
                        }
                        return;
                    }
                }
            }
            self.outgoing = buf;
        }
    }

    /// Returns whether that datagram is done with.
    fn send_failed(&mut self, id: SocketId, to: SocketAddr, error: &io::Error) -> bool {
        let input = match send_failure(error) {
            SendFailure::NoRoom => {
                if let Some(socket) = self.sockets.get_mut(id) {
                    socket.write.set_blocked();
                }
                self.retry_later(Token::new(Kind::Socket, id));
                return false;
            }
            SendFailure::TooBig => Some(SocketInput::TooBig { to, size: 0 }),
            SendFailure::Unreachable => Some(SocketInput::Unreachable(to)),
            SendFailure::Lost => None,
        };
        self.stats.datagrams_lost += 1;
        if let Some(input) = input {
            self.machine.handle_input(self.clock.now(), Input::Socket(id, input));
        }
        true
    }
}
