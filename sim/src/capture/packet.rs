//! Packets: the headers of IPv4, IPv6, TCP and UDP, with their checksums.
//!
//! IPv4 (RFC 791) without options and never in fragments, IPv6 (RFC 8200) without extensions, TCP
//! (RFC 9293) with the options that are in use, UDP (RFC 768).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Segment, SegmentOptions};

/// Numbers of the protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;

/// Hops that a packet may take when it leaves, and has left: nothing here counts them.
const HOPS: u8 = 64;

/// Blocks of selective acknowledgement that fit beside timestamps (RFC 2018).
pub const SACK_MAX: usize = 3;

/// Where from and where to, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Way {
    /// Addresses that stand for IPv4 are that, unless the other end is no such.
    fn new(from: IpAddr, to: IpAddr) -> Self {
        match (from.to_canonical(), to.to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::V4(from, to),
            (from, to) => Self::V6(v6(from), v6(to)),
        }
    }
}

const fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Whether a payload goes in one segment, whatever its options.
pub(super) const fn fits_segment(payload: &[u8]) -> bool {
    payload.len() <= u16::MAX as usize - IPV4_HEADER - 60
}

/// Whether a payload goes in one datagram.
pub(super) const fn fits_datagram(payload: &[u8]) -> bool {
    payload.len() <= u16::MAX as usize - IPV4_HEADER - UDP_HEADER
}

