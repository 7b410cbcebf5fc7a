//! What becomes of files that were there: what resume data still vouches for, what must be hashed,
//! and what is not there at all.
//!
//! A piece that is nothing but padding (BEP 47) is there without any file, so whoever writes a
//! torrent may claim terabytes of it in a few kilobytes. All such pieces of one length are the same
//! zeros: these are hashed once, and the hash is compared with what the torrent says of each.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::content::Whose;
use super::picker::BlockId;
use super::pieces::contradiction;
use super::trees::Verdict;
use super::{AfterStop, Phase, Torrent, Upward};
use crate::hash::{Digest, HashAlgorithm, HashState};
use crate::ids::PieceIndex;
use crate::machine::{FileStat, HashSource, Job, JobError};
use crate::peer::LocalReason;
use crate::session::Event;
use crate::session::cx::{Cx, JobOwner};
use crate::session::streams::Streams;

/// A check under way.
#[derive(Debug)]
pub(crate) struct Check {
    /// Pieces to hash, the next one last.
    queue: Vec<PieceIndex>,
    /// Pieces of full length that are nothing but padding; only the first is in the queue. At most
    /// one is shorter, the last of the torrent: that is not here.
    padding: Vec<PieceIndex>,
    /// Bytes being hashed, with the padding that pieces end with.
    in_flight: usize,
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// Unfinished pieces that resume data vouches for.
    partial: Vec<BlockId>,
}

impl Torrent {
    /// The files are ready, or not; this is how they were found.
    pub(crate) fn on_opened(
        &mut self,
        files: Result<Box<[Option<FileStat>]>, JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        match files {
            Err(error) => {
                // Nothing is open: nothing to save or close.
                self.after_stop = match core::mem::replace(&mut self.after_stop, AfterStop::Pause) {
                    AfterStop::Pause | AfterStop::Fail(_) => AfterStop::Fail(error),
                    remove @ AfterStop::Remove(_) => remove,
                };
                self.phase = Phase::Stopping(super::Stopping::Content);
                self.close_peers(LocalReason::TorrentStopped, streams, cx);
                self.on_closed(cx)
            }
            Ok(_) if matches!(self.phase, Phase::Stopping(_)) => self.advance_stop(cx),
            Ok(files) => {
                self.begin_check(&files, cx);
                self.pump_check(streams, cx);
                Upward::Nothing
            }
        }
    }

    fn begin_check(&mut self, files: &[Option<FileStat>], cx: &mut Cx) {
        let info = self.metainfo.info().clone();
        let layout = info.layout();
        let resume = self.resume.take();
        let unchanged: Vec<bool> = (0..layout.file_count())
            .map(|file| {
                let now = files.get(file).and_then(Option::as_ref);
                resume.as_ref().is_some_and(|resume| resume.is_unchanged(file, now))
            })
            .collect();
        let mut changed = BTreeSet::new();
        let mut check = Check {
            queue: Vec::new(),
            padding: Vec::new(),
            in_flight: 0,
            done: 0,
            total: 0,
            partial: Vec::new(),
        };
        for index in 0..layout.piece_count() {
            let piece = PieceIndex(index);
            // Whatever was here before a pause is judged anew.
            self.picker.set_missing(piece);
            let claimed = resume.as_ref().is_some_and(|resume| resume.have.get(index));
            let mut as_it_was = resume.is_some();
            let (mut whole, mut padding) = (true, true);
            for slice in layout.map_piece(piece) {
                let file = layout.file(slice.file).expect("a mapped file exists");
                if file.is_pad() || slice.len == 0 {
                    continue;
                }
                padding = false;
                if !unchanged[slice.file] {
                    as_it_was = false;
                    if claimed {
                        changed.insert(slice.file);
                    }
                }
                let stat = files.get(slice.file).and_then(Option::as_ref);
                whole &= stat
                    .is_some_and(|stat| stat.allocated > 0 && stat.len >= slice.offset + slice.len);
            }
            match (as_it_was, claimed, whole) {
                (true, true, true) => self.picker.set_have(piece),
                (true, false, _) | (_, _, false) => {}
                (false, _, true) if padding && layout.piece_size(piece) == layout.piece_len() => {
                    check.padding.push(piece);
                }
                (false, _, true) => check.queue.push(piece),
            }
        }
        check.queue.extend(check.padding.first());
        let to_hash = check.queue.iter().map(|piece| self.picker.layout().piece_len(*piece));
        check.total = to_hash.map(u64::from).sum();
        if !changed.is_empty() {
            cx.event(Event::ContentChanged(self.id, changed.into_iter().collect()));
        }
        if let Some(resume) = &resume {
            let vouched =
                |block: &BlockId| layout.map_piece(block.piece).all(|slice| unchanged[slice.file]);
            check.partial = resume.partial.iter().copied().filter(vouched).collect();
        }
        check.queue.reverse();
        self.phase = Phase::Checking(check);
    }

