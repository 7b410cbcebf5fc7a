//! How a NAT behaves, in the terms of the RFCs, and what the usual sets of that are called.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use teem_core::time::Duration;

/// On how much of the remote side something depends: mapping (RFC 4787, section 4.1) and
/// filtering (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependence {
    /// On nothing: "endpoint-independent".
    Independent,
    /// On its address: "address-dependent".
    Address,
    /// On both: "address and port-dependent".
    AddressAndPort,
}

impl Dependence {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Independent, Self::Address, Self::AddressAndPort];

    /// What counts of a remote address: nothing, the address with port zero, or all of it.
    pub const fn part_of(self, remote: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Independent => None,
            Self::Address => Some(SocketAddr::new(remote.ip(), 0)),
            Self::AddressAndPort => Some(remote),
        }
    }
}

/// How outside ports are chosen (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortAllocation {
    /// The inside port if it is free ("port preservation"), the next free one if not.
    Preserve,
    /// One after the other.
    Sequential,
    /// At random (RFC 6056, section 3.3.1).
    Random,
}

/// Which outside address a mapping gets (RFC 4787, section 4.1, "IP address pooling").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// All mappings of an inside host have the same one (RFC 6888, REQ-2).
    Paired,
    /// Each has any.
    Arbitrary,
}

/// What is answered to a TCP segment from outside that nobody asked for, and from either side to
/// one of a connection that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsolicited {
    /// Nothing (RFC 5382, REQ-4 a).
    Drop,
    /// A reset, which breaks simultaneous opens (RFC 5382, section 4.3).
    Reset,
}

/// Which port-mapping protocols the gateway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// RFC 6886.
    pub nat_pmp: bool,
    /// RFC 6887.
    pub pcp: bool,
    /// UPnP IGD:1.
    pub upnp: bool,
    /// UPnP refuses leases that end: error 725.
    pub permanent_only: bool,
    /// The longest lease of NAT-PMP and PCP; who asks for more gets this much.
    pub lease_max: Duration,
}

impl Servers {
    /// None.
    pub const OFF: Self = Self {
        nat_pmp: false,
        pcp: false,
        upnp: false,
        permanent_only: false,
        lease_max: Duration::from_hours(24),
    };

    /// All of them; leases of a day at most (RFC 6887, section 15).
    pub const ALL: Self = Self { nat_pmp: true, pcp: true, upnp: true, ..Self::OFF };
}

/// What people call a NAT (RFC 3489, section 5; RFC 6888 for the last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Independent mapping, independent filtering.
    FullCone,
    /// Independent mapping, filtering by address.
    RestrictedCone,
    /// Independent mapping, filtering by address and port.
    PortRestricted,
    /// Mapping and filtering by address and port, ports at random.
    Symmetric,
    /// What a carrier has in front of its customers: independent mapping and filtering, paired
    /// addresses, hairpinning, ports at random, 1,024 of them for each customer (RFC 6888).
    CarrierGrade,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FullCone,
        Self::RestrictedCone,
        Self::PortRestricted,
        Self::Symmetric,
        Self::CarrierGrade,
    ];

    /// As scenario files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FullCone => "full-cone",
            Self::RestrictedCone => "restricted-cone",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::CarrierGrade => "carrier-grade",
        }
    }
}

/// How a NAT behaves. [`NatConfig::of`] has what is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Which traffic of one inside address and port shares an outside one (RFC 4787, section 4.1;
    /// RFC 5382, section 4.1).
    pub mapping: Dependence,
    /// Whom what comes in must come from: somebody to whom the mapping was used before (RFC 4787,
    /// section 5; RFC 5382, section 4.3).
    pub filtering: Dependence,
    /// How outside ports are chosen.
    pub ports: PortAllocation,
    /// First of the outside ports that are given out.
    pub ports_from: u16,
    /// Last of them.
    pub ports_to: u16,
    /// Which outside address a mapping gets.
    pub pooling: Pooling,
    /// Whether inside hosts reach one another at outside addresses; they then see each other's
    /// outside address (RFC 4787, section 6).
    pub hairpin: bool,
    /// How long a UDP mapping is kept on which nothing goes out: at least two minutes (RFC 4787,
    /// REQ-5), though many keep it shorter.
    pub udp_timeout: Duration,
    /// Whether what comes in keeps a UDP mapping, too (RFC 4787, REQ-6).
    pub refresh_inbound: bool,
    /// How long a TCP connection that is being made or was closed is kept: at least four minutes
    /// (RFC 5382, REQ-5).
    pub tcp_transitory: Duration,
    /// How long an established TCP connection is kept on which nothing passes: at least two hours
    /// and four minutes (RFC 5382, REQ-5).
    pub tcp_established: Duration,
    /// What is answered to what nobody asked for.
    pub unsolicited: Unsolicited,
    /// Mappings that an inside address has at a time; more are refused (RFC 6888, REQ-4).
    pub ports_per_host_max: u32,
    /// The gateway's inside address; inside hosts have those after it.
    pub gateway: Ipv4Addr,
    /// How many bits of [`gateway`](Self::gateway) all inside addresses share.
    pub inside_bits: u8,
    /// Which port-mapping protocols the gateway speaks.
    pub servers: Servers,
}

