//! The contract between a protocol machine and whatever drives it.
//!
//! ```text
//!                    Application::handle_command   Application::poll_event
//!                                 |                         ^
//!   handle_input(now, Input) -----v-------------------------+----- poll_output   control, O(1)
//!   accept(now, Incoming) ---->   a root machine              ---> poll_job      slow work
//!                                 (Session, Server, Node ...) ---> poll_send     stream bytes
//!   recv_credit  <---------------                             ---> poll_transmit datagrams
//!   poll_timeout <---------------                                  (on demand, in caller memory)
//! ```
//!
//! # Rules
//!
//! 1. **Consistent after every call.** Any number of inputs may go in before outputs are taken;
//!    taking them may stop anywhere. [`Output::WantRead`], [`Output::WantWrite`],
//!    [`Output::WantTransmit`] and [`Output::WantJob`] are edges and hints, queued once until they
//!    are taken. [`Machine::recv_credit`], [`Machine::poll_send`], [`Machine::poll_transmit`] and
//!    [`Machine::poll_job`] tell the truth at any time; asking without an edge is allowed.
//! 2. **Input is infallible.** What a stranger did wrong becomes an event, never an error for the
//!    driver and never a panic.
//! 3. **Time is given**, in microseconds ([`Instant`]). It never runs backwards: `now` is clamped
//!    to the latest one seen. [`Machine::poll_timeout`] is pure; a driver that sleeps exactly until
//!    then, and calls [`Machine::handle_input`] with [`Input::Timeout`], misses nothing. Calling
//!    early or often does no harm.
//! 4. **Randomness is given**: a [`Seed`](crate::rng::Seed) at construction. Seed and
//!    [`trace`] replay every output byte.
//! 5. **Slow work is a [`Job`] with an id.** Exactly one completion each, in any order, also after
//!    [`Output::CancelJob`]. A machine orders dependent jobs itself.
//! 6. **Everything is bounded.** Backpressure is a missing credit or a missing poll, never a
//!    growing queue.
//! 7. **Ids are generational.** Stale ones are ignored and counted.
//!
//! # Streams
//!
//! A machine names its streams. It asks for one with [`Output::Connect`], or grants one in
//! [`Machine::accept`]. The id is dead after [`Output::Close`] was queued, or after the driver
//! reported [`StreamInput::ConnectFailed`] or [`StreamInput::Closed`]; whatever either side says
//! of it later is ignored. [`Machine::poll_send`] lends handles of the next unsent bytes; the loan
//! lasts until [`StreamInput::Sent`] settles it (what was not sent goes back). There is one loan
//! per stream: while it lasts, `poll_send` lends nothing. Handles stay valid as long as they are
//! held, whatever becomes of the stream.
//!
//! # A driver, in words
//!
//! Take outputs and act on them. For each stream that may be read and whose credit is not zero,
//! read at most the credit and hand it in. For each stream that may be written, borrow bytes,
//! write them, report how many went. Take jobs while there are hands for them. Then compare the
//! clock with the deadline, and wait for whatever comes first. [`echo`] is a machine small enough
//! to write a driver against.

mod input;
mod job;
mod output;
mod parts;

pub mod echo;
pub mod trace;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

pub use input::{
    Datagram, Ecn, Incoming, Input, ListenerInput, SocketError, SocketInput, StreamError,
    StreamInput, TlsError,
};
pub use job::{
    Allocation, FileOp, FileStat, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult,
    Location, OpenFiles,
};
pub use output::{Bind, Connect, Deadline, Listen, Output, Shutdown, Transmit, TransmitLimit};
pub use parts::{Clock, Jobs, Outbox, SendQueue, StreamEdges};

use crate::ids::{JobId, SocketId, StreamId};
use crate::time::Instant;

/// A protocol machine, as a driver sees it. Object-safe; see the [module](self) for the rules.
///
/// The defaults suit a machine without streams, datagrams or jobs.
pub trait Machine: Send {
    /// Something happened. Never fails; see rule 2.
    fn handle_input(&mut self, now: Instant, input: Input<'_>);

    /// Somebody connected to a listener: the stream's id, or none to refuse before there is any
    /// state.
    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        let _ = (now, incoming);
        None
    }

    /// The next thing to do for the machine. O(1).
    fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// The next piece of slow work; call it only while there are hands for it.
    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        None
    }

    /// When to hand in [`Input::Timeout`], and which timer it is for. Pure, O(1).
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    /// Appends the next datagrams for `on` to `buf`, at most as `limit` allows, all to one address
    /// and of equal size (the last may be shorter).
    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let _ = (now, on, limit, buf);
        None
    }

    /// Appends handles of the next unsent bytes of `stream` to `out`, at most `max` bytes, and
    /// returns how many. Zero means: nothing to send now; an edge will tell when there is.
    fn poll_send(
        &mut self,
        now: Instant,
        stream: StreamId,
        max: usize,
        out: &mut Vec<Bytes>,
    ) -> usize {
        let _ = (now, stream, max, out);
        0
    }

    /// How many bytes of `stream` may be read now: zero (an edge will tell when there is more), or
    /// at least 4 KiB. A promise, not a fence: more is taken too, and counts against later credit.
    fn recv_credit(&self, stream: StreamId) -> usize {
        let _ = stream;
        0
    }
}

/// A root machine with its embedder's side: commands in, events out.
pub trait Application: Machine {
    /// What the embedder can ask for.
    type Command;
    /// What the embedder is told.
    type Event;

    /// Does what the embedder asks for. The outcome is an event that carries the command's token.
    fn handle_command(&mut self, now: Instant, command: Self::Command);

    /// The next fact for the embedder.
    fn poll_event(&mut self) -> Option<Self::Event>;
}

impl<M: Machine + ?Sized> Machine for Box<M> {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        (**self).handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        (**self).accept(now, incoming)
    }

    fn poll_output(&mut self) -> Option<Output> {
        (**self).poll_output()
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        (**self).poll_job()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        (**self).poll_timeout()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        (**self).poll_transmit(now, on, limit, buf)
    }

    fn poll_send(
        &mut self,
        now: Instant,
        stream: StreamId,
        max: usize,
        out: &mut Vec<Bytes>,
    ) -> usize {
        (**self).poll_send(now, stream, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        (**self).recv_credit(stream)
    }
}

/// Least credit that is not zero, in bytes.
pub const RECV_CREDIT_MIN: usize = 4 * 1024;
