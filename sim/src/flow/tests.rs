//! Both rules against what must hold of every allocation, and against a slow solver.

use proptest::prelude::*;

use super::*;

/// Parts of a byte per second in which the slow solver counts.
const PARTS: u128 = 1 << 40;

#[derive(Clone, Debug)]
enum Op {
    Start { from: usize, to: usize, cap: Option<u64> },
    Stop(usize),
    SetRates { host: usize, up: Option<u64>, down: Option<u64> },
    SetCap(usize, Option<u64>),
    Settle,
}

/// What the caller of `Flows` knows, and no more.
#[derive(Clone, Debug)]
struct Model {
    hosts: Vec<[Option<u64>; 2]>,
    flows: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: FlowId,
    from: usize,
    to: usize,
    cap: Option<u64>,
    told: u64,
}

impl Model {
    fn capacity(&self, link: (usize, usize)) -> u64 {
        self.hosts[link.0][link.1].unwrap_or(UNLIMITED)
    }

    fn links(flow: &Known) -> [(usize, usize); 2] {
        [(flow.from, 0), (flow.to, 1)]
    }

    fn at(&self, link: (usize, usize)) -> impl Iterator<Item = &Known> {
        self.flows.iter().filter(move |flow| Self::links(flow).contains(&link))
    }

    fn apply(&mut self, flows: &mut Flows, op: &Op) {
        match *op {
            Op::Start { from, to, cap } => {
                let (from, to) = (from % self.hosts.len(), to % self.hosts.len());
                let id = flows.start(from, to, cap);
                self.flows.push(Known { id, from, to, cap, told: 0 });
            }
            Op::Stop(which) if !self.flows.is_empty() => {
                let which = which % self.flows.len();
                flows.stop(self.flows.swap_remove(which).id);
            }
            Op::SetCap(which, cap) if !self.flows.is_empty() => {
                let which = which % self.flows.len();
                self.flows[which].cap = cap;
                flows.set_cap(self.flows[which].id, cap);
            }
            Op::SetRates { host, up, down } => {
                let host = host % self.hosts.len();
                self.hosts[host] = [up, down];
                flows.set_rates(host, up, down);
            }
            Op::Stop(_) | Op::SetCap(..) => {}
            Op::Settle => self.settle(flows),
        }
    }

    /// Settles, and checks what holds under either rule.
    fn settle(&mut self, flows: &mut Flows) {
        let mut changed = vec![];
        flows.settle(&mut changed);
        assert!(!flows.is_dirty());
        assert_eq!(flows.len(), self.flows.len());
        for flow in &mut self.flows {
            let rate = flows.rate(flow.id);
            let times = changed.iter().filter(|id| **id == flow.id).count();
            assert_eq!(times, usize::from(rate != flow.told), "{flow:?} now {rate}");
            flow.told = rate;
            assert!(rate <= flow.cap.unwrap_or(UNLIMITED));
            assert_eq!(flows.ends(flow.id), (flow.from, flow.to));
        }
        assert!(changed.iter().all(|id| self.flows.iter().any(|flow| flow.id == *id)));
        for host in 0..self.hosts.len() {
            for side in [0, 1] {
                let capacity = self.capacity((host, side));
                let load =
                    self.at((host, side)).fold(0, |sum: u64, at| sum.saturating_add(at.told));
                assert!(load <= capacity, "host {host} side {side}: {load} of {capacity}");
                let link = &flows.net.links[host * 2 + side];
                assert!(!link.mark && !link.dirty);
                if capacity != UNLIMITED {
                    assert_eq!(link.used, load);
                }
            }
            let (up, down) = flows.load(host);
            assert!(up <= self.capacity((host, 0)) && down <= self.capacity((host, 1)));
        }
        assert!(flows.net.flows.iter().all(|flow| !flow.mark && !flow.touched));
    }

