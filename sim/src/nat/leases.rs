//! Mappings that inside hosts ask for, with a time that they last.
//!
//! A leased mapping is for all remote sides, whatever the NAT's mapping and filtering are (RFC 6887,
//! section 11), and what its inside address sends goes out by it.

use std::net::{IpAddr, SocketAddr};

use teem_core::time::Duration;

use super::mapping::{Mapping, MappingId};
use super::translate::Refused;
use super::{Nat, Protocol};
use crate::time::Nanos;

/// Who may change a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever configures the NAT: a forwarded port.
    Administrator,
    /// NAT-PMP: the inside host.
    NatPmp,
    /// PCP: who knows the nonce (RFC 6887, section 11.2).
    Pcp([u8; 12]),
    /// UPnP: anybody inside.
    Upnp,
}

impl Owner {
    /// Whether what this one asked for may be changed by that one.
    fn yields_to(self, other: Self) -> bool {
        match self {
            Self::Administrator | Self::Pcp(_) => self == other,
            Self::NatPmp | Self::Upnp => true,
        }
    }
}

/// The lease of a mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) owner: Owner,
    pub(super) until: Nanos,
}

/// What an inside host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// For what.
    pub protocol: Protocol,
    /// Who is to be reached.
    pub inside: SocketAddr,
    /// The outside port that it would like; zero: any.
    pub port: u16,
    /// Whether no other port will do.
    pub exact: bool,
    /// For how long; none: for good.
    pub lifetime: Option<Duration>,
    /// Who asks.
    pub owner: Owner,
}

/// What it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// Where the inside address is reached.
    pub outside: SocketAddr,
    /// For how long; none: for good.
    pub lifetime: Option<Duration>,
}

impl Leased {
    /// For how many seconds, as protocols say it: "for good" is as many as can be said.
    pub(super) fn seconds(&self) -> u32 {
        self.lifetime.map_or(u32::MAX, |lifetime| lifetime.as_secs() as u32)
    }
}

/// Why it got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Somebody else has that port.
    #[error("the port is taken")]
    Taken,
    /// What is there was made by somebody else.
    #[error("the mapping is somebody else's")]
    NotYours,
    /// The port is not among those that are given out.
    #[error("no such port is given out")]
    OutOfRange,
    /// The inside host has as many mappings as it may have.
    #[error("the inside host has no port left")]
    HostFull,
    /// There is no port, or no room in a table.
    #[error("no ports or memory left")]
    Full,
}

impl From<Refused> for MapError {
    fn from(why: Refused) -> Self {
        match why {
            Refused::HostFull => Self::HostFull,
            _ => Self::Full,
        }
    }
}

impl Nat {
    /// Makes a lease, or renews one.
    ///
    /// Who wants no port exactly is given the one that it has, or the one that it would like if
    /// that is free, or any.
    pub fn map(&mut self, now: Nanos, request: &Request) -> Result<Leased, MapError> {
        let Request { protocol, inside, port, exact, lifetime, owner } = *request;
        let has = self.by_inside.get(&(protocol, inside, None)).copied();
        let has = self.live(now, has);
        let id = match has {
            Some(id) if !exact || self.mapping_mut(id).outside.port() == port => id,
            _ => self.map_at(now, protocol, inside, port, exact)?,
        };
        let until = lifetime.map_or(Nanos::NEVER, |lifetime| now + lifetime);
        let mapping = self.mapping_mut(id);
        if mapping.is_leased(now)
            && mapping.lease.is_some_and(|lease| !lease.owner.yields_to(owner))
        {
            return Err(MapError::NotYours);
        }
        mapping.lease = Some(Lease { owner, until });
        let outside = mapping.outside;
        self.expect_end(id);
        Ok(Leased { outside, lifetime })
    }

    /// A mapping for all remote sides at this outside port, or another if that will do.
    fn map_at(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        inside: SocketAddr,
        port: u16,
        exact: bool,
    ) -> Result<MappingId, MapError> {
        let in_range = (self.config.ports_from..=self.config.ports_to).contains(&port);
        if exact && !in_range {
            return Err(MapError::OutOfRange);
        }
        self.reap(now);
        let mut wanted = None;
        if in_range {
            let external = self.choose_external(inside.ip());
            let outside = SocketAddr::new(self.external[external].ip.into(), port);
            match self.find_outside(now, protocol, outside) {
                None => wanted = Some((external, outside)),
                Some(id) => {
                    let there = self.mapping_mut(id);
                    if there.inside == inside && there.remote.is_none() {
                        return Ok(id);
                    }
                    if exact {
                        return Err(MapError::Taken);
                    }
                }
            }
        }
        self.has_room(now, inside.ip())?;
        let outside = match wanted {
            Some(outside) => outside,
            None => self.allocate(now, protocol, inside).ok_or(MapError::Full)?,
        };
        Ok(self.insert(Mapping::new(protocol, inside, None, outside, self.hasher)))
    }

    /// Ends the lease of an inside address. Connections over it go on. Returns whether there was
    /// one.
    pub fn unmap(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        inside: SocketAddr,
        owner: Owner,
    ) -> Result<bool, MapError> {
        let id = self.by_inside.get(&(protocol, inside, None)).copied();
        let id = self.live(now, id);
        self.end_lease(now, id, owner)
    }

    /// Ends the lease of an outside address. Returns whether there was one.
    pub fn unmap_outside(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        outside: SocketAddr,
        owner: Owner,
    ) -> Result<bool, MapError> {
        let id = self.find_outside(now, protocol, outside);
        self.end_lease(now, id, owner)
    }

    /// Ends all leases of an inside host that this owner may end.
    pub fn unmap_all(&mut self, now: Nanos, protocol: Protocol, inside: IpAddr, owner: Owner) {
        let leased = |mapping: &Mapping| {
            mapping.protocol == protocol && mapping.inside.ip() == inside && mapping.is_leased(now)
        };
        let ids: Vec<_> = self.mappings.iter().filter(|(_, mapping)| leased(mapping)).collect();
        let ids: Vec<_> = ids.into_iter().map(|(id, _)| id).collect();
        for id in ids {
            // What is somebody else's stays.
            let _ = self.end_lease(now, Some(id), owner);
        }
    }

    fn end_lease(
        &mut self,
        now: Nanos,
        id: Option<MappingId>,
        owner: Owner,
    ) -> Result<bool, MapError> {
        let Some(id) = id else { return Ok(false) };
        let mapping = self.mapping_mut(id);
        if !mapping.is_leased(now) {
            return Ok(false);
        }
        if mapping.lease.is_some_and(|lease| !lease.owner.yields_to(owner)) {
            return Err(MapError::NotYours);
        }
        mapping.lease = None;
        self.expect_end(id);
        self.live(now, Some(id));
        Ok(true)
    }
}
