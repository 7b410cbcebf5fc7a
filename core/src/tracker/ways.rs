//! The announces of one torrent, in each way in which it can be found.
//!
//! A tracker keeps a swarm for each hash, of which a hybrid torrent has two (BEP 52), and tells who
//! comes over IPv4 little or nothing of those who come over IPv6 (BEP 7). So each tracker is asked
//! once for each [`Way`], by an [`AnnounceList`] of its own: one that only IPv6 leads to serves nobody
//! over IPv4, and who asks for one hash waits for no answer about the other.

use alloc::vec::Vec;
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
    /// How the tracker is reached, and we are by those whom it tells of us; none: by any, once.
    pub family: Option<Family>,
}

/// Names one list of a [`Ways`], for as long as anything of it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(u16);

/// The announces of one torrent. See the [module](self).
#[derive(Debug)]
pub struct Ways {
    lists: SmallVec<[List; 1]>,
}

#[derive(Debug)]
struct List {
    id: ListId,
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
        let lists = SmallVec::from_buf([List { id: ListId(0), way, announces, leaving: false }]);
        Self { lists }
    }

    /// Asks in these ways from now on, at least one. In one that is new, each tracker is begun with;
    /// in one that is gone, those that know us are told that we stopped. Who was asked over any
    /// family goes on as who is asked over the first one of several, and back.
    pub fn set(&mut self, now: Instant, ways: &[Way], mut rng: impl FnMut(Way) -> Rng) {
        if ways.is_empty() {
            return;
        }
        let (policy, running) =
            self.here().next().map_or_else(Default::default, |list| list.announces.standing());
        for way in ways {
            let same = self.lists.iter().position(|list| list.way == *way);
            let near = self.lists.iter().position(|list| {
                let is_any = list.way.family.is_none() != way.family.is_none();
                list.way.v2 == way.v2 && is_any && !ways.contains(&list.way)
            });
            if let Some(list) = same.or(near).map(|at| &mut self.lists[at]) {
                list.way = *way;
                if core::mem::replace(&mut list.leaving, false) && running {
                    list.announces.start(now);
                }
                continue;
            }
            let tiers = self.lists[0].announces.tiers();
            let mut announces = AnnounceList::new(now, policy, tiers, rng(*way));
            if running {
                announces.start(now);
            }
            let id = self.free_id();
            self.lists.push(List { id, way: *way, announces, leaving: false });
        }
        for list in &mut self.lists {
            if !list.leaving && !ways.contains(&list.way) {
                list.leaving = true;
                list.announces.stop(now);
            }
        }
        self.forget_leavers();
    }

    fn free_id(&self) -> ListId {
        let is_free = |id: &ListId| self.lists.iter().all(|list| list.id != *id);
        (0..u16::MAX).map(ListId).find(is_free).expect("there are few lists")
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
        self.lists.iter_mut().for_each(|list| list.announces.set_private(private));
    }

    /// See [`AnnounceList::start`].
    pub fn start(&mut self, now: Instant) {
        self.each().for_each(|list| list.start(now));
    }

    /// See [`AnnounceList::stop`].
    pub fn stop(&mut self, now: Instant) {
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
        self.each().filter_map(|list| list.reannounce_to(now, url).then_some(())).count() > 0
    }

    /// See [`AnnounceList::replace`].
    pub fn replace(&mut self, now: Instant, tiers: &[Vec<TrackerUrl>]) {
        self.each().for_each(|list| list.replace(now, tiers.iter().cloned()));
    }

    /// See [`AnnounceList::poll`]; `facts` says what is told in each way.
    pub fn poll(
        &mut self,
        now: Instant,
        facts: impl Fn(Way) -> Facts,
    ) -> Option<(ListId, Way, Announce)> {
        self.lists.iter_mut().find_map(|list| {
            // Most often nothing is due.
            list.announces.next_deadline().filter(|due| *due <= now)?;
            Some((list.id, list.way, list.announces.poll(now, &facts(list.way))?))
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
        list: ListId,
        tracker: TrackerId,
        result: Result<&AnnounceResponse, &AnnounceError>,
    ) {
        if let Some(list) = self.lists.iter_mut().find(|it| it.id == list) {
            list.announces.on_result(now, tracker, result);
        }
        self.forget_leavers();
    }

    /// The tracker to be asked for counts, and in which way.
    pub fn scraped(&self) -> Option<(ListId, Way, TrackerId, &TrackerUrl)> {
        let list = self.here().next()?;
        list.announces.scraped().map(|(tracker, url)| (list.id, list.way, tracker, url))
    }

    /// See [`AnnounceList::on_scrape`].
    pub fn on_scrape(&mut self, list: ListId, tracker: TrackerId, counts: Counts) {
        if let Some(list) = self.lists.iter_mut().find(|it| it.id == list) {
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

    /// In which way a list asks.
    pub fn way(&self, list: ListId) -> Option<Way> {
        self.lists.iter().find(|it| it.id == list).map(|list| list.way)
    }

    /// The URL of a tracker, if it is still there.
    pub fn url(&self, list: ListId, tracker: TrackerId) -> Option<&TrackerUrl> {
        let list = self.lists.iter().find(|it| it.id == list)?;
        let status = list.announces.trackers().find(|status| status.id == tracker)?;
        Some(status.url)
    }

    /// Whether a tracker answers, or may yet, in another way than that of this list: then it is no
    /// failure that it does not in this.
    pub fn is_served_otherwise(&self, list: ListId, url: &TrackerUrl) -> bool {
        let others = self.here().filter(|other| other.id != list);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{InfoHash, PeerId};
    use crate::rng::Seed;
    use crate::time::Duration;
    use crate::tracker::announce::AnnounceEvent;

    const NOW: Instant = Instant::ORIGIN;
    const ANY: Way = Way { v2: false, family: None };
    const V4: Way = Way { v2: false, family: Some(Family::V4) };
    const V6: Way = Way { v2: false, family: Some(Family::V6) };
    const HALF: Way = Way { v2: true, family: None };

    fn rng(_: Way) -> Rng {
        Seed([3; 32]).stream("announce", 0)
    }

    fn ways(first: Way) -> Ways {
        let url = TrackerUrl::parse("http://t.example/announce").expect("a URL");
        let mut ways = Ways::new(NOW, Policy::default(), [[url]], first, rng(first));
        ways.start(NOW);
        ways
    }

    /// Everything that is due.
    fn due(ways: &mut Ways, now: Instant) -> Vec<(ListId, Way, AnnounceEvent, TrackerId)> {
        let facts = |way: Way| Facts {
            info_hash: InfoHash([u8::from(way.v2); 20]),
            peer_id: PeerId([0; 20]),
            port: 1,
            uploaded: 0,
            downloaded: 0,
            left: Some(0),
            num_want: 0,
            key: 0,
            ipv4: None,
            ipv6: None,
        };
        let mut all = Vec::new();
        while let Some((list, way, announce)) = ways.poll(now, facts) {
            assert_eq!(announce.request.info_hash.0[0], u8::from(way.v2));
            all.push((list, way, announce.request.event, announce.tracker));
        }
        all
    }

    fn answer(ways: &mut Ways, asked: &[(ListId, Way, AnnounceEvent, TrackerId)]) {
        for (list, _, _, tracker) in asked {
            let response = AnnounceResponse::default();
            ways.on_result(NOW, *list, *tracker, Ok(&response));
        }
    }

    fn shown(ways: &Ways) -> (u32, Option<AnnounceError>) {
        let [status] = &ways.trackers().collect::<Vec<_>>()[..] else { panic!("one tracker") };
        (status.fails, status.error.cloned())
    }

    #[test]
    fn a_second_family_is_begun_with_and_the_first_goes_on() {
        let mut ways = ways(ANY);
        let begun = due(&mut ways, NOW);
        assert!(matches!(begun[..], [(_, ANY, AnnounceEvent::Started, _)]));
        // The answer comes while it is of one family already.
        ways.set(NOW, &[V4, V6], rng);
        answer(&mut ways, &begun);
        let more = due(&mut ways, NOW);
        assert!(matches!(more[..], [(_, V6, AnnounceEvent::Started, _)]), "{more:?}");
        answer(&mut ways, &more);
        ways.set(NOW, &[ANY], rng);
        let stopped = due(&mut ways, NOW);
        assert!(matches!(stopped[..], [(_, V6, AnnounceEvent::Stopped, _)]), "{stopped:?}");
        answer(&mut ways, &stopped);
        assert_eq!(ways.lists.len(), 1);
        let later = NOW + Duration::from_hours(1);
        assert!(matches!(due(&mut ways, later)[..], [(_, ANY, AnnounceEvent::None, _)]));
    }

    #[test]
    fn a_second_hash_is_begun_with_once_it_is_known() {
        let mut ways = ways(HALF);
        let begun = due(&mut ways, NOW);
        answer(&mut ways, &begun);
        ways.set(NOW, &[ANY, HALF], rng);
        let more = due(&mut ways, NOW);
        assert!(matches!(more[..], [(_, ANY, AnnounceEvent::Started, _)]), "{more:?}");
        answer(&mut ways, &more);
        ways.stop(NOW);
        assert!(!ways.is_idle());
        let stopped = due(&mut ways, NOW);
        assert_eq!(stopped.len(), 2);
        answer(&mut ways, &stopped);
        assert!(ways.is_idle());
    }

    #[test]
    fn a_tracker_works_if_it_does_in_any_way_and_else_the_reason_that_says_most_is_shown() {
        let mut ways = ways(V4);
        ways.set(NOW, &[V4, V6], rng);
        let asked = due(&mut ways, NOW);
        let [(v4, .., tracker), (v6, .., other)] = asked[..] else { panic!("{asked:?}") };
        let url = ways.url(v4, tracker).expect("there").clone();
        assert!(ways.is_served_otherwise(v6, &url), "it may answer yet");
        ways.on_result(NOW, v6, other, Err(&AnnounceError::OtherFamily));
        assert_eq!(shown(&ways), (0, None));
        ways.on_result(NOW, v4, tracker, Err(&AnnounceError::TimedOut));
        assert!(!ways.is_served_otherwise(v4, &url));
        assert_eq!(shown(&ways), (1, Some(AnnounceError::TimedOut)));
        let again = due(&mut ways, NOW + Duration::from_mins(1));
        let (list, .., tracker) = *again.iter().find(|(_, way, ..)| *way == V4).expect("asked");
        ways.on_result(NOW, list, tracker, Ok(&AnnounceResponse::default()));
        assert_eq!(shown(&ways), (0, None));
        assert!(ways.is_served_otherwise(v6, &url));
    }
}
