//! How blocks leave: requests wait, neighbours are read together, and what was read is lent to the
//! driver in slices.

use alloc::boxed::Box;

use bytes::Bytes;

use super::choker::owes;
use super::{Phase, Torrent};
use crate::bitfield::Bitfield;
use crate::ids::{PieceIndex, StreamId};
use crate::machine::{Job, JobError, JobErrorKind};
use crate::peer::{
    Allowed, CloseReason, INVALID_MAX, Misbehaviour, OVERFLOW_MAX, REQUEST_LEN_MAX, Run,
    allowed_set,
};
use crate::session::Event;
use crate::session::cx::{Cx, JobOwner};
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};
use crate::wire::{BlockRequest, Message, encode_piece_header};

/// Bytes of one peer that are being read or wait to be sent, at least and at most. In between: what
/// it takes in half a second. What was read is sent whatever comes after it: a choke, a cancel or a
/// request of our own waits behind it, so a slow peer must not have much of it.
const SEND_BUFFER_MIN: u64 = 16 * 1024;
const SEND_BUFFER_MAX: u64 = 2 * 1024 * 1024;

/// How long a peer may ask for nothing in its turn before the next one gets a slot beside it: an
/// unchoke and the first requests cross the network meanwhile.
const IDLE_TURN: Duration = Duration::from_millis(200);

/// The same for a peer that did ask: all of it may be with the system already, on a slow way, and a
/// peer asks for more when some has come.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// How often a peer may fetch the whole torrent before it is closed (some deployed clients fetch
/// for ever when their disk fails).
const COPIES_PER_PEER: u64 = 4;

/// Bytes that a peer may fetch whatever the size of the torrent.
const COPIES_SLACK: u64 = 64 * 1024 * 1024;

impl Torrent {
    pub(super) fn on_request(
        &mut self,
        id: StreamId,
        request: BlockRequest,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        let layout = self.picker.layout();
        let piece_len = layout.piece_len(request.piece);
        if piece_len == 0 {
            return Err(Misbehaviour::NoSuchPiece(request.piece.0).into());
        }
        let end = request.begin.checked_add(request.length);
        if request.length == 0
            || request.length > REQUEST_LEN_MAX
            || end.is_none_or(|end| end > piece_len && !self.is_padding(request.piece, end))
        {
            return Err(Misbehaviour::BadRequest.into());
        }
        if !self.picker.has(request.piece) {
            return self.on_invalid_request(id, request, streams, cx);
        }
        if peer.uploaded > layout.total_len() * COPIES_PER_PEER + COPIES_SLACK {
            return Err(Misbehaviour::EndlessRequests.into());
        }
        let fast = peer.fast();
        peer.asked_at = cx.now();
        let running = matches!(self.phase, Phase::Running);
        let choked = peer.we_choke;
        let uploads = Self::uploads_of(peer);
        let taken = running && (!choked || uploads.allows(request)) && uploads.push(request);
        if taken {
            self.note_asked(id, request.piece, streams, cx.now());
            return Ok(());
        }
        // A request that crossed our choke is dropped, or rejected where that can be said.
        if uploads.overflow > OVERFLOW_MAX {
            return Err(Misbehaviour::RequestFlood.into());
        }
        if fast {
            peer.count_chatter(cx.now())?;
            streams.send_message(id, &Message::Reject(request), cx);
        }
        Ok(())
    }

    /// Whether a piece reaches so far, with the padding that it ends with: a v1 peer may ask for it.
    fn is_padding(&self, piece: PieceIndex, end: u32) -> bool {
        end <= self.metainfo.info().layout().piece_size(piece)
    }

    /// A request for a piece that we do not have: told, counted, rejected where that can be said.
    fn on_invalid_request(
        &self,
        id: StreamId,
        request: BlockRequest,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        let (address, fast) = (peer.address, peer.fast());
        let uploads = Self::uploads_of(peer);
        uploads.invalid += 1;
        if uploads.invalid > INVALID_MAX {
            return Err(Misbehaviour::PieceNotOurs.into());
        }
        cx.stats.invalid_requests += 1;
        cx.event(Event::InvalidRequest { torrent: self.id, address, request });
        if fast {
            streams.send_message(id, &Message::Reject(request), cx);
        }
        Ok(())
    }

