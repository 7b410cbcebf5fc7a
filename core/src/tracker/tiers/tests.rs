//! Lists on virtual time, against trackers that answer or do not. Named after the scenarios of
//! libtorrent's simulator where they show the same.

use super::*;
use crate::rng::Seed;
use proptest::prelude::*;
use std::format;
use std::string::String;

const START: Instant = Instant::ORIGIN;

fn facts() -> Facts {
    Facts {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: Some(10),
        num_want: 50,
        key: 7,
        ipv4: None,
        ipv6: None,
    }
}

fn url(name: &str) -> TrackerUrl {
    TrackerUrl::parse(&format!("http://{name}.example/announce")).expect("a URL")
}

fn list(policy: Policy, tiers: &[&[&str]]) -> AnnounceList {
    let tiers = tiers.iter().map(|tier| tier.iter().map(|name| url(name)));
    AnnounceList::new(START, policy, tiers, Seed::from_number(1).stream("tiers", 0))
}

/// Runs lists on virtual time against trackers of which some do not answer.
struct World {
    list: AnnounceList,
    now: Instant,
    dead: Vec<&'static str>,
    response: AnnounceResponse,
    /// Seconds since the start, tracker, event.
    log: Vec<(u64, String, AnnounceEvent)>,
}

impl World {
    fn new(list: AnnounceList) -> Self {
        let response = AnnounceResponse::default();
        Self { list, now: START, dead: Vec::new(), response, log: Vec::new() }
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            let Some(announce) = self.list.poll(self.now, &facts()) else { return };
            let host = announce.url.host();
            let name = String::from(host.split('.').next().unwrap_or_default());
            let dead = self.dead.iter().any(|dead| *dead == name);
            let at = self.now.saturating_since(START).as_secs();
            self.log.push((at, name, announce.request.event));
            let result = if dead { Err(&AnnounceError::TimedOut) } else { Ok(&self.response) };
            self.list.on_result(self.now, announce.tracker, result);
        }
        panic!("the list spins");
    }

    /// Lets time pass up to `seconds` after the start.
    fn run_until(&mut self, seconds: u64) {
        let end = START + Duration::from_secs(seconds);
        self.settle();
        while let Some(next) = self.list.next_deadline().filter(|next| *next <= end) {
            assert!(next > self.now, "a deadline that is past spins");
            self.now = next;
            self.settle();
        }
        self.now = end;
    }

    fn events(&self, name: &str) -> Vec<AnnounceEvent> {
        let of = |(_, tracker, event): &(u64, String, AnnounceEvent)| {
            (tracker == name).then_some(*event)
        };
        self.log.iter().filter_map(of).collect()
    }

    fn count(&self, name: &str) -> usize {
        self.events(name).len()
    }
}

use AnnounceEvent::{Completed, None as Regular, Started, Stopped};

#[test]
fn event_completed_downloading() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.list.start(world.now);
    world.run_until(2_000);
    world.list.complete(world.now);
    world.list.complete(world.now);
    world.run_until(6_000);
    world.list.stop(world.now);
    world.run_until(20_000);
    assert_eq!(world.events("a"), [Started, Regular, Completed, Regular, Regular, Stopped]);
    assert!(world.list.is_idle());
}

#[test]
fn event_completed_downloading_replace_trackers() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.list.start(world.now);
    world.run_until(100);
    world.list.replace(world.now, [[url("b")], [url("a")]]);
    world.list.complete(world.now);
    world.run_until(3_000);
    world.list.stop(world.now);
    world.run_until(3_001);
    assert_eq!(world.events("b"), [Started, Completed, Regular, Stopped]);
    assert_eq!(world.events("a"), [Started, Stopped]);
}

#[test]
fn event_completed_seeding() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.list.complete(world.now);
    world.list.start(world.now);
    world.run_until(2_000);
    world.list.stop(world.now);
    world.run_until(2_001);
    assert_eq!(world.events("a"), [Started, Regular, Stopped]);
}

#[test]
fn a_tracker_that_leaves_the_list_is_told_if_it_knows_us() {
    let mut world = World::new(list(Policy::default(), &[&["a"], &["c"]]));
    world.list.start(world.now);
    world.run_until(10);
    world.list.replace(world.now, [[url("b")]]);
    world.run_until(20);
    assert_eq!(world.events("a"), [Started, Stopped]);
    assert_eq!(world.count("c"), 0);
    assert_eq!(world.list.trackers().count(), 1);
    assert_eq!(world.list.trackers.len(), 1);
}