/// Why a configuration makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongConfig {
    /// There is no port to give out.
    #[error("the first port is above zero and not after the last")]
    Ports,
    /// Nothing would be kept.
    #[error("timeouts are above zero")]
    Timeout,
    /// Nobody may have a mapping.
    #[error("each host may have at least one port")]
    PortsPerHost,
    /// There is no room for inside hosts.
    #[error("inside addresses share from 8 to 30 bits")]
    Inside,
}

impl NatConfig {
    /// What is usual of a kind. Home NATs preserve ports (the symmetric one apart), hairpin, keep
    /// UDP mappings for five minutes as RFC 4787 recommends, drop what is unsolicited, have inside
    /// addresses in 192.168.0.0/16 and no port-mapping servers. A carrier's inside addresses are in
    /// 100.64.0.0/10 (RFC 6598).
    pub const fn of(kind: Kind) -> Self {
        let base = Self {
            mapping: Dependence::Independent,
            filtering: Dependence::Independent,
            ports: PortAllocation::Preserve,
            ports_from: 1_024,
            ports_to: u16::MAX,
            pooling: Pooling::Paired,
            hairpin: true,
            udp_timeout: Duration::from_mins(5),
            refresh_inbound: false,
            tcp_transitory: Duration::from_mins(4),
            tcp_established: Duration::from_mins(124),
            unsolicited: Unsolicited::Drop,
            ports_per_host_max: 1 << 16,
            gateway: Ipv4Addr::new(192, 168, 0, 1),
            inside_bits: 16,
            servers: Servers::OFF,
        };
        match kind {
            Kind::FullCone => base,
            Kind::RestrictedCone => Self { filtering: Dependence::Address, ..base },
            Kind::PortRestricted => Self { filtering: Dependence::AddressAndPort, ..base },
            Kind::Symmetric => Self {
                mapping: Dependence::AddressAndPort,
                filtering: Dependence::AddressAndPort,
                ports: PortAllocation::Random,
                ..base
            },
            Kind::CarrierGrade => Self {
                ports: PortAllocation::Random,
                ports_per_host_max: 1_024,
                gateway: Ipv4Addr::new(100, 64, 0, 1),
                inside_bits: 10,
                ..base
            },
        }
    }

    /// What people call it: the kind that has its mapping, filtering and inside addresses.
    pub fn kind(&self) -> Option<Kind> {
        let of =
            |config: &Self| (config.mapping, config.filtering, config.gateway, config.inside_bits);
        Kind::ALL.into_iter().find(|kind| of(&Self::of(*kind)) == of(self))
    }

    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), WrongConfig> {
        if self.ports_from == 0 || self.ports_from > self.ports_to {
            return Err(WrongConfig::Ports);
        }
        if [self.udp_timeout, self.tcp_transitory, self.tcp_established]
            .iter()
            .any(Duration::is_zero)
        {
            return Err(WrongConfig::Timeout);
        }
        if self.ports_per_host_max == 0 {
            return Err(WrongConfig::PortsPerHost);
        }
        if !(8..=30).contains(&self.inside_bits) {
            return Err(WrongConfig::Inside);
        }
        Ok(())
    }

    /// Whether this is an inside address.
    pub const fn is_inside(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        let shift = 32 - self.inside_bits as u32;
        ip.to_bits() >> shift == self.gateway.to_bits() >> shift
    }

    /// The `number`-th inside address after the gateway's; none: there are not so many.
    pub fn inside(&self, number: u32) -> Option<Ipv4Addr> {
        let ip = self.gateway.to_bits().checked_add(number)?;
        let last = u32::MAX >> self.inside_bits;
        // The last one is for broadcasts.
        let fits = self.is_inside(Ipv4Addr::from_bits(ip).into()) && ip & last != last;
        fits.then_some(Ipv4Addr::from_bits(ip))
    }

    /// How many ports it gives out for each outside address and protocol.
    pub const fn ports_count(&self) -> u32 {
        self.ports_to as u32 - self.ports_from as u32 + 1
    }
}
