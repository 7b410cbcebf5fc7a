//! Slots that flap: whether a client takes upload slots away from peers whose turn is not over, and
//! gives them to others that gave it nothing.
//!
//! A choker that is right does that seldom: an optimistic turn lasts three rounds, and who loses a
//! slot before that makes room for somebody that gives more. A choker that begins each round from
//! nothing does it in each. Looked at once a round, from outside: two rounds after one another tell
//! who got a slot in the first and lost it in the second.

use std::collections::VecDeque;
use std::net::SocketAddr;

use teem_core::session::PeerSnapshot;
use teem_core::time::{Duration, Instant};
use teem_core::torrent::choker::{CREDIT, OPTIMISTIC_ROUND, RETURN_MIN, ROUND};

/// Slots that one client takes away before their time within [`FLAPS_WITHIN`]; as many are too
/// many. One may go so when others come and go between two looks.
pub const FLAPS_MAX: usize = 5;

/// See [`FLAPS_MAX`].
pub const FLAPS_WITHIN: Duration = Duration::from_mins(2);

/// Two looks are at most so far apart, so that two pairs are shorter than an optimistic turn.
const APART_MAX: Duration = Duration::from_secs(12);

/// What one client does with its slots.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    before: Vec<Seen>,
    last: Vec<Seen>,
    /// When `last` was seen, by the client's clock.
    at: Option<Instant>,
    /// When slots were taken away before their time.
    times: VecDeque<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    peer: SocketAddr,
    has_slot: bool,
    interested: bool,
    interest_ended: u8,
    gave: u64,
    got: u64,
}

impl Flaps {
    /// Whether a round is over since the last look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now >= at + ROUND)
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks at a client's peers. Yields how often slots flapped within [`FLAPS_WITHIN`] if that is
    /// too often.
    pub(super) fn look(&mut self, now: Instant, peers: &[PeerSnapshot]) -> Option<usize> {
        let mut seen: Vec<Seen> = peers
            .iter()
            .map(|peer| Seen {
                peer: peer.address,
                has_slot: !peer.choked,
                interested: peer.interested,
                interest_ended: peer.interest_ended,
                gave: peer.downloaded_bytes,
                got: peer.uploaded_bytes,
            })
            .collect();
        seen.sort_unstable_by_key(|seen| seen.peer);
        let is_late = self.at.is_none_or(|at| now > at + APART_MAX);
        let before = std::mem::replace(&mut self.before, std::mem::replace(&mut self.last, seen));
        self.at = Some(now);
        if is_late {
            // Too long ago to tell.
            self.before.clear();
            return None;
        }
        for _ in 0..self.flapped(&before) {
            self.times.push_back(now);
        }
        while self.times.front().is_some_and(|at| now > *at + FLAPS_WITHIN) {
            self.times.pop_front();
        }
        let times = self.times.len();
        (times >= FLAPS_MAX).then(|| {
            self.times.clear();
            times
        })
    }

    /// How many slots went from peers that got theirs between `before` and the look after it, to
    /// peers that gave nothing.
    fn flapped(&self, before: &[Seen]) -> usize {
        const { assert!(2 * APART_MAX.as_millis() < OPTIMISTIC_ROUND.as_millis()) };
        if before.is_empty() {
            return 0;
        }
        let of = |all: &[Seen], peer: SocketAddr| {
            all.binary_search_by_key(&peer, |seen| seen.peer).ok().map(|at| all[at])
        };
        let (mut lost, mut gained) = (0, 0);
        for now in &self.last {
            let Some(then) = of(&self.before, now.peer) else { continue };
            let earlier = of(before, now.peer);
            let owes = now.got > CREDIT && now.gave < now.got / RETURN_MIN;
            let is_new = earlier.is_some_and(|seen| !seen.has_slot);
            // Who wants nothing for a moment gives its slot back.
            let stays =
                then.interested && now.interested && then.interest_ended == now.interest_ended;
            lost += usize::from(then.has_slot && !now.has_slot && is_new && stays && !owes);
            let gave = now.gave - earlier.map_or(0, |seen| seen.gave.min(now.gave));
            gained += usize::from(!then.has_slot && now.has_slot && stays && gave == 0);
        }
        lost.min(gained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that is interested: who it is, whether it has a slot, what it gave.
    fn seen(number: u16, has_slot: bool, gave: u64) -> Seen {
        let peer = SocketAddr::from(([10, 0, 0, 1], number));
        Seen { peer, has_slot, interested: true, interest_ended: 0, gave, got: 0 }
    }

    /// How many slots flapped, of what was seen in three looks.
    fn flapped(looks: [&[Seen]; 3]) -> usize {
        let [before, then, now] = looks.map(<[Seen]>::to_vec);
        Flaps { before: then, last: now, ..Flaps::default() }.flapped(&before)
    }

    #[test]
    fn a_slot_that_goes_to_who_gave_nothing_before_its_turn_is_over_flaps() {
        let before = [seen(1, false, 0), seen(2, false, 0)];
        let then = [seen(1, true, 0), seen(2, false, 0)];
        assert_eq!(flapped([&before, &then, &[seen(1, false, 9), seen(2, true, 0)]]), 1);
        // Whoever gives more has earned it.
        assert_eq!(flapped([&before, &then, &[seen(1, false, 9), seen(2, true, 5)]]), 0);
        // It was its third round.
        assert_eq!(flapped([&then, &then, &[seen(1, false, 9), seen(2, true, 0)]]), 0);
        // It keeps it.
        assert_eq!(flapped([&before, &then, &[seen(1, true, 9), seen(2, true, 0)]]), 0);
        // It took much and gave little.
        let mut owing = seen(1, false, 9);
        owing.got = CREDIT + 1;
        assert_eq!(flapped([&before, &then, &[owing, seen(2, true, 0)]]), 0);
        // It wants nothing any more.
        let mut sated = seen(1, false, 9);
        sated.interested = false;
        assert_eq!(flapped([&before, &then, &[sated, seen(2, true, 0)]]), 0);
        // It wanted nothing for a moment.
        let mut blinked = seen(1, false, 9);
        blinked.interest_ended = 1;
        assert_eq!(flapped([&before, &then, &[blinked, seen(2, true, 0)]]), 0);
    }

    #[test]
    fn looks_that_are_far_apart_tell_nothing() {
        let mut flaps = Flaps::default();
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        assert!(flaps.is_due(at(0)));
        assert_eq!(flaps.look(at(0), &[]), None);
        assert!(!flaps.is_due(at(9)) && flaps.is_due(at(10)));
        flaps.last = vec![seen(1, true, 0)];
        assert_eq!(flaps.look(at(40), &[]), None);
        assert!(flaps.before.is_empty());
    }
}
