//! The life of a block: asked for, here, verified with its piece; or free again.

use super::open::Block;
use super::{BlockId, END_GAME_REQUESTS_MAX, Picker, PieceState, Priority, Received, Standing};
use crate::ids::{PieceIndex, StreamId};

impl Picker {
    /// A peer of that standing was asked for a block that [`pick`](Self::pick) did not choose.
    /// Returns false, and changes nothing, if it is here or unwanted, if that peer was asked
    /// already, or [`END_GAME_REQUESTS_MAX`] peers of its standing or better were.
    pub fn requested(&mut self, id: BlockId, peer: StreamId, standing: Standing) -> bool {
        if !self.may_fetch(id) {
            return false;
        }
        self.ensure_open(id.piece.0);
        let open = self.open_piece_mut(id.piece.0);
        if open.blocks[id.block as usize] == Block::Free {
            open.request(id.block, peer, standing);
            self.sync_loose(id.piece.0);
            return true;
        }
        self.asked_too(id, peer, standing)
    }

    /// A peer was asked for a block that others were asked for: the end game. Returns false, and
    /// changes nothing, if it [may not be](Self::may_ask_too).
    pub fn asked_too(&mut self, id: BlockId, peer: StreamId, standing: Standing) -> bool {
        let may = self.may_ask_too(id, peer, standing);
        if may {
            self.open_piece_mut(id.piece.0).request_too(id.block, peer, standing);
        }
        may
    }

    /// Whether a block is wanted that others were asked for and this peer was not, and fewer than
    /// [`END_GAME_REQUESTS_MAX`] of its standing or better.
    pub fn may_ask_too(&self, id: BlockId, peer: StreamId, standing: Standing) -> bool {
        if !self.may_fetch(id) || self.state(id.piece) != PieceState::Open {
            return false;
        }
        let rivals = self.open_piece(id.piece.0).rivals(id.block, peer, standing);
        rivals.is_some_and(|rivals| rivals < END_GAME_REQUESTS_MAX)
    }

    /// Whether no block that is wanted is left that nobody was asked for.
    pub fn is_all_asked(&self) -> bool {
        let wanted = |piece: &u32| self.priority(PieceIndex(*piece)) != Priority::SKIP;
        self.bands.iter().all(|band| band.order.is_empty()) && !self.loose.iter().any(wanted)
    }

    /// A request came to nothing: rejected, timed out, or the peer choked us. The block is free
    /// again, unless somebody else was asked too, and a piece that was this peer's own may be
    /// shared. Returns whether the peer had been asked.
    pub fn abort(&mut self, id: BlockId, peer: StreamId) -> bool {
        if self.state(id.piece) != PieceState::Open
            || self.layout.block_len(id) == 0
            || !self.open_piece_mut(id.piece.0).abort(id.block, peer)
        {
            return false;
        }
        self.disown(id.piece.0, peer);
        self.settle(id.piece.0);
        true
    }

    /// Takes back every request of a peer: it closed, or choked us. Costs a walk over the open
    /// pieces and their blocks.
    pub fn forget_peer(&mut self, peer: StreamId) {
        for at in (0..self.open.len()).rev() {
            let piece = self.open[at].piece;
            self.places.steps += 1 + u64::from(self.open[at].requested);
            let aborted = self.open[at].abort_all(peer);
            self.disown(piece, peer);
            if aborted {
                self.settle(piece);
            }
        }
    }

    /// A block arrived. Whether the peer was asked for it is the caller's to know.
    pub fn received(&mut self, id: BlockId, peer: StreamId) -> Received {
        self.receive(id, Some(peer))
    }

    /// A block is on disk: from resume data. Returns whether that completes the piece, which then
    /// waits for its hash.
    pub fn restore(&mut self, id: BlockId) -> bool {
        matches!(self.receive(id, None), Received::Accepted { piece_complete: true, .. })
    }

    fn receive(&mut self, id: BlockId, sender: Option<StreamId>) -> Received {
        let PieceIndex(index) = id.piece;
        let len = self.layout.block_len(id);
        if len == 0 {
            return Received::Unwanted;
        }
        let state = self.state(id.piece);
        match state {
            PieceState::Have => return Received::Unwanted,
            PieceState::Full => return Received::Duplicate,
            PieceState::Missing
                if self.priority(id.piece) == Priority::SKIP && sender.is_some() =>
            {
                return Received::Unwanted;
            }
            PieceState::Missing | PieceState::Open => {}
        }
        self.ensure_open(index);
        let open = self.open_piece_mut(index);
        if matches!(open.blocks[id.block as usize], Block::Received(_)) {
            return Received::Duplicate;
        }
        let cancel = open.receive(id.block, len, sender);
        let piece_complete = open.received as usize == open.blocks.len();
        if self.is_wanted(id.piece) {
            self.wanted_left -= u64::from(len);
        }
        self.sync_loose(index);
        if piece_complete {
            self.set_state(index, PieceState::Full);
        }
        Received::Accepted { piece_complete, cancel }
    }

