//! Hashes of a v2 torrent's trees, asked of peers and given to them (BEP 52, "hash request").
//!
//! ```text
//!   layers that the torrent file lacks --+--> one request per peer --> proven? --> taken in
//!   leaves of a piece that was wrong ----+         |                      |
//!                                                  +--> rejected, late    +--> closed
//!
//!   requests for piece layers ---------> answered at once
//!   requests for leaves ----> queue ---> blocks hashed from the disk, checked ---> answered
//! ```
//!
//! A request that asks for what a tree cannot have, or for more than allowed, is rejected and
//! counted; one that we cannot answer is rejected. An answer that does not lead to the root of the
//! file closes its sender.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::pieces::contradiction;
use super::trees::{Run, is_proven};
use super::{Phase, REFILL_AFTER, Torrent};
use crate::hash::{Digest, HashAlgorithm, HashState};
use crate::ids::{PieceIndex, StreamId};
use crate::machine::{HashSource, Job};
use crate::metainfo::merkle::{self, BLOCK_LEN, Hash};
use crate::peer::{CloseReason, INVALID_MAX, Misbehaviour, Peer};
use crate::session::cx::{Cx, JobOwner};
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};
use crate::wire::{HASHES_MAX, HashMessage, HashRequest, Message};

/// How long an answer is waited for before somebody else is asked too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer that refused is not asked for the same again.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// Refusals that are kept; beyond that the oldest are forgotten.
const REFUSED_MAX: usize = 256;

/// Wrong pieces whose leaves are asked for at a time; beyond that senders are found out without.
const LEAVES_WANTED_MAX: usize = 16;

/// Missing runs that are looked at for one request.
const LOOK_MAX: usize = 1024;

/// Requests for leaves that wait for their turn, of one peer and of all; beyond that they are
/// rejected.
const QUEUE_PEER_MAX: usize = 4;
const QUEUE_MAX: usize = 64;

/// Most leaves that are hashed for one request: a piece of 32 MiB has so many.
const HASHED_MAX: u32 = 2048;

/// What is asked for and what is to be given.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// At most one of each peer.
    asked: Vec<Asked>,
    refused: Vec<(StreamId, Want, Instant)>,
    /// Pieces whose leaves are wanted.
    leaves: Vec<PieceIndex>,
    queue: VecDeque<(StreamId, HashRequest)>,
    answering: Option<Answering>,
    /// Of answers that were begun.
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Run(Run),
    Leaves(PieceIndex),
}

#[derive(Debug)]
struct Asked {
    stream: StreamId,
    want: Want,
    request: HashRequest,
    at: Instant,
}

/// A request for leaves that is being answered.
#[derive(Debug)]
struct Answering {
    number: u32,
    stream: StreamId,
    request: HashRequest,
    file: usize,
    /// The first of `leaves`, which are all those of some pieces.
    first: u32,
    leaves: Vec<Hash>,
    /// Leaves that are being hashed.
    waiting: u32,
    failed: bool,
}

impl Exchange {
    /// A connection is gone.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.asked.retain(|asked| asked.stream != stream);
        self.refused.retain(|(by, ..)| *by != stream);
        self.queue.retain(|(by, _)| *by != stream);
    }

    /// The torrent stopped.
    pub(super) fn stop(&mut self) {
        self.leaves.clear();
        self.queue.clear();
        self.answering = None;
    }

    /// The leaves of that piece would tell who sent something wrong.
    pub(super) fn want_leaves(&mut self, piece: PieceIndex) {
        if self.leaves.len() < LEAVES_WANTED_MAX && !self.leaves.contains(&piece) {
            self.leaves.push(piece);
        }
    }

    /// They are of no use any more.
    pub(super) fn unwant_leaves(&mut self, piece: PieceIndex) {
        self.leaves.retain(|wanted| *wanted != piece);
    }

    /// Whether that peer may be asked for that now.
    fn may_ask(&self, stream: StreamId, want: Want, now: Instant) -> bool {
        let under_way = |asked: &Asked| asked.want == want && now < asked.at + ANSWER_TIMEOUT;
        let refused = |(by, what, at): &(StreamId, Want, Instant)| {
            *by == stream && *what == want && now < *at + REFUSED_FOR
        };
        !self.asked.iter().any(under_way) && !self.refused.iter().any(refused)
    }
}

