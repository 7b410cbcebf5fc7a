//! Who holds an upload slot: asks the policy of the moment, a [`Choker`], and does what it says.
//!
//! The policies know nothing of streams and messages; what a slot is worth to a peer once it has
//! one is `serve`'s part.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::choker::{Candidate, Choker, ROUND};
use super::suggest::hidden_by;
use super::{Torrent, serve};
use crate::ids::StreamId;
use crate::peer::Peer;
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::time::Instant;

/// One policy for while we fetch, one for while we seed.
#[derive(Debug)]
pub(super) struct Chokers {
    pub(super) leeching: Box<dyn Choker>,
    pub(super) seeding: Box<dyn Choker>,
}

impl Torrent {
    /// Hands upload slots out by other policies from the next round on: one for while we fetch, one
    /// for while we seed.
    pub(crate) fn set_chokers(&mut self, leeching: Box<dyn Choker>, seeding: Box<dyn Choker>) {
        self.chokers = Chokers { leeching, seeding };
        if let Some(fetch) = &mut self.fetch {
            fetch.own_chokers = true;
        }
    }

    /// A peer was sent so much in its turn, and so much before it: if that was all, the others are
    /// judged at once.
    pub(super) fn end_turn(&mut self, sent: u64, before: u64, cx: &mut Cx) {
        if sent >= self.choker().quantum(before) && self.rounds.choke > cx.now() {
            self.rounds.choke = cx.now();
            self.arm(cx);
        }
    }

    /// Where peers take turns, it may be another one's now.
    pub(super) fn judge_turns(&mut self, cx: &mut Cx) {
        if self.takes_turns() && self.rounds.choke > cx.now() {
            self.rounds.choke = cx.now();
            self.arm(cx);
        }
    }

    /// The policy of the moment.
    fn choker(&self) -> &dyn Choker {
        if self.picker.is_finished() { &*self.chokers.seeding } else { &*self.chokers.leeching }
    }

    /// Whether a slot goes from peer to peer, rather than to the best.
    pub(super) fn takes_turns(&self) -> bool {
        self.choker().quantum(0) < u64::MAX
    }

    /// Whether a slot that is free goes to who asks for it.
    pub(super) fn gives_free_slots(&self) -> bool {
        self.choker().gives_free_slots()
    }

    /// Once per round, the oldest round falls out of what peers are judged by.
    pub(super) fn end_rate_window(&mut self, streams: &mut Streams, now: Instant) {
        if now < self.rounds.judged + ROUND {
            return;
        }
        self.rounds.judged = now;
        for id in &self.peers {
            if let Some(peer) = streams.peer_mut(*id) {
                peer.note_round();
            }
        }
    }

    /// How many pieces a peer got of us, who seed, and did not pass on: those that nobody else has,
    /// and those that it does not own up to.
    fn kept_by(&self, peer: &Peer, id: StreamId, keepers: &[StreamId]) -> u32 {
        if !peer.interested_in_us || !self.is_complete() {
            return 0;
        }
        let from = keepers.partition_point(|keeper| *keeper < id);
        let alone = keepers[from..].iter().take_while(|keeper| **keeper == id).count() as u32;
        alone.saturating_add(hidden_by(peer, self.picker.layout()))
    }

    pub(super) fn choke_round(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        debug_assert!(self.is_sorted_in(streams), "whoever does something is among the active");
        // Nothing is kept from round to round: most torrents idle.
        cx.scratch = BytesMut::new();
        let mut candidates = Vec::with_capacity(self.active_peers().len());
        let mut idle = 0;
        let keepers = self.suggestions.keepers(&self.picker);
        self.distrust(streams);
        let all_given = self.is_all_given();
        for id in self.active_peers() {
            let Some(peer) = streams.peer(*id).filter(|peer| peer.is_open()) else { continue };
            idle += usize::from(serve::is_idle(*id, now, streams));
            let sent_in_turn = serve::sent_since_unchoke(*id, streams);
            candidates.push(Candidate {
                id: *id,
                interested: peer.interested_in_us,
                snubbed: peer.snubbed,
                received_rate: peer.given(now),
                sent_rate: peer.sent.bytes_per_s(now),
                unchoked_since: peer.unchoked_at.filter(|_| !peer.we_choke),
                last_unchoked: peer.unchoked_at,
                received: peer.downloaded,
                sent: peer.uploaded_at_unchoke + sent_in_turn,
                uploaded_since_unchoke: sent_in_turn,
                kept: self.kept_by(peer, *id, &keepers),
                is_spare: all_given && !self.suggestions.is_owed(*id, now),
                connected_at: peer.connected_at,
            });
        }
        let mut chosen = Vec::new();
        let mut slots = cx.config.upload_slots;
        if self.takes_turns() {
            // Whoever asks for nothing in its turn does not hold the others up.
            slots = slots.saturating_add(idle.min(slots));
        }
        let seeding = self.picker.is_finished();
        let Chokers { leeching, seeding: ours, .. } = &mut self.chokers;
        let choker = if seeding { ours } else { leeching };
        choker.unchoke(now, &candidates, slots, &mut chosen);
        chosen.sort_unstable();
        for Candidate { id, sent, uploaded_since_unchoke, .. } in candidates {
            let unchoke = chosen.binary_search(&id).is_ok();
            self.set_choked(id, !unchoke, streams, cx);
            // A turn that is over, and nobody waits: the next one begins.
            let before = sent - uploaded_since_unchoke;
            if unchoke
                && uploaded_since_unchoke >= self.choker().quantum(before)
                && let Some(peer) = streams.peer_mut(id)
            {
                peer.uploaded_at_unchoke = sent;
            }
        }
    }
}
