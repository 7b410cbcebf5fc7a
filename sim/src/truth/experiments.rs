//! The experiments by name, at two sizes, each with the gates that its figures are held to.
//!
//! [`Size::Full`] is what was published, or what the theory is about; [`Size::Small`] is for every
//! day, and takes seconds. Both are held to the same gates but where a gate says so.

use std::collections::BTreeMap;

use serde::Serialize;
use teem_core::time::Duration;

use super::Mean;
use super::clusters::Clusters;
use super::crowd::{self, Crowd, Pick, Slots};
use super::stability::{self, Stability};

/// How large an experiment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As published.
    Full,
    /// With fewer peers or pieces, or for less time: seconds of work.
    Small,
}

/// An experiment by name.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    /// Its name, in kebab-case.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// How many seeds it is worth, from zero on, at both sizes.
    pub seeds: u64,
    measure: fn(Size, u64) -> Measured,
}

/// All of them.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "crowd-turns",
        about: "a flash crowd with one slot granted piece by piece comes close to the bound",
        seeds: 3,
        measure: crowd_turns,
    },
    Experiment {
        name: "crowd-choker",
        about: "a flash crowd with the choker that ships stays within a third of the bound",
        seeds: 3,
        measure: crowd_choker,
    },
    Experiment {
        name: "crowd-unlimited",
        about: "without a limit on slots pieces come late",
        seeds: 1,
        measure: crowd_unlimited,
    },
    Experiment {
        name: "crowd-growth",
        about: "each doubling of peers costs a few piece times",
        seeds: 1,
        measure: crowd_growth,
    },
    Experiment {
        name: "crowd-pick",
        about: "random pieces are slower than rare ones",
        seeds: 1,
        measure: crowd_pick,
    },
    Experiment {
        name: "clusters-fast-seed",
        about: "with a fast seed peers serve their like and the fast are done first",
        seeds: 3,
        measure: clusters_fast,
    },
    Experiment {
        name: "clusters-slow-seed",
        about: "with a slow seed everybody waits for it",
        seeds: 3,
        measure: clusters_slow,
    },
    Experiment {
        name: "stability-below",
        about: "a seed slower than arrivals grows a club of those who lack one piece",
        seeds: 2,
        measure: stability_below,
    },
    Experiment {
        name: "stability-above",
        about: "a seed faster than arrivals keeps the swarm small",
        seeds: 2,
        measure: stability_above,
    },
];

impl Experiment {
    /// Carries it out.
    pub fn run(&self, size: Size, seed: u64) -> Measured {
        (self.measure)(size, seed)
    }
}

/// A limit that a figure is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// Which figure.
    pub figure: &'static str,
    /// What it is at least, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// What it is at most, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Whether it is.
    pub met: bool,
}

/// What was measured, and whether it is as it must be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// Each figure by name; a name ends with its unit if it has one. One that has no value, such as
    /// the time of a swarm that was given up, is infinite.
    pub figures: BTreeMap<&'static str, f64>,
    /// What they are held to.
    pub gates: Vec<Gate>,
}

impl Measured {
    /// Whether every gate is met.
    pub fn is_met(&self) -> bool {
        self.gates.iter().all(|gate| gate.met)
    }

    fn note(&mut self, figure: &'static str, value: f64) {
        self.figures.insert(figure, value);
    }

    fn gate(&mut self, gate: Gate) {
        let value = self.figures.get(gate.figure).copied();
        let value = value.expect("gates are for figures that were noted");
        // Not a number is neither.
        let met = gate.at_least.is_none_or(|least| value >= least)
            && gate.at_most.is_none_or(|most| value <= most);
        self.gates.push(Gate { met, ..gate });
    }

    fn at_least(&mut self, figure: &'static str, least: f64) {
        self.gate(Gate { figure, at_least: Some(least), at_most: None, met: false });
    }

    fn at_most(&mut self, figure: &'static str, most: f64) {
        self.gate(Gate { figure, at_least: None, at_most: Some(most), met: false });
    }

    fn note_crowd(&mut self, outcome: &crowd::Outcome) {
        self.note("over_bound", outcome.ratio());
        self.note("piece_times", outcome.piece_times());
        self.note("utilisation", outcome.utilisation);
        self.note("seed_copies", outcome.seed_copies);
        self.note("wasted", outcome.wasted);
        self.note("blocks", outcome.blocks as f64);
        self.note("events", outcome.events as f64);
        // Nobody beats the bound, and no link carries more than it can.
        self.at_least("over_bound", 1.0);
        self.at_most("utilisation", 1.0);
    }
}

