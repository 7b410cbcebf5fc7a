//! The addresses of a swarm that we know of, and when to try them.
//!
//! There are four kinds, which take turns: what the embedder names and what trackers name, not tried
//! yet, each in the order in which it came; and those that are to be tried again, where somebody
//! answered once and where nobody ever did. So a tracker that names thousands of addresses at which
//! nobody is delays and displaces none of the others. One that failed waits, twice as long each
//! time, and is given up after [`FAILURES_MAX`]. A banned address is remembered and never tried or
//! accepted.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::net::{IpAddr, SocketAddr};

use crate::time::{Duration, Instant};

/// Addresses that are kept for one torrent; more are dropped.
pub(crate) const KNOWN_MAX: usize = 4096;

/// Banned addresses that are kept for one torrent; beyond that the lowest is forgotten.
pub(crate) const BANNED_MAX: usize = 4096;

/// Failures in a row after which an address is forgotten.
pub(crate) const FAILURES_MAX: u8 = 6;

/// Pause after the first failure; it doubles.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// Pause before an address is tried again that we talked to.
const REVISIT_AFTER: Duration = Duration::from_mins(1);

/// What takes turns: both of `fresh`, both of `later`.
const KINDS: u8 = 4;

/// Who told us of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Whoever runs the session.
    Embedder,
    /// A tracker, which may say anything.
    Tracker,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Known {
    addresses: BTreeMap<SocketAddr, Entry>,
    /// For each origin.
    fresh: [VecDeque<SocketAddr>; 2],
    /// Those that wait: where nobody ever answered, and where somebody did.
    later: [BTreeSet<(Instant, SocketAddr)>; 2],
    /// Which of the four has its turn.
    turn: u8,
    banned: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u8,
    /// Somebody is there, or was.
    answered: bool,
    /// It is tried in the second of the two ways, encrypted or not.
    second: bool,
    /// Only the swarm of the v2 hash of a hybrid torrent is known to have it (BEP 52).
    v2: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Fresh,
    Later(Instant),
    /// A connection, or an attempt.
    InUse,
}

impl Known {
    /// Takes an address in. Returns whether it is new. When there is no room, one that a tracker
    /// named last makes room for one that the embedder names.
    pub(crate) fn add(&mut self, address: SocketAddr, from: Origin) -> bool {
        let address = canonical(address);
        let useless = address.port() == 0
            || address.ip().is_unspecified()
            || address.ip().is_multicast()
            || self.banned.contains(&address.ip());
        if useless || self.addresses.contains_key(&address) {
            return false;
        }
        if self.addresses.len() >= KNOWN_MAX {
            let last = match from {
                Origin::Embedder => self.fresh[Origin::Tracker as usize].pop_back(),
                Origin::Tracker => None,
            };
            let Some(last) = last else { return false };
            self.addresses.remove(&last);
        }
        let entry =
            Entry { failures: 0, answered: false, second: false, v2: false, place: Place::Fresh };
        self.addresses.insert(address, entry);
        self.fresh[from as usize].push_back(address);
        true
    }

    /// Notes in which swarm of a hybrid torrent an address was found, that is new or not. Who is in
    /// both is greeted as one of the v1 swarm, and upgraded.
    pub(crate) fn found(&mut self, address: SocketAddr, v2: bool, is_new: bool) {
        if let Some(entry) = self.addresses.get_mut(&canonical(address)) {
            entry.v2 = v2 && (is_new || entry.v2);
        }
    }

    /// Whether only the v2 swarm is known to have it.
    pub(crate) fn is_v2(&self, address: SocketAddr) -> bool {
        self.addresses.get(&canonical(address)).is_some_and(|entry| entry.v2)
    }

