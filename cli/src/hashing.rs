//! Hashing content on disk, piece by piece, on a few threads: for `create` and `verify`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use teem_core::hash::{Digest, HashState};
use teem_core::ids::PieceIndex;
use teem_core::metainfo::Layout;

/// Bytes that are read at a time.
const READ_LEN: usize = 1 << 20;

/// Bytes of neighbouring pieces that one thread takes at a time, so that a disk reads in order.
const SHARE_LEN: u32 = 16 << 20;

/// Threads at most: more only make a disk seek.
const THREADS_MAX: usize = 4;

/// The hash of a piece, or the file that could not be read and why.
pub(crate) type Hashed = Result<Digest, (usize, io::Error)>;

/// Hashes all pieces, without the padding that they end with, each from `state_of` it on; `path_of`
/// says where a file is, by its index. `done` gets each piece, in no
/// order, and returns whether to go on.
pub(crate) fn hash_pieces(
    layout: &Layout,
    path_of: impl Fn(usize) -> PathBuf + Sync,
    state_of: impl Fn(PieceIndex) -> HashState + Sync,
    quiet: bool,
    mut done: impl FnMut(PieceIndex, Hashed) -> bool,
) {
    let share = (SHARE_LEN / layout.piece_len().max(1)).max(1);
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let bar = bar(layout.space_len(), quiet);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(256);
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            let (path_of, state_of) = (&path_of, &state_of);
            scope.spawn(move || {
                let mut reader = Reader { layout, path_of, file: None, buffer: vec![0; READ_LEN] };
                loop {
                    let first = next.fetch_add(share, Ordering::Relaxed);
                    let last = first.saturating_add(share).min(layout.piece_count());
                    if first >= last {
                        return;
                    }
                    for piece in (first..last).map(PieceIndex) {
                        let hashed = reader.hash(piece, state_of(piece));
                        if stop.load(Ordering::Relaxed) || sender.send((piece, hashed)).is_err() {
                            return;
                        }
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

struct Reader<'a, P> {
    layout: &'a Layout,
    path_of: &'a P,
    file: Option<(usize, File)>,
    buffer: Vec<u8>,
}

impl<P: Fn(usize) -> PathBuf> Reader<'_, P> {
    fn hash(&mut self, piece: PieceIndex, mut state: HashState) -> Hashed {
        let start = u64::from(piece.0) * u64::from(self.layout.piece_len());
        let len = self.layout.piece_content_len(piece);
        for slice in self.layout.map(start, u64::from(len)) {
            let pad = self.layout.file(slice.file).is_some_and(teem_core::metainfo::File::is_pad);
            let mut at = slice.offset;
            let end = slice.offset + slice.len;
            while at < end {
                let len = (end - at).min(READ_LEN as u64) as usize;
                if pad {
                    self.buffer[..len].fill(0);
                } else {
                    self.read(slice.file, at, len).map_err(|error| (slice.file, error))?;
                }
                state.update(&self.buffer[..len]);
                at += len as u64;
            }
        }
        Ok(state.finish())
    }

    fn read(&mut self, file: usize, at: u64, len: usize) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != file) {
            self.file = Some((file, File::open((self.path_of)(file))?));
        }
        let Some((_, open)) = &self.file else { unreachable!("opened above") };
        open.read_exact_at(&mut self.buffer[..len], at)
    }
}
