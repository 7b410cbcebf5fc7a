//! Plans with NATs, written down as files and read again.

use teem_core::time::Duration;
use teem_sim::nat::{Kind, NatConfig, Servers};
use teem_sim::net::Fidelity;
use teem_sim::run::{HostPlan, NatPlan, Plan, run};
use teem_sim::scenario::{Scenario, write};

/// NATs of each sort, in groups that are drawn; some of their peers go, and others come, move, crash.
const DRAWN: &str = r#"
content = "1 MiB"
piece = "64 KiB"
tracker = true
mix = "20 % poisoner"
[[peers]]
role = "seeder"
count = 2
up = "1 MB/s"
nat = { kind = "port-restricted", share = "50 %", forward = true }
[[peers]]
role = "leecher"
count = 7
up = "500..900 kB/s"
nat = { kind = "full-cone", share = "70 %", per = "1..3", unsolicited = "reset", upnp = true }
[[peers]]
role = "leecher"
count = 6
up = "500 kB/s"
nat = { kind = "restricted-cone", carrier_grade = true, per = "1..2", udp_timeout = "30..60 s", ports_per_host = 300 }
[[peers]]
role = "leecher"
count = 3
nat = { kind = "symmetric", hairpin = false, tcp_timeout = "1 h", ports = "sequential", refresh_inbound = true }
[faults.move]
at = "1..3 s"
[faults.churn]
at = "1..3 s"
lasts = "1..2 s"
[faults.crash]
at = "1..3 s"
lasts = "1..2 s"
[gate]
slack = "600 s"
"#;

