//! Runs that are recorded: the same as others, and what they leave.

use super::*;
use crate::run::{Family, Outcome, record, run};
use crate::scenario::{Scenario, bundled};

const SMALL: &str = r#"
content = "1 MiB"
piece = "32 KiB"
[[peers]]
role = "seeder"
up = "1 MB/s"
[[peers]]
role = "leecher"
count = 8
up = "200..800 kB/s"
latency = "1..20 ms"
arrival = { over_s = 3 }
"#;

fn small(more: &str, seed: u64) -> Plan {
    let text = format!("{SMALL}{more}");
    Scenario::parse("small", &text).expect("a sound scenario").draw(seed, false)
}

fn recorded(plan: &Plan) -> (Outcome, Recording) {
    let (outcome, recording, _) = record(plan.clone(), None, None);
    (outcome, recording)
}

#[test]
fn a_run_that_is_recorded_is_the_same_as_one_that_is_not() {
    let plans = [
        small("", 1),
        bundled("faults").expect("there").draw(3, false),
        bundled("faults-message").expect("there").draw(4, true),
        bundled("canary").expect("there").draw(0, false),
    ];
    for plan in plans {
        let plain = run(plan.clone(), None);
        let (outcome, recording) = recorded(&plan);
        assert_eq!(outcome.summary.digest, plain.summary.digest, "{}", plan.scenario);
        assert_eq!(outcome.host_digests, plain.host_digests, "{}", plan.scenario);
        assert_eq!(outcome.failures, plain.failures, "{}", plan.scenario);
        assert_eq!(outcome.summary.events, plain.summary.events, "{}", plan.scenario);
        assert!(!recording.series.at_s.is_empty(), "{}", plan.scenario);
    }
}

