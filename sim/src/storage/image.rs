//! One torrent's files as they lie in one folder, and what a power cut leaves of them.
//!
//! It knows nothing of time, queues and faults; it is told what happens, in order.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::chunks::Chunks;
use teem_core::ids::TorrentId;
use teem_core::machine::{
    Allocation, FileStat, JobError, JobErrorKind, JobOutput, Location, OpenFiles,
};
use teem_core::metainfo::{File, Layout};
use teem_core::rng::Rng;

use super::blocks::{self, Block, Blocks};
use super::failure;
use super::faults::hits;
use super::undo::{Layer, Undo};
use crate::content::{ContentId, Library, Span};

/// Bytes that a disk writes wholly or not at all. Counted from the beginning of the content, not
/// of each file.
const SECTOR_LEN: usize = 512;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Image {
    pub(super) folder: Location,
    pub(super) key: Box<str>,
    /// Who has it open; its lock.
    pub(super) open_by: Option<TorrentId>,
    writable: bool,
    allocation: Allocation,
    /// The true content, if the library has one of this key and length.
    content: Option<ContentId>,
    /// Since it was opened first.
    layout: Option<Arc<Layout>>,
    /// One per file of the layout: none for what does not exist, and for padding and links.
    files: Box<[Option<FileState>]>,
    blocks: Blocks,
    undo: Undo,
    /// How far the bytes reached that were there before the layout was known.
    preloaded_len: u64,
}

/// A file that exists. What lies behind its end is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    len: u64,
    /// In nanoseconds since 1970.
    modified: i64,
    /// Whether a byte of it was ever written.
    written: bool,
    /// Whether it got all its room when it was made.
    allocated: bool,
}

/// What a power cut did to an image, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) lost: u64,
    pub(super) torn: u64,
}

/// Whether a file's bytes are stored at all.
fn is_stored(file: File<'_>) -> bool {
    !file.is_pad() && file.link_target().is_none()
}

impl Image {
    /// Nothing in that folder.
    pub(super) fn new(folder: Location, key: Box<str>) -> Self {
        Self {
            folder,
            key,
            open_by: None,
            writable: false,
            allocation: Allocation::Sparse,
            content: None,
            layout: None,
            files: Box::default(),
            blocks: Blocks::holes(0),
            undo: Undo::default(),
            preloaded_len: 0,
        }
    }

    /// Puts the first bytes of the content there, durably, in place of everything else.
    pub(super) fn preload(&mut self, bytes: &[u8], library: &Library) {
        self.content = library.find(&self.key);
        let truth_len = self.truth(library).map_or(0, Bytes::len);
        if truth_len < bytes.len() {
            self.content = None;
        }
        self.blocks = Blocks::holes(bytes.len().max(truth_len) as u64);
        self.forget(bytes.len() as u64);
        self.overwrite(bytes, library);
    }

    /// Puts all of the true content there, durably, in place of everything else.
    pub(super) fn preload_true(&mut self, content: ContentId, library: &Library) {
        self.content = Some(content);
        let len = library.bytes(content).len() as u64;
        self.blocks = Blocks::full(len);
        self.forget(len);
    }

    fn forget(&mut self, preloaded_len: u64) {
        self.preloaded_len = preloaded_len;
        self.layout = None;
        self.files = Box::default();
        self.undo = Undo::default();
    }

    /// Changes stored bytes behind everybody's back, from the first one on.
    pub(super) fn overwrite(&mut self, bytes: &[u8], library: &Library) {
        let truth = self.content.map(|id| library.bytes(id));
        for block in blocks::touched(&(0..bytes.len() as u64)) {
            let range = self.blocks.range(block);
            let new = &bytes[range.start as usize..bytes.len().min(range.end as usize)];
            let mut now = self.blocks.copy(block, truth);
            if now[..new.len()] != *new || !self.blocks.is_stored(block) {
                now[..new.len()].copy_from_slice(new);
                self.blocks.set_bytes(block, now, truth);
            }
        }
    }

    /// Everything up to the end of the last file that exists; files between that do not exist are
    /// zeros. None if there is no file.
    pub(super) fn content(&self, library: &Library) -> Option<Bytes> {
        let end = self.content_end().filter(|end| *end > 0)?;
        Some(self.blocks.read(&(0..end), self.truth(library)))
    }

    fn content_end(&self) -> Option<u64> {
        let Some(layout) = &self.layout else { return Some(self.preloaded_len) };
        let mut end = None;
        for (file, state) in layout.files().zip(&self.files) {
            // Padding behind a file that is there belongs to it.
            if let Some(state) = state {
                end = Some(file.offset() + state.len.min(file.len()));
            } else if file.is_pad() && end == Some(file.offset()) {
                end = Some(file.offset() + file.len());
            }
        }
        end
    }

