//! One mapping: an inside address, the outside one that stands for it, and what keeps it.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use hashbrown::HashMap;
use teem_core::ids::Key;
use teem_core::rng::KeyedHasher;

use super::leases::Lease;
use super::{Dependence, Nat, Protocol};
use crate::time::Nanos;

/// Remote sides that may use a mapping at a time; who comes beyond that is not let in.
pub const REMOTES_MAX: usize = 1 << 14;

/// TCP connections over a mapping at a time.
pub const CONNECTIONS_MAX: usize = 1 << 14;

/// One mapping, and which of the uses of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MappingId {
    slot: u32,
    generation: NonZeroU32,
}

impl Key for MappingId {
    fn from_parts(slot: u32, generation: u32) -> Self {
        Self { slot, generation: NonZeroU32::new(generation).unwrap_or(NonZeroU32::MIN) }
    }

    fn slot(self) -> u32 {
        self.slot
    }

    fn generation(self) -> u32 {
        self.generation.get()
    }
}

/// When a mapping may be over, the earliest first.
pub(super) type Expiry = Reverse<(Nanos, MappingId)>;

#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) protocol: Protocol,
    pub(super) inside: SocketAddr,
    /// As much of the remote side as it is for; none: for all.
    pub(super) remote: Option<SocketAddr>,
    pub(super) outside: SocketAddr,
    /// Which of the outside addresses that is.
    pub(super) external: usize,
    /// When it is over if nothing passes any more, and there is no lease.
    pub(super) idle_at: Nanos,
    pub(super) lease: Option<Lease>,
    /// Who is let in besides, until when: as much of them as filtering looks at.
    pub(super) remotes: HashMap<SocketAddr, Nanos, KeyedHasher>,
    /// TCP connections, by their remote ends.
    pub(super) connections: HashMap<SocketAddr, Connection, KeyedHasher>,
    /// The time of the entry among the expiries that counts.
    expected: Nanos,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) established: bool,
    /// When it is forgotten if nothing passes.
    pub(super) until: Nanos,
}

/// What is known of an inside host that has mappings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    /// The outside address that it is paired with.
    pub(super) external: usize,
    pub(super) mappings: u32,
}

impl Mapping {
    /// One that nothing keeps yet.
    pub(super) fn new(
        protocol: Protocol,
        inside: SocketAddr,
        remote: Option<SocketAddr>,
        (external, outside): (usize, SocketAddr),
        hasher: KeyedHasher,
    ) -> Self {
        Self {
            protocol,
            inside,
            remote,
            outside,
            external,
            idle_at: Nanos::ZERO,
            lease: None,
            remotes: HashMap::with_hasher(hasher),
            connections: HashMap::with_hasher(hasher),
            expected: Nanos::NEVER,
        }
    }

    pub(super) fn over_at(&self) -> Nanos {
        self.lease.map_or(self.idle_at, |lease| self.idle_at.max(lease.until))
    }

    pub(super) fn is_live(&self, now: Nanos) -> bool {
        self.over_at() > now
    }

    pub(super) fn is_leased(&self, now: Nanos) -> bool {
        self.lease.is_some_and(|lease| lease.until > now)
    }

    /// Lets a remote side in until then. False: there are too many.
    pub(super) fn permit(
        &mut self,
        now: Nanos,
        filtering: Dependence,
        remote: SocketAddr,
        until: Nanos,
    ) -> bool {
        let Some(part) = filtering.part_of(remote) else { return true };
        if let Some(known) = self.remotes.get_mut(&part) {
            *known = until.max(*known);
            return true;
        }
        if self.remotes.len() >= REMOTES_MAX {
            self.remotes.retain(|_, until| *until > now);
        }
        let room = self.remotes.len() < REMOTES_MAX;
        if room {
            self.remotes.insert(part, until);
        }
        room
    }

    /// Somebody who is let in is so until then.
    pub(super) fn prolong(&mut self, filtering: Dependence, remote: SocketAddr, until: Nanos) {
        let part = filtering.part_of(remote);
        if let Some(known) = part.and_then(|part| self.remotes.get_mut(&part)) {
            *known = until.max(*known);
        }
    }

    /// Whether what comes from there is let in.
    pub(super) fn lets_in(&self, now: Nanos, filtering: Dependence, remote: SocketAddr) -> bool {
        let Some(part) = filtering.part_of(remote) else { return true };
        self.is_leased(now) || self.remotes.get(&part).is_some_and(|until| *until > now)
    }

    pub(super) fn connection(&self, now: Nanos, remote: SocketAddr) -> Option<Connection> {
        self.connections.get(&remote).copied().filter(|connection| connection.until > now)
    }

