//! A model of TCP, good enough to be a rival for congestion control.
//!
//! ```text
//!   push, finish --> [`Sender`] --Segment--> network --> [`Receiver`] --> bytes in order
//!                        ^                                    |
//!                        +---------- network <-----Ack--------+
//! ```
//!
//! Modelled: slow start from an initial window, Reno and CUBIC ([`control`]), selective
//! acknowledgements with the accounting of RFC 6675, limited transmit, lost retransmissions found by
//! the time at which they were sent (RFC 8985, in part), timeouts with backoff (RFC 6298) that are
//! taken back when they were spurious (RFC 3522), a smaller window after idleness (RFC 5681),
//! delayed acknowledgements, flow control with probes, and segments that become smaller when the
//! path says so, or says nothing (RFC 8899).
//!
//! Not modelled: the handshake (the caller makes connections), ECN, pacing, tail loss probes,
//! `HyStart`, and payload: a segment is a range of the stream.
//!
//! Positions in a stream are 64 bits wide and begin at zero; the end of a stream takes one. Nothing
//! here has a clock: timers are asked for ([`Sender::timer_at`], [`Receiver::timer_at`]).

mod control;
mod ranges;
mod receiver;
mod rtt;
mod sender;
#[cfg(test)]
mod tests;

use teem_core::time::Duration;

pub use control::Algorithm;
pub use receiver::{Receiver, Reply};
pub use sender::{Counts, Sender, Snapshot};

use crate::time::Nanos;

/// Payload of a full segment on Ethernet, with timestamps, in bytes.
pub const MSS: u16 = super::MTU - super::TCP_HEADERS as u16;

/// How an end of a connection behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How it finds its rate.
    pub algorithm: Algorithm,
    /// How many full segments it sends at first (RFC 6928).
    pub initial_segments: u16,
    /// Bytes that its receiver buffers: the window that it offers.
    pub receive_buffer: u32,
    /// Full segments that its receiver acknowledges at a time: 2 is usual, 1 delays nothing.
    pub ack_every: u8,
    /// How long its receiver waits for another one.
    pub ack_delay: Duration,
    /// Whether windows grow by the bytes that are acknowledged (RFC 3465) or by the number of
    /// acknowledgements (RFC 5681).
    pub counts_bytes: bool,
}

impl Config {
    /// As systems are: CUBIC, ten segments, 4 MiB.
    pub const DEFAULT: Self = Self {
        algorithm: Algorithm::Cubic,
        initial_segments: 10,
        receive_buffer: 4 * 1024 * 1024,
        ack_every: 2,
        ack_delay: Duration::from_millis(40),
        counts_bytes: true,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A part of a stream on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub seq: u64,
    /// Positions that it takes: its payload, and one for the end of the stream. None: it asks for
    /// an acknowledgement and carries nothing.
    pub len: u16,
    /// Whether the last of them is the end of the stream.
    pub finishes: bool,
    /// When it was sent (RFC 7323).
    pub sent_at: Nanos,
    /// Whether it was sent before.
    pub is_again: bool,
}

impl Segment {
    /// Bytes of payload.
    pub const fn payload(&self) -> u16 {
        self.len - self.finishes as u16
    }
}

/// What a receiver has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Everything before this.
    pub upto: u64,
    /// And these, the newest first: from, to.
    pub sacked: Box<[(u64, u64)]>,
    /// Bytes that it has room for, from [`upto`](Self::upto) on.
    pub window: u32,
    /// When what made it say so was sent (RFC 7323).
    pub echo: Nanos,
}
