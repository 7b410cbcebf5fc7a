//! Which outside address and port a mapping gets (RFC 4787, sections 4.1 and 4.2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::translate::Refused;
use super::{MAPPINGS_MAX, Nat, Pooling, PortAllocation, Protocol};
use crate::time::Nanos;

/// An outside address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside {
    pub(super) ip: Ipv4Addr,
    /// Ports in use, by protocol.
    pub(super) used: [u32; 2],
    /// The next port to try, by protocol.
    next: [u16; 2],
}

impl Outside {
    pub(super) const fn new(ip: Ipv4Addr, first: u16) -> Self {
        Self { ip, used: [0; 2], next: [first; 2] }
    }
}

/// Random ports that are tried before the next free one is taken.
const DRAWS_MAX: u32 = 8;

impl Nat {
    /// Whether an inside host may have another mapping.
    pub(super) fn has_room(&mut self, now: Nanos, inside: IpAddr) -> Result<(), Refused> {
        self.reap(now);
        let has = self.inside.get(&inside).map_or(0, |host| host.mappings);
        if has >= self.config.ports_per_host_max {
            return Err(Refused::HostFull);
        }
        if self.mappings.len() >= MAPPINGS_MAX {
            return Err(Refused::TableFull);
        }
        Ok(())
    }

    /// Which of the outside addresses an inside host's next mapping gets.
    pub(super) fn choose_external(&mut self, inside: IpAddr) -> usize {
        match self.config.pooling {
            Pooling::Paired => self.paired(inside),
            Pooling::Arbitrary => self.rng.below(self.external.len() as u32) as usize,
        }
    }

    /// Which outside address an inside host is paired with, or would be now.
    pub(super) fn paired(&self, inside: IpAddr) -> usize {
        self.inside.get(&inside).map_or(self.next_external, |host| host.external)
    }

    /// An outside address and port for an inside one; none: all are taken.
    pub(super) fn allocate(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        inside: SocketAddr,
    ) -> Option<(usize, SocketAddr)> {
        let first = self.choose_external(inside.ip());
        let others = match self.config.pooling {
            Pooling::Paired => 1,
            Pooling::Arbitrary => self.external.len(),
        };
        (0..others).find_map(|by| {
            let external = (first + by) % self.external.len();
            let port = self.allocate_port(now, protocol, external, inside.port())?;
            Some((external, SocketAddr::new(self.external[external].ip.into(), port)))
        })
    }

    fn allocate_port(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        external: usize,
        inside: u16,
    ) -> Option<u16> {
        let (from, to) = (self.config.ports_from, self.config.ports_to);
        if self.external[external].used[protocol as usize] >= self.config.ports_count() {
            return None;
        }
        match self.config.ports {
            PortAllocation::Preserve => {
                if (from..=to).contains(&inside) && self.is_free(now, protocol, external, inside) {
                    return Some(inside);
                }
            }
            PortAllocation::Sequential => {}
            PortAllocation::Random => {
                for _ in 0..DRAWS_MAX {
                    let port = from + self.rng.below(self.config.ports_count()) as u16;
                    if self.is_free(now, protocol, external, port) {
                        return Some(port);
                    }
                }
                self.external[external].next[protocol as usize] =
                    from + self.rng.below(self.config.ports_count()) as u16;
            }
        }
        for _ in 0..self.config.ports_count() {
            let next = &mut self.external[external].next[protocol as usize];
            let port = *next;
            *next = if port == to { from } else { port + 1 };
            if self.is_free(now, protocol, external, port) {
                return Some(port);
            }
        }
        None
    }

    fn is_free(&mut self, now: Nanos, protocol: Protocol, external: usize, port: u16) -> bool {
        let outside = SocketAddr::new(self.external[external].ip.into(), port);
        self.find_outside(now, protocol, outside).is_none()
    }
}