    fn pump_check(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let Phase::Checking(check) = &mut self.phase else { return };
        while check.in_flight < cx.config.check_bytes_max {
            let Some(piece) = check.queue.pop() else { break };
            let len = self.picker.layout().piece_len(piece);
            let layout = self.metainfo.info().layout();
            check.in_flight += layout.piece_size(piece) as usize;
            let offset = u64::from(piece.0) * u64::from(layout.piece_len());
            let job = Job::Hash {
                torrent: self.id,
                state: self.metainfo.info().hash_state(piece).into(),
                source: HashSource::Stored { offset, len },
                last: true,
            };
            let owner = JobOwner::Check { torrent: self.id, piece, len };
            cx.jobs.submit(owner, job, &mut cx.out);
        }
        if check.in_flight == 0 {
            let partial = core::mem::take(&mut check.partial);
            for piece in self.judge_whole_files() {
                self.picker.set_have(piece);
                self.unsaved += 1;
            }
            for block in partial {
                if !self.picker.has(block.piece) && self.picker.layout().block_len(block) > 0 {
                    self.picker.restore(block);
                    let (layout, info) = (self.picker.layout(), self.metainfo.info());
                    let whose = Whose { torrent: self.id, layout, info };
                    self.content.restore(whose, block, cx);
                }
            }
            self.run(cx);
            self.meet_kept(streams, cx);
            self.connect(streams, cx);
            self.arm(cx);
        }
    }

    /// A piece was hashed as it is on disk; none: it could not be read.
    pub(crate) fn on_checked(
        &mut self,
        piece: PieceIndex,
        len: u32,
        digest: Option<Digest>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        cx.stats.checked_bytes += u64::from(len);
        let alike = match &mut self.phase {
            Phase::Checking(check) if check.padding.first() == Some(&piece) => {
                core::mem::take(&mut check.padding)
            }
            _ => Vec::new(),
        };
        if let Some(digest) = digest {
            for piece in core::iter::once(piece).chain(alike.into_iter().skip(1)) {
                match self.judge(piece, &digest) {
                    Verdict::Right => {
                        self.picker.set_have(piece);
                        self.unsaved += 1;
                        self.remember_root(piece, &digest);
                    }
                    Verdict::Unknown => self.remember_root(piece, &digest),
                    Verdict::Contradiction => return self.fail(contradiction(piece), streams, cx),
                    // Padding that is not zeros is nowhere, and nobody is asked for it.
                    Verdict::Wrong => {}
                }
            }
        }
        if let Phase::Checking(check) = &mut self.phase {
            let size = self.metainfo.info().layout().piece_size(piece);
            check.in_flight = check.in_flight.saturating_sub(size as usize);
            check.done += u64::from(len);
            self.pump_check(streams, cx);
        }
        Upward::Nothing
    }

    /// Hashes a block of a piece as it is on disk, to compare it with what others send.
    pub(super) fn hash_block(&self, piece: PieceIndex, block: u32, cx: &mut Cx) {
        let layout = self.picker.layout();
        let id = BlockId { piece, block };
        let start = u64::from(piece.0) * u64::from(self.metainfo.info().layout().piece_len());
        let leaf = self.trees.is_some();
        let algorithm = if leaf { HashAlgorithm::Sha256 } else { HashAlgorithm::Sha1 };
        let job = Job::Hash {
            torrent: self.id,
            state: HashState::new(algorithm).into(),
            source: HashSource::Stored {
                offset: start + u64::from(id.begin()),
                len: layout.block_len(id),
            },
            last: true,
        };
        let owner = JobOwner::Blame { torrent: self.id, piece, block };
        cx.jobs.submit(owner, job, &mut cx.out);
    }
}
