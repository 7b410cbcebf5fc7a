//! One failure at every place of a short run, one run each: a crash at every so-many-th event, and
//! the n-th job of each kind.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use teem_core::metainfo::create::Format;
use teem_core::session::Config;
use teem_core::time::Duration;
use teem_sim::net::{Access, Fidelity, Logged, Skew};
use teem_sim::packet::tcp::Algorithm;
use teem_sim::run::{
    Choking, Family, Fault, HostPlan, Leaves, Observer, PickOrder, Plan, Preload, Role, run,
};
use teem_sim::storage::{Crash, JobKind, Profile};
use teem_sim::time::Nanos;

/// The leecher that everything befalls.
const VICTIM: usize = 1;

fn host(preload: Preload) -> HostPlan {
    HostPlan {
        role: Role::Peer,
        access: Access { up_bytes_per_s: Some(400_000), ..Access::PERFECT },
        arrives: Nanos::ZERO,
        leaves: Leaves::Never,
        preload,
        disk: Profile::SSD,
        clock: Skew::NONE,
        config: Config::default(),
        order: PickOrder::RarestFirst,
        choking: Choking::Default,
    }
}

/// A seeder and three leechers, 2 MB in 32 pieces, one of the leechers with half of it.
fn plan() -> Plan {
    let mut hosts = vec![host(Preload::Everything), host(Preload::Part(300))];
    hosts.resize(4, host(Preload::Nothing));
    Plan {
        scenario: "failures".into(),
        seed: 11,
        fidelity: Fidelity::Flow,
        between: Duration::from_millis(10),
        distances: Vec::new(),
        curves: Vec::new(),
        tcp: Algorithm::Cubic,
        lines: Vec::new(),
        content_len: 2_000_000,
        piece_len: 64 << 10,
        format: Format::V1,
        hosts,
        nats: Vec::new(),
        degree: 8,
        faults: Vec::new(),
        families: Vec::new(),
        healed_at: Nanos::ZERO,
        bound_permille: 3_000,
        slack: Duration::from_mins(8),
        ends_at: None,
        must_fail: false,
    }
}

/// Notes when the victim was told something.
#[derive(Default)]
struct Times(Vec<Nanos>);

impl Observer for Times {
    fn on_logged(&mut self, logged: &Logged) -> ControlFlow<()> {
        if logged.host == VICTIM {
            self.0.push(logged.at);
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn a_crash_at_every_so_many_th_event_is_recovered_from() {
    let mut times = Times::default();
    let clean = run(plan(), Some(&mut times));
    assert_eq!(clean.failures, []);
    let Times(times) = times;
    assert!(times.len() > 300, "{} events", times.len());
    let mut cells = 0;
    for how in [Crash::Process, Crash::Power] {
        for at in times.iter().step_by(times.len() / 60) {
            let mut plan = plan();
            plan.faults = vec![
                (*at, Fault::Crash(VICTIM, how)),
                (*at + Duration::from_secs(5), Fault::Restart(VICTIM)),
            ];
            plan.families = vec![if how == Crash::Power { Family::Power } else { Family::Crash }];
            plan.healed_at = *at + Duration::from_secs(6);
            let outcome = run(plan, None);
            assert_eq!(outcome.failures, [], "{how:?} at {at:?}");
            assert_eq!(outcome.summary.complete, 4, "{how:?} at {at:?}");
            cells += 1;
        }
    }
    assert!(cells >= 120, "{cells}");
}

#[test]
fn the_nth_failure_of_every_kind_of_job_is_survived() {
    let mut survived = BTreeMap::new();
    for kind in JobKind::ALL {
        for n in 1..1_000 {
            let mut plan = plan();
            plan.faults = vec![(Nanos::ZERO, Fault::DiskErrorAt(VICTIM, kind, n))];
            // Whatever stopped because of it is started again.
            for second in [20, 40, 60] {
                let at = Nanos::ZERO + Duration::from_secs(second);
                plan.faults.push((at, Fault::RestartTorrent(VICTIM)));
            }
            plan.families = vec![Family::DiskErrors];
            plan.healed_at = Nanos::ZERO + Duration::from_mins(1);
            let outcome = run(plan, None);
            if outcome.summary.fired.is_empty() {
                // There is no n-th job of this kind.
                break;
            }
            assert_eq!(outcome.failures, [], "{kind:?} number {n}");
            assert_eq!(outcome.summary.complete, 4, "{kind:?} number {n}");
            *survived.entry(format!("{kind:?}")).or_insert(0) += 1;
        }
    }
    println!("jobs that failed, one run each: {survived:?}");
    for kind in ["Open", "Read", "Write", "Hash", "Flush", "Save"] {
        assert!(survived.get(kind).is_some_and(|runs| *runs > 0), "{kind}: {survived:?}");
    }
}
