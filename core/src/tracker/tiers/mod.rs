//! The trackers of one torrent: which to ask, when, and with which event (BEP 3, 12, 27, 31).
//!
//! An [`AnnounceList`] does no I/O. Its owner takes announces from [`poll`](AnnounceList::poll),
//! has them done, and hands back each result, once.
//!
//! ```text
//!   tier 0:  [a] [b]     the first tracker that is not failing is the one that is asked;
//!   tier 1:  [c]         a failure moves on to the next, at once; a success stays, moves to the
//!   tier 2:  [d] [e]     front of its tier (BEP 12), and nobody behind it is asked
//! ```
//!
//! A tracker that failed is asked again after a time that doubles with each failure, whoever
//! answers meanwhile; when it answers, it is again the one that is asked.
//!
//! `started` is the first announce to a tracker in a run, and repeated only until one is
//! answered. `completed` goes once to each tracker that answered a `started`, if the download
//! finished in this run. `stopped` goes once to each of them, answered or not, when the run ends or
//! the tracker leaves the list.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::announce::{AnnounceError, AnnounceEvent, AnnounceRequest, AnnounceResponse, RetryIn};
use super::udp::Counts;
use super::url::TrackerUrl;
use crate::ids::{InfoHash, PeerId};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Trackers of one torrent; more are left out.
pub const TRACKERS_MAX: usize = 128;

/// Time between announces to a tracker that does not say.
pub const INTERVAL_DEFAULT: Duration = Duration::from_mins(30);

/// Shortest time between announces, whatever a tracker says.
pub const INTERVAL_MIN: Duration = Duration::from_mins(1);

/// Longest time between announces, whatever a tracker says.
pub const INTERVAL_MAX: Duration = Duration::from_hours(24);

/// Shortest time before an announce out of turn, for trackers that do not say.
pub const MIN_INTERVAL_DEFAULT: Duration = Duration::from_mins(5);

/// Time before a tracker is asked again after its first failure. Doubles with each; up to as much
/// again is added by chance.
pub const BACKOFF_MIN: Duration = Duration::from_secs(5);

/// Where the doubling ends: with what is added by chance, between this and twice this.
pub const BACKOFF_MAX: Duration = Duration::from_mins(30);

/// Names a tracker of one [`AnnounceList`]; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerId(pub u32);

/// How far an [`AnnounceList`] goes beyond BEP 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Ask all trackers of a tier.
    pub all_trackers: bool,
    /// Ask one tracker (or all) of each tier. Private torrents (BEP 27) never do.
    pub all_tiers: bool,
    /// The torrent is private.
    pub private: bool,
}

/// What a torrent has to tell, when it is asked to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The swarm.
    pub info_hash: InfoHash,
    /// How we call ourselves there.
    pub peer_id: PeerId,
    /// The port we listen on.
    pub port: u16,
    /// Payload bytes sent in this run.
    pub uploaded: u64,
    /// Payload bytes received in this run.
    pub downloaded: u64,
    /// Bytes missing, if known.
    pub left: Option<u64>,
    /// Peers wanted. A `stopped` asks for none.
    pub num_want: u32,
    /// A secret that stays the same.
    pub key: u32,
    /// Our IPv4 address, to be told only to trackers that may know.
    pub ipv4: Option<Ipv4Addr>,
    /// Our IPv6 address, likewise.
    pub ipv6: Option<Ipv6Addr>,
}

/// One announce to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Whose result [`AnnounceList::on_result`] wants.
    pub tracker: TrackerId,
    /// Where.
    pub url: TrackerUrl,
    /// What.
    pub request: AnnounceRequest,
    /// Somebody waits for it: it goes before those of other torrents.
    pub urgent: bool,
}

/// A tracker as people see it.
#[derive(Clone, Debug)]
pub struct TrackerStatus<'a> {
    /// Its name here.
    pub id: TrackerId,
    /// Its tier, from zero.
    pub tier: usize,
    /// Its URL.
    pub url: &'a TrackerUrl,
    /// Whether an announce is under way, and which.
    pub announcing: Option<AnnounceEvent>,
    /// Whether it answered in this run, and was not told that we stopped.
    pub knows_us: bool,
    /// When its next announce is due, unless it waits for others to fail.
    pub next: Option<Instant>,
    /// When it answered last.
    pub last_success: Option<Instant>,
    /// Failures in a row.
    pub fails: u32,
    /// Why the last announce failed; none after a success.
    pub error: Option<&'a AnnounceError>,
    /// A word of warning with the last answer.
    pub warning: Option<&'a str>,
    /// Peers that have everything, as of the last answer that said so.
    pub seeders: Option<u32>,
    /// Peers that do not.
    pub leechers: Option<u32>,
    /// Downloads to the end.
    pub downloaded: Option<u32>,
    /// Peers in the last answer.
    pub peers: u32,
}

