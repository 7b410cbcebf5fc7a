//! What the local rule of the `flow` fidelity gets wrong, and what either rule costs.
//!
//! `cargo run --release -p teem-sim --example flow_error`
//!
//! Networks are as in BitTorrent: each host uploads to 4 to 8 others at a time, and now and then
//! chokes one and unchokes another. A rate's error is its distance from the exact one, relative to
//! that; utilisation is all bytes per second that move, relative to those under exact rates.

use std::time::Instant;

use teem_core::rng::{Rng, Seed};
use teem_sim::flow::{FlowId, Flows, Rule};

/// Up and down rates in kbit/s, and how many hosts in a hundred have them.
type Mix = &'static [(u64, u64, u32)];

/// Up links bind, nearly always: what homes have.
const HOMES: Mix =
    &[(1_000, 16_000, 30), (5_000, 50_000, 30), (20_000, 100_000, 30), (100_000, 1_000_000, 10)];
/// Either link may bind.
const EVEN: Mix = &[(2_000, 2_000, 25), (10_000, 10_000, 25), (50_000, 50_000, 50)];
/// Each link binds something: homes behind slow down links, among fast hosts.
const STEEP: Mix = &[(1_000, 4_000, 40), (10_000, 8_000, 40), (1_000_000, 1_000_000, 20)];

const DEGREE_MIN: u32 = 4;
const DEGREE_MAX: u32 = 8;

struct Swarm {
    flows: Flows,
    /// By host: the flows that leave it.
    uploads: Vec<Vec<FlowId>>,
    rng: Rng,
    changed: Vec<FlowId>,
    is_capped: bool,
}

impl Swarm {
    fn new(rule: Rule, hosts: usize, mix: Mix, is_capped: bool, seed: u64) -> Self {
        let mut rng = Seed::from_number(seed).stream("flow_error", 0);
        let mut flows = Flows::with_rule(rule);
        for _ in 0..hosts {
            let mut draw = rng.below(100);
            let class = mix.iter().find(|class| {
                let found = draw < class.2;
                draw = draw.saturating_sub(class.2);
                found
            });
            let &(up, down, _) = class.expect("a mix sums to a hundred");
            flows.add_host(Some(up * 125), Some(down * 125));
        }
        let uploads = vec![vec![]; hosts];
        let mut swarm = Self { flows, uploads, rng, changed: vec![], is_capped };
        for host in 0..hosts {
            for _ in 0..DEGREE_MIN + swarm.rng.below(DEGREE_MAX - DEGREE_MIN + 1) {
                swarm.unchoke(host);
            }
        }
        swarm.settle();
        swarm
    }

    fn unchoke(&mut self, from: usize) {
        let to = self.rng.below(self.uploads.len() as u32) as usize;
        // Half of the streams are held back by loss and round trip, to between 100 kB/s and 10 MB/s.
        let cap = 100_000 * (1 + u64::from(self.rng.below(10)) * u64::from(self.rng.below(11)));
        let cap = (self.is_capped && self.rng.below(2) == 0).then_some(cap);
        self.uploads[from].push(self.flows.start(from, to, cap));
    }

    /// One choke or one unchoke, of a host that may do so.
    fn step(&mut self) {
        let from = self.rng.below(self.uploads.len() as u32) as usize;
        let degree = self.uploads[from].len() as u32;
        let more = self.rng.below(2) == 0;
        if degree <= DEGREE_MIN || more && degree < DEGREE_MAX {
            self.unchoke(from);
        } else {
            let which = self.rng.below(degree) as usize;
            self.flows.stop(self.uploads[from].swap_remove(which));
        }
    }

    fn settle(&mut self) {
        self.changed.clear();
        self.flows.settle(&mut self.changed);
    }

    fn rates(&self) -> impl Iterator<Item = u64> {
        self.uploads.iter().flatten().map(|&flow| self.flows.rate(flow))
    }

    fn assert_within_capacity(&self, mix: Mix) {
        let most = mix.iter().map(|class| (class.0 * 125, class.1 * 125));
        let most = most.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))).expect("a mix has classes");
        for host in 0..self.uploads.len() {
            let (up, down) = self.flows.load(host);
            assert!(up <= most.0 && down <= most.1, "host {host} carries {up} up, {down} down");
        }
    }
}

