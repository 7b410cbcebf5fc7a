//! The requests that we have outstanding with one peer, and how many there should be.
//!
//! Enough that the peer never waits for us, and no more: its rate times the delay of an answer,
//! plus a second's worth, so that a peer that answers in bursts is not starved between them. A new
//! pipeline starts small and grows by a block for each block that comes, as TCP does.
//!
//! It also tells [when](Pipeline::due_in) an answer is to be expected: a block comes a while after
//! the one that was asked for before it. The end game compares that between peers.

use alloc::collections::VecDeque;
use core::num::NonZeroU32;

use smallvec::SmallVec;

use crate::ids::PieceIndex;
use crate::time::{Duration, Instant};
use crate::torrent::picker::{BLOCK_LEN, BlockId};

/// Blocks outstanding with a peer that has shown nothing yet.
pub(crate) const DEPTH_MIN: usize = 4;

/// Most blocks outstanding with one peer: 4 MiB, what the fastest local peer can use.
pub(crate) const DEPTH_MAX: usize = 256;

/// How long a block is taken to need from a peer that has sent none yet.
const BLOCK_TIME_UNKNOWN: Duration = Duration::from_millis(500);

/// Over how many blocks their time is averaged.
const BLOCKS_AVERAGED: u64 = 8;

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
    /// How long a block takes that the peer has nothing before, on average, in microseconds; none
    /// before an answer came.
    block_us: Option<NonZeroU32>,
    last_answer: Option<Instant>,
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
            block_us: None,
            last_answer: None,
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
        let delay = micros(now.saturating_since(asked.at));
        self.delay_us = self.delay_us.min(delay);
        self.note_block(asked.at, delay, now);
        self.resize(rate);
        true
    }

    /// What was asked for, the latest first, and in how long each is to be expected; see
    /// [`due_in`](Self::due_in).
    pub(crate) fn latest_first(&self, now: Instant) -> impl Iterator<Item = (BlockId, Duration)> {
        let (first, each) = (self.first_due_in(now), self.block_time());
        let all = self.requests.iter().enumerate().rev();
        all.map(move |(before, outstanding)| (outstanding.block, first + each * before as u32))
    }

    /// In how long a block is to be expected that was asked for; none if it was not.
    ///
    /// Answers come in the order of asking, one after the other, as fast as they did. The first of
    /// them, if it is late, will take as long again as it is late by now: nothing is known of a peer
    /// that stopped, but that the longer it lasts, the longer it is going to.
    pub(crate) fn due_in(&self, block: BlockId, now: Instant) -> Option<Duration> {
        let before = self.requests.iter().position(|outstanding| outstanding.block == block)?;
        Some(self.first_due_in(now) + self.block_time() * before as u32)
    }

    /// In how long the peer will have sent all that it was asked for, and so many blocks more.
    pub(crate) fn free_in(&self, more: usize, now: Instant) -> Duration {
        let each = self.block_time();
        match (self.requests.len() + more) as u32 {
            0 => Duration::ZERO,
            blocks if self.requests.is_empty() => self.alone() + each * (blocks - 1),
            blocks => self.first_due_in(now) + each * (blocks - 1),
        }
    }

    /// In how long a block is to be expected that is asked for now, after so many others.
    pub(crate) fn next_due_in(&self, more: usize, now: Instant) -> Duration {
        if self.requests.is_empty() && more == 0 {
            return self.alone();
        }
        (self.free_in(more, now) + self.block_time()).max(self.alone())
    }

    /// How long a block takes that nothing else was asked for before, there and back.
    fn alone(&self) -> Duration {
        self.delay().max(self.block_time())
    }

    /// How long a request and the beginning of its answer are on their way.
    pub(crate) fn way(&self) -> Duration {
        self.delay().saturating_sub(self.block_time())
    }

    /// When the next answer will be late; none if nothing was asked for.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        Some(self.begun(self.requests.front()?.at) + self.block_time())
    }

    /// How long a block takes that the peer has nothing before.
    pub(crate) fn block_time(&self) -> Duration {
        let us = self.block_us.map_or(BLOCK_TIME_UNKNOWN.as_micros() as u64, |us| us.get().into());
        Duration::from_micros(us)
    }

    fn first_due_in(&self, now: Instant) -> Duration {
        let Some(late_at) = self.late_at() else { return Duration::ZERO };
        late_at.saturating_since(now).max(now.saturating_since(late_at))
    }

    /// When the peer could begin to send what was asked for then.
    fn begun(&self, asked: Instant) -> Instant {
        let asked = asked + self.way();
        self.last_answer.map_or(asked, |answer| answer.max(asked))
    }

    /// The least delay of an answer; nothing if none came.
    pub(crate) fn delay(&self) -> Duration {
        let known = Some(self.delay_us).filter(|delay| *delay < u64::MAX);
        Duration::from_micros(known.unwrap_or(0))
    }

    /// Takes note of how long a block took. Where others were asked for before it, that is the time
    /// since the last of them, else what is beyond the way there and back is not known, and only the
    /// first such block says anything.
    fn note_block(&mut self, asked: Instant, delay: u64, now: Instant) {
        let last = self.last_answer.replace(now).filter(|last| asked <= *last);
        let average = match (self.block_us, last) {
            (Some(average), Some(last)) => {
                let took = micros(now.saturating_since(last)).min(u32::MAX.into());
                let sum = u64::from(average.get()) * (BLOCKS_AVERAGED - 1) + took;
                sum / BLOCKS_AVERAGED
            }
            (Some(average), None) => average.get().into(),
            (None, _) => delay,
        };
        self.block_us = NonZeroU32::new(u32::try_from(average).unwrap_or(u32::MAX).max(1));
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

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

    /// One that was asked for these blocks at the beginning of time, and has answered some since, the
    /// first after `delay` and the others `each` apart.
    fn answering(delay: u64, each: u64, answered: u32, asked: u32) -> (Pipeline, Instant) {
        let mut pipeline = Pipeline::new();
        let mut now = Instant::ORIGIN;
        (0..asked).for_each(|index| pipeline.push(block(index), now));
        for index in 0..answered {
            now += Duration::from_millis(if index == 0 { delay } else { each });
            assert!(pipeline.answered(block(index), now, 0));
        }
        (pipeline, now)
    }

    fn millis(duration: Duration) -> u128 {
        duration.as_millis()
    }

    #[test]
    fn answers_are_expected_one_after_the_other_as_they_came() {
        let (pipeline, now) = answering(140, 40, 200, 203);
        let due: Vec<_> = pipeline.latest_first(now).collect();
        assert_eq!(due.iter().map(|(block, _)| block.block).collect::<Vec<_>>(), [202, 201, 200]);
        assert_eq!(due.iter().map(|(_, due)| millis(*due)).collect::<Vec<_>>(), [120, 80, 40]);
        assert_eq!(due[0].1, pipeline.due_in(block(202), now).expect("it was asked for"));
        assert_eq!(pipeline.due_in(block(5), now), None, "it is here");
        // A while later they are as much nearer.
        let later = now + Duration::from_millis(30);
        assert_eq!(pipeline.due_in(block(202), later).map(millis), Some(90));
        assert_eq!(
            (millis(pipeline.free_in(0, later)), millis(pipeline.free_in(2, later))),
            (90, 170)
        );
        // What is asked for now comes after them, but not before it could be there and back.
        assert_eq!((millis(pipeline.way()), millis(pipeline.next_due_in(0, later))), (100, 140));
        assert_eq!(millis(pipeline.next_due_in(1, later)), 170);
    }

    #[test]
    fn an_answer_that_is_late_is_expected_to_be_as_late_again_and_holds_the_rest_up() {
        let (pipeline, now) = answering(140, 40, 200, 202);
        let late = now + Duration::from_millis(40);
        assert_eq!(pipeline.late_at(), Some(late));
        for after in [1, 50, 3_000] {
            let later = late + Duration::from_millis(after);
            assert_eq!(pipeline.due_in(block(200), later).map(millis), Some(after.into()));
            assert_eq!(
                pipeline.due_in(block(201), later).map(millis),
                Some(u128::from(after) + 40)
            );
        }
    }

    #[test]
    fn a_peer_with_nothing_to_do_answers_after_the_way_there_and_back() {
        let (mut pipeline, now) = answering(140, 40, 200, 200);
        assert_eq!((pipeline.late_at(), pipeline.free_in(0, now)), (None, Duration::ZERO));
        assert_eq!(
            (millis(pipeline.next_due_in(0, now)), millis(pipeline.free_in(1, now))),
            (140, 140)
        );
        assert_eq!(millis(pipeline.next_due_in(1, now)), 180);
        let later = now + Duration::from_secs(9);
        assert_eq!(millis(pipeline.next_due_in(0, later)), 140, "however long that lasts");
        pipeline.push(block(60), later);
        assert_eq!(pipeline.due_in(block(60), later).map(millis), Some(140));
        // That it had nothing to do does not make it slow.
        assert!(pipeline.answered(block(60), later + Duration::from_millis(150), 0));
        assert_eq!(millis(pipeline.block_time()), 40);
    }

    #[test]
    fn of_a_peer_that_has_sent_nothing_a_block_is_expected_soon() {
        let mut pipeline = Pipeline::new();
        let now = Instant::ORIGIN;
        assert_eq!(pipeline.next_due_in(0, now), BLOCK_TIME_UNKNOWN);
        pipeline.push(block(0), now);
        pipeline.push(block(1), now);
        assert_eq!(pipeline.due_in(block(1), now), Some(2 * BLOCK_TIME_UNKNOWN));
        assert_eq!(
            pipeline.due_in(block(0), now + 3 * BLOCK_TIME_UNKNOWN),
            Some(2 * BLOCK_TIME_UNKNOWN)
        );
    }

    #[test]
    fn the_time_of_a_block_follows_the_peer() {
        let (mut pipeline, mut now) = answering(140, 40, 60, 200);
        for index in 60..100 {
            now += Duration::from_millis(80);
            assert!(pipeline.answered(block(index), now, 0));
        }
        assert_eq!(millis(pipeline.block_time()), 79);
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
