//! What a tracker remembers: swarms, and the peers in them. Knows nothing of transports.
//!
//! A peer goes by the address its announce came from and the port it told; so nobody can displace
//! or speak for another. Peers are returned from a random walk over a dense table, in time that
//! depends on how many are wanted, not on how many there are. Whoever was not heard of for
//! [`Limits::lifetime`] is not returned, and is removed by [`Swarms::sweep`] a little later.
//!
//! Counts of downloads live as long as their swarm has peers.

use alloc::vec::Vec;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;

use hashbrown::HashMap;

use super::announce::{AnnounceEvent, Peer};
use super::udp::Counts;
use crate::http::url::Scope;
use crate::ids::{InfoHash, PeerId};
use crate::rng::{KeyedHasher, Rng, Seed};
use crate::time::{Duration, Instant};

/// Up to this many peers of a family are searched one by one; above it there is an index.
const SCAN_MAX: usize = 16;

/// Swarms looked at to find one that may be forgotten for a new one.
const EVICT_TRIES: u32 = 8;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Swarms. Above it a new one takes the place of one with at most one peer, if a few random
    /// looks find such a one; else it is refused.
    pub torrents: usize,
    /// Peers in one swarm. Above it new ones are answered and not remembered.
    pub peers_per_torrent: usize,
    /// Peers in all swarms, likewise.
    pub peers: usize,
    /// How long a peer that is not heard of is remembered.
    pub lifetime: Duration,
}

impl Default for Limits {
    /// 100,000 swarms, 20,000 peers each, 2,000,000 in all (some 100 MiB), an hour.
    fn default() -> Self {
        Self {
            torrents: 100_000,
            peers_per_torrent: 20_000,
            peers: 2_000_000,
            lifetime: Duration::from_hours(1),
        }
    }
}

/// What a peer announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The swarm.
    pub info_hash: InfoHash,
    /// Where the announce came from, with the port that it told.
    pub peer: SocketAddr,
    /// How the peer calls itself.
    pub id: PeerId,
    /// Whether it has everything.
    pub seeder: bool,
    /// Why it announces.
    pub event: AnnounceEvent,
    /// Peers wanted.
    pub num_want: usize,
}

/// There is no room for a new swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tracker is full")]
pub struct Full;

#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    ip: A,
    port: u16,
    id: PeerId,
    /// When it was heard of last, in seconds.
    seen: u32,
}

/// The peers of one family: seeders first, then the others.
#[derive(Debug)]
struct Family<A> {
    entries: Vec<Entry<A>>,
    seeders: usize,
    index: Option<HashMap<(A, u16), u32, KeyedHasher>>,
}

impl<A: Copy + Eq + Hash> Family<A> {
    const fn new() -> Self {
        Self { entries: Vec::new(), seeders: 0, index: None }
    }

