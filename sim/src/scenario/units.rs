//! Numbers with units as scenario files write them, and ranges of them: `"16 MiB"`,
//! `"500..2000 kB/s"`, `"5 ms..1 s"`, `"10 %"`.
//!
//! Everything is exact: decimals are kept as integers of the smallest unit (bytes, nanoseconds,
//! millionths), and what is finer than that is refused.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use teem_core::rng::Rng;

/// What a number counts.
pub trait Unit {
    /// As an error names it: "a time".
    const WHAT: &'static str;
    /// What an error advises to write.
    const EXAMPLES: &'static str;
    /// How many of the smallest unit one of this is; none: there is no such unit.
    fn scale(unit: &str) -> Option<u64>;
    /// The same for a number without a unit; none: it must have one.
    const PLAIN: Option<u64> = None;
}

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $examples:literal, $plain:expr,
       { $($unit:literal => $scale:expr),* };)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {}

        impl Unit for $name {
            const WHAT: &'static str = $what;
            const EXAMPLES: &'static str = $examples;
            const PLAIN: Option<u64> = $plain;
            fn scale(unit: &str) -> Option<u64> {
                match unit {
                    $($unit => Some($scale),)*
                    _ => None,
                }
            }
        }
    )*};
}

units! {
    /// Bytes.
    Bytes, "a size", "\"16 MiB\" or \"500 kB\" (kB is 1000 bytes, KiB 1024)", None,
        { "B" => 1, "kB" => 1_000, "MB" => 1_000_000, "GB" => 1_000_000_000,
          "KiB" => 1 << 10, "MiB" => 1 << 20, "GiB" => 1 << 30 };
    /// Bytes per second.
    Rate, "a rate", "\"500 kB/s\", \"1 MiB/s\" or \"500..2000 kB/s\"", None,
        { "B/s" => 1, "kB/s" => 1_000, "MB/s" => 1_000_000, "GB/s" => 1_000_000_000,
          "KiB/s" => 1 << 10, "MiB/s" => 1 << 20, "GiB/s" => 1 << 30 };
    /// Nanoseconds.
    Time, "a time", "\"20 ms\", \"1.5 s\" or \"5..50 ms\"", None,
        { "ns" => 1, "us" => 1_000, "ms" => 1_000_000, "s" => 1_000_000_000,
          "min" => 60_000_000_000, "h" => 3_600_000_000_000 };
    /// Millionths.
    Share, "a share", "\"10 %\", \"0.5..2 %\" or \"50 ppm\"", None,
        { "%" => 10_000, "ppm" => 1 };
    /// Things.
    Count, "a number", "30 or \"20..40\"", Some(1), {};
    /// Thousandths.
    Factor, "a factor", "2, 2.5 or \"2..8\"", Some(1_000), {};
    /// Millionths, per second.
    PerSecond, "a number per second", "2 or 0.5", Some(1_000_000), {};
    /// Nanoseconds, written as seconds.
    Seconds, "a number of seconds", "30 or 0.25", Some(1_000_000_000), {};
}

/// From the one to the other, both included, in the unit's smallest.
pub struct Range<U> {
    least: u64,
    most: u64,
    unit: PhantomData<U>,
}

impl<U> Clone for Range<U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<U> Copy for Range<U> {}

impl<U> PartialEq for Range<U> {
    fn eq(&self, other: &Self) -> bool {
        (self.least, self.most) == (other.least, other.most)
    }
}

impl<U> Eq for Range<U> {}

impl<U> Default for Range<U> {
    fn default() -> Self {
        Self { least: 0, most: 0, unit: PhantomData }
    }
}

impl<U> fmt::Debug for Range<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.least, self.most)
    }
}

impl<U> Range<U> {
    /// From the one to the other, both included.
    ///
    /// # Panics
    /// If the first is the larger one.
    pub const fn new(least: u64, most: u64) -> Self {
        assert!(least <= most, "a range goes upwards");
        Self { least, most, unit: PhantomData }
    }

    /// Just this.
    pub const fn of(value: u64) -> Self {
        Self::new(value, value)
    }

    /// The smallest that can be drawn.
    pub const fn least(&self) -> u64 {
        self.least
    }

