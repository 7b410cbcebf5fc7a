//! PCP, the server (RFC 6887): the opcode MAP, with PREFER_FAILURE. It has no PEER, no ANNOUNCE, no
//! options that act for others or filter, and takes no mapping of all ports or all protocols.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use teem_core::time::Duration;

use super::gateway::{ANSWER, version_and_opcode};
use super::leases::{Leased, MapError, Owner, Request};
use super::{Nat, Protocol};
use crate::time::Nanos;

/// The version of the protocol.
pub const VERSION: u8 = 2;

/// Bytes of a request at most (RFC 6887, section 7).
pub const LEN_MAX: usize = 1_100;

const HEADER_LEN: usize = 24;

/// Bytes of a MAP request without its header.
const MAP_LEN: usize = 36;

const OPCODE_MAP: u8 = 1;

const OPTION_PREFER_FAILURE: u8 = 2;

/// The shortest lease (RFC 6887, section 15).
const LEASE_MIN: Duration = Duration::from_mins(2);

/// For how long an error will go on, in seconds, where that may change soon (RFC
/// 6887, section 7.4).
const SHORT: u32 = 30;

/// The same where it will not.
const LONG: u32 = 1_800;

/// Result codes (RFC 6887, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Success = 0,
    UnsupportedVersion = 1,
    NotAuthorized = 2,
    MalformedRequest = 3,
    UnsupportedOpcode = 4,
    UnsupportedOption = 5,
    MalformedOption = 6,
    NoResources = 8,
    UnsupportedProtocol = 9,
    QuotaExceeded = 10,
    CannotProvideExternal = 11,
    AddressMismatch = 12,
}

impl Code {
    const fn lifetime(self) -> u32 {
        match self {
            Self::Success | Self::NoResources | Self::QuotaExceeded => SHORT,
            _ => LONG,
        }
    }
}

impl From<MapError> for Code {
    fn from(why: MapError) -> Self {
        match why {
            MapError::Taken | MapError::OutOfRange => Self::CannotProvideExternal,
            MapError::NotYours => Self::NotAuthorized,
            MapError::HostFull => Self::QuotaExceeded,
            MapError::Full => Self::NoResources,
        }
    }
}

/// A MAP request, parsed.
struct Map {
    nonce: [u8; 12],
    protocol: u8,
    port: u16,
    /// The outside port that it would like.
    suggested: u16,
    prefers_failure: bool,
}

/// The answer to a request of an inside host; none: what is no request is not answered.
pub fn answer(nat: &mut Nat, now: Nanos, from: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let (version, opcode) = version_and_opcode(request)?;
    let refuse = |nat: &Nat, code: Code| {
        // An error has the request in it (RFC 6887, section 8.2).
        let mut answer = head(nat, now, opcode, code, code.lifetime());
        let rest = request.get(HEADER_LEN..).unwrap_or_default();
        answer.extend_from_slice(&rest[..rest.len().min(LEN_MAX - HEADER_LEN)]);
        answer.resize(answer.len().next_multiple_of(4).min(LEN_MAX), 0);
        Some(answer)
    };
    if version != VERSION {
        return refuse(nat, Code::UnsupportedVersion);
    }
    if request.len() > LEN_MAX || !request.len().is_multiple_of(4) {
        return refuse(nat, Code::MalformedRequest);
    }
    let Some((header, rest)) = request.split_first_chunk::<HEADER_LEN>() else {
        return refuse(nat, Code::MalformedRequest);
    };
    let [_, _, _, _, l0, l1, l2, l3, client @ ..] = *header;
    let seconds = u32::from_be_bytes([l0, l1, l2, l3]);
    if Ipv6Addr::from(client).to_canonical() != from.ip() {
        return refuse(nat, Code::AddressMismatch);
    }
    if opcode != OPCODE_MAP {
        return refuse(nat, Code::UnsupportedOpcode);
    }
    let map = match parse(rest) {
        Ok(map) => map,
        Err(code) => return refuse(nat, code),
    };
    match serve(nat, now, from.ip(), seconds, &map) {
        Ok(leased) => {
            let mut answer = head(nat, now, opcode, Code::Success, leased.seconds());
            answer.extend_from_slice(&map.nonce);
            answer.extend_from_slice(&[map.protocol, 0, 0, 0]);
            answer.extend_from_slice(&map.port.to_be_bytes());
            answer.extend_from_slice(&leased.outside.port().to_be_bytes());
            answer.extend_from_slice(&mapped(leased.outside.ip()).octets());
            Some(answer)
        }
        Err(code) => refuse(nat, code),
    }
}

