//! Where a received block goes: from the wire into a write and a hash, and then into our pieces.
//!
//! ```text
//!   block --> held in its piece --> run of blocks --+--> write job --> on disk
//!                                                   +--> hash step --> right or wrong
//! ```
//!
//! Blocks are held until a run of [`RUN_BLOCKS`] is together, or the piece is, and then leave for
//! the disk and for the hash side by side, as handles of the same bytes. A piece is hashed in
//! order; blocks that came out of order wait for their turn, or, when memory is short, go to the
//! disk alone and are hashed from there. A piece is ours once its hash is right and every byte of
//! it was written: whoever reads it then finds it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::chunks::Chunks;
use crate::hash::{Digest, HashAlgorithm, HashState};
use crate::ids::{PieceIndex, TorrentId};
use crate::machine::{HashSource, Job};
use crate::metainfo::Info;
use crate::session::cx::{Cx, JobOwner};
use crate::torrent::picker::{BLOCK_LEN, BlockId, Layout};

/// Blocks that leave together: 256 KiB, which is what a hand-over between threads is worth.
pub(crate) const RUN_BLOCKS: u32 = 16;

/// Most blocks in one write: 1 MiB.
const WRITE_BLOCKS_MAX: u32 = 64;

/// The pieces that are on their way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pieces: BTreeMap<u32, Buffer>,
}

#[derive(Debug)]
struct Buffer {
    slots: Box<[Slot]>,
    /// Blocks that are here or went on.
    received: u32,
    /// Blocks that were not handed to a write yet.
    unwritten: u32,
    /// When to look for runs again.
    look_at: u32,
    writing: u32,
    written: u32,
    hash: Hash,
    /// Blocks hashed, those of the step under way included.
    hashed: u32,
    /// Something of it was lost.
    broken: bool,
}

#[derive(Debug, Default)]
struct Slot {
    bytes: Option<Chunks>,
    sender: Option<IpAddr>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Missing,
    Held,
    Writing,
    Written,
}

#[derive(Debug)]
enum Hash {
    Idle(Box<HashState>),
    Step,
    Done(Digest),
}

/// Which torrent a block is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    pub(crate) torrent: TorrentId,
    pub(crate) layout: &'a Layout,
    pub(crate) info: &'a Info,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All of it is on disk, and this is its hash.
    Hashed(PieceIndex, Digest),
    /// Some of it was lost on the way to the disk.
    Lost(PieceIndex),
}

impl Content {
    /// Takes a block in. `sender` is whom to blame if the piece turns out wrong.
    pub(crate) fn receive(
        &mut self,
        Whose { torrent, layout, info }: Whose<'_>,
        id: BlockId,
        data: Chunks,
        sender: IpAddr,
        cx: &mut Cx,
    ) {
        let new = || Buffer::new(layout.blocks(id.piece), info.hash_state(id.piece));
        let buffer = self.pieces.entry(id.piece.0).or_insert_with(new);
        let Some(slot) = buffer.slots.get_mut(id.block as usize) else { return };
        if slot.stage != Stage::Missing {
            return;
        }
        cx.memory.hold(data.len());
        *slot = Slot { bytes: Some(data), sender: Some(sender), stage: Stage::Held };
        buffer.received += 1;
        buffer.unwritten += 1;
        buffer.pump(torrent, layout, id.piece, false, cx);
    }

    /// A block is on disk from an earlier run.
    pub(crate) fn restore(
        &mut self,
        Whose { torrent, layout, info }: Whose<'_>,
        id: BlockId,
        cx: &mut Cx,
    ) {
        let new = || Buffer::new(layout.blocks(id.piece), info.hash_state(id.piece));
        let buffer = self.pieces.entry(id.piece.0).or_insert_with(new);
        let Some(slot) = buffer.slots.get_mut(id.block as usize) else { return };
        if slot.stage != Stage::Missing {
            return;
        }
        *slot = Slot { bytes: None, sender: None, stage: Stage::Written };
        buffer.received += 1;
        buffer.written += 1;
        buffer.pump(torrent, layout, id.piece, false, cx);
    }

    /// Sends everything that is held on to the disk, runs or not: memory is short, or we stop.
    pub(crate) fn release(&mut self, torrent: TorrentId, layout: &Layout, cx: &mut Cx) {
        for (piece, buffer) in &mut self.pieces {
            buffer.pump(torrent, layout, PieceIndex(*piece), true, cx);
        }
    }

