//! Who is among a crowd: `"10 % poisoner, 5 % slow-loris"`, and the rest honest.

use std::fmt;
use std::str::FromStr;

use teem_core::rng::Rng;

use super::kind::Kind;

/// All of a crowd, in millionths.
const WHOLE_PPM: u32 = 1_000_000;

/// A part of a [`Mix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<K = Kind> {
    /// How many, in millionths of the crowd.
    pub ppm: u32,
    /// Of which kind.
    pub kind: K,
}

/// Shares of a crowd, none twice, together at most all of it: of attackers among peers, or of
/// anything else that goes by names.
///
/// Written as percentages with up to four decimals and names of kinds, separated by commas. The
/// empty string is a mix of nobody.
///
/// ```
/// use teem_core::rng::Seed;
/// use teem_sim::actors::{Kind, Mix};
///
/// let mix: Mix = "10 % poisoner, 5% slow-loris".parse()?;
/// let crowd = mix.assign(40, &mut Seed::from_number(1).stream("mix", 0));
/// assert_eq!(crowd.iter().filter(|one| **one == Some(Kind::Poisoner)).count(), 4);
/// assert_eq!(crowd.iter().filter(|one| **one == Some(Kind::SlowLoris)).count(), 2);
/// assert_eq!(crowd.iter().filter(|one| one.is_none()).count(), 34);
/// # Ok::<(), teem_sim::actors::MixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix<K = Kind> {
    shares: Vec<Share<K>>,
}

impl<K> Default for Mix<K> {
    fn default() -> Self {
        Self { shares: Vec::new() }
    }
}

/// Why a text is not a mix. Each names the part in question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
    /// There is nothing between two commas, or behind the last.
    #[error("part {0} of the mix is empty")]
    Empty(
        /// Counted from one.
        usize,
    ),
    /// There is no `%` in it.
    #[error("\"{0}\" is not of the form \"10 % poisoner\"")]
    NoPercent(String),
    /// What stands before the `%` is not a number with at most four decimals.
    #[error("\"{0}\" does not begin with a percentage (at most four decimals)")]
    NotANumber(String),
    /// More than everybody.
    #[error("\"{0}\" is more than 100 %")]
    TooMany(String),
    /// Nobody goes by that name.
    #[error("\"{part}\": nothing here is called \"{name}\"")]
    UnknownKind {
        /// The part.
        part: String,
        /// The name in it.
        name: String,
    },
    /// A kind that was there before.
    #[error("\"{0}\" comes twice")]
    Twice(String),
    /// All parts together are more than everybody.
    #[error("with \"{0}\" the mix is more than 100 %")]
    SumTooLarge(String),
}

impl<K: Copy> Mix<K> {
    /// Its parts, in the order in which they were written.
    pub fn shares(&self) -> &[Share<K>] {
        &self.shares
    }

    /// Who of a crowd of `hosts` is what; none: honest.
    ///
    /// Each share gets its whole number of hosts, and what is left over goes to the largest
    /// remainders (among equals to the earlier share, the honest last). Which hosts they are, the
    /// draw decides, and nothing else.
    pub fn assign(&self, hosts: usize, rng: &mut Rng) -> Vec<Option<K>> {
        let attackers: u32 = self.shares.iter().map(|share| share.ppm).sum();
        let honest = (WHOLE_PPM - attackers, None);
        let shares = self.shares.iter().map(|share| (share.ppm, Some(share.kind)));
        let mut seats: Vec<(u64, u64, Option<K>)> = shares
            .chain([honest])
            .map(|(ppm, kind)| {
                let exact = hosts as u64 * u64::from(ppm);
                (exact / u64::from(WHOLE_PPM), exact % u64::from(WHOLE_PPM), kind)
            })
            .collect();
        let seated: u64 = seats.iter().map(|(whole, ..)| whole).sum();
        let mut order: Vec<usize> = (0..seats.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(seats[*at].1));
        // Fewer are left over than there are shares.
        for at in order.into_iter().take(hosts - seated as usize) {
            seats[at].0 += 1;
        }
        let mut crowd = Vec::with_capacity(hosts);
        for (count, _, kind) in seats {
            crowd.resize(crowd.len() + count as usize, kind);
        }
        rng.shuffle(&mut crowd);
        crowd
    }
}

impl<K: FromStr + PartialEq> FromStr for Mix<K> {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut mix = Self::default();
        if text.trim().is_empty() {
            return Ok(mix);
        }
        let mut sum = 0;
        for (at, part) in text.split(',').map(str::trim).enumerate() {
            if part.is_empty() {
                return Err(MixError::Empty(at + 1));
            }
            let whole = || part.to_owned();
            let (percent, name) =
                part.split_once('%').ok_or_else(|| MixError::NoPercent(whole()))?;
            let ppm = ppm(percent.trim()).ok_or_else(|| MixError::NotANumber(whole()))?;
            if ppm > WHOLE_PPM {
                return Err(MixError::TooMany(whole()));
            }
            let name = name.trim();
            let Ok(kind) = name.parse() else {
                return Err(MixError::UnknownKind { part: whole(), name: name.to_owned() });
            };
            if mix.shares.iter().any(|share| share.kind == kind) {
                return Err(MixError::Twice(name.to_owned()));
            }
            sum += ppm;
            if sum > WHOLE_PPM {
                return Err(MixError::SumTooLarge(whole()));
            }
            mix.shares.push(Share { ppm, kind });
        }
        Ok(mix)
    }
}