fn serve(nat: &mut Nat, now: Nanos, ip: IpAddr, seconds: u32, map: &Map) -> Result<Leased, Code> {
    let owner = Owner::Pcp(map.nonce);
    let inside = SocketAddr::new(ip, map.port);
    let gone = Leased {
        outside: SocketAddr::new(nat.external_of(ip).into(), map.suggested),
        lifetime: Some(Duration::ZERO),
    };
    let protocol = match map.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        // Section 11.1: all protocols, which only makes sense with all ports.
        0 if map.port == 0 && seconds == 0 => {
            nat.unmap_all(now, Protocol::Tcp, ip, owner);
            nat.unmap_all(now, Protocol::Udp, ip, owner);
            return Ok(gone);
        }
        0 if map.port != 0 => return Err(Code::MalformedRequest),
        _ => return Err(Code::UnsupportedProtocol),
    };
    if seconds == 0 {
        if map.port == 0 {
            nat.unmap_all(now, protocol, ip, owner);
        } else {
            nat.unmap(now, protocol, inside, owner)?;
        }
        return Ok(gone);
    }
    if map.port == 0 {
        return Err(Code::UnsupportedProtocol);
    }
    let lifetime = nat.lease_of(seconds).max(LEASE_MIN);
    let wish = Request {
        protocol,
        inside,
        port: map.suggested,
        exact: map.prefers_failure,
        lifetime: Some(lifetime),
        owner,
    };
    Ok(nat.map(now, &wish)?)
}

fn parse(bytes: &[u8]) -> Result<Map, Code> {
    let (map, mut options) = bytes.split_first_chunk::<MAP_LEN>().ok_or(Code::MalformedRequest)?;
    let (nonce, rest) = map.split_first_chunk::<12>().ok_or(Code::MalformedRequest)?;
    let [protocol, _, _, _, p0, p1, s0, s1, ..] = *rest else {
        return Err(Code::MalformedRequest);
    };
    let mut map = Map {
        nonce: *nonce,
        protocol,
        port: u16::from_be_bytes([p0, p1]),
        suggested: u16::from_be_bytes([s0, s1]),
        prefers_failure: false,
    };
    while !options.is_empty() {
        let ([code, _, l0, l1], rest) =
            options.split_first_chunk::<4>().ok_or(Code::MalformedOption)?;
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        options = rest.get(len.next_multiple_of(4)..).ok_or(Code::MalformedOption)?;
        match *code {
            OPTION_PREFER_FAILURE if len == 0 && !map.prefers_failure => map.prefers_failure = true,
            OPTION_PREFER_FAILURE => return Err(Code::MalformedOption),
            // Those from 128 on may be passed over (section 7.3).
            128.. => {}
            _ => return Err(Code::UnsupportedOption),
        }
    }
    Ok(map)
}

