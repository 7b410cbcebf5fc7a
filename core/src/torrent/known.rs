//! The addresses of a swarm that we know of, and when to try them.
//!
//! New addresses are tried in the order in which they came. One that failed is tried again after a
//! pause that doubles with each failure, and given up after [`FAILURES_MAX`]. A banned address is
//! remembered and never tried or accepted.

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

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Known {
    addresses: BTreeMap<SocketAddr, Entry>,
    fresh: VecDeque<SocketAddr>,
    later: BTreeSet<(Instant, SocketAddr)>,
    banned: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u8,
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
    /// Takes an address in. Returns whether it is new.
    pub(crate) fn add(&mut self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let useless = address.port() == 0
            || address.ip().is_unspecified()
            || address.ip().is_multicast()
            || self.banned.contains(&address.ip());
        if useless || self.addresses.len() >= KNOWN_MAX || self.addresses.contains_key(&address) {
            return false;
        }
        self.addresses.insert(address, Entry { failures: 0, place: Place::Fresh });
        self.fresh.push_back(address);
        true
    }

    /// The next address to try, which is then in use.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        let address = if let Some(address) = self.fresh.pop_front() {
            address
        } else {
            let (at, address) = *self.later.first()?;
            if at > now {
                return None;
            }
            self.later.pop_first();
            address
        };
        let entry = self.addresses.get_mut(&address).expect("queued addresses are known");
        entry.place = Place::InUse;
        Some(address)
    }

    /// When [`next`](Self::next) will have one; none if nobody is left to try.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if !self.fresh.is_empty() {
            return Some(now);
        }
        self.later.first().map(|(at, _)| *at)
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
        self.later.insert((at, address));
    }

    /// A connection ended that had come to something.
    pub(crate) fn ended(&mut self, address: SocketAddr, now: Instant) {
        let address = canonical(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if entry.place == Place::InUse {
            let at = now + REVISIT_AFTER;
            *entry = Entry { failures: 0, place: Place::Later(at) };
            self.later.insert((at, address));
        }
    }

    /// A connection, or an attempt, was given up for reasons of our own: it can be tried again at
    /// any time.
    pub(crate) fn put_back(&mut self, address: SocketAddr) {
        let address = canonical(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if entry.place == Place::InUse {
            entry.place = Place::Fresh;
            self.fresh.push_back(address);
        }
    }

    /// It is not worth trying again: it is us, or does not speak our language.
    pub(crate) fn forget(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if let Some(entry) = self.addresses.remove(&address) {
            match entry.place {
                Place::Fresh => self.fresh.retain(|fresh| *fresh != address),
                Place::Later(at) => {
                    self.later.remove(&(at, address));
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
        self.fresh.retain(|address| !theirs(address));
        self.later.retain(|(_, address)| !theirs(address));
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
        !self.fresh.is_empty() || !self.later.is_empty()
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 1000))
    }

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn addresses_are_tried_in_order_and_once() {
        let mut known = Known::default();
        assert!(known.add(address(1)) && known.add(address(2)));
        assert!(!known.add(address(1)));
        assert_eq!(known.next(at(0)), Some(address(1)));
        assert!(!known.add(address(1)));
        assert_eq!(known.next(at(0)), Some(address(2)));
        assert_eq!(known.next(at(0)), None);
    }

    #[test]
    fn failures_make_the_pauses_longer_and_then_end_it() {
        let mut known = Known::default();
        known.add(address(1));
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
    fn who_was_left_for_our_own_reasons_is_tried_again_at_once() {
        let mut known = Known::default();
        known.add(address(1));
        assert_eq!(known.next(at(0)), Some(address(1)));
        known.put_back(address(1));
        known.put_back(address(1));
        assert_eq!(known.next(at(0)), Some(address(1)));
        assert_eq!(known.next(at(0)), None);
    }

    #[test]
    fn a_banned_address_is_gone_on_every_port() {
        let mut known = Known::default();
        known.add(address(1));
        known.ban(address(1).ip());
        assert_eq!(known.next(at(0)), None);
        assert!(!known.add(SocketAddr::new(address(1).ip(), 7)));
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().expect("an address");
        assert!(known.is_banned(mapped.ip()) && !known.add(mapped));
    }

    #[test]
    fn addresses_that_cannot_be_peers_are_not_taken() {
        let mut known = Known::default();
        for text in ["0.0.0.0:1", "192.0.2.1:0", "224.0.0.1:1", "[::]:1"] {
            assert!(!known.add(text.parse().expect("an address")), "{text}");
        }
    }
}
