//! How a torrent's bytes fall into pieces and blocks.

use alloc::vec::Vec;

use thiserror::Error;

use crate::ids::PieceIndex;
pub use crate::wire::BLOCK_LEN;

/// The most pieces that a torrent may have here.
pub const PIECES_MAX: u32 = 1 << 26;

/// The longest piece, in bytes.
pub const PIECE_LEN_MAX: u32 = 1 << 30;

/// Sizes from metainfo that no torrent can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The piece length is zero or above [`PIECE_LEN_MAX`].
    #[error("a piece length of {0} bytes is out of range")]
    PieceLen(u32),
    /// There are no pieces, or more than [`PIECES_MAX`].
    #[error("{0} pieces are out of range")]
    PieceCount(u32),
    /// The total length does not end inside the last piece.
    #[error("{total_len} bytes do not fill {pieces} pieces of {piece_len} bytes")]
    TotalLen {
        /// All bytes.
        total_len: u64,
        /// Pieces claimed.
        pieces: u32,
        /// Bytes of a full piece.
        piece_len: u32,
    },
    /// A short piece does not exist, is empty, is longer than the piece, or is out of order.
    #[error("piece {piece} cannot be {len} bytes short")]
    ShortPiece {
        /// The piece in question.
        piece: u32,
        /// Its claimed length.
        len: u32,
    },
}

/// One block of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The piece it belongs to.
    pub piece: PieceIndex,
    /// Its number in the piece, from zero: it begins at `block *` [`BLOCK_LEN`].
    pub block: u32,
}

impl BlockId {
    /// Where the block begins in its piece, in bytes.
    pub const fn begin(self) -> u32 {
        self.block * BLOCK_LEN
    }
}

/// How a torrent's bytes fall into pieces and blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    piece_len: u32,
    pieces: u32,
    /// Bytes of the last piece as the plain arithmetic has it.
    last_len: u32,
    total_len: u64,
    /// Pieces shorter than they look, by index.
    short: Vec<(u32, u32)>,
}

impl Layout {
    /// `pieces` pieces of `piece_len` bytes, the last one shorter if `total_len` says so.
    pub fn new(pieces: u32, piece_len: u32, total_len: u64) -> Result<Self, LayoutError> {
        if piece_len == 0 || piece_len > PIECE_LEN_MAX {
            return Err(LayoutError::PieceLen(piece_len));
        }
        if pieces == 0 || pieces > PIECES_MAX {
            return Err(LayoutError::PieceCount(pieces));
        }
        if total_len.div_ceil(u64::from(piece_len)) != u64::from(pieces) {
            return Err(LayoutError::TotalLen { total_len, pieces, piece_len });
        }
        let rest = (total_len % u64::from(piece_len)) as u32;
        let last_len = if rest == 0 { piece_len } else { rest };
        Ok(Self { piece_len, pieces, last_len, total_len, short: Vec::new() })
    }

    /// The same, with pieces that end early: the last piece of each file where pieces are aligned
    /// to files (BEP 52), or padded to be (BEP 47). Pairs of piece and length in bytes, by ascending piece.
    pub fn with_short_pieces(
        mut self,
        short: impl IntoIterator<Item = (PieceIndex, u32)>,
    ) -> Result<Self, LayoutError> {
        for (PieceIndex(piece), len) in short {
            let ascending = self.short.last().is_none_or(|(last, _)| *last < piece);
            if !ascending || piece >= self.pieces || len == 0 || len > self.unpadded(piece) {
                return Err(LayoutError::ShortPiece { piece, len });
            }
            self.short.push((piece, len));
        }
        let cut: u64 =
            self.short.iter().map(|(piece, len)| u64::from(self.unpadded(*piece) - len)).sum();
        self.total_len -= cut;
        Ok(self)
    }

    /// Number of pieces.
    pub const fn pieces(&self) -> u32 {
        self.pieces
    }

    /// All bytes that can be asked for.
    pub const fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Bytes from the start of a piece to the start of the next.
    pub const fn stride(&self) -> u32 {
        self.piece_len
    }