    /// Whether all files are there with all their true bytes.
    pub(super) fn is_true(&self) -> bool {
        let there = match &self.layout {
            None => self.preloaded_len == self.blocks.len(),
            Some(layout) => layout.files().zip(&self.files).all(|(file, state)| {
                !is_stored(file) || state.is_some_and(|state| state.len >= file.len())
            }),
        };
        there && self.blocks.len() > 0 && self.blocks.all_true()
    }

    /// Whether there is nothing left that anybody could find.
    pub(super) fn is_empty(&self) -> bool {
        self.layout.is_some() && self.files.iter().all(Option::is_none)
    }

    /// Whether everything is durable.
    pub(super) const fn is_clean(&self) -> bool {
        self.undo.is_clean()
    }

    fn truth<'a>(&self, library: &'a Library) -> Option<&'a Bytes> {
        self.content.map(|id| library.bytes(id))
    }

    /// Learns how the files lie, and which there are.
    pub(super) fn adopt(&mut self, open: &OpenFiles, modified: i64, library: &Library) {
        let layout = &open.layout;
        let known = self.layout.as_ref().is_some_and(|known| {
            known.file_count() == layout.file_count() && known.space_len() == layout.space_len()
        });
        if known {
            self.layout = Some(Arc::clone(layout));
            return;
        }
        let end = self.content_end().unwrap_or(0);
        let files = layout.files().map(|file| {
            let exists = file.offset() < end && is_stored(file);
            let len = file.len().min(end.saturating_sub(file.offset()));
            exists.then_some(FileState { len, modified, written: true, allocated: false })
        });
        self.files = files.collect();
        if self.blocks.len() != layout.space_len() {
            self.blocks = self.blocks.resized(layout.space_len(), self.truth(library));
            self.content = None;
        }
        if self.content.is_none() {
            let fits = |id: &ContentId| library.bytes(*id).len() as u64 == layout.space_len();
            self.content = library.find(&self.key).filter(fits);
        }
        self.undo = Undo::default();
        self.layout = Some(Arc::clone(layout));
    }

    /// Bytes of room that opening takes at once.
    pub(super) fn room_to_open(&self, open: &OpenFiles) -> u64 {
        if !open.writable || open.allocation == Allocation::Sparse {
            return 0;
        }
        let missing = open.layout.files().zip(&self.files).map(|(file, state)| {
            let len = if is_made(open, file) { file.len() } else { 0 };
            len.saturating_sub(state.map_or(0, |state| state.len))
        });
        missing.sum()
    }

    /// Opens it for a torrent: yields what was found, then makes what is missing.
    pub(super) fn open(
        &mut self,
        torrent: TorrentId,
        open: &OpenFiles,
        modified: i64,
    ) -> JobOutput {
        let found = self.stats();
        self.open_by = Some(torrent);
        self.writable = open.writable;
        self.allocation = open.allocation;
        if !open.writable {
            return found;
        }
        for file in open.layout.files().filter(|file| is_made(open, *file)) {
            let state = self.files[file.index()];
            if state.is_some_and(|state| state.len >= file.len()) {
                continue;
            }
            self.undo.layer(self.blocks.count(), &self.files);
            let full = open.allocation == Allocation::Full;
            self.files[file.index()] = Some(FileState {
                len: file.len(),
                modified,
                written: state.is_some_and(|state| state.written),
                allocated: full && state.is_none_or(|state| state.allocated || !state.written),
            });
        }
        found
    }

    fn range(&self, offset: u64, len: u64) -> Result<&Layout, JobError> {
        let layout = self
            .layout
            .as_deref()
            .filter(|layout| offset.checked_add(len).is_some_and(|end| end <= layout.space_len()));
        layout.ok_or_else(|| failure(JobErrorKind::Io, "not all within the content"))
    }

    /// Content; padding and what no file holds reads as zeros.
    pub(super) fn read(&self, offset: u64, len: u32, library: &Library) -> Result<Bytes, JobError> {
        let layout = self.range(offset, u64::from(len))?;
        for slice in layout.map(offset, u64::from(len)) {
            let there = match self.files[slice.file] {
                Some(state) => state.len >= slice.offset + slice.len,
                None => layout.file(slice.file).is_some_and(|file| !is_stored(file)),
            };
            if !there {
                return Err(failure(JobErrorKind::NotFound, "no such file, or it is shorter"));
            }
        }
        Ok(self.blocks.read(&(offset..offset + u64::from(len)), self.truth(library)))
    }

    /// Another place that holds so many bytes, if there is one.
    pub(super) fn elsewhere(&self, offset: u64, len: u32, rng: &mut Rng) -> Option<u64> {
        let places = self.blocks.len().checked_sub(u64::from(len))? / SECTOR_LEN as u64 + 1;
        let place = (u128::from(rng.next_u64()) * u128::from(places)) >> 64;
        Some(place as u64 * SECTOR_LEN as u64).filter(|place| *place != offset)
    }

    /// Bytes of room that a write takes: those whose files did not get theirs when they were made.
    pub(super) fn room_to_write(&self, offset: u64, len: u64) -> u64 {
        let Some(layout) = &self.layout else { return len };
        let allocated = layout.map(offset, len).filter(|slice| {
            let state = self.files.get(slice.file).copied().flatten();
            state.is_some_and(|state| state.allocated)
        });
        len - allocated.map(|slice| slice.len).sum::<u64>()
    }

    /// Writes content, and makes the files that it lies in.
    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &Chunks,
        modified: i64,
        library: &Library,
    ) -> Result<(), JobError> {
        if !self.writable {
            return Err(failure(JobErrorKind::PermissionDenied, "opened for reading only"));
        }
        self.range(offset, data.len() as u64)?;
        let Some(layout) = self.layout.as_deref() else { return Ok(()) };
        let layer = self.undo.layer(self.blocks.count(), &self.files);
        for slice in layout.map(offset, data.len() as u64) {
            let state = &mut self.files[slice.file];
            if let Some(state) = state {
                state.modified = modified;
                state.written = true;
                state.len = state.len.max(slice.offset + slice.len);
            } else if let Some(file) = layout.file(slice.file).filter(|file| is_stored(*file)) {
                let allocated = self.allocation == Allocation::Full;
                *state = Some(FileState { len: file.len(), modified, written: true, allocated });
            }
        }
        let truth = self.content.map(|id| (id, library.bytes(id)));
        let mut writer = Writer { blocks: &mut self.blocks, layer, layout, truth };
        let is_true = |part: &[u8], offset| {
            truth.is_some_and(|(content, _)| library.is_true(part, Span { content, offset }))
        };
        let (mut at, mut parts) = (offset, data.parts());
        while let [part, rest @ ..] = parts {
            let start = at;
            at += part.len() as u64;
            parts = rest;
            if !is_true(part, start) {
                writer.put(start, part);
                continue;
            }
            while let [part, rest @ ..] = parts
                && is_true(part, at)
            {
                at += part.len() as u64;
                parts = rest;
            }
            writer.put_true(start, at);
        }
        Ok(())
    }

    /// A flush is taken: what it will make durable.
    pub(super) fn seal(&mut self) -> u32 {
        self.undo.seal()
    }

    /// A flush completes.
    pub(super) fn flushed(&mut self, seal: u32) {
        self.undo.flushed(seal);
    }

    /// Removes all files, durably.
    pub(super) fn delete(&mut self) {
        self.files.fill(None);
        self.blocks = Blocks::holes(self.blocks.len());
        self.undo = Undo::default();
        self.preloaded_len = 0;
    }

    /// The files as they are.
    pub(super) fn stats(&self) -> JobOutput {
        let files = self.layout.iter().flat_map(|layout| layout.files());
        let stats = files.zip(&self.files).map(|(file, state)| {
            let FileState { len, modified, written, allocated } = (*state)?;
            let allocated = match (allocated, written) {
                (true, _) => len,
                (false, true) => self.blocks.stored_len(&(file.offset()..file.offset() + len)),
                (false, false) => 0,
            };
            Some(FileStat { len, modified, allocated })
        });
        JobOutput::Files(stats.collect())
    }

    /// The power fails: of every block and file that was changed and not flushed, an older state
    /// may be what is found, or with `torn_ppm` a mixture of sectors.
    pub(super) fn power_loss(&mut self, torn_ppm: u32, rng: &mut Rng, library: &Library) -> Loss {
        let mut loss = Loss::default();
        let mut layers = self.undo.take();
        let Some(oldest) = layers.first_mut() else { return loss };
        let durable = std::mem::take(&mut oldest.files);
        let mut dirty = oldest.dirty().clone();
        for layer in &layers[1..] {
            dirty.union_with(layer.dirty());
        }
        let truth = self.truth(library);
        for block in dirty.iter() {
            let changed = layers.iter_mut().filter(|layer| layer.is_dirty(block));
            let mut versions: Vec<Block> = changed.map(|layer| layer.take(block)).collect();
            if hits(torn_ppm, rng) {
                loss.torn += 1;
                versions.push(self.blocks.take(block));
                self.tear(block, versions, rng, truth);
            } else if rng.below(2) == 0 {
                loss.lost += 1;
                self.blocks.set(block, versions.swap_remove(0));
            }
        }
        let Some(layout) = self.layout.clone() else { return loss };
        for (file, durable) in layout.files().zip(&durable) {
            let Some(now) = self.files[file.index()] else { continue };
            if *durable == Some(now) {
                continue;
            }
            let found = survivor(*durable, now, rng);
            let gone = found.map_or(0, |found| found.len)..now.len;
            self.blocks.erase(&(file.offset() + gone.start..file.offset() + gone.end), truth);
            self.files[file.index()] = found;
        }
        loss
    }

    /// Makes a block of sectors of these versions.
    fn tear(&mut self, block: u32, versions: Vec<Block>, rng: &mut Rng, truth: Option<&Bytes>) {
        let mut copies = Vec::with_capacity(versions.len());
        for version in versions {
            self.blocks.set(block, version);
            copies.push(self.blocks.copy(block, truth));
        }
        let mut torn = self.blocks.copy(block, truth);
        for (at, sector) in torn.chunks_mut(SECTOR_LEN).enumerate() {
            let from = &copies[rng.below(copies.len() as u32) as usize];
            sector.copy_from_slice(&from[at * SECTOR_LEN..at * SECTOR_LEN + sector.len()]);
        }
        self.blocks.set_bytes(block, torn, truth);
    }

    /// Bytes of memory held, itself included; not the layout, which is shared.
    pub(super) fn footprint(&self) -> usize {
        size_of::<Self>()
            + self.key.len()
            + size_of_val(&*self.files)
            + self.blocks.footprint()
            + self.undo.footprint()
    }
}

