//! How long ways take, as scenario files say it: a range, or a distribution.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use teem_core::rng::Rng;
use teem_core::time::Duration;

use super::units::{Factor, Range, Time};
use crate::net::{Curve, CurveId, DELAY_MAX, Spread, log_normal};

/// How long something takes: `"5..50 ms"` (evenly), or a table with one of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Evenly from the one to the other.
    Evenly(Range<Time>),
    /// `{ log_normal = { median = "20 ms", sigma = 0.5 } }`.
    LogNormal(LogNormal),
    /// `{ quantiles = ["1 ms", "5 ms", "80 ms"] }`; see [`Curve::new`].
    Quantiles(Vec<Range<Time>>),
}

/// A log-normal distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogNormal {
    /// Half take less.
    pub median: Range<Time>,
    /// The standard deviation of the natural logarithm.
    pub sigma: Range<Factor>,
}

/// A standard deviation of the logarithm that is larger than this makes no sense, in thousandths.
const SIGMA_MAX: u64 = 5_000;

impl Delay {
    /// None at all.
    pub const NOTHING: Self = Self::Evenly(Range::of(0));

    /// What is wrong with it, if anything.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        match self {
            Self::Evenly(range) => {
                (u128::from(range.most()) > DELAY_MAX.as_nanos()).then_some("at most an hour")
            }
            Self::LogNormal(LogNormal { median, sigma }) => {
                let fits =
                    u128::from(median.most()) <= DELAY_MAX.as_nanos() && sigma.most() <= SIGMA_MAX;
                (!fits).then_some("log_normal has a median of at most an hour, sigma is at most 5")
            }
            Self::Quantiles(list) => {
                let single = list.iter().all(|time| time.least() == time.most());
                (!single || self.curve().is_none()).then_some(
                    "quantiles are 2 to 1024 single times, none shorter than the one before",
                )
            }
        }
    }

    /// The measurement, if it is one and sound.
    pub(super) fn curve(&self) -> Option<Curve> {
        let Self::Quantiles(list) = self else { return None };
        let list: Vec<_> = list.iter().map(|time| Duration::from_nanos(time.least())).collect();
        Curve::new(&list)
    }

    /// One draw.
    pub(super) fn draw(&self, rng: &mut Rng) -> Duration {
        match self {
            Self::Evenly(range) => Duration::from_nanos(range.draw(rng)),
            Self::LogNormal(LogNormal { median, sigma }) => {
                let median = Duration::from_nanos(median.draw(rng));
                log_normal(median, sigma.draw(rng) as u32, rng.next_u64())
            }
            Self::Quantiles(_) => {
                let curve = self.curve().expect("scenarios are checked");
                curve.quantile(rng.next_u64())
            }
        }
    }

    /// What is drawn each time anew on top of `base`; `curve` is where the measurement is.
    pub(super) fn spread(&self, base: Duration, curve: Option<CurveId>, rng: &mut Rng) -> Spread {
        match self {
            Self::Evenly(range) if range.most() == 0 => Spread::Constant(base),
            Self::Evenly(range) => {
                let above = |nanos| base + Duration::from_nanos(nanos);
                Spread::Uniform(above(range.least()), above(range.most()))
            }
            Self::LogNormal(LogNormal { median, sigma }) => Spread::LogNormal {
                base,
                median: Duration::from_nanos(median.draw(rng)),
                sigma_permille: sigma.draw(rng) as u32,
            },
            Self::Quantiles(_) => {
                Spread::Empirical { base, curve: curve.expect("measurements have a place") }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Table {
            LogNormal(LogNormal),
            Quantiles(Vec<Range<Time>>),
        }

        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Delay;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a time, such as \"20 ms\" or \"5..50 ms\", \
                     { log_normal = { median = \"20 ms\", sigma = 0.5 } } or \
                     { quantiles = [\"1 ms\", \"5 ms\", \"80 ms\"] }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Delay, E> {
                text.parse().map(Delay::Evenly).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Delay, A::Error> {
                Ok(match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table::LogNormal(log_normal) => Delay::LogNormal(log_normal),
                    Table::Quantiles(list) => Delay::Quantiles(list),
                })
            }
        }

        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    fn read(text: &str) -> Result<Delay, String> {
        #[derive(serde::Deserialize)]
        struct File {
            delay: Delay,
        }
        let file: Result<File, _> = toml::from_str(&format!("delay = {text}"));
        file.map(|file| file.delay).map_err(|error| error.to_string())
    }

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_delay_is_a_range_or_a_distribution() {
        let mut rng = Seed::from_number(1).stream("test", 0);
        let mut spread = |text: &str| {
            let delay = read(text).expect(text);
            assert_eq!(delay.wrong(), None);
            delay.spread(millis(3), Some(CurveId(7)), &mut rng)
        };
        assert_eq!(spread("\"0 ms\""), Spread::Constant(millis(3)));
        assert_eq!(spread("\"5..50 ms\""), Spread::Uniform(millis(8), millis(53)));
        assert_eq!(
            spread("{ log_normal = { median = \"20 ms\", sigma = 0.5 } }"),
            Spread::LogNormal { base: millis(3), median: millis(20), sigma_permille: 500 }
        );
        assert_eq!(
            spread("{ quantiles = [\"1 ms\", \"5 ms\"] }"),
            Spread::Empirical { base: millis(3), curve: CurveId(7) }
        );
    }

    #[test]
    fn hosts_draw_from_the_same_distributions() {
        let of = |text: &str| {
            let delay = read(text).expect(text);
            let draw = |host| delay.draw(&mut Seed::from_number(1).stream("test", host));
            let mut drawn: Vec<_> = (0..1_001).map(draw).collect();
            drawn.sort_unstable();
            drawn[500].as_micros()
        };
        assert!((26_000..29_000).contains(&of("\"5..50 ms\"")));
        let median = of("{ log_normal = { median = \"20 ms\", sigma = 0.5 } }");
        assert!((18_500..21_500).contains(&median), "{median}");
        let median = of("{ quantiles = [\"1 ms\", \"5 ms\", \"80 ms\"] }");
        assert!((4_500..9_000).contains(&median), "{median}");
    }

    #[test]
    fn what_is_no_delay_is_said_with_what_would_do() {
        for text in ["5", "\"fast\"", "{ normal = 5 }", "{ log_normal = { median = \"1 ms\" } }"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("5").expect_err("no unit").contains("quantiles"));
        for text in [
            "{ quantiles = [\"5 ms\"] }",
            "{ quantiles = [\"5 ms\", \"1 ms\"] }",
            "{ quantiles = [\"5..6 ms\", \"7 ms\"] }",
            "{ log_normal = { median = \"2 h\", sigma = 1 } }",
            "{ log_normal = { median = \"2 s\", sigma = 6 } }",
            "\"2 h\"",
        ] {
            assert!(read(text).expect(text).wrong().is_some(), "{text}");
        }
    }
}
