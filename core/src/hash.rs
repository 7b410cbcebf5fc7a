//! Resumable hashing: a hash in progress is a plain value that travels with its job.
//!
//! A piece is hashed as its blocks come in order, in steps; between steps there is nothing but
//! this value, so whoever runs the steps may gather many pieces and run them side by side.
//! [`Stream::chain`] and [`Stream::set_chain`] are for those.
//!
//! ```text
//!   v1       Stream   one SHA-1 over the piece
//!   v2       Tree     a SHA-256 per 16 KiB, and the tree above them up to the piece's root
//!   hybrid   Both
//! ```

mod tree;

use alloc::boxed::Box;

use serde::{Deserialize, Serialize};

pub use self::tree::Tree;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-1 (BEP 3): 20 bytes.
    Sha1,
    /// SHA-256 (BEP 52): 32 bytes.
    Sha256,
}

impl HashAlgorithm {
    /// Bytes of a digest.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// Bytes that both functions take at a time (FIPS 180-4).
pub const BLOCK: usize = 64;

/// A hash in progress. Equal states are of the same bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashState {
    /// One function over all bytes.
    Stream(Stream),
    /// A merkle tree (BEP 52).
    Tree(Box<Tree>),
    /// Both of the same bytes: a piece of a hybrid torrent.
    Both(Box<(Stream, Tree)>),
}

impl HashState {
    /// One function, before the first byte.
    pub const fn new(algorithm: HashAlgorithm) -> Self {
        Self::Stream(Stream::new(algorithm))
    }

    /// Hashes `bytes` after what was hashed before.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Stream(stream) => stream.update(bytes),
            Self::Tree(tree) => tree.update(bytes),
            Self::Both(both) => {
                both.0.update(bytes);
                both.1.update(bytes);
            }
        }
    }

    /// Bytes hashed so far.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.len(),
            Self::Tree(tree) => tree.len(),
            Self::Both(both) => both.1.len(),
        }
    }

    /// Whether nothing was hashed yet.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest of everything hashed so far.
    pub fn finish(self) -> Digest {
        match self {
            Self::Stream(stream) => stream.finish(),
            Self::Tree(tree) => Digest::Sha256(tree.finish()),
            Self::Both(both) => {
                let (stream, tree) = *both;
                Digest::Both(stream.finish_bytes(), tree.finish())
            }
        }
    }
}

impl From<Stream> for HashState {
    fn from(stream: Stream) -> Self {
        Self::Stream(stream)
    }
}

impl core::fmt::Debug for HashState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let what = match self {
            Self::Stream(stream) => return stream.fmt(f),
            Self::Tree(_) => "tree",
            Self::Both(_) => "SHA-1 and tree",
        };
        write!(f, "{what} after {} bytes", self.len())
    }
}

/// One function over a stream of bytes: its chaining words, the bytes so far, and the part of a
/// 64-byte block that is not full yet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    algorithm: HashAlgorithm,
    words: [u32; 8],
    len: u64,
    /// Zeros to be hashed behind the last byte.
    padding: u32,
    #[serde(with = "tail")]
    tail: [u8; BLOCK],
}

impl Stream {
    /// The state before the first byte.
    pub const fn new(algorithm: HashAlgorithm) -> Self {
        let words = match algorithm {
            HashAlgorithm::Sha1 => {
                [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0, 0, 0, 0]
            }
            HashAlgorithm::Sha256 => [
                0x6a09_e667,
                0xbb67_ae85,
                0x3c6e_f372,
                0xa54f_f53a,
                0x510e_527f,
                0x9b05_688c,
                0x1f83_d9ab,
                0x5be0_cd19,
            ],
        };
        Self { algorithm, words, len: 0, padding: 0, tail: [0; BLOCK] }
    }

    /// The same, with so many zeros behind what will be hashed: padding (BEP 47), which nobody
    /// stores or sends.
    #[must_use]
    pub const fn padded(mut self, zeros: u32) -> Self {
        self.padding = zeros;
        self
    }

