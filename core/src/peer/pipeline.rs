//! The requests that we have outstanding with one peer, and how many there should be.
//!
//! Enough that the peer never waits for us, and no more: its rate times the delay of an answer,
//! plus a second's worth, so that a peer that answers in bursts is not starved between them. A new
//! pipeline starts small and grows by a block for each block that comes, as TCP does.

use alloc::collections::VecDeque;

use smallvec::SmallVec;

use crate::ids::PieceIndex;
use crate::time::{Duration, Instant};
use crate::torrent::picker::{BLOCK_LEN, BlockId};

/// Blocks outstanding with a peer that has shown nothing yet.
pub(crate) const DEPTH_MIN: usize = 4;

/// Most blocks outstanding with one peer: 4 MiB, what the fastest local peer can use.
pub(crate) const DEPTH_MAX: usize = 256;

/// What a depth is worth beyond the delay of an answer.
const SLACK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pipeline {
    /// In the order of asking, which is mostly the order of answers.
    requests: VecDeque<Outstanding>,
    depth: usize,
    /// The pipeline grows with every block until the rate says that it is deep enough.
    slow_start: bool,
    /// The least delay of an answer seen, in microseconds.
    delay_us: u64,
    /// What the peer would rather send (BEP 6), the latest last.
    suggested: SmallVec<[PieceIndex; 4]>,
}

/// Suggestions of one peer that are kept.
pub(crate) const SUGGESTIONS_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    block: BlockId,
    at: Instant,
}