impl Torrent {
    /// Asks peers for hashes that are missing, one request each.
    pub(super) fn ask_hashes(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let Some(trees) = &self.trees else { return };
        let wants = trees.lacks_layers() || !trees.exchange.leaves.is_empty();
        if !wants || !matches!(self.phase, Phase::Running) {
            return;
        }
        for at in 0..self.peers.len() {
            let id = self.peers[at];
            let Some((want, request)) = self.next_request(id, streams, cx.now()) else { continue };
            let Some(trees) = &mut self.trees else { return };
            trees.exchange.asked.push(Asked { stream: id, want, request, at: cx.now() });
            let message = Message::Hash(HashMessage::Request(request).into());
            streams.send_message(id, &message, cx);
        }
    }

    /// What to ask a peer for: what it must have, because it has pieces under it.
    fn next_request(
        &self,
        id: StreamId,
        streams: &Streams,
        now: Instant,
    ) -> Option<(Want, HashRequest)> {
        let trees = self.trees.as_ref()?;
        let exchange = &trees.exchange;
        let peer = streams.peer(id).filter(|peer| peer.is_open() && peer.speaks_v2())?;
        if exchange.asked.iter().any(|asked| asked.stream == id) {
            return None;
        }
        let theirs = peer.have.pieces();
        let leaves = exchange.leaves.iter().copied().find_map(|piece| {
            let want = Want::Leaves(piece);
            let may = theirs.contains(piece.0) && exchange.may_ask(id, want, now);
            Some((want, self.leaves_request(piece).filter(|_| may)?))
        });
        if leaves.is_some() {
            return leaves;
        }
        let level = merkle::piece_level(self.metainfo.info().layout().piece_len());
        let run = trees.missing().take(LOOK_MAX).find(|run| {
            exchange.may_ask(id, Want::Run(*run), now)
                && trees.pieces(*run).flatten().any(|piece| theirs.contains(piece))
        })?;
        Some((Want::Run(run), trees.request(run, level)?))
    }

    /// The request for all leaves under a piece, up to the root of its file; none if they are too
    /// many, or there is one alone.
    fn leaves_request(&self, piece: PieceIndex) -> Option<HashRequest> {
        let layout = self.metainfo.info().layout();
        let place = layout.tree_place(piece)?;
        let length = 1_u32.checked_shl(place.level)?;
        (2..=HASHES_MAX).contains(&length).then_some(HashRequest {
            root: *layout.file(place.file)?.pieces_root()?,
            base: 0,
            index: place.index * length,
            length,
            proof_layers: place.height - 1,
        })
    }

    pub(super) fn on_hash_message(
        &mut self,
        id: StreamId,
        message: HashMessage,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        if self.trees.is_none() || !streams.peer(id).is_some_and(Peer::speaks_v2) {
            return Err(Misbehaviour::UnexpectedExtension.into());
        }
        match message {
            HashMessage::Request(request) => self.on_hash_request(id, request, streams, cx),
            HashMessage::Hashes(request, hashes) => {
                self.on_hashes(id, &request, &hashes, streams, cx)
            }
            HashMessage::Reject(request) => {
                let exchange = &mut self.trees.as_mut().expect("asked above").exchange;
                let asked = |asked: &Asked| asked.stream == id && asked.request == request;
                if let Some(at) = exchange.asked.iter().position(asked) {
                    let Asked { want, .. } = exchange.asked.swap_remove(at);
                    if exchange.refused.len() >= REFUSED_MAX {
                        exchange.refused.remove(0);
                    }
                    exchange.refused.push((id, want, cx.now()));
                    self.ask_hashes(streams, cx);
                }
                Ok(())
            }
        }
    }

    // What we asked for.

