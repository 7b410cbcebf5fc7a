//! Plans made by hand, carried out: what a run must find, and what it must not.

use std::ops::ControlFlow;

use teem_core::metainfo::create::Format;
use teem_core::session::Config;
use teem_core::time::Duration;
use teem_sim::actors::Lie;
use teem_sim::net::{Access, Curve, CurveId, Fidelity, Logged, Skew, Spread};
use teem_sim::packet::tcp::Algorithm;
use teem_sim::run::{
    Choking, Failure, Family, Fault, HostPlan, Leaves, Observer, Outcome, PickOrder, Plan, Preload,
    Role, run,
};
use teem_sim::storage::{Crash, JobKind, Profile};
use teem_sim::time::Nanos;

fn seconds(seconds: u64) -> Nanos {
    Nanos::ZERO + Duration::from_secs(seconds)
}

fn host(preload: Preload) -> HostPlan {
    HostPlan {
        role: Role::Peer,
        access: Access {
            up_bytes_per_s: Some(500_000),
            down_bytes_per_s: Some(2_000_000),
            latency: Spread::Uniform(Duration::from_millis(5), Duration::from_millis(20)),
            ..Access::PERFECT
        },
        arrives: Nanos::ZERO,
        leaves: Leaves::Never,
        preload,
        disk: Profile::INSTANT,
        clock: Skew::NONE,
        config: Config { upload_slots: 4, ..Config::default() },
        order: PickOrder::RarestFirst,
        choking: Choking::Default,
    }
}

/// A seeder and some leechers, 4 MiB in 64 pieces.
fn plan(leechers: usize, seed: u64) -> Plan {
    let mut hosts = vec![host(Preload::Everything)];
    hosts.resize(leechers + 1, host(Preload::Nothing));
    Plan {
        scenario: "by hand".into(),
        seed,
        fidelity: Fidelity::Flow,
        between: Duration::from_millis(5),
        distances: Vec::new(),
        curves: Vec::new(),
        tcp: Algorithm::Cubic,
        lines: Vec::new(),
        content_len: 4 << 20,
        piece_len: 64 << 10,
        format: Format::V1,
        hosts,
        nats: Vec::new(),
        degree: 20,
        faults: Vec::new(),
        families: Vec::new(),
        healed_at: Nanos::ZERO,
        bound_permille: 3_000,
        slack: Duration::from_mins(1),
        ends_at: None,
        must_fail: false,
    }
}

const FIDELITIES: [Fidelity; 3] = [Fidelity::Message, Fidelity::Flow, Fidelity::Packet];

fn sound(outcome: &Outcome) {
    assert_eq!(outcome.failures, [], "{:?}", outcome.summary);
}

#[test]
fn a_plain_swarm_is_complete_within_a_multiple_of_the_bound() {
    for fidelity in FIDELITIES {
        let outcome = run(Plan { fidelity, ..plan(20, 1) }, None);
        sound(&outcome);
        assert_eq!(outcome.summary.complete, 21);
        assert!(outcome.summary.blocks >= 20 * 256);
        assert!(outcome.summary.bound_s >= if fidelity == Fidelity::Message { 0.0 } else { 8.0 });
    }
}

#[test]
fn the_same_plan_gives_the_same_digests_and_another_seed_others() {
    for fidelity in FIDELITIES {
        let digests = |seed| run(Plan { fidelity, ..plan(10, seed) }, None).host_digests;
        assert_eq!(digests(1), digests(1), "{fidelity:?}");
        assert_ne!(digests(1), digests(2), "{fidelity:?}");
    }
}

#[test]
fn an_unrelated_host_shifts_no_digest_of_the_others() {
    for fidelity in FIDELITIES {
        let alone = run(Plan { fidelity, ..plan(10, 3) }, None);
        let mut more = Plan { fidelity, ..plan(10, 3) };
        // It comes when all is over for the others, and nobody is told of it.
        more.hosts.push(HostPlan { arrives: seconds(50_000), ..host(Preload::Nothing) });
        more.hosts[11].leaves = Leaves::At(seconds(50_000));
        let ends_at = Some(seconds(100));
        let alone_longer = run(Plan { fidelity, ends_at, ..plan(10, 3) }, None);
        more.ends_at = ends_at;
        let together = run(more, None);
        sound(&alone);
        assert_eq!(together.host_digests[..11], alone_longer.host_digests[..], "{fidelity:?}");
    }
}

