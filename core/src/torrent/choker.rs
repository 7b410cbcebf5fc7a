//! Whom to serve.
//!
//! A [`Choker`] is asked every [`ROUND`] (and at once when a turn is over): it gets the peers
//! as they are and says which of them to unchoke; all others are to be choked. It owns nothing but
//! its own memory of optimistic unchokes. Measuring rates, calling a peer snubbed and sending the
//! messages is the torrent's.
//!
//! - [`TitForTat`], while we fetch (BEP 3, "choking and optimistic unchoking"): the peers that give
//!   us most, and an optimistic slot that goes round in turn, so that better ones are found.
//! - [`FastestUpload`], while we seed: the peers that take the most.
//! - [`RoundRobin`], while we seed: each gets a quota, then makes room.
//!
//! Among equals the one that holds a slot keeps it, and beyond that a keyed hash decides; the order
//! in which the peers are listed never matters. Chokers that let it matter swap equal peers each
//! round, and lose most of their throughput to pipelines that restart.
//!
//! ```
//! use teem_core::ids::{Key, StreamId};
//! use teem_core::rng::Seed;
//! use teem_core::time::Instant;
//! use teem_core::torrent::choker::{Candidate, Choker, SLOTS_DEFAULT, TitForTat};
//!
//! let now = Instant::ORIGIN;
//! let mut choker = TitForTat::new(Seed::from_number(1).stream("choker", 0));
//! let peers: Vec<_> = (0..9)
//!     .map(|slot| Candidate {
//!         interested: true,
//!         received_rate: u64::from(slot) * 1000,
//!         ..Candidate::new(StreamId::from_parts(slot, 1), now)
//!     })
//!     .collect();
//! let mut unchoke = Vec::new();
//! choker.unchoke(now, &peers, SLOTS_DEFAULT, &mut unchoke);
//! assert_eq!(unchoke.len(), 4); // choke everybody else
//! assert_eq!(unchoke[0], peers[8].id); // the best first, the optimistic ones last
//! ```

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use smallvec::SmallVec;

use crate::ids::{Key, StreamId};
use crate::rng::{Rng, mac};
use crate::time::{Duration, Instant};

/// How often to ask a choker: BEP 3, "ten seconds".
pub const ROUND: Duration = Duration::from_secs(10);

/// How long an optimistic unchoke lasts: BEP 3, "thirty seconds", three rounds.
pub const OPTIMISTIC_ROUND: Duration = Duration::from_secs(30);

/// Over how long the rates of a [`Candidate`] are best measured.
pub const RATE_WINDOW: Duration = Duration::from_secs(20);

/// How long a peer counts as newly connected.
pub const NEW_PEER: Duration = Duration::from_mins(1);

/// How much likelier a newly connected peer is to be unchoked optimistically than any other would be
/// by lot (BEP 3); otherwise it is the turn of whoever waits longest.
pub const NEW_PEER_WEIGHT: u32 = 3;

/// Slots where nothing else is configured: three earned, one optimistic.
pub const SLOTS_DEFAULT: usize = 4;

/// One slot in this many is optimistic, and at least one if there are two.
pub const OPTIMISTIC_SHARE: usize = 5;

/// A peer that was sent more than this is judged by what it gave for it.
pub const CREDIT: u64 = 64 * 1024;

/// A peer that was sent more than [`CREDIT`] and gave less than one part in so many of it waits for
/// an optimistic slot until all others have had their turn.
pub const RETURN_MIN: u64 = 4;

/// Whether a peer that was sent so much gave too little for it.
pub(super) const fn owes(sent: u64, received: u64) -> bool {
    sent > CREDIT && received < sent / RETURN_MIN
}

/// A peer that holds a slot is taken to be faster by this fraction, so that near ties stand.
const INCUMBENT_BONUS: u64 = 16;

