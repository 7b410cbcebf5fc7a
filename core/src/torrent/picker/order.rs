//! In which order new pieces are begun.

use alloc::boxed::Box;
use core::fmt;

use super::Priority;
use crate::ids::PieceIndex;

/// What a [`PieceOrder`] judges a piece by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The piece: missing, wanted, and the peer has it.
    pub piece: PieceIndex,
    /// How many peers have it.
    pub availability: u32,
    /// How much it is wanted. Only pieces of the same priority compete.
    pub priority: Priority,
}

/// An order of one's own for pieces of the same priority, such as by distance from a play head.
pub trait PieceOrder: Send + fmt::Debug {
    /// The piece that gets this rank; lower is earlier, and equal ranks go by index.
    fn rank(&self, candidate: Candidate) -> u64;

    /// Where to begin looking. At most [`SAMPLE_MAX`](super::SAMPLE_MAX) candidates are ranked,
    /// from here by index, around the end.
    fn start(&self) -> PieceIndex {
        PieceIndex(0)
    }
}

/// In which order new pieces of the same priority are begun.
#[derive(Debug, Default)]
pub enum Order {
    /// The piece that the fewest peers have; the first
    /// [`RANDOM_FIRST_PIECES`](super::RANDOM_FIRST_PIECES) at random.
    #[default]
    RarestFirst,
    /// By index.
    Sequential,
    /// By a rank of the embedder's.
    Custom(Box<dyn PieceOrder>),
}
