//! Bytes by block, kept only where they differ from the true ones.
//!
//! A block is a hole (zeros, nothing stored), true (a bit), or its own (bytes). Whoever asks brings
//! the true content along, if there is one: it is held once for a whole run.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use teem_core::bitfield::Bitfield;
use teem_core::torrent::picker::BLOCK_LEN;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bytes in all; the last block may be short.
    len: u64,
    /// Which blocks are those of the true content.
    truth: Bitfield,
    /// Blocks with bytes of their own, each of its full length; none of them in `truth`.
    own: BTreeMap<u32, Box<[u8]>>,
}

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Zeros.
    Hole,
    /// The true bytes.
    True,
    /// These bytes.
    Own(Box<[u8]>),
}

/// How many blocks hold so many bytes.
pub(super) const fn count(len: u64) -> u32 {
    len.div_ceil(BLOCK_LEN as u64) as u32
}

/// The blocks that hold any of these bytes.
pub(super) const fn touched(range: &Range<u64>) -> Range<u32> {
    let first = (range.start / BLOCK_LEN as u64) as u32;
    if range.start >= range.end { first..first } else { first..count(range.end) }
}

impl Blocks {
    /// So many bytes of nothing.
    pub(super) fn holes(len: u64) -> Self {
        Self { len, truth: Bitfield::new(count(len)), own: BTreeMap::new() }
    }

    /// So many true bytes.
    pub(super) fn full(len: u64) -> Self {
        Self { len, truth: Bitfield::full(count(len)), own: BTreeMap::new() }
    }

    /// Bytes in all.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// How many blocks there are.
    pub(super) const fn count(&self) -> u32 {
        self.truth.len()
    }

    /// Whether every byte is true.
    pub(super) const fn all_true(&self) -> bool {
        self.truth.all()
    }

    /// The bytes of a block.
    pub(super) fn range(&self, block: u32) -> Range<u64> {
        let start = u64::from(block) * u64::from(BLOCK_LEN);
        start..(start + u64::from(BLOCK_LEN)).min(self.len)
    }

    /// Whether a block holds the true bytes.
    pub(super) fn is_true(&self, block: u32) -> bool {
        self.truth.get(block)
    }

    /// Whether anything is stored for a block.
    pub(super) fn is_stored(&self, block: u32) -> bool {
        self.truth.get(block) || self.own.contains_key(&block)
    }

    /// What a block holds, leaving a hole.
    pub(super) fn take(&mut self, block: u32) -> Block {
        if self.truth.clear(block) {
            return Block::True;
        }
        self.own.remove(&block).map_or(Block::Hole, Block::Own)
    }

    /// Makes a block hold this.
    pub(super) fn set(&mut self, block: u32, state: Block) {
        match state {
            Block::Own(bytes) => {
                self.truth.clear(block);
                self.own.insert(block, bytes);
            }
            Block::Hole | Block::True => {
                if !self.own.is_empty() {
                    self.own.remove(&block);
                }
                if state == Block::True {
                    self.truth.set(block);
                } else {
                    self.truth.clear(block);
                }
            }
        }
    }

    /// Makes a block hold these bytes, as true ones if they are.
    pub(super) fn set_bytes(&mut self, block: u32, bytes: Box<[u8]>, truth: Option<&Bytes>) {
        let is_true = truth.is_some_and(|truth| *slice(truth, &self.range(block)) == *bytes);
        self.set(block, if is_true { Block::True } else { Block::Own(bytes) });
    }

    /// A copy of a block's bytes.
    pub(super) fn copy(&self, block: u32, truth: Option<&Bytes>) -> Box<[u8]> {
        let mut copy = vec![0; self.range_len(block)].into_boxed_slice();
        self.copy_to(block, 0, &mut copy, truth);
        copy
    }

    fn range_len(&self, block: u32) -> usize {
        let range = self.range(block);
        (range.end - range.start) as usize
    }

    /// Copies bytes of a block from `at` on.
    fn copy_to(&self, block: u32, at: usize, out: &mut [u8], truth: Option<&Bytes>) {
        if self.truth.get(block) {
            let start = self.range(block).start + at as u64;
            let truth = truth.expect("true blocks are those of a content that is known");
            out.copy_from_slice(slice(truth, &(start..start + out.len() as u64)));
        } else if let Some(own) = self.own.get(&block) {
            out.copy_from_slice(&own[at..at + out.len()]);
        } else {
            out.fill(0);
        }
    }

    /// These bytes: a slice of the true content if they are all true, else a copy. They lie within
    /// the length.
    pub(super) fn read(&self, range: &Range<u64>, truth: Option<&Bytes>) -> Bytes {
        let blocks = touched(range);
        if let Some(truth) = truth
            && !blocks.is_empty()
            && blocks.clone().all(|block| self.truth.get(block))
        {
            return truth.slice(range.start as usize..range.end as usize);
        }
        let mut out = vec![0; (range.end - range.start) as usize];
        self.copy_range(range, &mut out, truth);
        out.into()
    }

