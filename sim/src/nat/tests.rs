use proptest::prelude::*;
use teem_core::time::Duration;

use super::*;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SECOND: Duration = Duration::from_secs(1);

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn nat(config: NatConfig) -> Nat {
    Nat::new(config, &[OUTSIDE], Seed::from_number(1), Nanos::ZERO)
}

/// One whose gateway speaks everything, with leases of an hour at most and four mappings a host.
pub(super) fn serving() -> Nat {
    let servers = Servers { lease_max: Duration::from_hours(1), ..Servers::ALL };
    nat(NatConfig { servers, ports_per_host_max: 4, ..NatConfig::of(Kind::FullCone) })
}

/// An inside host, where it asks from.
pub(super) fn host(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 168, 0, last], 50_000))
}

fn after(seconds: u64) -> Nanos {
    Nanos::ZERO + Duration::from_secs(seconds)
}

/// A datagram goes out at that second: the outside address.
fn out(nat: &mut Nat, second: u64, from: &str, to: &str) -> Result<SocketAddr, Refused> {
    nat.outbound(after(second), Passing::Datagram, at(from), at(to))
}

/// A datagram comes in at that second: the inside address.
fn come(nat: &mut Nat, second: u64, from: &str, to: SocketAddr) -> Result<SocketAddr, Refused> {
    nat.inbound(after(second), Passing::Datagram, at(from), to)
}

#[test]
fn mapping_looks_at_as_much_of_the_remote_side_as_it_should() {
    // To one remote address and port, another port of it, another address.
    for (mapping, same) in [
        (Dependence::Independent, [true, true]),
        (Dependence::Address, [true, false]),
        (Dependence::AddressAndPort, [false, false]),
    ] {
        let mut nat = nat(NatConfig { mapping, ..NatConfig::of(Kind::FullCone) });
        let first = out(&mut nat, 0, "192.168.0.2:5000", "203.0.113.1:80").expect("it passes");
        let again = out(&mut nat, 0, "192.168.0.2:5000", "203.0.113.1:80");
        assert_eq!(again, Ok(first));
        let others = ["203.0.113.1:81", "203.0.113.2:80"]
            .map(|to| out(&mut nat, 0, "192.168.0.2:5000", to).expect("it passes") == first);
        assert_eq!(others, same, "{mapping:?}");
    }
}

#[test]
fn filtering_lets_in_whom_it_should() {
    for (filtering, let_in) in [
        (Dependence::Independent, [true, true, true]),
        (Dependence::Address, [true, true, false]),
        (Dependence::AddressAndPort, [true, false, false]),
    ] {
        let mut nat = nat(NatConfig { filtering, ..NatConfig::of(Kind::FullCone) });
        let outside = out(&mut nat, 0, "192.168.0.2:5000", "203.0.113.1:80").expect("it passes");
        let found = ["203.0.113.1:80", "203.0.113.1:81", "203.0.113.2:80"]
            .map(|from| come(&mut nat, 0, from, outside));
        let expected =
            let_in.map(|yes| if yes { Ok(at("192.168.0.2:5000")) } else { Err(Refused::Filtered) });
        assert_eq!(found, expected, "{filtering:?}");
        let nobody = come(&mut nat, 0, "203.0.113.1:80", (OUTSIDE, 7).into());
        assert_eq!(nobody, Err(Refused::NoMapping));
    }
}

#[test]
fn a_udp_mapping_lasts_as_long_as_something_goes_out() {
    for refresh_inbound in [false, true] {
        let udp_timeout = Duration::from_mins(2);
        let base = NatConfig::of(Kind::PortRestricted);
        let mut nat = nat(NatConfig { udp_timeout, refresh_inbound, ..base });
        let outside = out(&mut nat, 0, "192.168.0.2:5000", "203.0.113.1:80").expect("it passes");
        assert_eq!(out(&mut nat, 100, "192.168.0.2:5000", "203.0.113.1:80"), Ok(outside));
        // Sent at 100, so until 220; received at 219.
        assert!(come(&mut nat, 219, "203.0.113.1:80", outside).is_ok());
        let later = come(&mut nat, 220, "203.0.113.1:80", outside);
        assert_eq!(later.is_ok(), refresh_inbound);
        let much_later = come(&mut nat, 341, "203.0.113.1:80", outside);
        assert_eq!(much_later, Err(Refused::NoMapping));
        assert_eq!(nat.entries(), 0, "what is over goes when it is looked at");
    }
}

