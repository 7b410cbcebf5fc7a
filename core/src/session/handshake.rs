//! From a stream to a peer of a torrent: the handshake, encrypted or not, and who is let in.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Session;
use super::streams::Kind;
use crate::ids::{InfoHash, StreamId, TorrentId};
use crate::mse::{Initiator, Responder};
use crate::peer::{
    CloseReason, Layer, LimitReached, LocalReason, Misbehaviour, Peer, Refusal, Stage,
};
use crate::torrent::Torrent;
use crate::wire::{Handshake, HandshakeParser, PROTOCOL_LEN};

/// Addresses that turned out to be our own, and are not dialled.
const OWN_ADDRESSES_MAX: usize = 16;

impl Session {
    /// A stream that we asked for is up: we speak first.
    pub(super) fn on_peer_connected(&mut self, id: StreamId) {
        let Some(peer) = self.streams.peer_mut(id) else { return };
        let (torrent, address) = (peer.torrent, peer.address);
        let Some(greeting) = peer.greeting_mut() else { return };
        if !matches!(greeting.layer, Layer::Connecting) {
            return;
        }
        greeting.layer = Layer::Clear;
        let encrypt = greeting.encrypt;
        let Some(torrent_id) = torrent else { return };
        if let Some(torrent) = self.torrents.get_mut(torrent_id) {
            torrent.known.answered(address);
        }
        let Some(torrent) = self.torrents.get(torrent_id) else { return };
        let handshake = self.handshake(torrent, torrent.greets_by(address));
        if let Some(greeting) = self.streams.peer_mut(id).and_then(Peer::greeting_mut) {
            greeting.answered = Some(handshake.info_hash);
        }
        if !encrypt {
            self.send_handshake(id, &handshake);
            return;
        }
        let offer = self.cx.config.encryption.offers();
        let (hash, hello) = (handshake.info_hash, handshake.encode());
        let mut first = Vec::new();
        let initiator = Initiator::new(hash, offer, &hello, &mut self.mse, &mut first);
        if let Some(greeting) = self.streams.peer_mut(id).and_then(Peer::greeting_mut) {
            greeting.layer = Layer::Initiator(initiator.into());
        }
        self.streams.send(id, first.into(), &mut self.cx.out);
    }

    /// What we say to peers of a torrent, by that one of its hashes.
    fn handshake(&self, torrent: &Torrent, info_hash: InfoHash) -> Handshake {
        Handshake { reserved: torrent.reserved(info_hash), info_hash, peer_id: self.cx.peer_id }
    }

    fn send_handshake(&mut self, id: StreamId, handshake: &Handshake) {
        let bytes = Bytes::copy_from_slice(&handshake.encode());
        self.streams.send(id, bytes, &mut self.cx.out);
    }

    /// Bytes of a connection that is not through its handshake. Returns what follows it, in the
    /// clear, if it is through now.
    pub(super) fn on_handshake(
        &mut self,
        id: StreamId,
        bytes: Bytes,
    ) -> Result<Option<Bytes>, CloseReason> {
        let Some(bytes) = self.tell_apart(id, bytes)? else { return Ok(None) };
        let Some(mut bytes) = self.on_encrypted(id, bytes)? else { return Ok(None) };
        let greeting = self.streams.peer_mut(id).and_then(Peer::greeting_mut);
        let Some(greeting) = greeting else { return Ok(None) };
        let handshake = greeting.parser.push(&mut bytes)?;
        if greeting.answered.is_none()
            && let Some((theirs, hash)) = greeting.parser.swarm()
        {
            if greeting.agreed.is_some_and(|agreed| agreed != hash) {
                return Err(Misbehaviour::WrongInfoHash.into());
            }
            let torrent = self.admit(id, hash)?;
            if let Some(torrent) = self.torrents.get(torrent) {
                let answer = torrent.answer_as(hash, theirs);
                let handshake = self.handshake(torrent, answer);
                self.send_handshake(id, &handshake);
                if let Some(greeting) = self.streams.peer_mut(id).and_then(Peer::greeting_mut) {
                    greeting.answered = Some(answer);
                }
            }
        }
        let Some(handshake) = handshake else { return Ok(None) };
        Ok(self.on_shaken(id, &handshake)?.then_some(bytes))
    }

