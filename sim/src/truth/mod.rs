//! Ground truth: swarms whose outcome is known from theory or from measurement.
//!
//! Each experiment is a plain structure of parameters whose `run` gives figures. It judges nothing:
//! tests run it small, and the long suite runs it at full size, and both hold the same figures
//! against the same gates.
//!
//! - [`experiments`]: all of them by name, at two sizes, with their gates.
//! - [`crowd`]: a flash crowd against the least time that any swarm needs.
//! - [`clusters`]: fast, medium and slow peers, who come to serve their like.
//! - [`stability`]: peers who come and go, and a seed that is fast enough for them, or is not.
//! - [`fluid`]: peers who come and go, against the fluid model; and free riders.
//! - [`homogeneous`]: equal peers around a slow seed, who catch up and leave together.
//! - [`rarest`]: rarest first from the first piece to the last.
//! - [`proximity`]: packet against flow level, and peers that are near.
//! - [`end_game`]: the last block of a download that a slow peer takes part in.
//!
//! [`visits`] has peers come and go for those that need it.

pub mod clusters;
pub mod crowd;
pub mod end_game;
pub mod experiments;
pub mod fluid;
pub mod homogeneous;
pub mod proximity;
pub mod rarest;
pub mod stability;
pub mod visits;

use teem_core::rng::Rng;

/// A mean with the half-width of its 95 % interval, by Student's t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The true mean is within this of it, nineteen times in twenty; infinite for fewer than two
    /// samples.
    pub within: f64,
}

impl Mean {
    /// Of these samples.
    pub fn of(samples: &[f64]) -> Self {
        // Two-sided 95 % quantiles of Student's t for 1, 2, .. degrees of freedom.
        const T: [f64; 10] =
            [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        if samples.len() < 2 {
            return Self { mean, within: f64::INFINITY };
        }
        let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let t = T.get(samples.len() - 2).copied().unwrap_or(2.0);
        Self { mean, within: t * (variance / count).sqrt() }
    }

    /// Whether the whole interval is above all of the other.
    pub fn is_above(&self, other: &Self) -> bool {
        self.mean - self.within > other.mean + other.within
    }
}

/// Edges of a random connected graph in which each of `nodes` has `degree` neighbours, or a few
/// fewer where an edge came up twice: the union of `degree / 2` circles in random order. The first
/// of an edge is the one that dials.
pub fn circles(nodes: usize, degree: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    let mut order: Vec<usize> = (0..nodes).collect();
    for _ in 0..degree.div_ceil(2) {
        rng.shuffle(&mut order);
        edges.extend((0..nodes).map(|at| (order[at], order[(at + 1) % nodes])));
    }
    let mut seen = std::collections::BTreeSet::new();
    edges.retain(|&(one, other)| one != other && seen.insert((one.min(other), one.max(other))));
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    #[test]
    fn the_interval_of_a_mean_is_the_textbooks() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0]);
        assert!((mean.mean - 2.5).abs() < 1e-9);
        assert!((mean.within - 3.182 * (5.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-9);
        assert!(Mean::of(&[9.0, 9.1]).is_above(&Mean::of(&[7.0, 7.1])));
        assert!(!Mean::of(&[9.0, 5.0]).is_above(&Mean::of(&[4.0, 7.1])));
        assert!(Mean::of(&[1.0]).within.is_infinite());
    }

    #[test]
    fn everybody_has_about_as_many_neighbours() {
        let edges = circles(200, 30, &mut Seed::from_number(1).stream("graph", 0));
        let mut degree = [0; 200];
        for (one, other) in edges {
            assert_ne!(one, other);
            degree[one] += 1;
            degree[other] += 1;
        }
        assert!(degree.iter().all(|degree| (24..=30).contains(degree)), "{degree:?}");
    }
}
