//! The messages of a connection, and how they are written.
//!
//! A message is a length of four bytes, a type of one, and a payload; all integers are big-endian.
//! BEP 3 (ids 0 to 9; 9 by BEP 5), BEP 6 (13 to 17), BEP 10 (20), BEP 52 (21 to 23). Reading them off a stream is the
//! [`Decoder`](super::Decoder)'s part.

use alloc::boxed::Box;

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use super::hashes::HashMessage;
use crate::chunks::Chunks;
use crate::ids::PieceIndex;

/// Bytes that a request asks for, but for the last one of a piece: 16 KiB. Deployed clients drop
/// who asks for more than 16 to 128 KiB (BEP 3).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Bytes of an extension message before its payload.
pub const EXTENDED_HEADER_LEN: usize = 6;

/// Bytes of a piece message before its block.
pub const PIECE_HEADER_LEN: usize = 13;

pub(super) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
    pub(crate) const HASH_REQUEST: u8 = 21;
    pub(crate) const HASHES: u8 = 22;
    pub(crate) const HASH_REJECT: u8 = 23;
}

/// A range within a piece: what is asked for, cancelled or rejected. 12 bytes.
///
/// Nothing is checked: whether the piece exists and the range lies within it is the reader's to
/// find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRequest {
    /// The piece.
    pub piece: PieceIndex,
    /// First byte, from the start of the piece.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

/// One message between two peers. At most 64 bytes, blocks by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Nothing, so that the connection is not taken for dead (BEP 3).
    KeepAlive,
    /// Requests will not be answered (BEP 3).
    Choke,
    /// Requests will be answered (BEP 3).
    Unchoke,
    /// The sender would request if it were not choked (BEP 3).
    Interested,
    /// The sender wants nothing that the receiver has (BEP 3).
    NotInterested,
    /// The sender has one more piece (BEP 3).
    Have(PieceIndex),
    /// What the sender has, one bit per piece (BEP 3); read by
    /// [`Bitfield::from_wire`](crate::bitfield::Bitfield::from_wire). A slice of the receive
    /// buffer: read it and let it go.
    Bitfield(Bytes),
    /// Asks for a block (BEP 3).
    Request(BlockRequest),
    /// A block (BEP 3). Possibly empty, at most
    /// [`Limits::block_len_max`](super::Limits::block_len_max) bytes when it was decoded.
    Piece {
        /// The piece.
        piece: PieceIndex,
        /// First byte, from the start of the piece.
        begin: u32,
        /// The bytes.
        block: Chunks,
    },
    /// Takes a request back (BEP 3).
    Cancel(BlockRequest),
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The sender would like to give this piece (BEP 6).
    Suggest(PieceIndex),
    /// The sender has everything (BEP 6).
    HaveAll,
    /// The sender has nothing (BEP 6).
    HaveNone,
    /// A request will not be answered (BEP 6).
    Reject(BlockRequest),
    /// A piece that may be requested while choked (BEP 6).
    AllowedFast(PieceIndex),
    /// A message of an extension (BEP 10).
    Extended {
        /// What the receiver called the extension in its handshake; 0 is the handshake itself.
        id: u8,
        /// The rest. A slice of the receive buffer: read it and let it go.
        payload: Bytes,
    },
    /// About nodes of merkle trees (BEP 52). A slice of the receive buffer: read it and let it go.
    Hash(Box<HashMessage>),
    /// A message of a type that is not known here, skipped.
    Unknown {
        /// The type.
        id: u8,
        /// Bytes that followed the type.
        len: u32,
    },
}