#[test]
fn whoever_was_let_in_is_so_only_while_the_inside_host_talks_to_them() {
    let udp_timeout = Duration::from_mins(2);
    let mut nat = nat(NatConfig { udp_timeout, ..NatConfig::of(Kind::PortRestricted) });
    let outside = out(&mut nat, 0, "192.168.0.2:5000", "203.0.113.1:80").expect("it passes");
    out(&mut nat, 100, "192.168.0.2:5000", "203.0.113.2:80").expect("it passes");
    assert!(come(&mut nat, 119, "203.0.113.1:80", outside).is_ok());
    assert_eq!(come(&mut nat, 120, "203.0.113.1:80", outside), Err(Refused::Filtered));
    assert!(come(&mut nat, 120, "203.0.113.2:80", outside).is_ok());
}

#[test]
fn ports_are_preserved_counted_up_or_drawn() {
    let ports = |ports| {
        let mut nat = nat(NatConfig { ports, ..NatConfig::of(Kind::FullCone) });
        [2, 3, 4].map(|host| {
            let from = format!("192.168.0.{host}:5000");
            out(&mut nat, 0, &from, "203.0.113.1:80").expect("it passes").port()
        })
    };
    let preserved = ports(PortAllocation::Preserve);
    assert_eq!(preserved[0], 5_000);
    assert_eq!(preserved[1..], [1_024, 1_025], "taken, and then the next free ones");
    assert_eq!(ports(PortAllocation::Sequential), [1_024, 1_025, 1_026]);
    let random = ports(PortAllocation::Random);
    assert_eq!(random, ports(PortAllocation::Random), "by the seed");
    assert!(random[0].abs_diff(random[1]) > 1 && random[1].abs_diff(random[2]) > 1, "{random:?}");
}

#[test]
fn random_ports_are_spread_evenly() {
    let config = NatConfig {
        ports: PortAllocation::Random,
        udp_timeout: SECOND,
        ..NatConfig::of(Kind::FullCone)
    };
    let mut nat = nat(config);
    let mut eighths = [0_u32; 8];
    for second in 0..8_000 {
        let port = out(&mut nat, 2 * second, "192.168.0.2:5000", "203.0.113.1:80")
            .expect("it passes")
            .port();
        eighths[usize::from(port - 1_024) * 8 / 64_512] += 1;
    }
    // 1,000 each; five standard deviations of a binomial distribution are 148.
    assert!(eighths.iter().all(|count| count.abs_diff(1_000) < 148), "{eighths:?}");
}

#[test]
fn when_all_ports_are_taken_nothing_more_goes_out_until_one_is_free() {
    for ports in [PortAllocation::Preserve, PortAllocation::Sequential, PortAllocation::Random] {
        let base = NatConfig::of(Kind::FullCone);
        let mut nat = nat(NatConfig { ports, ports_from: 2_000, ports_to: 2_009, ..base });
        for port in 0..10 {
            let from = format!("192.168.0.2:{}", 5_000 + port);
            out(&mut nat, port, &from, "203.0.113.1:80").expect("a port is free");
        }
        assert_eq!(out(&mut nat, 299, "192.168.0.2:6000", "203.0.113.1:80"), Err(Refused::NoPort));
        // The streams' ports are others.
        assert!(
            nat.outbound(after(299), Passing::Syn, at("192.168.0.2:6000"), at("203.0.113.1:80"))
                .is_ok()
        );
        // The first was made at 0 and is over at 300.
        assert!(out(&mut nat, 300, "192.168.0.2:6000", "203.0.113.1:80").is_ok());
        assert_eq!(out(&mut nat, 300, "192.168.0.2:6001", "203.0.113.1:80"), Err(Refused::NoPort));
        assert_eq!(nat.counters().refused, 2);
    }
}

#[test]
fn an_inside_host_has_so_many_ports_and_others_have_theirs() {
    let base = NatConfig::of(Kind::CarrierGrade);
    let mut nat = nat(NatConfig { ports_per_host_max: 3, ..base });
    for port in 1..=3 {
        out(&mut nat, 0, &format!("100.64.0.2:{port}"), "203.0.113.1:80").expect("it passes");
    }
    assert_eq!(out(&mut nat, 1, "100.64.0.2:4", "203.0.113.1:80"), Err(Refused::HostFull));
    assert!(out(&mut nat, 1, "100.64.0.3:4", "203.0.113.1:80").is_ok());
    assert!(out(&mut nat, 301, "100.64.0.2:4", "203.0.113.1:80").is_ok(), "others are over");
}