#[derive(Default)]
struct Errors {
    mean: f64,
    worst: f64,
    /// One flow in a hundred is further off.
    high: f64,
    utilisation: f64,
    utilisation_min: f64,
}

/// The same changes under both rules, compared ten times.
fn compare(hosts: usize, mix: Mix, is_capped: bool, seed: u64) -> Errors {
    let mut exact = Swarm::new(Rule::Exact, hosts, mix, is_capped, seed);
    let mut local = Swarm::new(Rule::Local, hosts, mix, is_capped, seed);
    let (mut errors, mut used, mut could) = (vec![], 0, 0);
    let mut found = Errors { utilisation_min: 1.0, ..Errors::default() };
    for _ in 0..10 {
        for _ in 0..hosts * 2 {
            local.step();
            local.settle();
            exact.step();
        }
        exact.settle();
        local.assert_within_capacity(mix);
        let (at_once, best): (u64, u64) = (local.rates().sum(), exact.rates().sum());
        found.utilisation_min = found.utilisation_min.min(at_once as f64 / best as f64);
        used += at_once;
        could += best;
        let pairs = local.rates().zip(exact.rates());
        errors.extend(pairs.map(|(local, exact)| local.abs_diff(exact) as f64 / exact as f64));
    }
    errors.sort_by(f64::total_cmp);
    found.mean = errors.iter().sum::<f64>() / errors.len() as f64;
    found.worst = *errors.last().expect("there are flows");
    found.high = errors[errors.len() * 99 / 100];
    found.utilisation = used as f64 / could as f64;
    found
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people")]
fn speed(rule: Rule, hosts: usize, mix: Mix, per_settle: usize, settles: usize) {
    let mut swarm = Swarm::new(rule, hosts, mix, true, 1);
    let warm = settles / 10;
    let (mut begin, mut changed, mut memory) = (Instant::now(), 0, 0);
    for settle in 0..warm + settles {
        if settle == warm {
            (begin, changed, memory) = (Instant::now(), 0, swarm.flows.memory());
        }
        for _ in 0..per_settle {
            swarm.step();
        }
        swarm.settle();
        changed += swarm.changed.len();
    }
    let took = begin.elapsed();
    let steps = (settles * per_settle) as f64;
    println!(
        "{:5} {hosts:6} hosts {:6} flows {per_settle:4} a settle: {:9.0} starts or stops/s, {:7.3} us each, \
         {:5.1} rates changed each, {} KiB (grew by {} KiB)",
        format!("{rule:?}"),
        swarm.flows.len(),
        steps / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / steps,
        changed as f64 / steps,
        swarm.flows.memory() >> 10,
        (swarm.flows.memory() - memory) >> 10,
    );
}

fn main() {
    println!("error of the local rule: mean, 99th percentile, worst; utilisation: mean, lowest");
    for (name, mix) in [("homes", HOMES), ("even", EVEN), ("steep", STEEP)] {
        for is_capped in [false, true] {
            for hosts in [300, 1_000] {
                let found = compare(hosts, mix, is_capped, 7);
                println!(
                    "{name:5} {} {hosts:5} hosts: {:6.2} % {:6.1} % {:6.0} %; {:6.2} % {:6.2} %",
                    if is_capped { "capped  " } else { "uncapped" },
                    found.mean * 100.0,
                    found.high * 100.0,
                    found.worst * 100.0,
                    found.utilisation * 100.0,
                    found.utilisation_min * 100.0,
                );
                assert!(found.utilisation_min >= 0.9, "a tenth of the network lies idle");
            }
        }
    }
    for (name, mix) in [("homes", HOMES), ("even", EVEN), ("steep", STEEP)] {
        println!("{name}:");
        for (hosts, per_settle) in [(1_000, 1), (1_000, 10), (10_000, 1), (10_000, 100)] {
            speed(Rule::Local, hosts, mix, per_settle, 1_000_000 / per_settle);
        }
        for (hosts, per_settle) in [(100, 1), (100, 10), (300, 1)] {
            speed(Rule::Exact, hosts, mix, per_settle, 20_000 / per_settle);
        }
    }
}
