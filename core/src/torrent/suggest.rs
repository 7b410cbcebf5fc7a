//! What a seed would rather send (BEP 6, "suggest piece").
//!
//! While a seed is the only source of some pieces, whatever it sends twice delays everybody: nobody
//! finishes before it sent each piece once. Its peers cannot know what it has just sent to somebody
//! else, and rarest first has them ask for the same pieces again and again. The seed does know. It
//! suggests to each peer with a slot pieces that no peer of ours has and that it suggested to
//! nobody else. This is what super-seeding is for, without lying about what we have.
//!
//! Suggestions are hints: who does not heed them loses nothing, and is served all the same. What a
//! peer chooses by itself, and nobody else was sent, counts as suggested to it. A piece that was
//! suggested in vain is free again when the peer is choked, one that it was sent a part of when it is
//! choked once more, and all of them when it is gone, or hides what it was sent.
//!
//! In the end everything that nobody has is on its way to somebody. Whatever else a peer would ask
//! us for then it can have of others, or soon: it is [spare](super::choker::Candidate::is_spare), and
//! a choker gives its slot to those who are still to be sent something. Nobody waits longer than a turn
//! for one that takes nothing.
//!
//! The same knowledge tells who passes on what he got: pieces that one peer alone has for long are
//! lost on the swarm, and a choker may have him wait for that
//! ([`Candidate::kept`](super::choker::Candidate::kept)).

use alloc::vec::Vec;

use super::picker::{Layout, Picker};
use super::{Phase, Torrent};
use crate::ids::{PieceIndex, StreamId};
use crate::peer::Peer;
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};
use crate::wire::Message;

/// Suggested pieces that nobody has yet, over all peers.
const SUGGESTED_MAX: usize = 256;

/// Blocks' worth of suggestions that a peer has in hand, beside one piece: what it asks for at a
/// time before it has shown anything.
const AHEAD_BLOCKS: u32 = 4;

/// Pieces that only one peer has and that are remembered, the latest.
const KEPT_MAX: usize = 256;

/// Pieces that a peer may have been sent without owning up to them: on their way, or being hashed.
const HIDDEN_MAX: u32 = 2;

/// How long others wait for a peer to be sent a piece that is its own, from the beginning of its turn or
/// since it was given the piece: one that takes nothing would have them wait for ever.
const OWED_MAX: Duration = Duration::from_mins(2);

/// Pieces to look at in one search for one to suggest.
const SCAN_MAX: u32 = 1024;

/// What was suggested to whom. See the [module](self).
#[derive(Debug)]
pub(super) struct Suggestions {
    given: Vec<Given>,
    /// Pieces that only one peer has, and who, the latest last.
    kept: Vec<(PieceIndex, StreamId)>,
    /// Where the next search begins.
    next: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Given {
    peer: StreamId,
    piece: PieceIndex,
    /// The peer has asked for a block of it.
    taken: bool,
    /// Blocks that it was not sent.
    left: u32,
    /// It was choked since it was sent the first of them.
    interrupted: bool,
    /// When it was given the piece, or its turn began.
    since: Instant,
}

impl Given {
    fn new(peer: StreamId, piece: PieceIndex, picker: &Picker, since: Instant) -> Self {
        let left = picker.layout().blocks(piece);
        Self { peer, piece, taken: false, left, interrupted: false, since }
    }
}

impl Suggestions {
    /// Nothing yet; the first is the first fit from here on, so that seeds begin in different
    /// places.
    pub(super) const fn new(start: u32) -> Self {
        Self { given: Vec::new(), kept: Vec::new(), next: start }
    }

    /// A peer got a piece, as one of so many that have it now.
    pub(super) fn arrived(&mut self, piece: PieceIndex, peer: StreamId, holders: u32) {
        if holders == 1 {
            if self.kept.len() >= KEPT_MAX {
                self.kept.remove(0);
            }
            self.kept.push((piece, peer));
        } else if holders == 2 {
            self.kept.retain(|(kept, _)| *kept != piece);
        }
        if let Some(at) = self.given.iter().position(|given| given.piece == piece) {
            self.given.swap_remove(at);
        }
    }

    /// A peer asked for a block of a piece.
    fn taken(&mut self, peer: StreamId, piece: PieceIndex, picker: &Picker, now: Instant) {
        if let Some(given) = self.given.iter_mut().find(|given| given.piece == piece) {
            given.taken |= given.peer == peer;
        } else if picker.availability(piece) == 0 && self.given.len() < SUGGESTED_MAX {
            let given = Given::new(peer, piece, picker, now);
            self.given.push(Given { taken: true, ..given });
        }
    }

