//! The peer wire protocol as bytes: handshake, messages, and the decoder of a stream of them.
//!
//! Nothing here knows a torrent or a peer. What a message may mean, when it may come, and whether
//! an index exists is decided by whoever reads it; here, lengths and layouts are. BEP 3 (the
//! protocol), BEP 6 (fast extension), BEP 9 (metadata), BEP 10 (extension protocol), BEP 52
//! (reserved bit, hashes).

mod decoder;
mod extension;
mod handshake;
mod hashes;
mod limits;
mod message;
mod metadata;

pub use decoder::{Decoder, FRAGMENT_LEN_MIN, PARTS_MAX};
pub use extension::{
    CLIENT_LEN_MAX, ClientName, Extension, ExtensionError, ExtensionHandshake, ExtensionIds,
    METADATA_LEN_MAX,
};
pub use handshake::{
    HANDSHAKE_LEN, Handshake, HandshakeError, HandshakeParser, PROTOCOL_LEN, Reserved,
};
pub use hashes::{HASH_LEN, HASH_REQUEST_LEN, HASHES_MAX, HashMessage, HashRequest, UNCLES_MAX};
pub use limits::{Limits, WireError};
pub use message::{
    BLOCK_LEN, BlockRequest, EXTENDED_HEADER_LEN, Message, PIECE_HEADER_LEN,
    encode_extended_header, encode_piece_header,
};
pub use metadata::{METADATA_PIECE_LEN, MetadataMessage, metadata_pieces, metadata_range};
