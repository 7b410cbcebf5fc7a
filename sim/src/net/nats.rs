//! NATs on the network: who is behind which, and what passes them on its way.
//!
//! ```text
//!   host --leave--> NAT --> ... --> [delay] --> ... --> NAT --enter--> host
//!        (as it is sent)                        (as it arrives)
//! ```
//!
//! A realm is where an address means something: the public network, or the inside of one NAT. Two
//! realms may have the same addresses. Listeners and sockets behind a NAT are known by their address
//! in its zone ([`in_realm`]), so that the tables of the network hold all of them.
//!
//! A NAT is at no distance from what is behind it, and has no link of its own: hosts behind it have
//! theirs. What goes out is translated when it is sent, what comes in when it arrives, as punching
//! holes depends on the order. On a network without NATs all of this is one look at an empty list.
//!
//! Calls from both sides at once meet (RFC 9293, section 3.5, "simultaneous open"): the call that
//! arrives first where the other one comes from, from and to the very same addresses, becomes the
//! connection of both. A listener at that port is not asked then, as in Linux; elsewhere the
//! listener may get it. On a network without NATs nobody looks for such calls: both then reach
//! listeners, as two connections.

mod calls;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use bytes::Bytes;
use smallvec::SmallVec;
use teem_core::machine::Machine;
use teem_core::rng::Seed;
use teem_core::time::Duration;

use super::agenda::ConnectionId;
use super::{HostId, Net};
use crate::nat::upnp::Conversation;
use crate::nat::{self, MapError, Nat, NatConfig, Owner, Passing, Protocol, Refused, Unsolicited};
use crate::time::Nanos;

/// NATs of a network.
pub const NATS_MAX: usize = 1 << 20;

/// From a host to its gateway, one way.
const TO_GATEWAY: Duration = Duration::from_millis(1);

/// After how long a sender gives a connection up of which nothing is acknowledged any more: what
/// 15 resendings take in Linux. RFC 1122 (section 4.2.3.5) asks for 100 seconds at least.
pub const GIVE_UP: Duration = Duration::from_secs(924);

/// Which NAT, in the order of [`Net::add_nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NatId(u32);

/// Where an address means something: inside a NAT, or on the public network.
type Realm = Option<NatId>;

/// All NATs, and what they have to do with.
#[derive(Debug, Default)]
pub(super) struct Nats {
    all: Vec<Placed>,
    /// NATs by their outside addresses.
    external: BTreeMap<(Realm, IpAddr), NatId>,
    /// Hosts that are behind one, and which.
    behind: BTreeMap<HostId, NatId>,
    /// The same, by their addresses.
    inside: BTreeMap<(NatId, IpAddr), HostId>,
    /// What calls and connections pass.
    ways: BTreeMap<ConnectionId, Way>,
    /// Calls that are not answered, by who calls from where, and whom.
    calls: BTreeMap<(SocketAddr, SocketAddr), ConnectionId>,
}

#[derive(Debug)]
struct Placed {
    nat: Nat,
    /// What its outside addresses are in.
    realm: Realm,
    /// Inside addresses that were given out.
    inside_count: u32,
}

/// What a call or a connection passes.
#[derive(Debug)]
struct Way {
    /// Where it comes from, in its realm, and whom it calls.
    call: (SocketAddr, SocketAddr),
    /// Where it comes from as seen behind the caller's NATs, and whom it calls there; none: it did
    /// not get that far.
    seen: Option<(SocketAddr, SocketAddr)>,
    /// NATs of the caller, then those of the other side.
    hops: SmallVec<[Hop; 2]>,
    /// How many of them are the caller's.
    out: usize,
    /// The gateway of this NAT is called.
    gateway: Option<(NatId, Box<Conversation>)>,
    /// A NAT has forgotten it.
    broken: Option<Unsolicited>,
    /// Who will be told, or was.
    told: [bool; 2],
}

#[derive(Clone, Copy, Debug)]
struct Hop {
    nat: NatId,
    outside: SocketAddr,
    remote: SocketAddr,
}

/// What becomes of something that leaves a host.
enum Left {
    /// It is on its way, seen as from there, to there.
    To(SocketAddr, SocketAddr),
    /// A NAT's gateway is meant, and it comes from there.
    Gateway(NatId, SocketAddr),
    /// It goes nowhere.
    Nowhere,
}

/// A call that arrives, from where and where; none: it was lost.
pub(super) type Arrival = Option<(SocketAddr, SocketAddr)>;

