//! Port-mapping servers: each makes who listens inside reachable from outside, for a time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use teem_core::ids::StreamId;
use teem_core::machine::StreamError;
use teem_core::time::Duration;
use teem_sim::nat::{Kind, NatConfig, PORT_MAPPING_PORT, Protocol, SSDP, Servers, upnp};
use teem_sim::net::{Fidelity, HostId};

use super::station::{Fate, PORT, World};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than any call is tried.
const LONG: Duration = Duration::from_secs(200);

/// Seconds that are asked for.
const LEASE: u32 = 600;

fn servers() -> [(&'static str, Servers); 3] {
    [
        ("NAT-PMP", Servers { nat_pmp: true, ..Servers::OFF }),
        ("PCP", Servers { pcp: true, ..Servers::OFF }),
        ("UPnP", Servers { upnp: true, ..Servers::OFF }),
    ]
}

/// A public host, and one behind a NAT whose gateway speaks this.
fn world(fidelity: Fidelity, servers: Servers) -> (World, HostId, HostId) {
    let mut world = World::of(fidelity);
    let public = world.station();
    let host = world.behind(Some(NatConfig { servers, ..NatConfig::of(Kind::PortRestricted) }));
    (world, public, host)
}

/// Asks the gateway something, and takes its answer.
fn ask(world: &mut World, host: HostId, to: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    world.at(host).heard.clear();
    world.at(host).send(to, request);
    world.run(SECOND);
    let (from, answer) = world.see(host).heard.first().cloned()?;
    let gateway = gateway(world, host);
    assert_eq!(from, SocketAddr::new(gateway, to.port()));
    Some(answer)
}

fn gateway(world: &World, host: HostId) -> IpAddr {
    let nat = world.net.nat_of(host).expect("it has one");
    world.net.nat(nat).gateway()
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(*bytes.first_chunk().expect("four bytes"))
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(*bytes.first_chunk().expect("two bytes"))
}

/// Has a TCP port mapped by NAT-PMP, as RFC 6886 has it on the wire.
fn nat_pmp(world: &mut World, host: HostId, seconds: u32) -> Option<SocketAddr> {
    let to = SocketAddr::new(gateway(world, host), PORT_MAPPING_PORT);
    let ip = ask(world, host, to, &[0, 0])?;
    assert_eq!((ip.len(), &ip[..4]), (12, &[0, 128, 0, 0][..]));
    let ip = Ipv4Addr::from_bits(be32(&ip[8..]));
    let mut request = vec![0, 2, 0, 0];
    request.extend(PORT.to_be_bytes());
    request.extend(7_000_u16.to_be_bytes());
    request.extend(seconds.to_be_bytes());
    let answer = ask(world, host, to, &request)?;
    assert_eq!((answer.len(), &answer[..4]), (16, &[0, 130, 0, 0][..]));
    assert_eq!(be16(&answer[8..]), PORT);
    assert_eq!(be32(&answer[12..]), seconds);
    Some((ip, be16(&answer[10..])).into())
}

/// The same by PCP, as RFC 6887 has it.
fn pcp(world: &mut World, host: HostId, seconds: u32) -> Option<SocketAddr> {
    let to = SocketAddr::new(gateway(world, host), PORT_MAPPING_PORT);
    let IpAddr::V4(own) = world.own(host).ip() else { panic!("it is IPv4") };
    let mut request = vec![2, 1, 0, 0];
    request.extend(seconds.to_be_bytes());
    request.extend(own.to_ipv6_mapped().octets());
    request.extend([9; 12]);
    request.extend([6, 0, 0, 0]);
    request.extend(PORT.to_be_bytes());
    request.extend(7_000_u16.to_be_bytes());
    request.extend([0; 16]);
    let answer = ask(world, host, to, &request)?;
    assert_eq!((answer.len(), &answer[..4]), (60, &[2, 129, 0, 0][..]));
    assert_eq!(be32(&answer[4..]), seconds);
    assert_eq!(&answer[24..36], &[9; 12]);
    let ip = std::net::Ipv6Addr::from(*answer[44..].first_chunk().expect("16 bytes"));
    Some(SocketAddr::new(ip.to_canonical(), be16(&answer[42..])))
}

/// A call of the UPnP service: the whole answer.
fn soap(world: &mut World, host: HostId, action: &str, arguments: &str) -> Option<String> {
    let gateway = SocketAddr::new(gateway(world, host), upnp::HTTP_PORT);
    let service = "urn:schemas-upnp-org:service:WANIPConnection:1";
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Body><u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>"
    );
    let request = format!(
        "POST /ctl/IPConn HTTP/1.1\r\nHost: {gateway}\r\nSOAPAction: \"{service}#{action}\"\r\n\
         Content-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    http(world, host, &request)
}

fn http(world: &mut World, host: HostId, request: &str) -> Option<String> {
    let to = SocketAddr::new(gateway(world, host), upnp::HTTP_PORT);
    let stream = world.at(host).call(to, None);
    world.run(SECOND);
    if world.see(host).fate(stream) != Some(&Fate::Connected) {
        return None;
    }
    world.at(host).write(stream, request.as_bytes());
    world.run(SECOND);
    assert_eq!(world.see(host).fate(stream), Some(&Fate::Finished));
    world.at(host).close(stream);
    let received = world.at(host).received.remove(&stream).unwrap_or_default();
    Some(String::from_utf8(received).expect("it is text"))
}

fn add(client: IpAddr, outside: u16, seconds: u32) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{outside}</NewExternalPort>\
         <NewProtocol>TCP</NewProtocol><NewInternalPort>{PORT}</NewInternalPort>\
         <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
         <NewPortMappingDescription>test</NewPortMappingDescription>\
         <NewLeaseDuration>{seconds}</NewLeaseDuration>"
    )
}