    /// Bytes of a piece; zero for one that does not exist.
    pub fn piece_len(&self, PieceIndex(piece): PieceIndex) -> u32 {
        if piece >= self.pieces {
            return 0;
        }
        match self.short.binary_search_by_key(&piece, |(short, _)| *short) {
            Ok(at) => self.short[at].1,
            Err(_) => self.unpadded(piece),
        }
    }

    /// Blocks of a piece; zero for one that does not exist.
    pub fn blocks(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// Bytes of a block; zero for one that does not exist.
    pub fn block_len(&self, id: BlockId) -> u32 {
        let begin = id.block.saturating_mul(BLOCK_LEN);
        self.piece_len(id.piece).saturating_sub(begin).min(BLOCK_LEN)
    }

    /// The block that a piece message carries, if it is exactly one of ours.
    pub fn block_at(&self, piece: PieceIndex, begin: u32, len: u32) -> Option<BlockId> {
        let id = BlockId { piece, block: begin / BLOCK_LEN };
        let exact = begin.is_multiple_of(BLOCK_LEN) && len > 0 && self.block_len(id) == len;
        exact.then_some(id)
    }

    /// Bytes of a piece as the plain arithmetic has it.
    fn unpadded(&self, piece: u32) -> u32 {
        if piece + 1 < self.pieces { self.piece_len } else { self.last_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_and_its_last_block_are_shorter() {
        let layout = Layout::new(3, 40_000, 2 * 40_000 + 20_000).unwrap();
        let [first, last] = [PieceIndex(0), PieceIndex(2)];
        assert_eq!((layout.blocks(first), layout.blocks(last)), (3, 2));
        assert_eq!(layout.block_len(BlockId { piece: first, block: 2 }), 40_000 - 2 * BLOCK_LEN);
        assert_eq!(layout.block_len(BlockId { piece: last, block: 1 }), 20_000 - BLOCK_LEN);
        assert_eq!(layout.block_len(BlockId { piece: last, block: 2 }), 0);
        assert_eq!(layout.block_len(BlockId { piece: last, block: u32::MAX }), 0);
        assert_eq!(layout.piece_len(PieceIndex(3)), 0);
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        assert_eq!(Layout::new(1, 0, 1), Err(LayoutError::PieceLen(0)));
        assert_eq!(Layout::new(0, 1, 0), Err(LayoutError::PieceCount(0)));
        assert!(matches!(Layout::new(2, 100, 100), Err(LayoutError::TotalLen { .. })));
        assert!(matches!(Layout::new(2, 100, 201), Err(LayoutError::TotalLen { .. })));
        assert!(Layout::new(2, 100, 200).is_ok());
    }

    #[test]
    fn a_piece_at_the_end_of_an_aligned_file_may_be_short() {
        let layout = Layout::new(4, 100, 400).unwrap();
        let layout = layout.with_short_pieces([(PieceIndex(1), 30), (PieceIndex(3), 1)]).unwrap();
        let lens: Vec<_> = (0..4).map(|piece| layout.piece_len(PieceIndex(piece))).collect();
        assert_eq!(lens, [100, 30, 100, 1]);
        assert_eq!(layout.total_len(), 231);
        let layout = Layout::new(5, 100, 450).unwrap();
        let layout = layout.with_short_pieces([(PieceIndex(1), 30)]).unwrap();
        assert_eq!((layout.piece_len(PieceIndex(4)), layout.total_len()), (50, 380));
        let again = Layout::new(4, 100, 400).unwrap();
        assert!(again.with_short_pieces([(PieceIndex(1), 101)]).is_err());
    }

    #[test]
    fn only_an_exact_block_is_recognised() {
        let layout = Layout::new(1, 20_000, 20_000).unwrap();
        let piece = PieceIndex(0);
        assert_eq!(
            layout.block_at(piece, BLOCK_LEN, 20_000 - BLOCK_LEN),
            Some(BlockId { piece, block: 1 })
        );
        assert_eq!(layout.block_at(piece, BLOCK_LEN, BLOCK_LEN), None);
        assert_eq!(layout.block_at(piece, 1, BLOCK_LEN), None);
        assert_eq!(layout.block_at(piece, 2 * BLOCK_LEN, 0), None);
        assert_eq!(layout.block_at(PieceIndex(1), 0, BLOCK_LEN), None);
    }
}
