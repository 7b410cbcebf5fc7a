//! What becomes of a piece: right or wrong, whom that clears or convicts, and who is told.

use alloc::vec::Vec;

use super::Torrent;
use super::blame::Finding;
use super::content::{Hashed, Settled};
use super::{Phase, REFILL_AFTER, SAVE_EVERY_BYTES, Upward, picker};
use crate::bitfield::Bitfield;
use crate::hash::Digest;
use crate::ids::{PieceIndex, StreamId};
use crate::machine::{JobError, JobErrorKind};
use crate::peer::Refusal;
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
        self.after_content(settled, streams, cx);
        match error {
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
        self.after_content(settled, streams, cx);
        match error {
            Some(error) => self.fail(error, streams, cx),
            None => self.advance_stop(cx),
        }
    }

    fn after_content(&mut self, settled: Option<Settled>, streams: &mut Streams, cx: &mut Cx) {
        if let Some(settled) = settled {
            self.on_settled(settled, streams, cx);
        }
        // Memory may have become free: whoever waited for it asks again soon.
        if self.starved {
            self.starved = false;
            self.rounds.refill = self.rounds.refill.min(cx.now() + crate::timers::GRANULE);
            self.arm(cx);
        }
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

    /// Something became of a piece that was on its way to the disk.
    fn on_settled(&mut self, settled: Settled, streams: &mut Streams, cx: &mut Cx) {
        match settled {
            Settled::Lost(piece) => {
                self.content.forget(piece, cx);
                self.picker.set_missing(piece);
            }
            Settled::Hashed(piece, digest) if self.is_right(piece, &digest) => {
                self.on_verified(piece, streams, cx);
            }
            Settled::Hashed(piece, _) => self.on_wrong(piece, streams, cx),
        }
    }

    pub(super) fn is_right(&self, piece: PieceIndex, digest: &Digest) -> bool {
        let wanted = self.metainfo.info().piece_hash(piece);
        wanted.is_some_and(|wanted| wanted[..] == *digest.as_bytes())
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

    fn on_finding(
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
                    self.ban(ip, streams, cx);
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
    fn announce_have(&self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        let message = crate::wire::Message::Have(piece);
        for at in 0..self.peers.len() {
            let id = self.peers[at];
            let Some(peer) = streams.peer(id) else { continue };
            if !peer.is_open() {
                continue;
            }
            let theirs = peer.have.pieces().contains(piece.0);
            let relied = peer.wanted_piece == Some(piece.0);
            if !theirs {
                streams.send_message(id, &message, cx);
            }
            if relied {
                self.update_interest(id, streams, cx);
            }
        }
    }
}
