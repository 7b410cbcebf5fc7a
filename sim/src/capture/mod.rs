//! Captures: what chosen hosts send and receive, as a pcapng file that tshark and Wireshark read.
//!
//! ```text
//!   streams --> Conversation (made up) ----segments--+
//!   positions of streams --> Ends (real) --segments--+
//!                                                    v
//!   datagrams -----------------------------------> Capture --blocks--> io::Write
//! ```
//!
//! A [`Capture`] has an interface for each of its hosts and writes as it goes: packets of IPv4 and
//! IPv6 with right checksums, times in nanoseconds, and whether each was sent or received. Nothing
//! here opens a file, and a capture has no influence on the run: where writing fails, it ends, and
//! the run goes on.
//!
//! What goes from one host of the capture to another is there once, so that whoever follows a
//! connection does not find everything sent twice: whoever hands packets in sees to that.

mod conversation;
mod ends;
mod packet;
pub(crate) mod pcapng;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::BitOr;

pub(crate) use self::conversation::{Conversation, Sink, Who};
pub(crate) use self::ends::Ends;
pub use self::packet::SACK_MAX;

use crate::net::{HostId, WALL};
use crate::time::Nanos;

/// Bytes that are kept before they are written.
const BUFFER: usize = 64 * 1024;

/// What the file says it was made by.
const APPLICATION: &str = concat!("teem-sim ", env!("CARGO_PKG_VERSION"));

/// Which way a packet goes, as the interface has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The host receives it.
    In,
    /// The host sends it.
    Out,
}

/// What a TCP segment says beside its payload (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sends it.
    pub from: SocketAddr,
    /// Who is to receive it.
    pub to: SocketAddr,
    /// The number of its first byte, or of its SYN or FIN.
    pub seq: u32,
    /// The number that is expected next, where [`Flags::ACK`] is set.
    pub ack: u32,
    /// What it does.
    pub flags: Flags,
    /// Bytes that its sender has room for, as they are written: scaled, but for a SYN.
    pub window: u16,
    /// Its options.
    pub options: SegmentOptions,
}

/// Control bits of a segment, as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more comes.
    pub const FIN: Self = Self(0x01);
    /// A call.
    pub const SYN: Self = Self(0x02);
    /// The connection is dead, or was never made.
    pub const RST: Self = Self(0x04);
    /// Whoever wrote it waits for no more.
    pub const PSH: Self = Self(0x08);
    /// [`Segment::ack`] counts.
    pub const ACK: Self = Self(0x10);
    /// Congestion was experienced (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// The window was reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all of these are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Options of a segment. All of them together are too long for one: what a call says, and
/// [`sack`](Self::sack), exclude each other (RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentOptions {
    /// The longest payload that its sender takes; of calls.
    pub max_segment: Option<u16>,
    /// By how many bits windows are shifted (RFC 7323); of calls.
    pub window_scale: Option<u8>,
    /// Selective acknowledgements are understood (RFC 2018); of calls.
    pub sack_permitted: bool,
    /// The sender's clock, and what it heard of the other's (RFC 7323).
    pub timestamps: Option<(u32, u32)>,
    /// What arrived beyond what is acknowledged: first number, and the one after the last.
    pub sack: [Option<(u32, u32)>; SACK_MAX],
}

impl SegmentOptions {
    /// None.
    pub const NONE: Self = Self {
        max_segment: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: [None; SACK_MAX],
    };
}

/// What was captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Packets.
    pub packets: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// See the [module](self).
