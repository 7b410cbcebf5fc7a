//! What a peer refused although it does not choke us, and how long it is left alone for that.
//!
//! A reject (BEP 6) after a choke only says that the choke was heard. One without a choke says that
//! the peer will not give a block that it claims to have. That may be once in a while: its disk
//! fails, its queue is full. So the piece is left alone for a pause that grows each time, and the
//! blocks go to others. A peer that refuses again and again and delivers nothing is taken for one
//! that does not answer: it comes last, for one block at a time, ever more rarely, and is closed
//! in the end if there are others.
//!
//! Nothing here knows streams or pieces as such; `torrent::transfer` asks and tells.

use smallvec::SmallVec;

use crate::ids::PieceIndex;
use crate::time::{Duration, Instant};

/// Blocks that a peer may refuse without delivering one before it counts as snubbed.
pub const REFUSALS_TOLERATED: u32 = 8;

/// A peer that refused so many blocks without delivering one is closed, if there are others to
/// fetch from.
pub const REFUSALS_MAX: u32 = 14;

/// Refused pieces that are kept for one peer; beyond that the one that is over first is forgotten.
pub(crate) const PIECES_MAX: usize = 8;

/// The first pause; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(64);

/// A refused piece is forgotten so long after its pause: after that the next one is short again.
const FORGET_AFTER: Duration = Duration::from_mins(2);

/// See the [module](self). A peer that refuses nothing has none.
#[derive(Debug)]
pub(crate) struct Refusals {
    pieces: SmallVec<[Refused; 2]>,
    /// Blocks refused since one was delivered.
    in_a_row: u32,
    /// The peer is asked for nothing before this.
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    piece: PieceIndex,
    until: Instant,
    pauses: u32,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self { pieces: SmallVec::new(), in_a_row: 0, until: now }
    }

    /// The peer refused a block of a piece.
    pub(crate) fn refused(&mut self, piece: PieceIndex, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.is_snubbing() {
            self.until = now + pause(self.in_a_row - REFUSALS_TOLERATED);
        }
        if let Some(entry) = self.pieces.iter_mut().find(|entry| entry.piece == piece) {
            // Blocks that were asked for together are refused together: that is once.
            if now >= entry.until {
                entry.until = now + pause(entry.pauses);
                entry.pauses += 1;
            }
            return;
        }
        self.forget(now);
        if self.pieces.len() >= PIECES_MAX
            && let Some(first) = (0..self.pieces.len()).min_by_key(|at| self.pieces[*at].until)
        {
            self.pieces.swap_remove(first);
        }
        self.pieces.push(Refused { piece, until: now + pause(0), pauses: 1 });
    }

    /// The peer delivered a block that it was asked for. Returns whether nothing is left to keep.
    pub(crate) fn delivered(&mut self, piece: PieceIndex, now: Instant) -> bool {
        self.in_a_row = 0;
        self.until = now;
        self.pieces.retain(|entry| entry.piece != piece);
        self.forget(now);
        self.pieces.is_empty()
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

    /// The pieces that the peer is not to be asked for now, at most [`PIECES_MAX`].
    pub(crate) fn pieces(&self, now: Instant) -> SmallVec<[u32; PIECES_MAX]> {
        self.pieces.iter().filter(|entry| now < entry.until).map(|entry| entry.piece.0).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.pieces.retain(|entry| now < entry.until + FORGET_AFTER);
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
        let mut refusals = Refusals::new(at(0));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            refusals.refused(PIECE, now);
            // The other blocks that were on their way.
            refusals.refused(PIECE, now);
            let start = now;
            while !refusals.pieces(now).is_empty() {
                assert_eq!(refusals.pieces(now)[..], [PIECE.0]);
                now += Duration::from_secs(1);
            }
            pauses.push(now.saturating_since(start).as_secs());
            refusals.in_a_row = 0;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert!(refusals.delivered(PIECE, now));
        refusals.refused(PIECE, now);
        assert!(refusals.pieces(now + PAUSE_MIN).is_empty());
    }

    #[test]
    fn who_only_refuses_is_asked_ever_more_rarely_and_then_hopeless() {
        let mut refusals = Refusals::new(at(0));
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
    }

    #[test]
    fn a_block_that_comes_makes_up_for_all_but_what_was_refused() {
        let mut refusals = Refusals::new(at(0));
        for piece in 0..REFUSALS_MAX {
            refusals.refused(PieceIndex(piece), at(0));
        }
        assert!(refusals.is_pause(at(0)));
        assert!(!refusals.delivered(PieceIndex(100), at(0)), "pieces are kept");
        assert!(!refusals.is_pause(at(0)) && !refusals.is_snubbing());
        assert_eq!(refusals.pieces(at(0)).len(), PIECES_MAX);
        assert!(refusals.delivered(PieceIndex(100), at(1_000)));
    }
}
