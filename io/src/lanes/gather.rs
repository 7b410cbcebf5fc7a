//! Which stream is in which lane, and what of it is hashed next.

use std::slice::Iter;

use teem_core::hash::{BLOCK, Stream};

use super::{Kernel, LANES, Step, Tally, Words};

/// A stream that is being hashed. Its chaining words are with the others', in [`Words`].
struct Lane<'a, B> {
    state: &'a mut Stream,
    parts: Iter<'a, B>,
    /// What is left of the part under way.
    part: &'a [u8],
    /// A block that lies in several parts, put together.
    block: [[u8; BLOCK]; 1],
    held: usize,
    /// Whole blocks hashed, not yet told to `state`.
    blocks: u64,
}

impl<'a, B: AsRef<[u8]>> Lane<'a, B> {
    /// A lane for a stream, once it is between blocks.
    fn new(step: &'a mut Step<'_, B>) -> Self {
        let mut parts = step.parts.iter();
        let mut part: &[u8] = &[];
        while step.state.chain().is_none() {
            if part.is_empty() {
                let Some(next) = parts.next() else { break };
                part = next.as_ref();
                continue;
            }
            let missing = BLOCK - (step.state.len() % BLOCK as u64) as usize;
            let (head, rest) = part.split_at(part.len().min(missing));
            step.state.update(head);
            part = rest;
        }
        Self { state: step.state, parts, part, block: [[0; BLOCK]], held: 0, blocks: 0 }
    }

    /// Sees to it that there is a block to hash next. False at the end of the stream.
    fn prepare(&mut self) -> bool {
        if self.state.chain().is_none() {
            return false;
        }
        loop {
            if self.held == BLOCK || (self.held == 0 && self.part.len() >= BLOCK) {
                return true;
            }
            if self.part.is_empty() {
                let Some(next) = self.parts.next() else { return false };
                self.part = next.as_ref();
                continue;
            }
            let take = self.part.len().min(BLOCK - self.held);
            let (head, rest) = self.part.split_at(take);
            self.block[0][self.held..self.held + take].copy_from_slice(head);
            self.held += take;
            self.part = rest;
        }
    }

    /// Blocks that can be hashed next where they lie.
    fn run(&self) -> &[[u8; BLOCK]] {
        if self.held == BLOCK { &self.block } else { self.part.as_chunks().0 }
    }

    /// So many blocks of the run were hashed.
    fn advance(&mut self, count: usize) {
        self.blocks += count as u64;
        if self.held == BLOCK {
            self.held = 0;
        } else {
            self.part = &self.part[count * BLOCK..];
        }
    }

    /// Ends it: hashes alone what is left, which is less than a block at the end of a stream.
    fn finish(self, words: [u32; 8], tally: &mut Tally) {
        let Self { state, parts, part, block, held, blocks } = self;
        if blocks > 0 {
            state.set_chain(words, blocks);
        }
        let before = state.len();
        state.update(&block[0][..held]);
        state.update(part);
        parts.for_each(|part| state.update(part.as_ref()));
        tally.in_lanes += blocks;
        tally.alone += (state.len() - before) / BLOCK as u64;
    }
}

/// Takes streams a step further, all of the same algorithm.
pub(super) fn run<B: AsRef<[u8]>>(kernel: Kernel, steps: &mut [Step<'_, B>], tally: &mut Tally) {
    let Some(algorithm) = steps.first().map(|step| step.state.algorithm()) else { return };
    let worth = kernel.worth(algorithm);
    let mut waiting = steps.iter_mut();
    let mut lanes = [const { None::<Lane<'_, B>> }; LANES];
    let mut words: Words = [[0; LANES]; 8];
    loop {
        let mut busy = 0;
        for (at, slot) in lanes.iter_mut().enumerate() {
            loop {
                if let Some(lane) = slot
                    && lane.prepare()
                {
                    busy += 1;
                    break;
                }
                if let Some(ended) = slot.take() {
                    ended.finish(words.each_ref().map(|word| word[at]), tally);
                }
                let Some(step) = waiting.next() else { break };
                let lane = slot.insert(Lane::new(step));
                let chain = lane.state.chain().copied().unwrap_or_default();
                for (word, chain) in words.iter_mut().zip(chain) {
                    word[at] = chain;
                }
            }
        }
        // Lanes are empty only when nothing waits.
        if busy < worth {
            break;
        }
        let runs = lanes.each_ref().map(|lane| lane.as_ref().map(Lane::run));
        let shortest = runs.iter().flatten().min_by_key(|run| run.len());
        let Some(&shortest) = shortest else { break };
        let count = shortest.len();
        // An empty lane hashes what another does; nobody looks at the outcome.
        kernel.compress(algorithm, &mut words, &runs.map(|run| run.unwrap_or(shortest)), count);
        tally.room += (count * LANES) as u64;
        lanes.iter_mut().flatten().for_each(|lane| lane.advance(count));
    }
    for (at, slot) in lanes.into_iter().enumerate() {
        if let Some(lane) = slot {
            lane.finish(words.each_ref().map(|word| word[at]), tally);
        }
    }
    debug_assert!(waiting.next().is_none(), "an empty lane takes what waits");
}