impl Message {
    /// Bytes of this message on the wire.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::KeepAlive => 4,
            Self::Choke
            | Self::Unchoke
            | Self::Interested
            | Self::NotInterested
            | Self::HaveAll
            | Self::HaveNone => 5,
            Self::Port(_) => 7,
            Self::Have(_) | Self::Suggest(_) | Self::AllowedFast(_) => 9,
            Self::Request(_) | Self::Cancel(_) | Self::Reject(_) => 17,
            Self::Bitfield(bits) => 5 + bits.len(),
            Self::Piece { block, .. } => PIECE_HEADER_LEN + block.len(),
            Self::Extended { payload, .. } => EXTENDED_HEADER_LEN + payload.len(),
            Self::Hash(hash) => 5 + hash.payload_len(),
            Self::Unknown { .. } => 0,
        }
    }

    /// Appends the message as it goes over the wire.
    ///
    /// A block is copied; [`encode_piece_header`] is for those who send it by reference. Of an
    /// [`Unknown`](Self::Unknown) message nothing is known to write, and nothing is written.
    /// Payloads are shorter than 4 GiB.
    #[inline]
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => put_bare(out, id::CHOKE),
            Self::Unchoke => put_bare(out, id::UNCHOKE),
            Self::Interested => put_bare(out, id::INTERESTED),
            Self::NotInterested => put_bare(out, id::NOT_INTERESTED),
            Self::Have(piece) => put_index(out, id::HAVE, *piece),
            Self::Bitfield(bits) => {
                put_header(out, id::BITFIELD, bits.len());
                out.put_slice(bits);
            }
            Self::Request(block) => put_request(out, id::REQUEST, block),
            Self::Piece { piece, begin, block } => {
                out.put_slice(&encode_piece_header(*piece, *begin, block.len() as u32));
                block.parts().iter().for_each(|part| out.put_slice(part));
            }
            Self::Cancel(block) => put_request(out, id::CANCEL, block),
            Self::Port(port) => {
                put_header(out, id::PORT, 2);
                out.put_u16(*port);
            }
            Self::Suggest(piece) => put_index(out, id::SUGGEST, *piece),
            Self::HaveAll => put_bare(out, id::HAVE_ALL),
            Self::HaveNone => put_bare(out, id::HAVE_NONE),
            Self::Reject(block) => put_request(out, id::REJECT, block),
            Self::AllowedFast(piece) => put_index(out, id::ALLOWED_FAST, *piece),
            Self::Extended { id, payload } => {
                put_header(out, id::EXTENDED, 1 + payload.len());
                out.put_u8(*id);
                out.put_slice(payload);
            }
            Self::Hash(hash) => {
                put_header(out, hash.id(), hash.payload_len());
                hash.put(out);
            }
            Self::Unknown { .. } => {}
        }
    }
}

/// What goes before the payload of an extension message (BEP 10); the payload itself follows by
/// reference. `length` is at most 4 GiB - 3.
pub fn encode_extended_header(id: u8, length: u32) -> [u8; EXTENDED_HEADER_LEN] {
    let [a, b, c, d] = (length + 2).to_be_bytes();
    [a, b, c, d, id::EXTENDED, id]
}

/// What goes before a block of `length` bytes in a piece message; the block itself follows by
/// reference. `length` is at most 4 GiB - 10.
#[inline]
pub fn encode_piece_header(piece: PieceIndex, begin: u32, length: u32) -> [u8; PIECE_HEADER_LEN] {
    debug_assert!(length <= u32::MAX - 9, "a block has a length that fits");
    let mut out = [0; PIECE_HEADER_LEN];
    out[..4].copy_from_slice(&(length + 9).to_be_bytes());
    out[4] = id::PIECE;
    out[5..9].copy_from_slice(&piece.0.to_be_bytes());
    out[9..].copy_from_slice(&begin.to_be_bytes());
    out
}

#[inline]
fn put_header(out: &mut impl BufMut, id: u8, payload: usize) {
    debug_assert!(u32::try_from(payload).is_ok_and(|len| len < u32::MAX), "a length that fits");
    let mut header = [0; 5];
    header[..4].copy_from_slice(&(payload as u32 + 1).to_be_bytes());
    header[4] = id;
    out.put_slice(&header);
}

#[inline]
fn put_bare(out: &mut impl BufMut, id: u8) {
    out.put_slice(&[0, 0, 0, 1, id]);
}

#[inline]
fn put_index(out: &mut impl BufMut, id: u8, piece: PieceIndex) {
    let mut message = [0, 0, 0, 5, id, 0, 0, 0, 0];
    message[5..].copy_from_slice(&piece.0.to_be_bytes());
    out.put_slice(&message);
}

