//! Datagrams: the matrix of NATs, holes, pairs drawn from a mix of devices, timeouts, ports.

use std::net::{Ipv4Addr, SocketAddr};

use teem_core::rng::Seed;
use teem_core::time::Duration;
use teem_sim::nat::{Dependence, Kind, NatConfig, PortAllocation};
use teem_sim::net::HostId;

use super::station::{PLACES, PORT, World, is_private};

const SECOND: Duration = Duration::from_secs(1);

/// Who is reached at the address that a third host saw, by somebody to whom it never sent anything:
/// filtering alone decides (RFC 5780, section 4.4). By what the receiver is behind.
const REACHED: [bool; 5] = [true, true, false, false, false];

/// Who talks to whom after both were told each other's address and sent there: RFC 5128, section
/// 3.3. It fails where one side's port is another towards each remote side, and the other side lets
/// in only the port that it was told. Rows and columns as [`PLACES`].
const PUNCHED: [[bool; 5]; 5] = [
    [true, true, true, true, true],
    [true, true, true, true, true],
    [true, true, true, true, true],
    [true, true, true, true, false],
    [true, true, true, false, false],
];

/// Whether a host hears what another one sends once.
fn reaches(world: &mut World, from: HostId, to: HostId, at: SocketAddr) -> bool {
    world.at(from).send(at, b"direct");
    world.run(SECOND);
    world.see(to).heard_from(b"direct").is_some()
}

/// Whether two hosts that know each other's addresses talk: each sends three times, and answers
/// where it heard from.
fn punch(world: &mut World, [one, other]: [HostId; 2], seen: [SocketAddr; 2]) -> bool {
    for host in [one, other] {
        world.at(host).answers = true;
    }
    for _ in 0..3 {
        world.at(one).send(seen[1], b"hole");
        world.at(other).send(seen[0], b"hole");
        world.run(SECOND);
    }
    // An answer is a way there and back, whoever found it.
    [one, other].iter().any(|host| world.see(*host).heard_from(b"re:hole").is_some())
}

#[test]
fn who_reaches_whom_is_as_the_rfcs_say() {
    let mut cells = 0;
    for hairpin in [false, true] {
        for (row, (from, outer)) in PLACES.iter().enumerate() {
            for (column, (to, inner)) in PLACES.iter().enumerate() {
                // Hairpinning is about one NAT: between two it changes nothing.
                let config = |kind| NatConfig { hairpin, ..NatConfig::of(kind) };
                let mut world = World::new();
                let rendezvous = world.station();
                let hosts = [outer, inner].map(|kind| world.behind(kind.map(config)));
                let seen = world.meet(rendezvous, hosts);
                let reached = reaches(&mut world, hosts[0], hosts[1], seen[1]);
                assert_eq!(reached, REACHED[column], "{from} to {to}, hairpin {hairpin}");
                let mut world = World::new();
                let rendezvous = world.station();
                let hosts = [outer, inner].map(|kind| world.behind(kind.map(config)));
                let seen = world.meet(rendezvous, hosts);
                let punched = punch(&mut world, hosts, seen);
                assert_eq!(punched, PUNCHED[row][column], "{from} with {to}");
                cells += 2;
            }
        }
    }
    assert_eq!(cells, 100);
}

