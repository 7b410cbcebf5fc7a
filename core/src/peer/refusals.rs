//! What a peer refused although it does not choke us, and how long it is left alone for that.
//!
//! A reject (BEP 6) after a choke only says that the choke was heard. One without a choke says that
//! the peer will not give a block that it claims to have. That may be once in a while: its disk
//! fails, its queue is full. Or for ever: its file is cut short. So it is asked for everything else
//! first, and when nothing else is left, and a pause that grows each time is over, it is asked again
//! for each of the pieces that it refused. A peer that refuses again and again and delivers nothing
//! is taken for one that does not answer: it comes last, for one block at a time, ever more rarely,
//! and is closed in the end if there are others.
//!
//! Nothing here knows streams; `torrent::transfer` asks and tells.

use crate::bitfield::Bitfield;
use crate::ids::PieceIndex;
use crate::time::{Duration, Instant};

/// Pieces that a peer may refuse without delivering a block before it counts as snubbed.
pub const REFUSALS_TOLERATED: u32 = 8;

/// A peer that refused so many pieces without delivering a block is closed, if there are others to
/// fetch from.
pub const REFUSALS_MAX: u32 = 14;

/// The first pause; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(64);

/// What was refused is forgotten so long after its pause: after that the next one is short again.
const FORGET_AFTER: Duration = Duration::from_mins(2);

/// See the [module](self). A peer that refuses nothing has none.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Pieces that it was asked for, and refused, since it was last asked for all of them again.
    pieces: Bitfield,
    /// When it may be asked for them again.
    again_at: Instant,
    /// How often it was.
    rounds: u32,
    /// Pieces refused since a block was delivered, each as often as it was refused.
    in_a_row: u32,
    /// The peer is asked for nothing before this.
    until: Instant,
}

impl Refusals {
    /// For a torrent of so many pieces.
    pub(crate) fn new(pieces: u32, now: Instant) -> Self {
        let pieces = Bitfield::new(pieces);
        Self { pieces, again_at: now, rounds: 0, in_a_row: 0, until: now }
    }

    /// The peer refused a block of a piece.
    pub(crate) fn refused(&mut self, piece: PieceIndex, now: Instant) {
        self.forget(now);
        // Blocks that were asked for together are refused together: that is once.
        if !self.pieces.set(piece.0) {
            return;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.is_snubbing() {
            self.until = now + pause(self.in_a_row - REFUSALS_TOLERATED);
        }
        self.again_at = self.until.max(now) + pause(self.rounds);
    }

    /// The peer delivered a block that it was asked for. Returns whether nothing is left to keep.
    pub(crate) fn delivered(&mut self, piece: PieceIndex, now: Instant) -> bool {
        self.in_a_row = 0;
        self.until = now;
        self.pieces.clear(piece.0);
        self.forget(now);
        self.pieces.none() && self.rounds == 0
    }

    /// Whether the peer refused so much that it counts as one that does not answer.
    pub(crate) const fn is_snubbing(&self) -> bool {
        self.in_a_row >= REFUSALS_TOLERATED
    }

    /// Whether it refused so much that it is not worth its connection.
    pub(crate) const fn is_hopeless(&self) -> bool {
        self.in_a_row >= REFUSALS_MAX
    }

    /// Whether the peer is to be asked for nothing at all now.
    pub(crate) fn is_pause(&self, now: Instant) -> bool {
        now < self.until
    }

    /// The pieces that the peer is not to be asked for now.
    pub(crate) const fn pieces(&self) -> &Bitfield {
        &self.pieces
    }

    /// Nothing else is left to ask for: has the peer be asked for everything again if the pause is
    /// over, and returns whether it is.
    pub(crate) fn again(&mut self, now: Instant) -> bool {
        if self.pieces.none() || now < self.again_at {
            return false;
        }
        self.pieces.clear_all();
        self.rounds = self.rounds.saturating_add(1);
        true
    }

    fn forget(&mut self, now: Instant) {
        if now >= self.again_at + FORGET_AFTER {
            self.pieces.clear_all();
            self.rounds = 0;
        }
    }
}

fn pause(before: u32) -> Duration {
    (PAUSE_MIN * (1 << before.min(6))).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const PIECE: PieceIndex = PieceIndex(7);

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn a_refused_piece_is_left_alone_for_longer_each_time() {
        let mut refusals = Refusals::new(200, at(0));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            refusals.refused(PIECE, now);
            // The other blocks that were on their way.
            refusals.refused(PIECE, now);
            assert_eq!(refusals.in_a_row, 1);
            let start = now;
            while !refusals.again(now) {
                assert!(refusals.pieces().get(PIECE.0) && refusals.pieces().count() == 1);
                now += Duration::from_secs(1);
            }
            assert!(refusals.pieces().none());
            pauses.push(now.saturating_since(start).as_secs());
            refusals.in_a_row = 0;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert!(!refusals.delivered(PIECE, now), "the next pause is as long");
        assert!(refusals.delivered(PIECE, now + FORGET_AFTER));
        refusals.refused(PIECE, now + FORGET_AFTER);
        assert!(refusals.again(now + FORGET_AFTER + PAUSE_MIN));
    }

    #[test]
    fn who_only_refuses_is_asked_ever_more_rarely_and_then_hopeless() {
        let mut refusals = Refusals::new(200, at(0));
        let mut now = at(0);
        let mut asked = vec![];
        for piece in 0..REFUSALS_MAX {
            while refusals.is_pause(now) {
                now += Duration::from_secs(1);
            }
            assert!(!refusals.is_hopeless());
            assert_eq!(refusals.is_snubbing(), piece >= REFUSALS_TOLERATED);
            asked.push(now.saturating_since(at(0)).as_secs());
            refusals.refused(PieceIndex(piece), now);
        }
        assert!(refusals.is_hopeless());
        assert_eq!(asked, [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 7, 15, 31, 63]);
        assert!(!refusals.again(at(63 + 64 - 1)), "not before it is asked for anything");
    }

    #[test]
    fn a_block_that_comes_makes_up_for_all_but_what_was_refused() {
        let mut refusals = Refusals::new(200, at(0));
        for piece in 0..REFUSALS_MAX {
            refusals.refused(PieceIndex(piece), at(0));
        }
        assert!(refusals.is_pause(at(0)));
        assert!(!refusals.delivered(PieceIndex(100), at(0)), "pieces are kept");
        assert!(!refusals.is_pause(at(0)) && !refusals.is_snubbing());
        assert_eq!(refusals.pieces().count(), REFUSALS_MAX);
        assert!(refusals.delivered(PieceIndex(100), at(1_000)));
    }
}