    /// A write of `blocks` blocks from `first` on is done.
    pub(crate) fn on_written(
        &mut self,
        torrent: TorrentId,
        layout: &Layout,
        first: BlockId,
        blocks: u32,
        done: bool,
        cx: &mut Cx,
    ) -> Option<Settled> {
        let buffer = self.pieces.get_mut(&first.piece.0)?;
        for slot in &mut buffer.slots[first.block as usize..(first.block + blocks) as usize] {
            slot.stage = Stage::Written;
        }
        buffer.writing -= blocks;
        buffer.written += blocks;
        if cx.memory.is_short() {
            buffer.drop_unhashed(first.block..first.block + blocks, cx);
        }
        buffer.broken |= !done;
        if !buffer.broken {
            buffer.pump(torrent, layout, first.piece, false, cx);
        }
        self.settle(first.piece)
    }

    /// A hash step is done, or failed.
    pub(crate) fn on_hashed(
        &mut self,
        torrent: TorrentId,
        layout: &Layout,
        piece: PieceIndex,
        result: Option<Hashed>,
        cx: &mut Cx,
    ) -> Option<Settled> {
        let buffer = self.pieces.get_mut(&piece.0)?;
        match result {
            Some(Hashed::Partly(state)) => {
                buffer.hash = Hash::Idle(state);
                if !buffer.broken {
                    buffer.pump(torrent, layout, piece, false, cx);
                }
            }
            Some(Hashed::Whole(digest)) => buffer.hash = Hash::Done(digest),
            None => {
                buffer.broken = true;
                buffer.hash = Hash::Idle(Box::new(HashState::new(HashAlgorithm::Sha1)));
            }
        }
        self.settle(piece)
    }

    /// Whoever sent each block of a piece that is not settled for good.
    pub(crate) fn senders(&self, piece: PieceIndex) -> Vec<Option<IpAddr>> {
        self.pieces
            .get(&piece.0)
            .map_or_else(Vec::new, |buffer| buffer.slots.iter().map(|slot| slot.sender).collect())
    }

    /// Forgets a piece: it is verified, or will be fetched again.
    pub(crate) fn forget(&mut self, piece: PieceIndex, cx: &mut Cx) {
        if let Some(buffer) = self.pieces.remove(&piece.0) {
            for (block, slot) in buffer.slots.iter().enumerate() {
                let Some(bytes) = &slot.bytes else { continue };
                if slot.stage == Stage::Held {
                    cx.memory.written(bytes.len());
                }
                if block as u32 >= buffer.hashed {
                    cx.memory.hashed(bytes.len());
                }
            }
        }
    }

    /// Forgets every piece, once nothing is on its way any more.
    pub(crate) fn clear(&mut self, cx: &mut Cx) {
        while let Some(piece) = self.pieces.keys().next().copied() {
            self.forget(PieceIndex(piece), cx);
        }
    }

    /// The pieces that are here in part, with their blocks that are on disk: for resume data.
    pub(crate) fn partial(&self) -> impl Iterator<Item = (PieceIndex, Vec<u32>)> + '_ {
        self.pieces.iter().filter_map(|(piece, buffer)| {
            let on_disk: Vec<u32> = (0..buffer.slots.len() as u32)
                .filter(|block| buffer.slots[*block as usize].stage == Stage::Written)
                .collect();
            let whole = matches!(buffer.hash, Hash::Done(_));
            (!on_disk.is_empty() && !buffer.broken && !whole)
                .then_some((PieceIndex(*piece), on_disk))
        })
    }

    /// Whether anything is on its way to the disk or through a hash.
    pub(crate) fn is_busy(&self) -> bool {
        self.pieces.values().any(|buffer| buffer.writing > 0 || matches!(buffer.hash, Hash::Step))
    }

    fn settle(&self, piece: PieceIndex) -> Option<Settled> {
        let buffer = self.pieces.get(&piece.0)?;
        if buffer.writing > 0 || matches!(buffer.hash, Hash::Step) {
            return None;
        }
        if buffer.broken {
            return Some(Settled::Lost(piece));
        }
        match &buffer.hash {
            Hash::Done(digest) if buffer.written as usize == buffer.slots.len() => {
                Some(Settled::Hashed(piece, *digest))
            }
            _ => None,
        }
    }
}

/// How far a hash step got.
#[derive(Debug)]
pub(crate) enum Hashed {
    Partly(Box<HashState>),
    Whole(Digest),
}