/// Of so many peers, at the distance at which latency counts.
fn crowd_of(peers: usize, slots: Slots, seed: u64) -> Crowd {
    Crowd { peers, one_way: Duration::from_micros(12_500), ..Crowd::full(slots, seed) }
}

const fn peers(size: Size, small: usize) -> usize {
    match size {
        Size::Full => 1_024,
        Size::Small => small,
    }
}

fn crowd_turns(size: Size, seed: u64) -> Measured {
    let full = Crowd::full(Slots::PieceByPiece, seed);
    let outcome = Crowd { peers: peers(size, 64), ..full }.run();
    let mut measured = Measured::default();
    measured.note_crowd(&outcome);
    measured.at_most("over_bound", 1.15);
    measured
}

fn crowd_choker(size: Size, seed: u64) -> Measured {
    let outcome = crowd_of(peers(size, 128), Slots::Choker(4), seed).run();
    let mut measured = Measured::default();
    measured.note_crowd(&outcome);
    measured.at_most("over_bound", 1.30);
    measured.at_most("wasted", 0.02);
    measured
}

fn crowd_unlimited(size: Size, seed: u64) -> Measured {
    let of = |slots| Crowd { pieces: 64, ..crowd_of(peers(size, 64), slots, seed) }.run();
    let (unlimited, four) = (of(Slots::Unlimited), of(Slots::Choker(4)));
    let mut measured = Measured::default();
    measured.note_crowd(&unlimited);
    measured.note("over_four_slots", unlimited.ratio() / four.ratio());
    // Every piece is on thirty ways at once, so the first whole one is late and the rest with it.
    measured.at_least("over_four_slots", 1.0);
    measured
}

/// The mean of a few seeds' piece times, none of them another seed's.
fn piece_times(of: &Crowd, runs: u64) -> Mean {
    let seeds = of.seed * runs..(of.seed + 1) * runs;
    let times = seeds.map(|seed| Crowd { seed, ..of.clone() }.run().piece_times());
    Mean::of(&times.collect::<Vec<_>>())
}

fn crowd_growth(size: Size, seed: u64) -> Measured {
    let most = peers(size, 256);
    let of = |peers| {
        let crowd = Crowd { pieces: 64, ..crowd_of(peers, Slots::Choker(4), seed) };
        piece_times(&crowd, 3)
    };
    let (few, many) = (of(64), of(most));
    let doublings = (most / 64).ilog2();
    let mut measured = Measured::default();
    measured.note("peers_most", most as f64);
    measured.note("piece_times_of_64", few.mean);
    measured.note("piece_times_of_most", many.mean);
    measured.note("piece_times_per_doubling", (many.mean - few.mean) / f64::from(doublings));
    // That each adds two at most is not met with four slots: each passes a piece on at a quarter of
    // the rate.
    measured.at_most("piece_times_per_doubling", 6.0);
    measured
}

fn crowd_pick(size: Size, seed: u64) -> Measured {
    let of = |pick| {
        let crowd = crowd_of(peers(size, 64), Slots::Choker(4), seed);
        piece_times(&Crowd { pieces: 64, pick, ..crowd }, 4)
    };
    let (rare, random) = (of(Pick::RarestFirst), of(Pick::Random));
    let mut measured = Measured::default();
    measured.note("piece_times_rarest_first", rare.mean);
    measured.note("piece_times_random", random.mean);
    // Between the intervals in which the two means are, nineteen times in twenty.
    let apart = random.mean - random.within - (rare.mean + rare.within);
    measured.note("piece_times_apart", apart);
    measured.at_least("piece_times_apart", 0.0);
    measured
}

/// As published, or a tenth of the content, with uplinks of the published sizes.
fn clusters(size: Size, seed: u64, seed_bytes_per_s: u64) -> (Clusters, Duration) {
    let published = Clusters { seed_bytes_per_s, ..Clusters::published(seed) };
    match size {
        Size::Full => (published, Duration::from_secs(40_000)),
        Size::Small => {
            let small = Clusters { pieces: 180, piece_len: 64 * 1024, ..published };
            (small, Duration::from_secs(4_000))
        }
    }
}

