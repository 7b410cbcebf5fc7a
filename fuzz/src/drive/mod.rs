//! Any machine, driven by bytes, and held to the contract of [`teem_core::machine`].
//!
//! [`drive`] is a driver whose every decision is a byte: streams that connect, fail, receive and
//! close in any order, ids that are stale or never were, datagrams, time that stands, jumps by
//! powers of two and runs backwards, jobs completed in any order, failed, completed twice or with
//! the wrong kind of output, loans settled with odd counts, outputs taken late or not at all.
//! [`drive_app`] adds the embedder's side: commands made of the same bytes, and events.
//!
//! What is held, besides that nothing panics, is in [`Broken`], a promise a variant. Both
//! functions panic with it; [`Driver::run`] and [`Driver::run_app`] return it.
//!
//! # Fuzzing your own machine
//!
//! ```
//! use teem_core::ids::CommandToken;
//! use teem_core::machine::echo::{Command, Echo};
//! use teem_core::time::Instant;
//! use teem_fuzz::drive::{Unstructured, drive_app};
//!
//! fn fuzz(bytes: &[u8]) {
//!     let mut machine = Echo::new(Instant::ORIGIN);
//!     let commands = |u: &mut Unstructured<'_>| {
//!         let address = u.arbitrary().ok()?;
//!         Some(Command::Listen(CommandToken(1), address))
//!     };
//!     drive_app(&mut machine, bytes, commands);
//! }
//! fuzz(b"whatever libFuzzer, a corpus or a seed has to say");
//! ```
//!
//! A machine whose strangers must speak a protocol to get anywhere is given a [`World`] that
//! speaks it: see [`Driver::world`], and this crate's own targets.

mod jobs;
mod run;
#[cfg(test)]
mod tests;

pub use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use teem_core::ids::{JobId, ListenerId, SocketId, StreamId};
use teem_core::machine::{Application, Job, JobResult, Machine};
use teem_core::time::Instant;

use self::run::{Alone, Embedder, Run};

/// What a driven machine did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Driven {
    /// Decisions that the bytes came to.
    pub steps: u64,
    /// Calls of the machine, getters among them.
    pub calls: u64,
    /// Of these, inputs.
    pub inputs: u64,
    /// Commands handed in.
    pub commands: u64,
    /// Outputs taken.
    pub outputs: u64,
    /// Jobs taken.
    pub jobs: u64,
    /// Events taken.
    pub events: u64,
    /// Streams that there were: granted or asked for.
    pub streams: u64,
    /// Of these, what the machine asked for at the very end.
    pub streams_left: u64,
    /// Bytes that streams received.
    pub received_bytes: u64,
    /// Bytes that left on streams.
    pub sent_bytes: u64,
    /// Datagrams handed in.
    pub datagrams_in: u64,
    /// Datagrams taken.
    pub datagrams_out: u64,
}

/// A promise of the contract that a machine broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// Rule 7: an id names one stream, ever.
    #[error("{0:?} was handed out twice")]
    StreamReused(StreamId),
    /// Rule 7: an id names one job, ever.
    #[error("{0:?} was handed out twice")]
    JobReused(JobId),
    /// Rule 7: an id names one listener, ever.
    #[error("{0:?} was handed out twice")]
    ListenerReused(ListenerId),
    /// Rule 7: an id names one socket, ever.
    #[error("{0:?} was handed out twice")]
    SocketReused(SocketId),
    /// An output names a stream that was never handed out.
    #[error("{0:?} was never handed out")]
    StreamUnknown(StreamId),
    /// An output names a stream after its end.
    #[error("{0:?} is named after its end")]
    StreamEnded(StreamId),
    /// Rule 3: whoever sleeps until the deadline gets past it.
    #[error("after a timeout at {now:?} the timer \"{reason}\" is due at {at:?}")]
    TimeStandsStill {
        /// When the timeout was handed in.
        now: Instant,
        /// When the next one is wanted.
        at: Instant,
        /// The timer's name.
        reason: &'static str,
    },
    /// Rule 3: `poll_timeout` is pure.
    #[error("poll_timeout says one thing and then another, with no call between")]
    TimeoutUnstable,
    /// Rule 6: without input, output ends.
    #[error("more than {max} {what} without an input")]
    Endless {
        /// Of what.
        what: &'static str,
        /// What the driver was told to bear.
        max: usize,
    },
    /// Rule 6: what waits is bounded.
    #[error("{count} {what} wait, more than {max}")]
    Unbounded {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// What the driver was told to bear.
        max: usize,
    },
    /// One loan per stream.
    #[error("{0:?} lends while a loan lasts")]
    SecondLoan(StreamId),
    /// `poll_send` lends at most what was asked for, and counts what it lends.
    #[error("{stream:?} lent {lent} bytes, said {said}, of at most {max}")]
    WrongLoan {
        /// Which stream.
        stream: StreamId,
        /// Bytes in the handles.
        lent: usize,
        /// Bytes it told of.
        said: usize,
        /// Bytes that were asked for.
        max: usize,
    },
    /// Credit is nothing, or worth a read.
    #[error("{0:?} has a credit of {1}")]
    SmallCredit(StreamId, usize),
    /// A dead stream has neither credit nor bytes to send.
    #[error("{0:?} is gone and has credit or bytes to send")]
    DeadStreamLives(StreamId),
    /// `poll_transmit` keeps to its limit, and says what it appended.
    #[error("a transmit on {0:?} is not what it says, or more than was asked for")]
    WrongTransmit(SocketId),
    /// Rule 7: what is said of something gone is ignored; rule 5: a job has one completion.
    #[error("{0} had an effect")]
    StaleTookEffect(&'static str),
}

