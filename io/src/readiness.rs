//! Two bits per source and direction, and who may change them.
//!
//! Under edge-triggered readiness both the system and the machine tell of a change once. Losing
//! either edge is a silent stall, so each is kept until the one thing that ends it: *ready* until
//! a call would have blocked, *wanted* until the machine had nothing to ask for.

use std::io;
use std::task::Waker;

use socket2::Socket;
use teem_core::ids::Key;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards us; connections at a listener too.
    Read,
    /// Away from us; the outcome of a connect too.
    Write,
}

/// Whether a source is ready and wanted in one direction. Something is to be done when both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    ready: bool,
    wanted: bool,
}

impl Gate {
    /// Both, until told otherwise: asking is always allowed and often right.
    pub const OPEN: Self = Self { ready: true, wanted: true };

    /// Neither.
    pub const SHUT: Self = Self { ready: false, wanted: false };

    /// The system says that the source is ready.
    pub const fn set_ready(&mut self) {
        self.ready = true;
    }

    /// A call would have blocked.
    pub const fn set_blocked(&mut self) {
        self.ready = false;
    }

    /// The machine wants.
    pub const fn set_wanted(&mut self) {
        self.wanted = true;
    }

    /// The machine was asked, and had nothing.
    pub const fn set_sated(&mut self) {
        self.wanted = false;
    }

    /// Whether something is to be done.
    pub const fn is_open(self) -> bool {
        self.ready && self.wanted
    }
}

/// A source's name in an event loop: what it is and the slot of its id. Not the generation: it is
/// no harm to tell a newcomer that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u32);

/// What a [`Token`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream.
    Stream,
    /// A listener.
    Listener,
    /// A datagram socket.
    Socket,
}

/// Slots per kind.
const SLOTS: u32 = 1 << 29;

impl Token {
    /// The token for `key`; none beyond half a billion slots.
    pub fn new(kind: Kind, key: impl Key) -> Option<Self> {
        let slot = key.slot();
        (slot < SLOTS).then_some(Self(kind as u32 * SLOTS + slot))
    }

    /// What it names, and its slot.
    pub const fn parts(self) -> (Kind, u32) {
        let kind = match self.0 / SLOTS {
            0 => Kind::Stream,
            1 => Kind::Listener,
            _ => Kind::Socket,
        };
        (kind, self.0 % SLOTS)
    }

    /// As a number below 2^31, for event loops that name things so.
    pub const fn to_number(self) -> u32 {
        self.0
    }

    /// Back from a number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// Where sockets are registered with an event loop. The one thing in which drivers differ.
pub trait Reactor {
    /// A registered socket; dropping it ends the registration and closes the socket.
    type Source: Source;

    /// Registers a non-blocking socket. The reactor tells the driver of readiness under `token`.
    fn register(&mut self, socket: Socket, token: Token) -> io::Result<Self::Source>;

    /// What wakes the driver from another thread.
    fn waker(&self) -> Waker;
}

/// A registered socket.
pub trait Source: std::fmt::Debug {
    /// Does `op`. `None` says that it would have blocked, and that the reactor will tell when it
    /// would not. `op` may be done several times, until it does not fail with `WouldBlock` or
    /// `Interrupted` for a reason that has passed.
    fn attempt<R>(
        &mut self,
        direction: Direction,
        op: impl FnMut(&Socket) -> io::Result<R>,
    ) -> io::Result<Option<R>>;

    /// The socket.
    fn socket(&self) -> &Socket;
}

/// Does `op` until it was not interrupted; `None` if it would have blocked.
pub fn nonblocking<R>(mut op: impl FnMut() -> io::Result<R>) -> io::Result<Option<R>> {
    loop {
        return match op() {
            Ok(result) => Ok(Some(result)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use teem_core::ids::{ListenerId, SocketId, StreamId};

    #[test]
    fn each_bit_is_cleared_only_by_its_own_reason() {
        let mut gate = Gate::OPEN;
        gate.set_blocked();
        gate.set_wanted();
        assert!(!gate.is_open());
        gate.set_ready();
        assert!(gate.is_open());
        gate.set_sated();
        gate.set_ready();
        assert!(!gate.is_open());
        gate.set_wanted();
        assert!(gate.is_open());
    }

    proptest! {
        #[test]
        fn a_token_comes_back_from_its_number(slot in 0..SLOTS) {
            let tokens = [
                (Kind::Stream, Token::new(Kind::Stream, StreamId::from_parts(slot, 1))),
                (Kind::Listener, Token::new(Kind::Listener, ListenerId::from_parts(slot, 1))),
                (Kind::Socket, Token::new(Kind::Socket, SocketId::from_parts(slot, 1))),
            ];
            for (kind, token) in tokens {
                let token = token.expect("below the limit");
                let back = Token::from_number(token.to_number());
                prop_assert_eq!(back.parts(), (kind, slot));
            }
        }
    }
}
