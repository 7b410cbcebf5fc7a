//! Randomness as the machines see it: one seed, and counted streams drawn from it.
//!
//! Each component takes a stream of its own, named by a label and an index, so that one more draw
//! in one place shifts nothing anywhere else. Draws are SipHash-2-4 of a counter under a key that
//! the seed yields, so an outsider who sees some of them cannot tell the others.

use core::hash::{BuildHasher, Hasher};

use serde::{Deserialize, Serialize};
use siphasher::sip::{SipHasher13, SipHasher24};
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24x128};

/// The one source of randomness of a root machine. A driver takes it from the operating system, a
/// simulator from its scenario.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed(pub [u8; 32]);

impl core::fmt::Debug for Seed {
    /// Says nothing: a seed gives every secret of its machine away.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    /// A seed for tests and scenarios, where a small number must do.
    pub fn from_number(number: u64) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Self(seed)
    }

    /// The stream of random numbers called `label`, `index`.
    pub fn stream(&self, label: &str, index: u64) -> Rng {
        Rng { key: self.key(label, index), counter: 0 }
    }

    /// A hasher state for maps whose keys strangers choose.
    pub fn hasher(&self, label: &str) -> KeyedHasher {
        KeyedHasher { key: self.key(label, 0) }
    }

    /// A 128-bit secret called `label`, `index`: the key of a [`mac`].
    pub fn key(&self, label: &str, index: u64) -> [u64; 2] {
        let half = |at: usize| {
            u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight of 32 bytes"))
        };
        let mut hasher = SipHasher24x128::new_with_keys(half(0), half(8));
        hasher.write_u64(half(16));
        hasher.write_u64(half(24));
        hasher.write_u64(index);
        hasher.write(label.as_bytes());
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

/// A keyed checksum of `message`: tokens and connection ids that nobody can guess.
pub fn mac(key: [u64; 2], message: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(key[0], key[1]);
    hasher.write(message);
    hasher.finish()
}

/// One stream of random numbers: a key and a counter, 24 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Rng {
    key: [u64; 2],
    counter: u64,
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rng").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let counter = self.counter;
        self.counter = counter.wrapping_add(1);
        mac(self.key, &counter.to_le_bytes())
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number below `bound`, evenly (to within 2^-32); zero if `bound` is zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let pick = self.below(last as u32 + 1) as usize;
            items.swap(pick, last);
        }
    }

    /// One of `items`, or none if there is none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u32) as usize)
    }
}

/// Builds hashers with a secret key, for maps whose keys strangers choose.
#[derive(Clone, Copy)]
pub struct KeyedHasher {
    key: [u64; 2],
}

impl core::fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyedHasher(..)")
    }
}

impl BuildHasher for KeyedHasher {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key[0], self.key[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_state_of_a_stream_is_small() {
        assert!(size_of::<Rng>() <= 32);
    }

    #[test]
    fn a_draw_in_one_stream_shifts_no_other() {
        let seed = Seed::from_number(7);
        let mut quiet = seed.stream("choker", 0);
        let expected = quiet.next_u64();
        seed.stream("picker", 0).next_u64();
        assert_eq!(seed.stream("choker", 0).next_u64(), expected);
        assert_ne!(seed.stream("picker", 0).next_u64(), expected);
        assert_ne!(seed.stream("choker", 1).next_u64(), expected);
        assert_ne!(Seed::from_number(8).stream("choker", 0).next_u64(), expected);
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut rng = Seed::from_number(1).stream("test", 0);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Seed::from_number(3).stream("test", 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn an_odd_length_is_filled_to_its_end() {
        let mut bytes = [0; 13];
        Seed::from_number(4).stream("test", 0).fill(&mut bytes);
        assert!(bytes[8..].iter().any(|byte| *byte != 0));
    }
}
