//! A plan, written down as a file and read again, is the same plan.

use teem_core::time::Duration;
use teem_sim::net::Fidelity;
use teem_sim::run::{Fault, Plan, Preload, Role, run};
use teem_sim::scenario::{BUNDLED, Scenario, bundled, write};
use teem_sim::storage::{Crash, JobKind};
use teem_sim::time::Nanos;

/// Writes it down and reads it.
fn again(plan: &Plan) -> Plan {
    let text = write(plan).expect("it can be said");
    let scenario =
        Scenario::parse("a file", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    scenario.plan()
}

fn with_groups_in_order(mut plan: Plan) -> Plan {
    plan.groups_in_order();
    plan
}

#[test]
fn a_plan_in_a_file_is_the_same_plan() {
    let mut plans = 0;
    for scenario in BUNDLED {
        let hosts = bundled(scenario.name).expect("there").draw(0, false).hosts.len();
        let seeds = if hosts > 500 { 1 } else { 30 };
        for seed in 0..seeds {
            let plan = bundled(scenario.name).expect("there").draw(seed, seed % 3 == 0);
            let read = with_groups_in_order(again(&plan));
            assert!(read == with_groups_in_order(plan), "{} seed {seed}", scenario.name);
            plans += 1;
        }
    }
    assert!(plans > 200);
}

#[test]
fn its_run_is_the_same_byte_for_byte() {
    for (name, seeds) in [("faults", 1..3), ("faults-message", 3..4), ("churn", 0..1)] {
        for seed in seeds {
            let mut plan = bundled(name).expect("there").draw(seed, seed == 2);
            // Small is enough.
            plan.content_len = 2 << 20;
            plan.piece_len = 64 << 10;
            let read = again(&plan);
            let (one, other) = (run(plan, None), run(read, None));
            assert_eq!(one.host_digests, other.host_digests, "{name} seed {seed}");
            assert_eq!(one.summary.digest, other.summary.digest);
            assert_eq!(one.failures, other.failures);
        }
    }
}

#[test]
fn a_host_that_is_nobody_leaves_the_others_their_draws() {
    let plan = bundled("flash-crowd-100").expect("there").draw(1, false);
    let mut less = plan.clone();
    less.content_len = 256 << 10;
    for gone in [7, 50, 51, 99] {
        less.hosts[gone] = teem_sim::run::HostPlan::nobody();
    }
    let text = write(&less).expect("it can be said");
    assert!(text.contains("place = 8,") && text.contains("place = 52,"), "{text}");
    let read = Scenario::parse("less", &text).expect(&text).plan();
    // The last place is empty, and nobody comes after it.
    assert_eq!(read.hosts.len(), 99);
    assert_eq!(read.hosts, less.hosts[..99]);
    let (one, other) = (run(less, None), run(read, None));
    assert_eq!(one.host_digests[..99], other.host_digests);
    assert_eq!(one.summary.hosts, 96);
    assert!(other.failures.is_empty());
    // Whom it is told of does not hang on who else is there.
    assert_ne!(one.host_digests[3], 0);
}

#[test]
fn every_kind_of_event_can_be_said() {
    let text = r#"
        content = "1 MiB"
        seed = 17
        families = ["power"]
        peers = [
          { role = "seeder", up = "1 MB/s" },
          { place = 3, role = "leecher", count = 2, clock = { offset = "-5 s", drift = "20 ppm" } },
          { role = "poisoner" },
          { role = "tracker" },
          { role = "many-peers" },
        ]
        events = [
          { at = "1 s", crash = 3 },
          { at = "2 s", restart = 3 },
          { at = "3 s", power = 4 },
          { at = "4 s", pause = 3 },
          { at = "5 s", resume = 3 },
          { at = "6 s", cut = [[0, 3], [4]] },
          { at = "7 s", heal = true },
          { at = "8 s", move = 3 },
          { at = "9 s", link = 0, up = "10 kB/s", latency = "1 ms", jitter = "0..3 ms", loss = "5 %" },
          { at = "10 s", link = 0 },
          { at = "11 s", disk-errors = 3, job = "write", chance = "40 %" },
          { at = "12 s", disk-errors = 3, job = "save", nth = 2 },
          { at = "13 s", disk-heals = 3 },
          { at = "14 s", restart-torrent = 3 },
          { at = "15 s", disk-full = 3, room = "64 KiB" },
          { at = "16 s", disk-full = 3 },
          { at = "17 s", disk-slow = 3, factor = 10, until = "20 s" },
          { at = "18 s", misdirected-writes = 3, chance = "100 %" },
          { at = "19 s", recheck = 3 },
          { at = "19.5 s", clock = 3, offset = "1 h", drift = "-1 %" },
          { at = "19.5 s", clock = 3 },
        ]
    "#;
    let plan = Scenario::parse("events", text).expect("a scenario").plan();
    let at = |nanos: u64| Nanos(nanos * 1_000_000_000);
    assert_eq!(plan.seed, 17);
    assert_eq!(plan.hosts.len(), 8);
    assert_eq!(plan.hosts[1].role, Role::Nobody);
    assert_eq!(plan.hosts[0].preload, Preload::Everything);
    assert_eq!(plan.hosts[3].clock.offset_nanos, -5_000_000_000);
    assert_eq!(plan.hosts[4].access.groups, 2);
    assert_eq!(plan.healed_at, at(20));
    assert_eq!(plan.faults.len(), 21);
    assert_eq!(plan.faults[2], (at(3), Fault::Crash(4, Crash::Power)));
    assert_eq!(plan.faults[5], (at(6), Fault::Cut(1, 2)));
    assert_eq!(plan.faults[9], (at(10), Fault::Access(0, plan.hosts[0].access)));
    assert_eq!(plan.faults[11], (at(12), Fault::DiskErrorAt(3, JobKind::Save, 2)));
    assert_eq!(plan.faults[16], (at(17), Fault::DiskSlow(3, 10, at(20))));
    assert_eq!(again(&plan), plan);
}

#[test]
fn events_that_make_no_sense_are_refused_in_words() {
    let error = |event: &str| {
        let text = format!(
            "content = \"1 MiB\"\npeers = [{{ role = \"seeder\" }}, {{ role = \"leecher\" }}]\n\
             events = [{event}]\n"
        );
        Scenario::parse("test", &text).expect_err(event).to_string()
    };
    for (event, hint) in [
        ("{ at = \"1 s\" }", "crash = 3"),
        ("{ at = \"1 s\", crash = 1, power = 1 }", "crash and power"),
        ("{ at = \"1 s\", crash = 2 }", "no host 2"),
        ("{ at = \"1 s\", crash = 1, loss = \"5 %\" }", "`loss` does not belong to `crash`"),
        ("{ at = \"1 s\", disk-errors = 1, job = \"wriet\", nth = 1 }", "write"),
        ("{ at = \"1 s\", disk-errors = 1, job = \"write\" }", "`nth`"),
        ("{ at = \"1 s\", cut = [[0], []] }", "[[0], [1, 2]]"),
        ("{ at = \"1 s\", crush = 1 }", "`crash`"),
    ] {
        let said = error(event);
        assert!(said.contains(hint), "{event}: {said}");
    }
    for (line, hint) in [
        ("{ role = \"seeder\", place = 2 }, { role = \"leecher\", place = 2 }", "place"),
        ("{ role = \"seeder\", config = { upload_slot = 3 } }", "`upload_slots`"),
        ("{ role = \"seeder\", clock = { offset = \"1..2 s\" } }", "not one number"),
    ] {
        let text = format!("content = \"1 MiB\"\npeers = [{line}]\n");
        let said = Scenario::parse("test", &text).map(|_| ()).expect_err(line).to_string();
        assert!(said.contains(hint) || said.contains("upload_slots"), "{line}: {said}");
    }
}

#[test]
fn what_no_file_can_say_is_told() {
    let mut plan = bundled("canary").expect("there").draw(0, false);
    plan.fidelity = Fidelity::Message;
    plan.hosts[0].disk = teem_sim::storage::Profile::new(3, false);
    assert!(write(&plan).expect_err("no such disk").to_string().contains("disk"));
    plan.hosts[0].disk = teem_sim::storage::Profile::SLOW;
    plan.slack = Duration::from_nanos(1_500_000_001);
    let text = write(&plan).expect("it can be said");
    for part in ["fidelity = \"message\"", "1.500000001 s", "must_fail = true", "disk = \"slow\""] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(again(&plan), plan);
}
