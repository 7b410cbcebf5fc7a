//! A torrent and its peers as they are now, for whoever wants to look.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::{Phase, Torrent};
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::session::{PeerSnapshot, TorrentSnapshot, TorrentState, TrackerSnapshot, WaitsFor};

impl Torrent {
    pub(crate) fn snapshot(&self, streams: &Streams, cx: &Cx) -> TorrentSnapshot {
        let now = cx.now();
        let layout = self.picker.layout();
        let of_pieces = |count: u32| if self.fetch.is_none() { count } else { 0 };
        let of_bytes = |count: u64| if self.fetch.is_none() { count } else { 0 };
        let open = || self.peers.iter().filter_map(|id| streams.peer(*id)).filter(|p| p.is_open());
        let copies = self.picker.copies();
        TorrentSnapshot {
            id: self.id,
            info_hash: self.hash,
            name: self.metainfo.info().name().into(),
            state: self.state(),
            held: self.again,
            waits_for: self.waits_for(streams, cx),
            has_metadata: self.fetch.is_none(),
            total_bytes: of_bytes(layout.total_len()),
            have_bytes: layout.total_len() - self.picker.left(),
            wanted_bytes: self.wanted_bytes,
            left_bytes: of_bytes(self.picker.wanted_left()),
            pieces: of_pieces(layout.pieces()),
            have_pieces: self.picker.have_count(),
            left_pieces: of_pieces(self.picker.wanted_count()),
            downloaded_bytes: self.downloaded,
            uploaded_bytes: self.uploaded,
            down_bytes_per_s: self.down.bytes_per_s(now),
            up_bytes_per_s: self.up.bytes_per_s(now),
            peers: open().count(),
            seeds: open().filter(|peer| peer.have.is_seed()).count(),
            known_peers: self.known.len(),
            copies_thousandths: copies.whole.saturating_mul(1000) + copies.thousandths,
            owes_completed: self.trackers.owes_completed(),
            trackers: self
                .trackers
                .trackers()
                .map(|tracker| TrackerSnapshot {
                    url: tracker.url.as_str().into(),
                    tier: tracker.tier,
                    error: tracker.error.map(|error| format!("{error}").into()),
                    fails: tracker.fails,
                    warning: tracker.warning.map(Into::into),
                    announcing: tracker.announcing.is_some(),
                    next: tracker.next,
                    seeders: tracker.seeders,
                    leechers: tracker.leechers,
                    downloaded: tracker.downloaded,
                })
                .collect(),
        }
    }

    pub(crate) fn peer_snapshots(&self, streams: &Streams, cx: &Cx) -> Vec<PeerSnapshot> {
        let now = cx.now();
        let pieces = self.picker.layout().pieces();
        let peers = self.peers.iter().filter_map(|id| streams.peer(*id));
        peers
            .filter(|peer| peer.is_open())
            .map(|peer| PeerSnapshot {
                address: peer.address,
                outgoing: peer.outgoing,
                encryption: peer.encryption,
                client: peer.client.clone(),
                pieces: peer.have.count(pieces),
                choking_us: peer.choking_us,
                choked: peer.we_choke,
                interesting: peer.we_are_interested,
                interested: peer.interested_in_us,
                interest_ended: peer.interest_ended,
                snubbed: peer.snubbed,
                requests_out: peer.outstanding(),
                requests_in: peer.uploads.as_ref().map_or(0, |uploads| uploads.len()),
                downloaded_bytes: peer.downloaded,
                uploaded_bytes: peer.uploaded,
                down_bytes_per_s: peer.received.bytes_per_s(now),
                up_bytes_per_s: peer.sent.bytes_per_s(now),
                connected_for: now.saturating_since(peer.connected_at),
            })
            .collect()
    }

    /// The pieces that are here, as a bitfield on the wire has them (BEP 3).
    pub(crate) fn pieces_on_wire(&self) -> Box<[u8]> {
        self.pieces_here().to_wire().into()
    }

    fn state(&self) -> TorrentState {
        if self.is_running()
            && let Some(fetch) = &self.fetch
        {
            let (done, total) = fetch.progress();
            return TorrentState::FetchingMetadata { done, total };
        }
        match &self.phase {
            Phase::Paused => TorrentState::Paused,
            Phase::Opening => TorrentState::Opening,
            Phase::Checking(check) => {
                TorrentState::Checking { done: check.done, total: check.total }
            }
            Phase::Running if self.picker.is_finished() => TorrentState::Seeding,
            Phase::Running => TorrentState::Downloading,
            Phase::Stopping(_) => TorrentState::Stopping,
            Phase::Failed(error) => TorrentState::Failed(format!("{error}").into()),
        }
    }

    fn waits_for(&self, streams: &Streams, cx: &Cx) -> WaitsFor {
        if !self.is_running() || self.picker.is_finished() {
            return WaitsFor::Nothing;
        }
        let peers = || self.peers.iter().filter_map(|id| streams.peer(*id));
        if self.known.len() == 0 && self.peers.is_empty() {
            return WaitsFor::Peers;
        }
        if !self.room.is_there() {
            return WaitsFor::Room;
        }
        if !peers().any(crate::peer::Peer::is_open) {
            return WaitsFor::Connections;
        }
        if self.fetch.is_some() {
            return WaitsFor::Metadata;
        }
        if !peers().any(|peer| peer.we_are_interested) {
            return WaitsFor::Pieces;
        }
        if !peers().any(|peer| peer.we_are_interested && !peer.choking_us) {
            return WaitsFor::Unchoke;
        }
        if cx.memory.room(crate::wire::BLOCK_LEN) == 0 {
            return WaitsFor::Disk;
        }
        if cx.gate.down.available() == 0 || self.may_receive() == 0 {
            return WaitsFor::RateLimit;
        }
        WaitsFor::Nothing
    }
}
