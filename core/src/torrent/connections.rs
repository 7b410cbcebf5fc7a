//! Whom a torrent is connected to: addresses to try, connections that come and go, and which of them
//! do anything.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::known::Origin;
use super::{Phase, REFILL_AFTER, Torrent};
use crate::ids::StreamId;
use crate::machine::{Connect, Output, Shutdown};
use crate::peer::{CloseReason, LocalReason, Misbehaviour, Peer, Refusal};
use crate::session::Event;
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::time::Duration;
use crate::tracker::ways::ListId;

/// How long between two looks for peers to connect to while some are wanted.
const CONNECT_EVERY: Duration = Duration::from_millis(100);

/// Connections opened at one look.
const CONNECTS_PER_LOOK: usize = 5;

impl Torrent {
    pub(super) fn wants_peers(&self, cx: &Cx) -> bool {
        matches!(self.phase, Phase::Running) && self.peers.len() < cx.config.torrent_peers_max
    }

    /// Whether more addresses are of use: what a tracker is asked for.
    pub(crate) fn wants_addresses(&self, cx: &Cx) -> bool {
        self.wants_peers(cx) && !self.known.has_candidates()
    }

    pub(super) fn connect(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        self.rounds.connect = now + CONNECT_EVERY;
        for _ in 0..CONNECTS_PER_LOOK {
            let room = streams.peer_count() < cx.config.peers_max
                && streams.connecting_count() < cx.config.half_open_max;
            if !room || !self.wants_peers(cx) {
                return;
            }
            let Some(address) = self.known.next(now) else { return };
            let useless = cx.own_addresses.contains(&address)
                || !cx.config.reaches(address.ip())
                || self.is_blocked(address.ip(), cx);
            if useless {
                self.known.forget(address);
                continue;
            }
            let mut peer = Peer::new(now, address, Some(self.id));
            if let Some(greeting) = peer.greeting_mut() {
                let second = self.known.is_second(address);
                greeting.encrypt = cx.config.encryption.dials_encrypted(second);
            }
            let stream = streams.open_peer(peer, cx);
            self.attach(stream, streams);
            let from = cx.config.bind_for(address.ip());
            let connect = Connect { stream, to: address, from, tls: None };
            cx.out.push(Output::Connect(connect.into()));
        }
    }

    /// Whether the session's filter keeps peers there away from this torrent.
    pub(crate) fn is_blocked(&self, address: IpAddr, cx: &Cx) -> bool {
        self.filtered && cx.filter.blocks(address)
    }