/// What every answer begins with (RFC 6887, section 7.2): 24 bytes.
fn head(nat: &Nat, now: Nanos, opcode: u8, code: Code, lifetime: u32) -> Vec<u8> {
    let mut answer = vec![VERSION, opcode | ANSWER, 0, code as u8];
    answer.extend_from_slice(&lifetime.to_be_bytes());
    answer.extend_from_slice(&(nat.epoch(now).as_secs() as u32).to_be_bytes());
    answer.resize(HEADER_LEN, 0);
    answer
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::tests::{host, serving as nat};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    /// A MAP request of TCP.
    fn request(last: u8, nonce: u8, port: u16, suggested: u16, seconds: u32) -> Vec<u8> {
        let mut request = vec![2, 1, 0, 0];
        request.extend(seconds.to_be_bytes());
        request.extend(Ipv4Addr::new(192, 168, 0, last).to_ipv6_mapped().octets());
        request.extend([nonce; 12]);
        request.extend([6, 0, 0, 0]);
        request.extend(port.to_be_bytes());
        request.extend(suggested.to_be_bytes());
        request.extend([0; 16]);
        request
    }

    fn with(mut request: Vec<u8>, option: &[u8]) -> Vec<u8> {
        request.extend(option);
        request
    }

    /// Result code, seconds, outside port.
    fn ask(nat: &mut Nat, last: u8, request: &[u8]) -> (u8, u32, u16) {
        let bytes = answer(nat, Nanos::ZERO, host(last), request).expect("an answer");
        assert!(bytes.len() >= HEADER_LEN && bytes.len().is_multiple_of(4));
        assert_eq!((bytes[0], bytes[1]), (2, request[1] | 128));
        let seconds = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let port = bytes.get(42..44).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
        (bytes[3], seconds, port)
    }

    #[test]
    fn a_mapping_is_made_renewed_and_deleted_by_who_knows_the_nonce() {
        let mut nat = nat();
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 6881, 7000, 600)), (0, 600, 7000));
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 6881, 7001, 9_999)), (0, 3_600, 7000));
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 6881, 7001, 1)), (0, 120, 7000), "the least");
        assert_eq!(ask(&mut nat, 2, &request(2, 9, 6881, 7000, 600)).0, 2, "another nonce");
        assert_eq!(ask(&mut nat, 2, &request(2, 9, 6881, 7000, 0)).0, 2);
        assert_eq!(nat.mappings(Nanos::ZERO), 1);
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 6881, 7000, 0)), (0, 0, 7000));
        assert_eq!(nat.mappings(Nanos::ZERO), 0);
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 6881, 7000, 0)).0, 0, "again is no error");
    }

    #[test]
    fn a_port_that_somebody_has_is_another_one_or_a_failure() {
        let mut nat = nat();
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 6881, 7000, 600)).2, 7000);
        let (code, _, other) = ask(&mut nat, 3, &request(3, 1, 6881, 7000, 600));
        assert!(code == 0 && other != 7000);
        let prefers = with(request(4, 1, 6881, 7000, 600), &[2, 0, 0, 0]);
        assert_eq!(ask(&mut nat, 4, &prefers).0, 11);
        let free = with(request(4, 1, 6881, 7500, 600), &[2, 0, 0, 0]);
        assert_eq!(ask(&mut nat, 4, &free), (0, 600, 7500));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_code() {
        let mut nat = nat();
        let good = request(2, 1, 6881, 7000, 600);
        let changed = |at: usize, to: u8| {
            let mut request = good.clone();
            request[at] = to;
            request
        };
        for (what, request, code) in [
            ("version", changed(0, 3), 1),
            ("opcode", changed(1, 2), 4),
            ("address", changed(23, 9), 12),
            ("protocol", changed(36, 99), 9),
            ("all protocols of one port", changed(36, 0), 3),
            ("all ports", request(2, 1, 0, 0, 600), 9),
            ("too short", good[..40].to_vec(), 3),
            ("no multiple of four", good[..59].to_vec(), 3),
            ("too long", [&good[..], &[0; 1_100]].concat(), 3),
            ("an option of those that must be known", with(good.clone(), &[3, 0, 0, 0]), 5),
            ("an option that goes on", with(good.clone(), &[128, 0, 0, 9]), 6),
            ("an option that should be empty", with(good.clone(), &[2, 0, 0, 1, 0, 0, 0, 0]), 6),
            ("another that may be passed over", with(good.clone(), &[128, 0, 0, 1, 0, 0, 0, 0]), 0),
        ] {
            assert_eq!(ask(&mut nat, 2, &request).0, code, "{what}");
        }
        for port in 1..=3 {
            assert_eq!(ask(&mut nat, 2, &request(2, 1, port, 0, 600)).0, 0);
        }
        assert_eq!(ask(&mut nat, 2, &request(2, 1, 4, 0, 600)).0, 10, "its quota");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_in_form_or_not_at_all(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::option::of(prop::collection::vec((0..76_usize, any::<u8>()), 0..4)),
        ) {
            // Noise, or a request with an option of which some bytes are others.
            let bytes = changes.map_or(bytes, |changes| {
                let mut request = with(request(2, 1, 6881, 7000, 600), &[0; 16]);
                for (at, byte) in changes {
                    request[at] = byte;
                }
                request
            });
            if let Some(told) = answer(&mut nat(), Nanos::ZERO, host(2), &bytes) {
                prop_assert!(told.len() >= HEADER_LEN && told.len() <= LEN_MAX);
                prop_assert!(told.len().is_multiple_of(4));
                prop_assert_eq!(told[..2].to_vec(), [2, bytes[1] | 128]);
            }
        }
    }
}