/// The same by UPnP: search, description, address, mapping.
fn upnp(world: &mut World, host: HostId, seconds: u32) -> Option<SocketAddr> {
    let search = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n\
                  MX: 2\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
    let answer = ask(world, host, SSDP, search.as_bytes())?;
    let answer = String::from_utf8(answer).expect("it is text");
    let location = answer.lines().find_map(|line| line.strip_prefix("LOCATION: http://"))?;
    let (at, path) = location.split_once('/')?;
    assert_eq!(at, SocketAddr::new(gateway(world, host), upnp::HTTP_PORT).to_string());
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    let description = http(world, host, &request)?;
    assert!(description.contains("<controlURL>/ctl/IPConn</controlURL>"), "{description}");
    let answer = soap(world, host, "GetExternalIPAddress", "")?;
    let ip = answer.split_once("<NewExternalIPAddress>")?.1.split_once('<')?.0;
    let ip: IpAddr = ip.parse().expect("an address");
    let client = world.own(host).ip();
    let answer = soap(world, host, "AddPortMapping", &add(client, 7_000, seconds))?;
    assert!(answer.contains("AddPortMappingResponse"), "{answer}");
    Some(SocketAddr::new(ip, 7_000))
}

fn map(world: &mut World, host: HostId, how: &str, seconds: u32) -> Option<SocketAddr> {
    match how {
        "NAT-PMP" => nat_pmp(world, host, seconds),
        "PCP" => pcp(world, host, seconds),
        _ => upnp(world, host, seconds),
    }
}

fn call(world: &mut World, from: HostId, to: SocketAddr) -> (StreamId, Option<Fate>) {
    let stream = world.at(from).call(to, None);
    world.run(LONG);
    (stream, world.see(from).fate(stream).cloned())
}