/// Appends a datagram whose payload [fits](fits_datagram).
pub(super) fn datagram(buf: &mut Vec<u8>, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let way = Way::new(from.ip(), to.ip());
    let len = UDP_HEADER + payload.len();
    ip(buf, way, UDP, len);
    let start = buf.len();
    buf.extend_from_slice(&from.port().to_be_bytes());
    buf.extend_from_slice(&to.port().to_be_bytes());
    buf.extend_from_slice(&(len as u16).to_be_bytes());
    buf.extend_from_slice(&[0; 2]);
    buf.extend_from_slice(payload);
    // Zero would say that there is none.
    let sum = match checksum(pseudo(way, UDP, len), &buf[start..]) {
        0 => u16::MAX,
        sum => sum,
    };
    buf[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
}

/// Appends a segment whose payload [fits](fits_segment).
pub(super) fn segment(buf: &mut Vec<u8>, segment: &Segment, payload: &[u8]) {
    let way = Way::new(segment.from.ip(), segment.to.ip());
    let (options, options_len) = tcp_options(&segment.options);
    let options = &options[..options_len];
    let header = TCP_HEADER + options.len();
    let len = header + payload.len();
    ip(buf, way, TCP, len);
    let start = buf.len();
    buf.extend_from_slice(&segment.from.port().to_be_bytes());
    buf.extend_from_slice(&segment.to.port().to_be_bytes());
    buf.extend_from_slice(&segment.seq.to_be_bytes());
    buf.extend_from_slice(&segment.ack.to_be_bytes());
    buf.extend_from_slice(&[((header / 4) as u8) << 4, segment.flags.0]);
    buf.extend_from_slice(&segment.window.to_be_bytes());
    // The checksum, and no pointer to urgent data.
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(options);
    buf.extend_from_slice(payload);
    let sum = checksum(pseudo(way, TCP, len), &buf[start..]);
    buf[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
}

/// Options, each aligned by no-operations before it, and how many bytes of these they are.
fn tcp_options(options: &SegmentOptions) -> ([u8; 40], usize) {
    let mut bytes = [0; 40];
    let mut len = 0;
    let mut put = |part: &[u8]| {
        bytes[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    };
    if let Some(size) = options.max_segment {
        let [high, low] = size.to_be_bytes();
        put(&[2, 4, high, low]);
    }
    if let Some(scale) = options.window_scale {
        put(&[1, 3, 3, scale]);
    }
    if options.sack_permitted {
        put(&[1, 1, 4, 2]);
    }
    if let Some((value, echo)) = options.timestamps {
        put(&[1, 1, 8, 10]);
        put(&value.to_be_bytes());
        put(&echo.to_be_bytes());
    }
    let blocks = options.sack.iter().flatten().count();
    if blocks > 0 {
        put(&[1, 1, 5, 2 + 8 * blocks as u8]);
        for (from, to) in options.sack.iter().flatten() {
            put(&from.to_be_bytes());
            put(&to.to_be_bytes());
        }
    }
    (bytes, len)
}

/// Appends the header of a packet of so many bytes without it.
fn ip(buf: &mut Vec<u8>, way: Way, protocol: u8, len: usize) {
    let start = buf.len();
    match way {
        Way::V4(from, to) => {
            // Version and length in words; no class of service.
            buf.extend_from_slice(&[0x45, 0]);
            buf.extend_from_slice(&((IPV4_HEADER + len) as u16).to_be_bytes());
            // No identification, which is for fragments alone (RFC 6864); must not be cut into any.
            buf.extend_from_slice(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            buf.extend_from_slice(&from.octets());
            buf.extend_from_slice(&to.octets());
            let sum = checksum(0, &buf[start..]).to_be_bytes();
            buf[start + 10..start + 12].copy_from_slice(&sum);
        }
        Way::V6(from, to) => {
            buf.extend_from_slice(&[0x60, 0, 0, 0]);
            buf.extend_from_slice(&(len as u16).to_be_bytes());
            buf.extend_from_slice(&[protocol, HOPS]);
            buf.extend_from_slice(&from.octets());
            buf.extend_from_slice(&to.octets());
        }
    }
}

/// The sum of what TCP and UDP check beside themselves (RFC 9293, 3.1; RFC 8200, 8.1).
fn pseudo(way: Way, protocol: u8, len: usize) -> u64 {
    let addresses = match way {
        Way::V4(from, to) => sum(&from.octets()) + sum(&to.octets()),
        Way::V6(from, to) => sum(&from.octets()) + sum(&to.octets()),
    };
    addresses + u64::from(protocol) + len as u64
}

/// The sum of 16-bit words, the last filled up with zero; carries are in the upper bits.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    words + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

/// The Internet checksum (RFC 1071) of these bytes and what was summed before them.
fn checksum(before: u64, bytes: &[u8]) -> u16 {
    let mut sum = before + sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Flags;
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn plain(from: &str, to: &str) -> Segment {
        Segment {
            from: address(from),
            to: address(to),
            seq: 0x0102_0304,
            ack: 0x0506_0708,
            flags: Flags::PSH | Flags::ACK,
            window: 0x0910,
            options: SegmentOptions::NONE,
        }
    }

    /// What a receiver does: over everything, the checksum too, it is zero.
    fn is_right(packet: &[u8]) -> bool {
        let (way, header) = if packet[0] >> 4 == 4 {
            let at = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
            assert_eq!(checksum(0, &packet[..20]), 0, "of the header");
            assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
            (Way::V4(at(12), at(16)), 20)
        } else {
            let at =
                |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
            assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
            (Way::V6(at(8), at(24)), 40)
        };
        let protocol = if header == 20 { packet[9] } else { packet[6] };
        let rest = &packet[header..];
        checksum(pseudo(way, protocol, rest.len()), rest) == 0
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 1071, section 3: the sum is ddf2 with its carries.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0x2_ddf0);
        assert_eq!(checksum(0, &bytes), !0xddf2);
        assert_eq!(checksum(0, &bytes[..7]), !0xdcfb);
        // A header that is in many textbooks: 192.168.0.1 to 192.168.0.199, UDP, b861.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(0, &header), 0xb861);
        let mut buf = Vec::new();
        let payload = [0; 0x73 - 28];
        datagram(&mut buf, address("192.168.0.1:1"), address("192.168.0.199:2"), &payload);
        assert_eq!(buf[..10], header[..10]);
        assert_eq!(buf[10..12], [0xb8, 0x61]);
        assert_eq!(buf[12..20], header[12..]);
    }

    #[test]
    fn a_segment_is_laid_out_as_the_rfc_says() {
        let mut buf = Vec::new();
        let mut wanted = plain("10.0.0.1:258", "10.0.0.2:772");
        wanted.options = SegmentOptions {
            max_segment: Some(1_460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 2)),
            sack: [Some((3, 4)), None, None],
        };
        segment(&mut buf, &wanted, b"hello");
        let tcp = &buf[20..];
        assert_eq!(
            tcp[..14],
            [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, ((20 + 36) / 4) << 4, 0x18],
            "ports, seq, ack, length, flags"
        );
        assert_eq!(tcp[14..16], [9, 16]);
        assert_eq!(tcp[18..20], [0, 0]);
        assert_eq!(tcp[20..32], [2, 4, 0x05, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2]);
        assert_eq!(tcp[32..44], [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(tcp[44..56], [1, 1, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(&tcp[56..], b"hello");
        assert!(is_right(&buf));
    }

    #[test]
    fn all_options_at_once_fit_for_a_segment_that_is_no_call() {
        let mut wanted = plain("10.0.0.1:1", "10.0.0.2:2");
        wanted.options.timestamps = Some((1, 2));
        wanted.options.sack = [Some((1, 2)); SACK_MAX];
        let mut buf = Vec::new();
        segment(&mut buf, &wanted, b"");
        assert_eq!(buf.len(), 20 + 60);
        assert!(is_right(&buf));
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_one_is_ipv4_where_it_can_be() {
        let mut buf = Vec::new();
        datagram(&mut buf, address("[::ffff:10.0.0.1]:1"), address("10.0.0.2:2"), b"x");
        assert_eq!((buf[0], buf.len()), (0x45, 29));
        assert!(is_right(&buf));
        buf.clear();
        datagram(&mut buf, address("10.0.0.1:1"), address("[fd00::1]:2"), b"x");
        assert_eq!((buf[0], buf.len()), (0x60, 49));
        assert_eq!(buf[8 + 10..8 + 16], [0xff, 0xff, 10, 0, 0, 1]);
        assert!(is_right(&buf));
    }

    proptest! {
        #[test]
        fn a_receiver_finds_every_checksum_right(
            from in any::<(IpAddr, u16)>(),
            to in any::<(IpAddr, u16)>(),
            seq in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let (from, to) = (SocketAddr::from(from), SocketAddr::from(to));
            let mut buf = Vec::new();
            datagram(&mut buf, from, to, &payload);
            prop_assert!(is_right(&buf));
            buf.clear();
            segment(&mut buf, &Segment { from, to, seq, ..plain("10.0.0.1:1", "10.0.0.1:2") }, &payload);
            prop_assert!(is_right(&buf));
        }

        #[test]
        fn no_datagram_says_that_it_has_no_checksum(word in any::<[u8; 2]>()) {
            // Whatever the rest sums up to, one of all words makes zero of it.
            let mut buf = Vec::new();
            datagram(&mut buf, address("10.0.0.1:1"), address("10.0.0.2:2"), &word);
            prop_assert_ne!(&buf[26..28], &[0, 0]);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_all_ones() {
        let mut buf = Vec::new();
        datagram(&mut buf, address("10.0.0.1:1"), address("10.0.0.2:2"), &[0, 0]);
        let word = [buf[26], buf[27]];
        buf.clear();
        datagram(&mut buf, address("10.0.0.1:1"), address("10.0.0.2:2"), &word);
        assert_eq!(buf[26..28], [0xff, 0xff]);
        assert!(is_right(&buf));
    }
}