#[test]
fn crashes_of_both_kinds_are_survived_with_what_was_durable() {
    for (seed, how) in [(1, Crash::Process), (2, Crash::Power), (3, Crash::Power)] {
        let mut plan = plan(12, seed);
        for (number, victim) in [1, 4, 7].into_iter().enumerate() {
            let at = 3 + 2 * number as u64;
            plan.faults.push((seconds(at), Fault::Crash(victim, how)));
            plan.faults.push((seconds(at + 6), Fault::Restart(victim)));
        }
        plan.healed_at = seconds(20);
        plan.slack = Duration::from_mins(5);
        plan.families.push(if how == Crash::Power { Family::Power } else { Family::Crash });
        let outcome = run(plan, None);
        sound(&outcome);
        assert_eq!(outcome.summary.complete, 13);
    }
}

#[test]
fn a_partition_holds_streams_up_and_everybody_gets_on_when_it_heals() {
    let mut plan = plan(12, 4);
    for (number, host) in plan.hosts.iter_mut().enumerate() {
        host.access.groups = 1 << (number % 2);
    }
    plan.faults = vec![
        (seconds(3), Fault::Cut(1, 2)),
        (seconds(3), Fault::Cut(2, 1)),
        (seconds(40), Fault::Heal),
    ];
    plan.healed_at = seconds(41);
    plan.slack = Duration::from_mins(5);
    plan.families = vec![Family::Partition];
    let outcome = run(plan, None);
    sound(&outcome);
    assert!(outcome.summary.virtual_s > 40.0);
}

#[test]
fn pauses_moves_and_slow_disks_are_survived() {
    let mut plan = plan(12, 5);
    plan.faults = vec![
        (seconds(2), Fault::Pause(3)),
        (seconds(8), Fault::Resume(3)),
        (seconds(4), Fault::Move(5)),
        (seconds(1), Fault::DiskSlow(6, 50, seconds(10))),
        (seconds(1), Fault::DiskErrors(7, JobKind::Write, 300_000)),
        (seconds(1), Fault::DiskRoom(8, Some(1 << 20))),
    ];
    for host in [6, 7, 8] {
        plan.hosts[host].disk = Profile::SSD;
    }
    plan.healed_at = seconds(15);
    plan.slack = Duration::from_mins(5);
    plan.families =
        vec![Family::Pause, Family::Move, Family::DiskSlow, Family::DiskErrors, Family::DiskFull];
    sound(&run(plan, None));
}

/// One whose writes go wrong for a while, from the second second on.
fn misdirecting() -> Plan {
    let mut plan = plan(8, 8);
    plan.hosts[3].disk = Profile::SSD;
    plan.faults = vec![
        (seconds(2), Fault::DiskMisdirects(3, 200_000)),
        (seconds(6), Fault::DiskHeals(3)),
        (seconds(6), Fault::Recheck(3)),
    ];
    plan.healed_at = seconds(7);
    plan.slack = Duration::from_mins(5);
    plan.families = vec![Family::MisdirectedWrites];
    plan
}

#[test]
fn writes_that_went_to_the_wrong_place_are_found_by_a_check_and_fetched_again() {
    for seed in 8..12 {
        let outcome = run(Plan { seed, ..misdirecting() }, None);
        sound(&outcome);
        assert_eq!(outcome.summary.complete, 9);
        let fired = outcome.summary.fired[Family::MisdirectedWrites.name()];
        assert!(fired > 0 && fired < 256, "{fired}");
    }
}

#[test]
fn without_that_check_the_content_is_wrong_and_the_run_says_so() {
    let mut plan = misdirecting();
    plan.faults.pop();
    let outcome = run(plan, None);
    assert_eq!(outcome.failures, [Failure::WrongContent { host: 3 }]);
}

