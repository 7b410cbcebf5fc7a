//! What a machine asks of its driver.

use alloc::boxed::Box;
use core::net::{IpAddr, SocketAddr};

use super::input::Ecn;
use crate::ids::{JobId, ListenerId, SocketId, StreamId};
use crate::time::Instant;

/// One thing to do. At most 32 bytes; what is larger is boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Listen for streams.
    Listen(Box<Listen>),
    /// Stop listening; the id is dead.
    Unlisten(ListenerId),
    /// Bind a datagram socket.
    Bind(Box<Bind>),
    /// Close a datagram socket; the id is dead.
    Unbind(SocketId),
    /// Connect a stream.
    Connect(Box<Connect>),
    /// Close a stream; the id is dead.
    Close {
        /// Which one.
        stream: StreamId,
        /// How.
        how: Shutdown,
    },
    /// Edge: the stream's credit went from zero to more.
    WantRead(StreamId),
    /// Edge: there are bytes to send again.
    WantWrite(StreamId),
    /// Edge: there are datagrams to send again.
    WantTransmit(SocketId),
    /// Edge: there is slow work again.
    WantJob,
    /// Nobody waits for this job any more; it may be left undone, and is completed all the same.
    CancelJob(JobId),
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The new listener's id.
    pub listener: ListenerId,
    /// Address and port; port zero takes a free one.
    pub address: SocketAddr,
    /// Whether its streams speak TLS, with the driver's certificate. The machine sees plaintext; a
    /// stream that does not get so far is closed like one that breaks.
    pub tls: bool,
}

/// What to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The new socket's id.
    pub socket: SocketId,
    /// Address and port; port zero takes a free one.
    pub address: SocketAddr,
    /// Whether others on this machine may bind the same port.
    pub reuse: bool,
    /// A multicast group to join.
    pub multicast: Option<IpAddr>,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The new stream's id.
    pub stream: StreamId,
    /// The other end.
    pub to: SocketAddr,
    /// Our end's address, if it matters; port zero takes a free one.
    pub from: Option<SocketAddr>,
    /// The name that the other end's certificate must carry: TLS is the driver's, the machine sees
    /// plaintext.
    pub tls: Option<Box<str>>,
}

/// How to close a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// What was handed over arrives first.
    Graceful,
    /// At once.
    Abort,
}

/// When to call again, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// The timer that is due: the machine's own name for it.
    pub reason: &'static str,
}

/// What one [`poll_transmit`](super::Machine::poll_transmit) may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TransmitLimit {
    /// Datagrams, at least one.
    pub datagrams: usize,
    /// Bytes over all of them.
    pub bytes: usize,
}

impl TransmitLimit {
    /// One datagram of any size.
    pub const ONE: Self = Self { datagrams: 1, bytes: usize::MAX };
}

/// Where datagrams in the caller's buffer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The other end.
    pub to: SocketAddr,
    /// Our address to send from, where it matters.
    pub from: Option<IpAddr>,
    /// The congestion mark to send with.
    pub ecn: Option<Ecn>,
    /// Bytes appended to the buffer.
    pub len: usize,
    /// Bytes per datagram, the last may be shorter; none: it is one datagram.
    pub segment: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_small() {
        assert!(size_of::<Output>() <= 24, "{}", size_of::<Output>());
        assert!(size_of::<Option<Output>>() <= 24);
        assert!(size_of::<Option<Deadline>>() <= 24);
    }
}
