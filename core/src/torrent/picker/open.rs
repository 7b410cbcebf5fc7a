//! A piece that is being fetched: who was asked for which block, and who sent it.

use alloc::vec;
use alloc::vec::Vec;

use smallvec::SmallVec;

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
    /// Those of all requests that are with a peer that has not shown that it delivers.
    pub(super) unproven: Vec<(u32, StreamId)>,
}

/// Who was asked for a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Askers {
    pub(super) proven: usize,
    pub(super) unproven: usize,
    /// The peer in question is among them.
    pub(super) asked: bool,
}

impl OpenPiece {
    pub(super) fn new(piece: u32, blocks: u32, born: u64) -> Self {
        Self {
            piece,
            owner: None,
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
            unproven: Vec::new(),
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
        proven: bool,
        steps: &mut u64,
    ) -> Option<u32> {
        while let Some(block) = self.blocks.get(self.first_free as usize) {
            *steps += 1;
            let at = self.first_free;
            self.first_free += 1;
            if *block == Block::Free {
                self.request(at, peer, proven);
                return Some(at);
            }
        }
        None
    }

    /// Asks `peer` for a free block.
    pub(super) fn request(&mut self, block: u32, peer: StreamId, proven: bool) {
        self.blocks[block as usize] = Block::Requested(peer);
        self.free -= 1;
        self.requested += 1;
        if !proven {
            self.unproven.push((block, peer));
        }
    }

    /// Asks `peer` for a block that others were asked for.
    pub(super) fn request_too(&mut self, block: u32, peer: StreamId, proven: bool) {
        self.extra.push((block, peer));
        if !proven {
            self.unproven.push((block, peer));
        }
    }

    /// How many peers were asked for a block, and whether `peer` is among them.
    pub(super) fn askers(&self, block: u32, peer: StreamId) -> Askers {
        let Block::Requested(first) = self.blocks[block as usize] else {
            return Askers::default();
        };
        let extra = self.extra.iter().filter(|(of, _)| *of == block);
        let (all, asked) = extra
            .fold((1, first == peer), |(count, asked), (_, by)| (count + 1, asked || *by == peer));
        let unproven = self.unproven.iter().filter(|(of, _)| *of == block).count();
        Askers { proven: all - unproven, unproven, asked }
    }

    /// Takes a request back. Returns whether `peer` was asked at all.
    pub(super) fn abort(&mut self, block: u32, peer: StreamId) -> bool {
        if let Some(at) = self.extra.iter().position(|entry| *entry == (block, peer)) {
            self.extra.remove(at);
            self.forget_unproven(block, peer);
            return true;
        }
        if self.blocks[block as usize] != Block::Requested(peer) {
            return false;
        }
        self.forget_unproven(block, peer);
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
                self.unproven.retain(|(of, _)| *of != block);
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

    fn forget_unproven(&mut self, block: u32, peer: StreamId) {
        if let Some(at) = self.unproven.iter().position(|entry| *entry == (block, peer)) {
            self.unproven.swap_remove(at);
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
        for (at, (block, peer)) in self.unproven.iter().enumerate() {
            let first = self.blocks[*block as usize] == Block::Requested(*peer);
            assert!(first || self.extra.contains(&(*block, *peer)), "asked at all");
            assert!(!self.unproven[..at].contains(&(*block, *peer)), "counted twice");
        }
        assert!(self.owner.is_some() || !self.exclusive);
    }
}
