//! The session as its driver sees it: where each input goes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::cx::{JobOwner, TimerKey};
use super::streams::{Kind, SEND_QUEUE_MAX};
use super::{Event, Session};
use crate::ids::{JobId, ListenerId, SocketId, StreamId, TorrentId};
use crate::machine::{
    Deadline, FileStat, Incoming, Input, Job, JobError, JobErrorKind, JobOutput, JobResult,
    ListenerInput, Machine, Output, StreamInput, Transmit, TransmitLimit,
};
use crate::peer::{CloseReason, LimitReached};
use crate::rate::GRANT_MIN;
use crate::time::Instant;
use crate::torrent::{Hashed, Torrent, Upward};
use crate::tracker::ways::Family;
use crate::wire::Message;

/// Most bytes of one stream to read at a time.
const READ_MAX: usize = 1024 * 1024;

impl Session {
    fn on_stream(&mut self, id: StreamId, input: StreamInput) {
        match self.streams.get(id).map(|stream| &stream.kind) {
            None => self.cx.stats.stale_inputs += 1,
            Some(Kind::Tracker) => self.on_tracker_stream(id, input),
            Some(Kind::Peer(_)) => {
                if let Err(reason) = self.on_peer_stream(id, input) {
                    self.close_peer(id, reason);
                }
            }
        }
    }

    fn on_peer_stream(&mut self, id: StreamId, input: StreamInput) -> Result<(), CloseReason> {
        match input {
            StreamInput::Connected { .. } => self.on_peer_connected(id),
            StreamInput::Received(bytes) => self.on_received(id, bytes)?,
            StreamInput::Sent(count) => self.on_sent(id, count),
            StreamInput::ReadClosed => return Err(CloseReason::Ended),
            StreamInput::ConnectFailed(error) | StreamInput::Closed(error) => {
                // The id is dead already: there is nothing left to close.
                let Some(peer) = self.streams.peer(id) else { return Ok(()) };
                let (address, torrent) = (peer.address, peer.torrent);
                let reason = CloseReason::Io(error);
                match torrent.and_then(|torrent| self.torrents.get_mut(torrent)) {
                    Some(torrent) => torrent.detach(id, reason, &mut self.streams, &mut self.cx),
                    None => self.cx.event(Event::PeerClosed { torrent: None, address, reason }),
                }
                self.streams.remove(id, &mut self.cx);
            }
        }
        Ok(())
    }