fn parsed(text: &str) -> Scenario {
    Scenario::parse("nat", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn again(plan: &Plan) -> Plan {
    parsed(&write(plan).expect("it can be said")).plan()
}

#[test]
fn a_plan_with_nats_in_a_file_is_the_same_plan() {
    let (mut carriers, mut shared, mut forwarding) = (0, 0, 0);
    for seed in 0..100 {
        let plan = parsed(DRAWN).draw(seed, seed % 2 == 0);
        assert_eq!(again(&plan), plan, "seed {seed}");
        carriers += plan.nats.iter().filter(|nat| nat.hosts.is_empty()).count();
        shared += plan.nats.iter().filter(|nat| nat.hosts.len() > 1).count();
        forwarding += plan.nats.iter().filter(|nat| nat.forward).count();
    }
    assert_eq!(carriers, 100);
    assert!(shared > 100 && forwarding > 50, "{shared} and {forwarding}");
}

#[test]
fn its_run_is_the_same_byte_for_byte() {
    for (fidelity, seeds) in
        [(Fidelity::Message, 0..4), (Fidelity::Flow, 2..6), (Fidelity::Packet, 4..7)]
    {
        for seed in seeds {
            let plan = Plan { fidelity, ..parsed(DRAWN).draw(seed, false) };
            let read = again(&plan);
            let (one, other) = (run(plan, None), run(read, None));
            assert_eq!(one.summary.digest, other.summary.digest, "{fidelity:?} seed {seed}");
            assert_eq!(one.host_digests, other.host_digests, "{fidelity:?} seed {seed}");
            assert_eq!(one.failures, other.failures);
        }
    }
}

#[test]
fn a_host_or_a_nat_that_is_gone_leaves_the_others_their_numbers() {
    let text = "content = \"256 KiB\"\n[[peers]]\nrole = \"seeder\"\n\
                [[peers]]\nrole = \"leecher\"\ncount = 9\nnat = \"port-restricted\"\n";
    let plan = parsed(text).draw(1, false);
    let mut less = plan.clone();
    for gone in [3, 4] {
        less.hosts[gone] = HostPlan::nobody();
        less.nats[gone - 1] = NatPlan::nobody();
    }
    less.nats[5] = NatPlan::nobody();
    let text = write(&less).expect("it can be said");
    for line in [
        "{ role = \"leecher\", count = 2, nat = \"port-restricted\" }",
        "{ place = 5, role = \"leecher\", nat = { place = 4, kind = \"port-restricted\" } }",
        "{ role = \"leecher\" }",
        "{ role = \"leecher\", count = 3, nat = { place = 6, kind = \"port-restricted\" } }",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let read = parsed(&text).plan();
    assert_eq!(read, less);
    // Whoever is there draws what it drew: what the NATs are at outside, too.
    assert_eq!(run(read, None).summary.digest, run(less, None).summary.digest);
}

#[test]
fn nats_with_names_are_shared_and_behind_a_carrier() {
    let text = r#"
        content = "256 KiB"
        nats = [
          { name = "carrier", kind = "carrier-grade", addresses = 3, ports_per_host = 100 },
          { name = "home", kind = "symmetric", behind = "carrier", pcp = true },
          { name = "office", place = 7, kind = "full-cone" },
        ]
        peers = [
          { role = "seeder" },
          { role = "leecher", count = 2, behind = "home" },
          { role = "leecher", behind = "carrier" },
          { role = "leecher", count = 3, nat = { kind = "port-restricted", behind = "carrier" } },
          { role = "leecher", behind = "home" },
        ]
    "#;
    let plan = parsed(text).plan();
    let carrier = NatConfig { ports_per_host_max: 100, ..NatConfig::of(Kind::CarrierGrade) };
    let home = NatConfig {
        servers: Servers { pcp: true, ..Servers::OFF },
        ..NatConfig::of(Kind::Symmetric)
    };
    let nat = |config, hosts: &[usize], behind, addresses| NatPlan {
        config,
        hosts: hosts.to_vec(),
        behind,
        addresses,
        forward: false,
    };
    assert_eq!(plan.nats.len(), 11);
    assert_eq!(plan.nats[0], nat(carrier, &[3], None, 3));
    assert_eq!(plan.nats[1], nat(home, &[1, 2, 7], Some(0), 1));
    assert!(plan.nats[2..7].iter().all(|nat| *nat == NatPlan::nobody()));
    assert_eq!(plan.nats[7], nat(NatConfig::of(Kind::FullCone), &[], None, 1));
    for (at, host) in [(8, 4), (9, 5), (10, 6)] {
        let own = nat(NatConfig::of(Kind::PortRestricted), &[host], Some(0), 1);
        assert_eq!(plan.nats[at], own);
    }
    // A full cone that nobody is behind is an empty place, so it need not be said.
    let again = again(&plan);
    assert_eq!(again, plan);
    let outcome = run(plan, None);
    assert_eq!(outcome.failures, [], "{:?}", outcome.summary);
    assert_eq!(outcome.summary.complete, 8);
}

#[test]
fn nats_of_a_file_that_make_no_sense_are_refused_in_words() {
    let carrier = "{ name = \"c\", kind = \"carrier-grade\" }";
    let own = |more: &str| format!("nat = {{ kind = \"symmetric\", {more} }}");
    for (nats, peers, hint) in [
        ("\"symmetric\"", String::new(), "needs a name"),
        ("{ name = \"a\", kind = \"symmetric\", per = 2 }", String::new(), "of a group"),
        ("{ name = \"a\", kind = \"symmetric\", behind = \"b\" }", String::new(), "no \"b\""),
        (&format!("{carrier}, {carrier}"), String::new(), "another \"c\""),
        ("{ name = \"a\", kind = \"symmetric\", forward = true }", String::new(), "forwarded"),
        ("{ name = \"a\", kind = \"symmetric\", addresses = 257 }", String::new(), "256"),
        (carrier, own("name = \"d\""), "of the list nats"),
        (carrier, own("behind = \"d\""), "no \"d\""),
        (carrier, own("behind = \"c\", carrier_grade = true"), "another carrier"),
        (carrier, own("behind = \"c\", forward = true"), "forwarded"),
        (carrier, "behind = \"d\"".into(), "no \"d\""),
        (carrier, "behind = \"c\"\nnat = \"symmetric\"".into(), "of its own or"),
        (carrier, "behind = \"c\"\ncount = 10_001".into(), "at most 10000"),
        (carrier, own("place = 0"), "each has its own"),
        (carrier, own("place = 1, share = \"5 %\""), "how many there are"),
        (carrier, own("place = 200_001"), "at most 200,000"),
        (
            "{ name = \"c\", place = 4, kind = \"carrier-grade\" }",
            own("place = 2, behind = \"c\""),
            "after the carrier's",
        ),
    ] {
        let text = format!(
            "content = \"1 MiB\"\nnats = [{nats}]\n[[peers]]\nrole = \"seeder\"\n\
             [[peers]]\nrole = \"leecher\"\n{peers}\n"
        );
        let said = Scenario::parse("test", &text).map(|_| ()).expect_err(&text).to_string();
        assert!(said.contains(hint), "{text}: {said}");
    }
}

/// What is changed about a plan.
type Change<'a> = &'a dyn Fn(&mut Plan);

#[test]
fn a_nat_that_no_file_can_say_is_told() {
    let text =
        "content = \"256 KiB\"\n[[peers]]\nrole = \"seeder\"\ncount = 3\nnat = \"full-cone\"\n";
    let plan = parsed(text).plan();
    let changes: [(&str, Change<'_>); 5] = [
        ("the NAT", &|plan| plan.nats[0].config.tcp_transitory = Duration::from_secs(7)),
        ("not in order", &|plan| plan.nats[0].hosts = vec![2, 1]),
        ("two NATs", &|plan| plan.nats[0].hosts = vec![0, 1]),
        ("none of a carrier", &|plan| plan.nats[1].behind = Some(0)),
        ("forwarded", &|plan| (plan.nats[0].forward, plan.nats[0].addresses) = (true, 2)),
    ];
    for (hint, change) in changes {
        let mut plan = plan.clone();
        change(&mut plan);
        let said = write(&plan).expect_err(hint).to_string();
        assert!(said.contains(hint), "{said}");
    }
}
