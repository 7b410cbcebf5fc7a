//! Streams: calls out and in, calls from both sides at once, and what a NAT forgets.

use std::net::SocketAddr;

use teem_core::machine::StreamError;
use teem_core::rng::Seed;
use teem_core::time::Duration;
use teem_sim::nat::{Kind, NatConfig, Protocol, Unsolicited};
use teem_sim::net::{Fidelity, GIVE_UP, HostId};

use super::station::{Fate, LATENCY, PLACES, PORT, World, is_private};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than any call is tried.
const LONG: Duration = Duration::from_secs(200);

#[test]
fn a_call_from_inside_comes_from_the_outside_address_and_carries_bytes_both_ways() {
    for fidelity in [Fidelity::Message, Fidelity::Flow] {
        let mut world = World::of(fidelity);
        let public = world.station();
        let host = world.behind(Some(NatConfig::of(Kind::Symmetric)));
        let nat = world.net.nat_of(host).expect("it has one");
        let to = world.own(public);
        let stream = world.at(host).call(to, None);
        world.run(SECOND);
        assert_eq!(world.see(host).fate(stream), Some(&Fate::Connected));
        let own = *world.see(host).own.last().expect("it was told");
        assert!(is_private(own.ip()));
        let (other, from) = world.see(public).accepted()[0];
        assert!(world.net.nat(nat).is_external(from.ip()), "{from}");
        let bytes = vec![7; 100_000];
        world.at(host).write(stream, &bytes);
        world.at(public).write(other, b"and back");
        world.run(SECOND);
        assert_eq!(world.see(public).received[&other], bytes);
        assert_eq!(world.see(host).received[&stream], b"and back");
        let counters = world.net.counters();
        assert_eq!(counters.handed_bytes, counters.delivered_bytes);
    }
}

#[test]
fn a_call_from_outside_is_silence_or_a_refusal_and_passes_a_forwarded_port() {
    for unsolicited in [Unsolicited::Drop, Unsolicited::Reset] {
        let mut world = World::new();
        let public = world.station();
        let host = world.behind(Some(NatConfig { unsolicited, ..NatConfig::of(Kind::FullCone) }));
        let nat = world.net.nat_of(host).expect("it has one");
        let ip = world.net.nat(nat).external().next().expect("one");
        let stream = world.at(public).call((ip, PORT).into(), None);
        world.run(4 * LATENCY);
        let refused = Fate::Failed(StreamError::Refused);
        let expected = (unsolicited == Unsolicited::Reset).then_some(&refused);
        assert_eq!(world.see(public).fate(stream), expected);
        world.run(LONG);
        if unsolicited == Unsolicited::Drop {
            let fate = world.see(public).fate(stream);
            assert_eq!(fate, Some(&Fate::Failed(StreamError::TimedOut)));
        }
        let outside = world.net.forward(host, Protocol::Tcp, PORT).expect("it is free");
        let stream = world.at(public).call(outside, None);
        world.run(SECOND);
        assert_eq!(world.see(public).fate(stream), Some(&Fate::Connected));
        let from = world.see(host).accepted()[0].1;
        let own = world.own(public);
        assert_eq!(from.ip(), own.ip(), "a caller's address is not changed on the way in");
        assert!(is_private(world.see(host).own.last().expect("it was called").ip()));
    }
}

/// Both call each other at once, from the ports at which a third host saw them.
fn both_call(world: &mut World, rendezvous: HostId, hosts: [HostId; 2]) -> bool {
    // What is mapped is mapped for streams: they call the third host from that port.
    let third = world.own(rendezvous);
    let from = hosts.map(|host| world.own(host));
    for (host, from) in hosts.iter().zip(from) {
        world.at(*host).call(third, Some(from));
    }
    world.run(SECOND);
    let accepted = world.see(rendezvous).accepted();
    assert_eq!(accepted.len(), 2);
    let seen = [accepted[0].1, accepted[1].1];
    let calls = [(0, 1), (1, 0)].map(|(one, other): (usize, usize)| {
        world.at(hosts[one]).call(seen[other], Some(from[one]))
    });
    world.run(LONG);
    let up = [0, 1].map(|at| world.see(hosts[at]).fate(calls[at]) == Some(&Fate::Connected));
    if up == [true, true] {
        world.at(hosts[0]).write(calls[0], b"through the hole");
        world.run(SECOND);
        let received = world.see(hosts[1]).received.get(&calls[1]);
        assert_eq!(received.map(Vec::as_slice), Some(&b"through the hole"[..]), "one stream");
    }
    up == [true, true]
}

