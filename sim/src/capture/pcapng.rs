//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), appended to a buffer.
//!
//! One section, little-endian on every machine; interfaces may come between packets. Each block is
//! its type, its length, a body, options, and its length again; everything is padded to 32 bits.

use std::net::IpAddr;

use super::Direction;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Packets begin with the header of IPv4 or IPv6 (LINKTYPE_RAW).
pub(super) const LINK_TYPE: u16 = 101;

/// Times count in so many tenths of tenths of seconds: nanoseconds.
const RESOLUTION: u8 = 9;

// Options: of every block, ...
const END: u16 = 0;
const COMMENT: u16 = 1;
// ... of the section's header, ...
const APPLICATION: u16 = 4;
// ... of an interface, ...
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const IPV4_ADDRESS: u16 = 4;
const IPV6_ADDRESS: u16 = 5;
const TIME_RESOLUTION: u16 = 9;
// ... and of a packet.
const FLAGS: u16 = 2;

/// Bytes that an option's value can have.
const OPTION_MAX: usize = u16::MAX as usize;

/// The header of a section whose length is not known. Texts are cut at 65,535 bytes.
pub(super) fn section(buf: &mut Vec<u8>, application: &str, comment: &str) {
    block(buf, SECTION_HEADER, |buf| {
        buf.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        // Version 1.0.
        buf.extend_from_slice(&1_u16.to_le_bytes());
        buf.extend_from_slice(&0_u16.to_le_bytes());
        buf.extend_from_slice(&(-1_i64).to_le_bytes());
        text(buf, APPLICATION, application);
        if !comment.is_empty() {
            text(buf, COMMENT, comment);
        }
        option(buf, END, &[]);
    });
}

/// An interface with an address of its own; the next in number.
pub(super) fn interface(buf: &mut Vec<u8>, name: &str, description: &str, ip: IpAddr) {
    block(buf, INTERFACE_DESCRIPTION, |buf| {
        buf.extend_from_slice(&LINK_TYPE.to_le_bytes());
        buf.extend_from_slice(&0_u16.to_le_bytes());
        // Packets are whole, whatever their length.
        buf.extend_from_slice(&0_u32.to_le_bytes());
        text(buf, NAME, name);
        if !description.is_empty() {
            text(buf, DESCRIPTION, description);
        }
        match ip {
            // An address and a mask; an address and the length of a prefix.
            IpAddr::V4(ip) => {
                option(buf, IPV4_ADDRESS, &[ip.octets(), [255; 4]].concat());
            }
            IpAddr::V6(ip) => {
                option(buf, IPV6_ADDRESS, &[&ip.octets()[..], &[128]].concat());
            }
        }
        option(buf, TIME_RESOLUTION, &[RESOLUTION]);
        option(buf, END, &[]);
    });
}

/// A packet that an interface saw `nanos` after the beginning of 1970; `write` appends it.
pub(super) fn packet(
    buf: &mut Vec<u8>,
    interface: u32,
    nanos: u64,
    direction: Direction,
    write: impl FnOnce(&mut Vec<u8>),
) {
    block(buf, ENHANCED_PACKET, |buf| {
        buf.extend_from_slice(&interface.to_le_bytes());
        buf.extend_from_slice(&((nanos >> 32) as u32).to_le_bytes());
        buf.extend_from_slice(&(nanos as u32).to_le_bytes());
        let lens = buf.len();
        buf.extend_from_slice(&[0; 8]);
        let start = buf.len();
        write(buf);
        let len = ((buf.len() - start) as u32).to_le_bytes();
        buf[lens..lens + 4].copy_from_slice(&len);
        buf[lens + 4..start].copy_from_slice(&len);
        pad(buf, start);
        let flags = match direction {
            Direction::In => 1_u32,
            Direction::Out => 2,
        };
        option(buf, FLAGS, &flags.to_le_bytes());
        option(buf, END, &[]);
    });
}

