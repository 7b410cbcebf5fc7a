//! Which block to ask whom for.
//!
//! The [`Picker`] owns what a torrent knows about its pieces: how many peers have each, how much
//! we want it, which blocks were asked for, and who sent them. It knows no sockets and no time.
//! It does not judge peers, keep their pieces or send cancels: the torrent does, with what the
//! picker returns.
//!
//! The order is: higher priority first; within a priority, pieces already begun before new ones
//! that are no rarer, and both rarest first (BEP 3, "rarest first"); between begun ones that are
//! equally rare age decides, between new ones what the peer suggests (BEP 6), then a seeded shuffle.
//! A fast peer, which fetches whole pieces, goes on with its own before it begins others. The first
//! pieces of a newcomer are random, or what is suggested to it, so that it soon has something to
//! trade.
//!
//! When [every wanted block was asked for](Picker::is_all_asked), blocks may be asked of further
//! peers, and the first to arrive cancels the rest: the end game. Which of them are worth it is a
//! matter of time, and for the torrent to say ([`asked_too`](Picker::asked_too)). Few peers are
//! asked for the same block, and those that are not known to deliver are not counted against one
//! that is.
//!
//! What an operation costs, with `n` pieces and `w` the spread between the rarest and the most
//! common piece (at most the number of peers):
//!
//! | operation | cost |
//! |---|---|
//! | [`have`](Picker::have), [`lost`](Picker::lost), also by a peer that had everything | O(1) |
//! | a peer with everything comes or goes | O(1) |
//! | a peer with `k` pieces comes or goes | `n / 64` words, then min(`k`, `n - k`) |
//! | a piece opens, closes or changes priority | O(w) |
//! | [`pick`](Picker::pick), a new piece | at most [`SCAN_MAX`] pieces, then `n / 64` words and [`SAMPLE_MAX`] pieces |
//! | memory, idle | under 16 bytes a piece |
//!
//! ```
//! use teem_core::ids::{Key, PieceIndex, StreamId};
//! use teem_core::rng::Seed;
//! use teem_core::torrent::picker::{Layout, PickOptions, Picker, Pieces, Received};
//!
//! let layout = Layout::new(2, 32 * 1024, 64 * 1024)?;
//! let mut picker = Picker::new(layout, Seed::from_number(1).stream("picker", 0));
//! let peer = StreamId::from_parts(0, 1);
//!
//! let has = Pieces::Words(&[1 << 63]); // its bitfield: only piece 0
//! picker.add_peer(has);
//! assert!(picker.is_interesting(has));
//! let mut blocks = Vec::new();
//! picker.pick(peer, has, 8, &PickOptions::default(), &mut blocks); // send these requests
//! assert_eq!(blocks.len(), 2);
//! for block in blocks {
//!     let Received::Accepted { piece_complete, cancel } = picker.received(block, peer) else {
//!         panic!("we asked for it")
//!     };
//!     assert!(cancel.is_empty()); // whom to send a cancel
//!     if piece_complete {
//!         picker.piece_verified(block.piece); // once the hash job said so
//!     }
//! }
//! assert!(picker.has(PieceIndex(0)) && !picker.is_interesting(has));
//! picker.forget_peer(peer); // closed: its requests are free again
//! picker.remove_peer(has);
//! # Ok::<(), teem_core::torrent::picker::LayoutError>(())
//! ```

mod band;
mod bits;
#[cfg(test)]
mod costs;
mod layout;
#[cfg(test)]
mod model;
mod open;
mod order;
mod select;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use self::band::{Band, Places};
pub use self::bits::Pieces;
use self::bits::{Bits, mask, ones};
pub use self::layout::{BLOCK_LEN, BlockId, Layout, LayoutError, PIECE_LEN_MAX, PIECES_MAX};
use self::open::{Block, OpenPiece};
pub use self::order::{Candidate, Order, PieceOrder};
pub use self::select::{
    END_GAME_REQUESTS_MAX, LANES_MAX, PickOptions, RANDOM_FIRST_PIECES, SAMPLE_MAX, SCAN_MAX,
    Standing,
};
use crate::ids::{PieceIndex, StreamId};
use crate::rng::Rng;

/// The most peers whose pieces are counted.
pub const PEERS_MAX: u32 = u16::MAX as u32;

