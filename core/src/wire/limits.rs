//! How long a message may be, and what is wrong with one that is not.
//!
//! A length is judged as soon as the type behind it is known, before anything is kept for it.

use serde::{Deserialize, Serialize};

use super::hashes::{HASH_LEN, HASH_REQUEST_LEN, HASHES_MAX, UNCLES_MAX};
use super::message::{BLOCK_LEN, id};
use crate::bitfield::Bitfield;

/// How long messages may be. All lengths in bytes of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Pieces of the torrent once they are known: a bitfield must then have exactly that length.
    pub pieces: Option<u32>,
    /// The longest bitfield while the number of pieces is not known.
    pub bitfield_len_max: u32,
    /// The longest block: as long as the longest that we request.
    pub block_len_max: u32,
    /// The longest message of an extension, without its id.
    pub extended_len_max: u32,
    /// The longest message of an unknown type; those are skipped, and take time but no memory.
    pub other_len_max: u32,
}

impl Limits {
    /// What suits a torrent whose number of pieces is not known: bitfields for 8 million pieces,
    /// blocks of 16 KiB, extension messages of 1 MiB, others of 128 KiB.
    pub const DEFAULT: Self = Self {
        pieces: None,
        bitfield_len_max: 1024 * 1024,
        block_len_max: BLOCK_LEN,
        extended_len_max: 1024 * 1024,
        other_len_max: 128 * 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a peer broke the framing; the connection is of no more use. 12 bytes.
///
/// `len` is the length that the message announced, its type included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WireError {
    /// A message of fixed length announced another.
    #[error("a message of type {id} announced {len} bytes")]
    FixedLength {
        /// Its type.
        id: u8,
        /// What it announced.
        len: u32,
    },
    /// A message announced less than its fixed part.
    #[error("a message of type {id} announced only {len} bytes")]
    TooShort {
        /// Its type: piece or extended.
        id: u8,
        /// What it announced.
        len: u32,
    },
    /// A block longer than [`Limits::block_len_max`].
    #[error("a piece message announced {len} bytes")]
    BlockTooLong {
        /// What it announced.
        len: u32,
    },
    /// A bitfield longer than [`Limits::bitfield_len_max`].
    #[error("a bitfield message announced {len} bytes")]
    BitfieldTooLong {
        /// What it announced.
        len: u32,
    },
    /// A bitfield that does not fit the number of pieces.
    #[error("a bitfield message for {pieces} pieces announced {len} bytes")]
    BitfieldLength {
        /// What it announced.
        len: u32,
        /// Pieces that there are.
        pieces: u32,
    },
    /// An extension message longer than [`Limits::extended_len_max`].
    #[error("an extension message announced {len} bytes")]
    ExtendedTooLong {
        /// What it announced.
        len: u32,
    },
    /// A message about hashes (BEP 52) that is longer or shorter than such a message can be.
    #[error("a message of type {id} about hashes announced {len} bytes")]
    HashesLength {
        /// Its type.
        id: u8,
        /// What it announced.
        len: u32,
    },
    /// A message of unknown type longer than [`Limits::other_len_max`].
    #[error("a message of unknown type {id} announced {len} bytes")]
    OtherTooLong {
        /// Its type.
        id: u8,
        /// What it announced.
        len: u32,
    },
}

/// How many bytes, those of the length and of the type included, are to be read before the payload
/// of a message of type `id` that announced `len` bytes, which is not zero.
#[inline]
pub(super) fn header_len(id: u8, len: u32, limits: &Limits) -> Result<usize, WireError> {
    let fixed = |expected: u32| {
        if len == expected {
            Ok(4 + expected as usize)
        } else {
            Err(WireError::FixedLength { id, len })
        }
    };
    match id {
        id::REQUEST | id::CANCEL | id::REJECT => fixed(13),
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => fixed(5),
        id::CHOKE
        | id::UNCHOKE
        | id::INTERESTED
        | id::NOT_INTERESTED
        | id::HAVE_ALL
        | id::HAVE_NONE => fixed(1),
        id::PORT => fixed(3),
        id::PIECE if len < 9 => Err(WireError::TooShort { id, len }),
        id::PIECE if len - 9 > limits.block_len_max => Err(WireError::BlockTooLong { len }),
        id::PIECE => Ok(13),
        id::BITFIELD => match limits.pieces {
            Some(pieces) if len - 1 != Bitfield::wire_len(pieces) => {
                Err(WireError::BitfieldLength { len, pieces })
            }
            None if len - 1 > limits.bitfield_len_max => Err(WireError::BitfieldTooLong { len }),
            Some(_) | None => Ok(5),
        },
        id::EXTENDED if len < 2 => Err(WireError::TooShort { id, len }),
        id::EXTENDED if len - 2 > limits.extended_len_max => {
            Err(WireError::ExtendedTooLong { len })
        }
        id::EXTENDED => Ok(6),
        id::HASH_REQUEST | id::HASH_REJECT if len - 1 == HASH_REQUEST_LEN as u32 => Ok(5),
        id::HASHES if is_hashes_len(len - 1) => Ok(5),
        id::HASH_REQUEST | id::HASHES | id::HASH_REJECT => Err(WireError::HashesLength { id, len }),
        _ if len - 1 > limits.other_len_max => Err(WireError::OtherTooLong { id, len }),
        _ => Ok(5),
    }
}

/// Whether an answer with hashes can be so long.
const fn is_hashes_len(payload: u32) -> bool {
    let Some(hashes) = payload.checked_sub(HASH_REQUEST_LEN as u32) else { return false };
    let len = HASH_LEN as u32;
    hashes.is_multiple_of(len) && hashes <= (HASHES_MAX + UNCLES_MAX) * len
}
