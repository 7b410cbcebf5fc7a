//! Whole swarms of sessions, some of them behind NATs.

use std::net::Ipv4Addr;

use teem_core::peer::{CloseReason, Refusal};
use teem_core::session::{Command, Config, Event};
use teem_sim::nat::{Kind, NatConfig, Protocol};
use teem_sim::run::{Outcome, run};
use teem_sim::scenario::Scenario;
use teem_sim::swarm::{PORT, Swarm};

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

#[test]
fn a_client_that_is_told_its_own_outside_address_finds_itself_once() {
    for hairpin in [false, true] {
        let mut swarm = Swarm::new(100_000, 32 * 1024, 1);
        let config = NatConfig { hairpin, ..NatConfig::of(Kind::PortRestricted) };
        let nat = swarm.net.add_nat(config, &[Ipv4Addr::new(203, 0, 113, 1)], None);
        let leecher = swarm.leecher(Config::default());
        swarm.run(1, |_| false);
        swarm.net.put_behind(leecher, nat);
        let own = swarm.net.forward(leecher, Protocol::Tcp, PORT).expect("it is free");
        swarm.command(leecher, Command::AddPeers(swarm.torrent(leecher), vec![own]));
        swarm.run(600, |_| false);
        let told: Vec<_> = swarm
            .events(leecher)
            .iter()
            .filter_map(|event| match event {
                Event::PeerClosed { address, reason, .. } => Some((*address, *reason)),
                _ => None,
            })
            .collect();
        let itself = CloseReason::Refused(Refusal::SelfConnection);
        let dialled = told.iter().filter(|told| **told == (own, itself)).count();
        assert_eq!(dialled, usize::from(hairpin), "{told:?}");
    }
}