#[test]
fn what_is_kept_agrees_with_the_summary() {
    let (outcome, recording) = recorded(&small("", 2));
    let summary = outcome.summary;
    assert_eq!(recording.fetching, 8);
    assert_eq!(recording.complete_s.len(), 8);
    assert_eq!(recording.pieces, 32);
    let took = recording.took_s.expect("all are complete");
    assert!((took - summary.took_s).abs() < 1e-6, "{took} and {}", summary.took_s);
    assert!((recording.bound_s - summary.bound_s).abs() < 1e-9);
    let received: u64 = recording.peers.iter().map(|peer| peer.received_bytes).sum();
    assert_eq!(received, summary.delivered_bytes);
    let series = &recording.series;
    assert!(series.at_s.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(series.progress.len(), series.at_s.len());
    let last = series.at_s.len() - 1;
    assert_eq!(series.progress[last], Spread { low: 1.0, mid: 1.0, high: 1.0 });
    assert_eq!(series.copies[last], Spread { low: 9.0, mid: 9.0, high: 9.0 });
    assert_eq!(series.copies[0], Spread::default(), "nobody had looked at its disk yet");
    // What each sent while somebody fetched, and no uplink carries more than it can for long.
    let utilisation = recording.utilisation.expect("all uplinks have a limit");
    assert!((0.2..=1.0).contains(&utilisation), "{utilisation}");
    assert!(recording.jain.is_some_and(|jain| jain > 0.5 && jain <= 1.0), "{:?}", recording.jain);
}

#[test]
fn the_story_is_that_of_the_last_and_goes_from_its_coming_to_its_end() {
    let (_, recording) = recorded(&small("", 5));
    let last = recording.complete_s.last().copied();
    let story = recording.story.expect("somebody was last");
    let peer = recording.peers.iter().find(|peer| peer.host == story.host).expect("it took part");
    assert_eq!(peer.complete_s, last);
    let said: Vec<&str> = story.notes.iter().map(|note| &*note.what).collect();
    assert_eq!(said.first(), Some(&"comes"));
    assert_eq!(said.last(), Some(&"is complete"));
    for part in ["has a first peer", "has its first piece", "50 %", "has its last piece"] {
        assert!(said.iter().any(|what| what.contains(part)), "{part}: {said:?}");
    }
    assert!(story.notes.windows(2).all(|pair| pair[0].at_s <= pair[1].at_s));
    assert!(story.tail.iter().any(|note| note.what == "has everything"), "{:?}", story.tail);
}

#[test]
fn a_peer_that_nobody_reaches_is_told_to_stand_still() {
    // The one seeder is cut off from all in the first second, for half a minute.
    let mut plan = small("", 6);
    plan.hosts[0].access.groups = 1;
    for host in &mut plan.hosts[1..] {
        host.access.groups = 2;
    }
    let second = Duration::from_secs(1);
    plan.faults = vec![
        (Nanos::ZERO + second / 2, Fault::Cut(1, 2)),
        (Nanos::ZERO + second / 2, Fault::Cut(2, 1)),
        (Nanos::ZERO + 30 * second, Fault::Heal),
    ];
    plan.families = vec![Family::Partition];
    plan.healed_at = Nanos::ZERO + 30 * second;
    let (outcome, recording) = recorded(&plan);
    assert_eq!(outcome.failures, []);
    // Both cuts are one partition.
    let [spell] = &recording.spells[..] else { panic!("{:?}", recording.spells) };
    assert_eq!((&*spell.kind, spell.from_s, spell.to_s), ("partition", 0.5, Some(30.0)));
    let story = recording.story.expect("somebody was last");
    let stall = story.notes.iter().find(|note| note.what.starts_with("no new piece for"));
    let stall = stall.expect("it stood still");
    let (from, to) = (stall.at_s, stall.to_s.expect("it has an end"));
    assert!(to - from > 20.0 && to > 29.0, "{from} to {to}");
    assert!(story.notes.iter().any(|note| note.what.starts_with("partition in the network")));
}

#[test]
fn the_number_of_samples_is_bounded() {
    // Far beyond what the bound lets expect: one leecher stays for five minutes.
    let mut plan = small("", 7);
    plan.ends_at = Some(Nanos::ZERO + Duration::from_mins(5));
    let (outcome, recording) = recorded(&plan);
    assert_eq!(outcome.failures, []);
    let series = &recording.series;
    let count = series.at_s.len();
    assert!((SAMPLES_MAX / 3..=SAMPLES_MAX).contains(&count), "{count}");
    assert!(series.at_s[count - 1] >= 299.0, "{}", series.at_s[count - 1]);
    let gaps: Vec<f64> = series.at_s.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[..gaps.len() - 1].iter().all(|gap| (gap - gaps[0]).abs() < 1e-6), "even in time");
    assert!(recording.heat.at_s.len() <= HEAT_COLUMNS_MAX);
    assert!(recording.heat.pieces.len() <= HEAT_ROWS_MAX);
}

#[test]
fn spells_are_of_every_kind_that_has_a_time() {
    let (outcome, recording) = recorded(&bundled("faults").expect("there").draw(1, false));
    let kinds = recording.spells_by_kind();
    for family in Family::ALL {
        let timeless = [Family::Attackers, Family::LyingTrackers].contains(&family);
        assert!(timeless || kinds.contains_key(family.name()), "{} is missing", family.name());
        assert!(outcome.summary.fired.contains_key(family.name()));
    }
    let healed = recording.healed_s;
    for spell in &recording.spells {
        assert!(spell.from_s <= healed && spell.to_s.is_none_or(|to| to <= healed + 1e-9));
    }
}