fn clusters_fast(size: Size, seed: u64) -> Measured {
    let (clusters, limit) = clusters(size, seed, 200_000);
    let outcome = clusters.run(limit);
    let mut measured = Measured::default();
    measured.note("done", outcome.done as f64);
    measured.note("utilisation", outcome.utilisation);
    let names = [
        ("fast_mean_s", "fast_share_over_chance"),
        ("medium_mean_s", "medium_share_over_chance"),
        ("slow_mean_s", "slow_share_over_chance"),
    ];
    for (class, (mean_s, share)) in outcome.classes.iter().zip(names) {
        measured.note(mean_s, class.mean_s);
        measured.note(share, class.same_share / class.uniform_share);
        measured.at_least(share, 1.0);
    }
    let [fast, medium, slow] = outcome.classes[..] else { panic!("three classes") };
    measured.note("medium_over_fast", medium.mean_s / fast.mean_s);
    measured.note("slow_over_medium", slow.mean_s / medium.mean_s);
    measured.at_least("done", 40.0);
    measured.at_least("medium_over_fast", 1.0);
    measured.at_least("slow_over_medium", 1.0);
    measured
}

fn clusters_slow(size: Size, seed: u64) -> Measured {
    let (clusters, limit) = clusters(size, seed, 20_000);
    let outcome = clusters.run(limit);
    let [fast, _, slow] = outcome.classes[..] else { panic!("three classes") };
    let mut measured = Measured::default();
    measured.note("done", outcome.done as f64);
    measured.note("first_over_seed_bound", fast.first_s / outcome.seed_bound_s);
    measured.note("slow_over_fast", slow.mean_s / fast.mean_s);
    measured.at_least("done", 40.0);
    // Nobody is done before the seed has sent everything once; and then all are, soon.
    measured.at_least("first_over_seed_bound", 0.99);
    measured.at_most("slow_over_fast", 1.5);
    measured
}

/// Twenty arrivals for each hundred seconds, and a seed that sends `percent` of a piece for each.
fn stability(size: Size, percent: u32, seed: u64) -> (stability::Outcome, Measured) {
    let duration = match size {
        Size::Full => STABILITY_FULL,
        Size::Small => Duration::from_secs(1_000),
    };
    let outcome = Stability { duration, ..Stability::published(percent, seed) }.run();
    let mut measured = Measured::default();
    measured.note("arrived", outcome.arrived as f64);
    measured.note("left", outcome.left as f64);
    measured.note("present_at_first", outcome.present[0]);
    measured.note("present_at_last", outcome.present[9]);
    measured.note("club_share", outcome.club_share);
    measured.note("slope_per_s", outcome.slope_per_s);
    (outcome, measured)
}

/// How long the swarm is watched at full size: a club of a thousand, and minutes of work. It grows
/// with each second, and the work with its square.
const STABILITY_FULL: Duration = Duration::from_hours(2);

fn stability_below(size: Size, seed: u64) -> Measured {
    let (_, mut measured) = stability(size, 40, seed);
    // Three in five arrivals stay.
    measured.note("slope_over_theory", measured.figures["slope_per_s"] / 0.12);
    measured.at_least("slope_per_s", 0.01);
    measured.at_least("club_share", 0.7);
    measured
}

fn stability_above(size: Size, seed: u64) -> Measured {
    let (outcome, mut measured) = stability(size, 200, seed);
    measured.note("last_over_first", outcome.present[9] / outcome.present[0]);
    measured.at_most("last_over_first", 1.0);
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_have_names_of_their_own_and_at_least_a_seed() {
        let mut names: Vec<_> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EXPERIMENTS.len());
        assert!(EXPERIMENTS.iter().all(|experiment| experiment.seeds > 0));
    }

    #[test]
    fn a_gate_is_met_at_its_limit_and_not_beyond_or_without_a_number() {
        let mut measured = Measured::default();
        for (figure, value) in [("below", 0.9), ("at", 1.0), ("above", 1.1), ("none", f64::NAN)] {
            measured.note(figure, value);
            measured.at_least(figure, 1.0);
            measured.at_most(figure, 1.0);
        }
        let met: Vec<bool> = measured.gates.iter().map(|gate| gate.met).collect();
        assert_eq!(met, [false, true, true, true, true, false, false, false]);
        assert!(!measured.is_met());
    }

    #[test]
    fn a_small_experiment_is_measured_and_held_to_its_gates() {
        let turns = EXPERIMENTS.iter().find(|experiment| experiment.name == "crowd-turns");
        let measured = turns.expect("it is there").run(Size::Small, 1);
        assert!(measured.figures["blocks"] >= 64.0 * 512.0);
        assert_eq!(measured.gates.len(), 3);
        assert!(measured.is_met(), "{measured:?}");
    }
}
