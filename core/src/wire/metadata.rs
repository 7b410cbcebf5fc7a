//! Messages that ask for, give and refuse pieces of the `info` dictionary (BEP 9, `ut_metadata`).
//!
//! Each is a dictionary; the bytes of a piece follow behind it. Pieces have [`METADATA_PIECE_LEN`]
//! bytes, but for the last one.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes};

use crate::bencode::{self, Encoder, Limits, Mode, Tape, Value};

/// Bytes of a piece, but for the last one.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// What the dictionary may be, the piece behind it aside. Deployed ones have three entries.
const LIMITS: Limits = Limits { depth: 4, tokens: 64, bytes: 64 * 1024 };

/// One message of `ut_metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataMessage {
    /// Send me this piece.
    Request(u32),
    /// Here it is.
    Data {
        /// Which one.
        piece: u32,
        /// Bytes of the whole dictionary, as the sender says (`total_size`).
        total_len: Option<u64>,
        /// The bytes.
        data: Bytes,
    },
    /// I will not send this piece, or have none.
    Reject(u32),
}

impl MetadataMessage {
    /// Reads the payload of an extension message. `None` for a kind that is not known, which BEP 9
    /// wants overlooked, and for one without an index. `tape` is scratch space to reuse.
    pub fn parse(payload: &Bytes, tape: &mut Tape) -> Result<Option<Self>, bencode::Error> {
        let document = tape.parse(payload, &LIMITS, Mode::Lenient)?;
        let root = document.root();
        let uint = |key| root.get(key).and_then(Value::as_uint);
        let piece = uint("piece").and_then(|piece| u32::try_from(piece).ok());
        let (Some(kind), Some(piece)) = (uint("msg_type"), piece) else { return Ok(None) };
        Ok(match kind {
            0 => Some(Self::Request(piece)),
            1 => Some(Self::Data {
                piece,
                total_len: uint("total_size"),
                data: payload.slice_ref(document.trailing()),
            }),
            2 => Some(Self::Reject(piece)),
            _ => None,
        })
    }

    /// Appends the payload of an extension message to `out`, except for the bytes of a piece, which
    /// are to follow: they need not be copied.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        let (kind, piece, total_len) = match self {
            Self::Request(piece) => (0, *piece, None),
            Self::Data { piece, total_len, .. } => (1, *piece, *total_len),
            Self::Reject(piece) => (2, *piece, None),
        };
        let mut encoder = Encoder::new(out);
        encoder.begin_dict();
        encoder.key("msg_type").uint(kind);
        encoder.key("piece").uint(piece.into());
        if let Some(len) = total_len {
            encoder.key("total_size").uint(len);
        }
        encoder.end();
        encoder.finish();
    }

    /// The payload of an extension message, all of it.
    pub fn to_payload(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode_head(&mut out);
        if let Self::Data { data, .. } = self {
            out.put_slice(data);
        }
        out.into()
    }
}

/// How many pieces a dictionary of so many bytes has.
pub const fn metadata_pieces(len: u32) -> u32 {
    len.div_ceil(METADATA_PIECE_LEN)
}

/// Which bytes of a dictionary of `len` bytes a piece is; none if there is no such piece.
pub fn metadata_range(len: u32, piece: u32) -> Option<core::ops::Range<u32>> {
    let start = piece.checked_mul(METADATA_PIECE_LEN).filter(|start| *start < len)?;
    Some(start..start.saturating_add(METADATA_PIECE_LEN).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(payload: &'static [u8]) -> Option<MetadataMessage> {
        MetadataMessage::parse(&Bytes::from_static(payload), &mut Tape::new()).unwrap()
    }

    #[test]
    fn the_examples_of_bep_9_are_read_and_written() {
        let request = MetadataMessage::Request(0);
        let data = MetadataMessage::Data {
            piece: 0,
            total_len: Some(3425),
            data: Bytes::from_static(b"xxxxxxxx"),
        };
        let reject = MetadataMessage::Reject(0);
        let cases: [(MetadataMessage, &'static [u8]); 3] = [
            (request, b"d8:msg_typei0e5:piecei0ee"),
            (data, b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx"),
            (reject, b"d8:msg_typei2e5:piecei0ee"),
        ];
        for (message, payload) in cases {
            assert_eq!(parse(payload), Some(message.clone()));
            assert_eq!(message.to_payload(), payload);
        }
    }

    #[test]
    fn what_is_not_known_is_overlooked_and_what_is_no_bencode_is_an_error() {
        assert_eq!(parse(b"d8:msg_typei3e5:piecei0ee"), None);
        assert_eq!(parse(b"d8:msg_typei0ee"), None);
        assert_eq!(parse(b"d8:msg_typei0e5:piecei-1ee"), None);
        assert_eq!(parse(b"d8:msg_typei0e5:piecei4294967296ee"), None);
        assert_eq!(parse(b"le"), None);
        let broken = Bytes::from_static(b"d8:msg_type");
        assert!(MetadataMessage::parse(&broken, &mut Tape::new()).is_err());
    }

    #[test]
    fn pieces_cover_the_dictionary_and_nothing_else() {
        for len in [1, METADATA_PIECE_LEN - 1, METADATA_PIECE_LEN, METADATA_PIECE_LEN + 1, 100_000]
        {
            let pieces = metadata_pieces(len);
            let mut end = 0;
            for piece in 0..pieces {
                let range = metadata_range(len, piece).expect("it is there");
                assert_eq!(range.start, end);
                end = range.end;
            }
            assert_eq!(end, len);
            assert_eq!(metadata_range(len, pieces), None);
            assert_eq!(metadata_range(len, u32::MAX), None);
        }
    }

    proptest! {
        #[test]
        fn every_message_is_read_as_it_was_written(
            piece: u32,
            total_len in proptest::option::of(0..=i64::MAX as u64),
            data in proptest::collection::vec(any::<u8>(), 0..100),
            kind in 0..3,
        ) {
            let message = match kind {
                0 => MetadataMessage::Request(piece),
                1 => MetadataMessage::Data { piece, total_len, data: data.into() },
                _ => MetadataMessage::Reject(piece),
            };
            let read = MetadataMessage::parse(&message.to_payload(), &mut Tape::new());
            prop_assert_eq!(read.unwrap(), Some(message));
        }
    }
}
