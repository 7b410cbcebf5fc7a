//! Random numbers that cost next to nothing: the generator of Steele, Lea and Flood (2014), known as
//! `SplitMix64`.
//!
//! For what nothing else depends on, and of which there is much: the content of a torrent, the noise of
//! single packets. All else is drawn from [`Rng`](teem_core::rng::Rng).

/// Where it is; any number will do.
#[derive(Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub(crate) const fn next_word(&mut self) -> u64 {
        mix(self.step())
    }

    /// The next 32 bits: the upper ones before the last step of mixing, which is for the lower ones.
    pub(crate) const fn next_half(&mut self) -> u32 {
        (multiply(self.step()) >> 32) as u32
    }

    const fn step(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        self.0
    }
}

/// 2^64 over the golden ratio: what the generator goes on by.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number in place of another, one for one, that seems to have nothing to do with it.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = multiply(word);
    word ^ (word >> 31)
}

const fn multiply(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference() {
        // Of Vigna's splitmix64.c with the seed 1234567.
        let mut numbers = SplitMix64(1_234_567);
        let first: [u64; 3] = std::array::from_fn(|_| numbers.next_word());
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, expected);
    }

    #[test]
    fn halves_are_spread_evenly() {
        let mut numbers = SplitMix64(7);
        let mut counts = [0_u32; 16];
        for _ in 0..160_000 {
            counts[(numbers.next_half() >> 28) as usize] += 1;
        }
        // Four standard deviations.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 400), "{counts:?}");
    }
}
