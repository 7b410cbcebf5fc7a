//! What goes out and what comes in (RFC 4787, sections 4 to 6; RFC 5382, sections 4 and 5).

use std::net::SocketAddr;

use super::mapping::{Connection, Mapping, MappingId};
use super::{Dependence, Nat, NatCounters, Passing, Protocol};
use crate::time::Nanos;

/// Why something does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It goes to an outside address of this NAT, which does not hairpin.
    #[error("no hairpinning")]
    NoHairpin,
    /// The inside host has as many mappings as it may have.
    #[error("the inside host has no port left")]
    HostFull,
    /// All ports of the outside address are taken.
    #[error("no outside port is left")]
    NoPort,
    /// A table is full.
    #[error("a table is full")]
    TableFull,
    /// There is no mapping at that outside address and port.
    #[error("no mapping")]
    NoMapping,
    /// The mapping is not for that remote side.
    #[error("filtered")]
    Filtered,
    /// It is part of a TCP connection that is not known, or not any more.
    #[error("no such connection")]
    NoConnection,
}

impl Nat {
    /// Something from an inside address goes to a remote one: says under which outside address it
    /// goes on.
    pub fn outbound(
        &mut self,
        now: Nanos,
        passing: Passing,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        let result = self.go_out(now, passing, inside, remote);
        self.counted(result, |counters| &mut counters.passed_out)
    }

    /// Something from a remote address comes to an outside one: says to which inside address it
    /// goes on.
    pub fn inbound(
        &mut self,
        now: Nanos,
        passing: Passing,
        remote: SocketAddr,
        outside: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        let result = self.come_in(now, passing, remote, outside);
        self.counted(result, |counters| &mut counters.passed_in)
    }

    /// Something passes, either way, that belongs to the TCP connection between an outside address
    /// and a remote one.
    pub fn along(
        &mut self,
        now: Nanos,
        passing: Passing,
        outside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), Refused> {
        let result = self.go_along(now, passing, outside, remote);
        self.counters.refused += u64::from(result.is_err());
        result
    }

    /// Counts what was refused, and what passed as the kind that it is.
    fn counted<T>(
        &mut self,
        result: Result<T, Refused>,
        passed: impl FnOnce(&mut NatCounters) -> &mut u64,
    ) -> Result<T, Refused> {
        let counters = &mut self.counters;
        *if result.is_ok() { passed(counters) } else { &mut counters.refused } += 1;
        result
    }

    fn go_along(
        &mut self,
        now: Nanos,
        passing: Passing,
        outside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), Refused> {
        let id = self.find_outside(now, Protocol::Tcp, outside).ok_or(Refused::NoMapping)?;
        let until = self.follow(now, passing, id, remote)?;
        if passing != Passing::Last {
            let filtering = self.config.filtering;
            self.mapping_mut(id).prolong(filtering, remote, until);
        }
        self.expect_end(id);
        Ok(())
    }

    /// Who is behind an outside address and port, whoever asks; changes nothing.
    pub fn behind(
        &self,
        now: Nanos,
        protocol: Protocol,
        outside: SocketAddr,
    ) -> Option<SocketAddr> {
        let mapping = self.mappings.get(*self.by_outside.get(&(protocol, outside))?)?;
        mapping.is_live(now).then_some(mapping.inside)
    }

    fn go_out(
        &mut self,
        now: Nanos,
        passing: Passing,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        if self.is_external(remote.ip()) && !self.config.hairpin {
            return Err(Refused::NoHairpin);
        }
        let protocol = passing.protocol();
        let begins = matches!(passing, Passing::Datagram | Passing::Syn);
        let id = match self.find_inside(now, protocol, inside, remote) {
            Some(id) => id,
            None if begins => self.make(now, protocol, inside, remote)?,
            None => return Err(Refused::NoConnection),
        };
        let filtering = self.config.filtering;
        if passing == Passing::Datagram {
            let until = now + self.config.udp_timeout;
            let mapping = self.mapping_mut(id);
            mapping.idle_at = mapping.idle_at.max(until);
            if !mapping.permit(now, filtering, remote, until) {
                return Err(Refused::TableFull);
            }
        } else {
            let until = self.follow(now, passing, id, remote)?;
            if passing != Passing::Last
                && !self.mapping_mut(id).permit(now, filtering, remote, until)
            {
                return Err(Refused::TableFull);
            }
        }
        self.expect_end(id);
        Ok(self.mapping_mut(id).outside)
    }