    /// Every flow has its cap, or a bottleneck.
    fn assert_max_min(&self) {
        for flow in &self.flows {
            let is_bottleneck = |link| {
                let (mut load, mut most, mut count) = (0, 0, 0);
                for other in self.at(link) {
                    load += u128::from(other.told);
                    most = most.max(other.told);
                    count += 1;
                }
                let capacity = self.capacity(link);
                capacity != UNLIMITED && flow.told == most && u128::from(capacity) - load < count
            };
            let bound = flow.told == flow.cap.unwrap_or(UNLIMITED)
                || Self::links(flow).into_iter().any(is_bottleneck);
            assert!(bound, "{flow:?} in {self:?}");
        }
    }

    /// Max-min rates in parts of a byte per second: the lowest bound first, one at a time.
    fn solve(&self) -> Vec<u128> {
        let mut rates: Vec<Option<u128>> = vec![None; self.flows.len()];
        loop {
            let mut lowest: Option<(u128, Vec<usize>)> = None;
            let mut offer = |level, which| {
                if lowest.as_ref().is_none_or(|(lowest, _)| level < *lowest) {
                    lowest = Some((level, which));
                }
            };
            for host in 0..self.hosts.len() {
                for link in [(host, 0), (host, 1)] {
                    let mut rest = u128::from(self.capacity(link)) * PARTS;
                    let mut open = vec![];
                    for (index, flow) in self.flows.iter().enumerate() {
                        if Self::links(flow).contains(&link) {
                            match rates[index] {
                                Some(rate) => rest = rest.saturating_sub(rate),
                                None => open.push(index),
                            }
                        }
                    }
                    if !open.is_empty() && self.capacity(link) != UNLIMITED {
                        offer(rest / open.len() as u128, open);
                    }
                }
            }
            for (index, flow) in self.flows.iter().enumerate() {
                if let (None, Some(cap)) = (rates[index], flow.cap) {
                    offer(u128::from(cap) * PARTS, vec![index]);
                }
            }
            let Some((level, which)) = lowest else { break };
            for index in which {
                rates[index] = Some(level);
            }
        }
        rates
            .into_iter()
            .map(|rate| rate.unwrap_or_else(|| u128::from(UNLIMITED) * PARTS))
            .collect()
    }

    /// The most by which a rate differs from the slow solver's, in bytes per second, rounded up.
    fn error(&self) -> u128 {
        let pairs = self.flows.iter().zip(self.solve());
        let errors = pairs.map(|(flow, exact)| (u128::from(flow.told) * PARTS).abs_diff(exact));
        errors.max().unwrap_or(0).div_ceil(PARTS)
    }
}

fn network(rule: Rule, hosts: &[[Option<u64>; 2]]) -> (Flows, Model) {
    let mut flows = Flows::with_rule(rule);
    for (index, &[up, down]) in hosts.iter().enumerate() {
        assert_eq!(flows.add_host(up, down), index);
    }
    (flows, Model { hosts: hosts.to_vec(), flows: vec![] })
}

fn rate() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        4 => (1..100_u64).prop_map(|rate| Some(rate * 1_000)),
        2 => (0..1_000_000_u64).prop_map(Some),
        1 => (0..40_u64).prop_map(Some),
        1 => Just(None),
    ]
}

fn cap() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => rate()]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..64_usize, 0..64_usize, cap())
            .prop_map(|(from, to, cap)| Op::Start { from, to, cap }),
        4 => any::<usize>().prop_map(Op::Stop),
        1 => (any::<usize>(), cap()).prop_map(|(which, cap)| Op::SetCap(which, cap)),
        1 => (any::<usize>(), rate(), rate())
            .prop_map(|(host, up, down)| Op::SetRates { host, up, down }),
        6 => Just(Op::Settle),
    ]
}

fn hosts() -> impl Strategy<Value = Vec<[Option<u64>; 2]>> {
    prop::collection::vec((rate(), rate()).prop_map(|(up, down)| [up, down]), 1..20)
}

