//! NAT-PMP, the server (RFC 6886). It announces nothing by multicast: nobody here restarts a
//! gateway without being told.

use std::net::SocketAddr;

use super::gateway::{ANSWER, version_and_opcode};
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
    let (version, opcode) = version_and_opcode(request)?;
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
            leased.map(|leased| (leased.outside.port(), leased.seconds()))
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
    let mut answer = vec![VERSION, opcode | ANSWER];
    answer.extend_from_slice(&(code as u16).to_be_bytes());
    answer.extend_from_slice(&(nat.epoch(now).as_secs() as u32).to_be_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::tests::{host, serving as nat};
    use proptest::prelude::*;
    use teem_core::time::Duration;

    fn request(opcode: u8, port: u16, suggested: u16, seconds: u32) -> Vec<u8> {
        let mut request = vec![0, opcode, 0, 0];
        request.extend(port.to_be_bytes());
        request.extend(suggested.to_be_bytes());
        request.extend(seconds.to_be_bytes());
        request
    }

    /// Result, inside port, outside port, seconds.
    fn ask(nat: &mut Nat, second: u64, from: u8, request: &[u8]) -> (u16, u16, u16, u32) {
        let now = Nanos::ZERO + Duration::from_secs(second);
        let bytes = answer(nat, now, host(from), request).expect("an answer");
        let two = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (16, 0, request[1] | 128));
        let epoch = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        assert_eq!(u64::from(epoch), second);
        let seconds = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        (two(2), two(8), two(10), seconds)
    }

    #[test]
    fn the_outside_address_is_told() {
        let told = answer(&mut nat(), Nanos::ZERO, host(2), &[0, 0]).expect("an answer");
        assert_eq!(told, [0, 128, 0, 0, 0, 0, 0, 0, 198, 51, 100, 7]);
    }

    #[test]
    fn a_mapping_is_made_renewed_and_deleted() {
        let mut nat = nat();
        assert_eq!(ask(&mut nat, 1, 2, &request(1, 6881, 7000, 60)), (0, 6881, 7000, 60));
        // Whatever it would like now, it has that port; and no more than an hour.
        assert_eq!(ask(&mut nat, 2, 2, &request(1, 6881, 7001, 9_999)), (0, 6881, 7000, 3_600));
        // Somebody else gets another port.
        let (code, _, other, _) = ask(&mut nat, 3, 3, &request(1, 6881, 7000, 60));
        assert!(code == 0 && other != 7000);
        // TCP is another matter.
        assert_eq!(ask(&mut nat, 3, 3, &request(2, 6881, 7000, 60)), (0, 6881, 7000, 60));
        assert_eq!(ask(&mut nat, 4, 2, &request(1, 6881, 0, 0)), (0, 6881, 0, 0));
        assert_eq!(nat.mappings(Nanos::ZERO + Duration::from_secs(4)), 2);
        // All of UDP.
        assert_eq!(ask(&mut nat, 5, 3, &request(1, 0, 0, 0)), (0, 0, 0, 0));
        assert_eq!(nat.mappings(Nanos::ZERO + Duration::from_secs(5)), 1);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_code() {
        let mut nat = nat();
        let version = answer(&mut nat, Nanos::ZERO, host(2), &[2, 1]).expect("an answer");
        assert_eq!(version, [0, 129, 0, 1, 0, 0, 0, 0]);
        let opcode = answer(&mut nat, Nanos::ZERO, host(2), &[0, 3]).expect("an answer");
        assert_eq!(opcode, [0, 131, 0, 5, 0, 0, 0, 0]);
        for port in 1..=4 {
            assert_eq!(ask(&mut nat, 0, 2, &request(1, port, 0, 60)).0, 0);
        }
        assert_eq!(ask(&mut nat, 0, 2, &request(1, 5, 0, 60)), (4, 5, 0, 0), "no resources");
        assert_eq!(ask(&mut nat, 0, 3, &request(1, 0, 0, 60)).0, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_in_form_or_not_at_all(
            bytes in prop::collection::vec(any::<u8>(), 0..20),
            head in prop::option::of((0..3_u8, 0..4_u8)),
        ) {
            let mut bytes = bytes;
            if let (Some((version, opcode)), [first, second, ..]) = (head, &mut bytes[..]) {
                (*first, *second) = (version, opcode);
            }
            if let Some(told) = answer(&mut nat(), Nanos::ZERO, host(2), &bytes) {
                prop_assert!([8, 12, 16].contains(&told.len()));
                prop_assert_eq!(told[..2].to_vec(), [0, bytes[1] | 128]);
            }
        }
    }
}