    pub(super) fn on_cancel(
        id: StreamId,
        request: BlockRequest,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let Some(peer) = streams.peer_mut(id) else { return };
        let fast = peer.fast();
        let cancelled = peer.uploads.as_mut().is_some_and(|uploads| uploads.cancel(request));
        if cancelled && fast {
            streams.send_message(id, &Message::Reject(request), cx);
        }
    }

    /// Reads for a peer as far as its send queue has room.
    pub(crate) fn serve(&self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        loop {
            let Some(stream) = streams.get(id) else { return };
            let queued = stream.send.len();
            let Some(peer) = streams.peer_mut(id) else { return };
            let goal = (peer.sent.bytes_per_s(now) / 2).clamp(SEND_BUFFER_MIN, SEND_BUFFER_MAX);
            let Some(uploads) = &mut peer.uploads else { return };
            if (queued + uploads.reading) as u64 >= goal {
                return;
            }
            let room = goal - (queued + uploads.reading) as u64;
            let Some(run) = uploads.next_run(room as u32) else { return };
            let len: u32 = run.iter().map(|request| request.length).sum();
            let piece_start =
                u64::from(run[0].piece.0) * u64::from(self.metainfo.info().layout().piece_len());
            let offset = piece_start + u64::from(run[0].begin);
            let owner = JobOwner::Read { torrent: self.id, stream: id, run };
            let job = Job::Read { torrent: self.id, offset, len };
            cx.jobs.submit(owner, job, &mut cx.out);
        }
    }

    /// Blocks for a peer were read, or could not be.
    pub(crate) fn on_read(
        &mut self,
        id: StreamId,
        run: &Run,
        data: Result<Bytes, JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let len: u32 = run.iter().map(|request| request.length).sum();
        let mut data = match data {
            Ok(data) => Some(data).filter(|data| data.len() == len as usize),
            Err(error) => {
                self.on_unreadable(run, error, cx);
                None
            }
        };
        let Some(peer) = streams.peer_mut(id) else { return };
        let fast = peer.fast();
        let Some(uploads) = &mut peer.uploads else { return };
        uploads.reading = uploads.reading.saturating_sub(len as usize);
        for request in run {
            let Some(peer) = streams.peer_mut(id) else { return };
            let Some(uploads) = &mut peer.uploads else { return };
            let block = data.as_mut().map(|data| data.split_to(request.length as usize));
            // Cancelled, or choked meanwhile.
            if !uploads.take_read(*request) {
                continue;
            }
            let Some(block) = block else {
                if fast {
                    streams.send_message(id, &Message::Reject(*request), cx);
                }
                continue;
            };
            let header = encode_piece_header(request.piece, request.begin, request.length);
            cx.make_room(header.len());
            cx.scratch.extend_from_slice(&header);
            let header = cx.scratch.split().freeze();
            let sent = u64::from(request.length);
            uploads.unsent = true;
            peer.uploaded += sent;
            self.uploaded += sent;
            self.up.add(cx.clock.now(), request.length as usize);
            cx.stats.uploaded_bytes += sent;
            streams.send(id, header, &mut cx.out);
            streams.send(id, block, &mut cx.out);
            self.note_given(id, request.piece, cx);
        }
        self.serve(id, streams, cx);
    }

    /// Something that is here could not be read: told once for a piece, whoever asks for it.
    fn on_unreadable(&mut self, run: &Run, error: JobError, cx: &mut Cx) {
        if error.kind == JobErrorKind::Cancelled || !self.is_running() {
            return;
        }
        let pieces = self.picker.layout().pieces();
        let told = self.unreadable.get_or_insert_with(|| Box::new(Bitfield::new(pieces)));
        // A run is of one piece.
        let piece = run[0].piece;
        if !told.get(piece.0) {
            told.set(piece.0);
            cx.event(Event::PieceUnreadable(self.id, piece, error));
        }
    }

    /// The driver took something that we send to a peer.
    pub(crate) fn on_sent(&mut self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        if let Some(peer) = streams.peer(id).filter(|peer| !peer.we_choke) {
            let before = peer.uploaded_at_unchoke;
            self.end_turn(sent_since_unchoke(id, streams), before, cx);
            self.look_at_turn(cx);
        }
        self.serve(id, streams, cx);
        self.note_shared(cx);
    }