/// How many pieces may be open (begun and not complete) before peers are made to share, beside
/// [`OPEN_PIECES_PER_PEER`].
pub const OPEN_PIECES_BASE: usize = 16;

/// How many more for each peer.
pub const OPEN_PIECES_PER_PEER: usize = 2;

/// How much a piece is wanted: zero (not at all) to seven. Four is the ordinary priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// Not wanted.
    pub const SKIP: Self = Self(0);
    /// What a piece starts with.
    pub const NORMAL: Self = Self(4);
    /// Before all else.
    pub const TOP: Self = Self(7);

    /// This priority, or [`TOP`](Self::TOP) if it is above that.
    pub const fn new(priority: u8) -> Self {
        if priority > Self::TOP.0 { Self::TOP } else { Self(priority) }
    }

    /// Zero to seven.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u8::deserialize(from).map(Self::new)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// What we have of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PieceState {
    /// Nothing, and nobody was asked.
    Missing,
    /// Some blocks were asked for or are here.
    Open,
    /// Every block is here, and the hash is not known yet.
    Full,
    /// Verified.
    Have,
}

/// What became of a block that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is new: write it.
    Accepted {
        /// The piece is complete now: hash it, then call [`Picker::piece_verified`] or
        /// [`Picker::piece_failed`].
        piece_complete: bool,
        /// The other peers that were asked for it: send them a cancel.
        cancel: SmallVec<[StreamId; 2]>,
    },
    /// It is here already.
    Duplicate,
    /// We have the piece, do not want it, or it does not exist.
    Unwanted,
}

/// How often a torrent is there: `whole` full copies, and this many thousandths of the pieces
/// once more. Our own copy does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copies {
    /// How many peers have the rarest piece.
    pub whole: u32,
    /// Thousandths of the pieces that more peers have.
    pub thousandths: u32,
}

/// An open piece, for the curious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenView {
    /// Which one.
    pub piece: PieceIndex,
    /// Its blocks.
    pub blocks: u32,
    /// Of these, asked for and not here.
    pub requested: u32,
    /// Of these, here.
    pub received: u32,
}

/// What a torrent knows about its pieces. See the [module](self).
#[derive(Debug)]
pub struct Picker {
    layout: Layout,
    rng: Rng,
    order: Order,
    peers: u32,
    /// Added to every count; a peer with everything is one more here.
    base: u16,
    /// Availability of a piece, minus `base`, modulo 2^16.
    counts: Vec<u16>,
    /// How many pieces each availability has.
    histogram: VecDeque<u32>,
    /// Priority in the low three bits, state above.
    flags: Vec<u8>,
    places: Places,
    /// Missing pieces of priority one and up, by priority.
    bands: [Band; 7],
    /// Wanted and not had.
    lacking: Bits,
    open: Vec<OpenPiece>,
    /// Open pieces with free blocks.
    loose: Vec<u32>,
    opened: u64,
    have_count: u32,
    have_bytes: u64,
    wanted_left: u64,
    lacking_count: u32,
    scratch: Vec<select::Partial>,
    turn: u32,
}

impl Picker {
    /// A picker for a torrent of which we have nothing and want everything.
    pub fn new(layout: Layout, mut rng: Rng) -> Self {
        let pieces = layout.pieces();
        let mut places =
            Places { of: vec![u32::MAX; pieces as usize], salt: rng.next_u64(), steps: 0 };
        let mut bands: [Band; 7] = Default::default();
        let band = &mut bands[usize::from(Priority::NORMAL.0) - 1];
        band.order.reserve_exact(pieces as usize);
        let mut lacking = Bits::new(pieces);
        for piece in 0..pieces {
            band.insert(piece, 0, &mut places);
            lacking.insert(piece);
        }
        places.steps = 0;
        Self {
            rng,
            order: Order::RarestFirst,
            peers: 0,
            base: 0,
            counts: vec![0; pieces as usize],
            histogram: VecDeque::from([pieces]),
            flags: vec![flags(Priority::NORMAL, PieceState::Missing); pieces as usize],
            places,
            bands,
            lacking,
            open: Vec::new(),
            loose: Vec::new(),
            opened: 0,
            have_count: 0,
            have_bytes: 0,
            wanted_left: layout.total_len(),
            lacking_count: pieces,
            scratch: Vec::new(),
            turn: 0,
            layout,
        }
    }