    /// A block could not be written: it is to be fetched again.
    pub fn write_failed(&mut self, id: BlockId) {
        let len = self.layout.block_len(id);
        if len == 0 || !matches!(self.state(id.piece), PieceState::Open | PieceState::Full) {
            return;
        }
        let open = self.open_piece_mut(id.piece.0);
        if !matches!(open.blocks[id.block as usize], Block::Received(_)) {
            return;
        }
        open.lose(id.block, len);
        if self.is_wanted(id.piece) {
            self.wanted_left += u64::from(len);
        }
        self.set_state(id.piece.0, PieceState::Open);
        self.settle(id.piece.0);
    }

    /// The hash of a full piece is right: we have it. Returns false, and changes nothing, if the
    /// piece is not full (any more).
    pub fn piece_verified(&mut self, piece: PieceIndex) -> bool {
        let full = self.state(piece) == PieceState::Full;
        if full {
            self.set_have(piece);
        }
        full
    }

    /// The hash of a full piece is wrong: all of it is to be fetched again. Ask
    /// [`senders`](Self::senders) before. Returns false, and changes nothing, if the piece is not
    /// full (any more).
    pub fn piece_failed(&mut self, piece: PieceIndex) -> bool {
        let full = self.state(piece) == PieceState::Full;
        if full {
            self.set_missing(piece);
        }
        full
    }

    /// Who sent each block of an open or full piece; none for a block that is not here or came
    /// from the disk. Empty for other pieces.
    pub fn senders(&self, piece: PieceIndex) -> impl Iterator<Item = Option<StreamId>> + '_ {
        self.blocks_of(piece).iter().map(|block| match block {
            Block::Received(sender) => *sender,
            Block::Free | Block::Requested(_) => None,
        })
    }

    /// Which blocks of an open or full piece are here: for resume data. Empty for other pieces.
    pub fn received_blocks(&self, piece: PieceIndex) -> impl Iterator<Item = bool> + '_ {
        self.blocks_of(piece).iter().map(|block| matches!(block, Block::Received(_)))
    }

    /// Which requests for an open piece are out.
    pub fn requesters(&self, piece: PieceIndex) -> impl Iterator<Item = (BlockId, StreamId)> + '_ {
        let open = self.open_at(piece);
        let first =
            self.blocks_of(piece).iter().enumerate().filter_map(|(at, block)| match block {
                Block::Requested(peer) => Some((at as u32, *peer)),
                Block::Free | Block::Received(_) => None,
            });
        first
            .chain(open.into_iter().flat_map(|open| open.extra.iter().copied()))
            .map(move |(block, peer)| (BlockId { piece, block }, peer))
    }

    /// Who was asked for a block and did not send it yet.
    pub fn asked(&self, id: BlockId) -> impl Iterator<Item = StreamId> + '_ {
        let first = match self.blocks_of(id.piece).get(id.block as usize) {
            Some(Block::Requested(peer)) => Some(*peer),
            Some(Block::Free | Block::Received(_)) | None => None,
        };
        let open = self.open_at(id.piece).filter(|_| first.is_some());
        let extra = open.map_or(&[][..], |open| &open.extra);
        let extra = extra.iter().filter(move |(block, _)| *block == id.block);
        first.into_iter().chain(extra.map(|(_, peer)| *peer))
    }

    /// Whether a block exists and its piece may be asked for.
    pub(super) fn may_fetch(&self, id: BlockId) -> bool {
        let state = self.state(id.piece);
        self.layout.block_len(id) > 0
            && matches!(state, PieceState::Missing | PieceState::Open)
            && self.priority(id.piece) != Priority::SKIP
    }

    /// A piece that was `peer`'s own is everybody's.
    fn disown(&mut self, piece: u32, peer: StreamId) {
        let open = self.open_piece_mut(piece);
        if open.owner == Some(peer) {
            open.owner = None;
            open.exclusive = false;
        }
    }
}
