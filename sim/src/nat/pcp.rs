//! PCP, the server (RFC 6887): the opcode MAP, with PREFER_FAILURE. It has no PEER, no ANNOUNCE, no
//! options that act for others or filter, and takes no mapping of all ports or all protocols.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use teem_core::time::Duration;

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
    let [version, opcode, ..] = *request else { return None };
    // Answers have the highest bit.
    if opcode >= 128 {
        return None;
    }
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
            let seconds = leased.lifetime.map_or(u32::MAX, |it| it.as_secs() as u32);
            let mut answer = head(nat, now, opcode, Code::Success, seconds);
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
    let mut answer = vec![VERSION, opcode | 128, 0, code as u8];
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