#[test]
fn calls_from_both_sides_meet_where_holes_can_be_punched() {
    let mut cells = 0;
    for (row, (one, outer)) in PLACES.iter().enumerate() {
        for (column, (other, inner)) in PLACES.iter().enumerate() {
            let mut world = World::new();
            let rendezvous = world.station();
            let hosts = [outer, inner].map(|kind| world.behind(kind.map(NatConfig::of)));
            // Only where there are NATs are such calls looked for.
            world.nat(NatConfig::of(Kind::FullCone));
            // A call goes to the port that was told, so one whose port is another towards each
            // remote side is not where the other one calls: they do not meet, though one of them
            // may get through to a listener where nothing but addresses is filtered. Without such
            // a port they meet.
            let symmetric = [row, column].contains(&4);
            let met = both_call(&mut world, rendezvous, hosts);
            assert_eq!(met, !symmetric, "{one} with {other}");
            cells += 1;
        }
    }
    assert_eq!(cells, 25);
}

/// So many of 100 NATs can be punched for TCP: Ford, Srisuresh and Kegel (2005), table 1.
const PUNCHABLE_PERCENT: u32 = 64;

#[test]
fn pairs_of_measured_devices_meet_as_often_as_their_mix_says() {
    const PAIRS: usize = 1_500;
    let mut rng = Seed::from_number(6).stream("devices", 0);
    let mut world = World::new();
    let rendezvous = world.station();
    let third = world.own(rendezvous);
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let mut host = || {
            let punchable = rng.below(100) < PUNCHABLE_PERCENT;
            let kind = if punchable { Kind::PortRestricted } else { Kind::Symmetric };
            let host = world.behind(Some(NatConfig::of(kind)));
            let own = world.own(host);
            let call = world.at(host).call(third, Some(own));
            world.run(SECOND);
            let (stream, seen) = *world.see(rendezvous).accepted().last().expect("it was called");
            // Not to look through all of them the next time.
            world.at(rendezvous).fates.clear();
            world.at(rendezvous).close(stream);
            world.at(host).close(call);
            (host, own, seen)
        };
        pairs.push([host(), host()]);
    }
    let calls: Vec<_> = pairs
        .iter()
        .map(|[one, other]| {
            world.at(other.0).call(one.2, Some(other.1));
            world.at(one.0).call(other.2, Some(one.1))
        })
        .collect();
    world.run(LONG);
    let met = pairs
        .iter()
        .zip(calls)
        .filter(|([one, _], call)| world.see(one.0).fate(*call) == Some(&Fate::Connected));
    let (met, pairs) = (met.count() as f64, PAIRS as f64);
    let expected = (f64::from(PUNCHABLE_PERCENT) / 100.0).powi(2);
    let sigma = (pairs * expected * (1.0 - expected)).sqrt();
    assert!((met - pairs * expected).abs() < 4.0 * sigma, "{met} of {pairs}");
}

#[test]
fn a_nat_that_resets_what_comes_too_early_breaks_a_call_from_both_sides() {
    for unsolicited in [Unsolicited::Drop, Unsolicited::Reset] {
        let mut world = World::new();
        let rendezvous = world.station();
        let config = NatConfig { unsolicited, ..NatConfig::of(Kind::PortRestricted) };
        let hosts = [0, 1].map(|_| world.behind(Some(config)));
        let third = world.own(rendezvous);
        let from = hosts.map(|host| world.own(host));
        for (host, from) in hosts.iter().zip(from) {
            world.at(*host).call(third, Some(from));
        }
        world.run(SECOND);
        let seen: Vec<SocketAddr> =
            world.see(rendezvous).accepted().iter().map(|(_, from)| *from).collect();
        // The first call is there before the other side has called.
        let early = world.at(hosts[0]).call(seen[1], Some(from[0]));
        world.run(2 * LATENCY);
        let late = world.at(hosts[1]).call(seen[0], Some(from[1]));
        world.run(LONG);
        let fate = world.see(hosts[0]).fate(early);
        if unsolicited == Unsolicited::Drop {
            assert_eq!(fate, Some(&Fate::Connected));
            assert_eq!(world.see(hosts[1]).fate(late), Some(&Fate::Connected));
        } else {
            assert_eq!(fate, Some(&Fate::Failed(StreamError::Refused)));
        }
    }
}