impl Pipeline {
    pub(crate) const fn new() -> Self {
        Self {
            requests: VecDeque::new(),
            depth: DEPTH_MIN,
            slow_start: true,
            delay_us: u64::MAX,
            suggested: SmallVec::new_const(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// How many blocks should be outstanding.
    #[cfg(test)]
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// How many requests to send now: none while most of the pipeline is full, so that they leave
    /// in bunches.
    pub(crate) fn room(&self, allowed: usize) -> usize {
        let depth = self.depth.min(allowed).max(1);
        if self.requests.len() * 4 > depth * 3 { 0 } else { depth - self.requests.len() }
    }

    pub(crate) fn push(&mut self, block: BlockId, now: Instant) {
        self.requests.push_back(Outstanding { block, at: now });
    }

    /// An answer came. Returns whether we asked for it.
    pub(crate) fn answered(&mut self, block: BlockId, now: Instant, rate: u64) -> bool {
        let Some(asked) = self.take(block) else { return false };
        let delay = now.saturating_since(asked.at).as_micros();
        self.delay_us = self.delay_us.min(u64::try_from(delay).unwrap_or(u64::MAX));
        self.resize(rate);
        true
    }

    /// The peer suggests a piece. The oldest suggestion makes room.
    pub(crate) fn suggest(&mut self, piece: PieceIndex) {
        self.suggested.retain(|suggested| *suggested != piece);
        if self.suggested.len() >= SUGGESTIONS_MAX {
            self.suggested.remove(0);
        }
        self.suggested.push(piece);
    }

    /// What the peer suggested, the oldest first.
    pub(crate) fn suggested(&self) -> &[PieceIndex] {
        &self.suggested
    }

    /// Drops suggestions that are of no use.
    pub(crate) fn keep_suggestions(&mut self, keep: impl Fn(PieceIndex) -> bool) {
        self.suggested.retain(|piece| keep(*piece));
    }

    /// A request will not be answered. Returns whether we asked for it.
    pub(crate) fn withdrawn(&mut self, block: BlockId) -> bool {
        self.take(block).is_some()
    }

    /// The peer will not answer a request, though it could: it is asked for no more than what is
    /// left until an answer comes. Returns whether we asked for it.
    pub(crate) fn refused(&mut self, block: BlockId) -> bool {
        let asked = self.withdrawn(block);
        if asked {
            self.depth = self.requests.len().max(1);
            self.slow_start = true;
        }
        asked
    }

    /// All requests, given up.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = BlockId> + '_ {
        self.requests.drain(..).map(|outstanding| outstanding.block)
    }

    /// The peer was too slow: start over with one block at a time.
    pub(crate) fn collapse(&mut self) {
        self.depth = 1;
        self.slow_start = true;
    }

    fn take(&mut self, block: BlockId) -> Option<Outstanding> {
        let at = self.requests.iter().position(|outstanding| outstanding.block == block)?;
        self.requests.remove(at)
    }

    fn resize(&mut self, rate: u64) {
        let worth = SLACK.as_micros() as u64 + self.delay_us.min(10_000_000);
        let blocks = u128::from(rate) * u128::from(worth) / 1_000_000 / u128::from(BLOCK_LEN);
        let wanted = usize::try_from(blocks).unwrap_or(DEPTH_MAX);
        if self.slow_start && (wanted > self.depth || self.depth < 2 * DEPTH_MIN) {
            self.depth += 1;
        } else {
            self.slow_start = false;
            self.depth = wanted;
        }
        self.depth = self.depth.clamp(DEPTH_MIN, DEPTH_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(index: u32) -> BlockId {
        BlockId { piece: PieceIndex(0), block: index }
    }

    /// Answers every request after `delay`, at most one each `gap`, and returns the depth that the
    /// pipeline comes to.
    fn settle(delay: Duration, gap: Duration) -> usize {
        let mut pipeline = Pipeline::new();
        let mut now = Instant::ORIGIN;
        let rate =
            u64::try_from(u128::from(BLOCK_LEN) * 1_000_000 / gap.as_micros()).expect("a rate");
        let mut next = 0;
        for answered in 0..4_000 {
            for _ in 0..pipeline.room(usize::MAX) {
                pipeline.push(block(next), now);
                next += 1;
            }
            now += gap.max(delay / pipeline.depth() as u32);
            assert!(pipeline.answered(block(answered), now, rate));
        }
        pipeline.depth()
    }

    #[test]
    fn a_peer_that_refuses_is_asked_for_no_more_than_what_it_has_accepted() {
        let mut pipeline = Pipeline::new();
        for index in 0..DEPTH_MIN as u32 {
            pipeline.push(block(index), Instant::ORIGIN);
        }
        assert!(pipeline.refused(block(0)) && pipeline.refused(block(1)));
        assert!(!pipeline.refused(block(1)), "it was not asked for that any more");
        assert_eq!(pipeline.room(250), 0);
        assert!(pipeline.answered(block(2), Instant::ORIGIN, 0));
        assert!(pipeline.room(250) > 0, "an answer opens it again");
        assert!(pipeline.refused(block(3)));
        assert_eq!((pipeline.len(), pipeline.room(250)), (0, 1));
    }

    #[test]
    fn the_depth_follows_rate_and_delay() {
        assert_eq!(settle(Duration::from_millis(10), Duration::from_secs(1)), DEPTH_MIN);
        let middle = settle(Duration::from_millis(100), Duration::from_millis(20));
        assert!((50..=60).contains(&middle), "{middle}");
        assert_eq!(settle(Duration::from_millis(1), Duration::from_micros(50)), DEPTH_MAX);
    }

    #[test]
    fn of_many_suggestions_the_latest_are_kept() {
        let mut pipeline = Pipeline::new();
        for piece in [7, 0, 1, 7].into_iter().chain(20..20 + SUGGESTIONS_MAX as u32 - 1) {
            pipeline.suggest(PieceIndex(piece));
        }
        assert_eq!(pipeline.suggested().len(), SUGGESTIONS_MAX);
        assert_eq!(pipeline.suggested()[0], PieceIndex(7));
        pipeline.keep_suggestions(|piece| piece.0 > 20);
        assert_eq!(pipeline.suggested()[0], PieceIndex(21));
    }

    #[test]
    fn requests_leave_in_bunches() {
        let mut pipeline = Pipeline::new();
        assert_eq!(pipeline.room(usize::MAX), DEPTH_MIN);
        for index in 0..DEPTH_MIN as u32 {
            pipeline.push(block(index), Instant::ORIGIN);
        }
        assert_eq!(pipeline.room(usize::MAX), 0);
        assert!(pipeline.withdrawn(block(1)));
        assert!(!pipeline.withdrawn(block(1)));
        assert_eq!(pipeline.room(usize::MAX), 1);
        assert_eq!(pipeline.room(1), 0);
    }

    #[test]
    fn a_block_that_nobody_asked_for_is_told_apart() {
        let mut pipeline = Pipeline::new();
        pipeline.push(block(1), Instant::ORIGIN);
        assert!(!pipeline.answered(block(2), Instant::ORIGIN, 0));
        assert!(pipeline.answered(block(1), Instant::ORIGIN, 0));
        assert!(!pipeline.answered(block(1), Instant::ORIGIN, 0));
    }
}