/// A peer, as a choker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its connection.
    pub id: StreamId,
    /// It wants something of us.
    pub interested: bool,
    /// It owes us blocks and has sent none for a minute (BEP 3, "anti-snubbing").
    pub snubbed: bool,
    /// What it sends us, in bytes per second of payload.
    pub received_rate: u64,
    /// What we send it, in bytes per second of payload.
    pub sent_rate: u64,
    /// Since when it has held a slot; none if it is choked.
    pub unchoked_since: Option<Instant>,
    /// When it last got a slot, whether or not it still holds it; none if it never did.
    pub last_unchoked: Option<Instant>,
    /// What it sent us since it is here, in bytes of payload.
    pub received: u64,
    /// What we sent it since it is here, in bytes of payload.
    pub sent: u64,
    /// The part of that since it got its slot.
    pub uploaded_since_unchoke: u64,
    /// Pieces that it got and did not pass on, as far as we know: nobody else of those connected to
    /// us has them, or it did not own up to them. Zero while we fetch.
    pub kept: u32,
    /// When the connection was made.
    pub connected_at: Instant,
}

impl Candidate {
    /// A choked peer that has just connected and is not interested.
    pub const fn new(id: StreamId, connected_at: Instant) -> Self {
        Self {
            id,
            interested: false,
            snubbed: false,
            received_rate: 0,
            sent_rate: 0,
            unchoked_since: None,
            last_unchoked: None,
            received: 0,
            sent: 0,
            uploaded_since_unchoke: 0,
            kept: 0,
            connected_at,
        }
    }
}

/// A policy that hands upload slots out.
pub trait Choker: Send + fmt::Debug {
    /// Which of `peers` to unchoke, into `out` (which is cleared), best first: at most `slots`,
    /// none twice, only interested ones. All others are to be choked. `peers` come in any order,
    /// each once; only those in there are remembered.
    fn unchoke(&mut self, now: Instant, peers: &[Candidate], slots: usize, out: &mut Vec<StreamId>);

    /// Whether a slot that is free between two rounds goes to whoever first asks for it, until the
    /// next round judges.
    fn gives_free_slots(&self) -> bool {
        true
    }

    /// Bytes of payload after which a peer has had its turn, if it was sent `before` until its turn
    /// began: the choker is then asked at once, and not only in the next round. [`u64::MAX`], and
    /// for all of them: there are no turns.
    fn quantum(&self, before: u64) -> u64 {
        let _ = before;
        u64::MAX
    }
}

/// While we fetch: slots for those that send us most, and an optimistic one (one in
/// [`OPTIMISTIC_SHARE`]) that goes round.
///
/// A slot is earned with a rate above zero, by a peer that does not snub us. Slots that nobody
/// earned are optimistic too, so that a swarm gets going, and a choker that everybody snubs looks
/// for others.
///
/// Optimistic slots go round among those that give something for what they get, or were not tried
/// yet, and then among the others (see [`RETURN_MIN`]). Those have no other slots but the optimistic
/// ones as long as anybody else wants something: a slot that nobody earned is left empty rather than
/// given to them, since it would take its part of the uplink from the others. Only what happened on this connection counts: who
/// connects anew begins anew.
#[derive(Debug)]
pub struct TitForTat {
    slots: Slots,
}

impl TitForTat {
    /// With no peers yet.
    pub fn new(rng: Rng) -> Self {
        Self { slots: Slots::new(rng) }
    }
}

impl Choker for TitForTat {
    fn unchoke(
        &mut self,
        now: Instant,
        peers: &[Candidate],
        slots: usize,
        out: &mut Vec<StreamId>,
    ) {
        self.slots.fill(
            now,
            peers,
            slots,
            out,
            |peer| {
                if peer.snubbed { 0 } else { peer.received_rate }
            },
            |peer| owes(peer.sent, peer.received),
        );
    }
}

/// While we seed: slots for those that take most, and optimistic ones as in [`TitForTat`].
#[derive(Debug)]
pub struct FastestUpload {
    slots: Slots,
}

impl FastestUpload {
    /// With no peers yet.
    pub fn new(rng: Rng) -> Self {
        Self { slots: Slots::new(rng) }
    }
}

impl Choker for FastestUpload {
    fn unchoke(
        &mut self,
        now: Instant,
        peers: &[Candidate],
        slots: usize,
        out: &mut Vec<StreamId>,
    ) {
        self.slots.fill(now, peers, slots, out, |peer| peer.sent_rate, |_| false);
    }
}

