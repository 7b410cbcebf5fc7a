//! The announces of one torrent, in each way in which it can be found.
//!
//! A tracker keeps a swarm for each hash, of which a hybrid torrent has two (BEP 52), and tells who
//! comes over IPv4 little or nothing of those who come over IPv6 (BEP 7). So each tracker is asked
//! once for each [`Way`], by an [`AnnounceList`] of its own: one that only IPv6 leads to serves nobody
//! over IPv4, and who asks for one hash waits for no answer about the other.

use core::net::IpAddr;

use smallvec::SmallVec;

use super::announce::{AnnounceError, AnnounceResponse};
use super::tiers::{Announce, AnnounceList, Facts, Policy, TrackerId, TrackerStatus};
use super::udp::Counts;
use super::url::TrackerUrl;
use crate::rng::Rng;
use crate::time::Instant;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What a tracker keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// It is about the swarm of the v2 hash (BEP 52), and not of the v1 hash.
    pub v2: bool,
    /// How the tracker is reached, and we are by those whom it tells of us.
    pub family: Family,
}

/// The announces of one torrent. See the [module](self).
#[derive(Debug)]
pub struct Ways {
    lists: SmallVec<[List; 1]>,
    policy: Policy,
    running: bool,
}

#[derive(Debug)]
struct List {
    way: Way,
    announces: AnnounceList,
    /// Nobody is asked in this way any more; trackers that know us are told.
    leaving: bool,
}

impl Ways {
    /// The trackers in `tiers`, asked in one way, not running yet.
    pub fn new(
        now: Instant,
        policy: Policy,
        tiers: impl IntoIterator<Item = impl IntoIterator<Item = TrackerUrl>>,
        way: Way,
        rng: Rng,
    ) -> Self {
        let announces = AnnounceList::new(now, policy, tiers, rng);
        let lists = SmallVec::from_buf([List { way, announces, leaving: false }]);
        Self { lists, policy, running: false }
    }

    /// Asks in these ways from now on, at least one. In one that is new, each tracker is begun with;
    /// in one that is gone, those that know us are told that we stopped.
    pub fn set(&mut self, now: Instant, ways: &[Way], mut rng: impl FnMut(Way) -> Rng) {
        if ways.is_empty() {
            return;
        }
        for way in ways {
            if let Some(list) = self.lists.iter_mut().find(|list| list.way == *way) {
                if core::mem::replace(&mut list.leaving, false) && self.running {
                    list.announces.start(now);
                }
                continue;
            }
            let tiers = self.lists[0].announces.tiers();
            let mut announces = AnnounceList::new(now, self.policy, tiers, rng(*way));
            if self.running {
                announces.start(now);
            }
            self.lists.push(List { way: *way, announces, leaving: false });
        }
        for list in &mut self.lists {
            if !list.leaving && !ways.contains(&list.way) {
                list.leaving = true;
                list.announces.stop(now);
            }
        }
        self.forget_leavers();
    }

    fn forget_leavers(&mut self) {
        if self.lists.iter().any(|list| !list.leaving) {
            self.lists.retain(|list| !list.leaving || !list.announces.is_idle());
        }
    }

    fn here(&self) -> impl Iterator<Item = &List> {
        self.lists.iter().filter(|list| !list.leaving)
    }

    fn each(&mut self) -> impl Iterator<Item = &mut AnnounceList> {
        self.lists.iter_mut().filter(|list| !list.leaving).map(|list| &mut list.announces)
    }

    /// It turned out whether the torrent is private (BEP 27): a magnet link does not tell.
    pub fn set_private(&mut self, private: bool) {
        self.policy.private = private;
        self.lists.iter_mut().for_each(|list| list.announces.set_private(private));
    }

    /// See [`AnnounceList::start`].
    pub fn start(&mut self, now: Instant) {
        self.running = true;
        self.each().for_each(|list| list.start(now));
    }

    /// See [`AnnounceList::stop`].
    pub fn stop(&mut self, now: Instant) {
        self.running = false;
        self.each().for_each(|list| list.stop(now));
    }

    /// See [`AnnounceList::complete`].
    pub fn complete(&mut self, now: Instant) {
        self.each().for_each(|list| list.complete(now));
    }

    /// See [`AnnounceList::want_peers`].
    pub fn want_peers(&mut self, now: Instant) {
        self.each().for_each(|list| list.want_peers(now));
    }

    /// See [`AnnounceList::reannounce`].
    pub fn reannounce(&mut self, now: Instant) {
        self.each().for_each(|list| list.reannounce(now));
    }