proptest! {
    #[test]
    fn exact_rates_are_max_min_fair_after_any_changes(
        hosts in hosts(), ops in prop::collection::vec(op(), 1..150),
    ) {
        let (mut flows, mut model) = network(Rule::Exact, &hosts);
        for op in ops.iter().chain([&Op::Settle]) {
            model.apply(&mut flows, op);
            if matches!(op, Op::Settle) {
                model.assert_max_min();
                prop_assert!(model.error() <= model.flows.len() as u128, "off by {}", model.error());
            }
        }
    }

    #[test]
    fn the_local_rule_never_exceeds_a_link_or_a_cap(
        hosts in hosts(), ops in prop::collection::vec(op(), 1..300),
    ) {
        let (mut flows, mut model) = network(Rule::Local, &hosts);
        for op in ops.iter().chain([&Op::Settle]) {
            model.apply(&mut flows, op);
        }
    }

    #[test]
    fn hosts_that_nothing_connects_with_a_group_do_not_change_its_rates_or_their_order(
        hosts in hosts(), ops in prop::collection::vec((any::<bool>(), op()), 1..150),
        rule in prop_oneof![Just(Rule::Exact), Just(Rule::Local)],
    ) {
        let (mut alone, mut model) = network(rule, &hosts);
        let (mut both, mut with) = network(rule, &hosts);
        let mut others = with.clone();
        for &[up, down] in &hosts {
            both.add_host(up, down);
        }
        for (ours, op) in &ops {
            if matches!(op, Op::Settle) {
                let (mut of_one, mut of_both) = (vec![], vec![]);
                alone.settle(&mut of_one);
                both.settle(&mut of_both);
                let named = |model: &Model, changed: &[FlowId], flows: &Flows| -> Vec<_> {
                    let index = |id| model.flows.iter().position(|flow| flow.id == id);
                    changed.iter().filter_map(|&id| Some((index(id)?, flows.rate(id)))).collect()
                };
                prop_assert_eq!(named(&model, &of_one, &alone), named(&with, &of_both, &both));
            } else if *ours {
                model.apply(&mut alone, op);
                with.apply(&mut both, op);
            } else {
                shifted(&mut others, &mut both, op, hosts.len());
            }
        }
    }
}

/// As [`Model::apply`], for hosts numbered from `by`.
fn shifted(model: &mut Model, flows: &mut Flows, op: &Op, by: usize) {
    match *op {
        Op::Start { from, to, cap } => {
            let id = flows.start(by + from % by, by + to % by, cap);
            model.flows.push(Known { id, from, to, cap, told: 0 });
        }
        Op::SetRates { host, up, down } => flows.set_rates(by + host % by, up, down),
        _ => model.apply(flows, op),
    }
}

/// A start-only network, settled once.
fn rates(hosts: &[[Option<u64>; 2]], starts: &[(usize, usize, Option<u64>)]) -> Vec<u64> {
    let (mut flows, mut model) = network(Rule::Exact, hosts);
    for &(from, to, cap) in starts {
        model.apply(&mut flows, &Op::Start { from, to, cap });
    }
    model.settle(&mut flows);
    model.assert_max_min();
    model.flows.iter().map(|flow| flow.told).collect()
}

#[test]
fn two_links_and_three_flows_share_as_in_the_textbook() {
    // Two links of 10 and 6: one flow crosses both, and each has a flow of its own.
    let hosts = [[Some(10), None], [None, Some(6)], [None, None]];
    let starts = [(0, 1, None), (0, 2, None), (2, 1, None)];
    assert_eq!(rates(&hosts, &starts), [3, 7, 3]);
    // Equal links: half each.
    let hosts = [[Some(10), None], [None, Some(10)], [None, None]];
    assert_eq!(rates(&hosts, &starts), [5, 5, 5]);
    // What the crossing flow cannot use, the others get.
    let starts = [(0, 1, Some(2)), (0, 2, None), (2, 1, None)];
    assert_eq!(rates(&hosts, &starts), [2, 8, 8]);
}