impl Buffer {
    fn new(blocks: u32, hash: HashState) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(blocks as usize, Slot::default);
        Self {
            slots: slots.into(),
            received: 0,
            unwritten: 0,
            look_at: RUN_BLOCKS,
            writing: 0,
            written: 0,
            hash: Hash::Idle(Box::new(hash)),
            hashed: 0,
            broken: false,
        }
    }

    /// Lets go of written blocks that wait for their turn to be hashed; they will be hashed from
    /// the disk.
    fn drop_unhashed(&mut self, blocks: core::ops::Range<u32>, cx: &mut Cx) {
        for block in blocks.start.max(self.hashed)..blocks.end {
            if let Some(bytes) = self.slots[block as usize].bytes.take() {
                cx.memory.hashed(bytes.len());
            }
        }
    }

    /// Sends on what is ready to go: whole runs, or with `force` everything.
    fn pump(
        &mut self,
        torrent: TorrentId,
        layout: &Layout,
        piece: PieceIndex,
        force: bool,
        cx: &mut Cx,
    ) {
        let complete = self.received as usize == self.slots.len();
        if self.unwritten > 0 && (force || complete || self.unwritten >= self.look_at) {
            self.write_runs(torrent, layout, piece, force || complete, cx);
            self.look_at = self.unwritten + RUN_BLOCKS;
        }
        self.hash_step(torrent, layout, piece, force, complete, cx);
    }

    fn write_runs(
        &mut self,
        torrent: TorrentId,
        layout: &Layout,
        piece: PieceIndex,
        all: bool,
        cx: &mut Cx,
    ) {
        let blocks = self.slots.len() as u32;
        let mut first = 0;
        while first < blocks {
            let run = self.slots[first as usize..]
                .iter()
                .take(WRITE_BLOCKS_MAX as usize)
                .take_while(|slot| slot.stage == Stage::Held)
                .count() as u32;
            if run == 0 {
                first += 1;
                continue;
            }
            if all || run >= RUN_BLOCKS {
                let mut data = Chunks::with_capacity(run as usize);
                for block in first..first + run {
                    let slot = &mut self.slots[block as usize];
                    slot.stage = Stage::Writing;
                    let bytes = slot.bytes.as_ref().expect("a held block has its bytes");
                    data.append(bytes.clone());
                    // What was hashed already is not needed again.
                    if block < self.hashed {
                        slot.bytes = None;
                    }
                }
                self.unwritten -= run;
                self.writing += run;
                let offset = offset_of(layout, piece, first);
                let owner = JobOwner::Write {
                    torrent,
                    first: BlockId { piece, block: first },
                    blocks: run,
                    len: data.len(),
                };
                cx.jobs.submit(owner, Job::Write { torrent, offset, data }, &mut cx.out);
            }
            first += run;
        }
    }

    fn hash_step(
        &mut self,
        torrent: TorrentId,
        layout: &Layout,
        piece: PieceIndex,
        force: bool,
        complete: bool,
        cx: &mut Cx,
    ) {
        if !matches!(self.hash, Hash::Idle(_)) {
            return;
        }
        let blocks = self.slots.len() as u32;
        let rest = &self.slots[self.hashed as usize..];
        // No longer steps than others': streams that are hashed side by side should end together.
        let in_memory =
            rest.iter().take(RUN_BLOCKS as usize).take_while(|slot| slot.bytes.is_some()).count()
                as u32;
        let end = self.hashed + in_memory;
        let (source, held) = if in_memory > 0 {
            if !force && !complete && in_memory < RUN_BLOCKS {
                return;
            }
            let mut data = Chunks::with_capacity(in_memory as usize);
            for slot in &mut self.slots[self.hashed as usize..end as usize] {
                let bytes = slot.bytes.as_ref().expect("counted above");
                data.append(bytes.clone());
                if slot.stage != Stage::Held {
                    slot.bytes = None;
                }
            }
            self.hashed = end;
            let len = data.len();
            (HashSource::Memory(data), len)
        } else {
            let stored = rest
                .iter()
                .take_while(|slot| slot.bytes.is_none() && slot.stage == Stage::Written)
                .count() as u32;
            if stored == 0 || !complete {
                return;
            }
            let offset = offset_of(layout, piece, self.hashed);
            let end = self.hashed + stored;
            let len = end_of(layout, piece, end) - u64::from(self.hashed * BLOCK_LEN);
            self.hashed = end;
            (HashSource::Stored { offset, len: len as u32 }, 0)
        };
        let Hash::Idle(state) = core::mem::replace(&mut self.hash, Hash::Step) else {
            unreachable!("asked above")
        };
        let last = self.hashed == blocks;
        let owner = JobOwner::Hash { torrent, piece, len: held };
        cx.jobs.submit(owner, Job::Hash { torrent, state, source, last }, &mut cx.out);
    }
}

/// Where a block lies in the torrent's content.
pub(crate) fn offset_of(layout: &Layout, piece: PieceIndex, block: u32) -> u64 {
    u64::from(piece.0) * u64::from(layout.stride()) + u64::from(block) * u64::from(BLOCK_LEN)
}

/// Where the blocks before `block` end within the piece.
fn end_of(layout: &Layout, piece: PieceIndex, block: u32) -> u64 {
    (u64::from(block) * u64::from(BLOCK_LEN)).min(u64::from(layout.piece_len(piece)))
}