#[test]
fn a_paired_host_keeps_its_outside_address_and_others_do_not() {
    let pool: Vec<_> = (1..=8).map(|last| Ipv4Addr::new(198, 51, 100, last)).collect();
    for pooling in [Pooling::Paired, Pooling::Arbitrary] {
        let config = NatConfig { pooling, ..NatConfig::of(Kind::CarrierGrade) };
        let mut nat = Nat::new(config, &pool, Seed::from_number(1), Nanos::ZERO);
        let mut all = std::collections::BTreeSet::new();
        for host in 2..10 {
            let used: std::collections::BTreeSet<_> = (1..=40)
                .map(|port| {
                    let from = format!("100.64.0.{host}:{port}");
                    out(&mut nat, 0, &from, "203.0.113.1:80").expect("it passes").ip()
                })
                .collect();
            assert_eq!(used.len() == 1, pooling == Pooling::Paired, "{used:?}");
            all.extend(used);
        }
        assert_eq!(all.len(), 8, "all are used");
    }
}

#[test]
fn hairpinning_is_on_or_off() {
    for hairpin in [true, false] {
        let mut nat = nat(NatConfig { hairpin, ..NatConfig::of(Kind::FullCone) });
        let other = out(&mut nat, 0, "192.168.0.3:5000", "203.0.113.1:80").expect("it passes");
        let seen = out(&mut nat, 0, "192.168.0.2:6000", &other.to_string());
        if hairpin {
            // It is seen from its outside address (RFC 4787, REQ-9 a).
            let seen = seen.expect("it passes");
            assert_eq!(seen, (OUTSIDE, 6_000).into());
            assert_eq!(
                nat.inbound(after(0), Passing::Datagram, seen, other),
                Ok(at("192.168.0.3:5000"))
            );
        } else {
            assert_eq!(seen, Err(Refused::NoHairpin));
        }
    }
}

#[test]
fn a_connection_is_kept_by_what_passes_and_for_less_before_and_after() {
    let mut nat = nat(NatConfig::of(Kind::PortRestricted));
    let (inside, remote) = (at("192.168.0.2:5000"), at("203.0.113.1:80"));
    let syn = |nat: &mut Nat, second| {
        nat.outbound(after(second), Passing::Syn, inside, remote).expect("it passes")
    };
    let minutes = |minutes: u64| after(60 * minutes);
    // Never answered: four minutes.
    let outside = syn(&mut nat, 0);
    assert_eq!(nat.mappings(after(239)), 1);
    assert_eq!(nat.mappings(after(240)), 0);
    assert_eq!(nat.inbound(after(240), Passing::SynAck, remote, outside), Err(Refused::NoMapping));
    // Established: two hours and four minutes after the last segment, either way.
    let outside = syn(&mut nat, 240);
    assert_eq!(nat.inbound(minutes(5), Passing::SynAck, remote, outside), Ok(inside));
    assert_eq!(nat.along(minutes(100), Passing::Segment, outside, remote), Ok(()));
    assert_eq!(nat.along(minutes(223), Passing::Segment, outside, remote), Ok(()));
    assert_eq!(nat.along(minutes(347), Passing::Segment, outside, remote), Err(Refused::NoMapping));
    // Closed: four minutes.
    let outside = syn(&mut nat, 60 * 347);
    nat.inbound(minutes(347), Passing::SynAck, remote, outside).expect("it passes");
    nat.along(minutes(350), Passing::Last, outside, remote).expect("it is known");
    assert_eq!(nat.mappings(minutes(353)), 1);
    assert_eq!(nat.mappings(minutes(354)), 0);
}

#[test]
fn a_segment_of_a_connection_that_nobody_knows_does_not_pass() {
    let mut nat = nat(NatConfig::of(Kind::FullCone));
    let (inside, remote) = (at("192.168.0.2:5000"), at("203.0.113.1:80"));
    let unknown = nat.outbound(after(0), Passing::Segment, inside, remote);
    assert_eq!(unknown, Err(Refused::NoConnection));
    let outside = nat.outbound(after(0), Passing::Syn, inside, remote).expect("it passes");
    // A full cone lets anybody call, and nobody go on with what never began.
    let other = at("203.0.113.9:80");
    assert_eq!(nat.inbound(after(0), Passing::Segment, other, outside), Err(Refused::NoConnection));
    assert_eq!(nat.inbound(after(0), Passing::Syn, other, outside), Ok(inside));
}

