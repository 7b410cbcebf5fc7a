//! The merkle tree over a piece, or over a file of one piece (BEP 52), built as its bytes come.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{HashAlgorithm, Stream};
use crate::metainfo::merkle::{self, BLOCK_LEN, Hash};

/// A tree in progress: the leaf that is not full yet, and the roots of the full subtrees before it,
/// the largest first; there are as many as there are ones in the number of leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    leaf: Stream,
    nodes: Vec<Hash>,
    leaves: u32,
    levels: u8,
}

impl Tree {
    /// Nothing yet, of a tree whose root stands `levels` above its leaves. It has room for
    /// `1 << levels` leaves of 16 KiB; what is missing at the end is filled with zero hashes.
    /// `levels` is at most 31.
    pub const fn new(levels: u32) -> Self {
        debug_assert!(levels < 32, "a number of leaves that fits");
        let leaf = Stream::new(HashAlgorithm::Sha256);
        Self { leaf, nodes: Vec::new(), leaves: 0, levels: levels as u8 }
    }

    /// Bytes hashed so far.
    pub const fn len(&self) -> u64 {
        self.leaves as u64 * BLOCK_LEN as u64 + self.leaf.len()
    }

    /// Whether nothing was hashed yet.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hashes `bytes` after what was hashed before.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BLOCK_LEN as usize).saturating_sub(self.leaf.len() as usize);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.leaf.update(now);
            bytes = rest;
            if self.leaf.len() >= u64::from(BLOCK_LEN) {
                self.end_leaf();
            }
        }
    }

    /// Takes in the hash of the next [`BLOCK_LEN`] bytes, which somebody else hashed. The bytes so
    /// far end with a leaf.
    pub fn push_leaf(&mut self, leaf: Hash) {
        debug_assert!(self.leaf.is_empty(), "no leaf is under way");
        let mut node = leaf;
        for _ in 0..self.leaves.trailing_ones() {
            // There is a subtree for each one, unless a trace says otherwise.
            let left = self.nodes.pop().unwrap_or_default();
            node = merkle::parent(&left, &node);
        }
        self.nodes.push(node);
        self.leaves += 1;
    }

    fn end_leaf(&mut self) {
        let fresh = Stream::new(HashAlgorithm::Sha256);
        let leaf = core::mem::replace(&mut self.leaf, fresh);
        self.push_leaf(leaf.finish_bytes());
    }

    /// The root over everything hashed so far and the padding behind it. If there is more than the
    /// tree has room for, this is the root of no such tree.
    pub fn finish(mut self) -> Hash {
        if !self.leaf.is_empty() {
            self.end_leaf();
        }
        let levels = u32::from(self.levels);
        let mut node: Option<Hash> = None;
        for level in 0..levels {
            let full = (self.leaves >> level) & 1 == 1;
            let right = match node {
                None if !full => continue,
                None => merkle::pad(level),
                Some(node) => node,
            };
            let (left, right) = if full {
                (self.nodes.pop().unwrap_or_default(), right)
            } else {
                (right, merkle::pad(level))
            };
            node = Some(merkle::parent(&left, &right));
        }
        match (node, self.leaves >> levels) {
            (Some(root), 0) => root,
            (None, 0) => merkle::pad(levels),
            (None, 1) => self.nodes.pop().unwrap_or_default(),
            _ => [0; 32],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{Digest, HashState};
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec;

    proptest! {
        #[test]
        fn a_tree_in_steps_has_the_root_of_its_padded_leaves(
            len in 0_usize..200_000,
            spare in 0_u32..3,
            steps in prop::collection::vec(1_usize..50_000, 1..8),
        ) {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let leaves: Vec<Hash> = bytes.chunks(BLOCK_LEN as usize).map(merkle::leaf).collect();
            let levels = leaves.len().next_power_of_two().trailing_zeros() + spare;
            let mut padded = leaves.clone();
            padded.resize(1 << levels, [0; 32]);
            let expected = merkle::root(&padded, 0);
            let mut tree = Tree::new(levels);
            let mut rest = &bytes[..];
            let mut steps = steps.into_iter().cycle();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(steps.next().unwrap().min(rest.len()));
                tree.update(now);
                rest = later;
            }
            prop_assert_eq!(tree.len(), len as u64);
            prop_assert_eq!(tree.finish(), expected);
            let mut pushed = Tree::new(levels);
            for leaf in leaves {
                pushed.push_leaf(leaf);
            }
            prop_assert_eq!(pushed.finish(), expected);
        }
    }

    #[test]
    fn a_tree_that_is_overfull_has_no_root() {
        let mut tree = Tree::new(1);
        tree.update(&vec![1; 3 * BLOCK_LEN as usize]);
        assert_eq!(tree.finish(), [0; 32]);
    }

    #[test]
    fn both_hashes_are_of_the_same_bytes() {
        let sha1 = Stream::new(HashAlgorithm::Sha1).padded(5);
        let mut both = HashState::Both(Box::new((sha1, Tree::new(0))));
        both.update(b"content");
        assert_eq!(both.len(), 7);
        let expected =
            Digest::Both(crate::hash::sha1(b"content\0\0\0\0\0"), merkle::leaf(b"content"));
        assert_eq!(both.finish(), expected);
        assert_eq!(
            (expected.as_bytes().len(), expected.sha256()),
            (20, Some(&merkle::leaf(b"content")))
        );
    }
}
