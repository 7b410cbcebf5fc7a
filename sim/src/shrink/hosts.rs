//! Fewer hosts.

use crate::run::{Fault, HostPlan, Plan, Role};

use super::Shrinker;
use super::nats::without_nobody;
use crate::net::LineId;
use crate::packet::line::Line;

impl Shrinker<'_> {
    /// Takes hosts away, those who mean harm first.
    pub(super) fn fewer_hosts(&mut self) {
        let of = |plan: &Plan, wanted: &dyn Fn(Role) -> bool| -> Vec<usize> {
            let hosts = plan.hosts.iter().enumerate();
            hosts.filter(|(_, host)| wanted(host.role)).map(|(place, _)| place).collect()
        };
        let harmful =
            of(&self.plan, &|role| matches!(role, Role::Attacker(_) | Role::LyingTracker(_)));
        self.take_away("fewer who mean harm", harmful, without_hosts);
        let trackers = of(&self.plan, &|role| role == Role::Tracker);
        self.take_away("fewer trackers", trackers, without_hosts);
        let mut peers = of(&self.plan, &|role| role != Role::Nobody);
        // Seeders come first in most files, and are needed.
        peers.reverse();
        self.take_away("fewer peers", peers, without_hosts);
    }

    /// Moves hosts to the first places. They draw something else there, so it may not fail any more.
    pub(super) fn first_places(&mut self) {
        let plan = in_first_places(&self.plan);
        self.try_plan("the first places", plan);
    }
}

/// Nobody is in these places, and nothing befalls them.
fn without_hosts(plan: &Plan, places: &[usize]) -> Plan {
    let mut plan = plan.clone();
    for place in places {
        plan.hosts[*place] = HostPlan::nobody();
    }
    plan.faults.retain(|(_, fault)| fault.host().is_none_or(|host| !places.contains(&host)));
    tidy(&mut plan);
    plan
}

/// Cuts that cut nobody off go, with the groups that nothing names and what mends nothing; so do
/// empty places at the end, NATs that nobody is behind, and distances and measurements that nobody has.
pub(super) fn tidy(plan: &mut Plan) {
    while plan.hosts.last().is_some_and(|host| host.role == Role::Nobody) {
        plan.hosts.pop();
    }
    lines_in_order(plan);
    without_nobody(plan);
    let there = plan.hosts.iter().fold(0, |there, host| there | host.access.groups);
    let on = |groups: u64| there & groups != 0;
    plan.faults.retain(|(_, fault)| match fault {
        Fault::Cut(from, to) => on(*from) && on(*to),
        _ => true,
    });
    // So that a file is read as what was written.
    plan.groups_in_order();
    let mut cut = false;
    plan.faults.retain(|(_, fault)| match fault {
        Fault::Cut(..) => {
            cut = true;
            true
        }
        Fault::Heal => std::mem::take(&mut cut),
        _ => true,
    });
}

/// Kinds of lines are numbered as hosts have them, the usual one first, so that a file is read as what
/// was written.
fn lines_in_order(plan: &mut Plan) {
    let known = std::mem::take(&mut plan.lines);
    let mut lines = vec![Line::CLEAR];
    let mut place = |id: LineId| {
        let line = known.get(usize::from(id.0)).copied().unwrap_or_default();
        let at = lines.iter().position(|known| *known == line).unwrap_or(lines.len());
        if at == lines.len() {
            lines.push(line);
        }
        LineId(at as u16)
    };
    for host in &mut plan.hosts {
        host.access.line = place(host.access.line);
    }
    for (_, fault) in &mut plan.faults {
        if let Fault::Access(_, access) = fault {
            access.line = place(access.line);
        }
    }
    plan.lines = lines;
}

/// The same hosts without empty places.
fn in_first_places(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let mut places = Vec::with_capacity(plan.hosts.len());
    let mut next = 0;
    for host in &plan.hosts {
        places.push(next);
        next += usize::from(host.role != Role::Nobody);
    }
    plan.hosts.retain(|host| host.role != Role::Nobody);
    for (_, fault) in &mut plan.faults {
        if let Some(host) = fault.host_mut() {
            *host = places[*host];
        }
    }
    for host in plan.nats.iter_mut().flat_map(|nat| &mut nat.hosts) {
        *host = places[*host];
    }
    tidy(&mut plan);
    plan
}