    fn come_in(
        &mut self,
        now: Nanos,
        passing: Passing,
        remote: SocketAddr,
        outside: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        let protocol = passing.protocol();
        let id = self.find_outside(now, protocol, outside).ok_or(Refused::NoMapping)?;
        let (filtering, refresh) = (self.config.filtering, self.config.refresh_inbound);
        let until = now + self.config.udp_timeout;
        let mapping = self.mapping_mut(id);
        match passing {
            Passing::Datagram | Passing::Syn if !mapping.lets_in(now, filtering, remote) => {
                return Err(Refused::Filtered);
            }
            Passing::Datagram if refresh => {
                mapping.idle_at = mapping.idle_at.max(until);
                mapping.prolong(filtering, remote, until);
            }
            Passing::Datagram => {}
            Passing::Syn | Passing::SynAck | Passing::Segment | Passing::Last => {
                self.follow(now, passing, id, remote)?;
                self.expect_end(id);
            }
        }
        Ok(self.mapping_mut(id).inside)
    }

    /// Keeps track of a TCP connection (RFC 5382, section 5). Returns until when it is kept.
    fn follow(
        &mut self,
        now: Nanos,
        passing: Passing,
        id: MappingId,
        remote: SocketAddr,
    ) -> Result<Nanos, Refused> {
        let filtering = self.config.filtering;
        let transitory = now + self.config.tcp_transitory;
        let established = now + self.config.tcp_established;
        let mapping = self.mapping_mut(id);
        let known = mapping.connection(now, remote);
        let next = match (passing, known) {
            (Passing::Last, Some(_)) => {
                mapping.end_connection(filtering, remote, transitory);
                return Ok(transitory);
            }
            (Passing::Syn, Some(known)) if known.established => {
                Connection { established: true, until: known.until }
            }
            (Passing::Syn, _) => Connection { established: false, until: transitory },
            (Passing::SynAck, Some(_)) => Connection { established: true, until: established },
            (_, Some(known)) => {
                let until = if known.established { established } else { transitory };
                Connection { until, ..known }
            }
            (_, None) => return Err(Refused::NoConnection),
        };
        if !mapping.keep_connection(now, remote, next) {
            return Err(Refused::TableFull);
        }
        Ok(next.until)
    }

    /// The mapping that an inside address has towards a remote one.
    fn find_inside(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Option<MappingId> {
        // One for all: the only one there is, or a lease, which goes before others (RFC 6887,
        // section 11).
        let for_all = self.by_inside.get(&(protocol, inside, None)).copied();
        if let Some(id) = self.live(now, for_all) {
            return Some(id);
        }
        if self.config.mapping == Dependence::Independent {
            return None;
        }
        let part = self.config.mapping.part_of(remote);
        let id = self.by_inside.get(&(protocol, inside, part)).copied();
        self.live(now, id)
    }

    fn make(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<MappingId, Refused> {
        self.has_room(now, inside.ip())?;
        let part = self.config.mapping.part_of(remote);
        let outside = self.allocate(now, protocol, inside).ok_or(Refused::NoPort)?;
        Ok(self.insert(Mapping::new(protocol, inside, part, outside, self.hasher)))
    }

    pub(super) fn mapping_mut(&mut self, id: MappingId) -> &mut Mapping {
        self.mappings.get_mut(id).expect("it was just found")
    }
}
