//! Recording a machine's life, and living it again.
//!
//! A trace is the sequence of all calls that change a machine, with their arguments; popping
//! outputs, jobs and events changes nothing that could be told apart and is left out. With the
//! seed that the machine was made from, a trace replays every output byte. Bug reports, the
//! simulator and the fuzzers use this one format.
//!
//! Format: the magic bytes and version of [`MAGIC`], then entries, each a length (LEB128) and
//! that many bytes of postcard. An entry that was cut off, by a crash say, ends the trace.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Application, Deadline, Incoming, Input, Job, Machine, Output, Transmit, TransmitLimit,
};
use crate::ids::{JobId, SocketId, StreamId};
use crate::time::Instant;

/// First bytes of a trace: a name and the version of the format.
pub const MAGIC: &[u8; 8] = b"teemtr\x00\x01";

/// Largest entry that is read back, in bytes.
pub const ENTRY_MAX: usize = 64 * 1024 * 1024;

/// One call, with the time it was made at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a, C> {
    /// The caller's `now`.
    pub at: Instant,
    /// What was called.
    #[serde(borrow, bound(deserialize = "C: Deserialize<'de>"))]
    pub call: Call<'a, C>,
}

/// A call that changes a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "C: Deserialize<'de>"))]
pub enum Call<'a, C> {
    /// [`Machine::handle_input`].
    #[serde(borrow)]
    Input(Input<'a>),
    /// [`Machine::accept`].
    Accept(Incoming),
    /// [`Machine::poll_transmit`].
    Transmit(SocketId, TransmitLimit),
    /// [`Machine::poll_send`].
    Send(StreamId, usize),
    /// [`Application::handle_command`].
    Command(C),
}

/// A machine that writes down what it is told. It is driven like the machine inside.
#[derive(Debug)]
pub struct Recorder<M> {
    machine: M,
    trace: Vec<u8>,
}

impl<M> Recorder<M> {
    /// Records all that is done to `machine` from here on.
    pub fn new(machine: M) -> Self {
        Self { machine, trace: MAGIC.to_vec() }
    }

    /// The machine inside, to look at.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// Takes what was recorded since the last time; the pieces in order are the trace. The caller
    /// takes it often enough for its memory.
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.trace)
    }

    fn note<C: Serialize>(&mut self, at: Instant, call: Call<'_, C>) {
        let entry = postcard::to_allocvec(&Entry { at, call })
            .expect("calls are plain data, which always encode");
        let mut len = entry.len();
        while len >= 0x80 {
            self.trace.push(len as u8 | 0x80);
            len >>= 7;
        }
        self.trace.push(len as u8);
        self.trace.extend_from_slice(&entry);
    }
}

impl<M: Machine> Machine for Recorder<M> {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.note::<()>(now, Call::Input(input.clone()));
        self.machine.handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.note::<()>(now, Call::Accept(incoming));
        self.machine.accept(now, incoming)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.machine.poll_output()
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.machine.poll_job()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.note::<()>(now, Call::Transmit(on, limit));
        self.machine.poll_transmit(now, on, limit, buf)
    }

    fn poll_send(&mut self, now: Instant, on: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.note::<()>(now, Call::Send(on, max));
        self.machine.poll_send(now, on, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.machine.recv_credit(stream)
    }
}

impl<M: Application> Application for Recorder<M>
where
    M::Command: Serialize,
{
    type Command = M::Command;
    type Event = M::Event;

    fn handle_command(&mut self, now: Instant, command: M::Command) {
        self.note(now, Call::Command(&command));
        self.machine.handle_command(now, command);
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        self.machine.poll_event()
    }
}

/// Why a trace cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It does not begin like a trace.
    #[error("not a trace, or of another version")]
    Magic,
    /// An entry is larger than [`ENTRY_MAX`].
    #[error("an entry of {0} bytes is too large")]
    TooLarge(usize),
    /// An entry does not decode.
    #[error("the entry at byte {0} is damaged")]
    Damaged(usize),
}

/// Reads a trace, entry by entry.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TraceError> {
        if !bytes.starts_with(MAGIC) {
            return Err(TraceError::Magic);
        }
        Ok(Self { bytes, at: MAGIC.len() })
    }

    /// The next entry; none at the end, or where the trace was cut off.
    pub fn read<C: Deserialize<'a>>(&mut self) -> Result<Option<Entry<'a, C>>, TraceError> {
        let mut at = self.at;
        let mut len = 0_usize;
        for shift in (0..).step_by(7) {
            let Some(byte) = self.bytes.get(at) else { return Ok(None) };
            at += 1;
            len |= usize::from(byte & 0x7f) << shift;
            if len > ENTRY_MAX || shift > 28 {
                return Err(TraceError::TooLarge(len));
            }
            if byte & 0x80 == 0 {
                break;
            }
        }
        let Some(entry) = self.bytes.get(at..at + len) else { return Ok(None) };
        let entry = postcard::from_bytes(entry).map_err(|_| TraceError::Damaged(self.at))?;
        self.at = at + len;
        Ok(Some(entry))
    }
}

