//! Runs that fail behind NATs are made small: NATs that it takes stay, others go.

use std::ops::ControlFlow;

use teem_sim::nat::{Kind, NatConfig};
use teem_sim::run::{NatPlan, Role, run};
use teem_sim::scenario::Scenario;
use teem_sim::shrink::{Limits, Shrunk, shrink};

fn shrunk(text: &str) -> Shrunk {
    let plan = Scenario::parse("nat", text).expect("a scenario").draw(3, false);
    assert!(!plan.nats.is_empty());
    let limits = Limits { jobs: 2, ..Limits::default() };
    let shrunk = shrink(plan, limits, &mut |_| ControlFlow::Continue(())).expect("it fails");
    assert!(shrunk.is_smallest);
    // Whoever reads the file has the same.
    let text = shrunk.file().expect("it can be said");
    let read = Scenario::parse("read", &text).expect(&text).plan();
    assert_eq!(read, shrunk.plan, "{text}");
    let outcome = run(read, None);
    assert_eq!(outcome.summary.failures[0], shrunk.failure);
    shrunk
}

fn roles(shrunk: &Shrunk) -> usize {
    shrunk.plan.hosts.iter().filter(|host| host.role != Role::Nobody).count()
}

#[test]
fn nats_without_which_all_would_meet_stay_and_the_carrier_goes() {
    // Nobody can be called.
    let shrunk = shrunk(
        "content = \"256 KiB\"\npiece = \"64 KiB\"\ntracker = true\n\
         [[peers]]\nrole = \"seeder\"\nup = \"1 MB/s\"\n\
         nat = { kind = \"symmetric\", udp_timeout = \"30..60 s\" }\n\
         [[peers]]\nrole = \"leecher\"\ncount = 5\nup = \"500 kB/s\"\n\
         nat = { kind = \"port-restricted\", carrier_grade = true, per = 2 }\n\
         [faults.crash]\nat = \"1..3 s\"\n[gate]\nslack = \"60 s\"\n",
    );
    assert_eq!(shrunk.kind, "incomplete");
    assert_eq!(roles(&shrunk), 2, "{:?}", shrunk.plan.hosts);
    // Each of them would be called if it were seen at an address of its own.
    let own = |host| NatPlan {
        config: NatConfig::of(Kind::FullCone),
        hosts: vec![host],
        ..NatPlan::nobody()
    };
    assert_eq!(shrunk.plan.nats, [own(0), own(1)]);
    let text = shrunk.file().expect("it can be said");
    assert_eq!(text.matches("nat = \"full-cone\"").count(), 2, "{text}");
    let helped: Vec<_> = shrunk.steps.iter().map(|step| step.what).collect();
    assert!(helped.contains(&"fewer NATs") && helped.contains(&"full cones"), "{helped:?}");
}

#[test]
fn a_nat_that_both_must_be_behind_stays_with_both_behind_it() {
    // Whoever of them were seen at an address of its own would be called by the other.
    let shrunk = shrunk(
        "content = \"256 KiB\"\npiece = \"64 KiB\"\ntracker = true\n\
         nats = [{ name = \"home\", kind = \"symmetric\", hairpin = false }]\n\
         peers = [\n\
           { role = \"seeder\", up = \"1 MB/s\", behind = \"home\" },\n\
           { role = \"leecher\", up = \"500 kB/s\", count = 3, behind = \"home\" },\n\
         ]\n[gate]\nslack = \"60 s\"\n",
    );
    assert_eq!(roles(&shrunk), 2, "{:?}", shrunk.plan.hosts);
    assert_eq!(shrunk.plan.nats.len(), 1, "{:?}", shrunk.plan.nats);
    assert_eq!(shrunk.plan.nats[0].hosts, [0, 1]);
    let text = shrunk.file().expect("it can be said");
    assert_eq!(text.matches("behind = \"nat0\"").count(), 2, "{text}");
}

#[test]
fn nats_that_have_nothing_to_do_with_it_go() {
    // Nobody could be as fast as this asks for.
    let shrunk = shrunk(
        "content = \"1 MiB\"\npiece = \"64 KiB\"\ntracker = true\n\
         [[peers]]\nrole = \"seeder\"\nup = \"100 kB/s\"\n\
         [[peers]]\nrole = \"leecher\"\ncount = 6\nup = \"50 kB/s\"\n\
         nat = { kind = \"port-restricted\", carrier_grade = true, per = 2 }\n\
         [gate]\nbound = 0.5\nslack = \"0 s\"\n",
    );
    assert_eq!(shrunk.kind, "incomplete");
    assert_eq!(shrunk.plan.nats, []);
    assert_eq!(roles(&shrunk), 2);
    let text = shrunk.file().expect("it can be said");
    assert!(!text.contains("nat =") && !text.contains("nats"), "{text}");
}
