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
/// of at least [`BLOCK_LEN`] wherever there are trees; zero for what else a v1 torrent may have.
pub const fn piece_level(piece_len: u32) -> u32 {
    piece_len.trailing_zeros().saturating_sub(BLOCK_LEN.trailing_zeros())
}

/// How far the root of a file of `len` bytes stands above its leaves.
pub const fn height(len: u64) -> u32 {
    len.div_ceil(BLOCK_LEN as u64).next_power_of_two().trailing_zeros()
}

/// The node that stands `above` the row `nodes`, whose own level is `level`, and is the `at`-th of
/// its layer. What is missing of the row is padding.
pub fn node(nodes: &[Hash], level: u32, above: u32, at: u64) -> Hash {
    let len = nodes.len() as u64;
    let (start, end) = ((at << above).min(len), ((at + 1) << above).min(len));
    let below = &nodes[start as usize..end as usize];
    if below.is_empty() {
        return pad(level + above);
    }
    let reached = below.len().next_power_of_two().trailing_zeros();
    let mut padding = pad(level + reached);
    (reached..above).fold(root(below, level), |node, _| {
        let node = parent(&node, &padding);
        padding = parent(&padding, &padding);
        node
    })
}

/// The root that a node leads to, which is the `at`-th of its layer, with the uncles on the way
/// up.
pub fn climb(node: Hash, mut at: u64, uncles: &[Hash]) -> Hash {
    uncles.iter().fold(node, |node, uncle| {
        let is_left = at.is_multiple_of(2);
        at /= 2;
        if is_left { parent(&node, uncle) } else { parent(uncle, &node) }
    })
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

    proptest! {
        #[test]
        fn every_node_leads_to_the_root_by_its_uncles(
            count in 1_usize..70,
            level in 0_u32..3,
            above in 0_u32..7,
            at in 0_u64..70,
        ) {
            let row: Vec<Hash> = (0..count).map(|n| leaf(&[n as u8])).collect();
            let height = count.next_power_of_two().trailing_zeros();
            let above = above.min(height);
            let at = at % (1 << (height - above));
            let uncles: Vec<Hash> =
                (above..height).map(|up| node(&row, level, up, (at >> (up - above)) ^ 1)).collect();
            let start = node(&row, level, above, at);
            prop_assert_eq!(climb(start, at, &uncles), root(&row, level));
            if above < height {
                prop_assert_ne!(climb(leaf(b"another"), at, &uncles), root(&row, level));
            }
        }
    }

    #[test]
    fn a_tree_is_as_high_as_its_blocks_need() {
        let block = u64::from(BLOCK_LEN);
        let heights = [1, block, block + 1, 4 * block, 5 * block].map(height);
        assert_eq!(heights, [0, 0, 1, 2, 3]);
    }

    #[test]
    fn padding_is_the_root_of_zero_leaves() {
        assert_eq!(pad(0), [0; 32]);
        assert_eq!(pad(3), obvious_root(&vec![[0; 32]; 8]));
        assert_eq!(root(&[], 2), pad(2));
        assert_eq!(piece_level(BLOCK_LEN), 0);
        assert_eq!(piece_level(1 << 20), 6);
        assert_eq!([1, 8_191, 1 << 13, BLOCK_LEN + 123].map(piece_level), [0; 4]);
    }
}
