//! Fewer NATs, and plainer ones.

use super::Shrinker;
use super::hosts::tidy;
use super::passes::HOSTS_MAX;
use crate::nat::{Kind, NatConfig};
use crate::run::{NatPlan, Plan, Role};

impl Shrinker<'_> {
    /// Takes NATs away, those of carriers too, and then single hosts from behind those that are
    /// shared. They are seen at public addresses of their own then.
    pub(super) fn fewer_nats(&mut self) {
        let nats = there(&self.plan);
        self.take_away("fewer NATs", nats, without_nats);
        let sharing = self.plan.nats.iter().filter(|nat| nat.hosts.len() > 1);
        let hosts = sharing.flat_map(|nat| nat.hosts.iter().copied()).collect();
        self.take_away("fewer behind a NAT", hosts, |plan, gone| {
            let mut plan = plan.clone();
            for nat in &mut plan.nats {
                nat.hosts.retain(|host| !gone.contains(host));
            }
            tidy(&mut plan);
            plan
        });
    }

    /// Numbers NATs as a file does that says nothing about it. They draw something else then, so it
    /// may not fail any more.
    pub(super) fn first_numbers_of_nats(&mut self) {
        let plan = in_first_numbers(&self.plan);
        self.try_plan("the first numbers of NATs", plan);
    }

    pub(super) fn plainer_nats(&mut self) {
        self.each_nat("nothing forwarded", &|nat| nat.forward = false);
        self.each_nat("NATs as is usual", &|nat| {
            if let Some(kind) = nat.config.kind() {
                nat.config = NatConfig::of(kind);
            }
            nat.addresses = 1;
        });
        self.each_nat("full cones", &|nat| {
            if nat.config.kind().is_some_and(|kind| kind != Kind::CarrierGrade) {
                let NatConfig { mapping, filtering, ports, .. } = NatConfig::of(Kind::FullCone);
                nat.config = NatConfig { mapping, filtering, ports, ..nat.config };
            }
        });
    }

    /// Changes all NATs, or as many as can be.
    fn each_nat(&mut self, what: &'static str, change: &dyn Fn(&mut NatPlan)) {
        let nats = there(&self.plan);
        let changed = self.try_change(what, |plan| {
            for nat in &nats {
                change(&mut plan.nats[*nat]);
            }
        });
        if changed || self.was_each_plainer || nats.len() > HOSTS_MAX {
            return;
        }
        for nat in nats {
            self.try_change(what, |plan| change(&mut plan.nats[nat]));
        }
    }
}

/// The numbers of those that are not empty places.
fn there(plan: &Plan) -> Vec<usize> {
    let carriers = plan.carriers();
    let is_there = |at: &usize| !plan.nats[*at].hosts.is_empty() || carriers.contains(at);
    (0..plan.nats.len()).filter(is_there).collect()
}

/// What was behind these is where they were.
fn without_nats(plan: &Plan, gone: &[usize]) -> Plan {
    let mut plan = plan.clone();
    // From the outside, so that what was behind two is behind none.
    for at in gone {
        let outer = plan.nats[*at].behind;
        plan.nats[*at] = NatPlan::nobody();
        for nat in &mut plan.nats {
            if nat.behind == Some(*at) {
                nat.behind = outer;
            }
        }
    }
    tidy(&mut plan);
    plan
}

/// Nobody is behind a NAT where there is nobody, and NATs that nothing is behind are empty places; none
/// is at the end.
pub(super) fn without_nobody(plan: &mut Plan) {
    let Plan { nats, hosts, .. } = plan;
    let is_there = |host: &usize| hosts.get(*host).is_some_and(|host| host.role != Role::Nobody);
    let mut carriers = vec![false; nats.len()];
    for at in (0..nats.len()).rev() {
        nats[at].hosts.retain(is_there);
        if nats[at].hosts.is_empty() && !carriers[at] {
            nats[at] = NatPlan::nobody();
        }
        if let Some(outer) = nats[at].behind {
            carriers[outer] = true;
        }
    }
    while nats.last().is_some_and(|nat| *nat == NatPlan::nobody()) {
        nats.pop();
    }
}

/// The same NATs without empty places: carriers' and shared ones first, then those of one host, in
/// the order of the hosts.
fn in_first_numbers(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let carriers = plan.carriers();
    let mut order = there(&plan);
    order.sort_by_key(|at| match plan.nats[*at].hosts[..] {
        [host] if !carriers.contains(at) && plan.nats[*at].addresses <= 1 => (true, host),
        _ => (false, *at),
    });
    let numbers = |old: usize| order.iter().position(|at| *at == old);
    let nats = order.iter().map(|at| {
        let nat = plan.nats[*at].clone();
        NatPlan { behind: nat.behind.and_then(numbers), ..nat }
    });
    plan.nats = nats.collect();
    plan
}