/// An address of a realm, as the tables of the network know it. Within a NAT that is an IPv6 address
/// in a zone (RFC 4007), which no address of the public network is.
fn in_realm(realm: Realm, address: SocketAddr) -> SocketAddr {
    let Some(NatId(nat)) = realm else { return address };
    let (ip, flow) = match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), 0),
        IpAddr::V6(ip) => (ip, 1),
    };
    SocketAddrV6::new(ip, address.port(), flow, nat + 1).into()
}

/// The other way round.
fn realm_of(address: SocketAddr) -> (Realm, SocketAddr) {
    let SocketAddr::V6(v6) = address else { return (None, address) };
    let Some(nat) = v6.scope_id().checked_sub(1) else { return (None, address) };
    let ip = match v6.ip().to_ipv4_mapped() {
        Some(ip) if v6.flowinfo() == 0 => IpAddr::V4(ip),
        _ => IpAddr::V6(*v6.ip()),
    };
    (Some(NatId(nat)), SocketAddr::new(ip, v6.port()))
}

/// An address as machines know it.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    realm_of(address).1
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Nats {
    fn placed(&self, id: NatId) -> &Placed {
        &self.all[id.0 as usize]
    }

    fn nat_mut(&mut self, id: NatId) -> &mut Nat {
        &mut self.all[id.0 as usize].nat
    }

    const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn realm(&self, host: HostId) -> Realm {
        self.behind.get(&host).copied()
    }

    /// Something goes out from a host's address.
    fn leave(
        &mut self,
        now: Nanos,
        passing: Passing,
        (mut realm, from): (Realm, SocketAddr),
        to: SocketAddr,
        mut each: impl FnMut(Hop),
    ) -> Left {
        if realm.is_none() {
            return Left::To(from, to);
        }
        let (mut from, to) = (canonical(from), canonical(to));
        let mut is_first = true;
        while let Some(id) = realm {
            let Placed { nat, realm: outer, .. } = &mut self.all[id.0 as usize];
            if nat.is_for_gateway(to) && (is_first || to != nat::SSDP) {
                return Left::Gateway(id, from);
            }
            if nat.is_inside(to.ip()) {
                break;
            }
            let translated =
                if to.is_ipv4() { nat.outbound(now, passing, from, to).ok() } else { None };
            let Some(outside) = translated else { return Left::Nowhere };
            from = outside;
            each(Hop { nat: id, outside, remote: to });
            realm = *outer;
            is_first = false;
        }
        Left::To(from, in_realm(realm, to))
    }

    /// Something comes to an address: where it ends up.
    fn enter(
        &mut self,
        now: Nanos,
        passing: Passing,
        from: SocketAddr,
        mut to: SocketAddr,
        mut each: impl FnMut(Hop),
    ) -> Result<SocketAddr, (NatId, Refused)> {
        loop {
            let (realm, address) = realm_of(to);
            let Some(id) = self.external.get(&(realm, address.ip())).copied() else {
                return Ok(to);
            };
            let inside = self.nat_mut(id).inbound(now, passing, from, address);
            to = in_realm(Some(id), inside.map_err(|why| (id, why))?);
            each(Hop { nat: id, outside: address, remote: from });
        }
    }

    /// Where something to this address would end up that is let in; NATs without a mapping for it
    /// are as far as it gets.
    fn peek(&self, now: Nanos, protocol: Protocol, mut to: SocketAddr) -> SocketAddr {
        loop {
            let (realm, address) = realm_of(to);
            let Some(id) = self.external.get(&(realm, address.ip())) else { return to };
            let inside = self.placed(*id).nat.behind(now, protocol, address);
            let Some(inside) = inside else { return to };
            to = in_realm(Some(*id), inside);
        }
    }

    /// A host that is where something to this address goes, to say how far that is: the one that has
    /// it, or one behind the NAT that has it.
    fn host_near(&self, to: SocketAddr) -> Option<HostId> {
        let (realm, address) = realm_of(to);
        let ip = address.ip();
        if let Some(host) = realm.and_then(|nat| self.inside.get(&(nat, ip))) {
            return Some(*host);
        }
        let id = *self.external.get(&(realm, ip))?;
        let first = (id, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of = self.inside.range(first..).next().filter(|((nat, _), _)| *nat == id);
        of.map(|(_, host)| *host)
    }
}

impl<M: Machine> Net<M> {
    /// A NAT with these outside addresses, on the public network or behind another NAT, where none
    /// given means one of that NAT's inside addresses. The addresses are nobody else's.
    ///
    /// # Panics
    /// As [`Nat::new`], and with more than [`NATS_MAX`] NATs.
    pub fn add_nat(
        &mut self,
        config: NatConfig,
        external: &[Ipv4Addr],
        behind: Option<NatId>,
    ) -> NatId {
        assert!(self.nats.all.len() < NATS_MAX, "at most {NATS_MAX} NATs");
        let number = self.nats.all.len() as u32;
        let id = NatId(number);
        let own = match (external, behind) {
            ([], Some(outer)) => vec![self.next_inside(outer)],
            _ => external.to_vec(),
        };
        let mut seed = [0; 32];
        self.seed.stream("nat", number.into()).fill(&mut seed);
        let nat = Nat::new(config, &own, Seed(seed), self.now);
        self.nats.all.push(Placed { nat, realm: behind, inside_count: 0 });
        for ip in own {
            self.nats.external.insert((behind, ip.into()), id);
        }
        id
    }

    /// An inside address that nobody has yet.
    fn next_inside(&mut self, nat: NatId) -> Ipv4Addr {
        let placed = &mut self.nats.all[nat.0 as usize];
        placed.inside_count += 1;
        let config = placed.nat.config();
        config.inside(placed.inside_count).expect("a NAT's inside addresses are enough")
    }

    /// Puts a host behind a NAT, with an inside address that this returns. It has moved: see
    /// [`set_address`](Self::set_address).
    ///
    /// # Panics
    /// If the NAT has no inside address left.
    pub fn put_behind(&mut self, host: HostId, nat: NatId) -> IpAddr {
        let ip = self.next_inside(nat).into();
        self.relocate(host, Some(nat), ip);
        ip
    }

    /// A NAT.
    pub fn nat(&self, id: NatId) -> &Nat {
        &self.nats.placed(id).nat
    }

    /// The NAT that a host is behind.
    pub fn nat_of(&self, host: HostId) -> Option<NatId> {
        self.nats.realm(host)
    }

    /// Has a host's NAT forward a port to it for good, as its owner would: the very same port
    /// outside. Returns the outside address.
    ///
    /// # Panics
    /// If the host is behind no NAT.
    pub fn forward(
        &mut self,
        host: HostId,
        protocol: Protocol,
        port: u16,
    ) -> Result<SocketAddr, MapError> {
        let nat = self.nats.realm(host).expect("the host is behind a NAT");
        let request = nat::Request {
            protocol,
            inside: SocketAddr::new(self.hosts[host].ip, port),
            port,
            exact: true,
            lifetime: None,
            owner: Owner::Administrator,
        };
        let now = self.now;
        self.nats.nat_mut(nat).map(now, &request).map(|leased| leased.outside)
    }

    /// A NAT gets other outside addresses, and forgets all that it knew: connections through it
    /// are dead, and nobody is told. Behind another NAT, none given means one of that NAT's inside
    /// addresses.
    ///
    /// # Panics
    /// As [`Nat::renumber`].
    pub fn renumber_nat(&mut self, id: NatId, external: &[Ipv4Addr]) {
        let now = self.now;
        let realm = self.nats.placed(id).realm;
        let external = match (external, realm) {
            ([], Some(outer)) => vec![self.next_inside(outer)],
            _ => external.to_vec(),
        };
        let old: Vec<_> = self.nats.placed(id).nat.external().collect();
        for ip in old {
            self.nats.external.remove(&(realm, ip.into()));
        }
        self.nats.nat_mut(id).renumber(&external, now);
        for ip in external {
            self.nats.external.insert((realm, ip.into()), id);
        }
    }

    // Who is where.

    /// Whether there are any.
    pub(crate) const fn has_nats(&self) -> bool {
        !self.nats.is_empty()
    }

    /// The host with a TCP socket that another one sees at this address; behind NATs, the one whom
    /// they have a mapping for.
    pub(crate) fn host_seen_at(&self, by: HostId, address: SocketAddr) -> Option<HostId> {
        match realm_of(self.target(by, Protocol::Tcp, address)) {
            (None, address) => self.by_ip.get(&address.ip()).copied(),
            (Some(nat), address) => self.nats.inside.get(&(nat, address.ip())).copied(),
        }
    }

    /// An address of a host, as listeners and sockets are known by it.
    pub(super) fn placed(&self, host: HostId, address: SocketAddr) -> SocketAddr {
        in_realm(self.nats.realm(host), address)
    }

    /// Takes note of where a host is from now on.
    pub(super) fn note_place(&mut self, host: HostId, realm: Option<NatId>, ip: IpAddr) {
        let old = std::mem::replace(&mut self.hosts[host].ip, ip);
        match self.nats.behind.remove(&host) {
            Some(nat) => {
                self.nats.inside.remove(&(nat, old));
            }
            None if self.by_ip.get(&old) == Some(&host) => {
                self.by_ip.remove(&old);
            }
            None => {}
        }
        match realm {
            Some(nat) => {
                self.nats.behind.insert(host, nat);
                self.nats.inside.insert((nat, ip), host);
            }
            None => {
                self.by_ip.entry(ip).or_insert(host);
            }
        }
    }

    /// Whether anybody is at an address.
    pub(super) fn is_anybody_at(&self, at: SocketAddr) -> bool {
        match realm_of(at) {
            (None, address) => self.by_ip.contains_key(&address.ip()),
            (Some(nat), address) => self.nats.inside.contains_key(&(nat, address.ip())),
        }
    }

    /// Who listens where a host's call to an address goes, or is there at all: to say how far that
    /// is.
    pub(super) fn whom_calls(&self, host: HostId, to: SocketAddr) -> Option<HostId> {
        let to = self.target(host, Protocol::Tcp, to);
        let bound = self.listeners.get(&to).map(|(host, _)| *host);
        bound.or_else(|| self.host_at(to))
    }

    fn host_at(&self, to: SocketAddr) -> Option<HostId> {
        let by_ip = || self.by_ip.get(&to.ip()).copied();
        if self.nats.is_empty() { by_ip() } else { self.nats.host_near(to).or_else(by_ip) }
    }

    fn target(&self, host: HostId, protocol: Protocol, to: SocketAddr) -> SocketAddr {
        if self.nats.is_empty() {
            return to;
        }
        let mut realm = self.nats.realm(host);
        while let Some(nat) = realm
            && !self.nat(nat).is_inside(to.ip())
        {
            realm = self.nats.placed(nat).realm;
        }
        self.nats.peek(self.now, protocol, in_realm(realm, to))
    }

    // Datagrams.

    /// A datagram leaves a host's socket: who is near where it goes, as from where it is seen, and
    /// where it goes. None: it is lost, and counted, or a gateway has it.
    pub(super) fn datagram_leaves(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &Bytes,
    ) -> Option<(HostId, SocketAddr, SocketAddr)> {
        let now = self.now;
        let near = match self.nats.leave(now, Passing::Datagram, realm_of(from), to, |_| {}) {
            Left::To(from, to) => self.whom_reaches(to).map(|near| (near, from, to)),
            Left::Nowhere => None,
            Left::Gateway(nat, from) => {
                let answer = self.nats.nat_mut(nat).answer(now, from, to, bytes);
                if let Some((gateway, answer)) = answer {
                    self.counters.datagrams += 1;
                    let back = in_realm(Some(nat), from);
                    self.datagram_comes(gateway, back, answer.into(), 2 * TO_GATEWAY);
                }
                return None;
            }
        };
        self.counters.datagrams_lost += u64::from(near.is_none());
        near
    }

    /// A host near where a datagram to this address goes.
    fn whom_reaches(&self, to: SocketAddr) -> Option<HostId> {
        let there =
            if self.nats.is_empty() { to } else { self.nats.peek(self.now, Protocol::Udp, to) };
        // A host may be bound to an address besides its own.
        let bound = self.sockets.get(&there).map(|(host, _)| *host);
        bound.or_else(|| self.host_at(there))
    }

    /// A datagram arrives: at whose address. None: it is not let in.
    pub(super) fn datagram_enters(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.nats.is_empty() {
            return Some(to);
        }
        let now = self.now;
        self.nats.enter(now, Passing::Datagram, from, to, |_| {}).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_realm_is_nobody_elses_and_comes_back() {
        let addresses = ["10.0.0.1:80", "[fd00::1]:80", "[::ffff:10.0.0.1]:80"]
            .map(|text| text.parse::<SocketAddr>().expect("an address"));
        let mut all = std::collections::BTreeSet::new();
        for realm in [None, Some(NatId(0)), Some(NatId(1))] {
            for address in addresses {
                let placed = in_realm(realm, address);
                assert_eq!(realm_of(placed), (realm, address));
                assert!(all.insert(placed), "{placed}");
            }
        }
        assert_eq!(all.len(), 9);
    }
}