#[test]
fn clocks_that_are_wrong_and_jump_hold_nobody_up() {
    let hour = 3_600_000_000_000;
    let mut plan = plan(12, 9);
    for (number, host) in plan.hosts.iter_mut().enumerate() {
        let number = i64::try_from(number).expect("few");
        // Up to an hour behind or ahead, up to five percent slow or fast.
        let drift_ppm = (number - 6) as i32 * 8_000;
        host.clock = Skew { offset_nanos: (number - 6) * hour / 6, drift_ppm };
        host.config.up_bytes_per_s = Some(400_000);
    }
    plan.faults = vec![
        (seconds(2), Fault::Clock(4, Skew { offset_nanos: -24 * hour, drift_ppm: 100_000 })),
        (seconds(3), Fault::Clock(0, Skew { offset_nanos: 24 * hour, drift_ppm: -300_000 })),
        (seconds(4), Fault::Crash(4, Crash::Process)),
        (seconds(5), Fault::Restart(4)),
        (seconds(6), Fault::Clock(4, Skew::NONE)),
        (seconds(7), Fault::Clock(0, Skew::NONE)),
    ];
    plan.healed_at = seconds(8);
    plan.families = vec![Family::ClockSkew, Family::Crash];
    let outcome = run(plan.clone(), None);
    sound(&outcome);
    // Twelve began so, and one again; two were set.
    assert_eq!(outcome.summary.fired[Family::ClockSkew.name()], 15);
    assert_eq!(run(plan, None).summary.digest, outcome.summary.digest);
}

#[test]
fn trackers_that_lie_hold_nobody_up() {
    for lie in Lie::ALL {
        let mut plan = plan(8, 10);
        plan.hosts.push(HostPlan { role: Role::Tracker, ..host(Preload::Nothing) });
        plan.hosts.push(HostPlan { role: Role::LyingTracker(lie), ..host(Preload::Nothing) });
        plan.families = vec![Family::LyingTrackers];
        let outcome = run(plan, None);
        sound(&outcome);
        // Who seeds and who fetches: each asks, and again when it is done.
        assert!(outcome.summary.fired[Family::LyingTrackers.name()] >= 9, "{lie}");
    }
}

#[test]
fn delays_of_all_distributions_are_drawn_and_the_same_each_time() {
    let mut plan = plan(12, 11);
    let millis = Duration::from_millis;
    plan.curves = vec![Curve::new(&[millis(1), millis(5), millis(200)]).expect("they rise")];
    let base = millis(3);
    for (number, host) in plan.hosts.iter_mut().enumerate() {
        host.access.latency = match number % 3 {
            0 => Spread::LogNormal { base, median: millis(10), sigma_permille: 1_000 },
            1 => Spread::Empirical { base, curve: CurveId(0) },
            _ => Spread::Uniform(base, millis(30)),
        };
    }
    let outcome = run(plan.clone(), None);
    sound(&outcome);
    assert_eq!(run(plan, None).summary.digest, outcome.summary.digest);
}

/// Looks on for so many events.
struct Patience(u64);

impl Observer for Patience {
    fn on_logged(&mut self, _: &Logged) -> ControlFlow<()> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }
}

#[test]
fn an_observer_that_has_seen_enough_ends_the_run() {
    let whole = run(plan(8, 12), None).summary;
    let some = run(plan(8, 12), Some(&mut Patience(500)));
    sound(&some);
    let some = some.summary;
    assert!(some.stopped && !whole.stopped);
    assert!((500..1_000).contains(&some.events), "{}", some.events);
    assert!(some.complete < 9 && some.virtual_s < whole.virtual_s);
    // Patient enough, it changes nothing.
    let patient = run(plan(8, 12), Some(&mut Patience(u64::MAX))).summary;
    assert_eq!((patient.digest, patient.stopped), (whole.digest, false));
}

#[test]
fn what_cannot_be_is_noticed() {
    // Nobody can beat half the bound.
    let mut plan = plan(5, 6);
    plan.bound_permille = 500;
    plan.slack = Duration::ZERO;
    let outcome = run(plan, None);
    assert!(outcome.summary.failed);
    assert!(outcome.failures.iter().all(|failure| matches!(failure, Failure::Incomplete { .. })));
}

#[test]
fn trouble_that_never_comes_is_a_failure() {
    let mut plan = plan(3, 7);
    plan.families = vec![Family::Crash];
    let outcome = run(plan, None);
    assert_eq!(outcome.failures, [Failure::NeverFired(Family::Crash)]);
}
