//! What a peer's messages mean for its torrent, and what we ask of it.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::num::NonZeroU8;

use bytes::Bytes;

use super::content::Whose;
use super::picker::{BlockId, PickOptions, Picker, Pieces, Received, Standing};
use super::trees::Trees;
use super::{Phase, REFILL_EVERY, Torrent};
use crate::bencode::Tape;
use crate::bitfield::Bitfield;
use crate::chunks::Chunks;
use crate::ids::{InfoHash, PieceIndex, StreamId};
use crate::mse::Method;
use crate::peer::{
    ALLOWED_MAX, BORED_AGAIN, CloseReason, Have, LimitReached, Misbehaviour, NO_REQUEST_TIMEOUT,
    Peer, Pipeline, REQUEST_TIMEOUT, Refusal, Refusals, Uploads,
};
use crate::session::Event;
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::wire::{
    BLOCK_LEN, BlockRequest, ClientName, Extension, ExtensionHandshake, ExtensionIds, Limits,
    Message, Reserved,
};

/// A peer that could deliver this many pieces in a second works on several side by side.
const LANES_MAX: u64 = 16;

/// The id of the extension handshake (BEP 10).
const EXTENSION_HANDSHAKE: u8 = 0;

/// What we want to be sent.
const EXTENSIONS: [Extension; 3] =
    [Extension::UploadOnly, Extension::DontHave, Extension::Metadata];

impl Torrent {
    /// How long messages of this torrent's peers may be.
    pub(crate) fn limits(&self) -> Limits {
        let pieces = self.fetch.is_none().then(|| self.picker.layout().pieces());
        Limits { pieces, ..Limits::DEFAULT }
    }

