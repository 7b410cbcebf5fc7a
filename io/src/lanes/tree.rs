//! Hashes of any kind, a step further: streams side by side, and the leaves of a tree (BEP 52)
//! beside each other, since one step of a piece holds many.

use teem_core::hash::{Digest, HashAlgorithm, HashState, Tree};
use teem_core::metainfo::merkle::BLOCK_LEN;

use super::{Lanes, Step, Tally};

impl Lanes {
    /// Takes each hash a step further, whatever it is made of: by the bytes in its parts, which
    /// read as one.
    pub fn advance<B: AsRef<[u8]>>(self, hashes: &mut [(&mut HashState, &[B])]) -> Tally {
        let mut tally = Tally::default();
        let mut steps = Vec::with_capacity(hashes.len());
        for (state, parts) in hashes {
            match state {
                HashState::Stream(stream) => steps.push(Step { state: stream, parts }),
                HashState::Tree(tree) => tally += self.leaves(tree, parts),
                HashState::Both(both) => {
                    let (stream, tree) = &mut **both;
                    tally += self.leaves(tree, parts);
                    steps.push(Step { state: stream, parts });
                }
            }
        }
        tally += self.update(&mut steps);
        tally
    }

    /// Hashes whole leaves in lanes, and what is left of one as a stream.
    fn leaves<B: AsRef<[u8]>>(self, tree: &mut Tree, parts: &[B]) -> Tally {
        let leaf_len = BLOCK_LEN as usize;
        let mut parts = parts.iter().map(AsRef::as_ref);
        let mut rest: &[u8] = &[];
        if !tree.len().is_multiple_of(u64::from(BLOCK_LEN)) {
            parts.for_each(|part| tree.update(part));
            return Tally::default();
        }
        let mut leaves: Vec<Vec<&[u8]>> = Vec::new();
        let mut left = 0;
        loop {
            if rest.is_empty() {
                let Some(part) = parts.next() else { break };
                rest = part;
                continue;
            }
            if left == 0 {
                leaves.push(Vec::new());
                left = leaf_len;
            }
            let (now, later) = rest.split_at(left.min(rest.len()));
            leaves.last_mut().expect("just put there").push(now);
            left -= now.len();
            rest = later;
        }
        let open = if left > 0 { leaves.pop() } else { None };
        let mut states = vec![teem_core::hash::Stream::new(HashAlgorithm::Sha256); leaves.len()];
        let mut steps: Vec<_> = states
            .iter_mut()
            .zip(&leaves)
            .map(|(state, parts)| Step { state, parts: parts.as_slice() })
            .collect();
        let tally = self.update(&mut steps);
        for state in states {
            if let Digest::Sha256(leaf) = state.finish() {
                tree.push_leaf(leaf);
            }
        }
        open.into_iter().flatten().for_each(|part| tree.update(part));
        tally
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the bytes are cut, and whether in lanes or not.
        #[test]
        fn a_tree_in_lanes_is_the_tree(
            len in 0_usize..200_000,
            cuts in prop::collection::vec(0_usize..200_000, 0..12),
            steps in 1_usize..4,
        ) {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (len + 1)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> =
                cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let mut plain = Tree::new(4);
            plain.update(&bytes);
            let root = plain.finish();
            for lanes in [Lanes::Auto, Lanes::Off] {
                let mut state = HashState::Tree(Box::new(Tree::new(4)));
                for step in parts.chunks(parts.len().div_ceil(steps)) {
                    lanes.advance(&mut [(&mut state, step)]);
                }
                prop_assert_eq!(state.finish(), Digest::Sha256(root));
            }
        }
    }
}