    fn on_hashes(
        &mut self,
        id: StreamId,
        request: &HashRequest,
        hashes: &Bytes,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(trees) = &mut self.trees else { return Ok(()) };
        let asked = |asked: &Asked| asked.stream == id && asked.request == *request;
        let Some(at) = trees.exchange.asked.iter().position(asked) else {
            return Err(Misbehaviour::UnrequestedHashes.into());
        };
        let Asked { want, .. } = trees.exchange.asked.swap_remove(at);
        let (hashes, _) = hashes.as_chunks::<32>();
        if !is_proven(request, hashes) {
            return Err(Misbehaviour::WrongHashes.into());
        }
        let hashes = &hashes[..request.length as usize];
        match want {
            Want::Run(run) => {
                trees.take_run(run, hashes);
                self.on_run_known(run, streams, cx);
            }
            Want::Leaves(piece) => {
                trees.exchange.unwant_leaves(piece);
                let finding = self.blame.leaves(piece, hashes);
                self.on_finding(piece, finding, streams, cx);
            }
        }
        self.ask_hashes(streams, cx);
        Ok(())
    }

    /// The hashes of some pieces are known: they can be fetched, and those on disk are judged.
    fn on_run_known(&mut self, run: Run, streams: &mut Streams, cx: &mut Cx) {
        let Some(trees) = &mut self.trees else { return };
        let pieces: Vec<u32> = trees.pieces(run).flatten().collect();
        for piece in pieces.into_iter().map(PieceIndex) {
            let Some(trees) = &mut self.trees else { return };
            let Some(found) = trees.recall(piece.0) else { continue };
            let right = trees.expected(piece, &self.metainfo) == Some(&found);
            if !right && self.picker.has(piece) {
                // Its v1 hash was right.
                let _is_told_later = self.fail(contradiction(piece), streams, cx);
                return;
            }
            if right && !self.picker.has(piece) {
                self.picker.set_have(piece);
                self.unsaved += u64::from(self.picker.layout().piece_len(piece));
                self.announce_have(piece, streams, cx);
            }
        }
        self.unsaved += 1;
        if !self.finished && self.picker.is_finished() {
            self.on_finished(streams, cx);
        }
        self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
        self.arm(cx);
    }

    // What others ask for.

    fn on_hash_request(
        &mut self,
        id: StreamId,
        request: HashRequest,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(trees) = &mut self.trees else { return Ok(()) };
        let layout = self.metainfo.info().layout();
        let file = trees.file_of(&request.root, layout).and_then(|file| layout.file(file));
        let Some(file) = file.filter(|file| request.is_sound(merkle::height(file.len()))) else {
            let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
            let uploads = Self::uploads_of(peer);
            uploads.invalid += 1;
            if uploads.invalid > INVALID_MAX {
                return Err(Misbehaviour::BadHashRequest.into());
            }
            reject(id, request, streams, cx);
            return Ok(());
        };
        let piece_level = merkle::piece_level(layout.piece_len());
        if file.len() > u64::from(layout.piece_len()) && request.base == piece_level {
            match trees.answer(&request, &self.metainfo) {
                Some(hashes) => give(id, request, hashes, streams, cx),
                None => reject(id, request, streams, cx),
            }
            return Ok(());
        }
        let level = piece_level.min(merkle::height(file.len()));
        let pieces = file.pieces();
        let first = pieces.start + (request.index >> level);
        let end = first.saturating_add((request.length >> level).max(1)).min(pieces.end);
        let exchange = &mut trees.exchange;
        let theirs = exchange.queue.iter().filter(|(by, _)| *by == id).count();
        let choked = streams.peer(id).is_none_or(|peer| peer.we_choke);
        let takes = request.base == 0
            && !choked
            && request.length.max(1 << level) <= HASHED_MAX
            && theirs < QUEUE_PEER_MAX
            && exchange.queue.len() < QUEUE_MAX
            && matches!(self.phase, Phase::Running)
            && (first..end).all(|piece| self.picker.has(PieceIndex(piece)));
        if takes {
            exchange.queue.push_back((id, request));
            self.pump_answers(streams, cx);
        } else {
            reject(id, request, streams, cx);
        }
        Ok(())
    }

