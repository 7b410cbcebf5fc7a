//! The 68 bytes that open a connection (BEP 3, "peer protocol").
//!
//! ```text
//! 0    1                    20         28          48        68
//! | 19 | BitTorrent protocol | reserved | info hash | peer id |
//! ```
//!
//! A stream that speaks something else is recognised by its first byte that differs.

use core::fmt;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use crate::ids::{InfoHash, PeerId};

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// Bytes that are the same in every handshake: the length of the protocol's name, and the name.
pub const PROTOCOL_LEN: usize = 20;

/// These bytes.
const PROTOCOL: [u8; PROTOCOL_LEN] = *b"\x13BitTorrent protocol";
const INFO_HASH_AT: usize = 28;
const PEER_ID_AT: usize = 48;

/// The eight reserved bytes: which extensions a peer speaks. Bits that nobody here knows are kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// No extension at all.
    pub const NONE: Self = Self([0; 8]);

    const EXTENSION_PROTOCOL: (usize, u8) = (5, 0x10);
    const DHT: (usize, u8) = (7, 0x01);
    const FAST: (usize, u8) = (7, 0x04);
    const V2_UPGRADE: (usize, u8) = (7, 0x10);

    /// Whether the peer speaks the extension protocol (BEP 10): the 20th bit from the right.
    pub const fn extension_protocol(self) -> bool {
        self.has(Self::EXTENSION_PROTOCOL)
    }

    /// Whether the peer has a DHT node, and may send its port (BEP 5).
    pub const fn dht(self) -> bool {
        self.has(Self::DHT)
    }

    /// Whether the peer speaks the fast extension (BEP 6).
    pub const fn fast(self) -> bool {
        self.has(Self::FAST)
    }

    /// Whether the peer, met in the v1 swarm of a hybrid torrent, also speaks v2 (BEP 52,
    /// "upgrade path"): its answer may then carry the v2 info hash.
    pub const fn v2_upgrade(self) -> bool {
        self.has(Self::V2_UPGRADE)
    }

    /// With the extension protocol (BEP 10).
    #[must_use]
    pub const fn with_extension_protocol(self) -> Self {
        self.with(Self::EXTENSION_PROTOCOL)
    }

    /// With a DHT node (BEP 5).
    #[must_use]
    pub const fn with_dht(self) -> Self {
        self.with(Self::DHT)
    }

    /// With the fast extension (BEP 6).
    #[must_use]
    pub const fn with_fast(self) -> Self {
        self.with(Self::FAST)
    }

    /// With the upgrade to v2 (BEP 52).
    #[must_use]
    pub const fn with_v2_upgrade(self) -> Self {
        self.with(Self::V2_UPGRADE)
    }

    /// The extensions that both speak.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self((u64::from_ne_bytes(self.0) & u64::from_ne_bytes(other.0)).to_ne_bytes())
    }

    const fn has(self, (byte, mask): (usize, u8)) -> bool {
        self.0[byte] & mask != 0
    }

    const fn with(mut self, (byte, mask): (usize, u8)) -> Self {
        self.0[byte] |= mask;
        self
    }
}

impl fmt::Debug for Reserved {
    /// The eight bytes in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({:016x})", u64::from_be_bytes(self.0))
    }
}

/// What a handshake says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The extensions that the sender speaks.
    pub reserved: Reserved,
    /// The swarm; for a v2 torrent the first 20 bytes of its SHA-256 (BEP 52).
    pub info_hash: InfoHash,
    /// The name of the sender.
    pub peer_id: PeerId,
}

/// Why a stream is not a BitTorrent connection in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first bytes are not those of the protocol. They may be an encrypted handshake.
    #[error("byte {at} is not that of a BitTorrent handshake")]
    Protocol {
        /// The first byte that differs, from zero.
        at: u8,
    },
}

impl Handshake {
    /// The handshake as it goes over the wire.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut out = [0; HANDSHAKE_LEN];
        out[..20].copy_from_slice(&PROTOCOL);
        out[20..INFO_HASH_AT].copy_from_slice(&self.reserved.0);
        out[INFO_HASH_AT..PEER_ID_AT].copy_from_slice(&self.info_hash.0);
        out[PEER_ID_AT..].copy_from_slice(&self.peer_id.0);
        out
    }

    /// Whether a stream that starts with `bytes` may be one in the clear, as far as one can tell
    /// yet: tells apart from an encrypted handshake without taking anything.
    pub fn check_start(bytes: &[u8]) -> Result<(), HandshakeError> {
        match PROTOCOL.iter().zip(bytes).position(|(wanted, found)| wanted != found) {
            Some(at) => Err(HandshakeError::Protocol { at: at as u8 }),
            None => Ok(()),
        }
    }
}

/// Reads one handshake that may arrive in pieces. 69 bytes, no heap.
#[derive(Clone)]
pub struct HandshakeParser {
    bytes: [u8; HANDSHAKE_LEN],
    len: u8,
}

impl HandshakeParser {
    /// A parser that has seen nothing.
    pub const fn new() -> Self {
        Self { bytes: [0; HANDSHAKE_LEN], len: 0 }
    }