#[test]
fn peers_who_serve_their_like_have_an_index_above_one() {
    let text = r#"
content = "12 MiB"
piece = "64 KiB"
[[peers]]
role = "seeder"
up = "500 kB/s"
[[peers]]
role = "leecher"
count = 12
up = "500 kB/s"
[[peers]]
role = "leecher"
count = 12
up = "50 kB/s"
[gate]
bound = 10
"#;
    let scenario = Scenario::parse("classes", text).expect("a sound scenario");
    let (outcome, recording) = recorded(&scenario.draw(0, false));
    assert_eq!(outcome.failures, []);
    let clusters = recording.clusters.expect("uplinks differ");
    let classes: Vec<_> = clusters.classes.iter().map(|it| (it.least, it.most, it.peers)).collect();
    assert_eq!(classes, [(50_000, 50_000, 12), (500_000, 500_000, 12)]);
    assert!(clusters.index.is_some_and(|index| index > 1.05), "{clusters:?}");
    // Fast ones serve their like more than slow ones do.
    let same = |class: usize| clusters.observed[class][class] / clusters.by_lot[class][class];
    assert!(same(1) > same(0), "{clusters:?}");
    for row in clusters.observed.iter().chain(&clusters.by_lot) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row:?}");
    }
}

#[test]
fn peers_that_share_the_address_of_a_nat_are_told_apart() {
    // Fast ones can be called, slow ones are behind one NAT, and a fast one besides.
    let text = r#"
content = "4 MiB"
piece = "64 KiB"
nats = [
  { name = "carrier", kind = "carrier-grade" },
  { name = "home", kind = "symmetric", behind = "carrier" },
]
peers = [
  { role = "seeder", up = "500 kB/s" },
  { role = "leecher", count = 4, up = "500 kB/s" },
  { role = "leecher", count = 4, up = "50 kB/s", behind = "home" },
  { role = "leecher", count = 4, up = "50 kB/s", behind = "carrier" },
  { role = "leecher", up = "500 kB/s", behind = "home" },
]
[gate]
bound = 10
"#;
    let scenario = Scenario::parse("shared", text).expect("a sound scenario");
    let (outcome, recording) = recorded(&scenario.draw(0, false));
    assert_eq!(outcome.failures, []);
    let clusters = recording.clusters.expect("uplinks differ");
    // Of the others that a fast one is connected to, four are fast and eight slow, for some time.
    let by_lot = clusters.by_lot[1][0];
    assert!((0.4..0.8).contains(&by_lot), "{clusters:?}");
    assert!(clusters.observed[1][0] > 0.0, "{clusters:?}");
    // Slow ones cannot call one another: they serve fast ones alone.
    assert!(clusters.observed[0][0] < 1e-9, "{clusters:?}");
}

#[test]
fn classes_are_thirds_where_every_uplink_is_another() {
    let plan = small("", 8);
    let watches: Vec<Watch> =
        plan.hosts.iter().enumerate().map(|(at, it)| Watch::new(at, it)).collect();
    let none = Slots::new(&watches).expect("uplinks differ").take();
    assert_eq!(none.index, None, "nobody has served anybody");
    assert_eq!(none.classes.iter().map(|class| class.peers).sum::<usize>(), 8);
    assert!(none.classes.windows(2).all(|pair| pair[0].most < pair[1].least), "{:?}", none.classes);
}

#[test]
fn streams_are_followed_where_there_are_packets() {
    let (_, recording) = recorded(&small("", 9));
    assert!(recording.streams.is_empty(), "streams have no window in flow fidelity");
    let plan = Plan { fidelity: Fidelity::Packet, ..small("", 9) };
    let (outcome, recording) = recorded(&plan);
    assert_eq!(outcome.failures, []);
    assert_eq!(outcome.summary.digest, run(plan, None).summary.digest);
    assert!((1..=STREAMS_MAX).contains(&recording.streams.len()), "{}", recording.streams.len());
    for stream in &recording.streams {
        assert!(stream.name.starts_with("host "), "{}", stream.name);
        let samples = stream.samples();
        assert!(samples.iter().any(|sample| sample.in_flight_bytes > 0), "{}", stream.name);
        assert!(samples.iter().all(|sample| sample.window_bytes > 0 && sample.round_trip_s > 0.0));
        assert!(samples.windows(2).all(|pair| pair[0].losses <= pair[1].losses));
    }
}
