//! What a run amounts to, as a number: one per host and one over all.
//!
//! A host's digest is taken over everything its machine was told and everything it sent, with the
//! times; content enters as what it is (which content, from where, how long), everything else as
//! its bytes. Two runs with the same digests are the same run.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use teem_core::ids::Key;
use teem_core::machine::{Input, JobOutput, JobResult, ListenerInput, SocketInput, StreamInput};

use crate::content::{Library, Span};
use crate::time::Nanos;

/// A digest in the making.
#[derive(Clone, Debug)]
pub(super) struct Digest(SipHasher13);

impl Digest {
    pub(super) fn new() -> Self {
        Self(SipHasher13::new_with_keys(0x7465_656d, 0x0073_696d))
    }

    /// The number so far.
    pub(super) fn value(&self) -> u64 {
        self.0.finish()
    }

    /// Takes a number in.
    pub(super) fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    /// Takes bytes in: by their place if they are true content.
    pub(super) fn bytes(&mut self, bytes: &[u8], library: &Library) {
        self.number(bytes.len() as u64);
        match library.locate(bytes) {
            Some(Span { content, offset }) => {
                self.number(u64::from(content.0) << 48 ^ offset);
            }
            None => self.0.write(bytes),
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
            StreamInput::ConnectFailed(why) => self.number(0x1_0000 + *why as u64),
            StreamInput::Received(bytes) => self.bytes(bytes, library),
            StreamInput::Sent(count) => self.number(12 << 32 | *count as u64),
            StreamInput::ReadClosed => self.number(13),
            StreamInput::Closed(why) => self.number(0x2_0000 + *why as u64),
        }
    }

    fn job(&mut self, result: &JobResult, library: &Library) {
        match result {
            Ok(JobOutput::Read(bytes)) => self.bytes(bytes, library),
            Ok(JobOutput::Digest(digest)) => self.0.write(digest.as_bytes()),
            Ok(JobOutput::Hashed(state)) => self.number(state.len()),
            Ok(JobOutput::Files(files)) => self.number(files.len() as u64),
            Ok(JobOutput::Resolved(addresses)) => self.number(20 << 32 | addresses.len() as u64),
            Ok(_) => self.number(21),
            Err(error) => self.number(0x3_0000 + error.kind as u64),
        }
    }
}