#[test]
fn each_protocol_makes_who_listens_inside_reachable_until_the_lease_ends() {
    for fidelity in [Fidelity::Message, Fidelity::Flow] {
        for (how, servers) in servers() {
            let (mut world, public, host) = world(fidelity, servers);
            let outside = map(&mut world, host, how, LEASE).expect("it is spoken");
            assert_eq!(outside.port(), 7_000, "the port that was asked for");
            let nat = world.net.nat_of(host).expect("it has one");
            assert!(world.net.nat(nat).is_external(outside.ip()));
            let (stream, fate) = call(&mut world, public, outside);
            assert_eq!(fate, Some(Fate::Connected), "{how}");
            world.at(public).write(stream, b"to a mapped port");
            world.run(SECOND);
            let (other, _) = world.see(host).accepted()[0];
            assert_eq!(world.see(host).received[&other], b"to a mapped port");
            let counters = world.net.counters();
            assert_eq!(counters.in_flight_bytes, 0);
            assert_eq!(counters.handed_bytes, counters.delivered_bytes);
            // The connection keeps its mapping, and nobody else gets in when the lease is over.
            world.run(Duration::from_secs(LEASE.into()));
            let (_, fate) = call(&mut world, public, outside);
            assert_eq!(fate, Some(Fate::Failed(StreamError::TimedOut)), "{how}");
            world.at(public).write(stream, b", still");
            world.run(SECOND);
            assert_eq!(world.see(host).received[&other], b"to a mapped port, still");
        }
    }
}

#[test]
fn a_protocol_that_is_switched_off_is_not_answered() {
    let mut cells = 0;
    for (off, (how, _)) in servers().into_iter().enumerate() {
        let mut servers = Servers::ALL;
        *[&mut servers.nat_pmp, &mut servers.pcp, &mut servers.upnp][off] = false;
        let (mut world, _, host) = world(Fidelity::Message, servers);
        if how == "UPnP" {
            assert_eq!(map(&mut world, host, how, LEASE), None);
        } else {
            // The other one says that it does not know this version.
            let to = SocketAddr::new(gateway(&world, host), PORT_MAPPING_PORT);
            let (version, unsupported) = if how == "PCP" { (2, (0, 1)) } else { (0, (2, 1)) };
            let answer = ask(&mut world, host, to, &[version, 0]).expect("the other answers");
            assert_eq!((answer[0], answer[3]), unsupported);
        }
        cells += 1;
        let (mut world, _, host) = self::world(Fidelity::Message, Servers::OFF);
        let to = SocketAddr::new(gateway(&world, host), PORT_MAPPING_PORT);
        assert_eq!(ask(&mut world, host, to, &[0, 0]), None);
        let stream = http(&mut world, host, "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(stream, None, "nobody listens at the gateway");
    }
    assert_eq!(cells, 3);
}

#[test]
fn the_gateway_is_there_for_its_inside_alone() {
    let (mut world, public, _) = world(Fidelity::Message, Servers::ALL);
    for to in [SocketAddr::from(([192, 168, 0, 1], PORT_MAPPING_PORT)), SSDP] {
        world.at(public).send(to, &[0, 0]);
    }
    world.run(SECOND);
    assert_eq!(world.see(public).heard, []);
}

#[test]
fn upnp_says_what_is_wrong_in_its_numbers() {
    let permanent = Servers { permanent_only: true, ..Servers::ALL };
    let (mut world, public, host) = world(Fidelity::Message, permanent);
    let nat = world.net.nat_of(host).expect("it has one");
    let neighbour = world.inside(nat);
    let (client, other) = (world.own(host).ip(), world.own(neighbour).ip());
    let mut error = |action: &str, arguments: &str| {
        let answer = soap(&mut world, host, action, arguments).expect("it is spoken");
        if answer.starts_with("HTTP/1.1 200 OK\r\n") {
            return 0;
        }
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        let code = answer.split_once("<errorCode>").expect("a code").1;
        code.split_once('<').expect("its end").0.parse().expect("a number")
    };
    let delete = |port: u16| {
        format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
             <NewProtocol>TCP</NewProtocol>"
        )
    };
    assert_eq!(error("AddPortMapping", &add(client, 7_000, 60)), 725);
    assert_eq!(error("AddPortMapping", &add(client, 7_000, 0)), 0);
    assert_eq!(error("AddPortMapping", &add(client, 7_000, 0)), 0, "again is no conflict");
    assert_eq!(error("AddPortMapping", &add(other, 7_000, 0)), 718);
    assert_eq!(error("AddPortMapping", &add(other, 0, 0)), 402);
    assert_eq!(error("AddPortMapping", &add([8, 8, 8, 8].into(), 7_001, 0)), 402);
    assert_eq!(error("AddPortMapping", "<NewExternalPort>7</NewExternalPort>"), 402);
    assert_eq!(error("Reboot", ""), 401);
    assert_eq!(error("DeletePortMapping", &delete(7_001)), 714);
    assert_eq!(error("DeletePortMapping", &delete(7_000)), 0);
    assert_eq!(error("DeletePortMapping", &delete(7_000)), 714);
    let ip = world.net.nat(nat).external().next().expect("one");
    let (_, fate) = call(&mut world, public, (ip, 7_000).into());
    assert_eq!(fate, Some(Fate::Failed(StreamError::TimedOut)));
}

