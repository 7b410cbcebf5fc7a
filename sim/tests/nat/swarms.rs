//! Whole swarms of sessions, some of them behind NATs.

use teem_sim::run::{Outcome, run};
use teem_sim::scenario::Scenario;

fn swarm(fidelity: &str, peers: &str) -> Outcome {
    let text = format!(
        "content = \"2 MiB\"\npiece = \"64 KiB\"\nfidelity = \"{fidelity}\"\ntracker = true\n{peers}"
    );
    run(Scenario::parse("nat", &text).expect("a scenario").draw(1, false), None)
}

#[test]
fn a_swarm_of_which_half_are_behind_nats_is_complete() {
    for fidelity in ["message", "flow"] {
        let outcome = swarm(
            fidelity,
            "[[peers]]\nrole = \"seeder\"\nup = \"1 MB/s\"\n\
             [[peers]]\nrole = \"leecher\"\ncount = 5\nup = \"500 kB/s\"\n\
             [[peers]]\nrole = \"leecher\"\ncount = 5\nup = \"500 kB/s\"\nnat = \"port-restricted\"\n",
        );
        assert_eq!(outcome.failures, [], "{:?}", outcome.summary);
        assert_eq!(outcome.summary.complete, 11);
    }
}

/// A seeder and a leecher, with the same line for both, and another for the seeder.
fn two(both: &str, seeder: &str) -> Outcome {
    swarm(
        "message",
        &format!(
            "[[peers]]\nrole = \"seeder\"\n{both}{seeder}\n[[peers]]\nrole = \"leecher\"\n{both}\n\
             [gate]\nslack = \"600 s\"\n"
        ),
    )
}

#[test]
fn two_behind_symmetric_nats_never_meet_without_a_mapping() {
    let outcome = two("nat = \"symmetric\"", "");
    assert_eq!(outcome.summary.complete, 1, "the seeder alone");
    assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    // With a forwarded port they do.
    let both = "nat = { kind = \"symmetric\", forward = true }";
    let outcome = two(both, "");
    assert_eq!(outcome.failures, [], "{:?}", outcome.summary);
    assert_eq!(outcome.summary.complete, 2);
}

#[test]
fn homes_behind_a_carrier_fetch_from_the_public_network() {
    let outcome = swarm(
        "flow",
        "[[peers]]\nrole = \"seeder\"\nup = \"1 MB/s\"\n\
         [[peers]]\nrole = \"leecher\"\ncount = 6\n\
         nat = { kind = \"port-restricted\", per = 2, carrier_grade = true }\n",
    );
    assert_eq!(outcome.failures, [], "{:?}", outcome.summary);
    assert_eq!(outcome.summary.complete, 7);
}

#[test]
fn a_swarm_behind_nats_gets_over_moves_churn_and_attackers() {
    let peers = "mix = \"20 % poisoner\"\n\
         [[peers]]\nrole = \"seeder\"\ncount = 2\nup = \"1 MB/s\"\n\
         [[peers]]\nrole = \"leecher\"\ncount = 10\nup = \"500 kB/s\"\n\
         nat = { kind = \"full-cone\", share = \"70 %\", per = \"1..3\" }\n\
         [faults.move]\nat = \"2..6 s\"\n[faults.churn]\nat = \"2..5 s\"\n\
         [faults.crash]\nat = \"2..6 s\"\n[gate]\nslack = \"600 s\"\n";
    let first = swarm("flow", peers);
    assert_eq!(first.failures, [], "{:?}", first.summary);
    assert_eq!(first.summary.digest, swarm("flow", peers).summary.digest);
}
