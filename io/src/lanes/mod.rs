//! Hashing in lanes: many streams side by side, for little more than the price of one.
//!
//! A processor with AVX-512 takes a block of sixteen streams in one go, about four times as fast
//! as it takes them one after the other. So whoever has streams to hash (the executor, `verify`,
//! `create`) gathers them and hands them in as a set of [`Step`]s. [`Lanes::update`] takes each a
//! step further, and chooses how: in lanes where there are enough of them, alone where not, or
//! where the processor has no such thing.
//!
//! ```text
//!   waiting streams --> 16 lanes --> kernel: n blocks of each --+--> next part of the stream
//!                         ^                                     |
//!                         +------- next waiting stream <--------+--> at its end
//! ```
//!
//! Streams may be of any length, in parts of any length: a block that lies in several parts is put
//! together in a small buffer of its lane, everything else is hashed where it lies. All lanes go as
//! far as the one with the shortest run; that costs nothing but a store and a load of the sixteen
//! states.
//!
//! This module knows no jobs and no threads. The kernel is a closed module below it; SHA-1 and
//! SHA-256 of one stream are `sha1`'s and `sha2`'s.
//!
//! ```
//! use teem_core::hash::{HashAlgorithm, Stream, sha1};
//! use teem_io::lanes::{Lanes, Step};
//!
//! let pieces = [vec![1; 1000], vec![2; 70], vec![]];
//! let mut states = [const { Stream::new(HashAlgorithm::Sha1) }; 3];
//! let mut steps: Vec<_> = std::iter::zip(&mut states, &pieces)
//!     .map(|(state, piece)| Step { state, parts: std::slice::from_ref(piece) })
//!     .collect();
//! Lanes::Auto.update(&mut steps);
//! for (state, piece) in states.into_iter().zip(&pieces) {
//!     assert_eq!(state.finish().as_bytes(), sha1(piece));
//! }
//! ```

#[cfg(target_arch = "x86_64")]
mod avx512;
mod gather;
#[cfg(not(target_arch = "x86_64"))]
mod none;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::AddAssign;

use teem_core::hash::{BLOCK, Digest, HashAlgorithm, Stream};

#[cfg(target_arch = "x86_64")]
use avx512::{Kernel, Words};
#[cfg(not(target_arch = "x86_64"))]
use none::{Kernel, Words};

/// Streams that are hashed side by side at most.
pub const LANES: usize = 16;

/// Whether streams are hashed in lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lanes {
    /// Where there are streams enough for it to pay, and the processor can.
    #[default]
    Auto,
    /// Never: one stream after the other.
    Off,
}

/// A stream's next bytes.
#[derive(Debug)]
pub struct Step<'a, B> {
    /// Where the stream is; afterwards, where it is then.
    pub state: &'a mut Stream,
    /// The bytes, in parts that read as one.
    pub parts: &'a [B],
}

/// How blocks of 64 bytes were hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// In lanes.
    pub in_lanes: u64,
    /// What the lanes could have taken in the same time: [`LANES`] for each step of a kernel.
    pub room: u64,
    /// One stream after the other; the ends of streams are not counted.
    pub alone: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.in_lanes += more.in_lanes;
        self.room += more.room;
        self.alone += more.alone;
    }
}

impl Lanes {
    /// Takes each stream a step further.
    pub fn update<B: AsRef<[u8]>>(self, steps: &mut [Step<'_, B>]) -> Tally {
        let mut tally = Tally::default();
        let Some(kernel) = self.kernel() else {
            for step in steps {
                alone(step, &mut tally);
            }
            return tally;
        };
        // Those of one function are neighbours then; mostly they are already.
        steps.sort_by_key(|step| step.state.algorithm() == HashAlgorithm::Sha256);
        for steps in steps.chunk_by_mut(|a, b| a.state.algorithm() == b.state.algorithm()) {
            gather::run(kernel, steps, &mut tally);
        }
        tally
    }

    /// The digests of whole messages, such as the leaves of a v2 torrent (BEP 52).
    pub fn digests<B: AsRef<[u8]>>(self, algorithm: HashAlgorithm, messages: &[B]) -> Vec<Digest> {
        let mut states = vec![Stream::new(algorithm); messages.len()];
        let mut steps: Vec<_> = states
            .iter_mut()
            .zip(messages.chunks(1))
            .map(|(state, parts)| Step { state, parts })
            .collect();
        self.update(&mut steps);
        states.into_iter().map(Stream::finish).collect()
    }

    /// From how many streams on they are hashed in lanes here; never, if none.
    pub fn worth(self, algorithm: HashAlgorithm) -> Option<usize> {
        self.kernel().map(|kernel| kernel.worth(algorithm))
    }

    fn kernel(self) -> Option<Kernel> {
        match self {
            Self::Auto => Kernel::detect(),
            Self::Off => None,
        }
    }
}

fn alone<B: AsRef<[u8]>>(step: &mut Step<'_, B>, tally: &mut Tally) {
    let before = step.state.len();
    for part in step.parts {
        step.state.update(part.as_ref());
    }
    tally.alone += (step.state.len() - before) / BLOCK as u64;
}
