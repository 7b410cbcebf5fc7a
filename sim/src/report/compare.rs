//! Whether one of two is slower: runs in pairs of the same seed, and how sure the difference is.

use std::fmt;

use serde::Serialize;

use super::stats::{t_800, t_975};

/// One figure of runs in pairs: those of A, and those of B with the same seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// What was compared, as results name it.
    pub figure: &'static str,
    /// Pairs that were compared.
    pub pairs: usize,
    /// Pairs that could not be, as one of the two has no such figure.
    pub left_out: usize,
    /// The mean of A.
    pub mean_a: f64,
    /// The mean of B.
    pub mean_b: f64,
    /// By how much B is above A, in per cent.
    pub percent: f64,
    /// Nineteen times in twenty the true difference is not below this, in per cent; none: there are
    /// too few pairs.
    pub percent_least: Option<f64>,
    /// ... and not above this.
    pub percent_most: Option<f64>,
    /// How many pairs tell a difference of one per cent four times in five, at this confidence;
    /// none: nobody knows yet.
    pub pairs_for_one_percent: Option<u64>,
    /// What that means.
    pub verdict: Verdict,
}

/// What can be said of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// B has more of it.
    More,
    /// B has less of it.
    Less,
    /// They are the same in each pair.
    Same,
    /// It may be either.
    Unclear,
    /// There are not two pairs.
    TooFew,
}

/// A figure, and what to call more and less of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// As results name it.
    pub figure: &'static str,
    /// For people.
    pub title: &'static str,
    /// What B is when it has more.
    pub more: &'static str,
    /// What B is when it has less.
    pub less: &'static str,
    /// Runs that are not complete have no such figure.
    pub needs_complete: bool,
}

/// What is compared; the first decides.
pub const MEASURES: [Measure; 6] = [
    Measure {
        figure: "took_s",
        title: "time to complete",
        more: "slower",
        less: "faster",
        needs_complete: true,
    },
    Measure {
        figure: "over_bound",
        title: "time over the bound",
        more: "further from the bound",
        less: "closer to the bound",
        needs_complete: true,
    },
    Measure {
        figure: "events",
        title: "events",
        more: "busier",
        less: "less busy",
        needs_complete: false,
    },
    Measure {
        figure: "delivered_bytes",
        title: "bytes delivered",
        more: "above in bytes",
        less: "below in bytes",
        needs_complete: false,
    },
    Measure {
        figure: "lost_bytes",
        title: "bytes lost",
        more: "above in lost bytes",
        less: "below in lost bytes",
        needs_complete: false,
    },
    Measure {
        figure: "wall_s",
        title: "time on the wall",
        more: "slower to simulate",
        less: "faster to simulate",
        needs_complete: false,
    },
];

impl Compared {
    /// Compares pairs (A, B).
    ///
    /// The test is Student's for pairs. If all figures are above zero, it is on the logarithms of
    /// their ratios, so that a seed with much content counts as one with little, and A against B
    /// is the contrary of B against A; else on their differences.
    pub fn of(figure: &'static str, pairs: &[(f64, f64)], left_out: usize) -> Self {
        let count = pairs.len();
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            if count == 0 { 0.0 } else { values.sum::<f64>() / count as f64 }
        };
        let mean_a = mean(&mut pairs.iter().map(|pair| pair.0));
        let mean_b = mean(&mut pairs.iter().map(|pair| pair.1));
        let mut compared = Self {
            figure,
            pairs: count,
            left_out,
            mean_a,
            mean_b,
            percent: 0.0,
            percent_least: None,
            percent_most: None,
            pairs_for_one_percent: None,
            verdict: Verdict::TooFew,
        };
        let has_ratio = pairs.iter().all(|(a, b)| *a > 0.0 && *b > 0.0);
        #[expect(clippy::float_cmp, reason = "figures that are the same are so to the last bit")]
        let is_same = pairs.iter().all(|(a, b)| a == b);
        let differences: Vec<f64> = pairs
            .iter()
            .map(|(a, b)| match has_ratio {
                true => (b / a).ln(),
                false if is_same => 0.0,
                false => (b - a) / mean_a.abs().max(f64::MIN_POSITIVE),
            })
            .collect();
        let percent =
            |difference: f64| 100.0 * if has_ratio { difference.exp_m1() } else { difference };
        let middle = mean(&mut differences.iter().copied());
        compared.percent = percent(middle);
        if count < 2 {
            return compared;
        }
        let squares: f64 = differences.iter().map(|one| (one - middle).powi(2)).sum();
        let deviation = (squares / (count - 1) as f64).sqrt();
        let within = t_975(count - 1) * deviation / (count as f64).sqrt();
        let (least, most) = (percent(middle - within), percent(middle + within));
        compared.percent_least = Some(least);
        compared.percent_most = Some(most);
        compared.pairs_for_one_percent = needed(deviation, 1.01_f64.ln());
        compared.verdict = match () {
            () if is_same => Verdict::Same,
            () if least > 0.0 => Verdict::More,
            () if most < 0.0 => Verdict::Less,
            () => Verdict::Unclear,
        };
        compared
    }

    /// Whether B has more, and by more than so many per cent, beyond doubt.
    pub fn is_above(&self, percent: f64) -> bool {
        self.percent_least.is_some_and(|least| least > percent)
    }
}

