//! NAT-PMP, the server (RFC 6886). It announces nothing by multicast: nobody here restarts a
//! gateway without being told.

use std::net::SocketAddr;

use super::leases::{MapError, Owner, Request};
use super::{Nat, Protocol};
use crate::time::Nanos;

/// The version of the protocol.
pub const VERSION: u8 = 0;

/// Bytes of a request for a mapping.
const MAP_LEN: usize = 12;

/// Result codes (RFC 6886, section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Success = 0,
    UnsupportedVersion = 1,
    Refused = 2,
    OutOfResources = 4,
    UnsupportedOpcode = 5,
}

impl From<MapError> for Code {
    fn from(why: MapError) -> Self {
        match why {
            MapError::NotYours | MapError::Taken | MapError::OutOfRange => Self::Refused,
            MapError::HostFull | MapError::Full => Self::OutOfResources,
        }
    }
}

/// The answer to a request of an inside host; none: what is no request is not answered.
pub fn answer(nat: &mut Nat, now: Nanos, from: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let [version, opcode, ..] = *request else { return None };
    // Answers have the highest bit.
    if opcode >= 128 {
        return None;
    }
    if version != VERSION {
        return Some(head(nat, now, opcode, Code::UnsupportedVersion));
    }
    let protocol = match opcode {
        0 => {
            let mut answer = head(nat, now, opcode, Code::Success);
            answer.extend_from_slice(&nat.external_of(from.ip()).octets());
            return Some(answer);
        }
        1 => Protocol::Udp,
        2 => Protocol::Tcp,
        _ => return Some(head(nat, now, opcode, Code::UnsupportedOpcode)),
    };
    let [_, _, _, _, i0, i1, o0, o1, l0, l1, l2, l3] =
        *request.first_chunk::<MAP_LEN>().filter(|_| request.len() == MAP_LEN)?;
    let inside = SocketAddr::new(from.ip(), u16::from_be_bytes([i0, i1]));
    let port = u16::from_be_bytes([o0, o1]);
    let seconds = u32::from_be_bytes([l0, l1, l2, l3]);
    let result = match (seconds, inside.port()) {
        // Section 3.4: all of one protocol, or one.
        (0, 0) => {
            nat.unmap_all(now, protocol, from.ip(), Owner::NatPmp);
            Ok((0, 0))
        }
        (0, _) => nat.unmap(now, protocol, inside, Owner::NatPmp).map(|_| (0, 0)),
        (_, 0) => Err(MapError::OutOfRange),
        _ => {
            let lifetime = nat.lease_of(seconds);
            let owner = Owner::NatPmp;
            let lifetime = Some(lifetime);
            let wish = Request { protocol, inside, port, exact: false, lifetime, owner };
            let leased = nat.map(now, &wish);
            leased.map(|leased| {
                let seconds = leased.lifetime.map_or(u32::MAX, |it| it.as_secs() as u32);
                (leased.outside.port(), seconds)
            })
        }
    };
    let (code, outside, seconds) = match result {
        Ok((outside, seconds)) => (Code::Success, outside, seconds),
        Err(why) => (why.into(), 0, 0),
    };
    let mut answer = head(nat, now, opcode, code);
    answer.extend_from_slice(&inside.port().to_be_bytes());
    answer.extend_from_slice(&outside.to_be_bytes());
    answer.extend_from_slice(&seconds.to_be_bytes());
    Some(answer)
}

/// What every answer begins with: eight bytes.
fn head(nat: &Nat, now: Nanos, opcode: u8, code: Code) -> Vec<u8> {
    let mut answer = vec![VERSION, opcode | 128];
    answer.extend_from_slice(&(code as u16).to_be_bytes());
    answer.extend_from_slice(&(nat.epoch(now).as_secs() as u32).to_be_bytes());
    answer
}