/// While we seed: a peer keeps its slot until it got its quota or had its time. Then it is the turn
/// of newcomers, then of those that pass on what they got, and of them those whose last turn began
/// longest ago (began, so that one that is slow to use its quota up has as many turns as the others).
///
/// Who passes things on shows while we are the only source of some pieces: a peer that
/// [keeps](Candidate::kept) more of them to itself waits for those that keep fewer. It does not wait
/// for ever: once others have those pieces, from us or from it, it is as good as they are.
#[derive(Debug)]
pub struct RoundRobin {
    first: u64,
    quota: u64,
    salt: [u64; 2],
}

impl RoundRobin {
    /// How long a peer may hold a slot without using its quota up, while others wait.
    pub const HOLD_MAX: Duration = Duration::from_mins(2);

    /// How many pieces make a fair quota.
    pub const QUOTA_PIECES: u64 = 20;

    /// Each peer gets `quota` bytes in its turn; see [`QUOTA_PIECES`](Self::QUOTA_PIECES).
    pub fn new(quota: u64, rng: Rng) -> Self {
        Self::growing(quota, quota, rng)
    }

    /// Each peer gets `first` bytes in its first turn, and then as much as it got until then, so
    /// that turns double until they are `quota` bytes.
    ///
    /// Whoever comes has something to trade soon, and who comes first and passes nothing on does
    /// not keep the others from beginning.
    pub fn growing(first: u64, quota: u64, mut rng: Rng) -> Self {
        Self { first: first.min(quota), quota, salt: [rng.next_u64(), rng.next_u64()] }
    }
}

impl Choker for RoundRobin {
    fn unchoke(
        &mut self,
        now: Instant,
        peers: &[Candidate],
        slots: usize,
        out: &mut Vec<StreamId>,
    ) {
        let mut ranked: Vec<_> = peers
            .iter()
            .filter(|peer| peer.interested)
            .map(|peer| {
                let (class, since) = match (peer.unchoked_since, peer.last_unchoked) {
                    (Some(since), _) => {
                        let before = peer.sent.saturating_sub(peer.uploaded_since_unchoke);
                        let served = peer.uploaded_since_unchoke >= self.quantum(before)
                            || now.saturating_since(since) >= Self::HOLD_MAX;
                        // Of those that were served, the latest has had least.
                        if served {
                            (3, u64::MAX - since.as_micros())
                        } else {
                            (0, since.as_micros())
                        }
                    }
                    (None, None) => (1, peer.connected_at.as_micros()),
                    (None, Some(last)) => (2, last.as_micros()),
                };
                let kept = if class == 2 { peer.kept } else { 0 };
                (class, kept, since, lot(self.salt, peer.id), peer.id)
            })
            .collect();
        ranked.sort_unstable();
        out.clear();
        out.extend(ranked.iter().take(slots).map(|(.., id)| *id));
    }

    fn quantum(&self, before: u64) -> u64 {
        before.clamp(self.first, self.quota)
    }
}

/// Slots by rate, and optimistic ones.
#[derive(Debug)]
struct Slots {
    rng: Rng,
    salt: [u64; 2],
    /// Who is unchoked optimistically, and since when.
    optimistic: SmallVec<[(StreamId, Instant); 2]>,
}

impl Slots {
    fn new(mut rng: Rng) -> Self {
        let salt = [rng.next_u64(), rng.next_u64()];
        Self { rng, salt, optimistic: SmallVec::new() }
    }

    fn fill(
        &mut self,
        now: Instant,
        peers: &[Candidate],
        slots: usize,
        out: &mut Vec<StreamId>,
        rate: impl Fn(&Candidate) -> u64,
        owes: impl Fn(&Candidate) -> bool,
    ) {
        out.clear();
        let mut ranked: Vec<_> = peers
            .iter()
            .filter(|peer| peer.interested)
            .map(|peer| {
                let rate = rate(peer);
                let bonus = peer.unchoked_since.map_or(0, |_| rate / INCUMBENT_BONUS);
                let since = peer.unchoked_since.map_or(u64::MAX, Instant::as_micros);
                let rank = (Reverse(rate.saturating_add(bonus)), since, lot(self.salt, peer.id));
                (rank, peer)
            })
            .collect();
        ranked.sort_unstable_by_key(|(rank, peer)| (*rank, peer.id));
        let reserved = if slots < 2 { 0 } else { (slots / OPTIMISTIC_SHARE).max(1) };
        // Each slot is a part of the uplink: those that owe us take none from the others but the
        // optimistic ones.
        let fair = ranked.iter().filter(|(_, peer)| !owes(peer)).count();
        let (slots, indulged) =
            if fair == 0 { (slots, slots) } else { (slots.min(fair + reserved), reserved) };
        let earned = ranked
            .iter()
            .take(slots - reserved)
            .take_while(|((Reverse(rate), ..), _)| *rate > 0)
            .count();
        out.extend(ranked[..earned].iter().map(|(_, peer)| peer.id));
        self.draw(now, &ranked[earned..], slots, indulged, out, owes);
    }

