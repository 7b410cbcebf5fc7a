//! A piece that is being fetched: who was asked for which block, and who sent it.

use alloc::vec;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::Standing;
use crate::ids::StreamId;

/// The life of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Free,
    /// Asked of this peer, and perhaps of those in [`OpenPiece::extra`].
    Requested(StreamId),
    /// Here; from this peer, or from the disk.
    Received(Option<StreamId>),
}

#[derive(Debug)]
pub(super) struct OpenPiece {
    pub(super) piece: u32,
    /// The fast peer that fetches the whole of it.
    pub(super) owner: Option<StreamId>,
    /// Who was asked last for a block of it.
    pub(super) last_asked: Option<StreamId>,
    /// Nobody but the owner may send blocks of it, so that blame is certain.
    pub(super) exclusive: bool,
    /// When it was opened, in pieces opened before it.
    pub(super) born: u64,
    pub(super) free: u32,
    pub(super) requested: u32,
    pub(super) received: u32,
    pub(super) received_bytes: u32,
    /// No block before this one is free.
    first_free: u32,
    /// Its place among the pieces with free blocks.
    pub(super) loose_at: u32,
    pub(super) blocks: Vec<Block>,
    /// Requests for a block beyond the first: the end game.
    pub(super) extra: Vec<(u32, StreamId)>,
    /// Those of all requests that are with peers that are less than proven.
    pub(super) lesser: Vec<(u32, StreamId, Standing)>,
}

impl OpenPiece {
    pub(super) fn new(piece: u32, blocks: u32, born: u64) -> Self {
        Self {
            piece,
            owner: None,
            last_asked: None,
            exclusive: false,
            born,
            free: blocks,
            requested: 0,
            received: 0,
            received_bytes: 0,
            first_free: 0,
            loose_at: u32::MAX,
            blocks: vec![Block::Free; blocks as usize],
            extra: Vec::new(),
            lesser: Vec::new(),
        }
    }

    /// Blocks that were asked for or are here.
    pub(super) fn taken(&self) -> u32 {
        self.requested + self.received
    }

    /// Asks `peer` for the first free block.
    pub(super) fn take_next(
        &mut self,
        peer: StreamId,
        standing: Standing,
        steps: &mut u64,
    ) -> Option<u32> {
        while let Some(block) = self.blocks.get(self.first_free as usize) {
            *steps += 1;
            let at = self.first_free;
            self.first_free += 1;
            if *block == Block::Free {
                self.last_asked = Some(peer);
                self.request(at, peer, standing);
                return Some(at);
            }
        }
        None
    }

    /// Asks `peer` for a free block.
    pub(super) fn request(&mut self, block: u32, peer: StreamId, standing: Standing) {
        self.blocks[block as usize] = Block::Requested(peer);
        self.free -= 1;
        self.requested += 1;
        if standing < Standing::Proven {
            self.lesser.push((block, peer, standing));
        }
    }

    /// Asks `peer` for a block that others were asked for.
    pub(super) fn request_too(&mut self, block: u32, peer: StreamId, standing: Standing) {
        self.extra.push((block, peer));
        if standing < Standing::Proven {
            self.lesser.push((block, peer, standing));
        }
    }

    /// How many peers of this standing or better were asked for a block; none if `peer` was, or
    /// nobody.
    pub(super) fn rivals(&self, block: u32, peer: StreamId, standing: Standing) -> Option<usize> {
        let Block::Requested(first) = self.blocks[block as usize] else { return None };
        let mut all = 1;
        for (_, by) in self.extra.iter().filter(|(of, _)| *of == block) {
            if *by == peer {
                return None;
            }
            all += 1;
        }
        let lesser = self.lesser.iter().filter(|(of, _, its)| *of == block && *its < standing);
        (first != peer).then(|| all - lesser.count())
    }

