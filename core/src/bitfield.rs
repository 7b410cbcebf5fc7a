//! One bit per piece (or per block): who has what.
//!
//! Bit 0 is the highest bit of the first byte on the wire (BEP 3, "bitfield"), and the highest bit
//! of the first word here, so that reading and writing is a change of byte order, and questions
//! about two sets are asked 64 pieces at a time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bytes::BufMut;
use serde::{Deserialize, Serialize};

const WORD: u32 = u64::BITS;

/// A set of indices below a fixed length, one bit each. Knows its count.
///
/// Two fields of different lengths may meet in any operation: what one does not have is a zero.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Bitfield {
    /// Bits at and beyond `len` are zero, always.
    words: Box<[u64]>,
    len: u32,
    count: u32,
}

/// Why bytes are not a bitfield of the length wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitfieldError {
    /// The number of bytes does not fit the number of bits.
    #[error("a bitfield of {expected} bytes is {found} bytes long")]
    Length {
        /// Bytes that the number of bits asks for.
        expected: u32,
        /// Bytes there are; capped at `u32::MAX`.
        found: u32,
    },
    /// A bit behind the last piece is set (BEP 3 asks for zeros).
    #[error("a spare bit of a bitfield is set")]
    SpareBits,
}

impl Bitfield {
    /// `len` bits, none of them set.
    pub fn new(len: u32) -> Self {
        Self { words: vec![0; len.div_ceil(WORD) as usize].into(), len, count: 0 }
    }

    /// `len` bits, all of them set.
    pub fn full(len: u32) -> Self {
        let mut field = Self::new(len);
        field.set_all();
        field
    }

    /// Bytes of a field of `len` bits on the wire.
    #[inline]
    pub const fn wire_len(len: u32) -> u32 {
        len.div_ceil(8)
    }

    /// Reads the payload of a bitfield message about `len` pieces (BEP 3). Lengths are compared
    /// before anything is allocated.
    pub fn from_wire(bytes: &[u8], len: u32) -> Result<Self, BitfieldError> {
        let expected = Self::wire_len(len);
        if bytes.len() != expected as usize {
            let found = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            return Err(BitfieldError::Length { expected, found });
        }
        let words: Box<[u64]> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_be_bytes(word)
            })
            .collect();
        if words.last().is_some_and(|last| last & !last_mask(len) != 0) {
            return Err(BitfieldError::SpareBits);
        }
        let count = words.iter().map(|word| word.count_ones()).sum();
        Ok(Self { words, len, count })
    }

    /// Appends the field as it goes over the wire: [`wire_len`](Self::wire_len) bytes.
    pub fn write_wire(&self, out: &mut impl BufMut) {
        let mut left = Self::wire_len(self.len) as usize;
        for word in &self.words {
            let take = left.min(8);
            out.put_slice(&word.to_be_bytes()[..take]);
            left -= take;
        }
    }

    /// The field as it goes over the wire.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::wire_len(self.len) as usize);
        self.write_wire(&mut out);
        out
    }

    /// The bits a word at a time: piece `i` is bit `63 - i % 64` of word `i / 64`, as on the wire.
    /// Bits past the end are zero.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many bits there are, set or not.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bits at all, set or not. See [`none`](Self::none).
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bits are set. O(1).
    #[inline]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether every bit is set; so it is when there are none. O(1).
    #[inline]
    pub const fn all(&self) -> bool {
        self.count == self.len
    }

    /// Whether no bit is set. O(1).
    #[inline]
    pub const fn none(&self) -> bool {
        self.count == 0
    }

    /// Whether bit `index` is set; beyond the end nothing is.
    #[inline]
    pub fn get(&self, index: u32) -> bool {
        self.word(index / WORD) & bit(index) != 0
    }

    /// Sets bit `index`. Returns whether that changed anything; beyond the end nothing changes.
    #[inline]
    pub fn set(&mut self, index: u32) -> bool {
        if index >= self.len || self.get(index) {
            return false;
        }
        self.words[(index / WORD) as usize] |= bit(index);
        self.count += 1;
        true
    }

    /// Clears bit `index`. Returns whether that changed anything; beyond the end nothing changes.
    #[inline]
    pub fn clear(&mut self, index: u32) -> bool {
        if !self.get(index) {
            return false;
        }
        self.words[(index / WORD) as usize] &= !bit(index);
        self.count -= 1;
        true
    }

    /// Sets every bit.
    pub fn set_all(&mut self) {
        self.words.fill(u64::MAX);
        if let Some(last) = self.words.last_mut() {
            *last &= last_mask(self.len);
        }
        self.count = self.len;
    }

    /// Clears every bit.
    pub fn clear_all(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    /// Sets every bit that `other` has set, as far as this field reaches.
    pub fn union_with(&mut self, other: &Self) {
        for (word, theirs) in self.words.iter_mut().zip(&other.words) {
            *word |= theirs;
        }
        if other.len > self.len
            && let Some(last) = self.words.last_mut()
        {
            *last &= last_mask(self.len);
        }
        self.count = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// The set bits in ascending order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        Ones::new(self.words.len() as u32, |at| self.word(at))
    }

    /// The bits that are not set, in ascending order.
    pub fn iter_unset(&self) -> impl Iterator<Item = u32> {
        Ones::new(self.words.len() as u32, |at| {
            let last = at as usize + 1 == self.words.len();
            !self.word(at) & if last { last_mask(self.len) } else { u64::MAX }
        })
    }

    /// The bits set here and not in `other`, in ascending order: with a peer's field and ours,
    /// what the peer could give us.
    #[inline]
    pub fn missing_from(&self, other: &Self) -> impl Iterator<Item = u32> {
        Ones::new(self.words.len() as u32, |at| self.word(at) & !other.word(at))
    }

    /// The bits set in both, in ascending order.
    pub fn common_with(&self, other: &Self) -> impl Iterator<Item = u32> {
        Ones::new(self.words.len() as u32, |at| self.word(at) & other.word(at))
    }

    /// How many bits are set here and not in `other`.
    pub fn count_missing_from(&self, other: &Self) -> u32 {
        (0..).zip(&self.words).map(|(at, word)| (word & !other.word(at)).count_ones()).sum()
    }

    /// Whether anything is set here that `other` has not: whether a peer with this field is
    /// interesting to whoever has `other`.
    pub fn is_interesting_to(&self, other: &Self) -> bool {
        if self.none() || (other.all() && other.len >= self.len) {
            return false;
        }
        self.count > other.count
            || (0..).zip(&self.words).any(|(at, word)| word & !other.word(at) != 0)
    }

    /// Whether any bit is set in both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(ours, theirs)| ours & theirs != 0)
    }

    #[inline]
    fn word(&self, at: u32) -> u64 {
        self.words.get(at as usize).copied().unwrap_or(0)
    }
}