    /// Copies these bytes.
    fn copy_range(&self, range: &Range<u64>, out: &mut [u8], truth: Option<&Bytes>) {
        for block in touched(range) {
            let whole = self.range(block);
            let here = whole.start.max(range.start)..whole.end.min(range.end);
            let out =
                &mut out[(here.start - range.start) as usize..(here.end - range.start) as usize];
            self.copy_to(block, (here.start - whole.start) as usize, out, truth);
        }
    }

    /// Makes these bytes zeros again, as if they had never been written.
    pub(super) fn erase(&mut self, range: &Range<u64>, truth: Option<&Bytes>) {
        for block in touched(&(range.start..range.end.min(self.len))) {
            let whole = self.range(block);
            if range.start <= whole.start && whole.end <= range.end {
                self.set(block, Block::Hole);
            } else if self.is_stored(block) {
                let mut bytes = self.copy(block, truth);
                let start = range.start.max(whole.start) - whole.start;
                let end = range.end.min(whole.end) - whole.start;
                bytes[start as usize..end as usize].fill(0);
                self.set(block, Block::Own(bytes));
            }
        }
    }

    /// The same bytes at another length, none of them true any more.
    pub(super) fn resized(&self, len: u64, truth: Option<&Bytes>) -> Self {
        let mut resized = Self::holes(len);
        for block in (0..self.count().min(resized.count())).filter(|at| self.is_stored(*at)) {
            let mut bytes = self.copy(block, truth).into_vec();
            bytes.resize(resized.range_len(block), 0);
            resized.own.insert(block, bytes.into());
        }
        resized
    }

    /// Bytes stored within a range, counted in whole blocks and cut to the range.
    pub(super) fn stored_len(&self, range: &Range<u64>) -> u64 {
        let stored = touched(range).filter(|block| self.is_stored(*block)).map(|block| {
            let whole = self.range(block);
            whole.end.min(range.end) - whole.start.max(range.start)
        });
        stored.sum()
    }

    /// Bytes of memory held.
    pub(super) fn footprint(&self) -> usize {
        bits_footprint(&self.truth) + own_footprint(&self.own)
    }
}

/// Bytes of memory behind a bitfield.
pub(super) const fn bits_footprint(bits: &Bitfield) -> usize {
    bits.len().div_ceil(64) as usize * 8
}

/// Bytes of memory behind stored blocks, the tree's nodes estimated.
pub(super) fn own_footprint(own: &BTreeMap<u32, Box<[u8]>>) -> usize {
    own.values().map(|bytes| bytes.len() + 2 * size_of::<(u32, Box<[u8]>)>()).sum()
}

/// Part of a content.
pub(super) fn slice<'a>(truth: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    &truth[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_LEN as u64;

    fn truth() -> Bytes {
        (0..2 * BLOCK + 100).map(|at| (at % 251) as u8 + 1).collect::<Vec<_>>().into()
    }

    #[test]
    fn wholly_true_bytes_are_a_slice_and_mixed_ones_a_copy() {
        let truth = truth();
        let mut blocks = Blocks::full(truth.len() as u64);
        let range = BLOCK - 5..2 * BLOCK + 7;
        assert_eq!(blocks.read(&range, Some(&truth)).as_ptr(), slice(&truth, &range).as_ptr());
        blocks.set(1, Block::Hole);
        let mixed = blocks.read(&range, Some(&truth));
        assert_eq!(mixed[..5], *slice(&truth, &(BLOCK - 5..BLOCK)));
        assert!(mixed[5..5 + BLOCK as usize].iter().all(|byte| *byte == 0));
        assert_eq!(mixed[5 + BLOCK as usize..], *slice(&truth, &(2 * BLOCK..2 * BLOCK + 7)));
        assert_eq!(blocks.stored_len(&range), 12);
    }

    #[test]
    fn own_bytes_that_are_the_true_ones_cost_a_bit() {
        let truth = truth();
        let mut blocks = Blocks::holes(truth.len() as u64);
        blocks.set_bytes(2, slice(&truth, &(2 * BLOCK..2 * BLOCK + 100)).into(), Some(&truth));
        assert!(blocks.is_true(2) && blocks.own.is_empty());
        blocks.set_bytes(2, vec![9; 100].into(), Some(&truth));
        assert_eq!(blocks.take(2), Block::Own(vec![9; 100].into()));
        assert!(!blocks.is_stored(2));
    }

    #[test]
    fn what_is_erased_reads_as_zeros_and_its_neighbours_stay() {
        let truth = truth();
        let mut blocks = Blocks::full(truth.len() as u64);
        let range = 10..2 * BLOCK;
        blocks.erase(&range, Some(&truth));
        let mut expected = truth.to_vec();
        expected[10..2 * BLOCK as usize].fill(0);
        assert_eq!(blocks.read(&(0..blocks.len()), Some(&truth)), expected);
        assert!(!blocks.is_stored(1) && blocks.is_true(2));
    }

    #[test]
    fn another_length_keeps_the_bytes_that_are_within_both() {
        let truth = truth();
        let blocks = Blocks::full(truth.len() as u64);
        for len in [BLOCK + 1, 2 * BLOCK + 99, 2 * BLOCK + 101, 5 * BLOCK] {
            let other = blocks.resized(len, Some(&truth));
            let mut expected = truth.to_vec();
            expected.resize(len as usize, 0);
            assert_eq!(other.read(&(0..len), None), expected);
        }
    }
}
