//! Hashing content on disk, piece by piece, on a few threads: for `create` and `verify`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use teem_core::hash::{Digest, HashAlgorithm, HashState};
use teem_core::ids::PieceIndex;
use teem_core::metainfo::{FileSlice, FileSlices, Layout};
use teem_io::lanes::{LANES, Lanes};
use teem_io::storage::ahead;

/// Bytes that are read before they are hashed: they stay in the processor's cache.
const BUFFER_LEN: usize = 1 << 20;

/// Bytes of a piece that the system is told to read ahead of us.
const AHEAD_LEN: u64 = 1 << 20;

/// Bytes of neighbouring pieces that one thread takes at a time, so that a disk reads in order.
const SHARE_LEN: u32 = 16 << 20;

/// Threads at most: more only make a disk seek.
const THREADS_MAX: usize = 4;

/// Files that one thread keeps open.
const FILES_MAX: usize = 32;

/// Whether this program hashes in lanes: `TEEM_LANES=off` says no, for measurements.
pub(crate) fn lanes() -> Lanes {
    match std::env::var_os("TEEM_LANES") {
        Some(off) if off == "off" => Lanes::Off,
        _ => Lanes::Auto,
    }
}

/// The hash of a piece, or the file that could not be read and why.
pub(crate) type Hashed = Result<Digest, (usize, io::Error)>;