    /// See [`AnnounceList::reannounce_to`].
    pub fn reannounce_to(&mut self, now: Instant, url: &str) -> bool {
        self.each().fold(false, |found, list| list.reannounce_to(now, url) || found)
    }

    /// See [`AnnounceList::replace`].
    pub fn replace(
        &mut self,
        now: Instant,
        tiers: impl IntoIterator<Item = impl IntoIterator<Item = TrackerUrl>> + Clone,
    ) {
        self.each().for_each(|list| list.replace(now, tiers.clone()));
    }

    /// See [`AnnounceList::poll`]; `facts` says what is told in each way.
    pub fn poll(&mut self, now: Instant, facts: impl Fn(Way) -> Facts) -> Option<(Way, Announce)> {
        self.lists.iter_mut().find_map(|list| {
            // Most often nothing is due.
            list.announces.next_deadline().filter(|due| *due <= now)?;
            Some((list.way, list.announces.poll(now, &facts(list.way))?))
        })
    }

    /// See [`AnnounceList::next_deadline`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lists.iter().filter_map(|list| list.announces.next_deadline()).min()
    }

    /// See [`AnnounceList::on_result`].
    pub fn on_result(
        &mut self,
        now: Instant,
        way: Way,
        tracker: TrackerId,
        result: Result<&AnnounceResponse, &AnnounceError>,
    ) {
        if let Some(list) = self.lists.iter_mut().find(|list| list.way == way) {
            list.announces.on_result(now, tracker, result);
        }
        self.forget_leavers();
    }

    /// The tracker to be asked for counts, and in which way.
    pub fn scraped(&self) -> Option<(Way, TrackerId, &TrackerUrl)> {
        let list = self.here().next()?;
        list.announces.scraped().map(|(tracker, url)| (list.way, tracker, url))
    }

    /// See [`AnnounceList::on_scrape`].
    pub fn on_scrape(&mut self, way: Way, tracker: TrackerId, counts: Counts) {
        if let Some(list) = self.lists.iter_mut().find(|list| list.way == way) {
            list.announces.on_scrape(tracker, counts);
        }
    }

    /// Whether nothing is under way and nothing is owed, in any way.
    pub fn is_idle(&self) -> bool {
        self.lists.iter().all(|list| list.announces.is_idle())
    }

    /// See [`AnnounceList::owes_completed`].
    pub fn owes_completed(&self) -> bool {
        self.here().any(|list| list.announces.owes_completed())
    }

    /// The URL of a tracker, if it is still there.
    pub fn url(&self, way: Way, tracker: TrackerId) -> Option<&TrackerUrl> {
        let list = self.lists.iter().find(|list| list.way == way)?;
        let status = list.announces.trackers().find(|status| status.id == tracker)?;
        Some(status.url)
    }

    /// Whether a tracker answers, or may yet, in another way than this one: then it is no failure
    /// that it does not in this.
    pub fn is_served_otherwise(&self, way: Way, url: &TrackerUrl) -> bool {
        let others = self.here().filter(|list| list.way != way);
        others.flat_map(|list| list.announces.trackers()).any(|it| it.url == url && it.fails == 0)
    }

    /// All trackers, in the order in which they are asked in the first way. What is said of each is
    /// the best of what is true in any way; next comes what comes first.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        let first = self.here().next();
        let statuses = first.into_iter().flat_map(|list| list.announces.trackers());
        statuses.map(|status| {
            let others = self.here().skip(1).flat_map(|list| list.announces.trackers());
            others.filter(|other| other.url == status.url).fold(status.clone(), merge)
        })
    }
}

/// What is said of a tracker that is asked in two ways.
fn merge<'a>(one: TrackerStatus<'a>, other: TrackerStatus<'a>) -> TrackerStatus<'a> {
    let works = |status: &TrackerStatus<'_>| status.fails == 0 && status.last_success.is_some();
    let says = |status: &TrackerStatus<'_>| {
        !matches!(status.error, None | Some(AnnounceError::OtherFamily))
    };
    let is_other = !works(&one)
        && (works(&other) || other.fails == 0 && one.fails > 0 || !says(&one) && says(&other));
    let (better, worse) = if is_other { (other, one) } else { (one, other) };
    TrackerStatus {
        announcing: better.announcing.or(worse.announcing),
        knows_us: better.knows_us || worse.knows_us,
        next: [better.next, worse.next].into_iter().flatten().min(),
        last_success: better.last_success.max(worse.last_success),
        warning: better.warning.or(worse.warning),
        seeders: better.seeders.max(worse.seeders),
        leechers: better.leechers.max(worse.leechers),
        downloaded: better.downloaded.max(worse.downloaded),
        peers: better.peers.max(worse.peers),
        ..better
    }
}
