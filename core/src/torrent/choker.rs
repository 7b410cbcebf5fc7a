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

#[cfg(test)]
mod tests;
mod turns;

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use smallvec::SmallVec;

pub use self::turns::RoundRobin;
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
    /// We seed, and all that nobody has of what we have is being sent to others: what this one would
    /// fetch from us comes from them as well, or soon.
    pub is_spare: bool,
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
            is_spare: false,
            connected_at,
        }
    }
}

/// A policy that hands upload slots out.
pub trait Choker: Send + fmt::Debug {
    /// Which of `peers` to unchoke, into `out` (which is cleared), best first: at most `slots`,
    /// none twice, only interested ones. All others are to be choked. `peers` come in any order,
    /// each once, and without those that do nothing; only those in there are remembered.
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
/// given to them, since it would take its part of the uplink from the others. Only what happened on
/// this connection counts: who connects anew begins anew.
#[derive(Debug)]
pub struct TitForTat {
    slots: Slots,
}

impl TitForTat {
    /// With no peers yet.
    pub fn new(rng: Rng) -> Self {
        Self { slots: Slots::new(rng) }
    }

    /// The same with [`PlantedBug::ChokerForgets`](crate::session::PlantedBug::ChokerForgets).
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn that_forgets(mut self) -> Self {
        self.slots.forgets = true;
        self
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

/// Slots by rate, and optimistic ones.
#[derive(Debug)]
struct Slots {
    rng: Rng,
    salt: [u64; 2],
    /// Who is unchoked optimistically, and since when.
    optimistic: SmallVec<[(StreamId, Instant); 2]>,
    #[cfg(feature = "planted-bugs")]
    forgets: bool,
}

impl Slots {
    fn new(mut rng: Rng) -> Self {
        let salt = [rng.next_u64(), rng.next_u64()];
        Self {
            rng,
            salt,
            optimistic: SmallVec::new(),
            #[cfg(feature = "planted-bugs")]
            forgets: false,
        }
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
        #[cfg(feature = "planted-bugs")]
        let forgotten = self.forgets.then(|| self.forget(peers));
        #[cfg(feature = "planted-bugs")]
        let peers = forgotten.as_deref().unwrap_or(peers);
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

    /// Begins from nothing, as if nobody held a slot or ever had one.
    #[cfg(feature = "planted-bugs")]
    fn forget(&mut self, peers: &[Candidate]) -> Vec<Candidate> {
        self.salt = [self.rng.next_u64(), self.rng.next_u64()];
        self.optimistic.clear();
        let forgotten = peers.iter().map(|peer| Candidate {
            unchoked_since: None,
            last_unchoked: None,
            ..*peer
        });
        forgotten.collect()
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