    /// Both sides shook hands: say what we are and have.
    pub(crate) fn greet(&self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return };
        let (fast, address, encryption) = (peer.fast(), peer.address, peer.encryption);
        peer.last_received = now;
        peer.last_block = now;
        peer.bored_at = now + cx.config.no_interest_timeout();
        peer.suspect = self.blame.is_suspect(address.ip());
        cx.stats.peers_connected += 1;
        cx.stats.peers_encrypted += u64::from(encryption == Some(Method::Rc4));
        self.say_hello(id, streams, cx);
        // What is here is not known before it runs; those who come early are told of it then.
        let running = matches!(self.phase, Phase::Running);
        let have = if running && fast && self.is_complete() {
            Some(Message::HaveAll)
        } else if running && self.picker.have_count() > 0 {
            Some(Message::Bitfield(self.pieces_here().to_wire().into()))
        } else if fast {
            Some(Message::HaveNone)
        } else {
            None
        };
        if let Some(have) = have {
            streams.send_message(id, &have, cx);
        }
        streams.rearm(id, cx);
        cx.event(Event::PeerConnected(self.id, address, encryption));
        self.arm(cx);
    }

    /// Says what we speak and are (BEP 10), for the first time or anew.
    pub(super) fn say_hello(&self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        let Some(peer) = streams.peer(id).filter(|peer| peer.reserved.extension_protocol()) else {
            return;
        };
        let complete = matches!(self.phase, Phase::Running) && self.is_complete();
        let hello = ExtensionHandshake {
            ids: ExtensionIds::local(EXTENSIONS),
            client: ClientName::from_bytes(cx.config.user_agent.as_bytes())
                .filter(|_| !cx.config.anonymous),
            requests_max: core::num::NonZeroU32::new(crate::peer::REQUESTS_MAX),
            listen_port: core::num::NonZeroU16::new(cx.listen_port),
            your_ip: Some(peer.address.ip().to_canonical()),
            metadata_len: self.metadata_len(),
            upload_only: complete.then_some(true),
            ..ExtensionHandshake::default()
        };
        let mut payload = Vec::new();
        hello.encode(&mut payload);
        let message = Message::Extended { id: EXTENSION_HANDSHAKE, payload: payload.into() };
        streams.send_message(id, &message, cx);
    }

    /// One message of an open connection.
    pub(crate) fn on_message(
        &mut self,
        id: StreamId,
        message: Message,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        if self.fetch.is_some() {
            return self.on_message_without_metadata(id, &message, streams, cx);
        }
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        let fast = peer.fast();
        match message {
            Message::Piece { piece, begin, block } => {
                return self.on_block(id, piece, begin, block, streams, cx);
            }
            Message::Request(request) => return self.on_request(id, request, streams, cx),
            _ => peer.count_chatter(cx.now())?,
        }
        match message {
            Message::Piece { .. } | Message::Request(_) => unreachable!("handled above"),
            Message::KeepAlive | Message::Port(_) | Message::Unknown { .. } => {}
            Message::AllowedFast(piece) => self.on_allowed_fast(id, piece, streams, cx)?,
            Message::Choke => {
                // It is as good as before once it delivers. Until then one that does nothing but
                // unchoke and choke us keeps nothing from others.
                if !peer.choking_us && peer.outstanding() > 0 && !peer.delivers {
                    peer.standing = Standing::Doubtful;
                }
                peer.choking_us = true;
                // What it would rather send is somebody else's turn now.
                if let Some(pipeline) = &mut peer.pipeline {
                    pipeline.keep_suggestions(|_| false);
                }
                // With the Fast extension each request is rejected by itself (BEP 6).
                if !fast {
                    self.give_up_requests(id, false, streams, cx);
                } else if peer.outstanding() == 0 {
                    // Pieces that it had for itself are anybody's now.
                    self.picker.forget_peer(id);
                }
            }
            Message::Unchoke => {
                if peer.choking_us {
                    peer.delivers = false;
                }
                peer.choking_us = false;
                self.fill(id, streams, cx);
            }
            Message::Interested => {
                peer.begins_interest(cx.now());
                self.offer_slot(id, streams, cx);
                if matches!(self.phase, Phase::Running) {
                    self.offer_allowed(id, streams, cx);
                }
            }
            Message::NotInterested => {
                peer.ends_interest(cx.now() + cx.config.no_interest_timeout());
                if !peer.we_choke {
                    self.set_choked(id, true, streams, cx);
                    self.rounds.choke = self.rounds.choke.min(cx.now() + super::REFILL_AFTER);
                }
            }
            Message::Have(piece) => self.on_have(id, piece, streams, cx)?,
            Message::Bitfield(bytes) => {
                let have = Bitfield::from_wire(&bytes, self.picker.layout().pieces())?;
                self.on_told_have(id, Have::Some(have), streams, cx)?;
            }
            Message::HaveAll | Message::HaveNone if !fast => {
                return Err(Misbehaviour::UnexpectedExtension.into());
            }
            Message::HaveAll => self.on_told_have(id, Have::All, streams, cx)?,
            Message::HaveNone => {
                let none = Bitfield::new(self.picker.layout().pieces());
                self.on_told_have(id, Have::Some(none), streams, cx)?;
            }
            Message::Cancel(request) => Self::on_cancel(id, request, streams, cx),
            Message::Reject(_) if !fast => return Err(Misbehaviour::UnexpectedExtension.into()),
            Message::Suggest(piece) => self.on_suggest(id, piece, streams),
            Message::Reject(request) => self.on_reject(id, request, streams, cx)?,
            Message::Hash(message) => self.on_hash_message(id, *message, streams, cx)?,
            Message::Extended { id: extension, payload } => {
                self.on_extended(id, extension, &payload, streams, cx)?;
            }
        }
        Ok(())
    }

    pub(super) fn on_extended(
        &mut self,
        id: StreamId,
        extension: u8,
        payload: &Bytes,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if !peer.reserved.extension_protocol() {
            return Err(Misbehaviour::UnexpectedExtension.into());
        }
        if extension == EXTENSION_HANDSHAKE {
            // A handshake that does not parse says nothing; deployed clients overlook it too.
            let Ok(hello) = ExtensionHandshake::parse(payload, &mut Tape::new()) else {
                return Ok(());
            };
            if let Some(client) = hello.client {
                peer.client = Some(client.as_str().into());
            }
            if let Some(requests) = hello.requests_max {
                peer.request_queue = requests.get().try_into().unwrap_or(u16::MAX);
            }
            if let Some(upload_only) = hello.upload_only {
                peer.upload_only = upload_only;
            }
            if let Some(told) = hello.ids.told(Extension::Metadata) {
                peer.metadata_id = NonZeroU8::new(told);
            }
            // It may be let go when the metadata are here, and is to be found again then.
            if let Some(fetch) = &mut self.fetch
                && !peer.outgoing
                && let Some(port) = hello.listen_port
            {
                fetch.heard.listens(id, SocketAddr::new(peer.address.ip(), port.get()));
            }
            self.on_metadata_source(id, hello.metadata_len, streams, cx);
            return Ok(());
        }
        match Extension::from_local_id(extension) {
            Some(Extension::UploadOnly) => peer.upload_only = payload.iter().any(|byte| *byte != 0),
            Some(Extension::DontHave) => {
                let Some(index) = payload.first_chunk() else { return Ok(()) };
                self.on_dont_have(id, PieceIndex(u32::from_be_bytes(*index)), streams, cx)?;
            }
            Some(Extension::Metadata) => self.on_metadata_message(id, payload, streams, cx)?,
            Some(Extension::Pex | Extension::Holepunch) | None => {}
        }
        Ok(())
    }

    /// A peer would rather send this piece: heeded as [`Picker::pick_suggested`] says.
    fn on_suggest(&self, id: StreamId, piece: PieceIndex, streams: &mut Streams) {
        // One that we do not lack, or that does not exist, is overlooked.
        if self.seed_only || !self.picker.is_wanted(piece) {
            return;
        }
        let Some(peer) = streams.peer_mut(id).filter(|peer| peer.fast()) else { return };
        let pipeline = peer.pipeline.get_or_insert_with(|| Pipeline::new().into());
        pipeline.keep_suggestions(|piece| self.picker.is_wanted(piece));
        pipeline.suggest(piece);
    }

    // What the peer has.

    fn on_told_have(
        &mut self,
        id: StreamId,
        have: Have,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        // Deviation from BEP 3: a peer may say again what it has. aria2 does, in place of many
        // `have` messages.
        if peer.told_have {
            self.picker.remove_peer(peer.have.pieces());
        }
        peer.told_have = true;
        peer.have = have;
        self.picker.add_peer(peer.have.pieces());
        self.after_have(id, streams, cx)
    }

    fn on_have(
        &mut self,
        id: StreamId,
        piece: PieceIndex,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let pieces = self.picker.layout().pieces();
        if piece.0 >= pieces {
            return Err(Misbehaviour::NoSuchPiece(piece.0).into());
        }
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if !peer.told_have {
            peer.told_have = true;
            peer.have = Have::Some(Bitfield::new(pieces));
            self.picker.add_peer(Pieces::Words(&[]));
        }
        let Have::Some(bits) = &mut peer.have else { return Ok(()) };
        if !bits.set(piece.0) {
            return Ok(());
        }
        self.picker.have(piece);
        if self.is_complete() {
            self.suggestions.arrived(piece, id, self.picker.availability(piece));
        }
        let news = self.picker.is_wanted(piece) || peer.have.is_seed();
        if news { self.after_have(id, streams, cx) } else { Ok(()) }
    }

    /// A peer that lost a piece (BEP 54).
    fn on_dont_have(
        &mut self,
        id: StreamId,
        piece: PieceIndex,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let pieces = self.picker.layout().pieces();
        if piece.0 >= pieces {
            return Err(Misbehaviour::NoSuchPiece(piece.0).into());
        }
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if matches!(peer.have, Have::All) {
            peer.have = Have::Some(Bitfield::full(pieces));
        }
        let Have::Some(bits) = &mut peer.have else { return Ok(()) };
        if bits.clear(piece.0) {
            self.picker.lost(piece);
            if matches!(self.phase, Phase::Running) {
                self.update_interest(id, streams, cx);
            }
        }
        Ok(())
    }

    /// A peer has more than before: it may be of interest, or of none at all.
    pub(super) fn after_have(
        &mut self,
        id: StreamId,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        // What is here is not known yet.
        if !matches!(self.phase, Phase::Running) {
            return Ok(());
        }
        let Some(peer) = streams.peer(id) else { return Ok(()) };
        if peer.have.is_seed() && self.picker.is_finished() && self.is_complete() {
            return Err(Refusal::BothComplete.into());
        }
        self.update_interest(id, streams, cx);
        self.ask_hashes(streams, cx);
        self.fill(id, streams, cx);
        Ok(())
    }

    /// Tells a peer whether it has something for us, if that changed.
    pub(super) fn update_interest(&self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        let Some(peer) = streams.peer_mut(id) else { return };
        let from = PieceIndex(peer.wanted_piece.unwrap_or(0));
        let wanted = if self.seed_only {
            None
        } else {
            self.picker.interesting_piece(peer.have.pieces(), from)
        };
        peer.wanted_piece = wanted.map(|piece| piece.0);
        if peer.we_are_interested != wanted.is_some() {
            peer.we_are_interested = wanted.is_some();
            let message = if wanted.is_some() {
                Message::Interested
            } else {
                peer.bored_at = cx.now() + cx.config.no_interest_timeout();
                Message::NotInterested
            };
            streams.send_message(id, &message, cx);
            streams.rearm(id, cx);
        }
    }

    /// A piece that we may ask for while we are choked (BEP 6).
    fn on_allowed_fast(
        &mut self,
        id: StreamId,
        piece: PieceIndex,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        if piece.0 >= self.picker.layout().pieces() {
            return Err(Misbehaviour::NoSuchPiece(piece.0).into());
        }
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if !peer.fast() || !self.picker.is_wanted(piece) || self.picker.has(piece) {
            return Ok(());
        }
        let allowed = peer.allowed.get_or_insert_default();
        if allowed.len() < ALLOWED_MAX && allowed.iter().all(|(known, _)| *known != piece) {
            allowed.push((piece, self.picker.layout().piece_len(piece)));
            self.fill(id, streams, cx);
        }
        Ok(())
    }

    // Fetching.

    /// Asks a peer for as many blocks as it should have outstanding. One that is snubbed waits for
    /// its turn, which comes after everybody else's.
    pub(crate) fn fill(&mut self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        if streams.peer(id).is_some_and(|peer| !peer.snubbed) {
            self.ask(id, streams, cx);
        }
    }

    fn ask(&mut self, id: StreamId, streams: &mut Streams, cx: &mut Cx) {
        if !matches!(self.phase, Phase::Running) || !self.room.is_there() {
            return;
        }
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return };
        if !peer.is_open() || !peer.we_are_interested {
            return;
        }
        let only = if peer.choking_us {
            let Some(pieces) = Self::allowed_pieces(peer, &self.picker) else { return };
            Some(pieces)
        } else {
            None
        };
        if peer.refusals.as_ref().is_some_and(|refusals| refusals.is_pause(now)) {
            return;
        }
        let pipeline = peer.pipeline.get_or_insert_with(|| Pipeline::new().into());
        let outstanding = pipeline.len();
        let allowed = if peer.snubbed { 1 } else { usize::from(peer.request_queue) };
        // One block may be on its way even if others took all room, or a buffer full of blocks
        // that wait for it would never empty; not one after the other while the disk lags behind.
        let one = outstanding == 0 && (!cx.memory.is_full() || cx.jobs.is_empty());
        let memory = cx.memory.room(BLOCK_LEN).max(usize::from(one));
        let wanted = pipeline.room(allowed);
        self.starved |= wanted > memory;
        let room = wanted.min(memory);
        if room == 0 {
            return;
        }
        let piece_len = u64::from(self.metainfo.info().layout().piece_len());
        let lanes = (peer.received.bytes_per_s(now) / piece_len.max(1)).min(LANES_MAX);
        let how = PickOptions {
            exclusive: peer.suspect || self.blame.is_suspect(peer.address.ip()),
            standing: peer.standing,
            ..PickOptions::fast(lanes as usize)
        };
        let mut picked = core::mem::take(&mut self.picked);
        picked.clear();
        self.choose(id, only.as_ref(), room, &how, &mut picked, streams, cx);
        let Some(peer) = streams.peer_mut(id) else { return };
        if outstanding == 0 {
            peer.last_block = now;
        }
        let pipeline = peer.pipeline.get_or_insert_with(|| Pipeline::new().into());
        let layout = self.picker.layout();
        cx.make_room(picked.len() * 17);
        for block in &picked {
            let length = layout.block_len(*block);
            pipeline.push(*block, now);
            cx.memory.request(length);
            let request = BlockRequest { piece: block.piece, begin: block.begin(), length };
            Message::Request(request).encode(&mut cx.scratch);
        }
        let any = !picked.is_empty();
        self.picked = picked;
        if any {
            let requests = cx.scratch.split().freeze();
            streams.send(id, requests, &mut cx.out);
            streams.rearm(id, cx);
            if cx.gate.down.rate().is_some() || self.gate.is_some() {
                streams.note_fetching(id, &mut cx.out);
            }
        }
    }

    /// Chooses what to ask a peer for, of `only` these pieces if it chokes us.
    #[expect(clippy::too_many_arguments, reason = "one step of `ask`, apart for its length")]
    fn choose(
        &mut self,
        id: StreamId,
        only: Option<&Bitfield>,
        room: usize,
        how: &PickOptions,
        picked: &mut Vec<BlockId>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return };
        let Some(pipeline) = &peer.pipeline else { return };
        let all = askable(&peer.have, only);
        let judgeable = self.trees.as_ref().and_then(|trees| self.judgeable(trees, all));
        let only = judgeable.as_ref().or(only);
        let pieces = askable(&peer.have, only);
        let suggested = pipeline.suggested();
        let refused = peer.refusals.as_deref().map(Refusals::pieces);
        let others = refused.map_or(pieces, |refused| pieces.except(refused.words()));
        self.picker.pick_suggested(id, others, suggested, room, how, picked);
        let mut again = false;
        if let Some(refusals) = &mut peer.refusals
            && picked.is_empty()
            && pipeline.len() == 0
            && refusals.again(now)
        {
            again = true;
            self.picker.pick_suggested(id, pieces, suggested, room, how, picked);
        }
        if picked.len() == room || peer.snubbed || !self.picker.is_all_asked() {
            return;
        }
        let Some(peer) = streams.peer(id) else { return };
        let pieces = askable(&peer.have, only);
        let refused = peer.refusals.as_deref().filter(|_| !again).map(Refusals::pieces);
        let others = refused.map_or(pieces, |refused| pieces.except(refused.words()));
        let left = room - picked.len();
        let late = self.pick_late(id, others, left, streams, now, picked);
        if let Some(late) = late
            && late < self.rounds.refill
        {
            self.rounds.refill = late;
            self.arm(cx);
        }
    }

    /// What we may ask a peer for that chokes us, if there is anything left of it.
    fn allowed_pieces(peer: &mut Peer, picker: &Picker) -> Option<Bitfield> {
        let allowed = peer.allowed.as_mut()?;
        allowed.retain(|(piece, _)| picker.is_wanted(*piece) && !picker.has(*piece));
        if allowed.is_empty() {
            peer.allowed = None;
            return None;
        }
        let theirs = peer.have.pieces();
        let mut pieces = Bitfield::new(picker.layout().pieces());
        for (piece, _) in allowed.iter().filter(|(piece, _)| theirs.contains(piece.0)) {
            pieces.set(piece.0);
        }
        Some(pieces).filter(|pieces| !pieces.none())
    }

    /// Offers free blocks to every peer that could take some, those that are known not to deliver
    /// last.
    pub(super) fn refill(&mut self, streams: &mut Streams, cx: &mut Cx) {
        self.rounds.refill = cx.now() + REFILL_EVERY;
        self.ask_hashes(streams, cx);
        if self.picker.is_finished() {
            return;
        }
        for snubbed in [false, true] {
            for at in 0..self.active_peers().len() {
                let id = self.active_peers()[at];
                if streams.peer(id).is_some_and(|peer| peer.snubbed == snubbed) {
                    self.ask(id, streams, cx);
                }
            }
        }
    }

    fn on_block(
        &mut self,
        id: StreamId,
        piece: PieceIndex,
        begin: u32,
        data: Chunks,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        let len = data.len();
        let Some(block) = self.picker.layout().block_at(piece, begin, len as u32) else {
            return Err(Misbehaviour::WrongBlockLength.into());
        };
        peer.received.add(now, len);
        peer.downloaded += len as u64;
        peer.block_progress = 0;
        let rate = peer.received.bytes_per_s(now);
        let asked =
            peer.pipeline.as_mut().is_some_and(|pipeline| pipeline.answered(block, now, rate));
        if asked {
            // Only what answers us counts: others send what nobody asked for.
            peer.last_block = now;
            peer.snubbed = false;
            peer.standing = Standing::Proven;
            peer.delivers = true;
            if peer.refusals.as_mut().is_some_and(|refusals| refusals.delivered(piece, now)) {
                peer.refusals = None;
            }
            cx.memory.unrequest(len as u32);
        } else {
            peer.count_unrequested(len)?;
        }
        let sender = peer.address.ip();
        if !matches!(self.phase, Phase::Running) {
            cx.stats.wasted_bytes += len as u64;
            return Ok(());
        }
        match self.picker.received(block, id) {
            Received::Duplicate | Received::Unwanted => {
                // Not asked through the picker any more, so that it does not wait for this one.
                self.picker.abort(block, id);
                cx.stats.wasted_bytes += len as u64;
            }
            Received::Accepted { cancel, .. } => {
                self.downloaded += len as u64;
                self.down.add(now, len);
                cx.stats.downloaded_bytes += len as u64;
                for other in cancel {
                    if other != id {
                        self.cancel(other, block, streams, cx);
                    }
                }
                let was_short = cx.memory.is_short();
                let (layout, info) = (self.picker.layout(), self.metainfo.info());
                let whose = Whose { torrent: self.id, layout, info };
                self.content.receive(whose, block, data, sender, cx);
                if !was_short && cx.memory.is_short() {
                    self.content.release(self.id, self.picker.layout(), cx);
                }
            }
        }
        Ok(())
    }

    /// Somebody else delivered first.
    fn cancel(&self, id: StreamId, block: BlockId, streams: &mut Streams, cx: &mut Cx) {
        let Some(peer) = streams.peer_mut(id) else { return };
        let Some(pipeline) = &mut peer.pipeline else { return };
        if pipeline.withdrawn(block) {
            let length = self.picker.layout().block_len(block);
            cx.memory.unrequest(length);
            let request = BlockRequest { piece: block.piece, begin: block.begin(), length };
            streams.send_message(id, &Message::Cancel(request), cx);
        }
    }

    fn on_reject(
        &mut self,
        id: StreamId,
        request: BlockRequest,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        let layout = self.picker.layout();
        let Some(block) = layout.block_at(request.piece, request.begin, request.length) else {
            return Ok(());
        };
        let pieces = layout.pieces();
        let Some(pipeline) = &mut peer.pipeline else { return Ok(()) };
        // After a choke everything is rejected (BEP 6), which says nothing of the peer.
        let refused = !peer.choking_us;
        let asked = if refused { pipeline.refused(block) } else { pipeline.withdrawn(block) };
        if !asked {
            return Ok(());
        }
        let idle = pipeline.len() == 0;
        // Allowed or not: it will not have it.
        if let Some(allowed) = peer.allowed.as_mut().filter(|_| !refused) {
            allowed.retain(|(piece, _)| *piece != request.piece);
        }
        cx.memory.unrequest(request.length);
        self.picker.abort(block, id);
        self.offer_freed(cx);
        if !refused {
            if idle {
                self.picker.forget_peer(id);
            }
            return Ok(());
        }
        let refusals = peer.refusals.get_or_insert_with(|| Refusals::new(pieces, now).into());

        refusals.refused(block.piece, now);
        if !peer.delivers {
            peer.standing = Standing::Doubtful;
        }
        // What it may still deliver is waited for.
        if idle && refusals.is_snubbing() {
            let hopeless = refusals.is_hopeless();
            if !peer.snubbed {
                peer.snubbed = true;
                cx.stats.snubs += 1;
            }
            peer.standing = Standing::Doubtful;
            self.picker.forget_peer(id);
            if hopeless && self.is_served_by_others(id, streams) {
                return Err(Misbehaviour::EndlessRefusals.into());
            }
        }
        Ok(())
    }

    /// Whether somebody else has something for us and is not known to keep it back.
    fn is_served_by_others(&self, id: StreamId, streams: &Streams) -> bool {
        self.peers.iter().filter(|other| **other != id).any(|other| {
            let peer = streams.peer(*other);
            peer.is_some_and(|peer| peer.is_open() && peer.we_are_interested && !peer.snubbed)
        })
    }

    /// Takes all requests back from a peer that will not answer them, and tells it so if it does
    /// not know.
    fn give_up_requests(&mut self, id: StreamId, tell: bool, streams: &mut Streams, cx: &mut Cx) {
        let Some(peer) = streams.peer_mut(id) else { return };
        let Some(pipeline) = &mut peer.pipeline else { return };
        let mut any = false;
        for block in pipeline.drain() {
            any = true;
            let length = self.picker.layout().block_len(block);
            cx.memory.unrequest(length);
            if tell {
                let request = BlockRequest { piece: block.piece, begin: block.begin(), length };
                cx.make_room(17);
                Message::Cancel(request).encode(&mut cx.scratch);
            }
        }
        let cancels = cx.scratch.split().freeze();
        streams.send(id, cancels, &mut cx.out);
        self.picker.forget_peer(id);
        if any {
            self.offer_freed(cx);
        }
    }

    fn offer_freed(&mut self, cx: &mut Cx) {
        let soon = cx.now() + super::REFILL_AFTER;
        if soon < self.rounds.refill {
            self.rounds.refill = soon;
            self.arm(cx);
        }
    }

    /// A connection's own timer is due: silence, a keep-alive, or slow answers.
    pub(crate) fn on_peer_timer(
        &mut self,
        id: StreamId,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if now >= peer.last_received + crate::peer::INACTIVITY_TIMEOUT {
            return Err(LimitReached::Inactivity.into());
        }
        if peer.outstanding() > 0 && now >= peer.last_block + REQUEST_TIMEOUT {
            peer.standing = Standing::Doubtful;
            if !peer.snubbed {
                peer.snubbed = true;
                cx.stats.snubs += 1;
                if let Some(pipeline) = &mut peer.pipeline {
                    pipeline.collapse();
                }
            }
            // Others come first; it is asked again for a block at a time with the next refill.
            self.give_up_requests(id, true, streams, cx);
        }
        self.judge_idleness(id, streams, cx)?;
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if now >= peer.last_sent + crate::peer::KEEP_ALIVE_INTERVAL {
            peer.last_sent = now;
            streams.send_message(id, &Message::KeepAlive, cx);
        }
        streams.rearm(id, cx);
        Ok(())
    }

    /// A peer that holds a slot and does not use it, or a place that others need, has to go.
    fn judge_idleness(
        &self,
        id: StreamId,
        streams: &mut Streams,
        cx: &Cx,
    ) -> Result<(), CloseReason> {
        let now = cx.now();
        let idle = streams.get(id).is_some_and(|stream| stream.send.is_empty());
        let connections = streams.peer_count();
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if peer.may_ask() && now >= peer.asked_at + NO_REQUEST_TIMEOUT {
            let owed = peer.uploads.as_ref().is_some_and(|uploads| !uploads.is_empty());
            if idle && !owed && self.picker.is_finished() {
                return Err(LimitReached::NoRequest.into());
            }
            peer.asked_at = now;
        }
        if peer.is_bored() && now >= peer.bored_at {
            let scarce = |used: usize, max: usize| used >= max - max / 3;
            // While the disk is looked at nobody knows who is of use.
            let judged = matches!(self.phase, Phase::Running);
            if judged
                && (scarce(connections, cx.config.peers_max)
                    || scarce(self.peers.len(), cx.config.torrent_peers_max))
            {
                return Err(LimitReached::NoInterest.into());
            }
            peer.bored_at = now + BORED_AGAIN;
        }
        Ok(())
    }

    /// Of what a peer has, what could be told right from wrong; none: all of it.
    fn judgeable(&self, trees: &Trees, theirs: Pieces<'_>) -> Option<Bitfield> {
        // A hybrid torrent has the hashes of its v1 half.
        if self.metainfo.info().info_hash().is_some() {
            return None;
        }
        let mut known = trees.verifiable()?.clone();
        for piece in 0..known.len() {
            if !theirs.contains(piece) {
                known.clear(piece);
            }
        }
        Some(known)
    }

    // Handshakes.

    /// Whether that is one of its hashes.
    pub(crate) fn goes_by(&self, hash: InfoHash) -> bool {
        hash == self.hash || self.is_v2(hash)
    }

    /// The hash of one of its halves, or of the only one.
    pub(crate) fn hash_of(&self, v2: bool) -> InfoHash {
        self.metainfo.info().swarm_hash_v2().filter(|_| v2).unwrap_or(self.hash)
    }

    /// Whether that is the hash of its v2 half.
    fn is_v2(&self, hash: InfoHash) -> bool {
        self.metainfo.info().swarm_hash_v2() == Some(hash)
    }

    /// By which hash somebody is greeted: those of whom only the v2 swarm knows by that.
    pub(crate) fn greets_by(&self, address: SocketAddr) -> InfoHash {
        self.hash_of(self.known.is_v2(address))
    }

    /// By which hash to answer somebody who came by `hash`: a v1 peer of a hybrid torrent that could
    /// do better is upgraded (BEP 52, "upgrade path").
    pub(crate) fn answer_as(&self, hash: InfoHash, theirs: Reserved) -> InfoHash {
        let better = self.metainfo.info().swarm_hash_v2().filter(|_| theirs.v2_upgrade());
        better.unwrap_or(hash)
    }

    /// What we speak, in a handshake with that hash.
    pub(crate) fn reserved(&self, hash: InfoHash) -> Reserved {
        let reserved = Reserved::NONE.with_extension_protocol().with_fast();
        let could_do_better = self.trees.is_some() && !self.is_v2(hash);
        if could_do_better { reserved.with_v2_upgrade() } else { reserved }
    }

    /// What is spoken on a connection whose last word was that hash. The upgrade bit tells afterwards
    /// whether it is one of the v2 swarm.
    pub(crate) fn agree(&self, hash: InfoHash, theirs: Reserved) -> Reserved {
        let reserved = Reserved::NONE.with_extension_protocol().with_fast().common(theirs);
        if self.is_v2(hash) { reserved.with_v2_upgrade() } else { reserved }
    }

    /// The requests that a peer has outstanding with us, kept from its first one on.
    pub(super) fn uploads_of(peer: &mut Peer) -> &mut Uploads {
        peer.uploads.get_or_insert_with(Default::default)
    }
}

/// What may be asked of a peer: of all that it has, or of these pieces.
fn askable<'a>(have: &'a Have, only: Option<&'a Bitfield>) -> Pieces<'a> {
    only.map_or_else(|| have.pieces(), |only| Pieces::Words(only.words()))
}
