//! The pieces that a peer may ask for while it is choked (BEP 6, "Allowed Fast Set Generation").
//!
//! The set follows from the peer's network and the torrent alone, so that a peer that comes back,
//! or that has more pieces by then, is offered the same ones again and gains nothing by it.

use core::net::IpAddr;

use smallvec::SmallVec;

use crate::hash::sha1;
use crate::ids::{InfoHash, PieceIndex};

/// Most pieces in a set, whatever is configured, and most that are kept of those that a peer
/// allows us.
pub(crate) const ALLOWED_MAX: usize = 100;

/// Hashes that are taken to find the pieces of a set, at five pieces each. A set that asks for
/// nearly all pieces of a torrent ends short.
const HASHES_MAX: usize = 64;

/// Pieces, and how many bytes of each.
pub(crate) type Allowed = SmallVec<[(PieceIndex, u32); 10]>;

/// The first `count` pieces of the set of this peer, of a torrent of `pieces`; fewer if they are
/// hard to find.
pub(crate) fn allowed_set(
    ip: IpAddr,
    hash: &InfoHash,
    pieces: u32,
    count: u32,
) -> SmallVec<[PieceIndex; 10]> {
    let count = (count.min(pieces) as usize).min(ALLOWED_MAX);
    let mut set = SmallVec::new();
    let mut seed = SmallVec::<[u8; 32]>::new();
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            seed.extend_from_slice(&[ip.octets()[0], ip.octets()[1], ip.octets()[2], 0]);
        }
        // BEP 6 knows of IPv4 alone; a /64 is what one host has.
        IpAddr::V6(ip) => seed.extend_from_slice(&ip.octets()[..8]),
    }
    seed.extend_from_slice(&hash.0);
    for _ in 0..HASHES_MAX {
        let digest = sha1(&seed);
        for word in digest.chunks_exact(4) {
            if set.len() >= count {
                return set;
            }
            let number = u32::from_be_bytes(*word.first_chunk().expect("chunks of four"));
            let piece = PieceIndex(number % pieces);
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        seed.clear();
        seed.extend_from_slice(&digest);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn set(ip: &str, pieces: u32, count: u32) -> Vec<u32> {
        let set =
            allowed_set(ip.parse().expect("an address"), &InfoHash([0xaa; 20]), pieces, count);
        set.iter().map(|piece| piece.0).collect()
    }

    #[test]
    fn the_set_is_that_of_the_specification() {
        let wanted = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(set("80.4.4.200", 1313, 7), wanted[..7]);
        assert_eq!(set("80.4.4.200", 1313, 9), wanted);
        assert_eq!(set("80.4.4.7", 1313, 9), wanted, "the same for a whole network");
        assert_eq!(set("::ffff:80.4.4.200", 1313, 9), wanted);
        assert_ne!(set("80.4.5.200", 1313, 9), wanted);
        assert_ne!(set("2001:db8::1", 1313, 9), wanted);
    }

    #[test]
    fn a_set_is_at_most_all_pieces_and_never_costs_much() {
        assert_eq!(set("192.0.2.1", 0, 10), []);
        assert_eq!(set("192.0.2.1", 1, 10), [0]);
        assert_eq!(set("192.0.2.1", 50_000, 49_999).len(), ALLOWED_MAX);
        let nearly_all = set("192.0.2.1", 100, 99).len();
        assert!((80..=99).contains(&nearly_all), "{nearly_all}");
    }
}