    /// How the torrent's bytes fall into pieces and blocks.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    // Availability.

    /// A peer came that has these pieces: its bitfield, `have all` or nothing (BEP 3, BEP 6).
    ///
    /// At most [`PEERS_MAX`] peers; the session's limit is far below.
    pub fn add_peer(&mut self, pieces: Pieces<'_>) {
        assert!(self.peers < PEERS_MAX, "fewer peers than the counts can hold");
        self.peers += 1;
        match pieces {
            Pieces::All => self.raise_all(),
            Pieces::Words(_) if self.is_most(pieces) => {
                self.raise_all();
                self.each(pieces, false, Self::lower);
            }
            Pieces::Words(_) | Pieces::Except(..) => self.each(pieces, true, Self::raise),
        }
    }

    /// A peer is gone that has these pieces: what it came with, and what
    /// [`have`](Self::have) and [`lost`](Self::lost) changed since. Its requests are
    /// [`forget_peer`](Self::forget_peer)'s.
    pub fn remove_peer(&mut self, pieces: Pieces<'_>) {
        assert!(self.peers > 0, "a peer goes once");
        self.peers -= 1;
        match pieces {
            Pieces::All => self.lower_all(),
            Pieces::Words(_) if self.is_most(pieces) => {
                self.each(pieces, false, Self::raise);
                self.lower_all();
            }
            Pieces::Words(_) | Pieces::Except(..) => self.each(pieces, true, Self::lower),
        }
    }

    /// A peer has one piece more. The caller sees to it that it is new. O(1).
    pub fn have(&mut self, PieceIndex(piece): PieceIndex) {
        if piece < self.layout.pieces() && self.availability_of(piece) < u16::MAX {
            self.raise(piece);
        }
    }

    /// A peer has one piece fewer, whether or not it had everything. The caller sees to it that
    /// the peer had it. O(1).
    pub fn lost(&mut self, PieceIndex(piece): PieceIndex) {
        if piece < self.layout.pieces() && self.availability_of(piece) > 0 {
            self.lower(piece);
        }
    }

    /// How many peers have a piece. Zero for one that does not exist.
    pub fn availability(&self, PieceIndex(piece): PieceIndex) -> u32 {
        if piece < self.layout.pieces() { u32::from(self.availability_of(piece)) } else { 0 }
    }

    /// How many pieces have which availability: index `a` holds how many pieces `a` peers have.
    pub fn histogram(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.histogram.iter().copied()
    }

    /// How many copies of the torrent the peers hold together.
    pub fn copies(&self) -> Copies {
        let whole = self.histogram.iter().position(|count| *count > 0).unwrap_or(0);
        let rarest = self.histogram.get(whole).copied().unwrap_or(0);
        let pieces = self.layout.pieces();
        let more = u64::from(pieces - rarest) * 1000 / u64::from(pieces);
        Copies { whole: whole as u32, thousandths: more as u32 }
    }

    /// Whether the peers hold all of the torrent together. Unlike [`copies`](Self::copies) this
    /// costs the same however many peers there are.
    pub fn is_all_there(&self) -> bool {
        self.histogram.front() == Some(&0)
    }

    // What we have and want.

    /// What we have of a piece; [`PieceState::Missing`] for one that does not exist.
    pub fn state(&self, PieceIndex(piece): PieceIndex) -> PieceState {
        self.flags.get(piece as usize).map_or(PieceState::Missing, |flags| state_of(*flags))
    }