/// Whether opening makes a file that is missing.
fn is_made(open: &OpenFiles, file: File<'_>) -> bool {
    let wanted = open.wanted.get(file.index()).copied().unwrap_or(true);
    is_stored(file) && (wanted || file.len() == 0)
}

/// What a power cut leaves of a file that was changed: its name, its length and its time may each
/// be the durable ones or the later ones.
fn survivor(durable: Option<FileState>, now: FileState, rng: &mut Rng) -> Option<FileState> {
    let draw = rng.next_u32();
    let [name, len, time] = [1, 2, 4].map(|bit| draw & bit == 0);
    let Some(durable) = durable else {
        // A new name may be there before the length is.
        let len = if len { now.len } else { 0 };
        return name.then_some(FileState { len, allocated: now.allocated && len > 0, ..now });
    };
    Some(FileState {
        len: if len { now.len } else { durable.len },
        modified: if time { now.modified } else { durable.modified },
        ..now
    })
}

/// Puts bytes into blocks and notes what was there.
struct Writer<'a> {
    blocks: &'a mut Blocks,
    layer: &'a mut Layer,
    layout: &'a Layout,
    truth: Option<(ContentId, &'a Bytes)>,
}

impl Writer<'_> {
    /// Puts true bytes in their place.
    fn put_true(&mut self, start: u64, end: u64) {
        for block in blocks::touched(&(start..end)) {
            let whole = self.blocks.range(block);
            if self.blocks.is_true(block) {
                continue;
            }
            if start <= whole.start && whole.end <= end {
                let before = self.blocks.take(block);
                self.note(block, before);
                self.blocks.set(block, Block::True);
            } else if let Some((_, truth)) = self.truth {
                let here = whole.start.max(start)..whole.end.min(end);
                self.put_in(block, here.start, blocks::slice(truth, &here));
            }
        }
    }

    /// Puts any bytes.
    fn put(&mut self, start: u64, mut bytes: &[u8]) {
        for block in blocks::touched(&(start..start + bytes.len() as u64)) {
            let whole = self.blocks.range(block);
            let at = whole.start.max(start);
            let (here, rest) = bytes.split_at(bytes.len().min((whole.end - at) as usize));
            bytes = rest;
            self.put_in(block, at, here);
        }
    }

    /// Puts bytes into one block; those of padding are dropped.
    fn put_in(&mut self, block: u32, at: u64, bytes: &[u8]) {
        let truth = self.truth.map(|(_, truth)| truth);
        let range = at..at + bytes.len() as u64;
        let same = truth.is_some_and(|truth| blocks::slice(truth, &range) == bytes);
        if same && self.blocks.is_true(block) {
            return;
        }
        let mut now = self.blocks.copy(block, truth);
        let before = self.blocks.take(block);
        self.note(block, before);
        let start = self.blocks.range(block).start;
        for slice in self.layout.map(at, bytes.len() as u64) {
            let Some(file) = self.layout.file(slice.file).filter(|file| is_stored(*file)) else {
                continue;
            };
            let from = file.offset() + slice.offset;
            let len = slice.len as usize;
            let (to, from) = ((from - start) as usize, (from - at) as usize);
            now[to..to + len].copy_from_slice(&bytes[from..from + len]);
        }
        self.blocks.set_bytes(block, now, truth);
    }

    fn note(&mut self, block: u32, before: Block) {
        if self.layer.mark(block) {
            self.layer.note(block, before);
        }
    }
}
