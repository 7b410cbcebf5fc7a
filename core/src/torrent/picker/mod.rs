//! Which block to ask whom for.
//!
//! The [`Picker`] owns what a torrent knows about its pieces: how many peers have each, how much
//! we want it, which blocks were asked for, and who sent them. It knows no sockets and no time.
//! It does not judge peers, keep their pieces or send cancels: the torrent does, with what the
//! picker returns.
//!
//! The order is: higher priority first; within a priority, the piece that the peer is sending, so
//! that few are begun at a time (BEP 3, "strict priority"), then others that are begun before new ones
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

mod availability;
mod band;
mod bits;
mod blocks;
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
use self::bits::Bits;
pub use self::bits::Pieces;
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
