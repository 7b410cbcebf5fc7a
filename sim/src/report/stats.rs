//! Statistics of several runs.

use crate::run::record::Spread;

pub use crate::run::record::jain;

/// The 97.5 % quantile of Student's t: two-sided 95 %.
///
/// From the table up to 30 degrees of freedom, beyond by the expansion of Cornish and Fisher, which
/// is exact to three digits there.
pub fn t_975(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    match degrees {
        0 => f64::INFINITY,
        1..=30 => TABLE[degrees - 1],
        _ => expand(1.959_964, degrees),
    }
}

/// The 80 % quantile of Student's t.
pub fn t_800(degrees: usize) -> f64 {
    match degrees {
        0 => f64::INFINITY,
        1 => 1.376,
        2 => 1.061,
        _ => expand(0.841_621, degrees),
    }
}

fn expand(z: f64, degrees: usize) -> f64 {
    let v = degrees as f64;
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
}

/// The median; zero of nothing.
pub fn median(values: &[f64]) -> f64 {
    Spread::of(values.iter().copied()).mid
}

/// The 10, 50 and 90 % quantiles over curves, at each of these places. A curve is a function of
/// the place.
pub fn bands<F: Fn(f64) -> f64>(curves: &[F], places: &[f64]) -> Vec<Spread> {
    places.iter().map(|at| Spread::of(curves.iter().map(|curve| curve(*at)))).collect()
}

/// A series at a place between its samples: linear; before the first and after the last as those.
pub fn at(times: &[f64], values: &[f64], time: f64) -> f64 {
    let after = times.partition_point(|at| *at <= time);
    let last = values.len().min(times.len()).saturating_sub(1);
    match after {
        _ if values.is_empty() => 0.0,
        0 => values[0],
        after if after > last => values[last],
        after => {
            let (from, to) = (times[after - 1], times[after]);
            let part = (time - from) / (to - from).max(1e-12);
            values[after - 1] * (1.0 - part) + values[after] * part
        }
    }
}

/// The share of sorted times that are not later.
pub fn share_until(times: &[f64], of: usize, time: f64) -> f64 {
    times.partition_point(|at| *at <= time) as f64 / of.max(1) as f64
}

/// Places from zero to `to`, evenly, both ends included.
pub fn grid(to: f64, places: usize) -> Vec<f64> {
    (0..places).map(|at| to * at as f64 / (places.max(2) - 1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_students_t_are_those_of_the_tables() {
        for (degrees, expected) in [(1, 12.706), (19, 2.093), (40, 2.021), (120, 1.980)] {
            assert!((t_975(degrees) - expected).abs() < 0.001, "{degrees}: {}", t_975(degrees));
        }
        for (degrees, expected) in [(3, 0.978), (10, 0.879), (30, 0.854)] {
            assert!((t_800(degrees) - expected).abs() < 0.001, "{degrees}: {}", t_800(degrees));
        }
        assert!(t_975(0).is_infinite());
    }

    #[test]
    fn a_band_holds_its_curves_at_each_place() {
        let curves: Vec<_> = (0..=10).map(|slope| move |x: f64| x * f64::from(slope)).collect();
        let bands = bands(&curves, &[0.0, 1.0, 2.0]);
        let is = |low, mid, high| Spread { low, mid, high };
        assert_eq!(bands, [is(0.0, 0.0, 0.0), is(1.0, 5.0, 9.0), is(2.0, 10.0, 18.0)]);
    }

    #[test]
    fn a_series_is_linear_between_samples_and_level_outside() {
        let (times, values) = ([1.0, 2.0, 4.0], [10.0, 20.0, 0.0]);
        for (time, expected) in [(0.0, 10.0), (1.5, 15.0), (2.0, 20.0), (3.0, 10.0), (9.0, 0.0)] {
            assert!((at(&times, &values, time) - expected).abs() < 1e-9, "{time}");
        }
        assert!((share_until(&[1.0, 2.0, 2.0, 5.0], 5, 2.0) - 0.6).abs() < 1e-12);
        assert_eq!(grid(10.0, 3), [0.0, 5.0, 10.0]);
        assert!((median(&[5.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
    }
}
