//! How long something takes that does not always take the same.

use teem_core::rng::Rng;
use teem_core::time::Duration;

use crate::fixed;

/// What a draw is at most: an hour. The tail of a log-normal distribution has no end.
pub const DELAY_MAX: Duration = Duration::from_hours(1);

/// Quantiles that a [`Curve`] may have.
pub const QUANTILES_MAX: usize = 1_024;

/// How long something takes: drawn anew for each connection and each datagram, one number for each
/// draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Always the same.
    Constant(Duration),
    /// Evenly from the first to the second.
    Uniform(Duration, Duration),
    /// Something whose logarithm is normally distributed.
    LogNormal {
        /// On top of this.
        base: Duration,
        /// Half are shorter.
        median: Duration,
        /// The standard deviation of the natural logarithm, in thousandths: 500 has one in six
        /// above 1.65 times the median.
        sigma_permille: u32,
    },
    /// As it was measured.
    Empirical {
        /// On top of this.
        base: Duration,
        /// The measurement.
        curve: CurveId,
    },
}

/// Which [`Curve`] of a network: see [`Topology::add_curve`](super::Topology::add_curve).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurveId(pub u16);

/// A distribution by its quantiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    nanos: Vec<u64>,
}

impl Curve {
    /// The shortest, further quantiles at even distances, and the longest; between them it is even.
    /// So three are the shortest, the median and the longest. None if there are fewer than two or
    /// more than [`QUANTILES_MAX`], or if one is shorter than the one before it.
    pub fn new(quantiles: &[Duration]) -> Option<Self> {
        let fits = (2..=QUANTILES_MAX).contains(&quantiles.len()) && quantiles.is_sorted();
        let nanos = |at: &Duration| (*at).min(DELAY_MAX).as_nanos() as u64;
        fits.then(|| Self { nanos: quantiles.iter().map(nanos).collect() })
    }

    /// What [`Curve::new`] was given.
    pub fn quantiles(&self) -> impl Iterator<Item = Duration> + '_ {
        self.nanos.iter().map(|nanos| Duration::from_nanos(*nanos))
    }

    /// The value below which `draw` of 2^64 are.
    pub fn quantile(&self, draw: u64) -> Duration {
        let place = u128::from(draw) * (self.nanos.len() - 1) as u128;
        let (at, rest) = ((place >> 64) as usize, place as u64);
        let (low, high) = (self.nanos[at], self.nanos[at + 1]);
        let above = (u128::from(rest) * u128::from(high - low)) >> 64;
        Duration::from_nanos(low + above as u64)
    }
}

impl Spread {
    /// Nothing.
    pub const ZERO: Self = Self::Constant(Duration::ZERO);

    /// Draws one, in nanoseconds. Curves are those of the network.
    pub(super) fn draw(&self, rng: &mut Rng, curves: &[Curve]) -> Duration {
        match *self {
            Self::Constant(always) => always,
            Self::Uniform(least, most) => {
                let width = most.saturating_sub(least).as_nanos();
                let drawn = (u128::from(rng.next_u64()) * (width + 1)) >> 64;
                least + Duration::from_nanos(drawn as u64)
            }
            Self::LogNormal { base, median, sigma_permille } => {
                base + log_normal(median, sigma_permille, rng.next_u64())
            }
            Self::Empirical { base, curve: CurveId(curve) } => {
                base + curves[usize::from(curve)].quantile(rng.next_u64())
            }
        }
    }
}