#[inline]
fn put_request(out: &mut impl BufMut, id: u8, block: &BlockRequest) {
    let mut message = [0; 17];
    message[3] = 13;
    message[4] = id;
    message[5..9].copy_from_slice(&block.piece.0.to_be_bytes());
    message[9..13].copy_from_slice(&block.begin.to_be_bytes());
    message[13..].copy_from_slice(&block.length.to_be_bytes());
    out.put_slice(&message);
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::hashes::HashRequest;
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// Any message that can be written, payloads up to `payload_max` bytes.
    pub(crate) fn message(payload_max: usize) -> impl Strategy<Value = Message> {
        let bytes =
            move || prop::collection::vec(any::<u8>(), 0..=payload_max).prop_map(Bytes::from);
        let piece = || any::<u32>().prop_map(PieceIndex);
        let request =
            || {
                (piece(), any::<u32>(), any::<u32>())
                    .prop_map(|(piece, begin, length)| BlockRequest { piece, begin, length })
            };
        let hash_request = || {
            any::<([u8; 32], [u32; 4])>().prop_map(|(root, [base, index, length, proof_layers])| {
                HashRequest { root, base, index, length, proof_layers }
            })
        };
        prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Choke),
            Just(Message::Unchoke),
            Just(Message::Interested),
            Just(Message::NotInterested),
            piece().prop_map(Message::Have),
            bytes().prop_map(Message::Bitfield),
            request().prop_map(Message::Request),
            (piece(), any::<u32>(), bytes()).prop_map(|(piece, begin, block)| Message::Piece {
                piece,
                begin,
                block: block.into()
            }),
            request().prop_map(Message::Cancel),
            any::<u16>().prop_map(Message::Port),
            piece().prop_map(Message::Suggest),
            Just(Message::HaveAll),
            Just(Message::HaveNone),
            request().prop_map(Message::Reject),
            piece().prop_map(Message::AllowedFast),
            (any::<u8>(), bytes()).prop_map(|(id, payload)| Message::Extended { id, payload }),
            (hash_request(), 0_u8..3, 0_usize..4).prop_map(|(request, which, hashes)| {
                let hashes = vec![9; hashes * 32].into();
                Message::Hash(Box::new(match which {
                    0 => HashMessage::Request(request),
                    1 => HashMessage::Hashes(request, hashes),
                    _ => HashMessage::Reject(request),
                }))
            }),
        ]
    }

    #[test]
    fn a_message_is_at_most_a_cache_line() {
        assert!(size_of::<Message>() <= 64);
        assert!(size_of::<Option<Message>>() <= 64);
        assert_eq!(size_of::<BlockRequest>(), 12);
    }

    #[test]
    fn messages_are_laid_out_as_bep_3_and_its_followers_say() {
        let block = BlockRequest { piece: PieceIndex(1), begin: 0x4000, length: BLOCK_LEN };
        let cases: [(Message, &[u8]); 7] = [
            (Message::KeepAlive, &[0, 0, 0, 0]),
            (Message::NotInterested, &[0, 0, 0, 1, 3]),
            (Message::Have(PieceIndex(0x0102)), &[0, 0, 0, 5, 4, 0, 0, 1, 2]),
            (Message::Request(block), &[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x40, 0]),
            (Message::Port(6881), &[0, 0, 0, 3, 9, 0x1a, 0xe1]),
            (Message::HaveNone, &[0, 0, 0, 1, 15]),
            (
                Message::Extended { id: 0, payload: Bytes::from_static(b"de") },
                &[0, 0, 0, 4, 20, 0, b'd', b'e'],
            ),
        ];
        for (message, expected) in cases {
            let mut out = Vec::new();
            message.encode(&mut out);
            assert_eq!(out, expected, "{message:?}");
        }
        let header = encode_piece_header(PieceIndex(2), 3, BLOCK_LEN);
        assert_eq!(header, [0, 0, 0x40, 9, 7, 0, 0, 0, 2, 0, 0, 0, 3]);
    }

    proptest! {
        #[test]
        fn the_length_is_known_before_writing(message in message(100)) {
            let mut out = Vec::new();
            message.encode(&mut out);
            prop_assert_eq!(out.len(), message.encoded_len());
            let prefix = u32::from_be_bytes(out[..4].try_into().unwrap());
            prop_assert_eq!(prefix as usize, out.len() - 4);
        }
    }
}
