//! Time as the simulator counts it: whole nanoseconds.
//!
//! Machines see it rounded down to microseconds ([`Nanos::instant`]); links and disks count in
//! nanoseconds, so that a rate of gigabytes per second still spaces single packets.

use std::fmt;
use std::ops::{Add, AddAssign};

use teem_core::time::{Duration, Instant};

/// Nanoseconds since the run began, which is [`Instant::ORIGIN`] for machines.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// When the run begins.
    pub const ZERO: Self = Self(0);

    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// What machines are told at this time.
    pub const fn instant(self) -> Instant {
        Instant::from_micros(Instant::ORIGIN.as_micros() + self.0 / 1_000)
    }

    /// When machines are first told this time, or later.
    pub const fn of(instant: Instant) -> Self {
        Self(instant.as_micros().saturating_sub(Instant::ORIGIN.as_micros()).saturating_mul(1_000))
    }

    /// Time from `earlier` to here; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;
    /// Saturates at [`Nanos::NEVER`].
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Nanos {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl fmt::Debug for Nanos {
    /// Seconds since the run began.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_see_whole_microseconds() {
        let at = Nanos(1_999);
        assert_eq!(at.instant(), Instant::ORIGIN + Duration::from_micros(1));
        assert_eq!(Nanos::of(at.instant()), Nanos(1_000));
        assert_eq!(format!("{:?}", Nanos::ZERO + Duration::from_millis(1500)), "1.500000000s");
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Nanos::NEVER + Duration::from_secs(1), Nanos::NEVER);
        assert_eq!(Nanos(5).since(Nanos(7)), Duration::ZERO);
    }
}