    /// Begins the next answer that must be hashed from the disk, if none is under way.
    fn pump_answers(&mut self, streams: &Streams, cx: &mut Cx) {
        let Some(trees) = &mut self.trees else { return };
        let layout = self.metainfo.info().layout();
        while trees.exchange.answering.is_none() {
            let Some((stream, request)) = trees.exchange.queue.pop_front() else { return };
            let file = trees.file_of(&request.root, layout).and_then(|file| layout.file(file));
            let Some(file) = file.filter(|_| streams.peer(stream).is_some()) else { continue };
            let level = merkle::piece_level(layout.piece_len()).min(merkle::height(file.len()));
            let span = request.length.max(1 << level);
            let first = request.index / span * span;
            let blocks = file.len().div_ceil(u64::from(BLOCK_LEN)) as u32;
            let leaves = first..(first + span).min(blocks);
            trees.exchange.number = trees.exchange.number.wrapping_add(1);
            let number = trees.exchange.number;
            trees.exchange.answering = Some(Answering {
                number,
                stream,
                request,
                file: file.index(),
                first,
                leaves: vec![[0; 32]; span as usize],
                waiting: leaves.len() as u32,
                failed: false,
            });
            for leaf in leaves {
                let within = u64::from(leaf) * u64::from(BLOCK_LEN);
                let job = Job::Hash {
                    torrent: self.id,
                    state: HashState::new(HashAlgorithm::Sha256).into(),
                    source: HashSource::Stored {
                        offset: file.offset() + within,
                        len: (file.len() - within).min(u64::from(BLOCK_LEN)) as u32,
                    },
                    last: true,
                };
                let owner = JobOwner::Leaf { torrent: self.id, number, leaf };
                cx.jobs.submit(owner, job, &mut cx.out);
            }
        }
    }

    /// A leaf for an answer was hashed from the disk; none: it could not be.
    pub(crate) fn on_leaf(
        &mut self,
        number: u32,
        leaf: u32,
        digest: Option<Digest>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let Some(trees) = &mut self.trees else { return };
        let answering = trees.exchange.answering.as_mut();
        let Some(answering) = answering.filter(|answering| answering.number == number) else {
            return;
        };
        let slot = leaf.checked_sub(answering.first);
        let slot = slot.and_then(|at| answering.leaves.get_mut(at as usize));
        match (slot, digest.as_ref().and_then(Digest::sha256)) {
            (Some(slot), Some(hash)) => *slot = *hash,
            _ => answering.failed = true,
        }
        answering.waiting -= 1;
        if answering.waiting > 0 {
            return;
        }
        let Some(answering) = trees.exchange.answering.take() else { return };
        let (stream, request) = (answering.stream, answering.request);
        match self.prove(&answering) {
            Some(hashes) => give(stream, request, hashes, streams, cx),
            // What is on disk is not what it was.
            None => reject(stream, request, streams, cx),
        }
        self.pump_answers(streams, cx);
    }

    /// The answer to a request for leaves, if they are those of the torrent.
    fn prove(&mut self, answering: &Answering) -> Option<Bytes> {
        let Answering { request, first, leaves, .. } = answering;
        let layout = self.metainfo.info().layout();
        let file = layout.file(answering.file)?;
        let level = merkle::piece_level(layout.piece_len()).min(merkle::height(file.len()));
        let trees = self.trees.as_mut()?;
        let pieces = file.pieces().skip((first >> level) as usize);
        for (at, piece) in (0..leaves.len() as u64 >> level).zip(pieces) {
            let root = merkle::node(leaves, 0, level, at);
            if answering.failed || trees.expected(PieceIndex(piece), &self.metainfo) != Some(&root)
            {
                return None;
            }
        }
        let start = (request.index - first) as usize;
        let run = &leaves[start..start + request.length as usize];
        let mut out = BytesMut::new();
        out.put_slice(run.as_flattened());
        let reached = request.length.trailing_zeros();
        for up in reached..level.min(request.proof_layers + 1) {
            let uncle = u64::from((request.index >> up) ^ 1) - u64::from(first >> up);
            out.put_slice(&merkle::node(leaves, 0, up, uncle));
        }
        let above = reached.max(level) - level;
        let at = u64::from(request.index >> (level + above));
        trees.put_uncles(request, level, above, at, &mut out, &self.metainfo)?;
        Some(out.freeze())
    }
}

fn give(id: StreamId, request: HashRequest, hashes: Bytes, streams: &mut Streams, cx: &mut Cx) {
    let message = HashMessage::Hashes(request, hashes);
    streams.send_message(id, &Message::Hash(message.into()), cx);
}

fn reject(id: StreamId, request: HashRequest, streams: &mut Streams, cx: &mut Cx) {
    let message = HashMessage::Reject(request);
    streams.send_message(id, &Message::Hash(message.into()), cx);
}
