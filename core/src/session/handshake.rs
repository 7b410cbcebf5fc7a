//! From a stream to a peer of a torrent: the handshake, and who is let in.

use bytes::Bytes;

use super::Session;
use crate::ids::{InfoHash, StreamId, TorrentId};
use crate::peer::{CloseReason, LimitReached, LocalReason, Misbehaviour, Peer, Refusal, Stage};
use crate::wire::{Handshake, Reserved};

/// Addresses that turned out to be our own, and are not dialled.
const OWN_ADDRESSES_MAX: usize = 16;

impl Session {
    /// A stream that we asked for is up: we speak first.
    pub(super) fn on_peer_connected(&mut self, id: StreamId) {
        let Some(peer) = self.streams.peer_mut(id) else { return };
        if !matches!(peer.stage, Stage::Connecting) {
            return;
        }
        peer.stage = Stage::Handshaking { parser: alloc::boxed::Box::default(), answered: true };
        let torrent = peer.torrent.and_then(|torrent| self.torrents.get(torrent));
        let Some(torrent) = torrent else { return };
        let info_hash = torrent.hash;
        let reserved = torrent.reserved(info_hash);
        self.send_handshake(id, info_hash, reserved);
    }

    fn send_handshake(&mut self, id: StreamId, info_hash: InfoHash, reserved: Reserved) {
        let handshake = Handshake { reserved, info_hash, peer_id: self.cx.peer_id };
        let bytes = Bytes::copy_from_slice(&handshake.encode());
        self.streams.send(id, bytes, &mut self.cx.out);
    }

    /// Bytes of a connection that is not through its handshake. What follows it is left in
    /// `bytes`. Returns whether it is through now.
    pub(super) fn on_handshake(
        &mut self,
        id: StreamId,
        bytes: &mut Bytes,
    ) -> Result<bool, CloseReason> {
        let Some(peer) = self.streams.peer_mut(id) else { return Ok(false) };
        let Stage::Handshaking { parser, answered } = &mut peer.stage else { return Ok(false) };
        let handshake = parser.push(bytes)?;
        if !*answered && let Some((theirs, hash)) = parser.swarm() {
            *answered = true;
            let torrent = self.admit(id, hash)?;
            if let Some(torrent) = self.torrents.get(torrent) {
                let hash = torrent.answer_as(hash, theirs);
                let reserved = torrent.reserved(hash);
                self.send_handshake(id, hash, reserved);
            }
        }
        let Some(handshake) = handshake else { return Ok(false) };
        self.on_shaken(id, &handshake)
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
        let agreed = if outgoing {
            handshake.info_hash
        } else {
            torrent.answer_as(handshake.info_hash, handshake.reserved)
        };
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
