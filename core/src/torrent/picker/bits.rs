//! Sets of pieces: what a peer has, as a view of words; and what we look for, with a summary that
//! skips empty words.

use alloc::vec;
use alloc::vec::Vec;

const WORD: u32 = u64::BITS;

/// What a peer has.
#[derive(Clone, Copy, Debug)]
pub enum Pieces<'a> {
    /// Everything.
    All,
    /// Piece 0 is the highest bit of the first word, as in a [bitfield on the wire] and in ours.
    /// Words past the end count as zero, and bits past the last piece are ignored.
    ///
    /// [bitfield on the wire]: https://www.bittorrent.org/beps/bep_0003.html
    Words(&'a [u64]),
    /// These words, or everything, without those of the second: what a peer has and is not to be
    /// asked for now.
    Except(Option<&'a [u64]>, &'a [u64]),
}

impl<'a> Pieces<'a> {
    /// These without others, which take the place of any that were left out before.
    #[must_use]
    pub const fn except(self, others: &'a [u64]) -> Self {
        match self {
            Self::All | Self::Except(None, _) => Self::Except(None, others),
            Self::Words(words) | Self::Except(Some(words), _) => Self::Except(Some(words), others),
        }
    }

    /// Whether this piece is among them.
    pub fn contains(self, piece: u32) -> bool {
        self.word((piece / WORD) as usize) & bit(piece) != 0
    }

    pub(super) fn word(self, at: usize) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::Words(words) => words.get(at).copied().unwrap_or(0),
            Self::Except(words, others) => {
                let word = |words: &[u64]| words.get(at).copied().unwrap_or(0);
                words.map_or(u64::MAX, word) & !word(others)
            }
        }
    }
}

const fn bit(piece: u32) -> u64 {
    1 << (WORD - 1 - piece % WORD)
}

/// The bits of one word, as piece indices.
pub(super) fn ones(at: usize, mut word: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let piece = at as u32 * WORD + word.leading_zeros();
        word &= !bit(piece);
        Some(piece)
    })
}

/// Which bits of word `at` belong to a set of `len` members.
pub(super) fn mask(at: usize, len: u32) -> u64 {
    match len.saturating_sub(at as u32 * WORD) {
        0 => 0,
        rest if rest >= WORD => u64::MAX,
        rest => !(u64::MAX >> rest),
    }
}

/// A set of pieces that is searched together with what a peer has.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    /// Bit `i` tells whether word `i` has any bit.
    summary: Vec<u64>,
}

impl Bits {
    pub(super) fn new(len: u32) -> Self {
        let words = len.div_ceil(WORD);
        Self { words: vec![0; words as usize], summary: vec![0; words.div_ceil(WORD) as usize] }
    }

    pub(super) fn insert(&mut self, piece: u32) {
        let at = piece / WORD;
        self.words[at as usize] |= bit(piece);
        self.summary[(at / WORD) as usize] |= bit(at);
    }

    pub(super) fn remove(&mut self, piece: u32) {
        let at = piece / WORD;
        self.words[at as usize] &= !bit(piece);
        if self.words[at as usize] == 0 {
            self.summary[(at / WORD) as usize] &= !bit(at);
        }
    }

    pub(super) fn contains(&self, piece: u32) -> bool {
        self.words.get((piece / WORD) as usize).is_some_and(|word| word & bit(piece) != 0)
    }

    /// Whether nothing was ever put in, so that there is no room either.
    pub(super) fn is_unallocated(&self) -> bool {
        self.words.is_empty()
    }

    /// The first member at or after `from` that is among `pieces`. Adds the words it looked at to
    /// `steps`.
    pub(super) fn next_common(
        &self,
        pieces: Pieces<'_>,
        from: u32,
        steps: &mut u64,
    ) -> Option<u32> {
        let mut at = (from / WORD) as usize;
        let mut common = self.words.get(at)? & pieces.word(at) & (u64::MAX >> (from % WORD));
        loop {
            *steps += 1;
            if common != 0 {
                return Some(at as u32 * WORD + common.leading_zeros());
            }
            at = self.next_word(at + 1, steps)?;
            common = self.words[at] & pieces.word(at);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        (self.words.capacity() + self.summary.capacity()) * size_of::<u64>()
    }

    /// The first word at or after `at` that has any bit.
    fn next_word(&self, at: usize, steps: &mut u64) -> Option<usize> {
        let mut group = at / WORD as usize;
        let mut word = self.summary.get(group)? & (u64::MAX >> (at % WORD as usize));
        while word == 0 {
            *steps += 1;
            group += 1;
            word = *self.summary.get(group)?;
        }
        Some(group * WORD as usize + word.leading_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn pieces_are_left_out_and_all_others_stay() {
        let words = [u64::MAX, 1 << 63];
        let others = [1 << 63 | 1, 1 << 63];
        for pieces in [Pieces::All, Pieces::Words(&words)] {
            for piece in 0..2_000 {
                let expected = pieces.contains(piece) && !Pieces::Words(&others).contains(piece);
                assert_eq!(pieces.except(&others).contains(piece), expected, "{piece}");
            }
            assert!(pieces.except(&others).except(&[]).contains(1));
        }
    }

    proptest! {
        #[test]
        fn the_next_common_member_is_what_a_plain_search_finds(
            len in 1..9_000_u32,
            mine in prop::collection::vec((any::<bool>(), 0..9_000_u32), 0..60),
            theirs in prop::collection::vec(0..9_000_u32, 0..60),
            from in 0..9_100_u32,
        ) {
            let mut bits = Bits::new(len);
            let mut plain = BTreeSet::new();
            for (insert, piece) in mine {
                let piece = piece % len;
                if insert { bits.insert(piece); plain.insert(piece); }
                else { bits.remove(piece); plain.remove(&piece); }
            }
            let mut words = std::vec![0_u64; 141];
            for piece in theirs.iter().map(|piece| piece % len).chain(plain.iter().copied().take(2)) {
                words[(piece / 64) as usize] |= bit(piece);
            }
            let words = Pieces::Words(&words);
            let expected = plain.range(from..).copied().find(|piece| words.contains(*piece));
            prop_assert_eq!(bits.next_common(words, from, &mut 0), expected);
            prop_assert_eq!(
                bits.next_common(Pieces::All, from, &mut 0),
                plain.range(from..).next().copied()
            );
        }
    }

    #[test]
    fn bits_past_the_end_are_masked() {
        assert_eq!(mask(0, 64), u64::MAX);
        assert_eq!(mask(1, 64), 0);
        assert_eq!(mask(1, 67), 0b111 << 61);
        assert_eq!(ones(2, 0b101 << 61).collect::<Vec<_>>(), [128, 130]);
    }

    #[test]
    fn words_are_read_as_the_bytes_of_the_wire() {
        let word = u64::from_be_bytes([0b0100_0001, 0x80, 0, 0, 0, 0, 0, 1]);
        let pieces = Pieces::Words(core::slice::from_ref(&word));
        let has: Vec<_> = (0..70).filter(|piece| pieces.contains(*piece)).collect();
        assert_eq!(has, [1, 7, 8, 63]);
    }

    #[test]
    fn a_peer_with_a_short_bitfield_has_nothing_past_it() {
        assert!(Pieces::Words(&[1 << 63]).contains(0));
        assert!(!Pieces::Words(&[1 << 63]).contains(64));
        assert!(Pieces::All.contains(64));
    }
}