    /// Notes a connection. False: there are too many.
    pub(super) fn keep_connection(
        &mut self,
        now: Nanos,
        remote: SocketAddr,
        connection: Connection,
    ) -> bool {
        if !self.connections.contains_key(&remote) && self.connections.len() >= CONNECTIONS_MAX {
            self.connections.retain(|_, connection| connection.until > now);
            if self.connections.len() >= CONNECTIONS_MAX {
                return false;
            }
        }
        self.connections.insert(remote, connection);
        self.idle_at = self.idle_at.max(connection.until);
        true
    }

    /// A connection is over, and is kept until then. What it kept is kept no longer than others
    /// keep it.
    pub(super) fn end_connection(
        &mut self,
        filtering: Dependence,
        remote: SocketAddr,
        until: Nanos,
    ) {
        let Some(connection) = self.connections.get_mut(&remote) else { return };
        *connection = Connection { established: false, until: until.min(connection.until) };
        let of = |part| {
            let same = |other: &SocketAddr| part == filtering.part_of(*other);
            let ends = self.connections.iter().filter(move |(other, _)| same(other));
            ends.map(|(_, connection)| connection.until).max().unwrap_or(Nanos::ZERO)
        };
        let part = filtering.part_of(remote);
        let allowed = of(part);
        self.idle_at =
            self.connections.values().map(|connection| connection.until).max().unwrap_or(until);
        if let Some(part) = part {
            self.remotes.insert(part, allowed);
        }
    }
}

impl Nat {
    /// Takes a mapping into all tables.
    pub(super) fn insert(&mut self, mapping: Mapping) -> MappingId {
        let key = (mapping.protocol, mapping.inside, mapping.remote);
        let (protocol, outside, external) = (mapping.protocol, mapping.outside, mapping.external);
        let ip = mapping.inside.ip();
        let id = self.mappings.insert(mapping);
        self.by_inside.insert(key, id);
        self.by_outside.insert((protocol, outside), id);
        self.external[external].used[protocol as usize] += 1;
        let host = self.inside.entry(ip).or_insert_with(|| {
            // The next host is paired with the next address.
            self.next_external = (external + 1) % self.external.len();
            Inside { external, mappings: 0 }
        });
        host.mappings += 1;
        self.counters.mapped += 1;
        id
    }

    /// Takes a mapping out of all tables.
    pub(super) fn remove(&mut self, id: MappingId) {
        let Some(mapping) = self.mappings.remove(id) else { return };
        let key = (mapping.protocol, mapping.inside, mapping.remote);
        // A lease at another port may have taken its place.
        if self.by_inside.get(&key) == Some(&id) {
            self.by_inside.remove(&key);
        }
        self.by_outside.remove(&(mapping.protocol, mapping.outside));
        self.external[mapping.external].used[mapping.protocol as usize] -= 1;
        let ip = mapping.inside.ip();
        if let Some(host) = self.inside.get_mut(&ip) {
            host.mappings -= 1;
            if host.mappings == 0 {
                self.inside.remove(&ip);
            }
        }
    }

    /// A mapping, if it counts; one whose time is over goes.
    pub(super) fn live(&mut self, now: Nanos, id: Option<MappingId>) -> Option<MappingId> {
        let id = id?;
        if self.mappings.get(id)?.is_live(now) {
            return Some(id);
        }
        self.remove(id);
        None
    }

    pub(super) fn find_outside(
        &mut self,
        now: Nanos,
        protocol: Protocol,
        outside: SocketAddr,
    ) -> Option<MappingId> {
        let id = self.by_outside.get(&(protocol, outside)).copied();
        self.live(now, id)
    }

    /// Sees to it that a mapping is looked at when it may be over.
    pub(super) fn expect_end(&mut self, id: MappingId) {
        let Some(mapping) = self.mappings.get_mut(id) else { return };
        let at = mapping.over_at();
        if at < mapping.expected {
            mapping.expected = at;
            self.expiries.push(Reverse((at, id)));
        }
    }

    /// Drops all mappings whose time is over.
    pub(super) fn reap(&mut self, now: Nanos) {
        while let Some(Reverse((at, id))) = self.expiries.peek().copied()
            && at <= now
        {
            self.expiries.pop();
            let Some(mapping) = self.mappings.get_mut(id).filter(|it| it.expected == at) else {
                continue;
            };
            mapping.expected = Nanos::NEVER;
            if self.live(now, Some(id)).is_some() {
                self.expect_end(id);
            }
        }
        // Entries of mappings that went before their time.
        if self.expiries.len() > 2 * self.mappings.len() + 1_024 {
            let mappings = &self.mappings;
            self.expiries.retain(|Reverse((at, id))| {
                mappings.get(*id).is_some_and(|mapping| mapping.expected == *at)
            });
        }
    }
}
