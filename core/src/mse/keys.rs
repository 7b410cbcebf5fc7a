//! What is derived from the secret and the torrent: marks, and the keys of both directions.

use super::{Cipher, PUBLIC_KEY_LEN, Rc4};
use crate::hash::{HashAlgorithm, HashState};
use crate::ids::InfoHash;

/// Bytes of each keystream that nobody uses: the first ones of RC4 say something of the key.
const DISCARDED: usize = 1024;

/// Bytes of a mark.
pub(super) const MARK_LEN: usize = 20;

/// What both sides hash.
pub(super) type Secret = [u8; PUBLIC_KEY_LEN];

fn hash(parts: &[&[u8]]) -> [u8; MARK_LEN] {
    let mut state = HashState::new(HashAlgorithm::Sha1);
    for part in parts {
        state.update(part);
    }
    *state.finish().as_bytes().first_chunk().expect("SHA-1 has 20 bytes")
}

/// `HASH('req1', S)`: ends the initiator's padding.
pub(super) fn sync_mark(secret: &Secret) -> [u8; MARK_LEN] {
    hash(&[b"req1", secret])
}

/// `HASH('req2', SKEY)`: what a responder knows each of its torrents by.
pub fn torrent_mark(torrent: &InfoHash) -> [u8; MARK_LEN] {
    hash(&[b"req2", &torrent.0])
}

/// `HASH('req2', SKEY) xor HASH('req3', S)`, from the first of the two; and back.
pub(super) fn hide(mark: [u8; MARK_LEN], secret: &Secret) -> [u8; MARK_LEN] {
    let mask = hash(&[b"req3", secret]);
    core::array::from_fn(|at| mark[at] ^ mask[at])
}

/// The two directions of a stream, as one side uses them.
pub(super) fn cipher(secret: &Secret, torrent: &InfoHash, initiator: bool) -> Cipher {
    let direction = |name: &[u8]| {
        let mut rc4 = Rc4::new(&hash(&[name, secret, &torrent.0]));
        rc4.discard(DISCARDED);
        rc4
    };
    let (a, b) = (direction(b"keyA"), direction(b"keyB"));
    if initiator { Cipher::new(a, b) } else { Cipher::new(b, a) }
}