#[test]
fn omit_stop_event() {
    let mut world = World::new(list(Policy::default(), &[&["a"], &["b"]]));
    world.dead = alloc::vec!["a", "b"];
    world.list.start(world.now);
    world.run_until(60);
    world.dead = alloc::vec!["a"];
    world.run_until(3_000);
    world.list.stop(world.now);
    world.run_until(9_000);
    assert!(world.events("a").iter().all(|event| *event == Started));
    assert_eq!(world.events("b").iter().filter(|event| **event == Stopped).count(), 1);
    assert_eq!(world.events("b").last(), Some(&Stopped));
    assert!(world.list.is_idle());
}

#[test]
fn a_stop_that_nobody_hears_is_not_repeated() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.list.start(world.now);
    world.run_until(1);
    world.dead = alloc::vec!["a"];
    world.list.stop(world.now);
    world.run_until(9_000);
    assert_eq!(world.events("a"), [Started, Stopped]);
    assert!(world.list.is_idle());
}

#[test]
fn announce_interval() {
    for (asked, kept) in [(440, 440), (1_800, 1_800), (3_600, 3_600), (1, 60)] {
        let mut world = World::new(list(Policy::default(), &[&["a"]]));
        world.response.interval = Some(Duration::from_secs(asked));
        world.list.start(world.now);
        world.run_until(5 * kept);
        let times: Vec<u64> = world.log.iter().map(|(at, ..)| *at).collect();
        assert_eq!(times, (0..=5).map(|n| n * kept).collect::<Vec<_>>());
    }
}

#[test]
fn peers_are_wanted_no_sooner_than_the_tracker_allows() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.response.min_interval = Some(Duration::from_mins(2));
    world.list.start(world.now);
    world.run_until(10);
    world.list.want_peers(world.now);
    world.list.reannounce(world.now);
    world.run_until(200);
    world.list.want_peers(world.now);
    world.run_until(1_000);
    let times: Vec<u64> = world.log.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [0, 120, 240]);
}

#[test]
fn an_announce_that_somebody_asked_for_is_urgent_once() {
    let mut list = list(Policy::default(), &[&["a"]]);
    list.start(START);
    let mut now = START;
    let mut urgent = Vec::new();
    for asked_for in [false, true, false] {
        if asked_for {
            list.reannounce(now);
        }
        now = list.next_deadline().expect("one is due").max(now);
        let announce = list.poll(now, &facts()).expect("due");
        urgent.push(announce.urgent);
        list.on_result(now, announce.tracker, Ok(&AnnounceResponse::default()));
    }
    assert_eq!(urgent, [false, true, false]);
}

#[test]
fn paused_session() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.list.start(world.now);
    world.run_until(10);
    assert_eq!(world.count("a"), 1);
    world.list.stop(world.now);
    world.run_until(5_000);
    assert_eq!(world.count("a"), 2);
    world.list.start(world.now);
    world.run_until(5_001);
    assert_eq!(world.events("a"), [Started, Stopped, Started]);
}

#[test]
fn paused_session_in_flight_announce() {
    let mut list = list(Policy::default(), &[&["a"]]);
    list.start(START);
    let announce = list.poll(START, &facts()).expect("due");
    list.stop(START);
    assert!(!list.is_idle());
    assert_eq!(list.poll(START, &facts()), None);
    list.on_result(START, announce.tracker, Err(&AnnounceError::Cancelled));
    assert_eq!(list.poll(START, &facts()), None, "it never answered");
    assert!(list.is_idle());
    let status = list.trackers().next().expect("one");
    assert_eq!((status.announcing, status.fails), (None, 0));
}

#[test]
fn a_late_answer_to_a_start_is_followed_by_a_stop() {
    let mut list = list(Policy::default(), &[&["a"]]);
    list.start(START);
    let announce = list.poll(START, &facts()).expect("due");
    list.stop(START);
    list.on_result(START, announce.tracker, Ok(&AnnounceResponse::default()));
    let stop = list.poll(START, &facts()).expect("owed");
    assert_eq!((stop.request.event, stop.request.num_want), (Stopped, Some(0)));
    list.on_result(START, stop.tracker, Err(&AnnounceError::TimedOut));
    list.on_result(START, stop.tracker, Ok(&AnnounceResponse::default()));
    assert!(list.is_idle());
}

