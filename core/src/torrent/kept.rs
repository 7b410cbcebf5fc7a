//! Peers of a torrent whose `info` comes while they are there: they stay.
//!
//! ```text
//!   handshake         metadata here        checked
//!      | we say           |                   |
//!      |  HAVE_NONE (BEP 6), or nothing       |  HAVE of each piece here, interest
//!      |                  |  our hello anew   |
//!      v                  v                   v
//!   ---+------------------+-------------------+---------->
//!      what they say of   judged, then taken  as with anybody
//!      pieces is kept     as it comes
//! ```
//!
//! Nothing that a peer says of pieces can be judged before it is known how many there are. So it is
//! kept as it came, and read once there is a torrent to hold it against, by the same code that reads
//! what comes later: who lies is closed for the same reason. What would be too much to keep is
//! dropped, and its sender closed then, to say it anew on a new connection.
//!
//! A bitfield is sent directly after the handshake or not at all (BEP 3), so of what was on the disk
//! all along these peers are told piece by piece; where that would be [too much](HAVES_MAX), they are
//! closed too.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::BytesMut;

use super::{Origin, Phase, Torrent};
use crate::ids::{PieceIndex, StreamId};
use crate::peer::{CloseReason, LocalReason, Misbehaviour};
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::wire::{Decoder, Extension, HashMessage, Message};

/// Bytes of messages that are kept of one peer: a bitfield of the largest torrent, and 7,000 pieces
/// that it got since.
const PEER_MAX: usize = (256 + 64) * 1024;

/// Bytes of messages that are kept of all of a torrent's peers.
const TORRENT_MAX: usize = 8 * 1024 * 1024;

/// Pieces that a peer is told of one by one: 900 kB.
const HAVES_MAX: u32 = 100_000;

/// What peers said of pieces before there were any. See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Heard {
    peers: BTreeMap<StreamId, Said>,
    /// Of all messages that are kept.
    bytes: usize,
}

/// What one peer said.
#[derive(Debug, Default)]
struct Said {
    /// Messages, as they came.
    messages: Vec<u8>,
    /// There were more.
    too_much: bool,
    /// Where it can be dialled; it dialled us.
    listens: Option<SocketAddr>,
}

impl Heard {
    /// Keeps a message, if that is not too much.
    fn keep(&mut self, stream: StreamId, message: &Message) {
        let said = self.peers.entry(stream).or_default();
        let len = message.encoded_len();
        if said.messages.len() + len > PEER_MAX || self.bytes + len > TORRENT_MAX {
            said.too_much = true;
        }
        if said.too_much {
            // The rest is of no use without it.
            self.bytes -= said.messages.len();
            said.messages = Vec::new();
            return;
        }
        self.bytes += len;
        message.encode(&mut said.messages);
    }

    /// A peer that dialled us can be dialled there.
    pub(super) fn listens(&mut self, stream: StreamId, address: SocketAddr) {
        self.peers.entry(stream).or_default().listens = Some(address);
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, stream: StreamId) {
        if let Some(said) = self.peers.remove(&stream) {
            self.bytes -= said.messages.len();
        }
    }
}

impl Torrent {
    /// One message of an open connection, while nothing is known of pieces.
    pub(super) fn on_message_without_metadata(
        &mut self,
        id: StreamId,
        message: &Message,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let now = cx.now();
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        if let Message::Piece { block, .. } = message {
            return peer.count_unrequested(block.len());
        }
        peer.count_chatter(now)?;
        let (fast, extended) = (peer.fast(), peer.reserved.extension_protocol());
        let mut is_of_pieces = false;
        match message {
            Message::Choke => peer.choking_us = true,
            Message::Unchoke => peer.choking_us = false,
            Message::Interested => peer.begins_interest(now),
            Message::NotInterested => {
                peer.ends_interest(now + cx.config.no_interest_timeout());
            }
            Message::HaveAll | Message::HaveNone | Message::Reject(_) if !fast => {
                return Err(Misbehaviour::UnexpectedExtension.into());
            }
            // All are choked: each request is rejected by itself (BEP 6).
            Message::Request(request) if fast => {
                streams.send_message(id, &Message::Reject(*request), cx);
            }
            Message::Piece { .. }
            | Message::KeepAlive
            | Message::Port(_)
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::Reject(_)
            | Message::Unknown { .. } => {}
            Message::Hash(hash) => match &**hash {
                _ if !peer.speaks_v2() => return Err(Misbehaviour::UnexpectedExtension.into()),
                HashMessage::Request(request) => {
                    let reject = HashMessage::Reject(*request);
                    streams.send_message(id, &Message::Hash(reject.into()), cx);
                }
                HashMessage::Hashes(..) => return Err(Misbehaviour::UnrequestedHashes.into()),
                HashMessage::Reject(_) => {}
            },
            Message::Have(_) | Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => {
                is_of_pieces = true;
            }
            // Of no meaning without the extension.
            Message::AllowedFast(_) | Message::Suggest(_) => is_of_pieces = fast,
            Message::Extended { id: extension, .. }
                if extended
                    && Extension::from_local_id(*extension) == Some(Extension::DontHave) =>
            {
                is_of_pieces = true;
            }
            Message::Extended { id: extension, payload } => {
                return self.on_extended(id, *extension, payload, streams, cx);
            }
        }
        if let Some(fetch) = self.fetch.as_mut().filter(|_| is_of_pieces) {
            fetch.heard.keep(id, message);
        }
        Ok(())
    }