    fn on_received(&mut self, id: StreamId, mut bytes: Bytes) -> Result<(), CloseReason> {
        let now = self.cx.now();
        let len = bytes.len();
        self.cx.stats.received_bytes += len as u64;
        self.cx.gate.received(now, len);
        self.await_rates();
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(()) };
        if self.torrents_limited
            && let Some(torrent) = peer.torrent.and_then(|torrent| self.torrents.get_mut(torrent))
            && let Some(gate) = torrent.gate_mut()
        {
            gate.received(now, len);
            torrent.arm(&mut self.cx);
        }
        peer.last_received = now;
        if peer.is_open() {
            if let Some(cipher) = &mut peer.cipher {
                bytes = cipher.open(&bytes);
            }
        } else {
            let Some(rest) = self.on_handshake(id, bytes)? else { return Ok(()) };
            bytes = rest;
        }
        self.on_messages(id, bytes)
    }

    fn on_messages(&mut self, id: StreamId, bytes: Bytes) -> Result<(), CloseReason> {
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(()) };
        let Some(torrent) = peer.torrent.and_then(|torrent| self.torrents.get_mut(torrent)) else {
            return Ok(());
        };
        let limits = torrent.limits();
        // Out of the way while its messages change everything else.
        let mut decoder = core::mem::take(&mut peer.decoder);
        decoder.push(bytes);
        let (mut any, mut earlier) = (false, false);
        while let Some(message) = decoder.next(&limits)? {
            any = true;
            // All that these change of a deadline moves it later, which is noticed when it comes;
            // nor do they make a peer active.
            earlier |= !matches!(
                message,
                Message::Piece { .. } | Message::Request(_) | Message::Have(_) | Message::KeepAlive
            );
            torrent.on_message(id, message, &mut self.streams, &mut self.cx)?;
            if let Some(metadata) = torrent.take_metadata() {
                let torrent = torrent.id;
                if let Some(peer) = self.streams.peer_mut(id) {
                    peer.decoder = decoder;
                }
                self.on_metadata(torrent, metadata);
                // The rest is about a torrent that is known.
                return self.on_messages(id, Bytes::new());
            }
            if self.streams.peer(id).is_none() {
                return Ok(());
            }
        }
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(()) };
        if let Some((_, here)) = decoder.block_on_its_way() {
            peer.on_block_progress(here, self.cx.clock.now());
        }
        peer.decoder = decoder;
        if !any {
            return Ok(());
        }
        torrent.fill(id, &mut self.streams, &mut self.cx);
        torrent.suggest(id, &mut self.streams, &mut self.cx);
        torrent.serve(id, &mut self.streams, &mut self.cx);
        if earlier {
            torrent.sort_in(id, &mut self.streams);
            self.streams.rearm(id, &mut self.cx);
        }
        match self.streams.get(id) {
            Some(stream) if stream.send.len() > SEND_QUEUE_MAX => {
                Err(LimitReached::SendQueue.into())
            }
            _ => Ok(()),
        }
    }

    fn on_sent(&mut self, id: StreamId, count: usize) {
        let now = self.cx.now();
        let Some(stream) = self.streams.get_mut(id) else { return };
        let lent = stream.send.lent();
        let sent = stream.settle(count);
        let back = lent - sent;
        self.cx.gate.up.give_back(back);
        self.cx.stats.sent_bytes += sent as u64;
        let left = stream.send.len();
        let Some(peer) = self.streams.peer_mut(id) else { return };
        peer.last_sent = now;
        peer.sent.add(now, sent);
        if let Some(uploads) = peer.uploads.as_mut().filter(|uploads| uploads.unsent) {
            uploads.unsent = left > 0;
            peer.asked_at = now;
        }
        let torrent = peer.torrent;
        if let Some(torrent) = torrent.and_then(|torrent| self.torrents.get_mut(torrent)) {
            if let Some(gate) = torrent.gate_mut() {
                gate.up.give_back(back);
            }
            torrent.on_sent(id, &mut self.streams, &mut self.cx);
        }
    }

    fn on_timeout(&mut self) {
        let now = self.cx.now();
        while let Some(key) = self.cx.timers.pop(now) {
            match key {
                TimerKey::Torrent(id) => {
                    self.with_torrent(id, Torrent::on_timer);
                    self.poll_announces(id);
                }
                TimerKey::Trackers => self.on_tracker_timeout(),
                TimerKey::Rates => self.grant_rates(),
                TimerKey::Stream(id) => {
                    if let Err(reason) = self.on_stream_timer(id) {
                        self.close_peer(id, reason);
                    }
                }
            }
        }
    }

    fn on_stream_timer(&mut self, id: StreamId) -> Result<(), CloseReason> {
        let Some(peer) = self.streams.peer(id) else { return Ok(()) };
        if !peer.is_open() {
            return Err(LimitReached::HandshakeTimeout.into());
        }
        let torrent = peer.torrent.and_then(|torrent| self.torrents.get_mut(torrent));
        let Some(torrent) = torrent else { return Ok(()) };
        torrent.on_peer_timer(id, &mut self.streams, &mut self.cx)
    }

    fn on_listener(&mut self, id: ListenerId, input: ListenerInput) {
        let Some(listener) = self.listeners.get(id) else {
            self.cx.stats.stale_inputs += 1;
            return;
        };
        let token = listener.token;
        match input {
            ListenerInput::Bound(address) => {
                if self.cx.listen_port == 0 {
                    self.cx.listen_port = address.port();
                }
                self.cx.own_addresses.push(address);
                self.hear(address);
                self.cx.event(Event::Listening(token, address));
            }
            ListenerInput::Failed(error) => {
                self.listeners.remove(id);
                // What else was asked for is told of when it is there.
                let bound = self.cx.own_addresses.iter().map(|at| Family::of(at.ip()));
                let heard = Family::ALL.map(|family| bound.clone().any(|other| other == family));
                self.set_heard(heard);
                self.cx.event(Event::ListenFailed(token, error));
            }
        }
    }

    fn on_job(&mut self, id: JobId, result: JobResult) {
        let Some(owner) = self.cx.jobs.complete(id) else { return };
        match owner {
            JobOwner::Resolve => self.on_resolved(id, result),
            JobOwner::Open { torrent } => {
                let files = self.files_of(torrent, result);
                self.with_torrent(torrent, |t, streams, cx| t.on_opened(files, streams, cx));
            }
            JobOwner::Check { torrent, piece, len } => {
                let digest = digest_of(&result);
                self.with_torrent(torrent, |t, streams, cx| {
                    t.on_checked(piece, len, digest, streams, cx)
                });
            }
            JobOwner::Write { torrent, first, blocks, len } => {
                self.cx.memory.written(len);
                self.cx.stats.written_bytes += if result.is_ok() { len as u64 } else { 0 };
                self.with_torrent(torrent, |t, streams, cx| {
                    t.on_written(first, blocks, result.err(), streams, cx)
                });
            }
            JobOwner::Hash { torrent, piece, len } => {
                self.cx.memory.hashed(len);
                self.cx.stats.hashed_bytes += len as u64;
                let hashed = match result {
                    Ok(JobOutput::Digest(digest)) => Ok(Hashed::Whole(digest)),
                    Ok(JobOutput::Hashed(state)) => Ok(Hashed::Partly(state)),
                    Ok(other) => Err(JobError {
                        kind: JobErrorKind::Io,
                        detail: alloc::format!("a hash job yielded {other:?}").into(),
                    }),
                    Err(error) => Err(error),
                };
                self.with_torrent(torrent, |t, streams, cx| {
                    t.on_hashed(piece, hashed, streams, cx)
                });
            }
            JobOwner::Blame { torrent, piece, block } => {
                let digest = digest_of(&result);
                self.with_torrent(torrent, |t, streams, cx| {
                    t.on_blame_hash(piece, block, digest, streams, cx)
                });
            }
            JobOwner::Leaf { torrent, number, leaf } => {
                let digest = digest_of(&result);
                self.with_torrent(torrent, |t, streams, cx| {
                    t.on_leaf(number, leaf, digest, streams, cx);
                    Upward::Nothing
                });
            }
            JobOwner::Read { torrent, stream, run } => {
                let data = match result {
                    Ok(JobOutput::Read(data)) => Ok(data),
                    Ok(other) => Err(JobError {
                        kind: JobErrorKind::Io,
                        detail: alloc::format!("a read yielded {other:?}").into(),
                    }),
                    Err(error) => Err(error),
                };
                self.with_torrent(torrent, |t, streams, cx| {
                    t.on_read(stream, &run, data, streams, cx);
                    Upward::Nothing
                });
            }
            JobOwner::Flush { torrent } => {
                let files = self.files_of(torrent, result);
                self.with_torrent(torrent, |t, streams, cx| t.on_flushed(files, streams, cx));
            }
            JobOwner::Room { torrent } => {
                let result = result.map(drop);
                self.with_torrent(torrent, |t, streams, cx| t.on_room(result, streams, cx));
            }
            JobOwner::Save { torrent } => {
                let result = result.map(drop);
                self.with_torrent(torrent, |t, _, cx| t.on_saved(result, cx));
            }
            JobOwner::Delete { torrent } => self.with_torrent(torrent, |t, _, cx| t.on_deleted(cx)),
            JobOwner::Close { torrent } => self.with_torrent(torrent, |t, _, cx| t.on_closed(cx)),
        }
    }

    /// The files of a torrent as a job found them: one entry each, or the job counts as failed.
    fn files_of(
        &self,
        id: TorrentId,
        result: JobResult,
    ) -> Result<Box<[Option<FileStat>]>, JobError> {
        let count = self.torrents.get(id).map(Torrent::file_count);
        match result? {
            JobOutput::Files(files) if count.is_none_or(|count| files.len() == count) => Ok(files),
            other => Err(JobError {
                kind: JobErrorKind::Io,
                detail: alloc::format!("a job about files yielded {other:?}").into(),
            }),
        }
    }

    // Rates.

    /// Wakes up when a limit grants again that is reached.
    fn await_rates(&mut self) {
        if let Some(at) = self.cx.gate.grant_at() {
            let now = self.cx.now();
            self.cx.timers.set(self.rates_timer, now, Some(at));
        }
    }

    /// Lets streams go on that a limit held up.
    pub(super) fn grant_rates(&mut self) {
        let (read, send) = self.cx.gate.granted(self.cx.now());
        if read {
            self.streams.read_fetching_again(|_| true, &mut self.cx.out);
        }
        for id in send {
            self.streams.send_again(id, &mut self.cx.out);
        }
        let (now, next) = (self.cx.now(), self.cx.gate.grant_at());
        self.cx.timers.set(self.rates_timer, now, next);
    }
}

