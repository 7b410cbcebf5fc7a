//! A network address translator: many inside addresses behind few outside ones.
//!
//! ```text
//!     inside               NAT                      outside
//!   10.0.0.2:6881 --> mapping table --> 198.51.100.7:6881 --> 203.0.113.9:80
//!                 <-- filter        <--
//!                 <-> port-mapping servers (NAT-PMP, PCP, UPnP IGD) at the gateway address
//! ```
//!
//! [`Nat`] is a machine without I/O: it is given the time and the addresses of what passes, and says
//! under which addresses that goes on, or why not. It sees no payload. What it does is said in the
//! terms of RFC 4787 (UDP), RFC 5382 (TCP), RFC 6888 (carrier-grade) and RFC 5780; [`NatConfig`]
//! names them one by one, and [`Kind`] is what people call the usual sets of them.
//!
//! Its gateway address answers NAT-PMP ([`natpmp`], RFC 6886), PCP ([`pcp`], RFC 6887) and UPnP IGD
//! ([`upnp`]): functions of a request and the NAT, over [`Nat::map`] and [`Nat::unmap`].
//!
//! Lookups are O(1). A mapping whose time is over does not count any more from that moment on; its
//! entry goes when it is looked at, or when a new one is made. Tables are bounded:
//! [`MAPPINGS_MAX`], [`REMOTES_MAX`], [`CONNECTIONS_MAX`].
//!
//! It knows IPv4 alone, translates no ICMP and no fragments, and changes no payload: there are no
//! application-layer gateways.

mod config;
mod gateway;
mod leases;
mod mapping;
mod ports;
mod translate;

pub mod natpmp;
pub mod pcp;
pub mod upnp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hashbrown::HashMap;
use teem_core::ids::Slab;
use teem_core::rng::{KeyedHasher, Rng, Seed};

pub use self::config::{
    Dependence, Kind, NatConfig, Pooling, PortAllocation, Servers, Unsolicited, WrongConfig,
};
pub use self::gateway::{PORT_MAPPING_PORT, SSDP};
pub use self::leases::{Leased, MapError, Owner, Request};
pub use self::mapping::{CONNECTIONS_MAX, REMOTES_MAX};
pub use self::translate::Refused;

use self::mapping::{Inside, Mapping, MappingId};
use self::ports::Outside;
use crate::time::Nanos;

/// Mappings of a NAT, those included whose time is over and that nobody looked at.
pub const MAPPINGS_MAX: usize = 1 << 18;

/// Outside addresses of a NAT.
pub const EXTERNAL_MAX: usize = 256;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

/// What passes a NAT, as far as it looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// A datagram.
    Datagram,
    /// The first segment of a TCP connection.
    Syn,
    /// The answer to it: the connection is established.
    SynAck,
    /// Any other segment of an established connection.
    Segment,
    /// The last one: both sides have finished, or one reset it.
    Last,
}

impl Passing {
    /// What it is part of.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Datagram => Protocol::Udp,
            Self::Syn | Self::SynAck | Self::Segment | Self::Last => Protocol::Tcp,
        }
    }
}

/// What a NAT did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatCounters {
    /// Mappings that were made.
    pub mapped: u64,
    /// What went out.
    pub passed_out: u64,
    /// What came in.
    pub passed_in: u64,
    /// What was refused, either way.
    pub refused: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    external: Vec<Outside>,
    external_at: HashMap<IpAddr, usize, KeyedHasher>,
    mappings: Slab<MappingId, Mapping>,
    /// By what is inside, and as much of the remote side as [`NatConfig::mapping`] looks at.
    by_inside: HashMap<(Protocol, SocketAddr, Option<SocketAddr>), MappingId, KeyedHasher>,
    by_outside: HashMap<(Protocol, SocketAddr), MappingId, KeyedHasher>,
    /// Inside hosts that have mappings.
    inside: HashMap<IpAddr, Inside, KeyedHasher>,
    /// When mappings may be over: what was true when they were made, or looked at last.
    expiries: std::collections::BinaryHeap<mapping::Expiry>,
    /// Which outside address the next inside host is paired with.
    next_external: usize,
    hasher: KeyedHasher,
    rng: Rng,
    /// When it was switched on: what port-mapping protocols call its epoch.
    since: Nanos,
    counters: NatCounters,
}

impl Nat {
    /// A NAT with these outside addresses. Whatever it draws comes from `seed`.
    ///
    /// # Panics
    /// Without an outside address or with more than [`EXTERNAL_MAX`], and with a configuration
    /// that [`NatConfig::check`] refuses.
    pub fn new(config: NatConfig, external: &[Ipv4Addr], seed: Seed, now: Nanos) -> Self {
        assert!(
            (1..=EXTERNAL_MAX).contains(&external.len()),
            "a NAT has from 1 to {EXTERNAL_MAX} outside addresses"
        );
        if let Err(why) = config.check() {
            panic!("a NAT is not to be configured so: {why}");
        }
        let hasher = seed.hasher("nat tables");
        let mut nat = Self {
            external: Vec::new(),
            external_at: HashMap::with_hasher(hasher),
            mappings: Slab::new(),
            by_inside: HashMap::with_hasher(hasher),
            by_outside: HashMap::with_hasher(hasher),
            inside: HashMap::with_hasher(hasher),
            expiries: std::collections::BinaryHeap::new(),
            next_external: 0,
            hasher,
            rng: seed.stream("nat", 0),
            since: now,
            counters: NatCounters::default(),
            config,
        };
        nat.renumber(external, now);
        nat
    }

    /// Its outside addresses are these from now on. It forgets all mappings, leases too, and its
    /// epoch begins anew (RFC 6886, section 3.6; RFC 6887, section 8.5).
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn renumber(&mut self, external: &[Ipv4Addr], now: Nanos) {
        assert!(
            (1..=EXTERNAL_MAX).contains(&external.len()),
            "a NAT has from 1 to {EXTERNAL_MAX} outside addresses"
        );
        self.external =
            external.iter().map(|ip| Outside::new(*ip, self.config.ports_from)).collect();
        self.external_at.clear();
        self.external_at.extend(external.iter().enumerate().map(|(at, ip)| (IpAddr::V4(*ip), at)));
        self.mappings = Slab::new();
        self.by_inside.clear();
        self.by_outside.clear();
        self.inside.clear();
        self.expiries.clear();
        self.next_external = 0;
        self.since = now;
    }

    /// How it was configured.
    pub const fn config(&self) -> &NatConfig {
        &self.config
    }

    /// Its outside addresses.
    pub fn external(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.external.iter().map(|outside| outside.ip)
    }

    /// Whether this is one of its outside addresses.
    pub fn is_external(&self, ip: IpAddr) -> bool {
        self.external_at.contains_key(&ip)
    }

    /// Whether this is an inside address.
    pub fn is_inside(&self, ip: IpAddr) -> bool {
        self.config.is_inside(ip)
    }

    /// What it did so far.
    pub const fn counters(&self) -> &NatCounters {
        &self.counters
    }

    /// Mappings that count now.
    pub fn mappings(&self, now: Nanos) -> usize {
        self.mappings.iter().filter(|(_, mapping)| mapping.is_live(now)).count()
    }

    /// Entries in its tables, those included whose time is over.
    pub fn entries(&self) -> usize {
        self.mappings.len()
    }
}

#[cfg(test)]
mod tests;
