//! SHA-1 and SHA-256 of sixteen messages at once: each of the sixteen 32-bit words of a vector
//! belongs to another message.
//!
//! All that is unsafe about hashing is here. There are three kinds of it, each in one place: calling
//! a function that needs AVX-512, which a value of [`Kernel`] proves is there; loading 64 bytes
//! that a reference leads to; storing them.

#![allow(unsafe_code, reason = "intrinsics load and store through pointers, and need detection")]

use std::arch::is_x86_feature_detected;
#[allow(clippy::wildcard_imports, reason = "the names are prefixed")]
use std::arch::x86_64::*;

use teem_core::hash::{BLOCK, HashAlgorithm};

use super::LANES;

/// Chaining words, word by word: `[word][lane]`.
pub(super) type Words = [[u32; LANES]; 8];

/// Proof that this processor has what the functions here need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// One stream has instructions of its own (SHA-NI).
    one_is_fast: bool,
}

impl Kernel {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then(|| Self { one_is_fast: is_x86_feature_detected!("sha") })
    }

    /// From how many streams on lanes pay: they cost the same with any number of them. Where one
    /// stream has instructions of its own, more of them are needed.
    pub(super) fn worth(self, algorithm: HashAlgorithm) -> usize {
        match algorithm {
            _ if !self.one_is_fast => 2,
            HashAlgorithm::Sha1 => 5,
            _ => 8,
        }
    }

    /// Hashes the first `count` blocks of each lane.
    ///
    /// # Panics
    ///
    /// If a lane has fewer.
    #[expect(clippy::unused_self, reason = "whoever has it may call")]
    pub(super) fn compress(
        self,
        algorithm: HashAlgorithm,
        words: &mut Words,
        lanes: &[&[[u8; BLOCK]]; LANES],
        count: usize,
    ) {
        let lanes = lanes.map(|blocks| &blocks[..count]);
        match algorithm {
            // SAFETY: a `Kernel` exists only where `detect` found avx512f and avx512bw.
            HashAlgorithm::Sha1 => unsafe { sha1(words, &lanes, count) },
            // SAFETY: as above.
            HashAlgorithm::Sha256 => unsafe { sha256(words, &lanes, count) },
            other => unreachable!("{other:?} has no kernel"),
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_words(words: &[u32; LANES]) -> __m512i {
    // SAFETY: the reference leads to 64 readable bytes, and this load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_block(block: &[u8; BLOCK]) -> __m512i {
    // SAFETY: the reference leads to 64 readable bytes, and this load asks for no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_words(words: &mut [u32; LANES], vector: __m512i) {
    // SAFETY: the reference leads to 64 writable bytes, and this store asks for no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
}

/// A block of each lane, word by word, as numbers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(lanes: &[&[[u8; BLOCK]]; LANES], at: usize) -> [__m512i; LANES] {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut rows = [_mm512_setzero_si512(); LANES];
    for (row, blocks) in rows.iter_mut().zip(lanes) {
        *row = _mm512_shuffle_epi8(load_block(&blocks[at]), order);
    }
    transpose(&rows)
}

/// Rows become columns: `[lane][word]` to `[word][lane]`.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = *rows;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // Quarter q of fours[4 * g + k] is word 4 * q + k of lanes 4 * g to 4 * g + 3.
    let mut fours = pairs;
    for i in (0..LANES).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut columns = fours;
    for k in 0..4 {
        let even_low = _mm512_shuffle_i32x4::<0x88>(fours[k], fours[4 + k]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(fours[k], fours[4 + k]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(fours[8 + k], fours[12 + k]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(fours[8 + k], fours[12 + k]);
        columns[k] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        columns[4 + k] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        columns[8 + k] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        columns[12 + k] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    columns
}

#[target_feature(enable = "avx512f")]
#[inline]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

// Truth tables of three bits, as vpternlog takes them.
const CHOOSE: i32 = 0xca;
const PARITY: i32 = 0x96;
const MAJORITY: i32 = 0xe8;

/// Repeats a statement for sixteen, or twenty, rounds: `t` is a constant in each.
macro_rules! rounds {
    ($t:ident in [$($at:literal)*] $body:block) => {
        $({ const $t: usize = $at; $body })*
    };
}

/// SHA-1 (FIPS 180-4, section 6.1.2), with its names. The message schedule is a ring of sixteen words.
#[expect(clippy::many_single_char_names, reason = "as the standard has them")]
#[target_feature(enable = "avx512f,avx512bw")]
fn sha1(words: &mut Words, lanes: &[&[[u8; BLOCK]]; LANES], count: usize) {
    let mut chain = [
        load_words(&words[0]),
        load_words(&words[1]),
        load_words(&words[2]),
        load_words(&words[3]),
        load_words(&words[4]),
    ];
    for at in 0..count {
        let mut w = load(lanes, at);
        let [mut a, mut b, mut c, mut d, mut e] = chain;
        macro_rules! round {
            ($f:expr, $k:expr, $t:ident) => {
                if $t >= 16 {
                    let three = _mm512_ternarylogic_epi32::<PARITY>(
                        w[($t + 13) % 16],
                        w[($t + 8) % 16],
                        w[($t + 2) % 16],
                    );
                    w[$t % 16] = _mm512_rol_epi32::<1>(_mm512_xor_si512(three, w[$t % 16]));
                }
                let mixed = _mm512_ternarylogic_epi32::<{ $f }>(b, c, d);
                let given = _mm512_add_epi32(_mm512_add_epi32(e, $k), w[$t % 16]);
                let next =
                    _mm512_add_epi32(_mm512_add_epi32(_mm512_rol_epi32::<5>(a), mixed), given);
                (a, b, c, d, e) = (next, a, _mm512_rol_epi32::<30>(b), c, d);
            };
        }
        let k = all(0x5a82_7999);
        rounds!(T in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19] {
            round!(CHOOSE, k, T);
        });
        let k = all(0x6ed9_eba1);
        rounds!(T in [20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39] {
            round!(PARITY, k, T);
        });
        let k = all(0x8f1b_bcdc);
        rounds!(T in [40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59] {
            round!(MAJORITY, k, T);
        });
        let k = all(0xca62_c1d6);
        rounds!(T in [60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79] {
            round!(PARITY, k, T);
        });
        for (chain, new) in chain.iter_mut().zip([a, b, c, d, e]) {
            *chain = _mm512_add_epi32(*chain, new);
        }
    }
    for (words, chain) in words.iter_mut().zip(chain) {
        store_words(words, chain);
    }
}

/// The constants of SHA-256 (FIPS 180-4, section 4.2.2).
const SHA256_K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// SHA-256 (FIPS 180-4, section 6.2.2), with its names. The message schedule is a ring of sixteen words.
#[expect(clippy::many_single_char_names, reason = "as the standard has them")]
#[target_feature(enable = "avx512f,avx512bw")]
fn sha256(words: &mut Words, lanes: &[&[[u8; BLOCK]]; LANES], count: usize) {
    let mut chain = [_mm512_setzero_si512(); 8];
    for (chain, words) in chain.iter_mut().zip(words.iter()) {
        *chain = load_words(words);
    }
    for at in 0..count {
        let mut w = load(lanes, at);
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = chain;
        for (part, constants) in SHA256_K.as_chunks::<16>().0.iter().enumerate() {
            rounds!(T in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                let sum1 = _mm512_ternarylogic_epi32::<PARITY>(
                    _mm512_ror_epi32::<6>(e),
                    _mm512_ror_epi32::<11>(e),
                    _mm512_ror_epi32::<25>(e),
                );
                let chosen = _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g);
                let given = _mm512_add_epi32(_mm512_add_epi32(h, all(constants[T])), w[T]);
                let first = _mm512_add_epi32(_mm512_add_epi32(given, sum1), chosen);
                let sum0 = _mm512_ternarylogic_epi32::<PARITY>(
                    _mm512_ror_epi32::<2>(a),
                    _mm512_ror_epi32::<13>(a),
                    _mm512_ror_epi32::<22>(a),
                );
                let most = _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c);
                let second = _mm512_add_epi32(sum0, most);
                (a, b, c, d, e, f, g, h) = (
                    _mm512_add_epi32(first, second),
                    a,
                    b,
                    c,
                    _mm512_add_epi32(d, first),
                    e,
                    f,
                    g,
                );
            });
            if part == 3 {
                break;
            }
            rounds!(T in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                let (early, late) = (w[(T + 1) % 16], w[(T + 14) % 16]);
                let sigma0 = _mm512_ternarylogic_epi32::<PARITY>(
                    _mm512_ror_epi32::<7>(early),
                    _mm512_ror_epi32::<18>(early),
                    _mm512_srli_epi32::<3>(early),
                );
                let sigma1 = _mm512_ternarylogic_epi32::<PARITY>(
                    _mm512_ror_epi32::<17>(late),
                    _mm512_ror_epi32::<19>(late),
                    _mm512_srli_epi32::<10>(late),
                );
                let kept = _mm512_add_epi32(w[T], w[(T + 9) % 16]);
                w[T] = _mm512_add_epi32(_mm512_add_epi32(kept, sigma0), sigma1);
            });
        }
        for (chain, new) in chain.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *chain = _mm512_add_epi32(*chain, new);
        }
    }
    for (words, chain) in words.iter_mut().zip(chain) {
        store_words(words, chain);
    }
}