/// A percentage in millionths.
fn ppm(percent: &str) -> Option<u32> {
    let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 4 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let decimals = format!("{decimals:0<4}").parse::<u32>().ok()?;
    whole.checked_mul(10_000)?.checked_add(decimals)
}

impl<K: fmt::Display> fmt::Display for Mix<K> {
    /// As it can be read again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Share { ppm, kind }) in self.shares.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let (whole, decimals) = (ppm / 10_000, ppm % 10_000);
            if decimals == 0 {
                write!(f, "{comma}{whole} % {kind}")?;
            } else {
                let decimals = format!("{decimals:04}");
                write!(f, "{comma}{whole}.{} % {kind}", decimals.trim_end_matches('0'))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Lie;
    use teem_core::rng::Seed;

    fn rng() -> Rng {
        Seed::from_number(7).stream("mix", 0)
    }

    fn count(crowd: &[Option<Kind>], kind: Option<Kind>) -> usize {
        crowd.iter().filter(|one| **one == kind).count()
    }

    #[test]
    fn a_mix_is_read_as_it_is_written() {
        let mix: Mix = "10 % poisoner,  0.25% slow-loris".parse().expect("a mix");
        let shares = [(100_000, Kind::Poisoner), (2_500, Kind::SlowLoris)];
        assert_eq!(mix.shares(), shares.map(|(ppm, kind)| Share { ppm, kind }));
        assert_eq!(mix.to_string(), "10 % poisoner, 0.25 % slow-loris");
        assert_eq!(mix.to_string().parse(), Ok(mix));
        assert_eq!(" ".parse(), Ok(Mix::<Kind>::default()));
        let lies: Mix<Lie> = "50 % many-peers".parse().expect("a mix of lies");
        assert_eq!(
            lies.assign(2, &mut rng()).iter().flatten().collect::<Vec<_>>(),
            [&Lie::ManyPeers]
        );
    }

    #[test]
    fn what_is_wrong_with_a_mix_is_said_of_the_part() {
        let text = |part: &str| part.to_owned();
        let unknown = MixError::UnknownKind { part: text("5 % nobody"), name: text("nobody") };
        let cases = [
            ("10 % poisoner,", MixError::Empty(2)),
            ("poisoner", MixError::NoPercent(text("poisoner"))),
            ("x % poisoner", MixError::NotANumber(text("x % poisoner"))),
            ("-1 % poisoner", MixError::NotANumber(text("-1 % poisoner"))),
            ("1.00001 % poisoner", MixError::NotANumber(text("1.00001 % poisoner"))),
            ("9999999 % poisoner", MixError::NotANumber(text("9999999 % poisoner"))),
            ("101 % poisoner", MixError::TooMany(text("101 % poisoner"))),
            ("1 % silent, 5 % nobody", unknown),
            ("1 % silent, 2 % silent", MixError::Twice(text("silent"))),
            ("60 % silent, 41 % poisoner", MixError::SumTooLarge(text("41 % poisoner"))),
        ];
        for (mix, error) in cases {
            assert_eq!(mix.parse::<Mix>(), Err(error), "{mix}");
        }
    }

    #[test]
    fn what_is_left_over_goes_to_the_largest_remainders() {
        let mix: Mix = "26 % poisoner, 17 % silent".parse().expect("a mix");
        // Of ten: 2.6, 1.7 and 5.7 honest.
        let crowd = mix.assign(10, &mut rng());
        assert_eq!(count(&crowd, Some(Kind::Poisoner)), 2);
        assert_eq!(count(&crowd, Some(Kind::Silent)), 2);
        assert_eq!(count(&crowd, None), 6);
    }

    #[test]
    fn everybody_is_something_and_the_draw_decides_who() {
        let mix: Mix =
            "33.3333 % poisoner, 33.3333 % silent, 33.3334 % duplicates".parse().expect("a mix");
        for hosts in 0..50 {
            let crowd = mix.assign(hosts, &mut rng());
            assert_eq!(crowd.len(), hosts);
            assert_eq!(crowd, mix.assign(hosts, &mut rng()));
            for share in mix.shares() {
                let seats = count(&crowd, Some(share.kind)) as u64 * u64::from(WHOLE_PPM);
                let exact = hosts as u64 * u64::from(share.ppm);
                assert!(seats.abs_diff(exact) < u64::from(WHOLE_PPM), "{hosts} {share:?}");
            }
        }
        let other = mix.assign(30, &mut Seed::from_number(8).stream("mix", 0));
        assert_ne!(other, mix.assign(30, &mut rng()));
    }
}
