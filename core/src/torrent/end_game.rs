//! The end game: which blocks to ask a peer for that others were asked for already.
//!
//! When every wanted block was asked for, a peer that is about to have nothing to do is asked for
//! blocks that it would send before those do that were asked for them, those first that are to be
//! expected last: so the download ends when all peers together can end it, and no slow one holds it
//! up. When a block is to be expected is the [`Pipeline`]'s to say, from how fast the peer was and
//! what it has to send before. Of a peer that did not keep what it promised nothing is expected.
//!
//! What would come no sooner, or hardly, is not asked for twice: it would mostly come twice, as a
//! cancel takes its time, and what a peer's system was given is sent. Engines that ask every idle peer
//! for any block that is missing fetch a block or two of each peer in vain. Nothing is lost by waiting:
//! as soon as an answer is late, so are those after it, and the others are asked.

use alloc::vec::Vec;
use core::cmp::Reverse;

use smallvec::SmallVec;

use super::picker::{BlockId, Pieces, Standing};
use super::{REFILL_AFTER, Torrent};
use crate::ids::StreamId;
use crate::peer::{Peer, Pipeline};
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};

/// How many peers and blocks to look at, at one time, for blocks to ask another peer for.
const SCAN_MAX: usize = 4096;

/// Most blocks that a peer is asked for too at one time.
const PICK_MAX: usize = 16;

/// Blocks to ask a peer for too, and in how long they are to be expected, the longest first.
type Late = SmallVec<[(Reverse<Duration>, BlockId); PICK_MAX]>;

impl Torrent {
    /// Chooses up to `room` blocks of `pieces` that others were asked for and this peer would send
    /// sooner, puts them into `out` and marks them as asked for. Returns when there may be more of
    /// them because somebody is late.
    pub(super) fn pick_late(
        &mut self,
        id: StreamId,
        pieces: Pieces<'_>,
        room: usize,
        streams: &Streams,
        now: Instant,
        out: &mut Vec<BlockId>,
    ) -> Option<Instant> {
        let peer = streams.peer(id)?;
        let pipeline = peer.pipeline.as_ref()?;
        if !is_free(pipeline, 0, now) {
            // It comes again with its next answer.
            return None;
        }
        let (late, again) = self.late(id, pieces, room, streams, now);
        let before = out.len();
        for (Reverse(due), block) in late {
            let more = out.len() - before;
            if !is_free(pipeline, more, now) || due <= sooner(pipeline, more, now) {
                break;
            }
            if self.picker.asked_too(block, id, peer.standing) {
                out.push(block);
            }
        }
        again.map(|again| again.max(now + REFILL_AFTER))
    }

    /// What this peer would send sooner than those who were asked, and when that may be more.
    fn late(
        &self,
        id: StreamId,
        pieces: Pieces<'_>,
        room: usize,
        streams: &Streams,
        now: Instant,
    ) -> (Late, Option<Instant>) {
        let (mut late, mut again) = (Late::new(), None);
        let Some(peer) = streams.peer(id) else { return (late, again) };
        let Some(soonest) = peer.pipeline.as_ref().map(|own| sooner(own, 0, now)) else {
            return (late, again);
        };
        let room = room.min(PICK_MAX);
        let mut looks_left = SCAN_MAX;
        // Not everybody begins with the same one.
        let (before, after) = self.peers.split_at((peer.place as usize).min(self.active));
        let after = &after[..self.active - before.len()];
        for other in after.iter().chain(before).filter(|other| **other != id) {
            if looks_left == 0 {
                break;
            }
            looks_left -= 1;
            let Some(them) = streams.peer(*other) else { continue };
            let Some(theirs) = &them.pipeline else { continue };
            let Some(late_at) = theirs.late_at() else { continue };
            let rest = theirs.block_time() * (theirs.len() as u32 - 1);
            let sooner_at = late_at + soonest.saturating_sub(rest);
            if sooner_at > now && again.is_none_or(|again| again > sooner_at) {
                again = Some(sooner_at);
            }
            for (block, due) in theirs.latest_first(now) {
                if looks_left == 0 || due <= soonest && is_expected(them) {
                    break;
                }
                looks_left -= 1;
                if !pieces.contains(block.piece.0)
                    || !self.picker.may_ask_too(block, id, peer.standing)
                {
                    continue;
                }
                let due = self.due_in(block, streams, now);
                let entry = (Reverse(due), block);
                if due <= soonest || late.contains(&entry) {
                    continue;
                }
                if late.len() == room {
                    if late.last().is_some_and(|last| *last <= entry) {
                        continue;
                    }
                    late.pop();
                }
                let at = late.partition_point(|other| *other < entry);
                late.insert(at, entry);
            }
        }
        (late, again)
    }

    /// In how long a block is to be expected of those who were asked for it.
    fn due_in(&self, block: BlockId, streams: &Streams, now: Instant) -> Duration {
        let of = |asked: StreamId| {
            let peer = streams.peer(asked).filter(|peer| is_expected(peer))?;
            peer.pipeline.as_ref()?.due_in(block, now)
        };
        self.picker.asked(block).filter_map(of).min().unwrap_or(Duration::MAX)
    }
}

/// Whether a peer would have nothing to send by the time that a request is there, if it is asked for
/// so many blocks more.
fn is_free(pipeline: &Pipeline, more: usize, now: Instant) -> bool {
    pipeline.free_in(more, now) <= pipeline.delay()
}

/// What is to be expected later than this is better asked of this peer too, after so many others: it
/// would come as much sooner as a request takes to be there, and a cancel.
fn sooner(pipeline: &Pipeline, more: usize, now: Instant) -> Duration {
    pipeline.next_due_in(more, now) + pipeline.way()
}

/// Whether a peer can be expected to send what it was asked for.
fn is_expected(peer: &Peer) -> bool {
    peer.standing > Standing::Doubtful && (!peer.choking_us || peer.allowed.is_some())
}