#[test]
fn upnp_has_no_port_for_a_host_that_has_used_its_up() {
    let mut world = World::new();
    let base = NatConfig::of(Kind::FullCone);
    let config = NatConfig { servers: Servers::ALL, ports_per_host_max: 1, ..base };
    let host = world.behind(Some(config));
    let client = world.own(host).ip();
    let mut add = |port| {
        soap(&mut world, host, "AddPortMapping", &add(client, port, 0)).expect("it is spoken")
    };
    assert!(add(7_000).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(add(7_001).contains("<errorCode>501</errorCode>"));
}

#[test]
fn a_host_in_a_pool_is_told_the_address_that_it_gets() {
    let mut world = World::new();
    let pool: Vec<_> = (0..3).map(|_| world.public_ip()).collect();
    let servers = Servers { nat_pmp: true, ..Servers::OFF };
    let config = NatConfig { servers, ..NatConfig::of(Kind::CarrierGrade) };
    let nat = world.net.add_nat(config, &pool, None);
    let public = world.station();
    for ip in pool {
        let host = world.inside(nat);
        let outside = nat_pmp(&mut world, host, LEASE).expect("it is spoken");
        assert_eq!(outside.ip(), ip);
        let (_, fate) = call(&mut world, public, outside);
        assert_eq!(fate, Some(Fate::Connected));
    }
}

#[test]
fn a_port_mapped_at_the_home_and_at_the_carrier_is_reached_through_both() {
    let mut world = World::new();
    let public = world.station();
    let carrier_ip = world.public_ip();
    let servers = Servers { nat_pmp: true, ..Servers::OFF };
    let carrier = NatConfig { servers, ..NatConfig::of(Kind::CarrierGrade) };
    let carrier = world.net.add_nat(carrier, &[carrier_ip], None);
    let home = world.net.add_nat(NatConfig::of(Kind::PortRestricted), &[], Some(carrier));
    let host = world.inside(home);
    let middle = world.net.forward(host, Protocol::Tcp, PORT).expect("it is free");
    assert!(world.net.nat(carrier).is_inside(middle.ip()));
    // The carrier's gateway sees the home's address, and maps to that.
    let gateway = SocketAddr::new(world.net.nat(carrier).gateway(), PORT_MAPPING_PORT);
    let mut request = vec![0, 2, 0, 0];
    request.extend(PORT.to_be_bytes());
    request.extend(7_000_u16.to_be_bytes());
    request.extend(LEASE.to_be_bytes());
    world.at(host).send(gateway, &request);
    world.run(SECOND);
    let (from, answer) = world.see(host).heard[0].clone();
    assert_eq!((from, be16(&answer[2..]), be16(&answer[10..])), (gateway, 0, 7_000));
    let (_, fate) = call(&mut world, public, (carrier_ip, 7_000).into());
    assert_eq!(fate, Some(Fate::Connected));
    let (_, from) = world.see(host).accepted()[0];
    assert_eq!(from.ip(), world.own(public).ip());
}
