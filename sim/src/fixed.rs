//! What distributions need of real numbers, in integers: every machine draws the same.
//!
//! Numbers have 32 bits behind the point where nothing else is said.

/// One.
pub(crate) const ONE: i128 = 1 << 32;

/// The natural logarithm of two.
pub(crate) const LN_2: i128 = 2_977_044_472;

/// One over that.
const LOG2_E: i128 = 6_196_328_019;

/// The logarithm to base two of a whole number above zero.
pub(crate) fn log2(number: u64) -> u64 {
    let whole = number.ilog2();
    let mut mantissa = u128::from(number) << (63 - whole);
    let mut log = u64::from(whole);
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        log <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    log
}

/// `whole` times e to the power of `exponent`; none where that is too large for 64 bits.
pub(crate) fn times_exp(whole: u64, exponent: i128) -> Option<u64> {
    let exponent = (exponent * LOG2_E) >> 32;
    let (twos, rest) = (exponent >> 32, exponent & (ONE - 1));
    // Taylor's series of e to the power of less than ln 2.
    let rest = (rest * LN_2) >> 32;
    let (mut term, mut sum) = (ONE, ONE);
    for at in 1..=14 {
        term = ((term * rest) >> 32) / at;
        sum += term;
    }
    let product = u128::from(whole) * sum.unsigned_abs();
    let shift = 32 - twos;
    let shifted = match u32::try_from(shift) {
        Ok(right) => product.checked_shr(right).unwrap_or(0),
        Err(_) if -shift > 64 => return (whole == 0).then_some(0),
        Err(_) => product << -shift,
    };
    u64::try_from(shifted).ok().filter(|_| shift >= 0 || product >> 64 == 0)
}

/// The quantile of the standard normal distribution at `draw` over 2^64, by the rational
/// approximation of Acklam (2003), which is right to one part in 10^9.
pub(crate) fn normal(draw: u64) -> i128 {
    const A: [i128; 6] = [
        -170_496_587_836,
        948_956_266_912,
        -1_185_103_928_404,
        594_242_019_418,
        -131_704_304_833,
        10_765_886_475,
    ];
    const B: [i128; 6] = [
        -233_973_062_752,
        694_005_884_802,
        -668_722_026_519,
        286_909_449_888,
        -57_040_092_938,
        ONE,
    ];
    const C: [i128; 6] = [
        -33_435_865,
        -1_384_682_244,
        -10_311_178_286,
        -10_951_017_870,
        18_789_039_419,
        12_619_318_216,
    ];
    const D: [i128; 5] = [33_435_013, 1_384_985_773, 10_501_771_153, 16_125_062_419, ONE];
    /// 0.02425, where the tails begin, over 2^64.
    const TAIL: u64 = 447_333_543_787_456_627;

    if draw >= 1 << 63 {
        return -normal(!draw);
    }
    let polynomial = |factors: &[i128], x: i128| {
        factors.iter().fold(0, |sum, factor| ((sum * x) >> 32) + factor)
    };
    if draw < TAIL {
        let minus_ln = (((64 << 32) - i128::from(log2(draw.max(1)))) * LN_2) >> 32;
        // The root of a number with 64 bits behind the point has 32.
        let q = ((2 * minus_ln).unsigned_abs() << 32).isqrt().cast_signed();
        return (polynomial(&C, q) << 32) / polynomial(&D, q);
    }
    let q = i128::from(draw >> 32) - (ONE >> 1);
    let r = (q * q) >> 32;
    polynomial(&A, r) * q / polynomial(&B, r)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(number: i128) -> f64 {
        number as f64 / ONE as f64
    }

    #[test]
    fn logarithms_are_right_to_the_last_bits() {
        for number in [1, 2, 3, 10, 1_000_003, u64::MAX / 3, u64::MAX] {
            let exact = (number as f64).log2() * ONE as f64;
            assert!((log2(number) as f64 - exact).abs() < 4.0, "{number}");
        }
    }

    #[test]
    fn powers_of_e_are_right_to_eight_digits() {
        for exponent in [-20.0, -3.5, -0.1, 0.0, 0.1, 0.693, 0.694, 1.0, 5.5, 12.0] {
            let found = times_exp(1 << 40, (exponent * ONE as f64) as i128).expect("it fits");
            let exact = (1_u64 << 40) as f64 * f64::exp(exponent);
            assert!((found as f64 - exact).abs() <= 1.0 + exact * 2e-8, "{exponent}: {found}");
        }
        assert_eq!(times_exp(7, -1_000 * ONE), Some(0));
        for (whole, exponent) in [(1, 45), (u64::MAX, 1), (3, 1_000)] {
            assert_eq!(times_exp(whole, exponent * ONE), None, "{whole} {exponent}");
        }
        assert_eq!(times_exp(u64::MAX, 0), Some(u64::MAX));
    }

    #[test]
    fn quantiles_of_the_normal_distribution_are_the_textbooks() {
        // Shares in 10^-12.
        for (share, quantile) in [
            (500_000_000_000, 0.0),
            (841_344_746_069, 1.0),
            (975_000_000_000, 1.959_963_985),
            (999_000_000_000, 3.090_232_306),
            (22_750_131_948, -2.0),
            (31_671_242, -4.0),
        ] {
            let draw = (share << 64) / 1_000_000_000_000_u128;
            let found = float(normal(draw as u64));
            assert!((found - quantile).abs() < 1e-6, "{share}: {found}");
        }
        assert!(float(normal(0)) < -9.0 && float(normal(u64::MAX)) > 9.0);
        let steps: Vec<i128> = (0..=1_000).map(|at| normal(u64::MAX / 1_000 * at)).collect();
        assert!(steps.is_sorted());
    }
}