#[test]
fn who_is_behind_the_same_nat_is_reached_outside_only_with_hairpinning() {
    let mut cells = 0;
    for hairpin in [false, true] {
        for (place, (name, kind)) in PLACES.iter().enumerate() {
            let Some(kind) = kind else { continue };
            for punches in [false, true] {
                let mut world = World::new();
                let rendezvous = world.station();
                let nat = world.nat(NatConfig { hairpin, ..NatConfig::of(*kind) });
                let hosts = [world.inside(nat), world.inside(nat)];
                let seen = world.meet(rendezvous, hosts);
                let (found, table) = if punches {
                    (punch(&mut world, hosts, seen), PUNCHED[place][place])
                } else {
                    (reaches(&mut world, hosts[0], hosts[1], seen[1]), REACHED[place])
                };
                assert_eq!(found, hairpin && table, "{name}, {hairpin}, {punches}");
                // Inside, they reach one another whatever the NAT is.
                let inside = world.own(hosts[1]);
                world.at(hosts[0]).send(inside, b"inside");
                world.run(SECOND);
                let from = world.see(hosts[1]).heard_from(b"inside");
                assert_eq!(from, Some(world.own(hosts[0])));
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 16);
}

#[test]
fn a_hairpinned_datagram_comes_from_the_senders_outside_address() {
    let mut world = World::new();
    let rendezvous = world.station();
    let nat = world.nat(NatConfig::of(Kind::FullCone));
    let hosts = [world.inside(nat), world.inside(nat)];
    let seen = world.meet(rendezvous, hosts);
    assert!(reaches(&mut world, hosts[0], hosts[1], seen[1]));
    assert_eq!(world.see(hosts[1]).heard_from(b"direct"), Some(seen[0]));
}

#[test]
fn inside_addresses_are_private_and_several_nats_have_the_same() {
    let mut world = World::new();
    let public = world.station();
    let hosts = [0, 1].map(|_| world.behind(Some(NatConfig::of(Kind::FullCone))));
    let own = hosts.map(|host| world.own(host));
    assert_eq!(own[0], own[1]);
    assert!(is_private(own[0].ip()));
    let seen = world.meet(public, hosts);
    assert_ne!(seen[0], seen[1]);
    assert!(!is_private(seen[0].ip()) && !is_private(seen[1].ip()));
    // From outside, an inside address is nowhere; the sender's own is itself.
    world.at(public).send(own[0], b"private");
    world.at(hosts[0]).send(own[1], b"myself");
    world.run(SECOND);
    assert!(hosts.iter().all(|host| world.see(*host).heard_from(b"private").is_none()));
    assert!(world.see(hosts[0]).heard_from(b"myself").is_some());
    assert!(world.see(hosts[1]).heard_from(b"myself").is_none());
}

/// So many of 100 NATs can be punched for UDP: Ford, Srisuresh and Kegel (2005), table 1.
const PUNCHABLE_PERCENT: u32 = 82;

#[test]
fn pairs_of_measured_devices_talk_as_often_as_their_mix_says() {
    const PAIRS: u32 = 3_000;
    let mut rng = Seed::from_number(5).stream("devices", 0);
    let mut world = World::new();
    let rendezvous = world.station();
    let mut draw = || {
        let punchable = rng.below(100) < PUNCHABLE_PERCENT;
        if punchable { Kind::PortRestricted } else { Kind::Symmetric }
    };
    let pairs: Vec<_> = (0..PAIRS).map(|_| [draw(), draw()]).collect();
    let hosts: Vec<_> =
        pairs.iter().map(|pair| pair.map(|kind| world.behind(Some(NatConfig::of(kind))))).collect();
    world.run(Duration::ZERO);
    let address = world.own(rendezvous);
    for pair in &hosts {
        for host in pair {
            world.at(*host).answers = true;
            world.at(*host).send(address, &host.to_be_bytes());
        }
    }
    world.run(SECOND);
    let heard = world.see(rendezvous).heard.clone();
    let seen: std::collections::BTreeMap<_, _> =
        heard.into_iter().map(|(from, host)| (host, from)).collect();
    let seen = |host: HostId| seen[&host.to_be_bytes().to_vec()];
    for _ in 0..2 {
        for [one, other] in &hosts {
            world.at(*one).send(seen(*other), b"hole");
            world.at(*other).send(seen(*one), b"hole");
        }
        world.run(SECOND);
    }
    let talk = |pair: &&[HostId; 2]| {
        pair.iter().any(|host| world.see(*host).heard_from(b"re:hole").is_some())
    };
    let talking = hosts.iter().filter(talk).count() as f64;
    // Both must be punchable: a port-restricted one lets no other port in than it was told.
    let p = f64::from(PUNCHABLE_PERCENT) / 100.0;
    let (expected, pairs) = (p * p, f64::from(PAIRS));
    let sigma = (pairs * expected * (1.0 - expected)).sqrt();
    assert!((talking - pairs * expected).abs() < 4.0 * sigma, "{talking} of {pairs}");
}

#[test]
fn homes_behind_one_carrier_talk_if_the_carrier_hairpins() {
    for hairpin in [false, true] {
        let mut world = World::new();
        let rendezvous = world.station();
        let carrier = NatConfig { hairpin, ..NatConfig::of(Kind::CarrierGrade) };
        let carrier_ip = world.public_ip();
        let carrier = world.net.add_nat(carrier, &[carrier_ip], None);
        let hosts = [0, 1].map(|_| {
            let home = world.net.add_nat(NatConfig::of(Kind::PortRestricted), &[], Some(carrier));
            world.inside(home)
        });
        let seen = world.meet(rendezvous, hosts);
        // What a home has outside is the carrier's inside; what the world sees is the carrier's.
        assert!(seen.iter().all(|address| address.ip() == carrier_ip));
        let homes = hosts.map(|host| world.net.nat_of(host).expect("it has one"));
        for home in homes {
            let outside: Vec<_> = world.net.nat(home).external().collect();
            assert!(world.net.nat(carrier).is_inside(outside[0].into()), "{outside:?}");
        }
        assert_eq!(punch(&mut world, hosts, seen), hairpin);
    }
}

#[test]
fn a_mapping_on_which_nothing_goes_out_is_closed_after_its_timeout() {
    for refresh_inbound in [false, true] {
        let mut world = World::new();
        let rendezvous = world.station();
        let udp_timeout = Duration::from_mins(2);
        let base = NatConfig::of(Kind::PortRestricted);
        let host = world.behind(Some(NatConfig { udp_timeout, refresh_inbound, ..base }));
        let address = world.own(rendezvous);
        world.at(host).send(address, b"here I am");
        world.run(SECOND);
        let seen = world.see(rendezvous).heard[0].0;
        let arrives = |world: &mut World, text: &[u8]| {
            world.at(rendezvous).send(seen, text);
            world.run(SECOND);
            world.see(host).heard_from(text).is_some()
        };
        world.run(Duration::from_secs(117));
        assert!(arrives(&mut world, b"at 118 s"));
        world.run(Duration::from_secs(2));
        assert_eq!(arrives(&mut world, b"at 121 s"), refresh_inbound);
        world.run(Duration::from_secs(121));
        assert!(!arrives(&mut world, b"two minutes later"));
        // Another one is made, at the same port as it is free.
        world.at(host).send(address, b"again");
        world.run(SECOND);
        assert_eq!(world.see(rendezvous).heard_from(b"again"), Some(seen));
    }
}

#[test]
fn a_customer_of_a_carrier_runs_out_of_ports_and_its_neighbour_does_not() {
    let mut world = World::new();
    let rendezvous = world.station();
    let base = NatConfig::of(Kind::CarrierGrade);
    // Towards each remote side another port, so that one socket needs many.
    let config = NatConfig { mapping: Dependence::AddressAndPort, ports_per_host_max: 5, ..base };
    let nat = world.nat(config);
    let hosts = [world.inside(nat), world.inside(nat)];
    let others: Vec<_> = (0..6).map(|_| world.station()).collect();
    for host in hosts {
        for other in &others {
            let to = world.own(*other);
            world.at(host).send(to, b"hello");
        }
    }
    world.run(SECOND);
    let heard = |other: &HostId| world.see(*other).heard.len();
    assert_eq!(others.iter().map(heard).collect::<Vec<_>>(), [2, 2, 2, 2, 2, 0]);
    assert_eq!(world.net.nat(nat).mappings(world.net.nanos()), 10);
    assert_eq!(world.net.counters().datagrams_lost, 2);
    // When the others are over there is room.
    world.run(config.udp_timeout);
    let to = world.own(rendezvous);
    world.at(hosts[0]).send(to, b"now");
    world.run(SECOND);
    assert!(world.see(rendezvous).heard_from(b"now").is_some());
}

#[test]
fn a_pool_of_addresses_is_shared_out_by_host() {
    let mut world = World::new();
    let pool: Vec<Ipv4Addr> = (0..3).map(|_| world.public_ip()).collect();
    let nat = world.net.add_nat(NatConfig::of(Kind::CarrierGrade), &pool, None);
    let stations = [0, 1, 2, 3].map(|_| world.station());
    let hosts = [0, 1, 2].map(|_| world.inside(nat));
    for host in hosts {
        for station in stations {
            let to = world.own(station);
            world.at(host).send(to, &host.to_be_bytes());
        }
    }
    world.run(SECOND);
    let ips = hosts.map(|host| {
        let seen = stations.map(|station| {
            world.see(station).heard_from(&host.to_be_bytes()).expect("it passes").ip()
        });
        assert!(seen.iter().all(|ip| *ip == seen[0]), "{seen:?}");
        seen[0]
    });
    let expected: std::collections::BTreeSet<_> = pool.into_iter().map(Into::into).collect();
    assert_eq!(ips.into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
}

#[test]
fn ports_are_preserved_as_far_as_they_are_free() {
    let mut world = World::new();
    let rendezvous = world.station();
    let nat = world.nat(NatConfig::of(Kind::FullCone));
    let hosts = [world.inside(nat), world.inside(nat)];
    let seen = world.meet(rendezvous, hosts);
    assert_eq!(seen[0].port(), PORT);
    assert_ne!(seen[1].port(), PORT);
    let config = NatConfig { ports: PortAllocation::Sequential, ..NatConfig::of(Kind::FullCone) };
    let nat = world.nat(config);
    let hosts = [world.inside(nat), world.inside(nat)];
    let seen = world.meet(rendezvous, hosts).map(|seen| seen.port());
    assert_eq!(seen, [config.ports_from, config.ports_from + 1]);
}

#[test]
fn a_nat_that_gets_another_address_has_forgotten_everything() {
    let mut world = World::new();
    let rendezvous = world.station();
    let host = world.behind(Some(NatConfig::of(Kind::FullCone)));
    let old = world.meet(rendezvous, [host, host])[0];
    let new = world.public_ip();
    let nat = world.net.nat_of(host).expect("it has one");
    world.net.renumber_nat(nat, &[new]);
    assert!(!reaches(&mut world, rendezvous, host, old));
    world.at(rendezvous).heard.clear();
    let seen = world.meet(rendezvous, [host, host])[0];
    assert_eq!(seen.ip(), new);
    assert!(reaches(&mut world, rendezvous, host, seen));
}

#[test]
fn a_host_that_moves_behind_a_nat_is_where_it_was_no_more() {
    let mut world = World::new();
    let (rendezvous, host) = (world.station(), world.station());
    let before = world.own(host);
    assert!(reaches(&mut world, rendezvous, host, before));
    world.at(host).heard.clear();
    let nat = world.nat(NatConfig::of(Kind::FullCone));
    let inside = world.net.put_behind(host, nat);
    assert_eq!(world.see(host).own.last(), Some(&SocketAddr::new(inside, PORT)), "it is told");
    assert!(!reaches(&mut world, rendezvous, host, before));
    let seen = world.meet(rendezvous, [host, host])[0];
    assert!(reaches(&mut world, rendezvous, host, seen));
}