    /// The largest that can be drawn.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// Draws one, all alike.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        let width = u128::from(self.most - self.least) + 1;
        self.least + ((u128::from(rng.next_u64()) * width) >> 64) as u64
    }
}

/// Why a text is not a number with a unit, or a range of such.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// It cannot be read.
    #[error("\"{text}\" is not {what}: write {examples}")]
    Unreadable {
        /// All of it.
        text: String,
        /// What it should be.
        what: &'static str,
        /// What would do.
        examples: &'static str,
    },
    /// It goes downwards.
    #[error("\"{0}\" goes downwards: write the smaller one first")]
    Downwards(String),
    /// It cannot be counted.
    #[error("\"{0}\" is too large")]
    TooLarge(String),
}

impl<U: Unit> std::str::FromStr for Range<U> {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let unreadable = || UnitError::Unreadable {
            text: text.to_owned(),
            what: U::WHAT,
            examples: U::EXAMPLES,
        };
        let (first, second) = match text.split_once("..") {
            Some((first, second)) => (Some(first), second),
            None => (None, text),
        };
        let (number, unit) = split(second);
        let scale = if unit.is_empty() { U::PLAIN } else { U::scale(unit) };
        let scale = scale.ok_or_else(unreadable)?;
        let value = |number: &str, scale: u64| match decimal(number, scale) {
            Ok(value) => Ok(value),
            Err(Unread::TooLarge) => Err(UnitError::TooLarge(text.to_owned())),
            Err(Unread::NotANumber) => Err(unreadable()),
        };
        let most = value(number, scale)?;
        let Some(first) = first else { return Ok(Self::of(most)) };
        let (number, unit) = split(first);
        // "500..2000 kB/s": the unit stands for both.
        let scale = if unit.is_empty() { Some(scale) } else { U::scale(unit) };
        let least = value(number, scale.ok_or_else(unreadable)?)?;
        if least > most {
            return Err(UnitError::Downwards(text.to_owned()));
        }
        Ok(Self::new(least, most))
    }
}

/// A number with a unit, more or less than zero: `"-5 s"`, `"+20 ppm"`, `"20 ppm"`.
pub struct Signed<U> {
    value: i64,
    unit: PhantomData<U>,
}

impl<U> Signed<U> {
    /// How much, in the unit's smallest.
    pub const fn get(self) -> i64 {
        self.value
    }
}

impl<U> Clone for Signed<U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<U> Copy for Signed<U> {}

impl<U> PartialEq for Signed<U> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<U> Eq for Signed<U> {}

impl<U> fmt::Debug for Signed<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<'de, U: Unit> Deserialize<'de> for Signed<U> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (sign, amount) = match text.strip_prefix('-') {
            Some(amount) => (-1, amount),
            None => (1, text.strip_prefix('+').unwrap_or(&text)),
        };
        let range: Range<U> = amount.parse().map_err(de::Error::custom)?;
        match i64::try_from(range.least()) {
            Ok(value) if range.least() == range.most() => {
                Ok(Self { value: sign * value, unit: PhantomData })
            }
            _ => Err(de::Error::custom(format!("\"{text}\" is not one number"))),
        }
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (text[..end].trim(), text[end..].trim())
}

enum Unread {
    NotANumber,
    TooLarge,
}

/// `number` times `scale`, exactly.
fn decimal(number: &str, scale: u64) -> Result<u64, Unread> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 15 {
        return Err(Unread::NotANumber);
    }
    let whole: u64 = whole.parse().map_err(|_| Unread::TooLarge)?;
    let tenths = 10_u128.pow(fraction.len() as u32);
    let fraction: u128 = fraction.parse().map_err(|_| Unread::NotANumber)?;
    let fraction = fraction * u128::from(scale);
    if !fraction.is_multiple_of(tenths) {
        return Err(Unread::NotANumber);
    }
    let whole = whole.checked_mul(scale).ok_or(Unread::TooLarge)?;
    whole.checked_add((fraction / tenths) as u64).ok_or(Unread::TooLarge)
}