    /// Which function this is.
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Bytes hashed so far.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was hashed yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hashes `bytes` after what was hashed before.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.len % BLOCK as u64) as usize;
        self.len += bytes.len() as u64;
        if held > 0 {
            let take = bytes.len().min(BLOCK - held);
            let (head, rest) = bytes.split_at(take);
            self.tail[held..held + take].copy_from_slice(head);
            bytes = rest;
            if held + take < BLOCK {
                return;
            }
            let block = self.tail;
            self.compress(&[block]);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        self.compress(blocks);
        self.tail = [0; BLOCK];
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    /// The chaining words (SHA-1 has five, then zeros), for an implementation of its own that
    /// hashes whole blocks. None in the midst of a block: [`update`](Self::update) ends it.
    pub const fn chain(&self) -> Option<&[u32; 8]> {
        if self.len.is_multiple_of(BLOCK as u64) { Some(&self.words) } else { None }
    }

    /// Takes back what [`chain`](Self::chain) lent, after so many more blocks of 64 bytes.
    ///
    /// # Panics
    ///
    /// In the midst of a block.
    pub const fn set_chain(&mut self, words: [u32; 8], blocks: u64) {
        assert!(self.chain().is_some(), "the words change between blocks");
        self.words = words;
        self.len += blocks * BLOCK as u64;
    }

    /// The digest of everything hashed so far, and of the padding behind it.
    pub fn finish(self) -> Digest {
        match self.algorithm {
            HashAlgorithm::Sha1 => Digest::Sha1(self.finish_bytes()),
            HashAlgorithm::Sha256 => Digest::Sha256(self.finish_bytes()),
        }
    }

    /// The first bytes of the digest; as many as the function has, or fewer.
    fn finish_bytes<const N: usize>(mut self) -> [u8; N] {
        const ZEROS: [u8; 16 * BLOCK] = [0; 16 * BLOCK];
        while self.padding > 0 {
            let zeros = (self.padding as usize).min(ZEROS.len());
            self.padding -= zeros as u32;
            self.update(&ZEROS[..zeros]);
        }
        let bits = self.len * 8;
        let held = (self.len % BLOCK as u64) as usize;
        let mut padding = [0; 2 * BLOCK];
        padding[..held].copy_from_slice(&self.tail[..held]);
        padding[held] = 0x80;
        let end = if held < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
        padding[end - 8..end].copy_from_slice(&bits.to_be_bytes());
        let (blocks, _) = padding[..end].as_chunks::<BLOCK>();
        self.compress(blocks);
        let mut bytes = [0; 32];
        for (out, word) in bytes.chunks_exact_mut(4).zip(self.words) {
            out.copy_from_slice(&word.to_be_bytes());
        }
        *bytes.first_chunk().expect("at most 32 bytes")
    }

    fn compress(&mut self, blocks: &[[u8; BLOCK]]) {
        match self.algorithm {
            HashAlgorithm::Sha1 => {
                let words = self.words.first_chunk_mut().expect("five of eight words");
                sha1::block_api::compress(words, blocks);
            }
            HashAlgorithm::Sha256 => sha2::block_api::compress256(&mut self.words, blocks),
        }
    }
}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} after {} bytes", self.algorithm, self.len)
    }
}

/// A finished hash.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Digest {
    /// SHA-1.
    Sha1([u8; 20]),
    /// SHA-256, or the root of a tree of them.
    Sha256([u8; 32]),
    /// SHA-1 of the whole, and the root of the tree.
    Both([u8; 20], [u8; 32]),
}

impl Digest {
    /// The SHA-1, if it was taken.
    pub const fn sha1(&self) -> Option<&[u8; 20]> {
        match self {
            Self::Sha1(sha1) | Self::Both(sha1, _) => Some(sha1),
            Self::Sha256(_) => None,
        }
    }

    /// The SHA-256, or the root of the tree, if it was taken.
    pub const fn sha256(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Sha256(sha256) | Self::Both(_, sha256) => Some(sha256),
            Self::Sha1(_) => None,
        }
    }

    /// The digest's bytes: 20 or 32; of two, those of the SHA-1.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(sha1) | Self::Both(sha1, _) => sha1,
            Self::Sha256(sha256) => sha256,
        }
    }
}

impl From<[u8; 20]> for Digest {
    fn from(sha1: [u8; 20]) -> Self {
        Self::Sha1(sha1)
    }
}

impl core::fmt::Debug for Digest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The SHA-1 of `bytes`, at once.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state = Stream::new(HashAlgorithm::Sha1);
    state.update(bytes);
    state.finish_bytes()
}

mod tail {
    //! serde stops at arrays of 32.
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(tail: &[u8; 64], to: S) -> Result<S::Ok, S::Error> {
        let (low, high) = tail.split_at(32);
        let half = |half: &[u8]| -> [u8; 32] { half.try_into().expect("half of 64 bytes") };
        (half(low), half(high)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 64], D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(from)?;
        let mut tail = [0; 64];
        tail[..32].copy_from_slice(&low);
        tail[32..].copy_from_slice(&high);
        Ok(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::Digest as _;

    #[test]
    fn whole_blocks_may_be_hashed_elsewhere() {
        let bytes = [7; 5 * BLOCK + 3];
        let mut state = Stream::new(HashAlgorithm::Sha1);
        state.update(&bytes[..2 * BLOCK]);
        let mut elsewhere = state.clone();
        elsewhere.update(&bytes[2 * BLOCK..5 * BLOCK]);
        let words = *elsewhere.chain().expect("between blocks");
        state.set_chain(words, 3);
        assert_eq!(state, elsewhere);
        state.update(&bytes[5 * BLOCK..]);
        assert_eq!(state.chain(), None);
        assert_eq!(state.finish().as_bytes(), sha1(&bytes));
    }

    proptest! {
        #[test]
        fn hashing_in_steps_of_any_size_equals_hashing_at_once(
            steps in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
        ) {
            let all = steps.concat();
            for algorithm in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
                let mut state = HashState::new(algorithm);
                for step in &steps {
                    state.update(step);
                }
                prop_assert_eq!(state.len(), all.len() as u64);
                let digest = state.finish();
                match algorithm {
                    HashAlgorithm::Sha1 => {
                        prop_assert_eq!(digest.as_bytes(), &sha1::Sha1::digest(&all)[..]);
                    }
                    HashAlgorithm::Sha256 => {
                        prop_assert_eq!(digest.as_bytes(), &sha2::Sha256::digest(&all)[..]);
                    }
                }
            }
        }
    }
    #[test]
    fn padding_is_hashed_as_the_zeros_that_it_is() {
        for zeros in [0_u32, 1, 1_000, 1_024, 5_000] {
            let mut state = HashState::from(Stream::new(HashAlgorithm::Sha1).padded(zeros));
            state.update(b"content");
            let whole = [&b"content"[..], &std::vec![0; zeros as usize]].concat();
            assert_eq!(state.finish(), Digest::Sha1(sha1(&whole)));
        }
    }

    #[test]
    fn a_state_is_small_whatever_it_hashes() {
        assert!(size_of::<HashState>() <= 128, "{}", size_of::<HashState>());
    }
}