fn block(buf: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = buf.len();
    buf.extend_from_slice(&kind.to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
    write(buf);
    pad(buf, start);
    let len = ((buf.len() - start + 4) as u32).to_le_bytes();
    buf[start + 4..start + 8].copy_from_slice(&len);
    buf.extend_from_slice(&len);
}

fn text(buf: &mut Vec<u8>, code: u16, value: &str) {
    option(buf, code, &value.as_bytes()[..value.floor_char_boundary(OPTION_MAX)]);
}

fn option(buf: &mut Vec<u8>, code: u16, value: &[u8]) {
    buf.extend_from_slice(&code.to_le_bytes());
    buf.extend_from_slice(&(value.len() as u16).to_le_bytes());
    let start = buf.len();
    buf.extend_from_slice(value);
    pad(buf, start);
}

fn pad(buf: &mut Vec<u8>, start: usize) {
    let len = (buf.len() - start).next_multiple_of(4);
    buf.resize(start + len, 0);
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block that was read back.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Block {
        Section { options: Options },
        Interface { link_type: u16, options: Options },
        Packet { interface: u32, nanos: u64, bytes: Vec<u8>, options: Options },
    }

    type Options = Vec<(u16, Vec<u8>)>;

    /// Reads everything, and panics at the first thing that is not as it must be.
    pub(crate) fn read(mut bytes: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let kind = word(take(&mut bytes, 4));
            let len = word(take(&mut bytes, 4)) as usize;
            assert!(len >= 12 && len.is_multiple_of(4), "{len}");
            let mut body = take(&mut bytes, len - 12);
            assert_eq!(word(take(&mut bytes, 4)) as usize, len, "at both ends");
            blocks.push(match kind {
                SECTION_HEADER => {
                    assert_eq!(word(take(&mut body, 4)), BYTE_ORDER_MAGIC);
                    assert_eq!(take(&mut body, 4), [1, 0, 0, 0], "version 1.0");
                    assert_eq!(take(&mut body, 8), [0xff; 8], "a length that is not known");
                    Block::Section { options: options(body) }
                }
                INTERFACE_DESCRIPTION => {
                    let head = take(&mut body, 8);
                    assert_eq!(head[2..], [0; 6]);
                    let link_type = u16::from_le_bytes([head[0], head[1]]);
                    Block::Interface { link_type, options: options(body) }
                }
                ENHANCED_PACKET => {
                    let interface = word(take(&mut body, 4));
                    let high = u64::from(word(take(&mut body, 4)));
                    let nanos = high << 32 | u64::from(word(take(&mut body, 4)));
                    let captured = word(take(&mut body, 4)) as usize;
                    assert_eq!(word(take(&mut body, 4)) as usize, captured, "whole");
                    let bytes = take(&mut body, captured).to_vec();
                    let padding = captured.next_multiple_of(4) - captured;
                    assert_eq!(take(&mut body, padding), &[0; 3][..padding]);
                    Block::Packet { interface, nanos, bytes, options: options(body) }
                }
                other => panic!("a block of type {other}"),
            });
        }
        blocks
    }

    fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(len);
        *bytes = rest;
        taken
    }

    fn word(bytes: &[u8]) -> u32 {
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    fn options(mut bytes: &[u8]) -> Options {
        let mut options = Vec::new();
        loop {
            let head = word(take(&mut bytes, 4));
            let (code, len) = (head as u16, (head >> 16) as usize);
            if code == END {
                assert!(len == 0 && bytes.is_empty(), "the end is the last");
                return options;
            }
            options.push((code, take(&mut bytes, len).to_vec()));
            let padding = len.next_multiple_of(4) - len;
            assert_eq!(take(&mut bytes, padding), &[0; 3][..padding]);
        }
    }

    #[test]
    fn an_interface_says_whose_it_is_and_how_times_count() {
        let mut buf = Vec::new();
        interface(&mut buf, "host7", "a seeder", IpAddr::from([10, 0, 0, 8]));
        interface(&mut buf, "host8", "", "fd00::9".parse().expect("an address"));
        let mut prefix = vec![0; 17];
        (prefix[0], prefix[15], prefix[16]) = (0xfd, 9, 128);
        assert_eq!(
            read(&buf),
            [
                Block::Interface {
                    link_type: 101,
                    options: vec![
                        (2, b"host7".to_vec()),
                        (3, b"a seeder".to_vec()),
                        (4, vec![10, 0, 0, 8, 255, 255, 255, 255]),
                        (9, vec![9]),
                    ],
                },
                Block::Interface {
                    link_type: 101,
                    options: vec![(2, b"host8".to_vec()), (5, prefix), (9, vec![9])],
                },
            ]
        );
    }

    #[test]
    fn a_text_that_no_option_can_hold_is_cut_between_characters() {
        let mut buf = Vec::new();
        section(&mut buf, "it", &"é".repeat(40_000));
        let [Block::Section { options }] = &read(&buf)[..] else { panic!("one section") };
        assert_eq!(options[1].0, COMMENT);
        assert_eq!(String::from_utf8(options[1].1.clone()), Ok("é".repeat(32_767)));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            comment in "\\PC{0,40}",
            packets in prop::collection::vec(
                (0..9_u32, any::<u64>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..99)),
                0..9,
            ),
        ) {
            let mut buf = Vec::new();
            section(&mut buf, "it", &comment);
            let mut options = vec![(APPLICATION, b"it".to_vec())];
            options.extend((!comment.is_empty()).then(|| (COMMENT, comment.into_bytes())));
            let mut written = vec![Block::Section { options }];
            for (interface, nanos, is_in, bytes) in packets {
                let direction = if is_in { Direction::In } else { Direction::Out };
                packet(&mut buf, interface, nanos, direction, |buf| buf.extend_from_slice(&bytes));
                let flags = vec![if is_in { 1 } else { 2 }, 0, 0, 0];
                let options = vec![(FLAGS, flags)];
                written.push(Block::Packet { interface, nanos, bytes, options });
            }
            prop_assert_eq!(read(&buf), written);
        }
    }
}