    /// A peer has a slot, and is to be sent what it was given.
    pub(super) fn begin_turn(&mut self, peer: StreamId, now: Instant) {
        for given in self.given.iter_mut().filter(|given| given.peer == peer) {
            given.since = now;
        }
    }

    /// A peer was sent a block of a piece. Returns whether that was the last one of it.
    fn sent(&mut self, peer: StreamId, piece: PieceIndex) -> bool {
        let mut given = self.given.iter_mut();
        let Some(given) = given.find(|given| given.piece == piece && given.peer == peer) else {
            return false;
        };
        given.left = given.left.saturating_sub(1);
        // It has it now, and will say so.
        given.interrupted &= given.left > 0;
        given.left == 0
    }

    /// A peer is choked: others may have what it was sent nothing of. What it was sent a part of is
    /// left to it for one more turn; somebody else would begin anew.
    pub(super) fn interrupt(&mut self, peer: StreamId, picker: &Picker) {
        self.given.retain_mut(|given| {
            let begun = given.taken && given.left < picker.layout().blocks(given.piece);
            let stays = given.peer != peer || begun && !given.interrupted;
            given.interrupted |= given.peer == peer;
            stays
        });
    }

    /// Whether there are pieces that nobody has and nobody is being sent.
    fn is_any_free(&self, picker: &Picker) -> bool {
        let nobodys = picker.histogram().next().unwrap_or(0);
        let given = self.given.iter().filter(|given| picker.availability(given.piece) == 0);
        given.count() < nobodys as usize
    }

    /// Whether a peer is still to be sent a piece that nobody else is, and it is no time to give it up.
    pub(super) fn is_owed(&self, peer: StreamId, now: Instant) -> bool {
        self.given
            .iter()
            .any(|given| given.peer == peer && given.left > 0 && now < given.since + OWED_MAX)
    }

    /// A peer is gone: others may have its pieces.
    pub(super) fn forget(&mut self, peer: StreamId) {
        self.kept.retain(|(_, holder)| *holder != peer);
        self.given.retain(|given| given.peer != peer);
    }

    /// Whose pieces nobody else has: each peer once for each of them, in order.
    pub(super) fn keepers(&self, picker: &Picker) -> Vec<StreamId> {
        // Others may have come with it.
        let kept = self.kept.iter().filter(|(piece, _)| picker.availability(*piece) == 1);
        let mut keepers: Vec<StreamId> = kept.map(|(_, holder)| *holder).collect();
        keepers.sort_unstable();
        keepers
    }

    /// A piece to suggest to a peer that has fewer than `ahead` in hand, if there is one.
    fn next_for(
        &mut self,
        peer: StreamId,
        ahead: usize,
        picker: &Picker,
        now: Instant,
    ) -> Option<PieceIndex> {
        let in_hand = self.given.iter().filter(|given| given.peer == peer && !given.taken).count();
        if in_hand >= ahead || self.given.len() >= SUGGESTED_MAX {
            return None;
        }
        let pieces = picker.layout().pieces();
        for _ in 0..pieces.min(SCAN_MAX) {
            let piece = PieceIndex(self.next % pieces);
            self.next = (piece.0 + 1) % pieces;
            let free = picker.availability(piece) == 0
                && self.given.iter().all(|given| given.piece != piece);
            if free {
                self.given.push(Given::new(peer, piece, picker, now));
                return Some(piece);
            }
        }
        None
    }
}

/// How many pieces a peer was sent and does not own up to.
pub(super) fn hidden_by(peer: &Peer, layout: &Layout) -> u32 {
    let sent = peer.uploaded / u64::from(layout.piece_len(PieceIndex(0)).max(1));
    let hidden = sent.saturating_sub(u64::from(peer.have.count(layout.pieces())));
    u32::try_from(hidden).unwrap_or(u32::MAX)
}

/// Whether others may wait for a peer to pass on what it gets.
fn is_trusted(peer: &Peer, layout: &Layout) -> bool {
    hidden_by(peer, layout) <= HIDDEN_MAX
}

impl Torrent {
    /// Whether we have everything, and others do not even together.
    fn is_only_source(&self) -> bool {
        self.is_complete() && !self.picker.is_all_there()
    }

    /// A peer asked us for a block.
    pub(super) fn note_asked(
        &mut self,
        id: StreamId,
        piece: PieceIndex,
        streams: &Streams,
        now: Instant,
    ) {
        if self.is_only_source()
            && streams.peer(id).is_some_and(|peer| is_trusted(peer, self.picker.layout()))
        {
            self.suggestions.taken(id, piece, &self.picker, now);
        }
    }