    /// Fills what is left with optimistic unchokes: those whose time is not over, then others in
    /// turn, those that owe us last, and those whose time is over only if there is nobody else.
    fn draw(
        &mut self,
        now: Instant,
        rest: &[(Rank, &Candidate)],
        slots: usize,
        mut indulged: usize,
        out: &mut Vec<StreamId>,
        owes: impl Fn(&Candidate) -> bool,
    ) {
        let mut held = core::mem::take(&mut self.optimistic);
        held.retain(|(id, _)| rest.iter().any(|(_, peer)| peer.id == *id));
        // Whoever else has a slot that it does not earn took a free one, or earned it until now.
        for (_, peer) in rest {
            if let Some(since) = peer.unchoked_since
                && held.iter().all(|(id, _)| *id != peer.id)
            {
                held.push((peer.id, since));
            }
        }
        for (id, since) in &held {
            // To the nearest round: a slot that was taken between two would else last for one more.
            let over = now.saturating_since(*since) + ROUND / 2 >= OPTIMISTIC_ROUND;
            let owing = rest.iter().any(|(_, peer)| peer.id == *id && owes(peer));
            if !over && out.len() < slots && (!owing || indulged > 0) {
                indulged -= usize::from(owing);
                self.optimistic.push((*id, *since));
                out.push(*id);
            }
        }
        let mut waiting: Vec<&Candidate> = rest
            .iter()
            .map(|(_, peer)| *peer)
            .filter(|peer| held.iter().all(|(id, _)| *id != peer.id))
            .collect();
        waiting.sort_unstable_by_key(|peer| {
            let since = peer.last_unchoked.unwrap_or(peer.connected_at);
            (owes(peer), since, lot(self.salt, peer.id), peer.id)
        });
        while out.len() < slots && !waiting.is_empty() {
            let peer = waiting.remove(self.next_in_turn(now, &waiting));
            self.optimistic.push((peer.id, now));
            out.push(peer.id);
        }
        for (id, _) in held {
            if out.len() < slots && !out.contains(&id) {
                self.optimistic.push((id, now));
                out.push(id);
            }
        }
    }

    /// Whose turn it is, of those that wait, the longest first: the first one's, unless the lot
    /// falls on a newcomer.
    fn next_in_turn(&mut self, now: Instant, waiting: &[&Candidate]) -> usize {
        let new = |peer: &Candidate| {
            peer.last_unchoked.is_none() && now.saturating_since(peer.connected_at) < NEW_PEER
        };
        let newcomers = waiting.iter().filter(|peer| new(peer)).count() as u32;
        if newcomers == 0 {
            return 0;
        }
        let total = newcomers * NEW_PEER_WEIGHT + (waiting.len() as u32 - newcomers);
        let drawn = (self.rng.below(total) / NEW_PEER_WEIGHT) as usize;
        let mut newcomers = waiting.iter().enumerate().filter(|(_, peer)| new(peer));
        newcomers.nth(drawn).map_or(0, |(at, _)| at)
    }
}

/// Rate, then since when it holds a slot, then lot.
type Rank = (Reverse<u64>, u64, u64);

