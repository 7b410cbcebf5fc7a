//! Packets: the model behind the `packet` fidelity.
//!
//! Owns what happens to single packets between two hosts, as machines without I/O and without a
//! clock; [`net`](crate::net) moves packets from one to the next.
//!
//! ```text
//!   TCP sender --> up link --> way between --> down link --> TCP receiver
//!      tcp          queue          line          queue            tcp
//! ```
//!
//! - [`queue`]: a link that sends at a rate, and the queue before it: tail drop, or `CoDel`.
//! - [`mod@line`]: what else befalls a packet: bursts of losses, copies, detours, damage, a path MTU.
//! - [`tcp`]: both ends of a TCP connection without its bytes: windows, acknowledgements, timers.
//!
//! Refuses: payload (a segment is a range of a stream; the bytes stay with the sender until the
//! receiver has them in order), addresses, and who talks to whom.

pub mod line;
pub mod queue;
pub mod tcp;

/// Bytes of an IPv4 and a UDP header.
pub const UDP_HEADERS: usize = 28;

/// Bytes of an IPv4 and a TCP header with the timestamps option (RFC 7323).
pub const TCP_HEADERS: usize = 52;

/// The most that a packet has on Ethernet, in bytes.
pub const MTU: u16 = 1_500;
