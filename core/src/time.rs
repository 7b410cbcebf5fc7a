//! Time as the machines see it: a microsecond count that the driver hands in.
//!
//! The core never reads a clock. A driver picks an origin, converts its own clock, and passes
//! `now` with every call; the simulator passes virtual time.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, AddAssign, Sub};
pub use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the driver's timeline, in microseconds. `Option<Instant>` is 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// A convenient start of a timeline: far enough from zero that subtracting an hour is exact.
    pub const ORIGIN: Self = Self(NonZeroU64::new(1 << 40).expect("not zero"));

    /// The instant `micros` microseconds after the start of the representable timeline; zero is
    /// taken for one.
    pub const fn from_micros(micros: u64) -> Self {
        match NonZeroU64::new(micros) {
            Some(micros) => Self(micros),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Microseconds since the start of the representable timeline.
    pub const fn as_micros(self) -> u64 {
        self.0.get()
    }

    /// Time from `earlier` to `self`, or zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl fmt::Debug for Instant {
    /// Seconds after [`Instant::ORIGIN`], which is where tests and the simulator start.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i128::from(self.0.get()) - i128::from(Self::ORIGIN.0.get());
        let sign = if micros < 0 { "-" } else { "" };
        let micros = micros.unsigned_abs();
        write!(f, "{sign}{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    /// Saturates at the end of the timeline (in 584,000 years).
    fn add(self, by: Duration) -> Self {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    /// Saturates at the start of the timeline.
    fn sub(self, by: Duration) -> Self {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.0.get().saturating_sub(micros))
    }
}

/// Wall-clock time in seconds since 1970, for what must survive a restart or be shown to people.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixTime(pub u64);

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn an_optional_instant_costs_nothing() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        let start = Instant::from_micros(5);
        assert_eq!((start - Duration::from_secs(1)).as_micros(), 1);
        assert_eq!(start.saturating_since(end), Duration::ZERO);
    }

    #[test]
    fn debug_prints_seconds_after_the_origin() {
        let at = Instant::ORIGIN + Duration::from_micros(1_500_001);
        assert_eq!(format!("{at:?}"), "1.500001s");
        assert_eq!(format!("{:?}", Instant::ORIGIN - Duration::from_secs(1)), "-1.000000s");
    }
}
