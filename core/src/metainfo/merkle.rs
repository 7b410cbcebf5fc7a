//! Merkle trees of SHA-256 as BEP 52 builds them: binary, leaves of 16 KiB, padded with zero
//! hashes to a power of two.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

/// A SHA-256 digest: a node of a tree.
pub type Hash = [u8; 32];

/// Bytes under one leaf (BEP 52).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The leaf over one block of at most [`BLOCK_LEN`] bytes.
pub fn leaf(block: &[u8]) -> Hash {
    Sha256::digest(block).into()
}

/// The node above two nodes.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The root of a tree whose leaves are all padding, `levels` above the leaves.
pub fn pad(levels: u32) -> Hash {
    (0..levels).fold([0; 32], |node, _| parent(&node, &node))
}

/// The root above `nodes`, which stand `levels` above the leaves; what is missing to a power of
/// two is padding. No node at all gives the padding of that level.
pub fn root(nodes: &[Hash], levels: u32) -> Hash {
    let mut padding = pad(levels);
    let Some(_) = nodes.first() else { return padding };
    let mut row: Vec<Hash> = nodes.to_vec();
    while row.len() > 1 {
        let above = row.len().div_ceil(2);
        for at in 0..above {
            let right = row.get(2 * at + 1).copied().unwrap_or(padding);
            row[at] = parent(&row[2 * at], &right);
        }
        row.truncate(above);
        padding = parent(&padding, &padding);
    }
    row[0]
}

/// How far above the leaves the node over one whole piece stands. `piece_len` is a power of two
/// of at least [`BLOCK_LEN`].
pub const fn piece_level(piece_len: u32) -> u32 {
    piece_len.trailing_zeros() - BLOCK_LEN.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    /// The definition, without shortcuts: pad the leaves, halve until one is left.
    fn obvious_root(leaves: &[Hash]) -> Hash {
        let mut row = leaves.to_vec();
        row.resize(leaves.len().next_power_of_two(), [0; 32]);
        while row.len() > 1 {
            row = row.chunks(2).map(|pair| parent(&pair[0], &pair[1])).collect();
        }
        row[0]
    }

    proptest! {
        #[test]
        fn the_root_is_the_same_by_way_of_any_layer(count in 1_usize..40, levels in 0_u32..4) {
            let leaves: Vec<Hash> = (0..count).map(|n| leaf(&[n as u8])).collect();
            let mut padded = leaves.clone();
            padded.resize(count.next_power_of_two().max(1 << levels), [0; 32]);
            let layer: Vec<Hash> = leaves
                .chunks(1 << levels)
                .map(|piece| {
                    let mut piece = piece.to_vec();
                    piece.resize(1 << levels, [0; 32]);
                    obvious_root(&piece)
                })
                .collect();
            prop_assert_eq!(root(&layer, levels), obvious_root(&padded));
            prop_assert_eq!(root(&leaves, 0), obvious_root(&leaves));
        }
    }

    #[test]
    fn padding_is_the_root_of_zero_leaves() {
        assert_eq!(pad(0), [0; 32]);
        assert_eq!(pad(3), obvious_root(&vec![[0; 32]; 8]));
        assert_eq!(root(&[], 2), pad(2));
        assert_eq!(piece_level(BLOCK_LEN), 0);
        assert_eq!(piece_level(1 << 20), 6);
    }
}