    /// A peer was sent a block. Once it was sent all that nobody else is, somebody else may have its
    /// slot.
    pub(super) fn note_given(&mut self, id: StreamId, piece: PieceIndex, cx: &mut Cx) {
        if self.is_only_source()
            && self.suggestions.sent(id, piece)
            && !self.suggestions.is_owed(id, cx.now())
            && self.is_all_given()
        {
            self.judge_turns(cx);
        }
    }

    /// What peers that hide what they got were given is anybody's again.
    pub(super) fn distrust(&mut self, streams: &Streams) {
        if self.is_only_source() {
            let layout = self.picker.layout();
            self.suggestions.given.retain(|given| {
                streams.peer(given.peer).is_some_and(|peer| is_trusted(peer, layout))
            });
        }
    }

    /// Whether we are the only source of some pieces, and all of them are on their way.
    pub(super) fn is_all_given(&self) -> bool {
        self.is_only_source() && !self.suggestions.is_any_free(&self.picker)
    }

    /// Suggests to a peer what it should fetch from us, if that matters.
    pub(crate) fn suggest(&mut self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        // Somebody else can send what we can, or we cannot send everything ourselves.
        if !self.is_only_source() {
            return;
        }
        let Some(peer) = streams.peer(id) else { return };
        let served = !peer.we_choke && peer.interested_in_us && peer.is_open();
        if !served || !peer.fast() || !matches!(self.phase, Phase::Running) {
            return;
        }
        let blocks = self.picker.layout().blocks(PieceIndex(0)).max(1);
        let ahead = 1 + (AHEAD_BLOCKS / blocks) as usize;
        while let Some(piece) = self.suggestions.next_for(id, ahead, &self.picker, cx.now()) {
            streams.send_message(id, &Message::Suggest(piece), cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Key;
    use crate::rng::Seed;
    use crate::torrent::picker::Pieces;

    fn peer(slot: u32) -> StreamId {
        StreamId::from_parts(slot, 1)
    }

    /// Of pieces of two blocks.
    fn picker(pieces: u32) -> Picker {
        let layout = Layout::new(pieces, 32_768, u64::from(pieces) * 32_768).expect("sound");
        Picker::new(layout, Seed::from_number(1).stream("picker", 0))
    }

    #[test]
    fn each_piece_is_suggested_to_one_peer_until_somebody_has_it() {
        let mut picker = picker(4);
        picker.add_peer(Pieces::Words(&[]));
        let mut suggestions = Suggestions::new(2);
        let next = |suggestions: &mut Suggestions, to, picker: &Picker| {
            suggestions.next_for(peer(to), 2, picker, Instant::ORIGIN).map(|piece| piece.0)
        };
        assert_eq!(next(&mut suggestions, 0, &picker), Some(2));
        assert_eq!(next(&mut suggestions, 1, &picker), Some(3));
        assert_eq!(next(&mut suggestions, 0, &picker), Some(0));
        assert_eq!(next(&mut suggestions, 0, &picker), None, "two in hand");
        suggestions.taken(peer(0), PieceIndex(2), &picker, Instant::ORIGIN);
        assert!(!suggestions.sent(peer(0), PieceIndex(2)));
        picker.have(PieceIndex(1));
        assert_eq!(next(&mut suggestions, 0, &picker), None, "what is left is somebody's");
        suggestions.interrupt(peer(0), &picker);
        suggestions.interrupt(peer(1), &picker);
        assert_eq!(next(&mut suggestions, 1, &picker), Some(3));
        assert_eq!(next(&mut suggestions, 1, &picker), Some(0));
        assert_eq!(next(&mut suggestions, 2, &picker), None, "peer 0 was sent a part of piece 2");
        suggestions.interrupt(peer(0), &picker);
        assert_eq!(next(&mut suggestions, 2, &picker), Some(2), "it had another turn");
        suggestions.taken(peer(2), PieceIndex(2), &picker, Instant::ORIGIN);
        suggestions.forget(peer(2));
        assert_eq!(next(&mut suggestions, 2, &picker), Some(2));
        picker.have(PieceIndex(0));
        suggestions.arrived(PieceIndex(0), peer(3), 1);
        assert_eq!(next(&mut suggestions, 0, &picker), None, "all that nobody has is suggested");
    }

    #[test]
    fn what_a_peer_chose_by_itself_is_not_suggested_to_others() {
        let mut picker = picker(3);
        picker.have(PieceIndex(2));
        let mut suggestions = Suggestions::new(0);
        suggestions.taken(peer(0), PieceIndex(0), &picker, Instant::ORIGIN);
        assert!(suggestions.is_any_free(&picker));
        assert_eq!(suggestions.next_for(peer(1), 2, &picker, Instant::ORIGIN), Some(PieceIndex(1)));
        assert_eq!(suggestions.next_for(peer(1), 2, &picker, Instant::ORIGIN), None);
        suggestions.taken(peer(2), PieceIndex(0), &picker, Instant::ORIGIN);
        suggestions.taken(peer(2), PieceIndex(2), &picker, Instant::ORIGIN);
        assert!(
            !suggestions.is_owed(peer(2), Instant::ORIGIN),
            "one is another one's, one somebody has"
        );
        assert!(!suggestions.is_any_free(&picker));
    }

    #[test]
    fn a_peer_is_owed_what_it_was_given_until_it_was_sent_all_of_it() {
        let mut picker = picker(1);
        let mut suggestions = Suggestions::new(0);
        assert_eq!(suggestions.next_for(peer(0), 1, &picker, Instant::ORIGIN), Some(PieceIndex(0)));
        assert!(suggestions.is_owed(peer(0), Instant::ORIGIN) && !suggestions.is_any_free(&picker));
        assert!(!suggestions.sent(peer(1), PieceIndex(0)), "another one was sent it");
        assert!(!suggestions.sent(peer(0), PieceIndex(0)));
        assert!(suggestions.sent(peer(0), PieceIndex(0)));
        assert!(!suggestions.is_owed(peer(0), Instant::ORIGIN));
        assert!(!suggestions.is_any_free(&picker), "it will say that it has it");
        picker.have(PieceIndex(0));
        suggestions.arrived(PieceIndex(0), peer(0), 1);
        assert!(suggestions.given.is_empty());
    }

    #[test]
    fn nobody_waits_longer_than_a_turn_for_a_peer_that_takes_nothing() {
        let picker = picker(1);
        let mut suggestions = Suggestions::new(0);
        suggestions.taken(peer(0), PieceIndex(0), &picker, Instant::ORIGIN);
        let later = Instant::ORIGIN + OWED_MAX;
        assert!(!suggestions.is_owed(peer(0), later));
        suggestions.begin_turn(peer(1), later);
        assert!(!suggestions.is_owed(peer(0), later), "it is another one's turn");
        suggestions.begin_turn(peer(0), later);
        assert!(suggestions.is_owed(peer(0), later));
    }

    #[test]
    fn who_alone_has_a_piece_is_known_until_somebody_else_has_it() {
        let mut picker = picker(3);
        let mut suggestions = Suggestions::new(0);
        let arrived = |suggestions: &mut Suggestions, picker: &mut Picker, piece, from| {
            picker.have(PieceIndex(piece));
            let holders = picker.availability(PieceIndex(piece));
            suggestions.arrived(PieceIndex(piece), peer(from), holders);
        };
        arrived(&mut suggestions, &mut picker, 0, 7);
        arrived(&mut suggestions, &mut picker, 1, 5);
        arrived(&mut suggestions, &mut picker, 2, 7);
        assert_eq!(suggestions.keepers(&picker), [peer(5), peer(7), peer(7)]);
        arrived(&mut suggestions, &mut picker, 2, 6);
        assert_eq!(suggestions.keepers(&picker), [peer(5), peer(7)]);
        picker.add_peer(Pieces::Words(&[1 << 63]));
        assert_eq!(suggestions.keepers(&picker), [peer(5)], "somebody came with piece 0");
        suggestions.forget(peer(5));
        assert_eq!(suggestions.keepers(&picker), []);
    }

    #[test]
    fn what_is_remembered_of_keepers_is_bounded() {
        let pieces = KEPT_MAX as u32 + 9;
        let mut picker = picker(pieces);
        let mut suggestions = Suggestions::new(0);
        for piece in 0..pieces {
            picker.have(PieceIndex(piece));
            suggestions.arrived(PieceIndex(piece), peer(piece), 1);
        }
        let keepers = suggestions.keepers(&picker);
        assert_eq!((keepers.len(), keepers[0]), (KEPT_MAX, peer(9)));
    }

    #[test]
    fn a_search_for_a_suggestion_is_bounded() {
        let mut picker = picker(3 * SCAN_MAX);
        picker.add_peer(Pieces::All);
        picker.lost(PieceIndex(0));
        let mut suggestions = Suggestions::new(1);
        let found = (0..4).find_map(|_| suggestions.next_for(peer(0), 1, &picker, Instant::ORIGIN));
        assert_eq!(found, Some(PieceIndex(0)));
        assert_eq!(suggestions.next, 1);
    }
}