    /// Bytes of a connection that somebody opened: are they the handshake of BitTorrent, or of an
    /// encrypted stream? Returns what is to be read; the beginning may have come before.
    fn tell_apart(&mut self, id: StreamId, bytes: Bytes) -> Result<Option<Bytes>, CloseReason> {
        let encryption = self.cx.config.encryption;
        let greeting = self.streams.peer_mut(id).and_then(Peer::greeting_mut);
        let Some(greeting) = greeting else { return Ok(None) };
        if !matches!(greeting.layer, Layer::Either) {
            return Ok(Some(bytes));
        }
        let held = greeting.parser.held();
        let start = [held, &bytes[..bytes.len().min(PROTOCOL_LEN - held.len())]].concat();
        match Handshake::check_start(&start) {
            // The rest of the name will tell.
            Ok(()) if start.len() < PROTOCOL_LEN => {}
            Ok(()) if encryption.takes_plain() => greeting.layer = Layer::Clear,
            Ok(()) => return Err(Refusal::Unencrypted.into()),
            Err(_) if encryption.takes_encrypted() => {
                let all = [held, &bytes].concat();
                greeting.parser = HandshakeParser::new();
                let responder = Responder::new(encryption.accepts(), &mut self.mse);
                greeting.layer = Layer::Responder(responder.into());
                return Ok(Some(all.into()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Some(bytes))
    }

    /// Bytes of a connection that may be encrypted. Returns them in the clear, as far as the
    /// encrypted handshake is over.
    fn on_encrypted(
        &mut self,
        id: StreamId,
        mut bytes: Bytes,
    ) -> Result<Option<Bytes>, CloseReason> {
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(None) };
        let Stage::Greeting(greeting) = &mut peer.stage else { return Ok(None) };
        let mut answer = Vec::new();
        let established = match &mut greeting.layer {
            Layer::Initiator(initiator) => initiator.receive(&mut bytes, &mut answer)?,
            Layer::Responder(responder) => {
                let torrent = |mark: &[u8; 20]| {
                    let at = self.by_mark.binary_search_by_key(mark, |(mark, _)| *mark).ok()?;
                    Some(self.by_mark[at].1)
                };
                responder.receive(&mut bytes, torrent, &mut answer)?
            }
            Layer::Connecting | Layer::Either | Layer::Clear => {
                return Ok(Some(match &mut peer.cipher {
                    Some(cipher) => cipher.open(&bytes),
                    None => bytes,
                }));
            }
        };
        self.streams.send(id, answer.into(), &mut self.cx.out);
        let Some(established) = established else { return Ok(None) };
        let Some(stream) = self.streams.get_mut(id) else { return Ok(None) };
        let Kind::Peer(peer) = &mut stream.kind else { return Ok(None) };
        peer.encryption = Some(established.method());
        if let Some(greeting) = peer.greeting_mut() {
            greeting.layer = Layer::Clear;
            greeting.agreed = Some(established.torrent);
        }
        if let Some(mut cipher) = established.cipher {
            cipher.begin(&stream.send);
            bytes = cipher.open(&bytes);
            peer.cipher = Some(cipher);
        }
        if !established.initial.is_empty() {
            bytes = [established.initial, bytes].concat().into();
        }
        Ok(Some(bytes))
    }

    /// Whether a stranger may come in, and to which torrent.
    fn admit(&mut self, id: StreamId, hash: InfoHash) -> Result<TorrentId, CloseReason> {
        let address = self.streams.peer(id).map(|peer| peer.address);
        let Some(&torrent_id) = self.by_hash.get(&hash) else {
            return Err(Refusal::UnknownTorrent.into());
        };
        let torrent = self.torrents.get_mut(torrent_id).expect("the table names live torrents");
        if !torrent.is_running() {
            return Err(LocalReason::NotReady.into());
        }
        if address.is_some_and(|address| torrent.known.is_banned(address.ip())) {
            return Err(LocalReason::Banned.into());
        }
        if address.is_some_and(|address| torrent.is_blocked(address.ip(), &self.cx)) {
            return Err(LocalReason::Filtered.into());
        }
        if torrent.peers.len() >= self.cx.config.torrent_peers_max {
            return Err(LimitReached::Connections.into());
        }
        torrent.attach(id, &mut self.streams);
        Ok(torrent_id)
    }

    /// The whole handshake is here. Returns whether the connection is open now.
    fn on_shaken(&mut self, id: StreamId, handshake: &Handshake) -> Result<bool, CloseReason> {
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(false) };
        let (outgoing, address, torrent) = (peer.outgoing, peer.address, peer.torrent);
        let answered = peer.greeting().and_then(|greeting| greeting.answered);
        let torrent = torrent.and_then(|torrent| self.torrents.get_mut(torrent));
        let Some(torrent) = torrent else { return Err(LocalReason::TorrentStopped.into()) };
        if !torrent.goes_by(handshake.info_hash) {
            return Err(Misbehaviour::WrongInfoHash.into());
        }
        if handshake.peer_id == self.cx.peer_id {
            // The end that dialled has to learn it, or it would dial that address again: it gets
            // our answer and closes. Whoever only borrowed our id runs out of time.
            if !outgoing {
                return Ok(false);
            }
            if self.cx.own_addresses.len() < OWN_ADDRESSES_MAX {
                self.cx.own_addresses.push(address);
            }
            return Err(Refusal::SelfConnection.into());
        }
        // What we answered, whatever we have learnt of the torrent since.
        let agreed = answered.filter(|_| !outgoing).unwrap_or(handshake.info_hash);
        let reserved = torrent.agree(agreed, handshake.reserved);
        let twin = torrent.peers.iter().copied().find(|other| {
            let other_peer = self.streams.peer(*other);
            *other != id
                && other_peer.is_some_and(|peer| peer.is_open() && peer.id == handshake.peer_id)
        });
        if let Some(twin) = twin {
            // Both sides must choose the same one of two that crossed: that of the smaller id.
            let ours_wins = self.cx.peer_id < handshake.peer_id;
            let twin_outgoing = self.streams.peer(twin).is_some_and(|peer| peer.outgoing);
            if outgoing == twin_outgoing || outgoing != ours_wins {
                return Err(Refusal::Duplicate.into());
            }
            torrent.close_peer(twin, Refusal::Duplicate.into(), &mut self.streams, &mut self.cx);
        }
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(false) };
        peer.reserved = reserved;
        peer.id = handshake.peer_id;
        peer.have = crate::peer::Have::Some(crate::bitfield::Bitfield::new(0));
        self.streams.opened(id);
        torrent.greet(id, &mut self.streams, &mut self.cx);
        Ok(true)
    }

    /// Somebody at the door: let in before anything is known of them, unless there is no room.
    pub(super) fn admit_stream(&mut self, from: core::net::SocketAddr) -> Option<StreamId> {
        if self.shutting_down || self.streams.peer_count() >= self.cx.config.peers_max {
            return None;
        }
        // A torrent that the filter does not count for may be what they come for.
        if self.cx.filter.blocks(from.ip()) && self.torrents.iter().all(|(_, t)| t.filtered) {
            return None;
        }
        let peer = Peer::new(self.cx.now(), from, None);
        self.cx.stats.peers_accepted += 1;
        Some(self.streams.open_peer(peer, &mut self.cx))
    }
}