    /// New addresses are there to be tried.
    pub(crate) fn add_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = SocketAddr>,
        from: Origin,
        cx: &mut Cx,
    ) -> usize {
        let new = addresses.into_iter().filter(|address| self.known.add(*address, from)).count();
        self.arm(cx);
        new
    }

    /// Takes in addresses that a tracker told in one of the ways of asking it.
    pub(crate) fn add_found(&mut self, addresses: Vec<SocketAddr>, list: ListId, cx: &mut Cx) {
        let v2 = self.trackers.way(list).is_some_and(|way| way.v2);
        for address in addresses {
            let is_new = self.known.add(address, Origin::Tracker);
            self.known.found(address, v2, is_new);
        }
        self.arm(cx);
    }

    /// Counts a connection as this torrent's.
    pub(crate) fn attach(&mut self, stream: StreamId, streams: &mut Streams) {
        if let Some(peer) = streams.peer_mut(stream) {
            peer.torrent = Some(self.id);
            peer.place = self.peers.len() as u32;
            self.peers.push(stream);
        }
    }

    /// A peer may have become active, or idle.
    pub(crate) fn sort_in(&mut self, id: StreamId, streams: &mut Streams) {
        let Some(peer) = streams.peer(id) else { return };
        let (place, active) = (peer.place as usize, peer.is_active());
        if self.peers.get(place) != Some(&id) || active == (place < self.active) {
            return;
        }
        if active {
            self.swap_places(place, self.active, streams);
            self.active += 1;
        } else {
            self.active -= 1;
            self.swap_places(place, self.active, streams);
        }
    }

    fn swap_places(&mut self, a: usize, b: usize, streams: &mut Streams) {
        self.peers.swap(a, b);
        for place in [a, b] {
            if let Some(peer) = streams.peer_mut(self.peers[place]) {
                peer.place = place as u32;
            }
        }
    }

    /// The peers that may want something of us now, or that we may ask for something.
    pub(super) fn active_peers(&self) -> &[StreamId] {
        &self.peers[..self.active]
    }

    /// Whether no peer that is active counts as idle.
    pub(super) fn is_sorted_in(&self, streams: &Streams) -> bool {
        let mut idle = self.peers[self.active..].iter().filter_map(|id| streams.peer(*id));
        idle.all(|peer| !peer.is_active())
    }

    /// Closes a connection of this torrent's.
    pub(crate) fn close_peer(
        &mut self,
        id: StreamId,
        reason: CloseReason,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let how = match reason {
            CloseReason::Misbehaved(_) | CloseReason::Io(_) => Shutdown::Abort,
            _ => Shutdown::Graceful,
        };
        self.detach(id, reason, streams, cx);
        streams.close(id, how, cx);
    }

    /// A connection of this torrent's is gone, or about to be: takes back what it was asked for.
    pub(crate) fn detach(
        &mut self,
        id: StreamId,
        reason: CloseReason,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let Some(peer) = streams.peer_mut(id) else { return };
        let (address, place, outgoing, open) =
            (peer.address, peer.place as usize, peer.outgoing, peer.is_open());
        if peer.told_have {
            self.picker.remove_peer(peer.have.pieces());
            peer.told_have = false;
        }
        if let Some(pipeline) = &mut peer.pipeline {
            for block in pipeline.drain() {
                cx.memory.unrequest(self.picker.layout().block_len(block));
            }
            self.picker.forget_peer(id);
            self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.forget(id);
            fetch.heard.forget(id);
        }
        let unwelcome = peer.greeting().is_some_and(|greeting| greeting.is_unwelcome(&reason));
        let freed_slot = !peer.we_choke;
        self.suggestions.forget(id);
        if let Some(trees) = &mut self.trees {
            trees.exchange.forget(id);
        }
        if self.peers.get(place) == Some(&id) {
            let mut place = place;
            if place < self.active {
                self.active -= 1;
                self.swap_places(place, self.active, streams);
                place = self.active;
            }
            self.swap_places(place, self.peers.len() - 1, streams);
            self.peers.pop();
        }
        if reason.is_misbehaviour() {
            cx.stats.peers_misbehaved += 1;
        }
        if outgoing {
            match reason {
                _ if unwelcome && cx.config.encryption.has_second() => {
                    self.known.unwelcome(address, cx.now());
                }
                CloseReason::Misbehaved(_)
                | CloseReason::Refused(
                    Refusal::SelfConnection | Refusal::UnknownTorrent | Refusal::BothComplete,
                ) => {
                    self.known.forget(address);
                }
                // That was us: whoever starts the torrent again wants its peers at once.
                CloseReason::Local(LocalReason::TorrentStopped | LocalReason::MetadataComplete) => {
                    self.known.put_back(address);
                }
                _ if open => self.known.ended(address, cx.now()),
                _ => self.known.failed(address, cx.now()),
            }
        }
        if freed_slot && matches!(self.phase, Phase::Running) {
            self.rounds.choke = self.rounds.choke.min(cx.now() + REFILL_AFTER);
        }
        cx.event(Event::PeerClosed { torrent: Some(self.id), address, reason });
        self.note_shared(cx);
        self.arm(cx);
    }

    /// Talks to nobody at this address again.
    pub(super) fn ban(
        &mut self,
        ip: IpAddr,
        why: Misbehaviour,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        if self.known.ban(ip) {
            cx.stats.peers_banned += 1;
            cx.event(Event::PeerBanned(self.id, ip));
        }
        let theirs: Vec<StreamId> = self
            .peers
            .iter()
            .copied()
            .filter(|id| streams.peer(*id).is_some_and(|peer| peer.address.ip() == ip))
            .collect();
        for id in theirs {
            self.close_peer(id, CloseReason::Misbehaved(why), streams, cx);
        }
    }

    /// Closes all connections, for this reason.
    pub(super) fn close_peers(&mut self, reason: LocalReason, streams: &mut Streams, cx: &mut Cx) {
        while let Some(&peer) = self.peers.last() {
            self.close_peer(peer, reason.into(), streams, cx);
            // A connection that is gone already leaves its place here.
            if self.peers.last() == Some(&peer) {
                self.peers.pop();
                self.active = self.active.min(self.peers.len());
            }
        }
    }
}
