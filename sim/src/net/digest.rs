//! What a run amounts to, as a number: one per host and one over all.
//!
//! A host's digest is taken over everything its machine was told and everything it sent, with the
//! times; content enters as what it is (which content, from where, how long), everything else as
//! its bytes. Two runs with the same digests are the same run.

use teem_core::ids::Key;
use teem_core::machine::{Input, JobOutput, JobResult, ListenerInput, SocketInput, StreamInput};

use crate::content::{Library, Span};
use crate::time::Nanos;

/// A digest in the making. Nobody attacks it, so it is quick rather than strong: each number is
/// mixed in by a multiplication and a shift, both of which can be undone, so that runs that differ
/// in one number differ.
#[derive(Clone, Debug)]
pub(super) struct Digest(u64);

/// Odd, and as good as random: the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Digest {
    pub(super) const fn new() -> Self {
        Self(0x7465_656d_0073_696d)
    }

    /// The number so far.
    pub(super) const fn value(&self) -> u64 {
        let mixed = self.0.wrapping_mul(FACTOR);
        mixed ^ mixed >> 29
    }

    /// Takes a number in.
    pub(super) const fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(FACTOR);
        self.0 = mixed ^ mixed >> 32;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// Takes bytes in: by their place if they are true content.
    pub(super) fn bytes(&mut self, bytes: &[u8], library: &Library) {
        self.number(bytes.len() as u64);
        match library.locate(bytes) {
            Some(Span { content, offset }) => {
                self.number(u64::from(content.0) << 48 ^ offset);
            }
            None => self.write(bytes),
        }
    }

    /// Takes in what a machine is told.
    pub(super) fn input(&mut self, now: Nanos, input: &Input<'_>, library: &Library) {
        self.number(now.0);
        match input {
            Input::Timeout => self.number(1),
            Input::Datagram(datagram) => {
                self.number(2);
                self.key(datagram.socket);
                self.bytes(datagram.data, library);
            }
            Input::Stream(stream, input) => {
                self.key(*stream);
                self.stream(input, library);
            }
            Input::Job(job, result) => {
                self.key(*job);
                self.job(result, library);
            }
            Input::Listener(listener, input) => {
                self.key(*listener);
                match input {
                    ListenerInput::Bound(address) => self.number(u64::from(address.port())),
                    ListenerInput::Failed(_) => self.number(30),
                }
            }
            Input::Socket(socket, input) => {
                self.key(*socket);
                match input {
                    SocketInput::Bound(address) => self.number(u64::from(address.port())),
                    _ => self.number(40),
                }
            }
            Input::WallClock(wall) => self.number(wall.0),
            // The contract may grow.
            _ => self.number(99),
        }
    }

    fn key(&mut self, key: impl Key) {
        self.number(u64::from(key.slot()) << 32 | u64::from(key.generation()));
    }

    fn stream(&mut self, input: &StreamInput, library: &Library) {
        match input {
            StreamInput::Connected { local } => self.number(10 << 16 | u64::from(local.port())),
            StreamInput::ConnectFailed(why) => self.number(0x1_0000 + u64::from(why.code())),
            StreamInput::Received(bytes) => self.bytes(bytes, library),
            StreamInput::Sent(count) => self.number(12 << 32 | *count as u64),
            StreamInput::ReadClosed => self.number(13),
            StreamInput::Closed(why) => self.number(0x2_0000 + u64::from(why.code())),
        }
    }

    fn job(&mut self, result: &JobResult, library: &Library) {
        match result {
            Ok(JobOutput::Read(bytes)) => self.bytes(bytes, library),
            Ok(JobOutput::Digest(digest)) => self.write(digest.as_bytes()),
            Ok(JobOutput::Hashed(state)) => self.number(state.len()),
            Ok(JobOutput::Files(files)) => self.number(files.len() as u64),
            Ok(JobOutput::Resolved(addresses)) => self.number(20 << 32 | addresses.len() as u64),
            Ok(_) => self.number(21),
            Err(error) => self.number(0x3_0000 + error.kind as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_and_so_does_their_order() {
        let digest = |numbers: &[u64]| {
            let mut digest = Digest::new();
            for number in numbers {
                digest.number(*number);
            }
            digest.value()
        };
        let all = [&[][..], &[0], &[0, 0], &[1], &[1, 2], &[2, 1], &[1 << 63], &[1 << 63, 1]];
        let mut digests = all.map(digest);
        digests.sort_unstable();
        assert!(digests.windows(2).all(|pair| pair[0] != pair[1]), "{digests:x?}");
    }

    #[test]
    fn true_content_counts_by_its_place() {
        let mut library = Library::new();
        let content = library.add("key", vec![7; 100].into());
        let slice = |from: usize| library.bytes(content).slice(from..from + 10);
        let digest = |bytes: &[u8]| {
            let mut digest = Digest::new();
            digest.bytes(bytes, &library);
            digest.value()
        };
        assert_eq!(digest(&slice(3)), digest(&slice(3)));
        assert_ne!(digest(&slice(3)), digest(&slice(4)));
        assert_ne!(digest(&slice(3)), digest(&[7; 10]));
        assert_ne!(digest(&[7; 10]), digest(&[7, 7, 7, 7, 7, 7, 7, 7, 7, 8]));
    }
}