    /// The next address to try, which is then in use.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        let turn = self.turn;
        let mut kinds = (0..KINDS).map(|step| (turn + step) % KINDS);
        let (kind, address) = kinds.find_map(|kind| Some((kind, self.first(kind, now)?)))?;
        self.turn = kind + 1;
        let entry = self.addresses.get_mut(&address).expect("queued addresses are known");
        entry.place = Place::InUse;
        Some(address)
    }

    /// Takes the next one of a kind out.
    fn first(&mut self, kind: u8, now: Instant) -> Option<SocketAddr> {
        let at = usize::from(kind % 2);
        if kind < 2 {
            let fresh = &mut self.fresh[at];
            let address = fresh.pop_front();
            if fresh.is_empty() {
                *fresh = VecDeque::new();
            }
            return address;
        }
        let later = &mut self.later[at];
        later.first().is_some_and(|(at, _)| *at <= now).then(|| later.pop_first())?.map(|it| it.1)
    }

    /// When [`next`](Self::next) will have one; none if nobody is left to try.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.has_fresh() {
            return Some(now);
        }
        self.later.iter().filter_map(|later| Some(later.first()?.0)).min()
    }

    /// A connection is up.
    pub(crate) fn answered(&mut self, address: SocketAddr) {
        let Some(entry) = self.addresses.get_mut(&canonical(address)) else { return };
        if entry.place == Place::InUse {
            entry.answered = true;
        }
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Instant) {
        let address = canonical(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if entry.place != Place::InUse {
            return;
        }
        entry.failures += 1;
        if entry.failures >= FAILURES_MAX {
            self.addresses.remove(&address);
            return;
        }
        let at = now + RETRY_AFTER * (1 << entry.failures);
        entry.place = Place::Later(at);
        self.later[usize::from(entry.answered)].insert((at, address));
    }

    /// An attempt failed, perhaps since the way in which we began is not welcome there: the other
    /// way is tried at once, and the first again after that.
    pub(crate) fn unwelcome(&mut self, address: SocketAddr, now: Instant) {
        let address = canonical(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        entry.second = !entry.second;
        if entry.second {
            self.put_back(address);
        } else {
            self.failed(address, now);
        }
    }

    /// Whether an address is tried in the second of the two ways.
    pub(crate) fn is_second(&self, address: SocketAddr) -> bool {
        self.addresses.get(&canonical(address)).is_some_and(|entry| entry.second)
    }

    /// A connection ended that had come to something.
    pub(crate) fn ended(&mut self, address: SocketAddr, now: Instant) {
        let address = canonical(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if entry.place == Place::InUse {
            let at = now + REVISIT_AFTER;
            *entry = Entry { failures: 0, place: Place::Later(at), ..*entry };
            self.later[usize::from(entry.answered)].insert((at, address));
        }
    }

    /// A connection, or an attempt, was given up for reasons of our own: it can be tried again at
    /// any time.
    pub(crate) fn put_back(&mut self, address: SocketAddr) {
        let address = canonical(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if entry.place == Place::InUse {
            entry.place = Place::Fresh;
            // It is as good as any that the embedder names: we chose it once.
            self.fresh[Origin::Embedder as usize].push_back(address);
        }
    }

    /// It is not worth trying again: it is us, or does not speak our language.
    pub(crate) fn forget(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if let Some(entry) = self.addresses.remove(&address) {
            match entry.place {
                Place::Fresh => {
                    self.fresh.iter_mut().for_each(|fresh| fresh.retain(|it| *it != address));
                }
                Place::Later(at) => {
                    self.later[usize::from(entry.answered)].remove(&(at, address));
                }
                Place::InUse => {}
            }
        }
    }

    /// Nobody at this address is talked to again.
    pub(crate) fn ban(&mut self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let theirs = |address: &SocketAddr| address.ip() == ip;
        self.addresses.retain(|address, _| !theirs(address));
        self.fresh.iter_mut().for_each(|fresh| fresh.retain(|address| !theirs(address)));
        self.later.iter_mut().for_each(|later| later.retain(|(_, address)| !theirs(address)));
        if self.banned.len() >= BANNED_MAX {
            self.banned.pop_first();
        }
        self.banned.insert(ip)
    }

    pub(crate) fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.contains(&ip.to_canonical())
    }

    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether [`next`](Self::next) may ever have one again.
    pub(crate) fn has_candidates(&self) -> bool {
        self.has_fresh() || self.later.iter().any(|later| !later.is_empty())
    }

    fn has_fresh(&self) -> bool {
        self.fresh.iter().any(|fresh| !fresh.is_empty())
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 1000))
    }

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn addresses_are_tried_in_order_and_once() {
        let mut known = Known::default();
        assert!(known.add(address(1), Origin::Tracker) && known.add(address(2), Origin::Tracker));
        assert!(!known.add(address(1), Origin::Tracker));
        assert_eq!(known.next(at(0)), Some(address(1)));
        assert!(!known.add(address(1), Origin::Tracker));
        assert_eq!(known.next(at(0)), Some(address(2)));
        assert_eq!(known.next(at(0)), None);
    }

    #[test]
    fn who_was_found_in_both_swarms_of_a_hybrid_torrent_counts_as_of_the_v1_swarm() {
        let mut known = Known::default();
        let mut found = |last, v2| {
            let is_new = known.add(address(last), Origin::Tracker);
            known.found(address(last), v2, is_new);
            known.is_v2(address(last))
        };
        assert!(found(1, true) && found(1, true));
        assert!(!found(1, false) && !found(1, true));
        assert!(!found(2, false) && !found(2, true));
        // What was known otherwise before is not only known there.
        assert!(known.add(address(3), Origin::Embedder));
        known.found(address(3), true, false);
        assert!(!known.is_v2(address(3)) && !known.is_v2(address(4)));
    }

    #[test]
    fn many_addresses_of_a_tracker_neither_delay_nor_displace_what_the_embedder_names() {
        let mut known = Known::default();
        let many = |number: usize| {
            let [.., high, low] = number.to_be_bytes();
            SocketAddr::from(([198, 18, high, low], 1000))
        };
        let taken = (0..2 * KNOWN_MAX).filter(|at| known.add(many(*at), Origin::Tracker)).count();
        assert_eq!(taken, KNOWN_MAX);
        assert!(known.add(address(1), Origin::Embedder) && known.add(address(2), Origin::Embedder));
        assert_eq!(known.len(), KNOWN_MAX);
        let first: Vec<_> = (0..4).filter_map(|_| known.next(at(0))).collect();
        assert_eq!(first, [address(1), many(0), address(2), many(1)]);
    }

    #[test]
    fn thousands_where_nobody_is_do_not_keep_us_from_those_who_answered() {
        let mut known = Known::default();
        for last in [1, 2] {
            known.add(address(last), Origin::Embedder);
            assert_eq!(known.next(at(0)), Some(address(last)));
        }
        for number in 0..1_000_u16 {
            let [high, low] = number.to_be_bytes();
            known.add(SocketAddr::from(([198, 18, high, low], 1000)), Origin::Tracker);
        }
        // One was talked to, the other one refused us for now.
        known.answered(address(1));
        known.ended(address(1), at(0));
        known.answered(address(2));
        known.failed(address(2), at(0));
        // Others that failed wait, too.
        let failed: Vec<_> = (0..100).filter_map(|_| known.next(at(1))).collect();
        for address in &failed {
            known.failed(*address, at(1));
        }
        assert!(!failed.contains(&address(1)) && !failed.contains(&address(2)));
        let then = at(1) + REVISIT_AFTER;
        let next: Vec<_> = (0..6).filter_map(|_| known.next(then)).collect();
        assert!(next.contains(&address(1)) && next.contains(&address(2)), "{next:?}");
        assert_eq!(next.iter().filter(|next| failed.contains(next)).count(), 2);
        assert_eq!(known.next_at(then), Some(then), "those that are new have their turn");
        // Such a one that is not there any more is tried again as others are.
        known.failed(address(1), then);
        assert!((0..900).filter_map(|_| known.next(then)).all(|next| next != address(1)));
    }

    #[test]
    fn failures_make_the_pauses_longer_and_then_end_it() {
        let mut known = Known::default();
        known.add(address(1), Origin::Tracker);
        let mut now = at(0);
        let mut tries = 0;
        while let Some(next) = known.next_at(now) {
            assert!(next <= now + Duration::from_mins(10));
            now = now.max(next);
            assert_eq!(known.next(now), Some(address(1)));
            known.failed(address(1), now);
            tries += 1;
        }
        assert_eq!(tries, FAILURES_MAX);
        assert_eq!(known.len(), 0);
    }

    #[test]
    fn whoever_does_not_like_how_we_began_is_tried_the_other_way_once_and_at_once() {
        let mut known = Known::default();
        known.add(address(1), Origin::Tracker);
        for round in 0..2 {
            let mut now = at(1_000 * round);
            for second in [false, true] {
                assert_eq!(known.next(now), Some(address(1)));
                assert_eq!(known.is_second(address(1)), second);
                known.unwelcome(address(1), now);
            }
            assert_eq!(known.next(now), None);
            now += Duration::from_secs(1);
            assert!(known.next_at(now).is_some_and(|next| next > now));
        }
        // What worked is what is tried first the next time.
        let now = at(5_000);
        known.next(now);
        known.unwelcome(address(1), now);
        known.next(now);
        known.ended(address(1), now);
        assert!(known.is_second(address(1)));
    }

    #[test]
    fn who_was_left_for_our_own_reasons_is_tried_again_at_once() {
        let mut known = Known::default();
        known.add(address(1), Origin::Tracker);
        assert_eq!(known.next(at(0)), Some(address(1)));
        known.put_back(address(1));
        known.put_back(address(1));
        assert_eq!(known.next(at(0)), Some(address(1)));
        assert_eq!(known.next(at(0)), None);
    }

    #[test]
    fn a_banned_address_is_gone_on_every_port() {
        let mut known = Known::default();
        known.add(address(1), Origin::Tracker);
        known.ban(address(1).ip());
        assert_eq!(known.next(at(0)), None);
        assert!(!known.add(SocketAddr::new(address(1).ip(), 7), Origin::Embedder));
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().expect("an address");
        assert!(known.is_banned(mapped.ip()) && !known.add(mapped, Origin::Embedder));
    }

    #[test]
    fn addresses_that_cannot_be_peers_are_not_taken() {
        let mut known = Known::default();
        for text in ["0.0.0.0:1", "192.0.2.1:0", "224.0.0.1:1", "[::]:1"] {
            assert!(!known.add(text.parse().expect("an address"), Origin::Tracker), "{text}");
        }
    }
}