#[test]
fn try_next_and_clear_error() {
    let mut world = World::new(list(Policy::default(), &[&["a"], &["b"], &["c"]]));
    world.dead = alloc::vec!["a", "b"];
    world.list.start(world.now);
    world.run_until(1);
    assert_eq!(world.log.iter().map(|(_, name, _)| &name[..]).collect::<String>(), "abc");
    let status = |world: &World| {
        world.list.trackers().map(|tracker| tracker.error.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(status(&world), [true, true, false]);
    world.dead.clear();
    world.run_until(60);
    assert_eq!(status(&world), [false, true, false]);
    world.run_until(4_000);
    assert_eq!(world.count("c"), 1, "a is asked again, c is not");
    world.list.stop(world.now);
    world.run_until(4_001);
    assert_eq!(world.events("c"), [Started, Stopped]);
}

#[test]
fn tracker_tiers() {
    let cases =
        [(false, false, 1, 0), (true, false, 3, 0), (false, true, 1, 1), (true, true, 3, 2)];
    for (all_trackers, all_tiers, first, second) in cases {
        for private in [false, true] {
            let policy = Policy { all_trackers, all_tiers, private };
            let mut world = World::new(list(policy, &[&["a", "b", "c"], &["d", "e"]]));
            world.list.start(world.now);
            world.run_until(1);
            let of = |names: &[&str]| names.iter().map(|name| world.count(name)).sum();
            let counts: (usize, usize) = (of(&["a", "b", "c"]), of(&["d", "e"]));
            let expected = if private { (1, 0) } else { (first, second) };
            assert_eq!(counts, expected, "{policy:?}");
        }
    }
}

#[test]
fn tracker_tiers_unreachable_tracker() {
    let mut world = World::new(list(Policy::default(), &[&["a", "b", "c"], &["d"]]));
    world.dead = alloc::vec!["a", "b"];
    world.list.start(world.now);
    world.run_until(1);
    assert_eq!((world.count("c"), world.count("d")), (1, 0));
    let order: Vec<_> = world.list.trackers().map(|t| String::from(t.url.host())).collect();
    assert_eq!(order[0], "c.example", "the first success moves to the front");
    let tried = world.log.len();
    world.run_until(1_700);
    assert_eq!(world.log.len(), tried, "nobody behind it is asked again");
}

#[test]
fn tracker_tiers_retry_all() {
    let mut world = World::new(list(Policy::default(), &[&["a"], &["b"]]));
    world.dead = alloc::vec!["a"];
    world.list.start(world.now);
    world.run_until(1_799);
    assert_eq!(world.count("b"), 1);
    let times: Vec<u64> =
        world.log.iter().filter(|(_, name, _)| name == "a").map(|(at, ..)| *at).collect();
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 5, "{gaps:?}");
    for (n, gap) in gaps.iter().enumerate() {
        let base = 5 << n;
        assert!((base..=2 * base + 1).contains(gap), "{gaps:?}");
    }
    world.run_until(1_800);
    assert_eq!(world.count("b"), 2);
}

#[test]
fn failures_are_at_last_half_an_hour_to_an_hour_apart() {
    let mut world = World::new(list(Policy::default(), &[&["a"]]));
    world.dead = alloc::vec!["a"];
    world.list.start(world.now);
    world.run_until(200_000);
    let times: Vec<u64> = world.log.iter().map(|(at, ..)| *at).collect();
    for pair in times.windows(2).skip(12) {
        assert!((1_800..=3_601).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
}

#[test]
fn a_tracker_says_when_to_retry_and_never_means_never_until_somebody_asks() {
    let mut list = list(Policy::default(), &[&["a"]]);
    list.start(START);
    let refuse = |list: &mut AnnounceList, now, retry| {
        let announce = list.poll(now, &facts()).expect("due");
        let error = AnnounceError::Refused { reason: "no".into(), retry: Some(retry) };
        list.on_result(now, announce.tracker, Err(&error));
    };
    let quarter = Duration::from_mins(15);
    refuse(&mut list, START, RetryIn::After(quarter));
    assert_eq!(list.next_deadline(), Some(START + quarter));
    refuse(&mut list, START + quarter, RetryIn::Never);
    assert_eq!(list.next_deadline(), None);
    let later = START + Duration::from_hours(1);
    list.reannounce(later);
    assert!(list.poll(later, &facts()).is_some());
}

#[test]
fn a_list_without_trackers_never_makes_the_timer_spin() {
    let mut list = list(Policy::default(), &[]);
    list.start(START);
    assert_eq!(list.next_deadline(), None);
    let id = list.add(START, 5, url("a")).expect("room");
    assert_eq!(list.add(START, 0, url("a")), None);
    let announce = list.poll(START, &facts()).expect("due");
    assert_eq!(announce.tracker, id);
    assert_eq!(list.trackers().next().map(|tracker| tracker.tier), Some(0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Stop,
    Complete,
    Replace(u8),
    Want,
    Poll,
    Answer(u8, u8),
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Start),
        Just(Step::Stop),
        Just(Step::Complete),
        any::<u8>().prop_map(Step::Replace),
        Just(Step::Want),
        Just(Step::Poll),
        Just(Step::Poll),
        (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Step::Answer(which, how)),
        (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Step::Answer(which, how)),
        any::<u16>().prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// A tracker as it would see us, whatever happens: never two announces at a time, nothing
    /// before a start, at most one completed and one stop that it answers between two starts.
    #[test]
    fn each_tracker_sees_a_sane_life(
        steps in steps(),
        all_trackers in any::<bool>(),
        all_tiers in any::<bool>(),
    ) {
        let policy = Policy { all_trackers, all_tiers, private: false };
        let mut list = list(policy, &[&["a", "b"], &["c"]]);
        let mut now = START;
        let mut flying: Vec<Announce> = Vec::new();
        let mut lives: alloc::collections::BTreeMap<TrackerId, (bool, bool)> =
            alloc::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Start => list.start(now),
                Step::Stop => list.stop(now),
                Step::Complete => list.complete(now),
                Step::Want => list.want_peers(now),
                Step::Pass(seconds) => now += Duration::from_secs(u64::from(seconds)),
                Step::Replace(mask) => {
                    let names = ["a", "b", "c", "d"];
                    let tiers = names.iter().enumerate();
                    let kept = tiers.filter(|(n, _)| mask >> n & 1 == 1);
                    list.replace(now, kept.map(|(_, name)| [url(name)]).collect::<Vec<_>>());
                }
                Step::Poll => if let Some(announce) = list.poll(now, &facts()) {
                    prop_assert!(flying.iter().all(|other| other.tracker != announce.tracker));
                    let life = lives.entry(announce.tracker).or_default();
                    match announce.request.event {
                        Started => prop_assert!(!life.0),
                        Completed => prop_assert!(life.0 && !life.1),
                        Regular | Stopped => prop_assert!(life.0),
                    }
                    flying.push(announce);
                },
                Step::Answer(which, how) => {
                    if flying.is_empty() {
                        continue;
                    }
                    let announce = flying.swap_remove(usize::from(which) % flying.len());
                    let life = lives.entry(announce.tracker).or_default();
                    let ok = how % 3 != 0;
                    match announce.request.event {
                        Started if ok => life.0 = true,
                        Completed if ok => life.1 = true,
                        Stopped => *life = (false, false),
                        _ => {}
                    }
                    let response = AnnounceResponse::default();
                    let error = AnnounceError::TimedOut;
                    let result = if ok { Ok(&response) } else { Err(&error) };
                    list.on_result(now, announce.tracker, result);
                }
            }
            if let Some(next) = list.next_deadline() {
                let due = list.candidates().any(|place| list.trackers[place].due <= now);
                prop_assert_eq!(next <= now, due);
            }
        }
        list.stop(now);
        for announce in flying {
            list.on_result(now, announce.tracker, Err(&AnnounceError::Cancelled));
        }
        while let Some(announce) = list.poll(now, &facts()) {
            prop_assert_eq!(announce.request.event, Stopped);
            list.on_result(now, announce.tracker, Err(&AnnounceError::TimedOut));
        }
        prop_assert!(list.is_idle());
        prop_assert_eq!(list.next_deadline(), None);
    }
}
