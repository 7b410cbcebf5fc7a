//! A small mutator, for stable Rust: the same seed makes the same inputs on every machine.

use teem_core::rng::{Rng, Seed};

use crate::INPUT_LEN_MAX;

/// Bytes that protocols have a meaning for.
const TOKENS: &[&[u8]] = &[
    b"d",
    b"l",
    b"e",
    b":",
    b"i0e",
    b"i-1e",
    b"0:",
    b"1:a",
    b"99999999999:",
    b"\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1 ",
    b"Content-Length: ",
    b"chunked",
    b"%",
    b"&",
    b"..",
    b"/",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\x40\0",
    b"\0\0\0\x01",
    b"\x14",
];

/// Makes inputs out of a corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    rng: Rng,
}

impl<'a> Mutator<'a> {
    /// Inputs like those of `corpus`, which may be empty.
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        Self { corpus, rng: Seed::from_number(seed).stream("mutate", 0) }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u32) as usize
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = match self.rng.choose(self.corpus) {
            Some(seed) if self.rng.below(8) > 0 => seed.clone(),
            _ => {
                let mut random = vec![0; self.rng.below(200) as usize];
                self.rng.fill(&mut random);
                random
            }
        };
        for _ in 0..=self.below(5) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_LEN_MAX);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let len = self.below(20).min(input.len() - at);
        match self.below(8) {
            0 if at < input.len() => input[at] = self.rng.next_u32() as u8,
            1 if at < input.len() => input[at] ^= 1 << self.rng.below(8),
            2 if at < input.len() => {
                input[at] = input[at].wrapping_add(self.rng.below(5) as u8).wrapping_sub(2);
            }
            3 => _ = input.drain(at..at + len),
            4 => {
                let copy = input[at..at + len].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let token = *self.rng.choose(TOKENS).expect("tokens");
                input.splice(at..at, token.iter().copied());
            }
            6 => {
                // A part of another input, in place of what is here.
                let Some(other) = self.rng.choose(self.corpus) else { return };
                let from = self.rng.below(other.len() as u32 + 1) as usize;
                let run = (self.rng.below(100) as usize).min(other.len() - from);
                input.splice(at..at + len, other[from..from + run].iter().copied());
            }
            _ => input.truncate(at),
        }
    }
}