impl<'de, U: Unit> Deserialize<'de> for Range<U> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader<U>(PhantomData<U>);

        impl<U: Unit> Visitor<'_> for Reader<U> {
            type Value = Range<U>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, such as {}", U::WHAT, U::EXAMPLES)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Range<U>, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Range<U>, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Range<U>, E> {
                // Shortest digits that mean the same: what was written.
                number.to_string().parse().map_err(E::custom)
            }
        }

        from.deserialize_any(Reader(PhantomData))
    }
}

/// Some of a crowd: so many, or a share of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many.
    Count(Range<Count>),
    /// That share of all, in millionths.
    Share(Range<Share>),
}

impl Part {
    /// How many of so many: at least one, at most all.
    pub fn draw(&self, of: usize, rng: &mut Rng) -> usize {
        let count = match self {
            Self::Count(count) => count.draw(rng),
            Self::Share(share) => (share.draw(rng) * of as u64).div_ceil(1_000_000),
        };
        usize::try_from(count.max(1)).unwrap_or(of).min(of)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a share, such as 3, \"2..5\" or \"10 %\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Part, E> {
                if text.contains('%') {
                    text.parse().map(Part::Share).map_err(E::custom)
                } else {
                    text.parse().map(Part::Count).map_err(E::custom)
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Part, E> {
                self.visit_str(&number.to_string())
            }
        }

        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    fn read<U: Unit>(text: &str) -> (u64, u64) {
        let range: Range<U> = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        (range.least(), range.most())
    }

    #[test]
    fn units_are_what_they_say() {
        assert_eq!(read::<Bytes>("16 MiB"), (16 << 20, 16 << 20));
        assert_eq!(read::<Bytes>("1.5kB"), (1_500, 1_500));
        assert_eq!(read::<Rate>("500 kB/s"), (500_000, 500_000));
        assert_eq!(read::<Time>("20 ms"), (20_000_000, 20_000_000));
        assert_eq!(read::<Share>("0.25 %"), (2_500, 2_500));
        assert_eq!(read::<Share>("20..50 ppm"), (20, 50));
        assert_eq!(read::<Count>("30"), (30, 30));
        assert_eq!(read::<Factor>("2.5"), (2_500, 2_500));
    }

    #[test]
    fn a_range_may_name_its_unit_once_or_twice() {
        assert_eq!(read::<Rate>("500..2000 kB/s"), (500_000, 2_000_000));
        assert_eq!(read::<Rate>("1 MB/s .. 2 MB/s"), (1_000_000, 2_000_000));
        assert_eq!(read::<Time>("5 ms..1 s"), (5_000_000, 1_000_000_000));
        assert_eq!(read::<Count>("20..40"), (20, 40));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_do() {
        for text in ["", "x", "-1 s", "5 parsecs", "5", "1.2.3 s", "1..", "..2 s", "0.1 ns"] {
            let error = text.parse::<Range<Time>>().expect_err(text);
            assert!(error.to_string().contains("\"20 ms\""), "{error}");
        }
        let error = "2..1 s".parse::<Range<Time>>().expect_err("downwards");
        assert_eq!(error, UnitError::Downwards("2..1 s".into()));
        let error = "99999999999 h".parse::<Range<Time>>().expect_err("too large");
        assert_eq!(error, UnitError::TooLarge("99999999999 h".into()));
    }

    #[test]
    fn a_draw_stays_in_its_range_and_reaches_both_ends() {
        let mut rng = Seed::from_number(1).stream("test", 0);
        let range = Range::<Count>::new(3, 6);
        let mut seen = [0; 7];
        for _ in 0..1_000 {
            seen[range.draw(&mut rng) as usize] += 1;
        }
        assert!(seen[..3].iter().all(|count| *count == 0), "{seen:?}");
        assert!(seen[3..].iter().all(|count| *count > 200), "{seen:?}");
        assert!(Range::<Count>::new(0, u64::MAX).draw(&mut rng) > 0);
    }

    #[test]
    fn some_of_a_crowd_are_at_least_one_and_at_most_all() {
        let mut rng = Seed::from_number(1).stream("test", 0);
        let share = |text: &str| Part::Share(text.parse().expect("a share"));
        assert_eq!(share("1 %").draw(30, &mut rng), 1);
        assert_eq!(share("50 %").draw(30, &mut rng), 15);
        assert_eq!(Part::Count(Range::of(99)).draw(30, &mut rng), 30);
    }
}