#[inline]
const fn bit(index: u32) -> u64 {
    1 << (WORD - 1 - index % WORD)
}

/// The bits of the last word of a field of `len` bits that stand for something.
const fn last_mask(len: u32) -> u64 {
    match len % WORD {
        0 => u64::MAX,
        used => !(u64::MAX >> used),
    }
}

/// Set bits of computed words.
struct Ones<F> {
    word: u64,
    at: u32,
    words: u32,
    load: F,
}

impl<F: FnMut(u32) -> u64> Ones<F> {
    #[inline]
    fn new(words: u32, mut load: F) -> Self {
        let word = if words == 0 { 0 } else { load(0) };
        Self { word, at: 0, words, load }
    }
}

impl<F: FnMut(u32) -> u64> Iterator for Ones<F> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.word == 0 {
            if self.at + 1 >= self.words {
                return None;
            }
            self.at += 1;
            self.word = (self.load)(self.at);
        }
        let index = self.at * WORD + self.word.leading_zeros();
        self.word &= !bit(index);
        Some(index)
    }
}

impl core::fmt::Debug for Bitfield {
    /// Counts only: thousands of bits say nothing in a log.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Bitfield({} of {})", self.count, self.len)
    }
}

/// The form in traces and resume data.
#[derive(Serialize, Deserialize)]
struct Stored {
    len: u32,
    bytes: Vec<u8>,
}

impl From<Bitfield> for Stored {
    fn from(field: Bitfield) -> Self {
        Self { len: field.len, bytes: field.to_wire() }
    }
}

impl TryFrom<Stored> for Bitfield {
    type Error = BitfieldError;