/// How many pairs tell a difference from none four times in five, if they differ so much among
/// themselves; none: more than a billion.
fn needed(deviation: f64, difference: f64) -> Option<u64> {
    let mut pairs = 2.0_f64;
    // Each round the degrees of freedom are those of the round before; it settles at once.
    for _ in 0..50 {
        #[expect(clippy::cast_sign_loss, reason = "there are at least two")]
        let degrees = (pairs as usize).max(2) - 1;
        let quantiles = t_975(degrees) + t_800(degrees);
        let next = (quantiles * deviation / difference).powi(2).ceil().max(2.0);
        if !next.is_finite() || next > 1e9 {
            return None;
        }
        if (next - pairs).abs() < 0.5 {
            break;
        }
        // Halfway: with few degrees of freedom the quantiles would have it jump to and fro.
        pairs = f64::midpoint(pairs, next).ceil();
    }
    #[expect(clippy::cast_sign_loss, reason = "there are at least two")]
    Some(pairs as u64)
}

/// A verdict in a sentence.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a>(pub &'a Compared, pub &'a Measure);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(compared, measure) = self;
        let (least, most) = (
            compared.percent_least.unwrap_or(f64::NEG_INFINITY),
            compared.percent_most.unwrap_or(f64::INFINITY),
        );
        match compared.verdict {
            Verdict::More => write!(f, "B is {least:.1} % to {most:.1} % {}", measure.more),
            Verdict::Less => {
                write!(f, "B is {:.1} % to {:.1} % {}", -most, -least, measure.less)
            }
            Verdict::Same => f.write_str("the same in every pair"),
            Verdict::Unclear => {
                write!(f, "no difference can be told ({least:+.1} % .. {most:+.1} %)")
            }
            Verdict::TooFew => f.write_str("too few pairs to tell a difference"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(pairs: &[(f64, f64)]) -> Compared {
        Compared::of("took_s", pairs, 0)
    }

    fn says(compared: &Compared) -> String {
        Sentence(compared, &MEASURES[0]).to_string()
    }

    #[test]
    fn what_is_slower_each_time_is_slower() {
        let pairs: Vec<_> = (1..=10)
            .map(|seed| {
                (f64::from(seed), f64::from(seed) * if seed % 2 == 0 { 1.24 } else { 1.26 })
            })
            .collect();
        let compared = took(&pairs);
        assert_eq!(compared.verdict, Verdict::More);
        assert!((compared.percent - 25.0).abs() < 0.1, "{compared:?}");
        assert!(compared.is_above(20.0) && !compared.is_above(25.0), "{compared:?}");
        assert!(says(&compared).ends_with("% slower"), "{}", says(&compared));
        // And the other way round.
        let contrary: Vec<_> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
        let contrary = took(&contrary);
        assert_eq!(contrary.verdict, Verdict::Less);
        let product = (1.0 + compared.percent / 100.0) * (1.0 + contrary.percent / 100.0);
        assert!((product - 1.0).abs() < 1e-9, "{product}");
    }

    #[test]
    fn what_is_now_slower_and_now_faster_is_not_told_apart() {
        let compared = took(&[(10.0, 10.2), (10.0, 9.9), (10.0, 9.8), (10.0, 10.1)]);
        assert_eq!(compared.verdict, Verdict::Unclear);
        assert!(says(&compared).starts_with("no difference can be told (-"), "{}", says(&compared));
        // t(3) = 3.182, the deviation of the logarithms is 0.01829.
        let most = compared.percent_most.expect("there are four pairs");
        assert!((most - 2.94).abs() < 0.05, "{most}");
    }

    #[test]
    fn an_interval_is_students_for_pairs() {
        // Differences 1, 2, 3 of a mean of 10: with a zero in it they are taken as they are.
        let compared = took(&[(0.0, 1.0), (10.0, 12.0), (20.0, 23.0)]);
        assert!((compared.percent - 20.0).abs() < 1e-9);
        let within = 100.0 * 4.303 * 0.1 / 3.0_f64.sqrt();
        let least = compared.percent_least.expect("there are three pairs");
        assert!((least - (20.0 - within)).abs() < 1e-9, "{least}");
    }

    #[test]
    fn nothing_is_made_of_too_little() {
        assert_eq!(took(&[]).verdict, Verdict::TooFew);
        assert_eq!(took(&[(1.0, 2.0)]).verdict, Verdict::TooFew);
        assert!(!took(&[(1.0, 2.0)]).is_above(0.0));
        let same = took(&[(0.0, 0.0), (3.0, 3.0)]);
        assert_eq!((same.verdict, same.percent), (Verdict::Same, 0.0));
        assert_eq!(says(&same), "the same in every pair");
    }

    #[test]
    fn more_seeds_are_needed_where_runs_differ_more() {
        // (1.96 + 0.84)^2 * (0.01 / 0.00995)^2 = 7.9, and a little more for few degrees of freedom.
        let of = |deviation| needed(deviation, 1.01_f64.ln()).expect("a number");
        assert!((9..=12).contains(&of(0.01)), "{}", of(0.01));
        assert!((780..=800).contains(&of(0.1)), "{}", of(0.1));
        assert_eq!(of(0.0), 2);
        assert_eq!(needed(f64::INFINITY, 0.01), None);
    }
}
