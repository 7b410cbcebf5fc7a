//! When the hosts of a group come.

use serde::Deserialize;
use teem_core::rng::{Rng, Seed};

use super::units::{PerSecond, Range, Seconds, Time};
use crate::fixed::{LN_2, log2};
use crate::time::Nanos;

/// When the hosts of a group come: `"flash"`, or a table with one of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// All at the beginning.
    #[default]
    Flash,
    /// One after the other, so many per second on average, each at a time that knows nothing of
    /// the others (a Poisson process).
    PoissonPerS(Range<PerSecond>),
    /// Each at any moment of so many seconds.
    OverS(Range<Seconds>),
    /// All at a time: `{ at = "12 s" }`.
    At(Range<Time>),
    /// The first at the first of these seconds, and so on: a trace.
    AtS(Vec<Range<Seconds>>),
}

impl Arrival {
    /// When each of `count` hosts of group `group` comes.
    pub(super) fn draw(&self, seed: &Seed, group: u64, count: usize) -> Vec<Nanos> {
        let each = |at: usize| seed.stream("peers arrive", (group << 32) | at as u64);
        match self {
            Self::Flash => vec![Nanos::ZERO; count],
            Self::PoissonPerS(rate) => {
                let rate = rate.draw(&mut seed.stream("peers arrive per second", group));
                let mut at = 0_u64;
                let gap = |host: usize| wait(&mut each(host), rate);
                let come = |host: usize| {
                    at = at.saturating_add(gap(host));
                    Nanos(at)
                };
                (0..count).map(come).collect()
            }
            Self::OverS(span) => {
                let span = span.draw(&mut seed.stream("peers arrive over", group));
                let within = Range::<Seconds>::new(0, span);
                (0..count).map(|host| Nanos(within.draw(&mut each(host)))).collect()
            }
            Self::At(time) => (0..count).map(|host| Nanos(time.draw(&mut each(host)))).collect(),
            Self::AtS(times) => {
                let time = |host: usize| times[host.min(times.len() - 1)];
                (0..count).map(|host| Nanos(time(host).draw(&mut each(host)))).collect()
            }
        }
    }
}

/// Nanoseconds until the next of so many millionths per second: exponentially distributed, in
/// integers, so that every machine draws the same.
fn wait(rng: &mut Rng, per_s_ppm: u64) -> u64 {
    let drawn = rng.next_u64().max(1);
    // -ln(drawn / 2^64), with 32 bits behind the point.
    let exponential = (((64 << 32) - u128::from(log2(drawn))) * LN_2.unsigned_abs()) >> 32;
    let nanos = (exponential * 1_000_000_000_000_000 / u128::from(per_s_ppm.max(1))) >> 32;
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poisson_process_has_its_mean_and_its_spread() {
        let seed = Seed::from_number(5);
        let times = Arrival::PoissonPerS("2".parse().expect("a rate")).draw(&seed, 0, 20_000);
        let mean = times[19_999].0 / 20_000;
        assert!((490_000_000..510_000_000).contains(&mean), "{mean}");
        // Of exponential gaps, one in e is longer than the mean.
        let long = times.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 500_000_000).count();
        assert!((7_100..7_600).contains(&long), "{long}");
    }

    #[test]
    fn a_trace_is_followed_and_a_span_is_kept() {
        let seed = Seed::from_number(5);
        let at = |text: &str| text.parse().expect("seconds");
        let trace = Arrival::AtS(vec![at("0"), at("0.5"), at("3")]).draw(&seed, 0, 3);
        assert_eq!(trace, [Nanos(0), Nanos(500_000_000), Nanos(3_000_000_000)]);
        let over = Arrival::OverS(at("10")).draw(&seed, 0, 100);
        assert!(over.iter().all(|time| time.0 <= 10_000_000_000));
        assert!(over.iter().any(|time| time.0 > 9_000_000_000));
    }
}