pub struct Capture {
    /// None once it failed.
    to: Option<Box<dyn Write + Send>>,
    error: Option<io::Error>,
    interfaces: BTreeMap<HostId, u32>,
    buf: Vec<u8>,
    captured: Captured,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("interfaces", &self.interfaces)
            .field("captured", &self.captured)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl Capture {
    /// Of no host yet, written to `to`; the file says `comment` of itself, if that is not empty.
    ///
    /// It is written in parts of some 64 KiB. One that is dropped, be it by a panic, writes what it
    /// has, and tells nobody how that went: [`finish`](Self::finish) does.
    pub fn new(to: Box<dyn Write + Send>, comment: &str) -> Self {
        let mut buf = Vec::with_capacity(BUFFER);
        pcapng::section(&mut buf, APPLICATION, comment);
        let (interfaces, captured) = (BTreeMap::new(), Captured::default());
        Self { to: Some(to), error: None, interfaces, buf, captured }
    }

    /// A host more, at this address: an interface `hostN`, described so if that is not empty.
    /// Nothing changes for a host that is there.
    pub fn add_host(&mut self, host: HostId, ip: IpAddr, description: &str) {
        if !self.has(host) {
            self.interfaces.insert(host, self.interfaces.len() as u32);
            pcapng::interface(&mut self.buf, &format!("host{host}"), description, ip);
        }
    }

    /// Whether a host is captured.
    pub fn has(&self, host: HostId) -> bool {
        self.interfaces.contains_key(&host)
    }

    /// A host sends or receives a segment; nothing if the host is not of the capture. Times never
    /// go back from one packet to the next.
    ///
    /// A payload that no packet can carry is left out, and so is one of
    /// [`datagram`](Self::datagram).
    pub fn segment(
        &mut self,
        at: Nanos,
        host: HostId,
        direction: Direction,
        segment: &Segment,
        payload: &[u8],
    ) {
        if packet::fits_segment(payload) {
            self.packet(at, host, direction, |buf| packet::segment(buf, segment, payload));
        }
    }

    /// A host sends or receives a datagram; nothing if the host is not of the capture.
    pub fn datagram(
        &mut self,
        at: Nanos,
        host: HostId,
        direction: Direction,
        (from, to): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) {
        if packet::fits_datagram(payload) {
            self.packet(at, host, direction, |buf| packet::datagram(buf, from, to, payload));
        }
    }

    fn packet(
        &mut self,
        at: Nanos,
        host: HostId,
        direction: Direction,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(interface) = self.interfaces.get(&host).filter(|_| self.to.is_some()) else {
            return;
        };
        // The clock on the wall, as it is right.
        let nanos = WALL.0.saturating_mul(1_000_000_000).saturating_add(at.0);
        pcapng::packet(&mut self.buf, *interface, nanos, direction, write);
        self.captured.packets += 1;
        if self.buf.len() >= BUFFER {
            self.write();
        }
    }

    /// Writes what is there; nothing once it failed.
    fn write(&mut self) {
        if let Some(to) = &mut self.to {
            match to.write_all(&self.buf) {
                Ok(()) => self.captured.bytes += self.buf.len() as u64,
                Err(error) => {
                    self.error = Some(error);
                    self.to = None;
                }
            }
        }
        self.buf.clear();
    }

    /// Writes what is left. The error is the first there was: everything after it is missing.
    pub fn finish(mut self) -> io::Result<Captured> {
        self.write();
        if let Some(mut to) = self.to.take() {
            to.flush()?;
        }
        self.error.take().map_or(Ok(self.captured), Err)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.write();
        if let Some(to) = &mut self.to {
            // Whoever wants to know calls `finish`.
            let _ = to.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::pcapng::tests::{Block, read};
    use super::*;

    /// What was written, for whoever asks; no more than so many bytes can be.
    #[derive(Clone)]
    struct Shared(Arc<Mutex<Vec<u8>>>, usize);

    impl Shared {
        fn new(room: usize) -> Self {
            Self(Arc::default(), room)
        }

        fn bytes(&self) -> Vec<u8> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            all.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn way() -> (SocketAddr, SocketAddr) {
        ((ip(1), 1).into(), (ip(2), 2).into())
    }

    #[test]
    fn a_capture_has_an_interface_for_each_host_and_real_times() {
        let shared = Shared::new(usize::MAX);
        let mut capture = Capture::new(Box::new(shared.clone()), "a test");
        capture.add_host(7, ip(1), "");
        capture.add_host(3, ip(2), "a tracker");
        capture.add_host(7, ip(9), "the same once more");
        capture.datagram(Nanos(5), 3, Direction::In, way(), b"hello");
        capture.datagram(Nanos(6), 4, Direction::In, way(), b"of nobody");
        capture.datagram(Nanos(6), 3, Direction::In, way(), &vec![0; 65_508]);
        let captured = capture.finish().expect("there is room");
        let bytes = shared.bytes();
        assert_eq!(captured, Captured { packets: 1, bytes: bytes.len() as u64 });
        let blocks = read(&bytes);
        assert_eq!(blocks.len(), 4);
        let Block::Section { options } = &blocks[0] else { panic!("{blocks:?}") };
        assert_eq!(options[1], (1, b"a test".to_vec()));
        let Block::Packet { interface, nanos, bytes, .. } = &blocks[3] else {
            panic!("{blocks:?}")
        };
        assert_eq!((*interface, *nanos), (1, 1_800_000_000_000_000_005));
        assert_eq!(bytes.len(), 20 + 8 + 5);
    }

    #[test]
    fn what_is_captured_is_written_as_it_goes() {
        let shared = Shared::new(usize::MAX);
        let mut capture = Capture::new(Box::new(shared.clone()), "");
        capture.add_host(0, ip(1), "");
        for packet in 0..1_000 {
            capture.datagram(Nanos(packet), 0, Direction::Out, way(), &[0; 1_000]);
            assert!(capture.buf.capacity() <= 2 * BUFFER);
        }
        assert!(shared.bytes().len() > 1_000_000 - BUFFER);
        drop(capture);
        assert_eq!(read(&shared.bytes()).len(), 1_002, "what was left, too");
    }

    #[test]
    fn an_error_is_told_once_and_ends_the_capture() {
        let shared = Shared::new(100_000);
        let mut capture = Capture::new(Box::new(shared.clone()), "");
        capture.add_host(0, ip(1), "");
        for packet in 0..1_000 {
            capture.datagram(Nanos(packet), 0, Direction::Out, way(), &[0; 1_000]);
        }
        assert!(capture.buf.is_empty());
        assert!(capture.captured.packets < 200, "{:?}", capture.captured);
        assert!(!read(&shared.bytes()).is_empty(), "what is there is whole");
        let error = capture.finish().expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