#[test]
fn calls_from_both_sides_pass_filters_as_datagrams_do() {
    for kind in [Kind::RestrictedCone, Kind::PortRestricted] {
        let mut nat = nat(NatConfig::of(kind));
        let (inside, remote) = (at("192.168.0.2:5000"), at("203.0.113.1:80"));
        let other = at("203.0.113.1:81");
        let outside = nat.outbound(after(0), Passing::Syn, inside, remote).expect("it passes");
        assert_eq!(nat.inbound(after(1), Passing::Syn, remote, outside), Ok(inside));
        let from_other = nat.inbound(after(1), Passing::Syn, other, outside);
        assert_eq!(from_other.is_ok(), kind == Kind::RestrictedCone);
    }
}

#[test]
fn a_lease_lets_anybody_in_until_it_ends() {
    let mut nat = nat(NatConfig::of(Kind::Symmetric));
    let inside = at("192.168.0.2:6881");
    let wish = Request {
        protocol: Protocol::Udp,
        inside,
        port: 7_000,
        exact: false,
        lifetime: Some(Duration::from_mins(1)),
        owner: Owner::NatPmp,
    };
    let leased = nat.map(after(0), &wish).expect("it is free");
    assert_eq!(leased.outside, (OUTSIDE, 7_000).into());
    assert_eq!(come(&mut nat, 59, "203.0.113.1:1", leased.outside), Ok(inside));
    // What it sends goes out by it.
    assert_eq!(out(&mut nat, 0, "192.168.0.2:6881", "203.0.113.5:1"), Ok(leased.outside));
    // Then the filter is what it was.
    assert_eq!(come(&mut nat, 60, "203.0.113.1:1", leased.outside), Err(Refused::Filtered));
    assert_eq!(come(&mut nat, 60, "203.0.113.5:1", leased.outside), Ok(inside));
    assert_eq!(come(&mut nat, 301, "203.0.113.5:1", leased.outside), Err(Refused::NoMapping));
}

#[test]
fn a_lease_is_renewed_conflicts_and_belongs_to_somebody() {
    let mut nat = nat(NatConfig::of(Kind::FullCone));
    let wish = |inside: &str, port, exact, owner| Request {
        protocol: Protocol::Tcp,
        inside: at(inside),
        port,
        exact,
        lifetime: None,
        owner,
    };
    let pcp = Owner::Pcp([1; 12]);
    let first = nat.map(after(0), &wish("192.168.0.2:6881", 7_000, false, pcp)).expect("free");
    // Again, with another wish: what it has.
    let again = nat.map(after(1), &wish("192.168.0.2:6881", 7_001, false, pcp));
    assert_eq!(again, Ok(first));
    let other = nat.map(after(1), &wish("192.168.0.2:6881", 7_000, false, Owner::Pcp([2; 12])));
    assert_eq!(other, Err(MapError::NotYours));
    // Somebody else wants the port: another one, or none.
    let second = nat.map(after(1), &wish("192.168.0.3:6881", 7_000, false, Owner::NatPmp));
    assert_ne!(second.map(|it| it.outside), Ok(first.outside));
    let exact = nat.map(after(1), &wish("192.168.0.4:6881", 7_000, true, Owner::Upnp));
    assert_eq!(exact, Err(MapError::Taken));
    let low = nat.map(after(1), &wish("192.168.0.4:6881", 80, true, Owner::Upnp));
    assert_eq!(low, Err(MapError::OutOfRange));
    assert_eq!(
        nat.unmap(after(1), Protocol::Tcp, at("192.168.0.2:6881"), Owner::Upnp),
        Err(MapError::NotYours)
    );
    assert_eq!(nat.unmap(after(1), Protocol::Tcp, at("192.168.0.2:6881"), pcp), Ok(true));
    assert_eq!(nat.unmap(after(1), Protocol::Tcp, at("192.168.0.2:6881"), pcp), Ok(false));
    assert_eq!(nat.mappings(after(1)), 1);
}