/// How much a machine may ask for, and how long it is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Decisions; what is left of the input then is not looked at.
    pub steps_max: usize,
    /// Outputs, events or datagrams in a row without an input.
    pub outputs_max: usize,
    /// Jobs that are not completed.
    pub jobs_max: usize,
    /// Bytes that one stream has to send.
    pub send_bytes_max: usize,
    /// Streams that the driver opens; the machine may ask for more.
    pub streams_max: usize,
}

impl Default for Limits {
    /// 1,000 steps; 10,000 outputs, 4,096 jobs, 16 MiB; 16 streams.
    fn default() -> Self {
        Self {
            steps_max: 1_000,
            outputs_max: 10_000,
            jobs_max: 4_096,
            send_bytes_max: 16 * 1024 * 1024,
            streams_max: 16,
        }
    }
}

/// Who is at the other end of everything. The defaults know no protocol.
pub trait World {
    /// What a stranger says on a stream; none: nothing. By default, the next bytes as they are.
    fn say(&mut self, stream: StreamId, u: &mut Unstructured<'_>) -> Option<Bytes> {
        let _ = stream;
        run(u).map(Bytes::copy_from_slice)
    }

    /// A stranger is sent this.
    fn heard(&mut self, stream: StreamId, parts: &[Bytes]) {
        let _ = (stream, parts);
    }

    /// A datagram that comes, perhaps in answer to the last that went; none: nothing.
    fn datagram(&mut self, last: &[u8], u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
        let _ = last;
        run(u).map(<[u8]>::to_vec)
    }

    /// How a job ends well; none: as it may, with zeros for content.
    fn job(&mut self, job: &Job) -> Option<JobResult> {
        let _ = job;
        None
    }
}

impl World for () {}

/// The next bytes: as many as the next one says; none if that is zero.
fn run<'a>(u: &mut Unstructured<'a>) -> Option<&'a [u8]> {
    let len = usize::from(u8::arbitrary(u).ok()?).min(u.len());
    if len == 0 { None } else { u.bytes(len).ok() }
}

/// [`drive`] with settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Driver<W = ()> {
    limits: Limits,
    world: W,
}

impl Driver {
    /// With default limits, in a world that knows no protocol.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<W: World> Driver<W> {
    /// Bears this much.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// In this world.
    pub fn world<V: World>(self, world: V) -> Driver<V> {
        Driver { limits: self.limits, world }
    }

    /// Drives `machine` as `bytes` say, then closes and fails everything and lets the last timers
    /// run. Returns the first promise that it broke.
    pub fn run<M: Machine + ?Sized>(self, machine: &mut M, bytes: &[u8]) -> Result<Driven, Broken> {
        Run::new(machine, Alone, self.world, self.limits, bytes).whole()
    }

    /// As [`run`](Self::run), with commands. `commands` makes one of the bytes; none: not now.
    pub fn run_app<A: Application + ?Sized>(
        self,
        machine: &mut A,
        bytes: &[u8],
        commands: impl FnMut(&mut Unstructured<'_>) -> Option<A::Command>,
    ) -> Result<Driven, Broken> {
        Run::new(machine, Embedder(commands), self.world, self.limits, bytes).whole()
    }
}

/// Drives `machine` as `bytes` say; panics with the [promise](Broken) that it broke.
pub fn drive<M: Machine + ?Sized>(machine: &mut M, bytes: &[u8]) -> Driven {
    kept(Driver::new().run(machine, bytes))
}

/// As [`drive`], with commands. `commands` makes one of the bytes; none: not now.
pub fn drive_app<A: Application + ?Sized>(
    machine: &mut A,
    bytes: &[u8],
    commands: impl FnMut(&mut Unstructured<'_>) -> Option<A::Command>,
) -> Driven {
    kept(Driver::new().run_app(machine, bytes, commands))
}

pub(crate) fn kept(result: Result<Driven, Broken>) -> Driven {
    result.unwrap_or_else(|broken| panic!("{broken}: {broken:?}"))
}
