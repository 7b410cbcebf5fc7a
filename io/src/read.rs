//! Receive buffers: one chunk per driver, shared by all its streams.
//!
//! A read fills what is left of the chunk and hands it over as [`Bytes`]. Whoever holds these holds
//! all of the chunk, so a short read is copied: a block that comes in small parts over a slow
//! stream would else hold as many chunks as it has parts, while a fast stream uses them up. A stream
//! on which nothing happens holds no buffer at all.

use std::io;

use bytes::{Bytes, BytesMut};
use socket2::Socket;

/// Bytes per chunk, and so the most that one read takes.
pub const CHUNK: usize = 256 * 1024;

/// Less room than this is not worth a call: the rest of a chunk is left.
pub const READ_MIN: usize = 32 * 1024;

/// A read that comes to less is copied. Nothing that is fast comes in parts below the size of a
/// block.
pub const READ_SHORT: usize = 16 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct ReadBuffer {
    chunk: BytesMut,
}

impl ReadBuffer {
    /// No chunk yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads once from `socket`, at most `max` bytes and at most what is left of the chunk. No
    /// bytes mean that the other side sends no more.
    pub fn read(&mut self, socket: &Socket, max: usize) -> io::Result<Bytes> {
        let room = self.chunk.capacity() - self.chunk.len();
        if room < READ_MIN.min(max) && !self.chunk.try_reclaim(CHUNK) {
            self.chunk = BytesMut::with_capacity(CHUNK);
        }
        let spare = self.chunk.spare_capacity_mut();
        let len = spare.len().min(max);
        let count = socket.recv(&mut spare[..len])?;
        #[expect(unsafe_code, reason = "the chunk is not zeroed before each use")]
        // SAFETY: `recv` initialised this many bytes at the start of the spare capacity.
        unsafe {
            self.chunk.set_len(self.chunk.len() + count);
        }
        if count < READ_SHORT {
            let read = Bytes::copy_from_slice(&self.chunk);
            self.chunk.clear();
            return Ok(read);
        }
        Ok(self.chunk.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    fn pair() -> (Socket, Socket) {
        let (a, b) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair of sockets");
        b.set_nonblocking(true).expect("set");
        (a, b)
    }

    #[test]
    fn short_reads_take_nothing_of_the_chunk() {
        let (tx, rx) = pair();
        let mut buffer = ReadBuffer::new();
        let parts = [&[1; READ_SHORT][..], &[2; 3], &[3; READ_SHORT - 1], &[4; READ_SHORT]];
        let mut all = Vec::new();
        for part in parts {
            tx.send(part).expect("room");
            all.push(buffer.read(&rx, CHUNK).expect("bytes"));
        }
        assert_eq!(all, parts);
        assert_eq!(all[0].as_ptr().wrapping_add(READ_SHORT), all[3].as_ptr());
    }

    #[test]
    fn no_more_is_read_than_allowed_and_the_end_is_no_bytes() {
        let (tx, rx) = pair();
        let mut buffer = ReadBuffer::new();
        tx.send(&[7; 100]).expect("room");
        assert_eq!(buffer.read(&rx, 60).expect("bytes").len(), 60);
        assert_eq!(buffer.read(&rx, 60).expect("bytes").len(), 40);
        let blocked = buffer.read(&rx, 60).expect_err("nothing there");
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        drop(tx);
        assert!(buffer.read(&rx, 60).expect("the end").is_empty());
    }

    #[test]
    fn a_chunk_that_nobody_holds_is_used_again() {
        let (tx, rx) = pair();
        let mut buffer = ReadBuffer::new();
        let mut seen = Vec::new();
        for _ in 0..100 {
            tx.send(&vec![7; 50_000]).expect("room");
            seen.push(buffer.read(&rx, CHUNK).expect("bytes").as_ptr() as usize / CHUNK);
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() <= 2, "{seen:x?}");
    }
}
