//! What becomes of a piece: right or wrong, whom that clears or convicts, and who is told.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::Torrent;
use super::blame::Finding;
use super::content::{Hashed, Settled};
use super::trees::Verdict;
use super::{Phase, REFILL_AFTER, SAVE_EVERY_BYTES, Upward, picker};
use crate::bitfield::Bitfield;
use crate::hash::Digest;
use crate::ids::{PieceIndex, StreamId};
use crate::machine::{JobError, JobErrorKind};
use crate::metainfo::merkle;
use crate::peer::{Misbehaviour, Peer, Refusal};
use crate::session::Event;
use crate::session::cx::Cx;
use crate::session::streams::Streams;

impl Torrent {
    /// A write is done, or failed.
    pub(crate) fn on_written(
        &mut self,
        first: picker::BlockId,
        blocks: u32,
        error: Option<JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let layout = self.picker.layout();
        let done = error.is_none();
        let settled = self.content.on_written(self.id, layout, first, blocks, done, cx);
        let settled = self.after_content(settled, streams, cx);
        match error.or_else(|| settled.err()) {
            Some(error) if error.kind == JobErrorKind::Full => {
                self.on_full(error, cx);
                self.advance_stop(cx)
            }
            Some(error) => self.fail(error, streams, cx),
            None => {
                self.on_room_used(cx);
                self.advance_stop(cx)
            }
        }
    }

    /// A hash step of a piece on its way to the disk is done, or failed.
    pub(crate) fn on_hashed(
        &mut self,
        piece: PieceIndex,
        hashed: Result<Hashed, JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let layout = self.picker.layout();
        let (hashed, error) = match hashed {
            Ok(hashed) => (Some(hashed), None),
            Err(error) => (None, Some(error)),
        };
        let settled = self.content.on_hashed(self.id, layout, piece, hashed, cx);
        let settled = self.after_content(settled, streams, cx);
        match error.or_else(|| settled.err()) {
            Some(error) => self.fail(error, streams, cx),
            None => self.advance_stop(cx),
        }
    }

    fn after_content(
        &mut self,
        settled: Option<Settled>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), JobError> {
        let settled = settled.map_or(Ok(()), |settled| self.on_settled(settled, streams, cx));
        // Memory may have become free: whoever waited for it asks again soon.
        if self.starved {
            self.starved = false;
            self.rounds.refill = self.rounds.refill.min(cx.now() + crate::timers::GRANULE);
            self.arm(cx);
        }
        settled
    }

    pub(super) fn pieces_here(&self) -> Bitfield {
        let mut have = Bitfield::new(self.picker.layout().pieces());
        for piece in 0..have.len() {
            if self.picker.has(PieceIndex(piece)) {
                have.set(piece);
            }
        }
        have
    }

    /// Something became of a piece that was on its way to the disk. An error stops the torrent.
    fn on_settled(
        &mut self,
        settled: Settled,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), JobError> {
        let (piece, digest) = match settled {
            Settled::Lost(piece) => {
                self.lose(piece, cx);
                return Ok(());
            }
            Settled::Hashed(piece, digest) => (piece, digest),
        };
        match self.judge(piece, &digest) {
            Verdict::Right => {
                self.remember_root(piece, &digest);
                self.on_verified(piece, streams, cx);
            }
            Verdict::Wrong => self.on_wrong(piece, streams, cx),
            // Only what was on disk before its hash was known comes here.
            Verdict::Unknown => self.lose(piece, cx),
            Verdict::Contradiction => {
                self.lose(piece, cx);
                return Err(contradiction(piece));
            }
        }
        Ok(())
    }

    /// The root of a piece is of use later if there is nothing yet to compare it with.
    pub(super) fn remember_root(&mut self, piece: PieceIndex, digest: &Digest) {
        let Some(trees) = &mut self.trees else { return };
        if let Some(root) = digest.sha256()
            && trees.expected(piece, &self.metainfo).is_none()
        {
            trees.remember(piece, *root);
        }
    }

    /// Files that are whole prove the layers that the torrent lacks; returns their pieces.
    pub(super) fn judge_whole_files(&mut self) -> Vec<PieceIndex> {
        let level = || merkle::piece_level(self.metainfo.info().layout().piece_len());
        let Some(trees) = &mut self.trees else { return Vec::new() };
        if trees.lacks_layers() { trees.judge_whole_files(level()) } else { Vec::new() }
    }

    fn lose(&mut self, piece: PieceIndex, cx: &mut Cx) {
        self.content.forget(piece, cx);
        self.picker.set_missing(piece);
    }

    /// What a hash says of a piece.
    pub(super) fn judge(&self, piece: PieceIndex, digest: &Digest) -> Verdict {
        let sha1 = self.metainfo.info().piece_hash(piece);
        let root = self.trees.as_ref().and_then(|trees| trees.expected(piece, &self.metainfo));
        let sha1 = sha1.map(|wanted| digest.sha1() == Some(wanted));
        let root = root.map(|wanted| digest.sha256() == Some(wanted));
        match (sha1, root) {
            (None, None) => Verdict::Unknown,
            (Some(sha1), Some(root)) if sha1 != root => Verdict::Contradiction,
            (Some(true), _) | (None, Some(true)) => Verdict::Right,
            (Some(false), _) | (None, Some(false)) => Verdict::Wrong,
        }
    }

