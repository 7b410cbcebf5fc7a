//! What the gateway address answers: which server a request is for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use teem_core::time::Duration;

use super::{Nat, natpmp, pcp, upnp};
use crate::time::Nanos;

/// Where NAT-PMP and PCP are spoken (RFC 6886, section 3; RFC 6887, section 19.1).
pub const PORT_MAPPING_PORT: u16 = 5351;

/// Where UPnP devices are asked for.
pub const SSDP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1_900);

/// Version and opcode, with which requests of NAT-PMP and PCP begin. None: it is too short, or an
/// answer, which has the highest bit of the opcode (RFC 6886, section 3.3; RFC 6887, section 7.2).
pub(super) fn version_and_opcode(request: &[u8]) -> Option<(u8, u8)> {
    let [version, opcode, ..] = *request else { return None };
    (opcode < ANSWER).then_some((version, opcode))
}

/// What marks the opcode of an answer.
pub(super) const ANSWER: u8 = 1 << 7;

impl Nat {
    /// The gateway's inside address.
    pub const fn gateway(&self) -> IpAddr {
        IpAddr::V4(self.config.gateway)
    }

    /// Whether an inside host's datagram to this address is for the gateway itself.
    pub fn is_for_gateway(&self, to: SocketAddr) -> bool {
        to.ip() == self.gateway() || to == SSDP
    }

    /// A datagram from an inside host for the gateway: the answer and the address that it comes
    /// from, if there is one.
    pub fn answer(
        &mut self,
        now: Nanos,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let servers = self.config.servers;
        let gateway = self.gateway();
        if to == SSDP || to == SocketAddr::new(gateway, SSDP.port()) {
            let answer = servers.upnp.then(|| upnp::discover(gateway, bytes)).flatten()?;
            return Some((SocketAddr::new(gateway, SSDP.port()), answer));
        }
        if to != SocketAddr::new(gateway, PORT_MAPPING_PORT) {
            return None;
        }
        // RFC 6887, appendix A: the first byte is the version of both.
        let is_old = *bytes.first()? == natpmp::VERSION;
        let answer = if servers.nat_pmp && (is_old || !servers.pcp) {
            natpmp::answer(self, now, from, bytes)?
        } else if servers.pcp {
            pcp::answer(self, now, from, bytes)?
        } else {
            return None;
        };
        Some((to, answer))
    }

    /// How long it has been on.
    pub(super) const fn epoch(&self, now: Nanos) -> Duration {
        now.since(self.since)
    }

    /// The outside address of an inside host: the one that it is paired with, or would be now.
    pub(super) fn external_of(&self, inside: IpAddr) -> Ipv4Addr {
        self.external[self.paired(inside)].ip
    }

    /// A lease as long as asked for, and no longer than is allowed.
    pub(super) fn lease_of(&self, seconds: u32) -> Duration {
        Duration::from_secs(seconds.into()).min(self.config.servers.lease_max)
    }
}
