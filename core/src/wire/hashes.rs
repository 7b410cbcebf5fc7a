//! Nodes of merkle trees on the wire (BEP 52, "hash request").
//!
//! What is asked for is a run of one layer of a file's tree, and the uncles that lead from the
//! root of that run up to the root of the file. Layers count from the leaves, which are layer 0.

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

/// Bytes of a request, and of an answer before its hashes.
pub const HASH_REQUEST_LEN: usize = 48;

/// Most hashes of one layer that are asked for or given at a time (BEP 52: "SHOULD NOT be greater
/// than 512").
pub const HASHES_MAX: u32 = 512;

/// Most uncles behind them: no tree is that high.
pub const UNCLES_MAX: u32 = 40;

/// Bytes of a hash.
pub const HASH_LEN: usize = 32;

/// Which nodes of a file's tree.
///
/// Nothing is checked: [`is_sound`](Self::is_sound) tells whether a tree can have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HashRequest {
    /// The root of the file's tree, by which it is known.
    pub root: [u8; 32],
    /// The layer, counted from the leaves.
    pub base: u32,
    /// The first node, counted from the beginning of the layer.
    pub index: u32,
    /// Nodes of the layer.
    pub length: u32,
    /// Layers above the base for which there is to be an uncle, those counted in that the run
    /// itself makes up.
    pub proof_layers: u32,
}

impl HashRequest {
    /// Whether a tree whose root stands `height` above its leaves has these nodes, and they are as
    /// many and begin where BEP 52 allows: a power of two of at least two and at most
    /// [`HASHES_MAX`], from a multiple of that on.
    pub const fn is_sound(&self, height: u32) -> bool {
        let Some(layer) = height.checked_sub(self.base) else { return false };
        let Some(end) = self.index.checked_add(self.length) else { return false };
        self.length >= 2
            && self.length <= HASHES_MAX
            && self.length.is_power_of_two()
            && self.index.is_multiple_of(self.length)
            && layer < u32::BITS
            && end as u64 <= 1 << layer
            && self.proof_layers < layer
    }

    /// How many uncles an answer has: one for each proof layer, but for those that the run makes up
    /// by itself. Of a request whose length is a power of two.
    pub const fn uncles(&self) -> u32 {
        self.proof_layers.saturating_add(1).saturating_sub(self.length.trailing_zeros())
    }

    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(&self.root);
        out.put_u32(self.base);
        out.put_u32(self.index);
        out.put_u32(self.length);
        out.put_u32(self.proof_layers);
    }

    /// Takes it off the beginning of `payload`, which holds at least [`HASH_REQUEST_LEN`] bytes.
    fn take(payload: &mut Bytes) -> Self {
        let mut root = [0; 32];
        payload.copy_to_slice(&mut root);
        Self {
            root,
            base: payload.get_u32(),
            index: payload.get_u32(),
            length: payload.get_u32(),
            proof_layers: payload.get_u32(),
        }
    }
}

/// A message about hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashMessage {
    /// Asks for nodes.
    Request(HashRequest),
    /// The nodes, and then the uncles from the lowest up, 32 bytes each.
    Hashes(HashRequest, Bytes),
    /// A request will not be answered.
    Reject(HashRequest),
}

impl HashMessage {
    pub(super) const fn id(&self) -> u8 {
        use super::message::id;
        match self {
            Self::Request(_) => id::HASH_REQUEST,
            Self::Hashes(..) => id::HASHES,
            Self::Reject(_) => id::HASH_REJECT,
        }
    }

    /// Bytes behind the type.
    pub(super) const fn payload_len(&self) -> usize {
        match self {
            Self::Request(_) | Self::Reject(_) => HASH_REQUEST_LEN,
            Self::Hashes(_, hashes) => HASH_REQUEST_LEN + hashes.len(),
        }
    }

    pub(super) fn put(&self, out: &mut impl BufMut) {
        match self {
            Self::Request(request) | Self::Reject(request) => request.put(out),
            Self::Hashes(request, hashes) => {
                request.put(out);
                out.put_slice(hashes);
            }
        }
    }

    /// Reads the payload of a message of this type, whose length was judged.
    pub(super) fn read(id: u8, mut payload: Bytes) -> Self {
        use super::message::id;
        let request = HashRequest::take(&mut payload);
        match id {
            id::HASH_REQUEST => Self::Request(request),
            id::HASHES => Self::Hashes(request, payload),
            _ => Self::Reject(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: HashRequest =
        HashRequest { root: [7; 32], base: 2, index: 8, length: 8, proof_layers: 5 };

    #[test]
    fn only_nodes_that_a_tree_has_can_be_asked_for() {
        // Layer 2 of a tree of height 8 has 64 nodes and 6 layers above it, the root included.
        assert!(REQUEST.is_sound(8));
        assert!(HashRequest { index: 56, ..REQUEST }.is_sound(8));
        for unsound in [
            HashRequest { index: 64, ..REQUEST },
            HashRequest { index: 4, ..REQUEST },
            HashRequest { index: u32::MAX - 7, ..REQUEST },
            HashRequest { length: 1, index: 0, ..REQUEST },
            HashRequest { length: 0, index: 0, ..REQUEST },
            HashRequest { length: 6, index: 12, ..REQUEST },
            HashRequest { length: 128, index: 0, ..REQUEST },
            HashRequest { base: 9, ..REQUEST },
            HashRequest { base: u32::MAX, ..REQUEST },
            HashRequest { proof_layers: 6, ..REQUEST },
            HashRequest { proof_layers: u32::MAX, ..REQUEST },
        ] {
            assert!(!unsound.is_sound(8), "{unsound:?}");
        }
        assert!(!HashRequest { length: 1024, index: 0, ..REQUEST }.is_sound(20));
        assert!(HashRequest { length: 512, index: 0, ..REQUEST }.is_sound(20));
    }

    #[test]
    fn uncles_begin_above_the_run() {
        // Eight nodes make up two layers above them and the root of the run: three of the layers
        // above the base need no uncle, the last of which is the run's own root's.
        assert_eq!(REQUEST.uncles(), 3);
        assert_eq!(HashRequest { proof_layers: 2, ..REQUEST }.uncles(), 0);
        assert_eq!(HashRequest { proof_layers: 0, ..REQUEST }.uncles(), 0);
        assert_eq!(HashRequest { length: 2, proof_layers: 1, ..REQUEST }.uncles(), 1);
    }
}
