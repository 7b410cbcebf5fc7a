//! Slots that go from peer to peer.

use alloc::vec::Vec;

use super::{Candidate, Choker, lot};
use crate::ids::StreamId;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// While we seed: a peer keeps its slot until it got its quota or had its time. Then it is the turn
/// of newcomers, then of those that pass on what they got, and of them those whose last turn began
/// longest ago (began, so that one that is slow to use its quota up has as many turns as the others).
///
/// Who passes things on shows while we are the only source of some pieces: a peer that
/// [keeps](Candidate::kept) more of them to itself waits for those that keep fewer. It does not wait
/// for ever: once others have those pieces, from us or from it, it is as good as they are.
///
/// A peer that is [spare](Candidate::is_spare) has no slot as long as somebody is not who keeps no more
/// than it does: all that we send it then is sent twice.
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
        let owed = peers.iter().filter(|peer| peer.interested && !peer.is_spare);
        let kept_by_owed = owed.map(|peer| peer.kept).min();
        let yields =
            |peer: &Candidate| peer.is_spare && kept_by_owed.is_some_and(|kept| kept <= peer.kept);
        let mut ranked: Vec<_> = peers
            .iter()
            .filter(|peer| peer.interested && !yields(peer))
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