/// The quantile of a log-normal distribution at `draw` over 2^64.
pub(crate) fn log_normal(median: Duration, sigma_permille: u32, draw: u64) -> Duration {
    let exponent = fixed::normal(draw) * i128::from(sigma_permille) / 1_000;
    let nanos = u64::try_from(median.as_nanos()).ok();
    let nanos = nanos.and_then(|nanos| fixed::times_exp(nanos, exponent));
    nanos.map_or(DELAY_MAX, |nanos| Duration::from_nanos(nanos).min(DELAY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    /// Many draws in their order, in seconds, and their mean.
    fn drawn(spread: Spread, curves: &[Curve]) -> (Vec<f64>, f64) {
        let mut rng = Seed::from_number(3).stream("spread", 0);
        let draws = (0..100_000).map(|_| spread.draw(&mut rng, curves).as_secs_f64());
        let mut drawn: Vec<f64> = draws.collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        (drawn, mean)
    }

    #[test]
    fn evenly_spread_delays_are_even() {
        let (least, most) = (Duration::from_micros(100), Duration::from_micros(300));
        let (drawn, _) = drawn(Spread::Uniform(least, most), &[]);
        // Kolmogorov and Smirnov, at one percent.
        let worst = drawn.iter().enumerate().map(|(rank, at)| {
            let expected = (at - 100e-6) / 200e-6;
            (expected - rank as f64 / 100_000.0).abs()
        });
        assert!(worst.fold(0.0, f64::max) < 1.63 / 100_000_f64.sqrt());
    }

    #[test]
    fn log_normal_delays_have_their_mean_and_their_quantiles() {
        let (base, median) = (Duration::from_millis(10), Duration::from_millis(40));
        for sigma_permille in [100, 500, 1_000] {
            let (drawn, mean) = drawn(Spread::LogNormal { base, median, sigma_permille }, &[]);
            let sigma = f64::from(sigma_permille) / 1_000.0;
            let expected = 0.01 + 0.04 * (sigma * sigma / 2.0).exp();
            assert!((mean / expected - 1.0).abs() < 0.02, "{sigma}: {mean} and not {expected}");
            // Of the standard normal distribution.
            for (percent, z) in [(5, -1.644_85), (50, 0.0), (90, 1.281_55), (99, 2.326_35)] {
                let found = drawn[percent * 1_000] - 0.01;
                let expected = 0.04 * (sigma * z).exp();
                assert!((found / expected - 1.0).abs() < 0.03, "{sigma} {percent}: {found}");
            }
        }
    }

    #[test]
    fn measured_delays_are_spread_as_they_were_measured() {
        let quantiles = [5, 10, 12, 20, 100].map(Duration::from_millis);
        let curves = [Curve::new(&quantiles).expect("they rise")];
        let base = Duration::from_millis(1);
        let (drawn, mean) = drawn(Spread::Empirical { base, curve: CurveId(0) }, &curves);
        // Quarters of it are even between two quantiles.
        let expected = 0.001 + (7.5 + 11.0 + 16.0 + 60.0) / 4.0 / 1_000.0;
        assert!((mean / expected - 1.0).abs() < 0.01, "{mean} and not {expected}");
        for (quarter, quantile) in quantiles.iter().enumerate() {
            let found = drawn[(quarter * 25_000).min(99_999)] - 0.001;
            assert!((found / quantile.as_secs_f64() - 1.0).abs() < 0.05, "{quarter}: {found}");
        }
        assert_eq!(curves[0].quantile(0), quantiles[0]);
        assert_eq!(curves[0].quantile(1 << 63), quantiles[2]);
    }

    #[test]
    fn quantiles_rise_and_are_at_least_two() {
        let millis = |list: &[u64]| {
            let list: Vec<_> = list.iter().map(|at| Duration::from_millis(*at)).collect();
            Curve::new(&list)
        };
        assert_eq!(millis(&[5]), None);
        assert_eq!(millis(&[5, 4]), None);
        assert!(millis(&[5, 5]).is_some_and(|curve| curve.quantile(7 << 40).as_millis() == 5));
        assert_eq!(millis(&[0; QUANTILES_MAX + 1]), None);
    }

    #[test]
    fn no_delay_is_longer_than_the_longest() {
        let long = log_normal(Duration::from_mins(1), 20_000, u64::MAX);
        assert_eq!(long, DELAY_MAX);
        assert_eq!(log_normal(Duration::from_mins(1), 20_000, 0), Duration::ZERO);
        assert_eq!(log_normal(Duration::ZERO, 500, 1 << 63), Duration::ZERO);
    }
}
