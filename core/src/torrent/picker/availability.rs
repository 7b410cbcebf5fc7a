//! How many peers have each piece.

use super::band::Band;
use super::bits::{Pieces, mask, ones};
use super::{Copies, PEERS_MAX, Picker, band_of};
use crate::ids::PieceIndex;

impl Picker {
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

    pub(super) fn availability_of(&self, piece: u32) -> u16 {
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
}