    fn on_verified(&mut self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        if !self.picker.piece_verified(piece) {
            return;
        }
        self.content.forget(piece, cx);
        let len = self.picker.layout().piece_len(piece);
        self.unsaved += u64::from(len);
        cx.event(Event::PieceVerified(self.id, piece));
        let files = self.files_finished_with(piece);
        if !files.is_empty() {
            cx.event(Event::FilesFinished(self.id, files));
        }
        let blocks = self.picker.layout().blocks(piece);
        let finding = self.blame.right(piece, blocks);
        if let Some(trees) = &mut self.trees {
            trees.exchange.unwant_leaves(piece);
        }
        self.on_finding(piece, finding, streams, cx);
        if matches!(self.phase, Phase::Running) {
            self.announce_have(piece, streams, cx);
            if !self.finished && self.picker.is_finished() {
                self.on_finished(streams, cx);
            }
            if self.unsaved >= SAVE_EVERY_BYTES {
                self.save(cx);
            }
            self.arm(cx);
        }
    }

    /// The files that this piece was the last one of.
    fn files_finished_with(&self, piece: PieceIndex) -> Vec<usize> {
        let layout = self.metainfo.info().layout();
        let finished = layout.map_piece(piece).filter(|slice| {
            let file = layout.file(slice.file).expect("a mapped file exists");
            // From this piece on and round: the next one that is missing is mostly near.
            let pieces = file.pieces();
            let mut others = (piece.0 + 1..pieces.end).chain(pieces.start..piece.0);
            slice.len > 0
                && !file.is_pad()
                && others.all(|other| self.picker.has(PieceIndex(other)))
        });
        finished.map(|slice| slice.file).collect()
    }

    pub(super) fn on_finished(&mut self, streams: &mut Streams, cx: &mut Cx) {
        self.finished = true;
        // Of a hybrid torrent, which its v1 half told right from wrong.
        self.judge_whole_files();
        self.note_seeding(cx.now());
        if self.is_complete() {
            self.trackers.complete(cx.now());
        }
        self.tell_finished(cx);
        self.save(cx);
        let seeds: Vec<StreamId> = self
            .peers
            .iter()
            .copied()
            .filter(|id| streams.peer(*id).is_some_and(|peer| peer.have.is_seed()))
            .collect();
        for id in seeds {
            self.close_peer(id, Refusal::BothComplete.into(), streams, cx);
        }
        self.arm(cx);
    }

    pub(super) fn tell_finished(&mut self, cx: &mut Cx) {
        if !self.told_finished {
            self.told_finished = true;
            cx.event(Event::TorrentFinished(self.id));
        }
    }

    fn on_wrong(&mut self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        cx.stats.corrupt_bytes += u64::from(self.picker.layout().piece_len(piece));
        cx.event(Event::PieceFailed(self.id, piece));
        let senders = self.content.senders(piece);
        let finding = self.blame.wrong(piece, &senders);
        let again = !matches!(finding, Finding::HashBlocks(_));
        if let Some(trees) = self.trees.as_mut().filter(|_| !again) {
            trees.exchange.want_leaves(piece);
            self.ask_hashes(streams, cx);
        }
        self.on_finding(piece, finding, streams, cx);
        if again {
            self.fetch_again(piece, cx);
        }
    }

    fn fetch_again(&mut self, piece: PieceIndex, cx: &mut Cx) {
        self.content.forget(piece, cx);
        self.picker.piece_failed(piece);
        self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
        self.arm(cx);
    }

    /// A block's hash, taken to find who sent wrong bytes, came in.
    pub(crate) fn on_blame_hash(
        &mut self,
        piece: PieceIndex,
        block: u32,
        digest: Option<Digest>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let was_right = self.blame.was_right(piece);
        let finding = self.blame.hashed(piece, block, digest);
        let done = finding != Finding::Nothing;
        self.on_finding(piece, finding, streams, cx);
        if done && !was_right {
            self.fetch_again(piece, cx);
        }
        self.advance_stop(cx)
    }

    pub(super) fn on_finding(
        &mut self,
        piece: PieceIndex,
        finding: Finding,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        match finding {
            Finding::Nothing | Finding::FetchAgain => {}
            Finding::Convicted(culprits) => {
                for ip in culprits {
                    self.ban(ip, Misbehaviour::CorruptData, streams, cx);
                }
            }
            Finding::HashBlocks(blocks) => {
                for block in 0..blocks {
                    self.hash_block(piece, block, cx);
                }
            }
        }
    }

    /// Tells everybody that we have a piece, and those who had nothing else that we are not
    /// interested any more.
    pub(super) fn announce_have(&self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        // Whoever has everything serves by what others have: see `suggest`.
        let lacks = |peer: &Peer| !peer.have.pieces().contains(piece.0) || peer.have.is_seed();
        // All are looked at before any is told: they are far apart in memory, and are then waited
        // for together.
        let concerned: SmallVec<[(StreamId, bool, bool); 64]> = self
            .peers
            .iter()
            .filter_map(|id| {
                let peer = streams.peer(*id).filter(|peer| peer.is_open())?;
                Some((*id, lacks(peer), peer.wanted_piece == Some(piece.0)))
            })
            .collect();
        let message = crate::wire::Message::Have(piece);
        for (id, is_told, is_relied) in concerned {
            if is_told {
                streams.send_message(id, &message, cx);
            }
            if is_relied {
                self.update_interest(id, streams, cx);
            }
        }
    }
}

/// Both halves of a hybrid torrent speak of this piece, and not of the same bytes.
pub(super) fn contradiction(PieceIndex(piece): PieceIndex) -> JobError {
    let detail = alloc::format!("the v1 and the v2 hash of piece {piece} are of different bytes");
    JobError { kind: JobErrorKind::Contradiction, detail: detail.into() }
}
