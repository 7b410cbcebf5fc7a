//! One stream's TLS, without its socket.
//!
//! ```text
//!   socket --receive--> deciphered, at most one read's worth --take--> machine
//!   socket <--send----- enciphered, at most one loan's worth <--write-- machine
//! ```
//!
//! Both sides are bounded because nothing is put in before what was there is out: no more is read
//! from the socket while there is plaintext that the machine has not taken, and no more is borrowed
//! from the machine while there is ciphertext that the socket has not taken. What the machine lent
//! counts as sent when the system has all of it, as without TLS.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use rustls::Connection;
use teem_core::machine::TlsError;

use super::reason;

/// Bytes that are borrowed from the machine, enciphered and sent before more are.
pub(crate) const LOAN_MAX: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    /// Deciphered bytes that wait.
    plaintext: usize,
    /// The other side said that it sends no more.
    ended: bool,
    /// Bytes of the machine's that are enciphered and not all with the system yet.
    owed: usize,
    chunk: BytesMut,
}

/// What [`Session::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes for the machine.
    Bytes(Bytes),
    /// There will be no more, and the other side said so itself.
    End,
    /// Nothing, until more is received.
    Nothing,
}

impl Session {
    pub(super) fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(LOAN_MAX));
        Self { connection, plaintext: 0, ended: false, owed: 0, chunk: BytesMut::new() }
    }

    /// Whether the two sides have not agreed yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Reads ciphertext once. Zero bytes are the end of the socket, which without the other side's
    /// word for it is a stream cut short. Only while there is nothing to [`take`](Self::take).
    pub(crate) fn receive(&mut self, mut from: impl Read) -> io::Result<usize> {
        debug_assert_eq!(self.plaintext, 0, "what is here is taken first");
        self.connection.read_tls(&mut from)
    }

    /// Deciphers what was received.
    pub(crate) fn decipher(&mut self) -> Result<(), TlsError> {
        let state = self.connection.process_new_packets().map_err(|error| reason::of(&error))?;
        self.plaintext = state.plaintext_bytes_to_read();
        self.ended |= state.peer_has_closed();
        Ok(())
    }

    /// At most `max` bytes, which is more than none, of what was deciphered.
    pub(crate) fn take(&mut self, max: usize) -> Taken {
        if self.plaintext == 0 {
            return if self.ended { Taken::End } else { Taken::Nothing };
        }
        let len = self.plaintext.min(max);
        self.chunk.resize(len, 0);
        let count = self.connection.reader().read(&mut self.chunk).unwrap_or(0);
        debug_assert_eq!(count, len, "as much as it said");
        self.plaintext = if count == 0 { 0 } else { self.plaintext - count };
        self.chunk.truncate(count);
        match self.chunk.split().freeze() {
            bytes if bytes.is_empty() => Taken::Nothing,
            bytes => Taken::Bytes(bytes),
        }
    }

    /// Enciphers the machine's bytes. Only when there is nothing to [`send`](Self::send).
    pub(crate) fn write(&mut self, parts: &[Bytes]) {
        debug_assert!(self.owed == 0 && !self.wants_send(), "what was lent before is out");
        for part in parts {
            let count = self.connection.writer().write(part).unwrap_or(0);
            self.owed += count;
            if count < part.len() {
                break;
            }
        }
    }

    /// Whether there is ciphertext for the socket.
    pub(crate) fn wants_send(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes ciphertext once.
    pub(crate) fn send(&mut self, mut to: impl Write) -> io::Result<usize> {
        self.connection.write_tls(&mut to)
    }

    /// How many of the machine's bytes left, when all that was written is sent.
    pub(crate) const fn settle(&mut self) -> usize {
        std::mem::replace(&mut self.owed, 0)
    }

    /// Whether the machine waits for a loan to be settled.
    pub(crate) const fn owes(&self) -> bool {
        self.owed > 0
    }

    /// Says that we send no more.
    pub(crate) fn finish(&mut self) {
        self.connection.send_close_notify();
    }
}