/// Hashes all pieces, without the padding that they end with, each from `state_of` it on; `path_of`
/// says where a file is, by its index. `done` gets each piece, in no order, and returns whether to
/// go on.
pub(crate) fn hash_pieces(
    layout: &Layout,
    path_of: impl Fn(usize) -> PathBuf + Sync,
    state_of: impl Fn(PieceIndex) -> HashState + Sync,
    quiet: bool,
    mut done: impl FnMut(PieceIndex, Hashed) -> bool,
) {
    let lanes = lanes();
    let piece_len = layout.piece_len().max(1);
    // Side by side only for lanes: a disk likes to be read in order.
    let together = lanes.worth(HashAlgorithm::Sha1).is_some();
    let width = if together { LANES.max(BUFFER_LEN / piece_len as usize) } else { 1 };
    let share = (SHARE_LEN / piece_len).max(width as u32);
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let bar = bar(layout.space_len(), quiet);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(256);
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            let (path_of, state_of) = (&path_of, &state_of);
            scope.spawn(move || {
                let mut hasher = Hasher {
                    layout,
                    files: Files { path_of, open: Vec::new() },
                    state_of,
                    lanes,
                    width,
                    buffer: vec![0; BUFFER_LEN],
                };
                loop {
                    let first = next.fetch_add(share, Ordering::Relaxed);
                    let last = first.saturating_add(share).min(layout.piece_count());
                    let done = |piece, hashed| {
                        !stop.load(Ordering::Relaxed) && sender.send((piece, hashed)).is_ok()
                    };
                    if first >= last || !hasher.hash(first..last, done) {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (piece, hashed) in receiver {
            bar.inc(layout.piece_size(piece).into());
            if !done(piece, hashed) {
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
    bar.finish_and_clear();
}

fn bar(len: u64, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let template = "hashing {bar:24} {percent:>3}% of {binary_total_bytes}  \
                    {binary_bytes_per_sec}  eta {eta}";
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    ProgressBar::with_draw_target(Some(len), target).with_style(style.progress_chars("=> "))
}

/// Hashes pieces side by side.
struct Hasher<'a, P, S> {
    layout: &'a Layout,
    files: Files<'a, P>,
    /// The hash of a piece, before its first byte.
    state_of: &'a S,
    lanes: Lanes,
    /// Pieces side by side.
    width: usize,
    buffer: Vec<u8>,
}

/// A piece that is being hashed.
struct Piece<'a> {
    index: PieceIndex,
    slices: FileSlices<'a>,
    /// The part of a file that is read next.
    slice: Option<FileSlice>,
    /// Up to where the system was told to read it ahead.
    told: u64,
    state: HashState,
    failed: Option<(usize, io::Error)>,
}

impl<'a, P: Fn(usize) -> PathBuf, S: Fn(PieceIndex) -> HashState> Hasher<'a, P, S> {
    /// Hashes pieces; `done` gets each, in no order, and says whether to go on.
    fn hash(
        &mut self,
        pieces: Range<u32>,
        mut done: impl FnMut(PieceIndex, Hashed) -> bool,
    ) -> bool {
        let Self { layout, files, state_of, lanes, width, buffer } = self;
        let layout: &'a Layout = layout;
        let mut waiting = pieces.map(PieceIndex).map(|index| {
            let start = u64::from(index.0) * u64::from(layout.piece_len());
            let mut slices = layout.map(start, layout.piece_content_len(index).into());
            let slice = slices.next();
            let state = state_of(index);
            Piece { index, slices, slice, told: 0, state, failed: None }
        });
        let mut busy: Vec<Piece<'a>> = Vec::with_capacity(*width);
        loop {
            busy.extend(waiting.by_ref().take(*width - busy.len()));
            if busy.is_empty() {
                return true;
            }
            let mut steps = Vec::with_capacity(*width);
            for (piece, buffer) in busy.iter_mut().zip(buffer.chunks_exact_mut(BUFFER_LEN / *width))
            {
                match piece.read(layout, files, buffer) {
                    Ok(bytes) => steps.push((&mut piece.state, [bytes])),
                    Err(failed) => piece.failed = Some(failed),
                }
            }
            let mut steps: Vec<_> =
                steps.iter_mut().map(|(state, parts)| (&mut **state, &parts[..])).collect();
            lanes.advance(&mut steps);
            drop(steps);
            for piece in
                busy.extract_if(.., |piece| piece.slice.is_none() || piece.failed.is_some())
            {
                let Piece { index, state, failed, .. } = piece;
                if !done(index, failed.map_or_else(|| Ok(state.finish()), Err)) {
                    return false;
                }
            }
        }
    }
}

impl Piece<'_> {
    /// Fills `buffer` with what comes next, as far as the piece goes.
    fn read<'b, P: Fn(usize) -> PathBuf>(
        &mut self,
        layout: &Layout,
        files: &mut Files<'_, P>,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], (usize, io::Error)> {
        let mut filled = 0;
        while let Some(slice) = &mut self.slice
            && filled < buffer.len()
        {
            let len = slice.len.min((buffer.len() - filled) as u64) as usize;
            let part = &mut buffer[filled..filled + len];
            if layout.file(slice.file).is_some_and(teem_core::metainfo::File::is_pad) {
                part.fill(0);
            } else {
                let file = files.open(slice.file).map_err(|failed| (slice.file, failed))?;
                let end = slice.offset + slice.len;
                if self.told < end.min(slice.offset + AHEAD_LEN) {
                    let from = self.told.max(slice.offset);
                    self.told = end.min(slice.offset + 2 * AHEAD_LEN);
                    ahead::read(file, from, self.told - from);
                }
                file.read_exact_at(part, slice.offset).map_err(|failed| (slice.file, failed))?;
            }
            filled += len;
            slice.offset += len as u64;
            slice.len -= len as u64;
            if slice.len == 0 {
                self.slice = self.slices.next();
                self.told = 0;
            }
        }
        Ok(&buffer[..filled])
    }
}

/// Files that are open, the latest last.
struct Files<'a, P> {
    path_of: &'a P,
    open: Vec<(usize, File)>,
}

impl<P: Fn(usize) -> PathBuf> Files<'_, P> {
    fn open(&mut self, index: usize) -> io::Result<&File> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == index) {
            self.open[at..].rotate_left(1);
        } else {
            let file = File::open((self.path_of)(index))?;
            if self.open.len() >= FILES_MAX {
                self.open.remove(0);
            }
            self.open.push((index, file));
        }
        Ok(&self.open.last().expect("just put there").1)
    }
}