    /// There are pieces now: judges what was said of them, and says what we are since.
    pub(super) fn keep_peers(&mut self, mut heard: Heard, streams: &mut Streams, cx: &mut Cx) {
        for id in self.peers.clone() {
            if !streams.peer(id).is_some_and(crate::peer::Peer::is_open) {
                continue;
            }
            let said = heard.peers.remove(&id).unwrap_or_default();
            if said.too_much {
                if let Some(address) = said.listens {
                    self.known.add(address, Origin::Tracker);
                }
                self.close_peer(id, LocalReason::MetadataComplete.into(), streams, cx);
                continue;
            }
            // Others can have the metadata from us.
            self.say_hello(id, streams, cx);
            match self.read_again(id, said.messages, streams, cx) {
                Ok(()) => {
                    self.sort_in(id, streams);
                    streams.rearm(id, cx);
                }
                Err(reason) => self.close_peer(id, reason, streams, cx),
            }
        }
    }

    /// Messages that were kept, as if they came now.
    fn read_again(
        &mut self,
        id: StreamId,
        messages: Vec<u8>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        // They were counted as they came.
        let chatter = streams.peer(id).map_or(0, |peer| peer.chatter);
        let limits = self.limits();
        let mut decoder = Decoder::new();
        decoder.push(messages.into());
        while let Some(message) = decoder.next(&limits)? {
            self.on_message(id, message, streams, cx)?;
        }
        if let Some(peer) = streams.peer_mut(id) {
            peer.chatter = chatter;
        }
        Ok(())
    }

    /// What is on the disk is known, too: those who are here already learn of it, and whether it
    /// leaves anything to want of them.
    pub(super) fn meet_kept(&mut self, streams: &mut Streams, cx: &mut Cx) {
        debug_assert!(matches!(self.phase, Phase::Running), "it has just begun to run");
        if self.peers.is_empty() {
            return;
        }
        let now = cx.now();
        let too_much = self.picker.have_count() > HAVES_MAX;
        let mut haves = BytesMut::new();
        if !too_much {
            for piece in self.pieces_here().iter() {
                Message::Have(PieceIndex(piece)).encode(&mut haves);
            }
        }
        let haves = haves.freeze();
        for id in self.peers.clone() {
            let Some(peer) = streams.peer_mut(id).filter(|peer| peer.is_open()) else { continue };
            if too_much {
                self.close_peer(id, LocalReason::MetadataComplete.into(), streams, cx);
                continue;
            }
            // Until now it could only wait.
            peer.bored_at = now + cx.config.no_interest_timeout();
            peer.last_block = now;
            if !haves.is_empty() {
                streams.send(id, haves.clone(), &mut cx.out);
            }
            if self.is_complete() {
                self.say_hello(id, streams, cx);
            }
            if let Err(reason) = self.after_have(id, streams, cx) {
                self.close_peer(id, reason, streams, cx);
                continue;
            }
            if streams.peer(id).is_some_and(|peer| peer.interested_in_us) {
                self.offer_slot(id, streams, cx);
                self.offer_allowed(id, streams, cx);
            }
            self.sort_in(id, streams);
            streams.rearm(id, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Key;

    fn stream(number: u32) -> StreamId {
        StreamId::from_parts(number, 1)
    }

    fn bitfield(len: usize) -> Message {
        Message::Bitfield(std::vec![0xff; len].into())
    }

    #[test]
    fn what_is_too_much_of_one_peer_is_not_kept_nor_what_follows_it() {
        let mut heard = Heard::default();
        heard.keep(stream(1), &bitfield(PEER_MAX - 5));
        assert_eq!(heard.bytes, PEER_MAX);
        heard.keep(stream(1), &Message::Have(PieceIndex(1)));
        heard.keep(stream(1), &Message::HaveAll);
        heard.keep(stream(2), &Message::HaveNone);
        assert!(heard.peers[&stream(1)].too_much && heard.peers[&stream(1)].messages.is_empty());
        assert!(!heard.peers[&stream(2)].too_much);
        assert_eq!(heard.bytes, 5);
    }

    #[test]
    fn what_all_peers_say_is_bounded_and_who_leaves_makes_room() {
        let mut heard = Heard::default();
        let most = bitfield(PEER_MAX - 5);
        let fit = (TORRENT_MAX / PEER_MAX) as u32;
        (0..=fit).for_each(|number| heard.keep(stream(number), &most));
        assert!(heard.bytes <= TORRENT_MAX);
        assert!(heard.peers[&stream(fit)].too_much);
        heard.forget(stream(0));
        heard.keep(stream(fit + 1), &most);
        assert!(!heard.peers[&stream(fit + 1)].too_much);
        (0..fit + 2).for_each(|number| heard.forget(stream(number)));
        assert_eq!((heard.bytes, heard.peers.len()), (0, 0));
    }
}