/// What decides between peers that nothing else does: the same for the same peer and salt.
fn lot(salt: [u64; 2], id: StreamId) -> u64 {
    mac(salt, &(u64::from(id.slot()) << 32 | u64::from(id.generation())).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec;

    fn rng(seed: u64) -> crate::rng::Rng {
        Seed::from_number(seed).stream("choker", 0)
    }

    fn id(number: u32) -> StreamId {
        StreamId::from_parts(number, 1)
    }

    /// Connected long before the test began.
    fn old(number: u32) -> Candidate {
        let connected = Instant::ORIGIN - Duration::from_hours(1);
        Candidate { interested: true, ..Candidate::new(id(number), connected) }
    }

    /// Peers whose slots follow what a choker says, as a torrent would have it.
    struct Swarm {
        now: Instant,
        peers: Vec<Candidate>,
        choker: Box<dyn Choker>,
        changes: u32,
    }

    impl Swarm {
        fn new(count: u32, choker: impl Choker + 'static) -> Self {
            let peers = (0..count).map(old).collect();
            Self { now: Instant::ORIGIN, peers, choker: Box::new(choker), changes: 0 }
        }

        fn round(&mut self, slots: usize) -> Vec<StreamId> {
            let mut out = Vec::new();
            self.choker.unchoke(self.now, &self.peers, slots, &mut out);
            for peer in &mut self.peers {
                match (out.contains(&peer.id), peer.unchoked_since) {
                    (true, None) => {
                        peer.unchoked_since = Some(self.now);
                        peer.last_unchoked = Some(self.now);
                        peer.uploaded_since_unchoke = 0;
                        self.changes += 1;
                    }
                    (false, Some(_)) => {
                        peer.unchoked_since = None;
                        self.changes += 1;
                    }
                    _ => {}
                }
            }
            self.now += ROUND;
            out
        }
    }

    #[test]
    fn the_three_that_send_most_are_unchoked_and_one_more() {
        let mut swarm = Swarm::new(10, TitForTat::new(rng(1)));
        for (peer, rate) in swarm.peers.iter_mut().zip([5, 90, 7, 70, 1, 80, 2, 3, 4, 6]) {
            peer.received_rate = rate * 1000;
        }
        let out = swarm.round(4);
        assert_eq!(out[..3], [id(1), id(5), id(3)]);
        assert_eq!(out.len(), 4);
    }

    #[test]
    fn incumbents_keep_their_slots_among_equals() {
        let mut swarm = Swarm::new(20, TitForTat::new(rng(2)));
        swarm.peers.iter_mut().for_each(|peer| peer.received_rate = 50_000);
        let first: BTreeSet<_> = swarm.round(4)[..3].iter().copied().collect();
        for _ in 0..50 {
            let out = swarm.round(4);
            assert_eq!(out[..3].iter().copied().collect::<BTreeSet<_>>(), first);
        }
        // The optimistic slot went round every third round; each time one came and one went.
        assert_eq!(swarm.changes, 4 + 2 * (50 / 3));
    }

    #[test]
    fn an_incumbent_is_beaten_by_a_clearly_faster_peer_and_not_by_a_hair() {
        let mut swarm = Swarm::new(2, TitForTat::new(rng(2)));
        swarm.peers[0].received_rate = 100_000;
        assert_eq!(swarm.round(1), [id(0)]);
        swarm.peers[1].received_rate = 101_000;
        assert_eq!(swarm.round(1), [id(0)]);
        swarm.peers[1].received_rate = 120_000;
        assert_eq!(swarm.round(1), [id(1)]);
    }

    #[test]
    fn the_optimistic_slot_goes_round_fairly() {
        let mut swarm = Swarm::new(20, TitForTat::new(rng(3)));
        for peer in &mut swarm.peers[..3] {
            peer.received_rate = 1_000_000;
        }
        let mut turns = vec![0; 20];
        let mut last = None;
        for round in 0..17 * 300 {
            let out = swarm.round(4);
            if round % 3 == 0 {
                assert_ne!(last, Some(out[3]), "somebody else each time");
                turns[out[3].slot() as usize] += 1;
            } else {
                assert_eq!(last, Some(out[3]), "for three rounds");
            }
            last = Some(out[3]);
        }
        assert_eq!(turns[..3], [0, 0, 0]);
        assert!(turns[3..].iter().all(|turns| *turns == 100), "{turns:?}");
    }

    #[test]
    fn a_newcomer_is_three_times_as_likely() {
        let mut newcomer = 0;
        for seed in 0..2_000 {
            let mut swarm = Swarm::new(8, TitForTat::new(rng(seed)));
            swarm.peers[7].connected_at = swarm.now;
            newcomer += u32::from(swarm.round(1) == [id(7)]);
        }
        assert!((520..680).contains(&newcomer), "{newcomer} of 2000, three tenths expected");
    }

    #[test]
    fn who_took_a_free_slot_keeps_it_for_its_time_and_no_longer() {
        let mut swarm = Swarm::new(3, TitForTat::new(rng(13)));
        let since = swarm.now - Duration::from_millis(9_900);
        swarm.peers[1].unchoked_since = Some(since);
        swarm.peers[1].last_unchoked = Some(since);
        assert_eq!([swarm.round(1), swarm.round(1)], [[id(1)], [id(1)]]);
        // The third round comes 29.9 seconds after it began.
        let next = swarm.round(1)[0];
        assert_ne!(next, id(1));
        assert_eq!([swarm.round(1), swarm.round(1)], [[next], [next]]);
        assert!(![next, id(1)].contains(&swarm.round(1)[0]));
        swarm.round(1);
        swarm.round(1);
        assert_eq!(swarm.round(1), [id(1)], "then it is its turn again");
    }

    #[test]
    fn a_peer_that_snubs_us_gets_nothing_but_its_turn() {
        let mut swarm = Swarm::new(10, TitForTat::new(rng(4)));
        swarm.peers.iter_mut().for_each(|peer| peer.received_rate = 1000);
        swarm.peers[0].received_rate = 1_000_000;
        swarm.peers[0].snubbed = true;
        let turns = (0..300).filter(|_| swarm.round(4).contains(&id(0))).count();
        assert!((15..90).contains(&turns), "{turns} of 300 rounds, a seventh expected");
    }

    #[test]
    fn when_everybody_snubs_us_every_slot_looks_for_somebody_else() {
        let mut swarm = Swarm::new(40, TitForTat::new(rng(5)));
        swarm.peers.iter_mut().for_each(|peer| peer.snubbed = true);
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let out = swarm.round(4);
            assert_eq!(out.len(), 4);
            seen.extend(out);
        }
        assert!(seen.len() > 30, "{}", seen.len());
    }

    #[test]
    fn an_optimistic_peer_that_pays_back_earns_a_slot() {
        let mut swarm = Swarm::new(10, TitForTat::new(rng(6)));
        for peer in &mut swarm.peers[..3] {
            peer.received_rate = 10_000;
        }
        let lucky = swarm.round(4)[3];
        swarm.peers[lucky.slot() as usize].received_rate = 90_000;
        let out = swarm.round(4);
        assert_eq!(out[0], lucky);
        assert_eq!(out.len(), 4);
        (0..20).for_each(|_| assert_eq!(swarm.round(4)[0], lucky));
    }

    #[test]
    fn who_reciprocates_is_served_more_than_who_does_not() {
        let mut swarm = Swarm::new(20, TitForTat::new(rng(7)));
        let mut rounds = [0_u32; 2];
        for _ in 0..600 {
            let out = swarm.round(4);
            for peer in &mut swarm.peers {
                let fair = peer.id.slot() < 6;
                let unchoked = out.contains(&peer.id);
                rounds[usize::from(fair)] += u32::from(unchoked);
                peer.received_rate = if fair && unchoked { 50_000 } else { 0 };
            }
        }
        // Six that give back, fourteen that take.
        assert!(rounds[1] / 6 > 5 * (rounds[0] / 14), "{rounds:?}");
    }

    #[test]
    fn who_takes_and_gives_nothing_waits_until_all_others_had_their_turn() {
        let mut swarm = Swarm::new(12, TitForTat::new(rng(14)));
        for (peer, rate) in swarm.peers.iter_mut().zip([900, 800, 700]) {
            peer.received_rate = rate;
        }
        for peer in &mut swarm.peers[3..8] {
            peer.sent = CREDIT + 4;
        }
        let turns = |swarm: &mut Swarm| -> BTreeSet<u32> {
            let out = (0..24).flat_map(|_| swarm.round(4));
            out.map(Key::slot).filter(|at| *at > 2).collect()
        };
        assert_eq!(turns(&mut swarm), BTreeSet::from([8, 9, 10, 11]), "not tried yet");
        // One gives enough now, and of the others nobody wants anything any more.
        swarm.peers[5].received = swarm.peers[5].sent / RETURN_MIN;
        assert!(turns(&mut swarm).is_subset(&BTreeSet::from([5, 8, 9, 10, 11])));
        swarm.peers[8..].iter_mut().for_each(|peer| peer.interested = false);
        turns(&mut swarm);
        swarm.peers[5].interested = false;
        assert_eq!(turns(&mut swarm), BTreeSet::from([3, 4, 6, 7]), "then it is their turn");
        assert_eq!(swarm.round(8).len(), 4, "and they have no more than that one slot");
        swarm.peers[..3].iter_mut().for_each(|peer| peer.interested = false);
        assert_eq!(swarm.round(8).len(), 4, "but all that nobody else wants");
    }

    #[test]
    fn a_seed_serves_those_that_take_most_and_tries_others() {
        let mut swarm = Swarm::new(10, FastestUpload::new(rng(8)));
        swarm.peers.iter_mut().for_each(|peer| peer.snubbed = true);
        for (peer, rate) in swarm.peers.iter_mut().zip([0, 900, 0, 700, 800]) {
            peer.sent_rate = rate;
        }
        let out = swarm.round(4);
        assert_eq!(out[..3], [id(1), id(4), id(3)]);
        assert_eq!(out.len(), 4);
    }

    #[test]
    fn in_round_robin_everybody_gets_the_same_quota() {
        let quota = 1_000_000;
        let mut swarm = Swarm::new(12, RoundRobin::new(quota, rng(9)));
        let mut sent = vec![0_u64; 12];
        for _ in 0..360 {
            let out = swarm.round(4);
            assert_eq!(out.len(), 4);
            for peer in swarm.peers.iter_mut().filter(|peer| out.contains(&peer.id)) {
                // Fast ones use their quota up in a round, slow ones in four.
                let bytes = if peer.id.slot() < 6 { quota } else { quota / 4 };
                peer.uploaded_since_unchoke += bytes;
                sent[peer.id.slot() as usize] += bytes;
            }
        }
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 2 * quota, "{sent:?}");
    }

    #[test]
    fn in_round_robin_a_peer_is_not_interrupted_before_its_quota() {
        let mut swarm = Swarm::new(9, RoundRobin::new(1_000, rng(10)));
        let first = swarm.round(3);
        swarm.peers.iter_mut().for_each(|peer| peer.uploaded_since_unchoke = 999);
        assert_eq!(
            swarm.round(3).iter().collect::<BTreeSet<_>>(),
            first.iter().collect::<BTreeSet<_>>()
        );
        let lucky = first[0];
        swarm.peers[lucky.slot() as usize].uploaded_since_unchoke = 1_000;
        assert!(!swarm.round(3).contains(&lucky));
    }

    #[test]
    fn in_round_robin_turns_double_until_they_are_whole() {
        let mut choker = RoundRobin::growing(100, 700, rng(15));
        let turns: Vec<_> = [0, 100, 200, 400, 800].map(|before| choker.quantum(before)).into();
        assert_eq!(turns, [100, 100, 200, 400, 700]);
        let mut out = Vec::new();
        let mut peers = [old(0), old(1)];
        peers[0].unchoked_since = Some(Instant::ORIGIN);
        (peers[0].sent, peers[0].uploaded_since_unchoke) = (399, 199);
        choker.unchoke(Instant::ORIGIN, &peers, 1, &mut out);
        assert_eq!(out, [id(0)]);
        (peers[0].sent, peers[0].uploaded_since_unchoke) = (400, 200);
        choker.unchoke(Instant::ORIGIN, &peers, 1, &mut out);
        assert_eq!(out, [id(1)]);
    }

    #[test]
    fn in_round_robin_who_passes_on_what_it_got_comes_before_who_keeps_it() {
        let mut choker = RoundRobin::new(100, rng(16));
        let mut peers: Vec<_> = (0..4).map(old).collect();
        for (peer, (last, kept)) in peers.iter_mut().zip([(1, 3), (2, 1), (3, 0), (4, 0)]) {
            peer.last_unchoked = Some(Instant::ORIGIN + Duration::from_secs(last));
            peer.kept = kept;
        }
        let mut out = Vec::new();
        choker.unchoke(Instant::ORIGIN, &peers, 4, &mut out);
        assert_eq!(out, [2, 3, 1, 0].map(id));
    }

    #[test]
    fn in_round_robin_a_peer_that_takes_nothing_makes_room_in_time() {
        let mut swarm = Swarm::new(9, RoundRobin::new(1_000, rng(11)));
        let first = swarm.round(3);
        (0..11).for_each(|_| assert_eq!(swarm.round(3), first));
        assert!(swarm.round(3).iter().all(|id| !first.contains(id)));
    }

    #[test]
    fn in_round_robin_nobody_is_choked_for_nobody() {
        let mut swarm = Swarm::new(3, RoundRobin::new(1, rng(12)));
        for _ in 0..40 {
            assert_eq!(swarm.round(4).len(), 3);
            swarm.peers.iter_mut().for_each(|peer| peer.uploaded_since_unchoke = 9);
        }
        assert_eq!(swarm.changes, 3);
    }

    #[test]
    fn a_torrent_can_hold_any_choker() {
        let chokers: Vec<Box<dyn Choker>> = vec![
            Box::new(TitForTat::new(rng(0))),
            Box::new(FastestUpload::new(rng(0))),
            Box::new(RoundRobin::new(1, rng(0))),
        ];
        for mut choker in chokers {
            let mut out = vec![id(77)];
            choker.unchoke(Instant::ORIGIN, &[], 4, &mut out);
            assert!(out.is_empty());
        }
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let secs = |s: u64| Instant::ORIGIN + Duration::from_secs(s);
        let one = (
            any::<bool>(),
            prop::bool::weighted(0.2),
            prop_oneof![Just(0), 0..5_u64, Just(u64::MAX)],
            0..4_u64,
            prop::option::of(0..300_u64),
            prop::option::of(0..300_u64),
            0..300_u64,
        );
        prop::collection::vec(one, 0..25).prop_map(move |all| {
            let of = |(at, one): (usize, (bool, bool, u64, u64, _, _, u64))| {
                let (interested, snubbed, received_rate, sent_rate, since, last, connected) = one;
                let since: Option<u64> = since;
                let last: Option<u64> = last;
                Candidate {
                    id: id(at as u32),
                    interested,
                    snubbed,
                    received_rate,
                    sent_rate,
                    unchoked_since: since.map(secs),
                    last_unchoked: last.map(secs),
                    received: received_rate,
                    sent: sent_rate * 150,
                    uploaded_since_unchoke: sent_rate * 100,
                    kept: sent_rate as u32,
                    connected_at: secs(connected),
                }
            };
            all.into_iter().enumerate().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn no_choker_breaks_the_rules_or_minds_the_order_of_the_peers(
            rounds in prop::collection::vec((candidates(), 0..8_usize, 0..40_u64), 1..8),
            seed in 0..1000_u64,
        ) {
            let pair = |seed| -> Vec<Box<dyn Choker>> { vec![
                Box::new(TitForTat::new(rng(seed))),
                Box::new(FastestUpload::new(rng(seed))),
                Box::new(RoundRobin::new(200, rng(seed))),
            ] };
            for (mut choker, mut twin) in pair(seed).into_iter().zip(pair(seed)) {
                let mut now = Instant::ORIGIN + Duration::from_mins(5);
                for (peers, slots, pause) in &rounds {
                    now += Duration::from_secs(*pause);
                    let mut out = Vec::new();
                    choker.unchoke(now, peers, *slots, &mut out);
                    let interested: BTreeSet<_> =
                        peers.iter().filter(|peer| peer.interested).map(|peer| peer.id).collect();
                    let chosen: BTreeSet<_> = out.iter().copied().collect();
                    prop_assert_eq!(chosen.len(), out.len(), "none twice");
                    prop_assert!(chosen.is_subset(&interested));
                    prop_assert_eq!(out.len(), interested.len().min(*slots), "no slot is wasted");
                    let mut shuffled = peers.clone();
                    rng(seed + 1).shuffle(&mut shuffled);
                    let mut again = Vec::new();
                    twin.unchoke(now, &shuffled, *slots, &mut again);
                    prop_assert_eq!(out, again);
                }
            }
        }
    }
}