/// What a replayed machine did.
#[derive(Debug)]
pub enum Replayed<'a, E> {
    /// It asked for this.
    Output(Output),
    /// It wanted this done.
    Job(JobId, Job),
    /// It told this.
    Event(E),
    /// It granted a stream, or refused.
    Accepted(Option<StreamId>),
    /// It sent these bytes on a stream.
    Sent(StreamId, &'a [Bytes]),
    /// It sent datagrams.
    Transmitted(SocketId, Transmit, &'a [u8]),
}

/// Makes all calls of a trace on `machine`, which was made from the same seed, and shows
/// `observer` everything that comes out. Returns the number of calls.
pub fn replay<'a, M: Application>(
    machine: &mut M,
    trace: &'a [u8],
    mut observer: impl FnMut(Instant, Replayed<'_, M::Event>),
) -> Result<u64, TraceError>
where
    M::Command: Deserialize<'a>,
{
    let mut reader = Reader::new(trace)?;
    let mut calls = 0;
    let (mut lent, mut buf) = (Vec::new(), Vec::new());
    while let Some(Entry { at, call }) = reader.read::<M::Command>()? {
        calls += 1;
        match call {
            Call::Input(input) => machine.handle_input(at, input),
            Call::Command(command) => machine.handle_command(at, command),
            Call::Accept(incoming) => {
                let stream = machine.accept(at, incoming);
                observer(at, Replayed::Accepted(stream));
            }
            Call::Send(stream, max) => {
                lent.clear();
                if machine.poll_send(at, stream, max, &mut lent) > 0 {
                    observer(at, Replayed::Sent(stream, &lent));
                }
            }
            Call::Transmit(socket, limit) => {
                buf.clear();
                if let Some(transmit) = machine.poll_transmit(at, socket, limit, &mut buf) {
                    observer(at, Replayed::Transmitted(socket, transmit, &buf));
                }
            }
        }
        while let Some(output) = machine.poll_output() {
            observer(at, Replayed::Output(output));
        }
        while let Some((id, job)) = machine.poll_job() {
            observer(at, Replayed::Job(id, job));
        }
        while let Some(event) = machine.poll_event() {
            observer(at, Replayed::Event(event));
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::super::echo::{Command, Echo};
    use super::*;
    use crate::ids::CommandToken;
    use crate::machine::StreamInput;
    use proptest::prelude::*;
    use std::fmt::Write;
    use std::format;

    fn recorded() -> Vec<u8> {
        let now = Instant::ORIGIN;
        let mut echo = Recorder::new(Echo::new(now));
        let to = "192.0.2.1:7".parse().expect("an address");
        let message = Bytes::from_static(b"hello");
        echo.handle_command(now, Command::Dial(CommandToken(1), to, message));
        let Some(Output::Connect(connect)) = echo.poll_output() else { panic!("a connect") };
        let connected = StreamInput::Connected { local: to };
        echo.handle_input(now, Input::Stream(connect.stream, connected));
        echo.poll_send(now, connect.stream, 100, &mut Vec::new());
        echo.handle_input(now, Input::Stream(connect.stream, StreamInput::Sent(5)));
        let received = StreamInput::Received(Bytes::from_static(b"hello"));
        echo.handle_input(now, Input::Stream(connect.stream, received));
        echo.take()
    }

    fn replayed(trace: &[u8]) -> Result<std::string::String, TraceError> {
        let mut seen = std::string::String::new();
        let calls = replay(&mut Echo::new(Instant::ORIGIN), trace, |at, what| {
            writeln!(seen, "{at:?} {what:?}").expect("a string takes it");
        })?;
        Ok(format!("{calls} calls\n{seen}"))
    }

    #[test]
    fn a_replayed_trace_shows_every_output_byte() {
        let seen = replayed(&recorded()).expect("a whole trace");
        assert!(seen.starts_with("5 calls\n"), "{seen}");
        assert!(seen.contains("Sent(s0v1, [b\"hello\"])"), "{seen}");
        assert!(seen.contains("Event(Echoed(CommandToken(1), b\"hello\"))"), "{seen}");
        assert_eq!(replayed(&recorded()).expect("the same"), seen);
    }

    #[test]
    fn a_trace_that_was_cut_off_replays_up_to_there() {
        let trace = recorded();
        for cut in MAGIC.len()..trace.len() {
            replayed(&trace[..cut]).expect("a shorter trace");
        }
        assert_eq!(replayed(&trace[..3]), Err(TraceError::Magic));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_after_the_magic_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let trace = [&MAGIC[..], &bytes].concat();
            let _ = replayed(&trace);
        }
    }
}