#[test]
fn new_outside_addresses_leave_nothing_of_the_old() {
    let mut nat = nat(NatConfig::of(Kind::FullCone));
    let old = out(&mut nat, 0, "192.168.0.2:5000", "203.0.113.1:80").expect("it passes");
    let new = Ipv4Addr::new(198, 51, 100, 99);
    nat.renumber(&[new], after(1));
    assert_eq!(come(&mut nat, 1, "203.0.113.1:80", old), Err(Refused::NoMapping));
    let now = out(&mut nat, 1, "192.168.0.2:5000", "203.0.113.1:80").expect("it passes");
    assert_eq!(now.ip(), IpAddr::V4(new));
    assert!(nat.is_external(new.into()) && !nat.is_external(OUTSIDE.into()));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let base = NatConfig::of(Kind::FullCone);
    for (config, why) in [
        (NatConfig { ports_from: 0, ..base }, WrongConfig::Ports),
        (NatConfig { ports_from: 9, ports_to: 8, ..base }, WrongConfig::Ports),
        (NatConfig { udp_timeout: Duration::ZERO, ..base }, WrongConfig::Timeout),
        (NatConfig { ports_per_host_max: 0, ..base }, WrongConfig::PortsPerHost),
        (NatConfig { inside_bits: 31, ..base }, WrongConfig::Inside),
    ] {
        assert_eq!(config.check(), Err(why));
    }
    for kind in Kind::ALL {
        assert_eq!(NatConfig::of(kind).check(), Ok(()), "{}", kind.name());
    }
}

#[test]
fn inside_addresses_come_after_the_gateway_and_end() {
    let config = NatConfig { inside_bits: 30, ..NatConfig::of(Kind::FullCone) };
    let ips: Vec<_> = (1..5).map(|number| config.inside(number)).collect();
    assert_eq!(ips, [Some(Ipv4Addr::new(192, 168, 0, 2)), None, None, None]);
    assert!(config.is_inside(Ipv4Addr::new(192, 168, 0, 3).into()));
    assert!(!config.is_inside(Ipv4Addr::new(192, 168, 0, 4).into()));
}

#[test]
fn remote_sides_of_a_mapping_are_bounded() {
    let mut nat = nat(NatConfig::of(Kind::PortRestricted));
    let inside = at("192.168.0.2:5000");
    let remote = |number: usize| {
        let ip = Ipv4Addr::from_bits(0xcb00_7100 + (number >> 12) as u32);
        SocketAddr::new(ip.into(), (number & 0xfff) as u16 + 1)
    };
    for number in 0..REMOTES_MAX {
        nat.outbound(after(0), Passing::Datagram, inside, remote(number)).expect("there is room");
    }
    let more = remote(REMOTES_MAX);
    let full = nat.outbound(after(1), Passing::Datagram, inside, more);
    assert_eq!(full, Err(Refused::TableFull));
    assert!(nat.outbound(after(300), Passing::Datagram, inside, more).is_ok());
}

/// What a slow and simple NAT would hold: made for independent mapping and filtering alone.
#[derive(Default)]
struct Model {
    until: std::collections::BTreeMap<(SocketAddr, SocketAddr), Nanos>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_passes_and_who_is_reached_is_what_a_simple_model_says(
        steps in prop::collection::vec((0..2_u8, 2..6_u8, 0..4_u16, 0..200_u64), 1..80),
    ) {
        let base = NatConfig::of(Kind::FullCone);
        let ports = (base.ports_from, base.ports_from + 5);
        let config =
            NatConfig { ports_from: ports.0, ports_to: ports.1, ports_per_host_max: 3, ..base };
        let mut nat = nat(config);
        let mut model = Model::default();
        let mut now = Nanos::ZERO;
        for (step, host, port, wait) in steps {
            now += Duration::from_secs(wait);
            model.until.retain(|_, until| *until > now);
            let inside = SocketAddr::new(Ipv4Addr::new(192, 168, 0, host).into(), 5_000 + port);
            if step == 0 {
                let known = model.until.keys().find(|key| key.0 == inside).copied();
                let result =
                    nat.outbound(now, Passing::Datagram, inside, at("203.0.113.1:80"));
                let has = model.until.keys().filter(|key| key.0.ip() == inside.ip()).count();
                match known {
                    Some(key) => {
                        prop_assert_eq!(result, Ok(key.1));
                        model.until.insert(key, now + config.udp_timeout);
                    }
                    None if has >= 3 => prop_assert_eq!(result, Err(Refused::HostFull)),
                    None if model.until.len() >= 6 => {
                        prop_assert_eq!(result, Err(Refused::NoPort));
                    }
                    None => {
                        let outside = result.expect("there is room");
                        prop_assert!(model.until.keys().all(|key| key.1 != outside));
                        model.until.insert((inside, outside), now + config.udp_timeout);
                    }
                }
            } else {
                let outside = SocketAddr::new(OUTSIDE.into(), ports.0 + port);
                let known = model.until.keys().find(|key| key.1 == outside).map(|key| key.0);
                let result = nat.inbound(now, Passing::Datagram, at("203.0.113.9:9"), outside);
                prop_assert_eq!(result.ok(), known);
            }
            prop_assert_eq!(nat.mappings(now), model.until.len());
        }
    }
}