#[derive(Debug)]
struct Tracker {
    id: TrackerId,
    tier: usize,
    url: TrackerUrl,
    in_flight: Option<AnnounceEvent>,
    /// It answered a `started` and was not told `stopped`.
    started: bool,
    completed: bool,
    /// It left the list, and waits only for what it is owed.
    leaving: bool,
    /// It said never to ask it again.
    never: bool,
    /// Somebody asked for its next announce.
    urgent: bool,
    /// Somebody asked for it by name: it is made also if others serve us.
    forced: bool,
    due: Instant,
    last_attempt: Option<Instant>,
    last_success: Option<Instant>,
    min_interval: Duration,
    fails: u32,
    error: Option<Box<AnnounceError>>,
    warning: Option<Box<str>>,
    /// What it calls `tracker id`.
    cookie: Option<Box<[u8]>>,
    seeders: Option<u32>,
    leechers: Option<u32>,
    downloaded: Option<u32>,
    peers: u32,
}

impl Tracker {
    fn new(id: TrackerId, tier: usize, url: TrackerUrl, now: Instant) -> Self {
        Self {
            id,
            tier,
            url,
            in_flight: None,
            started: false,
            completed: false,
            leaving: false,
            never: false,
            urgent: false,
            forced: false,
            due: now,
            last_attempt: None,
            last_success: None,
            min_interval: MIN_INTERVAL_DEFAULT,
            fails: 0,
            error: None,
            warning: None,
            cookie: None,
            seeders: None,
            leechers: None,
            downloaded: None,
            peers: 0,
        }
    }

    /// Whether others should be asked in its place.
    const fn is_failing(&self) -> bool {
        self.fails > 0 || self.never
    }

