//! What a driver tells a machine.

use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::job::JobResult;
use crate::ids::{JobId, ListenerId, SocketId, StreamId};
use crate::time::UnixTime;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Time passed; perhaps a deadline with it.
    Timeout,
    /// Datagrams arrived on a socket.
    #[serde(borrow)]
    Datagram(Datagram<'a>),
    /// Something happened to a stream.
    Stream(StreamId, StreamInput),
    /// A job is done, one way or the other.
    Job(JobId, JobResult),
    /// Something happened to a listener.
    Listener(ListenerId, ListenerInput),
    /// Something happened to a datagram socket.
    Socket(SocketId, SocketInput),
    /// What the clock on the wall says; told at the start and when it jumps.
    WallClock(UnixTime),
}

/// One or more datagrams from one sender, in one borrowed buffer.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram<'a> {
    /// The socket that received it.
    pub socket: SocketId,
    /// Who sent it, as far as the network says.
    pub from: SocketAddr,
    /// Our address that it was sent to, where the driver knows.
    pub local: Option<IpAddr>,
    /// The congestion mark, where the driver knows.
    pub ecn: Option<Ecn>,
    /// Bytes per datagram in `data` (GRO); the last one may be shorter. Zero: `data` is one.
    pub stride: usize,
    /// The bytes; a machine copies what it keeps.
    #[serde(borrow)]
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The single datagrams, in order of arrival.
    pub fn split(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let stride = if self.stride == 0 { self.data.len().max(1) } else { self.stride };
        self.data.chunks(stride)
    }
}

impl core::fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} from {}, {} bytes", self.socket, self.from, self.data.len())
    }
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ecn {
    /// The sender can handle marks.
    Capable0,
    /// The sender can handle marks, the other code point.
    Capable1,
    /// A router on the way is congested.
    Congested,
}

/// Somebody at the door of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Which listener.
    pub on: ListenerId,
    /// Who.
    pub from: SocketAddr,
    /// Our address that they connected to.
    pub local: SocketAddr,
}

/// What happens to a stream.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamInput {
    /// A stream we asked for is up; TLS, if any, is done.
    Connected {
        /// Our end's address.
        local: SocketAddr,
    },
    /// A stream we asked for did not come up. Its id is dead.
    ConnectFailed(StreamError),
    /// Bytes arrived, never zero of them.
    Received(Bytes),
    /// This many of the lent bytes left; the rest of the loan goes back.
    Sent(usize),
    /// The other side will send no more; what was sent is still read by it.
    ReadClosed,
    /// The stream is gone in both directions. Its id is dead.
    Closed(StreamError),
}

impl core::fmt::Debug for StreamInput {
    /// Payloads as lengths.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Connected { local } => write!(f, "Connected({local})"),
            Self::ConnectFailed(why) => write!(f, "ConnectFailed({why:?})"),
            Self::Received(bytes) => write!(f, "Received({} bytes)", bytes.len()),
            Self::Sent(count) => write!(f, "Sent({count})"),
            Self::ReadClosed => f.write_str("ReadClosed"),
            Self::Closed(why) => write!(f, "Closed({why:?})"),
        }
    }
}

/// Why a stream did not come up, or went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The other side, or something between, cut it.
    #[error("connection reset")]
    Reset,
    /// Nothing came back in time.
    #[error("timed out")]
    TimedOut,
    /// There is no way to that address.
    #[error("address unreachable")]
    Unreachable,
    /// There is no TLS with the other side, or there is no more of it.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// This machine is out of sockets, ports or memory.
    #[error("out of sockets or ports on this machine")]
    OutOfResources,
    /// This machine does not allow it.
    #[error("not permitted on this machine")]
    NotPermitted,
    /// Something else.
    #[error("connection failed")]
    Other,
}

impl StreamError {
    /// A number for each, the same in every build: for digests.
    pub const fn code(self) -> u16 {
        match self {
            Self::Refused => 0,
            Self::Reset => 1,
            Self::TimedOut => 2,
            Self::Unreachable => 3,
            Self::Tls(why) => 0x100 + why as u16,
            Self::OutOfResources => 5,
            Self::NotPermitted => 6,
            Self::Other => 7,
        }
    }
}

/// Why there is no TLS on a stream that was to have it: what a person can do something about, each
/// by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TlsError {
    /// Its certificate was good once.
    #[error("the certificate has expired")]
    Expired,
    /// Its certificate is not good yet, or this machine's clock is slow.
    #[error("the certificate is not valid yet, or this machine's clock is slow")]
    NotYetValid,
    /// Its certificate comes from somebody whom this machine does not trust, or from itself.
    #[error("the certificate's issuer is not trusted here")]
    UnknownIssuer,
    /// Its certificate is good, and not for the name that was asked for.
    #[error("the certificate is for another name")]
    WrongName,
    /// Its certificate was called back.
    #[error("the certificate was revoked")]
    Revoked,
    /// Its certificate cannot be used for this: damaged, for another purpose, or none at all.
    #[error("the certificate cannot be used")]
    BadCertificate,
    /// What answers is not TLS.
    #[error("the other side does not speak TLS")]
    NotTls,
    /// It broke off.
    #[error("the other side refused")]
    Refused,
    /// No version, cipher or key exchange is known to both.
    #[error("no version or cipher in common")]
    Incompatible,
    /// The stream ended, and the other side did not say that it would: what came may be a part.
    #[error("the stream was cut short")]
    Truncated,
    /// There is not one certificate authority that this machine trusts.
    #[error("no trusted certificates on this machine")]
    NoRoots,
    /// This driver has no TLS.
    #[error("not available here")]
    Unavailable,
    /// Something else.
    #[error("the handshake failed")]
    Other,
}

/// What happens to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerInput {
    /// It listens, at this address (the port is the real one).
    Bound(SocketAddr),
    /// It does not listen. Its id is dead.
    Failed(SocketError),
}

/// What happens to a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketInput {
    /// It is bound, at this address (the port is the real one).
    Bound(SocketAddr),
    /// It is not bound. Its id is dead.
    Failed(SocketError),
    /// The address it goes by changed.
    AddressChanged(SocketAddr),
    /// The network says that nothing reaches this address.
    Unreachable(SocketAddr),
    /// A datagram to this address was too big; this many bytes would do, if known.
    TooBig {
        /// Where it was going.
        to: SocketAddr,
        /// The largest that would pass, or zero.
        size: usize,
    },
}

/// Why a listener or socket cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SocketError {
    /// Another program has the port.
    #[error("the port is in use")]
    AddressInUse,
    /// The address is not one of this machine's.
    #[error("the address is not one of this machine's")]
    AddressNotAvailable,
    /// This machine does not allow it.
    #[error("not permitted")]
    NotPermitted,
    /// This machine is out of sockets or memory.
    #[error("out of sockets")]
    OutOfResources,
    /// Something else.
    #[error("the socket failed")]
    Other,
    /// It is to speak TLS, and there is no certificate to show.
    #[error("there is no certificate for TLS")]
    NoIdentity,
}