    fn find(&self, key: (A, u16)) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&key).map(|place| *place as usize),
            None => self.entries.iter().position(|entry| (entry.ip, entry.port) == key),
        }
    }

    fn note_place(&mut self, place: usize) {
        if let (Some(index), Some(entry)) = (&mut self.index, self.entries.get(place)) {
            index.insert((entry.ip, entry.port), place as u32);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.entries.swap(a, b);
            self.note_place(a);
            self.note_place(b);
        }
    }

    fn insert(&mut self, entry: Entry<A>, seeder: bool, hasher: KeyedHasher) {
        self.entries.push(entry);
        if self.index.is_none() && self.entries.len() > SCAN_MAX {
            let places = self.entries.iter().enumerate();
            let mut index = HashMap::with_hasher(hasher);
            index.extend(places.map(|(place, entry)| ((entry.ip, entry.port), place as u32)));
            self.index = Some(index);
        }
        let last = self.entries.len() - 1;
        self.note_place(last);
        self.set_seeder(last, seeder);
    }

    /// Moves the peer at `place` to the seeders or to the others.
    fn set_seeder(&mut self, place: usize, seeder: bool) {
        if seeder && place >= self.seeders {
            self.swap(place, self.seeders);
            self.seeders += 1;
        } else if !seeder && place < self.seeders {
            self.seeders -= 1;
            self.swap(place, self.seeders);
        }
    }

    fn remove(&mut self, place: usize) {
        let mut place = place;
        if place < self.seeders {
            self.seeders -= 1;
            self.swap(place, self.seeders);
            place = self.seeders;
        }
        let gone = self.entries.swap_remove(place);
        if let Some(index) = &mut self.index {
            index.remove(&(gone.ip, gone.port));
        }
        self.note_place(place);
        if self.entries.len() <= SCAN_MAX / 2 {
            self.index = None;
        }
        if self.entries.capacity() > 4 * self.entries.len().max(4) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Removes who was heard of before `oldest`; returns how many.
    fn prune(&mut self, oldest: u32) -> usize {
        let (mut place, before) = (0, self.entries.len());
        while let Some(entry) = self.entries.get(place) {
            if entry.seen < oldest {
                self.remove(place);
            } else {
                place += 1;
            }
        }
        before - self.entries.len()
    }

    /// Shows `take` random entries of `range`, each at most once, until it had enough.
    fn walk(&self, rng: &mut Rng, range: Range<usize>, mut take: impl FnMut(&Entry<A>) -> bool) {
        let len = range.len() as u64;
        if len == 0 {
            return;
        }
        let mut place = u64::from(rng.below(len as u32));
        // Steps of a length without a common divisor visit every place once.
        let mut step = u64::from(rng.below(len as u32));
        while gcd(step, len) != 1 {
            step = (step + 1) % len.max(2);
        }
        for _ in 0..len {
            let entry = &self.entries[range.start + place as usize];
            if !take(entry) {
                return;
            }
            place = (place + step) % len;
        }
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[derive(Debug)]
struct Swarm {
    info_hash: InfoHash,
    v4: Family<Ipv4Addr>,
    v6: Family<Ipv6Addr>,
    downloaded: u32,
}

impl Swarm {
    const fn len(&self) -> usize {
        self.v4.entries.len() + self.v6.entries.len()
    }

    const fn counts(&self) -> Counts {
        let seeders = self.v4.seeders + self.v6.seeders;
        Counts {
            seeders: seeders as u32,
            leechers: (self.len() - seeders) as u32,
            downloaded: self.downloaded,
        }
    }
}

/// What an announce changed.
#[derive(Clone, Copy, Default)]
struct Change {
    added: bool,
    removed: bool,
    finished: bool,
}

/// All swarms of a tracker.
#[derive(Debug)]
pub struct Swarms {
    limits: Limits,
    hasher: KeyedHasher,
    rng: Rng,
    index: HashMap<InfoHash, u32, KeyedHasher>,
    table: Vec<Swarm>,
    peers: usize,
    /// Where the sweep is.
    cursor: usize,
}

impl Swarms {
    /// No swarms yet.
    pub fn new(limits: Limits, seed: &Seed) -> Self {
        let hasher = seed.hasher("tracker swarms");
        Self {
            limits,
            hasher,
            rng: seed.stream("tracker swarms", 0),
            index: HashMap::with_hasher(hasher),
            table: Vec::new(),
            peers: 0,
            cursor: 0,
        }
    }

    /// Swarms remembered.
    pub const fn torrents(&self) -> usize {
        self.table.len()
    }

    /// Peers remembered, in all swarms.
    pub const fn peers(&self) -> usize {
        self.peers
    }

    /// Takes in an announce, and appends peers for whoever made it to `peers`: those of its own
    /// family first, others for a seeder never, itself never. Who stops gets none.
    pub fn announce(
        &mut self,
        now: Instant,
        announce: &Announce,
        peers: &mut Vec<Peer>,
    ) -> Result<Counts, Full> {
        let stopped = announce.event == AnnounceEvent::Stopped;
        let Some(place) = self.place(announce.info_hash, !stopped)? else {
            return Ok(Counts::default());
        };
        let room = self.peers < self.limits.peers
            && self.table[place].len() < self.limits.peers_per_torrent;
        let seen = seconds(now);
        let swarm = &mut self.table[place];
        let change = match announce.peer.ip().to_canonical() {
            IpAddr::V4(ip) => apply(&mut swarm.v4, ip, announce, seen, room, self.hasher),
            IpAddr::V6(ip) => apply(&mut swarm.v6, ip, announce, seen, room, self.hasher),
        };
        swarm.downloaded = swarm.downloaded.saturating_add(u32::from(change.finished));
        self.peers += usize::from(change.added);
        self.peers -= usize::from(change.removed);
        if !stopped {
            self.select(now, place, announce, peers);
        }
        let counts = self.table[place].counts();
        if self.table[place].len() == 0 && counts.downloaded == 0 {
            self.forget(place);
        }
        Ok(counts)
    }

    /// What is known of a swarm; zeros if nothing is.
    pub fn scrape(&self, info_hash: &InfoHash) -> Counts {
        let place = self.index.get(info_hash);
        place.map_or_else(Counts::default, |place| self.table[*place as usize].counts())
    }

    /// Removes peers that were not heard of for too long from the next `count` swarms, and swarms
    /// that are empty then. Called in time for all swarms to have their turn within a lifetime.
    pub fn sweep(&mut self, now: Instant, count: usize) {
        let oldest = self.oldest(now);
        for _ in 0..count.min(self.table.len()) {
            if self.cursor >= self.table.len() {
                self.cursor = 0;
            }
            let Some(swarm) = self.table.get_mut(self.cursor) else { return };
            self.peers -= swarm.v4.prune(oldest) + swarm.v6.prune(oldest);
            if swarm.len() == 0 {
                self.forget(self.cursor);
            } else {
                self.cursor += 1;
            }
        }
    }

    /// Who was heard of before this is too old.
    fn oldest(&self, now: Instant) -> u32 {
        seconds(now - self.limits.lifetime)
    }

    /// The place of a swarm; if it is new, it gets one if it may.
    fn place(&mut self, info_hash: InfoHash, create: bool) -> Result<Option<usize>, Full> {
        if let Some(place) = self.index.get(&info_hash) {
            return Ok(Some(*place as usize));
        }
        if !create {
            return Ok(None);
        }
        if self.table.len() >= self.limits.torrents {
            let len = self.table.len() as u32;
            let rng = &mut self.rng;
            let mut tries = (0..EVICT_TRIES).map(|_| rng.below(len) as usize);
            let table = &self.table;
            let small = |place: &usize| table.get(*place).is_some_and(|swarm| swarm.len() <= 1);
            let place = tries.find(small).ok_or(Full)?;
            self.peers -= self.table[place].len();
            self.forget(place);
        }
        let place = self.table.len();
        self.index.insert(info_hash, place as u32);
        self.table.push(Swarm { info_hash, v4: Family::new(), v6: Family::new(), downloaded: 0 });
        Ok(Some(place))
    }

    fn forget(&mut self, place: usize) {
        let gone = self.table.swap_remove(place);
        self.index.remove(&gone.info_hash);
        if let Some(moved) = self.table.get(place) {
            self.index.insert(moved.info_hash, place as u32);
        }
    }

    fn select(&mut self, now: Instant, place: usize, announce: &Announce, peers: &mut Vec<Peer>) {
        let oldest = self.oldest(now);
        let swarm = &self.table[place];
        let asker = SocketAddr::new(announce.peer.ip().to_canonical(), announce.peer.port());
        let here = Scope::of(asker.ip()) == Scope::Loopback;
        let end = peers.len() + announce.num_want;
        let mut take = |ip: IpAddr, port: u16, id: PeerId, seen: u32| {
            if peers.len() >= end {
                return false;
            }
            let address = SocketAddr::new(ip, port);
            // This machine's own peers are of use to this machine only.
            let of_use = here || Scope::of(ip) != Scope::Loopback;
            if seen >= oldest && address != asker && of_use {
                peers.push(Peer { address, id: Some(id) });
            }
            true
        };
        let range = |len: usize, seeders: usize| {
            let first = if announce.seeder { seeders } else { 0 };
            first..len
        };
        let v4 = range(swarm.v4.entries.len(), swarm.v4.seeders);
        let v6 = range(swarm.v6.entries.len(), swarm.v6.seeders);
        let mut take_v4 = |e: &Entry<Ipv4Addr>| take(IpAddr::V4(e.ip), e.port, e.id, e.seen);
        if asker.is_ipv4() {
            swarm.v4.walk(&mut self.rng, v4.clone(), &mut take_v4);
        }
        let mut take_v6 = |e: &Entry<Ipv6Addr>| take(IpAddr::V6(e.ip), e.port, e.id, e.seen);
        swarm.v6.walk(&mut self.rng, v6, &mut take_v6);
        let mut take_v4 = |e: &Entry<Ipv4Addr>| take(IpAddr::V4(e.ip), e.port, e.id, e.seen);
        if asker.is_ipv6() {
            swarm.v4.walk(&mut self.rng, v4, &mut take_v4);
        }
    }
}

fn seconds(at: Instant) -> u32 {
    u32::try_from(at.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

fn apply<A: Copy + Eq + Hash>(
    family: &mut Family<A>,
    ip: A,
    announce: &Announce,
    seen: u32,
    room: bool,
    hasher: KeyedHasher,
) -> Change {
    let port = announce.peer.port();
    let known = family.find((ip, port));
    if announce.event == AnnounceEvent::Stopped {
        if let Some(place) = known {
            family.remove(place);
        }
        return Change { removed: known.is_some(), ..Change::default() };
    }
    let completed = announce.event == AnnounceEvent::Completed && announce.seeder;
    match known {
        Some(place) => {
            let entry = &mut family.entries[place];
            entry.seen = seen;
            entry.id = announce.id;
            let was_seeder = place < family.seeders;
            family.set_seeder(place, announce.seeder);
            Change { finished: completed && !was_seeder, ..Change::default() }
        }
        None if room => {
            let entry = Entry { ip, port, id: announce.id, seen };
            family.insert(entry, announce.seeder, hasher);
            Change { added: true, finished: completed, removed: false }
        }
        None => Change::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOW: Instant = Instant::ORIGIN;

    fn swarms(limits: Limits) -> Swarms {
        Swarms::new(limits, &Seed::from_number(1))
    }

    fn from(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), port)
    }

    fn announce(hash: u8, peer: SocketAddr) -> Announce {
        Announce {
            info_hash: InfoHash([hash; 20]),
            peer,
            id: PeerId([0; 20]),
            seeder: false,
            event: AnnounceEvent::None,
            num_want: 50,
        }
    }

    fn tell(swarms: &mut Swarms, now: Instant, announce: &Announce) -> (Counts, Vec<SocketAddr>) {
        let mut peers = Vec::new();
        let counts = swarms.announce(now, announce, &mut peers).expect("room");
        (counts, peers.iter().map(|peer| peer.address).collect())
    }

    #[test]
    fn a_seeder_gets_leechers_only_and_nobody_gets_itself() {
        let mut swarms = swarms(Limits::default());
        let (a, b, c) = (from("192.0.2.1", 1), from("192.0.2.1", 2), from("192.0.2.3", 1));
        let seeder = |peer| Announce { seeder: true, ..announce(1, peer) };
        assert_eq!(tell(&mut swarms, NOW, &seeder(a)).1, []);
        assert_eq!(tell(&mut swarms, NOW, &seeder(b)).1, []);
        let (counts, peers) = tell(&mut swarms, NOW, &announce(1, c));
        assert_eq!((counts.seeders, counts.leechers, peers.len()), (2, 1, 2));
        assert_eq!(tell(&mut swarms, NOW, &seeder(a)).1, [c]);
    }

    #[test]
    fn a_download_counts_once() {
        let mut swarms = swarms(Limits::default());
        let peer = from("192.0.2.1", 1);
        tell(&mut swarms, NOW, &announce(1, peer));
        let completed =
            Announce { seeder: true, event: AnnounceEvent::Completed, ..announce(1, peer) };
        for _ in 0..3 {
            assert_eq!(tell(&mut swarms, NOW, &completed).0.downloaded, 1);
        }
        assert_eq!(swarms.scrape(&InfoHash([1; 20])).seeders, 1);
        assert_eq!(swarms.scrape(&InfoHash([2; 20])), Counts::default());
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let mut swarms = swarms(Limits::default());
        let (a, b) = (from("192.0.2.1", 1), from("2001:db8::1", 1));
        tell(&mut swarms, NOW, &announce(1, a));
        let later = NOW + Duration::from_hours(1) + Duration::from_secs(1);
        assert_eq!(tell(&mut swarms, later, &announce(1, b)).1, []);
        swarms.sweep(later, 10);
        assert_eq!((swarms.torrents(), swarms.peers()), (1, 1));
        swarms.sweep(later + Duration::from_hours(2), 10);
        assert_eq!((swarms.torrents(), swarms.peers()), (0, 0));
        assert!(swarms.index.is_empty());
    }

    #[test]
    fn a_flood_of_hashes_stays_below_the_limit_and_hot_swarms_survive() {
        let mut swarms = swarms(Limits { torrents: 50, ..Limits::default() });
        for port in 1..=5 {
            tell(&mut swarms, NOW, &announce(0, from("192.0.2.1", port)));
        }
        for n in 0..5_000_u32 {
            let mut flood = announce(1, from("192.0.2.9", 9));
            flood.info_hash.0[..4].copy_from_slice(&n.to_be_bytes());
            tell(&mut swarms, NOW, &flood);
            assert!(swarms.torrents() <= 50);
        }
        assert_eq!(swarms.scrape(&InfoHash([0; 20])).leechers, 5);
        assert_eq!(swarms.peers(), 49 + 5);
    }

    #[test]
    fn a_tracker_full_of_living_swarms_refuses_new_ones() {
        let mut swarms = swarms(Limits { torrents: 1, ..Limits::default() });
        for port in 1..=2 {
            tell(&mut swarms, NOW, &announce(0, from("192.0.2.1", port)));
        }
        let refused = swarms.announce(NOW, &announce(1, from("192.0.2.1", 1)), &mut Vec::new());
        assert_eq!(refused, Err(Full));
    }

    #[test]
    fn peers_beyond_the_limit_are_answered_and_not_remembered() {
        let mut swarms = swarms(Limits { peers_per_torrent: 2, ..Limits::default() });
        for port in 1..=4 {
            let (counts, _) = tell(&mut swarms, NOW, &announce(0, from("192.0.2.1", port)));
            assert!(counts.leechers <= 2);
        }
        let (_, peers) = tell(&mut swarms, NOW, &announce(0, from("192.0.2.1", 9)));
        assert_eq!(peers.len(), 2);
    }

    #[test]
    fn each_peer_is_chosen_about_equally_often() {
        let mut swarms = swarms(Limits::default());
        for port in 1..=60 {
            tell(&mut swarms, NOW, &announce(0, from("192.0.2.1", port)));
        }
        let mut seen = [0_u32; 61];
        for _ in 0..2_000 {
            let ask = Announce { num_want: 15, ..announce(0, from("192.0.2.1", 1)) };
            for peer in tell(&mut swarms, NOW, &ask).1 {
                seen[usize::from(peer.port())] += 1;
            }
        }
        assert!(seen[2..].iter().all(|count| (350..=700).contains(count)), "{seen:?}");
        assert_eq!(seen[1], 0);
    }

    #[test]
    fn peers_on_this_machine_are_told_to_this_machine_only() {
        let mut swarms = swarms(Limits::default());
        let local = from("::ffff:127.0.0.1", 1);
        tell(&mut swarms, NOW, &announce(0, local));
        assert_eq!(tell(&mut swarms, NOW, &announce(0, from("192.0.2.1", 1))).1, []);
        let (_, peers) = tell(&mut swarms, NOW, &announce(0, from("127.0.0.1", 2)));
        assert!(peers.contains(&from("127.0.0.1", 1)) && peers.len() == 2);
    }

    proptest! {
        #[test]
        fn the_store_agrees_with_a_map(
            steps in prop::collection::vec((0_u8..3, 0_u16..40, 0_u8..4, any::<bool>(), any::<bool>()), 0..300),
        ) {
            let mut swarms = swarms(Limits::default());
            let mut model = BTreeMap::<(u8, SocketAddr), bool>::new();
            for (hash, port, event, seeder, v6) in steps {
                let peer = from(if v6 { "2001:db8::1" } else { "192.0.2.1" }, port + 1);
                let event = [
                    AnnounceEvent::None,
                    AnnounceEvent::Started,
                    AnnounceEvent::Completed,
                    AnnounceEvent::Stopped,
                ][usize::from(event)];
                let ask = Announce { event, seeder, num_want: 100, ..announce(hash, peer) };
                let (counts, mut got) = tell(&mut swarms, NOW, &ask);
                if event == AnnounceEvent::Stopped {
                    model.remove(&(hash, peer));
                    prop_assert!(got.is_empty());
                } else {
                    model.insert((hash, peer), seeder);
                    let of_use = |((h, p), s): (&(u8, SocketAddr), &bool)| {
                        (*h == hash && *p != peer && !(seeder && *s)).then_some(*p)
                    };
                    let expected: Vec<_> = model.iter().filter_map(of_use).collect();
                    got.sort_unstable();
                    prop_assert_eq!(got, expected);
                }
                let all = model.iter().filter(|((h, _), _)| *h == hash);
                let seeders = all.clone().filter(|(_, seeder)| **seeder).count();
                prop_assert_eq!(counts.seeders as usize, seeders);
                prop_assert_eq!(counts.leechers as usize, all.count() - seeders);
                prop_assert_eq!(swarms.peers(), model.len());
            }
        }
    }
}