    /// Takes from `input` what belongs to the handshake, and leaves what follows it. Returns the
    /// handshake once it is there; asked again, takes nothing and returns it again. After an
    /// error the parser is of no more use.
    pub fn push(&mut self, input: &mut Bytes) -> Result<Option<Handshake>, HandshakeError> {
        let old = usize::from(self.len);
        let take = input.len().min(HANDSHAKE_LEN - old);
        let new = old + take;
        self.bytes[old..new].copy_from_slice(&input[..take]);
        self.len = new as u8;
        input.advance(take);
        if old < PROTOCOL.len() {
            Handshake::check_start(&self.bytes[..new])?;
        }
        let Some((reserved, info_hash)) = self.swarm() else { return Ok(None) };
        let peer_id = self.field(PEER_ID_AT).map(PeerId);
        Ok(peer_id.map(|peer_id| Handshake { reserved, info_hash, peer_id }))
    }

    /// What was taken so far, the byte at which it failed included.
    pub const fn held(&self) -> &[u8] {
        self.bytes.split_at(self.len as usize).0
    }

    /// What the sender speaks and which swarm it means, as soon as that is there. The answer to
    /// an incoming connection need not wait for the peer id, which some send only after it
    /// (BEP 3).
    pub fn swarm(&self) -> Option<(Reserved, InfoHash)> {
        Some((Reserved(self.field(20)?), InfoHash(self.field(INFO_HASH_AT)?)))
    }

    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.held().get(at..at + N)?.try_into().ok()
    }
}

impl Default for HandshakeParser {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HandshakeParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandshakeParser({} of {HANDSHAKE_LEN} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn the_reserved_bits_sit_where_deployed_clients_put_them() {
        let reserved =
            Reserved::NONE.with_extension_protocol().with_dht().with_fast().with_v2_upgrade();
        assert_eq!(reserved.0, [0, 0, 0, 0, 0, 0x10, 0, 0x15]);
        assert_eq!(format!("{reserved:?}"), "Reserved(0000000000100015)");
        assert!(reserved.extension_protocol() && reserved.dht());
        assert!(reserved.fast() && reserved.v2_upgrade());
        let plain = Reserved::NONE.with_dht();
        assert_eq!(reserved.common(plain), plain);
        assert!(!plain.extension_protocol() && !plain.fast() && !plain.v2_upgrade());
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_wrong_byte() {
        let mut parser = HandshakeParser::new();
        assert_eq!(parser.push(&mut Bytes::from_static(b"\x13Bit")), Ok(None));
        let error = HandshakeError::Protocol { at: 4 };
        assert_eq!(parser.push(&mut Bytes::from_static(b"c")), Err(error));
        let error = HandshakeError::Protocol { at: 0 };
        assert_eq!(HandshakeParser::new().push(&mut Bytes::from_static(b"GET /")), Err(error));
        assert_eq!(Handshake::check_start(b"\x13BitTorrent protocol, and more"), Ok(()));
    }

    #[test]
    fn the_swarm_is_known_before_the_peer_id() {
        let handshake = Handshake {
            reserved: Reserved::NONE.with_fast(),
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId([9; 20]),
        };
        let wire = Bytes::copy_from_slice(&handshake.encode());
        let mut parser = HandshakeParser::new();
        assert_eq!(parser.push(&mut wire.slice(..47)), Ok(None));
        assert_eq!(parser.swarm(), None);
        assert_eq!(parser.push(&mut wire.slice(47..48)), Ok(None));
        assert_eq!(parser.swarm(), Some((handshake.reserved, handshake.info_hash)));
        assert_eq!(parser.push(&mut wire.slice(48..)), Ok(Some(handshake)));
    }

    proptest! {
        #[test]
        fn a_handshake_survives_any_split_and_leaves_what_follows(
            reserved: [u8; 8],
            info_hash: [u8; 20],
            peer_id: [u8; 20],
            after in prop::collection::vec(any::<u8>(), 0..20),
            steps in prop::collection::vec(1_usize..30, 1..40),
        ) {
            let handshake = Handshake {
                reserved: Reserved(reserved),
                info_hash: InfoHash(info_hash),
                peer_id: PeerId(peer_id),
            };
            let mut wire = Bytes::from([&handshake.encode()[..], &after].concat());
            let mut parser = HandshakeParser::new();
            let mut steps = steps.into_iter().cycle();
            let (found, rest) = loop {
                let step = steps.next().unwrap().min(wire.len());
                let mut part = wire.split_to(step);
                if let Some(found) = parser.push(&mut part).unwrap() {
                    break (found, part);
                }
                prop_assert!(part.is_empty());
            };
            prop_assert_eq!(found, handshake);
            prop_assert_eq!([&rest[..], &wire].concat(), after);
        }

        #[test]
        fn arbitrary_bytes_never_panic(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let mut parser = HandshakeParser::new();
            let mut all = Vec::new();
            for part in parts {
                all.extend_from_slice(&part);
                if parser.push(&mut Bytes::from(part)).is_err() {
                    prop_assert!(Handshake::check_start(&all).is_err());
                    break;
                }
            }
        }
    }
}