fn digest_of(result: &JobResult) -> Option<crate::hash::Digest> {
    match result {
        Ok(JobOutput::Digest(digest)) => Some(*digest),
        _ => None,
    }
}

impl Machine for Session {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.cx.clock.advance(now);
        match input {
            Input::Timeout => self.on_timeout(),
            Input::Stream(id, input) => self.on_stream(id, input),
            Input::Job(id, result) => self.on_job(id, result),
            Input::Datagram(datagram) => self.on_datagram(&datagram),
            Input::Listener(id, input) => self.on_listener(id, input),
            Input::Socket(id, input) => self.on_socket(id, input),
            Input::WallClock(wall) => self.cx.wall = wall,
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.cx.clock.advance(now);
        self.listeners.get(incoming.on)?;
        self.admit_stream(incoming.from)
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.cx.out.pop()?;
        match output {
            Output::WantRead(id) | Output::WantWrite(id) => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.edges.taken(&output);
                }
            }
            Output::WantTransmit(id) => self.udp.taken(id),
            _ => {}
        }
        Some(output)
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.cx.jobs.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.cx.timers.next().map(|(at, key)| Deadline { at, reason: key.reason() })
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.cx.clock.advance(now);
        self.transmit(on, limit, buf)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        let now = self.cx.clock.advance(now);
        let Some(stream) = self.streams.get_mut(id) else { return 0 };
        if stream.send.lendable() == 0 {
            return 0;
        }
        let Kind::Peer(peer) = &stream.kind else {
            return stream.send.lend(max, out);
        };
        let limited = peer.torrent.filter(|_| self.torrents_limited);
        let mut torrent = limited.and_then(|torrent| self.torrents.get_mut(torrent));
        let own = torrent.as_mut().and_then(|torrent| torrent.gate_mut());
        let own = own.map_or(usize::MAX, |gate| gate.may_send(now));
        let allowed = own.min(self.cx.gate.may_send(now));
        if allowed == 0 {
            if !stream.waits_to_send {
                stream.waits_to_send = true;
                let had_turn = core::mem::take(&mut stream.had_turn);
                match torrent {
                    Some(torrent) if own == 0 => torrent.wait_to_send(id, had_turn, &mut self.cx),
                    _ => {
                        self.cx.gate.wait(now, id, had_turn);
                        self.await_rates();
                    }
                }
            }
            return 0;
        }
        let lent = stream.lend(max.min(allowed), out);
        stream.had_turn = true;
        self.cx.gate.up.take(lent);
        if let Some(gate) = torrent.and_then(Torrent::gate_mut) {
            gate.up.take(lent);
        }
        lent
    }

    fn recv_credit(&self, id: StreamId) -> usize {
        let Some(stream) = self.streams.get(id) else { return 0 };
        match &stream.kind {
            Kind::Tracker => self.trackers.recv_credit(id),
            Kind::Peer(peer) => {
                let limited = peer.torrent.filter(|_| self.torrents_limited);
                let torrent = limited.and_then(|torrent| self.torrents.get(torrent));
                let own = torrent.map_or(usize::MAX, Torrent::may_receive);
                let credit = READ_MAX.min(self.cx.gate.down.available()).min(own);
                // What others say must not wait for a limit on what we fetch.
                if peer.outstanding() == 0 { credit.max(GRANT_MIN) } else { credit }
            }
        }
    }
}
