//! How long a swarm must take at least, whatever its engines do.
//!
//! The fluid bound of Kumar and Ross (2006) for whoever is there from the beginning to the end,
//! `max(F / u_s, F / d_min, N F / (u_s + sum of u_i))`, and on top the time in which a first piece
//! reaches everybody if the number of its holders doubles each time (Mundinger, Weber and Weiss,
//! 2008): `log2 N` piece times, and a round trip each.
//!
//! It takes for granted that everybody reaches everybody. Behind NATs that is not so: no swarm is
//! faster for that, so it remains a bound, but how much longer the best one takes it does not say, nor
//! whether those who reach nobody can be complete at all.

use teem_core::time::Duration;

use super::plan::{HostPlan, Plan, Preload, Role};
use crate::net::Fidelity;

/// The least time in which every client of the plan can be complete, counted from when all are
/// there. Clients that come or go meanwhile count as there.
pub fn bound(plan: &Plan) -> Duration {
    let clients = || plan.hosts.iter().filter(|host| host.role == Role::Peer);
    let leechers: Vec<_> = clients().filter(|host| host.preload != Preload::Everything).collect();
    if leechers.is_empty() {
        return Duration::ZERO;
    }
    let up = |host: &HostPlan| rate(plan, host.access.up_bytes_per_s, host.config.up_bytes_per_s);
    let down =
        |host: &HostPlan| rate(plan, host.access.down_bytes_per_s, host.config.down_bytes_per_s);
    // What nothing limits takes no time.
    let sum = |hosts: &mut dyn Iterator<Item = &HostPlan>| {
        hosts.map(up).try_fold(0_u64, |sum, rate| Some(sum.saturating_add(rate?)))
    };
    let total = u128::from(plan.content_len);
    let whole = |host: &&&HostPlan| host.preload == Preload::Everything;
    let takes = |bytes: u128, rate: Option<u64>| {
        let nanos = rate.map_or(0, |rate| bytes * 1_000_000_000 / u128::from(rate.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    let all: Vec<_> = clients().collect();
    let seeds = takes(total, sum(&mut all.iter().filter(whole).copied()));
    let slowest = leechers.iter().filter_map(|host| down(host)).min();
    let missing: u128 = leechers.iter().map(|host| missing(total, host)).sum();
    let everybody = takes(missing, sum(&mut all.iter().copied()));
    let fluid = takes(total, slowest).max(everybody);
    // Parts that leechers bring may be all that is needed of the seeds.
    let brought = leechers.iter().any(|host| host.preload != Preload::Nothing);
    let fluid = if brought { fluid } else { fluid.max(seeds) };

    let doublings = leechers.len().next_power_of_two().trailing_zeros();
    let middle = {
        let mut rates: Vec<u64> = leechers.iter().filter_map(|host| up(host)).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied()
    };
    let piece = takes(u128::from(plan.piece_len.min(plan.content_len as u32)), middle);
    fluid + (piece + plan.between * 2) * doublings
}

/// Clients that nobody can call, as they are behind NATs that forward nothing to them. [`bound()`] takes
/// no account of that.
pub(super) fn behind_nats(plan: &Plan) -> usize {
    let nats = plan.nats.iter().flat_map(|nat| {
        let is_called = nat.forward && nat.behind.is_none();
        nat.hosts.iter().skip(usize::from(is_called))
    });
    nats.filter(|host| plan.hosts[**host].role == Role::Peer).count()
}

fn missing(total: u128, host: &HostPlan) -> u128 {
    match host.preload {
        Preload::Nothing => total,
        Preload::Everything => 0,
        Preload::Part(thousandths) => total * u128::from(1_000 - thousandths.min(1_000)) / 1_000,
    }
}

/// The lesser of what a link and a session allow; none: no limit.
fn rate(plan: &Plan, link: Option<u64>, session: Option<u64>) -> Option<u64> {
    let link = link.filter(|_| plan.fidelity != Fidelity::Message);
    link.into_iter().chain(session).min()
}