#[test]
fn a_flow_that_nothing_binds_is_unlimited_and_one_at_a_dead_link_stalls() {
    let hosts = [[None, None], [Some(0), None]];
    let starts = [(0, 1, None), (0, 1, Some(9)), (1, 0, None), (0, 0, None)];
    assert_eq!(rates(&hosts, &starts), [UNLIMITED, 9, 0, UNLIMITED]);
}

#[test]
fn a_host_that_sends_to_itself_uses_both_of_its_links() {
    assert_eq!(rates(&[[Some(8), Some(20)]], &[(0, 0, None), (0, 0, None)]), [4, 4]);
    assert_eq!(rates(&[[Some(8), Some(2)]], &[(0, 0, None)]), [2]);
}

#[test]
fn directions_are_independent() {
    let hosts = [[Some(100), Some(900)], [Some(30), Some(70)]];
    assert_eq!(rates(&hosts, &[(0, 1, None), (1, 0, None)]), [70, 30]);
}

#[test]
fn a_change_that_travels_through_a_long_chain_is_followed_to_its_end() {
    // Host i sends to i + 1 and to i + 2: every link is shared, so a change at one end moves all.
    let hosts: Vec<_> = (0..200_u64).map(|i| [Some(1_000 + i), Some(1_000 + i * 7 % 13)]).collect();
    let (mut flows, mut model) = network(Rule::Exact, &hosts);
    for from in 0..198 {
        for to in [from + 1, from + 2] {
            model.apply(&mut flows, &Op::Start { from, to, cap: None });
        }
    }
    model.settle(&mut flows);
    for rate in [1, 5_000, 300] {
        model.apply(&mut flows, &Op::SetRates { host: 0, up: Some(rate), down: None });
        model.settle(&mut flows);
        model.assert_max_min();
    }
}

#[test]
fn the_rule_changes_with_the_number_of_flows_and_back() {
    let hosts: Vec<_> = (0..100_u64).map(|i| [Some(50_000 + i), Some(90_000)]).collect();
    let (mut flows, mut model) = network(Rule::Auto, &hosts);
    for index in 0..EXACT_MAX {
        model.apply(&mut flows, &Op::Start { from: index, to: index * 7 + index / 100, cap: None });
    }
    model.settle(&mut flows);
    model.assert_max_min();
    assert!(!flows.is_local);
    for from in 0..10 {
        model.apply(&mut flows, &Op::Start { from, to: 50 + from, cap: None });
    }
    model.settle(&mut flows);
    assert!(flows.is_local);
    while flows.len() >= EXACT_AGAIN {
        model.apply(&mut flows, &Op::Stop(17));
        flows.settle(&mut Vec::new());
    }
    assert!(!flows.is_local);
    model.flows.iter_mut().for_each(|flow| flow.told = flows.rate(flow.id));
    model.assert_max_min();
}

#[test]
#[should_panic(expected = "a stopped flow")]
fn a_name_of_a_stopped_flow_is_not_taken_for_the_next_in_its_slot() {
    let (mut flows, _) = network(Rule::Auto, &[[None, None]]);
    let first = flows.start(0, 0, None);
    flows.stop(first);
    let second = flows.start(0, 0, None);
    assert_eq!(first.slot(), second.slot());
    flows.rate(first);
}

#[test]
fn nothing_changed_costs_and_says_nothing() {
    let (mut flows, _) = network(Rule::Auto, &[[Some(5), Some(5)]]);
    let mut changed = vec![];
    flows.settle(&mut changed);
    let flow = flows.start(0, 0, None);
    flows.stop(flow);
    flows.settle(&mut changed);
    assert_eq!((changed.len(), flows.len(), flows.is_empty()), (0, 0, true));
}
