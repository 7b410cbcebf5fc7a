//! What a power cut takes back: the state of blocks and files before they were changed, until a
//! flush makes the change durable.
//!
//! Changes gather in layers, one above another. A flush seals the layer on top when it is taken,
//! so that what is written while it is under way lands in a new one; when it completes, the layers
//! up to its seal go. A block is noted once per layer, so the memory is bounded by the content and
//! [`LAYERS_MAX`], however much is written.

use std::collections::BTreeMap;

use teem_core::bitfield::Bitfield;

use super::blocks::{Block, bits_footprint, own_footprint};
use super::image::FileState;

/// Layers at a time. Beyond, changes join the layer on top though it is sealed: a disk may make
/// more durable than was asked for.
pub(super) const LAYERS_MAX: usize = 4;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// From the oldest to the newest.
    layers: Vec<Layer>,
    seals: u32,
}

/// What things were before the first change after a seal.
#[derive(Debug)]
pub(super) struct Layer {
    seal: Option<u32>,
    /// Blocks that were changed.
    dirty: Bitfield,
    /// Those of them that were true, and that had bytes of their own; the others were holes.
    truth: Bitfield,
    own: BTreeMap<u32, Box<[u8]>>,
    /// Every file.
    pub(super) files: Box<[Option<FileState>]>,
}

impl Undo {
    /// The layer for changes that happen now, in an image of so many blocks and these files.
    pub(super) fn layer(&mut self, blocks: u32, files: &[Option<FileState>]) -> &mut Layer {
        let sealed = self.layers.last().is_none_or(|layer| layer.seal.is_some());
        if sealed && self.layers.len() < LAYERS_MAX {
            self.layers.reserve_exact(1);
            self.layers.push(Layer {
                seal: None,
                dirty: Bitfield::new(blocks),
                truth: Bitfield::new(blocks),
                own: BTreeMap::new(),
                files: files.into(),
            });
        }
        self.layers.last_mut().expect("there was one, or it was pushed")
    }

    /// Closes the layer on top; a flush that is taken now makes everything up to this seal durable.
    pub(super) fn seal(&mut self) -> u32 {
        if let Some(layer) = self.layers.last_mut().filter(|layer| layer.seal.is_none()) {
            self.seals += 1;
            layer.seal = Some(self.seals);
        }
        self.seals
    }

    /// A flush completed: what was changed up to `seal` is durable.
    pub(super) fn flushed(&mut self, seal: u32) {
        self.layers.retain(|layer| layer.seal.is_none_or(|it| it > seal));
        if self.layers.is_empty() {
            self.layers = Vec::new();
        }
    }

    /// Takes everything out, from the oldest layer on.
    pub(super) fn take(&mut self) -> Vec<Layer> {
        std::mem::take(&mut self.layers)
    }

    /// Whether everything is durable.
    pub(super) const fn is_clean(&self) -> bool {
        self.layers.is_empty()
    }

    /// Bytes of memory held.
    pub(super) fn footprint(&self) -> usize {
        let layers = self.layers.iter().map(|layer| {
            size_of::<Layer>()
                + bits_footprint(&layer.dirty)
                + bits_footprint(&layer.truth)
                + own_footprint(&layer.own)
                + size_of_val(&*layer.files)
        });
        layers.sum()
    }
}

impl Layer {
    /// Whether that block was changed since this layer began.
    pub(super) fn is_dirty(&self, block: u32) -> bool {
        self.dirty.get(block)
    }

    /// Marks a block as changed. Yields whether that is its first change in this layer; then
    /// [`note`](Self::note) wants to know what it held.
    pub(super) fn mark(&mut self, block: u32) -> bool {
        self.dirty.set(block)
    }

    /// What a block held before its first change.
    pub(super) fn note(&mut self, block: u32, before: Block) {
        match before {
            Block::Hole => {}
            Block::True => {
                self.truth.set(block);
            }
            Block::Own(bytes) => {
                self.own.insert(block, bytes);
            }
        }
    }

    /// What a changed block held before, once.
    pub(super) fn take(&mut self, block: u32) -> Block {
        if self.truth.get(block) {
            return Block::True;
        }
        self.own.remove(&block).map_or(Block::Hole, Block::Own)
    }

    /// The blocks that were changed.
    pub(super) fn dirty(&self) -> &Bitfield {
        &self.dirty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_leaves_what_was_changed_after_it_was_taken() {
        let mut undo = Undo::default();
        assert!(undo.layer(10, &[]).mark(3));
        assert!(!undo.layer(10, &[]).mark(3));
        let seal = undo.seal();
        assert_eq!(undo.seal(), seal, "nothing was changed between the two");
        let later = undo.layer(10, &[]);
        assert!(later.mark(3) && later.mark(4));
        later.note(3, Block::True);
        undo.flushed(seal);
        let mut left = undo.take();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].dirty().iter().collect::<Vec<_>>(), [3, 4]);
        assert_eq!((left[0].take(3), left[0].take(4)), (Block::True, Block::Hole));
        assert!(undo.is_clean());
    }

    #[test]
    fn flushes_that_never_complete_do_not_pile_up() {
        let mut undo = Undo::default();
        for block in 0..100 {
            undo.layer(100, &[]).mark(block);
            undo.seal();
        }
        assert_eq!(undo.take().len(), LAYERS_MAX);
    }

    #[test]
    fn a_later_flush_that_is_faster_makes_the_earlier_changes_durable_too() {
        let mut undo = Undo::default();
        undo.layer(10, &[]).mark(1);
        let first = undo.seal();
        undo.layer(10, &[]).mark(2);
        let second = undo.seal();
        undo.flushed(second);
        assert!(undo.is_clean());
        undo.layer(10, &[]).mark(3);
        undo.flushed(first);
        assert!(!undo.is_clean());
    }
}
