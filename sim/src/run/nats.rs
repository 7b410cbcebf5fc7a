//! The NATs of a run: where they are put, and what their outside addresses are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::plan::{NatPlan, Plan, Role};
use crate::nat::Protocol;
use crate::net::{HostId, NatId, Net};
use crate::swarm::{Node, PORT};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Homes {
    ids: Vec<NatId>,
    /// The NAT of each host that is behind one, by its place in the plan.
    of: BTreeMap<HostId, usize>,
    /// Those with public addresses that somebody who means harm is behind.
    harmful: BTreeSet<usize>,
    /// Outside addresses that were given out.
    given: u32,
}

impl Homes {
    /// Puts all NATs on the network. Nobody is behind them yet.
    pub(super) fn new(plan: &Plan, net: &mut Net<Node>) -> Self {
        let mut homes = Self::default();
        for (at, nat) in plan.nats.iter().enumerate() {
            let behind = nat.behind.and_then(|outer| homes.ids.get(outer).copied());
            let addresses = homes.addresses(nat);
            homes.ids.push(net.add_nat(nat.config, &addresses, behind));
            homes.of.extend(nat.hosts.iter().map(|host| (*host, at)));
            let harms = |host: &usize| matches!(plan.hosts[*host].role, Role::Attacker(_));
            if nat.hosts.iter().any(harms) {
                homes.harmful.insert(outermost(plan, at));
            }
        }
        homes
    }

    /// New outside addresses for a NAT; those behind another get theirs from that one.
    fn addresses(&mut self, nat: &NatPlan) -> Vec<Ipv4Addr> {
        if nat.behind.is_some() {
            return Vec::new();
        }
        let next = || {
            self.given += 1;
            // Nobody else has these: hosts are in 10.0.0.0/8, and move to 11.0.0.0/8.
            Ipv4Addr::from_bits(u32::from_be_bytes([12, 0, 0, 0]) + self.given)
        };
        std::iter::repeat_with(next).take(nat.addresses.max(1)).collect()
    }

    /// Which NAT a host is behind.
    pub(super) fn of(&self, host: HostId) -> Option<usize> {
        self.of.get(&host).copied()
    }

    /// Puts a host behind its NAT, with what the NAT forwards to it.
    pub(super) fn put(&self, plan: &Plan, net: &mut Net<Node>, host: HostId) {
        let Some(at) = self.of(host) else { return };
        net.put_behind(host, self.ids[at]);
        forward(plan, net, at);
    }

    /// The public addresses that hosts behind a NAT are seen at.
    pub(super) fn outside(&self, plan: &Plan, net: &Net<Node>, at: usize) -> Vec<IpAddr> {
        net.nat(self.ids[outermost(plan, at)]).external().map(IpAddr::V4).collect()
    }

    /// A NAT gets other outside addresses. Connections through it are dead.
    pub(super) fn renumber(&mut self, plan: &Plan, net: &mut Net<Node>, at: usize) {
        let addresses = self.addresses(&plan.nats[at]);
        net.renumber_nat(self.ids[at], &addresses);
        forward(plan, net, at);
    }

    /// Whether somebody who means harm has the same public addresses.
    pub(super) fn has_attacker(&self, plan: &Plan, at: usize) -> bool {
        self.harmful.contains(&outermost(plan, at))
    }
}

/// The NAT with public addresses that a NAT is behind, or that it is.
fn outermost(plan: &Plan, mut at: usize) -> usize {
    while let Some(outer) = plan.nats[at].behind {
        at = outer;
    }
    at
}

/// Has a NAT forward what it is to forward, once the host is there.
fn forward(plan: &Plan, net: &mut Net<Node>, at: usize) {
    let nat = &plan.nats[at];
    let Some(first) = nat.hosts.first().filter(|_| nat.forward) else { return };
    if net.nat_of(*first).is_none() {
        return;
    }
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let forwarded = net.forward(*first, protocol, PORT);
        debug_assert!(forwarded.is_ok(), "nobody else is behind it: {forwarded:?}");
    }
}
