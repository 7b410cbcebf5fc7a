//! Equal peers around a slow seed, who come one after the other and are done together.
//!
//! Murai, Rocha, Figueiredo and de Souza e Silva, "Heterogeneous download times in a homogeneous
//! BitTorrent swarm" (arXiv 1102.3610, 2011; Computer Networks, 2012): in a small swarm of peers with
//! the same uplink, some fetch faster than others. Whoever was there first has all that the seed ever
//! sent, and gets new things at no more than the seed's rate. Who comes later gets old things from
//! all others on top, catches up, and from then on they have the same and are done with the same
//! last piece: departures come in bursts.
//!
//! That much is in the abstract, which was read; the sizes and rates of the paper's experiments were
//! not to be had, and those here are ours: a seed of 50 kB/s, peers of 64 kB/s, 20 MB. Downlinks have
//! no limit, and peers leave when they are done.
//!
//! What must be, by counting: with all of `F` bytes coming from a seed of the rate `U`, nobody is
//! done before `F / U`, and somebody who is there from the beginning never gets more than `U` on
//! average. Who comes at the time `a` and is done with the others got `F / (F / U - a)`.
//!
//! Measured, with three seeds each: five peers are done 1.06 times `F / U` after the beginning, ten
//! after 1.07 to 1.10, within 5 % of the time in which they came; the last one had 1.83 to 1.97 times
//! the rate of the first, where 1.99 to 2.07 is possible. The seed has sent everything after
//! 1.01 times `F / U` and next to nothing twice; the rest is the last pieces, which go round among the others. It
//! took ten 1.23 to 1.26 when newcomers began with what others were sending them already, and several
//! fetched the same of the last pieces from the seed. Of departures 36 to 43 % are within a twentieth of
//! `F / U` of the one before, where chance makes 13 %.

use teem_core::rng::Seed;

use super::visits::{Habits, Visits};
use crate::net::Access;

/// The experiment. See the [module](self).
#[derive(Clone, Debug)]
pub struct Homogeneous {
    /// The seed's uplink.
    pub seed_bytes_per_s: u64,
    /// Everybody else's.
    pub up_bytes_per_s: u64,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Bytes of each.
    pub piece_len: u32,
    /// Upload slots, the optimistic ones included.
    pub slots: usize,
    /// All randomness.
    pub seed: u64,
}

/// What came of a few peers who came one after the other.
#[derive(Clone, Debug)]
pub struct CatchUp {
    /// The least time for the seed to send everything once, in seconds.
    pub seed_bound_s: f64,
    /// When each came, in seconds.
    pub arrived_s: Vec<f64>,
    /// When each was done, in seconds; infinite if it never was.
    pub done_s: Vec<f64>,
}

impl CatchUp {
    /// The mean rate of the last who came, in units of that of the first.
    pub fn last_over_first(&self) -> f64 {
        let took = |at: usize| self.done_s[at] - self.arrived_s[at];
        took(0) / took(self.done_s.len() - 1)
    }

    /// The same if all were done when the seed had sent everything once.
    pub fn last_over_first_in_theory(&self) -> f64 {
        let left = |at: usize| self.seed_bound_s - self.arrived_s[at];
        left(0) / left(self.arrived_s.len() - 1)
    }

    /// Time from the first to the last departure, in units of that between the first and the last
    /// arrival.
    pub fn spread(&self) -> f64 {
        let width = |of: &[f64]| {
            let most = of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            most - of.iter().copied().fold(f64::INFINITY, f64::min)
        };
        width(&self.done_s) / width(&self.arrived_s)
    }
}

/// What came of peers who kept coming.
#[derive(Clone, Debug)]
pub struct Bursts {
    /// How many came.
    pub arrived: usize,
    /// How many were done, and left.
    pub left: usize,
    /// How many leechers there were, on average.
    pub present: f64,
    /// Of all departures, the share that came within [`Bursts::GAP`] of the one before.
    pub close_departures: f64,
    /// The same of arrivals.
    pub close_arrivals: f64,
    /// The same of events of a Poisson process of that many arrivals.
    pub close_by_chance: f64,
}