#[test]
fn a_connection_that_is_idle_for_too_long_carries_nothing_any_more() {
    let mut cells = 0;
    for fidelity in [Fidelity::Message, Fidelity::Flow] {
        for unsolicited in [Unsolicited::Drop, Unsolicited::Reset] {
            for outside_sends in [false, true] {
                let tcp_established = Duration::from_mins(10);
                let base = NatConfig::of(Kind::FullCone);
                let mut world = World::of(fidelity);
                let public = world.station();
                let host = world.behind(Some(NatConfig { unsolicited, tcp_established, ..base }));
                let to = world.own(public);
                let stream = world.at(host).call(to, None);
                world.run(SECOND);
                let (other, _) = world.see(public).accepted()[0];
                // In time, it goes on.
                world.run(Duration::from_secs(590));
                world.at(host).write(stream, b"in time");
                world.run(Duration::from_secs(590));
                world.at(public).write(other, b"in time");
                world.run(SECOND);
                assert_eq!(world.see(public).received[&other], b"in time");
                assert_eq!(world.see(host).received[&stream], b"in time");
                // Not in time, what is sent is lost, both ways, and the sender learns it.
                world.run(Duration::from_secs(601));
                let (sender, mine, receiver, theirs) = if outside_sends {
                    (public, other, host, stream)
                } else {
                    (host, stream, public, other)
                };
                world.at(sender).write(mine, b"too late");
                world.run(Duration::from_secs(2));
                assert_eq!(world.see(receiver).received[&theirs], b"in time");
                let fate = world.see(sender).fate(mine).cloned();
                if unsolicited == Unsolicited::Reset {
                    assert_eq!(fate, Some(Fate::Closed(StreamError::Reset)));
                } else {
                    assert!(!matches!(fate, Some(Fate::Closed(_))), "{fate:?}");
                    world.run(GIVE_UP);
                    let fate = world.see(sender).fate(mine);
                    assert_eq!(fate, Some(&Fate::Closed(StreamError::TimedOut)));
                }
                // The other side learns it when it sends, too.
                world.at(receiver).write(theirs, b"hello?");
                world.run(GIVE_UP + SECOND);
                assert!(matches!(world.see(receiver).fate(theirs), Some(Fate::Closed(_))));
                let counters = world.net.counters();
                assert_eq!(counters.lost_bytes, 14);
                assert_eq!(counters.in_flight_bytes, 0);
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 8);
}

#[test]
fn a_mapping_of_a_stream_ends_with_it() {
    let mut world = World::new();
    let public = world.station();
    let config = NatConfig::of(Kind::PortRestricted);
    let host = world.behind(Some(config));
    let nat = world.net.nat_of(host).expect("it has one");
    let to = world.own(public);
    let stream = world.at(host).call(to, None);
    world.run(SECOND);
    let (other, _) = world.see(public).accepted()[0];
    // Far beyond what a connection that is not established is kept.
    world.run(2 * config.tcp_transitory);
    assert_eq!(world.net.nat(nat).mappings(world.net.nanos()), 1);
    world.at(host).close(stream);
    world.at(public).close(other);
    world.run(SECOND);
    assert_eq!(world.net.nat(nat).mappings(world.net.nanos()), 1);
    world.run(config.tcp_transitory);
    assert_eq!(world.net.nat(nat).mappings(world.net.nanos()), 0);
}

#[test]
fn a_call_hairpins_if_the_nat_does() {
    for hairpin in [false, true] {
        let mut world = World::new();
        let nat = world.nat(NatConfig { hairpin, ..NatConfig::of(Kind::FullCone) });
        let hosts = [world.inside(nat), world.inside(nat)];
        let outside = world.net.forward(hosts[1], Protocol::Tcp, PORT).expect("it is free");
        let stream = world.at(hosts[0]).call(outside, None);
        world.run(SECOND);
        let connected = world.see(hosts[0]).fate(stream) == Some(&Fate::Connected);
        assert_eq!(connected, hairpin);
        if hairpin {
            let from = world.see(hosts[1]).accepted()[0].1;
            assert!(world.net.nat(nat).is_external(from.ip()), "{from}");
        }
        // Inside they see each other as they are.
        let to = world.own(hosts[1]);
        world.at(hosts[0]).call(to, None);
        world.run(SECOND);
        let from = world.see(hosts[1]).accepted().last().expect("it was called").1;
        assert!(is_private(from.ip()), "{from}");
    }
}

#[test]
fn a_call_passes_a_home_and_a_carrier() {
    let mut world = World::new();
    let public = world.station();
    let carrier_ip = world.public_ip();
    let carrier = world.net.add_nat(NatConfig::of(Kind::CarrierGrade), &[carrier_ip], None);
    let home = world.net.add_nat(NatConfig::of(Kind::PortRestricted), &[], Some(carrier));
    let host = world.inside(home);
    let to = world.own(public);
    let stream = world.at(host).call(to, None);
    world.run(SECOND);
    let (other, from) = world.see(public).accepted()[0];
    assert_eq!(from.ip(), carrier_ip);
    world.at(public).write(other, b"down");
    world.run(SECOND);
    assert_eq!(world.see(host).received[&stream], b"down");
    // A port that the home forwards is not one that the carrier does.
    world.net.forward(host, Protocol::Tcp, PORT).expect("it is free");
    let call = world.at(public).call((carrier_ip, PORT).into(), None);
    world.run(LONG);
    assert_eq!(world.see(public).fate(call), Some(&Fate::Failed(StreamError::TimedOut)));
}