    /// Whether we have a piece, verified.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.state(piece) == PieceState::Have
    }

    /// How much a piece is wanted; [`Priority::SKIP`] for one that does not exist.
    pub fn priority(&self, PieceIndex(piece): PieceIndex) -> Priority {
        self.flags.get(piece as usize).map_or(Priority::SKIP, |flags| priority_of(*flags))
    }

    /// Changes how much a piece is wanted. Blocks that were asked for stay so, and a piece that is
    /// no longer wanted keeps what it has. One that does not exist is ignored.
    pub fn set_priority(&mut self, PieceIndex(piece): PieceIndex, priority: Priority) {
        let Some(&old) = self.flags.get(piece as usize) else { return };
        let (state, before) = (state_of(old), priority_of(old));
        if before == priority {
            return;
        }
        if state == PieceState::Missing {
            self.leave_band(piece);
        }
        self.flags[piece as usize] = flags(priority, state);
        if state == PieceState::Missing {
            self.enter_band(piece);
        }
        if state != PieceState::Have && (before == Priority::SKIP) != (priority == Priority::SKIP) {
            let left = u64::from(self.left_of(piece));
            if priority == Priority::SKIP {
                self.wanted_left -= left;
                self.lacking.remove(piece);
                self.lacking_count -= 1;
            } else {
                self.wanted_left += left;
                self.lacking.insert(piece);
                self.lacking_count += 1;
            }
        }
    }

    /// Whether we want a piece and do not have it: what a peer's `have` is judged by. O(1).
    pub fn is_wanted(&self, PieceIndex(piece): PieceIndex) -> bool {
        self.lacking.contains(piece)
    }

    /// Whether a peer has a piece that we want and do not have.
    pub fn is_interesting(&self, pieces: Pieces<'_>) -> bool {
        self.interesting_piece(pieces, PieceIndex(0)).is_some()
    }

    /// A piece that makes a peer interesting: the first at or after `from`, else the first of all.
    ///
    /// A torrent that keeps the answer for each peer asks again, from there, only when we get that
    /// very piece; so all the asking about a peer together costs little more than one scan.
    pub fn interesting_piece(&self, pieces: Pieces<'_>, from: PieceIndex) -> Option<PieceIndex> {
        self.interesting(pieces, from.0, &mut 0).map(PieceIndex)
    }

    fn interesting(&self, pieces: Pieces<'_>, from: u32, steps: &mut u64) -> Option<u32> {
        if self.lacking_count == 0 {
            return None;
        }
        self.lacking
            .next_common(pieces, from, steps)
            .or_else(|| self.lacking.next_common(pieces, 0, steps))
    }

    /// Whether we have every wanted piece.
    pub const fn is_finished(&self) -> bool {
        self.lacking_count == 0
    }

    /// How many pieces we have.
    pub const fn have_count(&self) -> u32 {
        self.have_count
    }

    /// How many wanted pieces we lack.
    pub const fn wanted_count(&self) -> u32 {
        self.lacking_count
    }

    /// Bytes of wanted blocks that are not here.
    pub const fn wanted_left(&self) -> u64 {
        self.wanted_left
    }

    /// Bytes of pieces that we do not have, wanted or not: what a tracker is told as `left`.
    pub const fn left(&self) -> u64 {
        self.layout.total_len() - self.have_bytes
    }

    /// We have a piece: from resume data or a recheck. Whoever was asked for blocks of it should
    /// be sent cancels first; see [`requesters`](Self::requesters).
    pub fn set_have(&mut self, piece: PieceIndex) {
        if piece.0 >= self.layout.pieces() || self.has(piece) {
            return;
        }
        let PieceIndex(index) = piece;
        if self.is_wanted(piece) {
            self.wanted_left -= u64::from(self.left_of(index));
            self.lacking.remove(index);
            self.lacking_count -= 1;
        }
        match self.state(piece) {
            PieceState::Missing => self.leave_band(index),
            PieceState::Open | PieceState::Full => self.drop_open(index),
            PieceState::Have => unreachable!("asked above"),
        }
        self.set_state(index, PieceState::Have);
        self.have_count += 1;
        self.have_bytes += u64::from(self.layout.piece_len(piece));
    }

    /// We have nothing of a piece, after all: a recheck failed, or the file is gone.
    pub fn set_missing(&mut self, piece: PieceIndex) {
        if piece.0 >= self.layout.pieces() {
            return;
        }
        let PieceIndex(index) = piece;
        let wanted = self.priority(piece) != Priority::SKIP;
        match self.state(piece) {
            PieceState::Missing => return,
            PieceState::Open | PieceState::Full => {
                if wanted {
                    self.wanted_left += u64::from(self.open_piece(index).received_bytes);
                }
                self.drop_open(index);
            }
            PieceState::Have => {
                let len = u64::from(self.layout.piece_len(piece));
                self.have_count -= 1;
                self.have_bytes -= len;
                if wanted {
                    self.wanted_left += len;
                    self.lacking.insert(index);
                    self.lacking_count += 1;
                }
            }
        }
        self.set_state(index, PieceState::Missing);
        self.enter_band(index);
    }

    // The life of a block.

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

    /// The open and the full pieces, in no particular order.
    pub fn open_pieces(&self) -> impl ExactSizeIterator<Item = OpenView> + '_ {
        self.open.iter().map(|open| OpenView {
            piece: PieceIndex(open.piece),
            blocks: open.blocks.len() as u32,
            requested: open.requested,
            received: open.received,
        })
    }

    /// How many pieces may be open before peers are made to share. A peer that can help with none
    /// of them still opens one.
    pub const fn open_limit(&self) -> usize {
        OPEN_PIECES_BASE + OPEN_PIECES_PER_PEER * self.peers as usize
    }

    /// What all calls so far have cost, in elements looked at: a measure that no clock disturbs.
    pub const fn steps(&self) -> u64 {
        self.places.steps
    }

    // Inside.

    fn availability_of(&self, piece: u32) -> u16 {
        self.base.wrapping_add(self.counts[piece as usize])
    }

    /// Whether it is cheaper to take a peer for one with everything, and correct the rest. A peer
    /// may come in one way and go the other: only the sums count.
    fn is_most(&mut self, pieces: Pieces<'_>) -> bool {
        let len = self.layout.pieces();
        let words = len.div_ceil(u64::BITS) as usize;
        self.places.steps += words as u64;
        let count: u32 = (0..words).map(|at| (pieces.word(at) & mask(at, len)).count_ones()).sum();
        count > len / 2
    }

    /// Calls `change` for each piece that is among `pieces`, or is not.
    fn each(&mut self, pieces: Pieces<'_>, among: bool, change: fn(&mut Self, u32)) {
        let len = self.layout.pieces();
        let flip = if among { 0 } else { u64::MAX };
        for at in 0..len.div_ceil(u64::BITS) as usize {
            for piece in ones(at, (pieces.word(at) ^ flip) & mask(at, len)) {
                change(self, piece);
            }
        }
    }

    fn raise(&mut self, piece: u32) {
        self.places.steps += 1;
        let availability = self.availability_of(piece);
        let a = usize::from(availability);
        if let Some(band) = band_of(self.flags[piece as usize]) {
            self.bands[band].raise(piece, availability, &mut self.places);
        }
        self.counts[piece as usize] = self.counts[piece as usize].wrapping_add(1);
        self.histogram[a] -= 1;
        if self.histogram.len() == a + 1 {
            self.histogram.push_back(0);
        }
        self.histogram[a + 1] += 1;
    }

    fn lower(&mut self, piece: u32) {
        self.places.steps += 1;
        let availability = self.availability_of(piece);
        assert!(availability > 0, "a peer that lost a piece had it");
        let a = usize::from(availability);
        if let Some(band) = band_of(self.flags[piece as usize]) {
            self.bands[band].lower(piece, availability, &mut self.places);
        }
        self.counts[piece as usize] = self.counts[piece as usize].wrapping_sub(1);
        self.histogram[a] -= 1;
        self.histogram[a - 1] += 1;
        while self.histogram.back() == Some(&0) {
            self.histogram.pop_back();
        }
    }

    fn raise_all(&mut self) {
        self.places.steps += 1;
        self.base = self.base.wrapping_add(1);
        self.histogram.push_front(0);
        self.bands.iter_mut().for_each(Band::raise_all);
    }

    fn lower_all(&mut self) {
        self.places.steps += 1;
        self.base = self.base.wrapping_sub(1);
        let unavailable = self.histogram.pop_front();
        assert_eq!(unavailable, Some(0), "a peer that had everything had every piece");
        self.bands.iter_mut().for_each(Band::lower_all);
    }

    fn set_state(&mut self, piece: u32, state: PieceState) {
        let entry = &mut self.flags[piece as usize];
        *entry = flags(priority_of(*entry), state);
    }

    fn leave_band(&mut self, piece: u32) {
        let availability = self.availability_of(piece);
        if let Some(band) = band_of(self.flags[piece as usize]) {
            self.bands[band].remove(piece, availability, &mut self.places);
        }
    }

    fn enter_band(&mut self, piece: u32) {
        let availability = self.availability_of(piece);
        if let Some(band) = band_of(self.flags[piece as usize]) {
            self.bands[band].insert(piece, availability, &mut self.places);
        }
    }

    /// Bytes of a piece that is not had which are not here.
    fn left_of(&self, piece: u32) -> u32 {
        let here = self.open_at(PieceIndex(piece)).map_or(0, |open| open.received_bytes);
        self.layout.piece_len(PieceIndex(piece)) - here
    }

    fn open_at(&self, piece: PieceIndex) -> Option<&OpenPiece> {
        matches!(self.state(piece), PieceState::Open | PieceState::Full)
            .then(|| self.open_piece(piece.0))
    }

    fn blocks_of(&self, piece: PieceIndex) -> &[Block] {
        self.open_at(piece).map_or(&[], |open| &open.blocks)
    }

    fn open_piece(&self, piece: u32) -> &OpenPiece {
        &self.open[self.places.of[piece as usize] as usize]
    }

    fn open_piece_mut(&mut self, piece: u32) -> &mut OpenPiece {
        &mut self.open[self.places.of[piece as usize] as usize]
    }

    /// Whether a block exists and its piece may be asked for.
    fn may_fetch(&self, id: BlockId) -> bool {
        let state = self.state(id.piece);
        self.layout.block_len(id) > 0
            && matches!(state, PieceState::Missing | PieceState::Open)
            && self.priority(id.piece) != Priority::SKIP
    }

    fn ensure_open(&mut self, piece: u32) {
        if self.state(PieceIndex(piece)) != PieceState::Missing {
            return;
        }
        self.leave_band(piece);
        self.set_state(piece, PieceState::Open);
        self.places.of[piece as usize] = self.open.len() as u32;
        let blocks = self.layout.blocks(PieceIndex(piece));
        self.open.push(OpenPiece::new(piece, blocks, self.opened));
        self.opened += 1;
        self.sync_loose(piece);
    }

    /// A piece that was `peer`'s own is everybody's.
    fn disown(&mut self, piece: u32, peer: StreamId) {
        let open = self.open_piece_mut(piece);
        if open.owner == Some(peer) {
            open.owner = None;
            open.exclusive = false;
        }
    }

    /// After blocks of an open piece became free: closes it if nothing is left of it.
    fn settle(&mut self, piece: u32) {
        if self.open_piece(piece).taken() == 0 {
            self.drop_open(piece);
            self.set_state(piece, PieceState::Missing);
            self.enter_band(piece);
        } else {
            self.sync_loose(piece);
        }
    }

    /// Puts an open piece in or out of the list of those with free blocks.
    fn sync_loose(&mut self, piece: u32) {
        let len = self.loose.len() as u32;
        let open = self.open_piece_mut(piece);
        match (open.free > 0, open.loose_at) {
            (true, u32::MAX) => {
                open.loose_at = len;
                self.loose.push(piece);
            }
            (false, at) if at != u32::MAX => {
                open.loose_at = u32::MAX;
                self.loose.swap_remove(at as usize);
                if let Some(&moved) = self.loose.get(at as usize) {
                    self.open_piece_mut(moved).loose_at = at;
                }
            }
            _ => {}
        }
    }

    /// Forgets what an open piece has. Its state is the caller's to set.
    fn drop_open(&mut self, piece: u32) {
        self.open_piece_mut(piece).free = 0;
        self.sync_loose(piece);
        let at = self.places.of[piece as usize] as usize;
        self.open.swap_remove(at);
        if let Some(moved) = self.open.get(at) {
            self.places.of[moved.piece as usize] = at as u32;
        }
    }
}

const fn flags(priority: Priority, state: PieceState) -> u8 {
    let state = match state {
        PieceState::Missing => 0,
        PieceState::Open => 1,
        PieceState::Full => 2,
        PieceState::Have => 3,
    };
    priority.0 | state << 3
}

const fn priority_of(flags: u8) -> Priority {
    Priority(flags & 7)
}

const fn state_of(flags: u8) -> PieceState {
    match flags >> 3 {
        0 => PieceState::Missing,
        1 => PieceState::Open,
        2 => PieceState::Full,
        _ => PieceState::Have,
    }
}

/// The band that a piece with these flags is in.
const fn band_of(flags: u8) -> Option<usize> {
    if flags == 0 || flags > 7 { None } else { Some(flags as usize - 1) }
}