    /// Takes a request back. Returns whether `peer` was asked at all.
    pub(super) fn abort(&mut self, block: u32, peer: StreamId) -> bool {
        if let Some(at) = self.extra.iter().position(|entry| *entry == (block, peer)) {
            self.extra.remove(at);
            self.forget_standing(block, peer);
            return true;
        }
        if self.blocks[block as usize] != Block::Requested(peer) {
            return false;
        }
        self.forget_standing(block, peer);
        if let Some(at) = self.extra.iter().position(|(of, _)| *of == block) {
            let (_, next) = self.extra.remove(at);
            self.blocks[block as usize] = Block::Requested(next);
        } else {
            self.requested -= 1;
            self.set_free(block);
        }
        true
    }

    /// Takes every request of `peer` back. Returns whether there was one.
    pub(super) fn abort_all(&mut self, peer: StreamId) -> bool {
        let mut aborted = false;
        if self.requested > 0 {
            for block in 0..self.blocks.len() as u32 {
                aborted |= self.abort(block, peer);
            }
        }
        aborted
    }

    /// Puts a block in that is not here. Returns the others who were asked for it.
    pub(super) fn receive(
        &mut self,
        block: u32,
        len: u32,
        sender: Option<StreamId>,
    ) -> SmallVec<[StreamId; 2]> {
        let mut cancel = SmallVec::new();
        match self.blocks[block as usize] {
            Block::Free => self.free -= 1,
            Block::Requested(first) => {
                self.requested -= 1;
                cancel.push(first);
                cancel.extend(self.extra.iter().filter(|(of, _)| *of == block).map(|(_, by)| *by));
                self.extra.retain(|(of, _)| *of != block);
                self.lesser.retain(|(of, ..)| *of != block);
                cancel.retain(|peer| Some(*peer) != sender);
            }
            Block::Received(_) => unreachable!("the caller sorted duplicates out"),
        }
        self.blocks[block as usize] = Block::Received(sender);
        self.received += 1;
        self.received_bytes += len;
        cancel
    }

    /// Forgets a block that is here.
    pub(super) fn lose(&mut self, block: u32, len: u32) {
        self.received -= 1;
        self.received_bytes -= len;
        self.set_free(block);
    }

    fn forget_standing(&mut self, block: u32, peer: StreamId) {
        if let Some(at) = self.lesser.iter().position(|(of, by, _)| (*of, *by) == (block, peer)) {
            self.lesser.swap_remove(at);
        }
    }

    fn set_free(&mut self, block: u32) {
        self.blocks[block as usize] = Block::Free;
        self.free += 1;
        self.first_free = self.first_free.min(block);
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let count = |wanted: fn(&Block) -> bool| {
            self.blocks.iter().filter(|block| wanted(block)).count() as u32
        };
        assert_eq!(self.free, count(|block| matches!(block, Block::Free)));
        assert_eq!(self.requested, count(|block| matches!(block, Block::Requested(_))));
        assert_eq!(self.received, count(|block| matches!(block, Block::Received(_))));
        assert!(
            self.blocks[..self.first_free as usize].iter().all(|block| *block != Block::Free),
            "no block before the first free one is free"
        );
        for (at, (block, peer)) in self.extra.iter().enumerate() {
            let first = self.blocks[*block as usize];
            assert!(matches!(first, Block::Requested(by) if by != *peer));
            assert!(!self.extra[..at].contains(&(*block, *peer)), "asked twice");
        }
        for (at, (block, peer, standing)) in self.lesser.iter().enumerate() {
            let first = self.blocks[*block as usize] == Block::Requested(*peer);
            assert!(first || self.extra.contains(&(*block, *peer)), "asked at all");
            let before = &self.lesser[..at];
            assert!(!before.iter().any(|(of, by, _)| (of, by) == (block, peer)), "counted twice");
            assert!(*standing < Standing::Proven);
        }
        assert!(self.owner.is_some() || !self.exclusive);
    }
}