    fn try_from(stored: Stored) -> Result<Self, BitfieldError> {
        Self::from_wire(&stored.bytes, stored.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(bits: &[bool]) -> Bitfield {
        let mut field = Bitfield::new(bits.len() as u32);
        for index in ones(bits) {
            assert!(field.set(index));
        }
        field
    }

    fn ones(bits: &[bool]) -> Vec<u32> {
        (0..).zip(bits).filter_map(|(index, bit)| bit.then_some(index)).collect()
    }

    fn minus(a: &[bool], b: &[bool]) -> Vec<bool> {
        (0..a.len()).map(|at| a[at] && !b.get(at).copied().unwrap_or(false)).collect()
    }

    fn bits() -> impl Strategy<Value = Vec<bool>> {
        prop_oneof![
            prop::collection::vec(any::<bool>(), 0..200),
            (0_usize..200).prop_map(|len| vec![true; len]),
            (0_usize..200).prop_map(|len| vec![false; len]),
        ]
    }

    #[test]
    fn the_state_is_three_words() {
        assert_eq!(size_of::<Bitfield>(), 24);
        assert_eq!(size_of::<Option<Bitfield>>(), 24);
    }

    #[test]
    fn the_first_piece_is_the_highest_bit_of_the_first_byte() {
        let mut field = Bitfield::new(10);
        field.set(0);
        field.set(9);
        assert_eq!(field.to_wire(), [0x80, 0x40]);
    }

    #[test]
    fn a_spare_bit_or_a_wrong_length_is_refused() {
        assert_eq!(Bitfield::from_wire(&[0xff, 0xe0], 10), Err(BitfieldError::SpareBits));
        let too_long = BitfieldError::Length { expected: 2, found: 3 };
        assert_eq!(Bitfield::from_wire(&[0, 0, 0], 10), Err(too_long));
        let too_short = BitfieldError::Length { expected: 1 << 29, found: 1 };
        assert_eq!(Bitfield::from_wire(&[0], u32::MAX), Err(too_short));
        assert_eq!(Bitfield::from_wire(&[], 0), Ok(Bitfield::new(0)));
        assert!(Bitfield::from_wire(&[0xff, 0xc0], 10).is_ok_and(|field| field.all()));
    }

    #[test]
    fn an_index_beyond_the_end_changes_nothing() {
        let mut field = Bitfield::full(10);
        assert!(!field.get(10) && !field.set(10) && !field.clear(10) && !field.set(u32::MAX));
        assert_eq!(field, Bitfield::full(10));
    }

    proptest! {
        #[test]
        fn every_operation_agrees_with_a_vector_of_bools(
            start in bits(),
            steps in prop::collection::vec((0_u32..220, 0_u8..20), 0..60),
        ) {
            let mut model = start;
            let mut field = field(&model);
            for (index, step) in steps {
                let old = model.get(index as usize).copied();
                match step {
                    0 => { field.set_all(); model.fill(true); }
                    1 => { field.clear_all(); model.fill(false); }
                    2..10 => {
                        prop_assert_eq!(field.set(index), old == Some(false));
                        if old.is_some() { model[index as usize] = true; }
                    }
                    _ => {
                        prop_assert_eq!(field.clear(index), old == Some(true));
                        if old.is_some() { model[index as usize] = false; }
                    }
                }
                prop_assert_eq!(field.count() as usize, ones(&model).len());
            }
            prop_assert_eq!(field.iter().collect::<Vec<_>>(), ones(&model));
            let unset: Vec<_> = model.iter().map(|bit| !bit).collect();
            prop_assert_eq!(field.iter_unset().collect::<Vec<_>>(), ones(&unset));
            prop_assert_eq!(field.all(), model.iter().all(|bit| *bit));
            prop_assert_eq!(field.none(), !model.contains(&true));
            prop_assert!((0..220).all(|at| field.get(at) == model.get(at as usize).copied().unwrap_or(false)));

            let wire = field.to_wire();
            prop_assert_eq!(Bitfield::from_wire(&wire, field.len()), Ok(field.clone()));
            let stored = postcard::to_allocvec(&field).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Bitfield>(&stored).unwrap(), field);
        }

        #[test]
        fn questions_about_two_fields_agree_with_the_model(a in bits(), b in bits()) {
            let (ours, theirs) = (field(&a), field(&b));
            let missing = ones(&minus(&a, &b));
            prop_assert_eq!(ours.missing_from(&theirs).collect::<Vec<_>>(), missing.clone());
            prop_assert_eq!(ours.count_missing_from(&theirs) as usize, missing.len());
            prop_assert_eq!(ours.is_interesting_to(&theirs), !missing.is_empty());
            let common: Vec<_> = ours.iter().filter(|at| theirs.get(*at)).collect();
            prop_assert_eq!(ours.intersects(&theirs), !common.is_empty());
            prop_assert_eq!(ours.common_with(&theirs).collect::<Vec<_>>(), common);

            let mut both = ours.clone();
            both.union_with(&theirs);
            let expected: Vec<_> = (0..a.len())
                .map(|at| a[at] || b.get(at).copied().unwrap_or(false))
                .collect();
            prop_assert_eq!(both, field(&expected));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), len in 0_u32..330) {
            if let Ok(field) = Bitfield::from_wire(&bytes, len) {
                prop_assert_eq!(field.to_wire(), bytes);
            }
        }
    }
}