    /// Chokes or unchokes a peer, if that is a change.
    pub(super) fn set_choked(
        &mut self,
        id: StreamId,
        choke: bool,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return };
        if peer.we_choke == choke {
            return;
        }
        peer.we_choke = choke;
        if !choke {
            peer.unchoked_at = Some(now);
            peer.asked_at = now;
            peer.uploaded_at_unchoke = peer.uploaded;
            self.suggestions.begin_turn(id, now);
            // First, so that its first requests heed them.
            self.suggest(id, streams, cx);
            streams.send_message(id, &Message::Unchoke, cx);
            streams.rearm(id, cx);
            self.look_at_turn(cx);
            return;
        }
        self.suggestions.interrupt(id, &self.picker);
        let fast = peer.fast();
        let uploads = peer.uploads.as_mut();
        let dropped = uploads.map(|uploads| uploads.drop_choked()).unwrap_or_default();
        streams.send_message(id, &Message::Choke, cx);
        if fast {
            for request in dropped {
                streams.send_message(id, &Message::Reject(request), cx);
            }
        }
    }

    /// Tells a peer once which pieces it may ask for while it is choked (BEP 6): those of its set
    /// that it does not have.
    pub(super) fn offer_allowed(&self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        let count = cx.config.allowed_fast_pieces;
        let Some(peer) = streams.peer_mut(id) else { return };
        if count == 0 || !peer.fast() || peer.upload_only || Self::uploads_of(peer).told_allowed {
            return;
        }
        let layout = self.picker.layout();
        let set = allowed_set(peer.address.ip(), &self.hash, layout.pieces(), count);
        let theirs = peer.have.pieces();
        let offer: Allowed = set
            .iter()
            .filter(|piece| !theirs.contains(piece.0))
            .map(|piece| (*piece, layout.piece_len(*piece)))
            .collect();
        for (piece, _) in &offer {
            streams.send_message(id, &Message::AllowedFast(*piece), cx);
        }
        let Some(peer) = streams.peer_mut(id) else { return };
        let uploads = Self::uploads_of(peer);
        uploads.told_allowed = true;
        uploads.allowed = offer;
    }

    /// Where peers take turns: soon looks whether the one whose turn it is asks for anything.
    fn look_at_turn(&mut self, cx: &mut Cx) {
        let soon = cx.now() + 2 * IDLE_TURN;
        if self.takes_turns() && self.rounds.choke > soon {
            self.rounds.choke = soon;
            self.arm(cx);
        }
    }

    /// A peer is interested: it need not wait for the next round if a slot is free.
    pub(super) fn offer_slot(&mut self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        let Some(peer) = streams.peer(id) else { return };
        let owes = !self.picker.is_finished() && owes(peer.uploaded, peer.downloaded);
        let owed = self.suggestions.is_owed(id, cx.now());
        let spare = self.takes_turns() && self.is_all_given() && !owed;
        if !self.gives_free_slots() || owes || spare {
            return;
        }
        let taken = self
            .active_peers()
            .iter()
            .filter(|id| streams.peer(**id).is_some_and(|peer| !peer.we_choke))
            .count();
        if taken < cx.config.upload_slots && matches!(self.phase, Phase::Running) {
            self.set_choked(id, false, streams, cx);
        }
    }
}

/// Whether a peer has a slot and asks for nothing.
pub(super) fn is_idle(id: StreamId, now: Instant, streams: &Streams) -> bool {
    let Some(peer) = streams.peer(id) else { return false };
    let Some(since) = peer.unchoked_at.filter(|_| !peer.we_choke) else { return false };
    let patience = if peer.asked_at > since { IDLE_AFTER } else { IDLE_TURN };
    now >= peer.asked_at + patience
        && peer.uploads.as_ref().is_none_or(|uploads| uploads.is_empty())
        && streams.get(id).is_some_and(|stream| stream.send.is_empty())
}

/// Bytes of blocks that a peer was sent since it got its slot, those that still wait here left out.
pub(super) fn sent_since_unchoke(id: StreamId, streams: &Streams) -> u64 {
    let Some(peer) = streams.peer(id) else { return 0 };
    let waiting = streams.get(id).map_or(0, |stream| stream.send.len() as u64);
    (peer.uploaded - peer.uploaded_at_unchoke).saturating_sub(waiting)
}
