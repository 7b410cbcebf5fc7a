//! A rope of byte slices: what came off the wire in pieces stays in pieces.
//!
//! A block that straddles two receive buffers is two slices, and goes as two slices into the hash
//! and into a vectored write. Nothing here copies a payload unless asked to.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A sequence of byte slices that reads as one. Holds no empty slice.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    parts: SmallVec<[Bytes; 1]>,
    len: usize,
}

impl Chunks {
    /// An empty rope; allocates nothing.
    pub const fn new() -> Self {
        Self { parts: SmallVec::new_const(), len: 0 }
    }

    /// An empty rope with room for so many slices.
    pub fn with_capacity(parts: usize) -> Self {
        Self { parts: SmallVec::with_capacity(parts), len: 0 }
    }

    /// Appends `part` without copying it.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }

    /// Appends all parts of `other` without copying them.
    pub fn append(&mut self, other: Self) {
        self.len += other.len;
        self.parts.extend(other.parts);
    }

    /// Total bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not one byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slices, in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The first `at` bytes as a rope of their own; `self` keeps the rest. `at` beyond the end
    /// takes everything.
    #[must_use]
    pub fn split_to(&mut self, at: usize) -> Self {
        if at >= self.len {
            return core::mem::take(self);
        }
        let mut head = Self::new();
        let mut whole = 0;
        for part in &mut self.parts {
            let wanted = at - head.len;
            if wanted < part.len() {
                head.push(part.split_to(wanted));
                break;
            }
            head.push(core::mem::take(part));
            whole += 1;
        }
        self.parts.drain(..whole);
        self.len -= at;
        head
    }

    /// One contiguous slice: free if there is a single part, else a copy.
    pub fn into_bytes(mut self) -> Bytes {
        match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.remove(0),
            _ => self.copy_to_bytes(self.len),
        }
    }

    /// A copy of everything, for tests and cold paths.
    pub fn to_vec(&self) -> alloc::vec::Vec<u8> {
        self.parts.concat()
    }
}

impl From<Bytes> for Chunks {
    fn from(part: Bytes) -> Self {
        let mut chunks = Self::new();
        chunks.push(part);
        chunks
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.parts.first().map_or(&[], |part| part)
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "advanced past the end");
        drop(self.split_to(count));
    }
}

impl core::fmt::Debug for Chunks {
    /// Lengths only: payloads say nothing in a log.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Chunks({} bytes in {})", self.len, self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn rope(parts: &[Vec<u8>]) -> Chunks {
        let mut chunks = Chunks::new();
        for part in parts {
            chunks.push(Bytes::copy_from_slice(part));
        }
        chunks
    }

    proptest! {
        #[test]
        fn splitting_anywhere_loses_nothing(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            at in 0_usize..180,
        ) {
            let all = parts.concat();
            let mut tail = rope(&parts);
            prop_assert!(tail.parts().iter().all(|part| !part.is_empty()));
            let head = tail.split_to(at);
            let cut = at.min(all.len());
            prop_assert_eq!(head.to_vec(), &all[..cut]);
            prop_assert_eq!(tail.to_vec(), &all[cut..]);
            prop_assert_eq!(head.len() + tail.len(), all.len());
            prop_assert_eq!(&rope(&parts).into_bytes()[..], &all[..]);
        }
    }

    #[test]
    fn a_single_part_is_handed_over_without_a_copy() {
        let part = Bytes::from_static(b"payload");
        let there = part.as_ptr();
        assert_eq!(Chunks::from(part).into_bytes().as_ptr(), there);
    }
}