impl Bursts {
    /// What counts as together: one part in so many of the time that the seed needs to send
    /// everything once.
    pub const GAP: u64 = 20;
}

impl Homogeneous {
    /// A seed of 50 kB/s, peers of 64 kB/s, 20 MB.
    pub const fn small(seed: u64) -> Self {
        Self {
            seed_bytes_per_s: 50_000,
            up_bytes_per_s: 64_000,
            pieces: 76,
            piece_len: 256 * 1024,
            slots: 4,
            seed,
        }
    }

    fn visits(&self) -> Visits {
        let up = |rate| Access { up_bytes_per_s: Some(rate), ..Access::PERFECT };
        Visits::new(Habits {
            pieces: self.pieces,
            piece_len: self.piece_len,
            access: up(self.up_bytes_per_s),
            seed_access: up(self.seed_bytes_per_s),
            degree: 40,
            slots: self.slots,
            dwell_s: 0,
            seed: self.seed,
        })
    }

    /// The least time for the seed to send everything once, in seconds.
    pub fn seed_bound_s(&self) -> u64 {
        u64::from(self.pieces) * u64::from(self.piece_len) / self.seed_bytes_per_s
    }

    /// So many peers come within the first half of the time that the seed needs, one after the
    /// other, each up to a fourth of the distance late.
    pub fn catch_up(&self, peers: u32) -> CatchUp {
        let bound = self.seed_bound_s();
        let mut rng = Seed::from_number(self.seed).stream("late", 0);
        let apart = bound as u32 / 2 / (peers - 1);
        let mut arrivals: Vec<u64> =
            (0..peers).map(|at| u64::from(at * apart + rng.below(apart / 4 + 1))).collect();
        arrivals.reverse();
        let mut visits = self.visits();
        while visits.now_s() < 4 * bound {
            while arrivals.last().is_some_and(|at| *at <= visits.now_s()) {
                arrivals.pop();
                visits.arrive();
            }
            visits.second(0);
            if arrivals.is_empty() && visits.present().is_empty() {
                break;
            }
        }
        let all = &visits.visits()[1..];
        CatchUp {
            seed_bound_s: bound as f64,
            arrived_s: all.iter().map(|visit| visit.arrived_s as f64).collect(),
            done_s: all
                .iter()
                .map(|visit| visit.done_s.map_or(f64::INFINITY, |at| at as f64))
                .collect(),
        }
    }

    /// Peers keep coming, by a Poisson process: so many in 1,000 seconds, for so many seconds.
    pub fn bursts(&self, arrivals_per_1000_s: u32, seconds: u64) -> Bursts {
        let mut visits = self.visits();
        let mut present = 0;
        while visits.now_s() < seconds {
            visits.second(arrivals_per_1000_s);
            present += visits.leechers();
        }
        let all = &visits.visits()[1..];
        let gap = self.seed_bound_s() / Bursts::GAP;
        let close = |mut times: Vec<u64>| {
            times.sort_unstable();
            let close = times.windows(2).filter(|pair| pair[1] - pair[0] <= gap).count();
            close as f64 / (times.len() - 1).max(1) as f64
        };
        let departures: Vec<u64> = all.iter().filter_map(|visit| visit.left_s).collect();
        // Of times in whole seconds, so many and half a one more are within the gap.
        let expected = f64::from(arrivals_per_1000_s) / 1_000.0 * (gap as f64 + 0.5);
        Bursts {
            arrived: all.len(),
            left: departures.len(),
            present: present as f64 / seconds as f64,
            close_departures: close(departures),
            close_arrivals: close(all.iter().map(|visit| visit.arrived_s).collect()),
            close_by_chance: 1.0 - (-expected).exp(),
        }
    }
}