    /// When it may be asked, if at all.
    fn ready(&self) -> Option<Instant> {
        (self.in_flight.is_none() && !self.never).then_some(self.due)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct AnnounceList {
    policy: Policy,
    rng: Rng,
    /// In the order in which they are asked: by tier, and within a tier by luck and success.
    trackers: Vec<Tracker>,
    next_id: u32,
    running: bool,
    /// The download finished in this run.
    finished: bool,
}

impl AnnounceList {
    /// The trackers in `tiers`, each tier in random order, not running yet. URLs that appear
    /// twice count where they are first.
    pub fn new(
        now: Instant,
        policy: Policy,
        tiers: impl IntoIterator<Item = impl IntoIterator<Item = TrackerUrl>>,
        rng: Rng,
    ) -> Self {
        let trackers = Vec::new();
        let mut this = Self { policy, rng, trackers, next_id: 0, running: false, finished: false };
        this.replace(now, tiers);
        this
    }

    /// It turned out whether the torrent is private (BEP 27): a magnet link does not tell.
    pub const fn set_private(&mut self, private: bool) {
        self.policy.private = private;
    }

    /// Begins a run.
    pub fn start(&mut self, now: Instant) {
        if self.running {
            return;
        }
        self.running = true;
        self.finished = false;
        for tracker in &mut self.trackers {
            if tracker.fails == 0 {
                tracker.due = now;
            }
        }
    }

    /// Ends a run: each tracker that knows us is told once. The owner cancels announces that are
    /// under way, or waits for them; [`is_idle`](Self::is_idle) says when all is done.
    pub fn stop(&mut self, now: Instant) {
        self.running = false;
        self.finished = false;
        for tracker in &mut self.trackers {
            tracker.due = now;
        }
    }

    /// The download finished, in this run: trackers that know us are told now.
    pub fn complete(&mut self, now: Instant) {
        if !self.running || self.finished {
            return;
        }
        self.finished = true;
        for tracker in &mut self.trackers {
            if tracker.started && tracker.fails == 0 {
                tracker.due = now;
            }
        }
    }

    /// More peers are wanted: the next announces come as early as the trackers allow.
    pub fn want_peers(&mut self, now: Instant) {
        for tracker in &mut self.trackers {
            if tracker.is_failing() {
                continue;
            }
            let earliest = tracker.last_success.map_or(now, |last| last + tracker.min_interval);
            tracker.due = tracker.due.min(earliest.max(now));
        }
    }

    /// Somebody asks for an announce now: like [`want_peers`](Self::want_peers), and trackers that
    /// fail are asked again at once, if the last time is not just past.
    pub fn reannounce(&mut self, now: Instant) {
        for tracker in &mut self.trackers {
            tracker.never = false;
            tracker.urgent = true;
            if tracker.fails > 0 {
                let earliest = tracker.last_attempt.map_or(now, |last| last + BACKOFF_MIN);
                tracker.due = tracker.due.min(earliest.max(now));
            }
        }
        self.want_peers(now);
    }

    /// Somebody asks for an announce to the tracker of this URL now: as soon as it allows, whether
    /// or not others serve us. Returns whether there is such a tracker.
    pub fn reannounce_to(&mut self, now: Instant, url: &str) -> bool {
        let named = |tracker: &&mut Tracker| !tracker.leaving && tracker.url.as_str() == url;
        let Some(tracker) = self.trackers.iter_mut().find(named) else { return false };
        tracker.never = false;
        (tracker.urgent, tracker.forced) = (true, true);
        let last = if tracker.fails > 0 {
            tracker.last_attempt.map(|last| last + BACKOFF_MIN)
        } else {
            tracker.last_success.map(|last| last + tracker.min_interval)
        };
        tracker.due = tracker.due.min(last.map_or(now, |earliest| earliest.max(now)));
        true
    }

    /// The tracker to be asked for counts: the first that does its work, or else the first.
    pub fn scraped(&self) -> Option<(TrackerId, &TrackerUrl)> {
        let mut here = self.trackers.iter().filter(|tracker| !tracker.leaving);
        let first = here.clone().next();
        let works = |tracker: &&Tracker| !tracker.is_failing() && tracker.last_success.is_some();
        here.find(works).or(first).map(|tracker| (tracker.id, &tracker.url))
    }

    /// What a tracker counts, without an announce.
    pub fn on_scrape(&mut self, tracker: TrackerId, counts: Counts) {
        let Some(place) = self.place(tracker) else { return };
        let tracker = &mut self.trackers[place];
        tracker.seeders = Some(counts.seeders);
        tracker.leechers = Some(counts.leechers);
        tracker.downloaded = Some(counts.downloaded);
    }

    /// Adds a tracker at the end of `tier` (behind the last tier, as one of its own, if there are
    /// not so many). None: it is there already, or there are [`TRACKERS_MAX`].
    pub fn add(&mut self, now: Instant, tier: usize, url: TrackerUrl) -> Option<TrackerId> {
        let tier = tier.min(self.tier_count());
        if let Some(known) = self.trackers.iter_mut().find(|tracker| tracker.url == url) {
            let id = known.id;
            let was_leaving = core::mem::replace(&mut known.leaving, false);
            if was_leaving {
                known.tier = tier;
                known.due = if known.fails == 0 { now } else { known.due };
                self.trackers.sort_by_key(|tracker| tracker.tier);
            }
            return was_leaving.then_some(id);
        }
        if self.trackers.len() >= TRACKERS_MAX {
            return None;
        }
        let id = TrackerId(self.next_id);
        self.next_id += 1;
        let place = self.trackers.partition_point(|tracker| tracker.tier <= tier);
        self.trackers.insert(place, Tracker::new(id, tier, url, now));
        Some(id)
    }

    /// Takes other trackers in place of those it has. What is known of URLs that stay, stays;
    /// those that go are told `stopped` if they know us.
    pub fn replace(
        &mut self,
        now: Instant,
        tiers: impl IntoIterator<Item = impl IntoIterator<Item = TrackerUrl>>,
    ) {
        let mut old = core::mem::take(&mut self.trackers);
        let mut tier = 0;
        for urls in tiers {
            let first = self.trackers.len();
            for url in urls {
                if self.trackers.len() >= TRACKERS_MAX {
                    break;
                }
                if self.trackers.iter().any(|tracker| tracker.url == url) {
                    continue;
                }
                let known = old.iter().position(|tracker| tracker.url == url);
                let tracker = if let Some(place) = known {
                    Tracker { tier, leaving: false, ..old.swap_remove(place) }
                } else {
                    let id = TrackerId(self.next_id);
                    self.next_id += 1;
                    Tracker::new(id, tier, url, now)
                };
                self.trackers.push(tracker);
            }
            let members = &mut self.trackers[first..];
            if !members.is_empty() {
                self.rng.shuffle(members);
                tier += 1;
            }
        }
        for mut tracker in old {
            tracker.leaving = true;
            tracker.tier = usize::MAX;
            tracker.due = now;
            self.trackers.push(tracker);
        }
        self.forget_leavers();
    }

    /// The next announce that is due at `now`, if any. Call it until there is none.
    pub fn poll(&mut self, now: Instant, facts: &Facts) -> Option<Announce> {
        let place = self.candidates().find(|place| self.trackers[*place].due <= now)?;
        let event = self.event(&self.trackers[place]);
        let tracker = &mut self.trackers[place];
        tracker.in_flight = Some(event);
        tracker.last_attempt = Some(now);
        let stopped = event == AnnounceEvent::Stopped;
        let request = AnnounceRequest {
            info_hash: facts.info_hash,
            peer_id: facts.peer_id,
            port: facts.port,
            uploaded: facts.uploaded,
            downloaded: facts.downloaded,
            left: facts.left,
            event,
            num_want: Some(if stopped { 0 } else { facts.num_want }),
            key: facts.key,
            ipv4: facts.ipv4,
            ipv6: facts.ipv6,
            tracker_id: tracker.cookie.clone(),
        };
        tracker.forced = false;
        let urgent = core::mem::take(&mut tracker.urgent);
        Some(Announce { tracker: tracker.id, url: tracker.url.clone(), request, urgent })
    }

    /// When [`poll`](Self::poll) will have something, unless something happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.candidates().map(|place| self.trackers[place].due).min()
    }

    /// How an announce ended. Peers and addresses in the answer are the owner's business.
    pub fn on_result(
        &mut self,
        now: Instant,
        tracker: TrackerId,
        result: Result<&AnnounceResponse, &AnnounceError>,
    ) {
        let Some(place) = self.place(tracker) else { return };
        let Some(event) = self.trackers[place].in_flight.take() else { return };
        let tracker = &mut self.trackers[place];
        match event {
            // Told once, heard or not.
            AnnounceEvent::Stopped => {
                tracker.started = false;
                tracker.completed = false;
                tracker.due = now;
            }
            AnnounceEvent::Started => tracker.started |= result.is_ok(),
            AnnounceEvent::Completed => tracker.completed |= result.is_ok(),
            AnnounceEvent::None => {}
        }
        match result {
            Ok(response) => self.on_success(now, place, event, response),
            Err(AnnounceError::Cancelled) => tracker.due = now,
            Err(error) => self.on_failure(now, place, event, error),
        }
        self.forget_leavers();
    }

    /// Whether nothing is under way and nothing is owed: after [`stop`](Self::stop), the end.
    pub fn is_idle(&self) -> bool {
        let busy = |tracker: &Tracker| tracker.in_flight.is_some() || tracker.started;
        !self.running && !self.trackers.iter().any(busy)
    }

    /// Whether a tracker that does its work was not told yet that the download finished.
    pub fn owes_completed(&self) -> bool {
        let owed = |tracker: &Tracker| {
            !tracker.completed && !tracker.leaving && !tracker.is_failing() && {
                tracker.started || tracker.in_flight.is_some()
            }
        };
        self.running && self.finished && self.trackers.iter().any(owed)
    }

    /// All trackers, in the order in which they are asked.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        self.trackers.iter().filter(|tracker| !tracker.leaving).map(|tracker| TrackerStatus {
            id: tracker.id,
            tier: tracker.tier,
            url: &tracker.url,
            announcing: tracker.in_flight,
            knows_us: tracker.started,
            next: tracker.ready().filter(|_| self.running),
            last_success: tracker.last_success,
            fails: tracker.fails,
            error: tracker.error.as_deref(),
            warning: tracker.warning.as_deref(),
            seeders: tracker.seeders,
            leechers: tracker.leechers,
            downloaded: tracker.downloaded,
            peers: tracker.peers,
        })
    }

    /// Its policy, and whether a run is on.
    pub(super) const fn standing(&self) -> (Policy, bool) {
        (self.policy, self.running)
    }

    /// The trackers of each tier.
    pub(super) fn tiers(&self) -> Vec<Vec<TrackerUrl>> {
        let mut tiers: Vec<Vec<TrackerUrl>> = Vec::new();
        for tracker in self.trackers.iter().filter(|tracker| !tracker.leaving) {
            tiers.resize(tiers.len().max(tracker.tier + 1), Vec::new());
            tiers[tracker.tier].push(tracker.url.clone());
        }
        tiers
    }

    fn place(&self, id: TrackerId) -> Option<usize> {
        self.trackers.iter().position(|tracker| tracker.id == id)
    }

    fn tier_count(&self) -> usize {
        let here = self.trackers.iter().filter(|tracker| !tracker.leaving);
        here.map(|tracker| tracker.tier + 1).max().unwrap_or_default()
    }

    fn event(&self, tracker: &Tracker) -> AnnounceEvent {
        if !self.running || tracker.leaving {
            AnnounceEvent::Stopped
        } else if !tracker.started {
            AnnounceEvent::Started
        } else if self.finished && !tracker.completed {
            AnnounceEvent::Completed
        } else {
            AnnounceEvent::None
        }
    }

    /// The trackers that are to be asked, each when it is due.
    fn candidates(&self) -> impl Iterator<Item = usize> + '_ {
        let all_tiers = self.policy.all_tiers && !self.policy.private;
        let all_trackers = self.policy.all_trackers && !self.policy.private;
        // Whether one that does its work was seen: in this tier, and in a tier before it.
        let (mut tier, mut here, mut before) = (usize::MAX, false, false);
        self.trackers.iter().enumerate().filter_map(move |(place, tracker)| {
            let ready = tracker.ready().is_some();
            if !self.running || tracker.leaving {
                return (ready && tracker.started).then_some(place);
            }
            if tracker.tier != tier {
                tier = tracker.tier;
                before |= here;
                here = false;
            }
            let served = here && !all_trackers || before && !all_tiers;
            if served && !tracker.forced {
                return None;
            }
            // One that failed is asked beside the others, and holds nobody up: not before its
            // time is over, nor while it is asked again.
            here |= !tracker.is_failing();
            ready.then_some(place)
        })
    }

    fn on_success(
        &mut self,
        now: Instant,
        place: usize,
        event: AnnounceEvent,
        response: &AnnounceResponse,
    ) {
        let tracker = &mut self.trackers[place];
        let interval = response.interval.unwrap_or(INTERVAL_DEFAULT);
        let least = response.min_interval.unwrap_or(MIN_INTERVAL_DEFAULT);
        // A tracker that allows less than it asks for means what it asks for.
        let least = least.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        tracker.min_interval = match response.min_interval {
            Some(_) => least,
            None => least.min(interval),
        };
        let interval = match response.min_interval {
            Some(_) => interval.max(least),
            None => interval,
        };
        tracker.fails = 0;
        tracker.never = false;
        tracker.error = None;
        tracker.warning.clone_from(&response.warning);
        tracker.last_success = Some(now);
        tracker.peers = response.peers.len() as u32;
        if response.tracker_id.is_some() {
            tracker.cookie.clone_from(&response.tracker_id);
        }
        tracker.seeders = response.seeders.or(tracker.seeders);
        tracker.leechers = response.leechers.or(tracker.leechers);
        tracker.downloaded = response.downloaded.or(tracker.downloaded);
        if event == AnnounceEvent::Stopped {
            return;
        }
        let owes_more = !self.running || tracker.leaving || self.finished && !tracker.completed;
        tracker.due = if owes_more { now } else { now + interval };
        let first = self.trackers.partition_point(|other| other.tier < self.trackers[place].tier);
        self.trackers[first..=place].rotate_right(1);
    }

    fn on_failure(
        &mut self,
        now: Instant,
        place: usize,
        event: AnnounceEvent,
        error: &AnnounceError,
    ) {
        let backoff = self.backoff(self.trackers[place].fails);
        let tracker = &mut self.trackers[place];
        tracker.error = Some(Box::new(error.clone()));
        if event == AnnounceEvent::Stopped {
            return;
        }
        tracker.fails = tracker.fails.saturating_add(1);
        let retry = match error {
            AnnounceError::Refused { retry, .. } => *retry,
            AnnounceError::Url(_) => Some(RetryIn::Never),
            _ => None,
        };
        let wait = match retry {
            None => backoff,
            Some(RetryIn::After(time)) => time.clamp(INTERVAL_MIN, INTERVAL_MAX),
            Some(RetryIn::Never) => {
                tracker.never = true;
                INTERVAL_MAX
            }
        };
        let stopping = !self.running || tracker.leaving;
        tracker.due = if stopping { now } else { now + wait };
    }

    /// Time to wait after a failure, with `fails` before it.
    fn backoff(&mut self, fails: u32) -> Duration {
        let base = BACKOFF_MIN.saturating_mul(1 << fails.min(16)).min(BACKOFF_MAX);
        let more = self.rng.below(base.as_millis() as u32);
        base + Duration::from_millis(u64::from(more))
    }

    fn forget_leavers(&mut self) {
        self.trackers
            .retain(|tracker| !tracker.leaving || tracker.started || tracker.in_flight.is_some());
    }
}
