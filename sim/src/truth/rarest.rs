//! Rarest first from the first piece to the last.
//!
//! Legout, Urvoy-Keller and Michiardi, "Rarest first and choke algorithms are enough" (IMC 2006),
//! measured real torrents with one instrumented client. While some pieces are with the only seed
//! alone (the transient state), each that it sends is one of them, so that their number falls
//! linearly at the seed's rate; afterwards (the steady state) no piece becomes rare again. The last
//! pieces take no longer than others; the first ones do, as somebody who has nothing is not chosen.
//!
//! That and the two states were checked in what could be had of the paper's text. The swarm is ours:
//! a flash crowd, then arrivals by a Poisson process, and peers that stay as seeds for a while. All
//! are seen here, where the paper saw the peers of one client.
//!
//! Measured, with three seeds each at both sizes: rare pieces go away at 0.996 to 0.999 times the seed's
//! rate, on a line (0.999 and more of the variance); then no piece has fewer than two copies. The last
//! twentieth takes 0.7 to 0.8 times the median one, the first 2.0 to 2.3 times.

use super::visits::{Habits, Visits};
use crate::net::{Access, HostId};

/// The experiment. See the [module](self).
#[derive(Clone, Debug)]
pub struct Rarest {
    /// Peers that come at once.
    pub crowd: usize,
    /// Those that come later in 1,000 seconds, on average.
    pub arrivals_per_1000_s: u32,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Bytes of each.
    pub piece_len: u32,
    /// The seed's uplink.
    pub seed_bytes_per_s: u64,
    /// Everybody else's.
    pub up_bytes_per_s: u64,
    /// How long peers stay as seeds, on average, in seconds.
    pub dwell_s: u32,
    /// Of how many others a newcomer is told.
    pub degree: usize,
    /// Upload slots, the optimistic ones included.
    pub slots: usize,
    /// For how long, in seconds.
    pub seconds: u64,
    /// All randomness.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many pieces nobody but the seed had, at the end of each second.
    pub rare: Vec<u32>,
    /// How fast that fell between nine tenths and one tenth of all pieces, by the line that fits
    /// best, in units of the pieces that the seed can send.
    pub slope: f64,
    /// How well that line fits: the coefficient of determination.
    pub fit: f64,
    /// When every piece had two copies for the first time, the seed's included, in seconds;
    /// infinite: never.
    pub two_copies_s: f64,
    /// The fewest copies of any piece since then.
    pub copies_min: u32,
    /// Peers that came since then and are done.
    pub later: usize,
    /// How long each twentieth of the pieces took those, on average over peers, in units of each
    /// peer's median twentieth.
    pub twentieths: [f64; 20],
    /// How long the first piece took them, in the same units.
    pub first_piece: f64,
}

impl Rarest {
    /// Forty at once, then one each ten seconds; the seed sends everything once in 250 s.
    pub const fn small(seed: u64) -> Self {
        Self {
            crowd: 40,
            arrivals_per_1000_s: 100,
            pieces: 400,
            piece_len: 32 * 1024,
            seed_bytes_per_s: 400 * 32 * 1024 / 250,
            up_bytes_per_s: 64 * 1024,
            dwell_s: 150,
            degree: 40,
            slots: 4,
            seconds: 1_000,
            seed,
        }
    }

    /// Runs it.
    pub fn run(&self) -> Outcome {
        let up = |rate| Access { up_bytes_per_s: Some(rate), ..Access::PERFECT };
        let mut visits = Visits::new(Habits {
            pieces: self.pieces,
            piece_len: self.piece_len,
            access: up(self.up_bytes_per_s),
            seed_access: up(self.seed_bytes_per_s),
            degree: self.degree,
            slots: self.slots,
            dwell_s: self.dwell_s,
            seed: self.seed,
        });
        for _ in 0..self.crowd {
            visits.arrive();
        }
        let mut copies = vec![1_u32; self.pieces as usize];
        let mut have: Vec<Vec<u32>> = Vec::new();
        let mut rare = Vec::new();
        let mut two_copies_s = None;
        let mut copies_min = u32::MAX;
        while visits.now_s() < self.seconds {
            let change = visits.second(self.arrivals_per_1000_s);
            have.resize(visits.visits().len(), Vec::new());
            for (host, piece) in change.got {
                have[host].push(piece);
                copies[piece as usize] += 1;
            }
            for host in change.left {
                for piece in std::mem::take(&mut have[host]) {
                    copies[piece as usize] -= 1;
                }
            }
            rare.push(copies.iter().filter(|copies| **copies == 1).count() as u32);
            let fewest = copies.iter().copied().min().unwrap_or(0);
            if two_copies_s.is_none() && fewest > 1 {
                two_copies_s = Some(visits.now_s());
            }
            if two_copies_s.is_some() {
                copies_min = copies_min.min(fewest);
            }
        }
        let since = two_copies_s.unwrap_or(u64::MAX);
        let later: Vec<HostId> = (1..visits.visits().len())
            .filter(|host| visits.visits()[*host].arrived_s >= since)
            .filter(|host| visits.visits()[*host].done_s.is_some())
            .collect();
        let (mut twentieths, mut first_piece) = ([0.0; 20], 0.0);
        for host in &later {
            let visit = &visits.visits()[*host];
            let at = |part: usize| match part * visit.pieces_s.len() / 20 {
                0 => visit.arrived_s as f64,
                pieces => visit.pieces_s[pieces - 1] as f64,
            };
            let took: [f64; 20] = std::array::from_fn(|part| at(part + 1) - at(part));
            let mut sorted = took;
            sorted.sort_unstable_by(f64::total_cmp);
            let median = f64::midpoint(sorted[9], sorted[10]).max(1.0);
            for (sum, took) in twentieths.iter_mut().zip(took) {
                *sum += took / median / later.len() as f64;
            }
            let first = (visit.pieces_s[0] - visit.arrived_s) as f64;
            first_piece += first / median / later.len() as f64;
        }
        let per_s = self.seed_bytes_per_s as f64 / f64::from(self.piece_len);
        let (slope, fit) = fall(&rare, self.pieces);
        Outcome {
            rare,
            slope: -slope / per_s,
            fit,
            two_copies_s: two_copies_s.map_or(f64::INFINITY, |at| at as f64),
            copies_min,
            later: later.len(),
            twentieths,
            first_piece,
        }
    }
}

/// The line that fits best between nine tenths and one tenth of all, by least squares: its slope per
/// second, and the coefficient of determination.
fn fall(rare: &[u32], all: u32) -> (f64, f64) {
    let begin = rare.iter().position(|rare| *rare * 10 <= all * 9).unwrap_or(rare.len());
    let end = rare.iter().position(|rare| *rare * 10 <= all).unwrap_or(rare.len());
    let points: Vec<(f64, f64)> = (begin..end).map(|at| (at as f64, f64::from(rare[at]))).collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        xx += (x - mean_x).powi(2);
        xy += (x - mean_x) * (y - mean_y);
        yy += (y - mean_y).powi(2);
    }
    (xy / xx, xy * xy / (xx * yy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_between_nine_tenths_and_one_tenth() {
        // A slow start, two a second, and a slow end.
        let mut rare: Vec<u32> = vec![100, 99, 98, 97, 96, 95];
        rare.extend((0..44).map(|at| 93 - 2 * at));
        rare.extend([6, 6, 6, 5]);
        let (slope, fit) = fall(&rare, 100);
        assert!((slope + 2.0).abs() < 1e-9 && (fit - 1.0).abs() < 1e-9, "{slope} {fit}");
    }
}
