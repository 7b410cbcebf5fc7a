//! A host's own clocks, which may be ahead, behind, fast or slow.
//!
//! True time is the network's. A machine is told its host's: [`Net::local`](super::Net::local). A
//! monotonic clock never jumps: while something runs only its rate changes. The clock on the wall
//! jumps, and the machine is told.

use teem_core::time::{Instant, UnixTime};

use super::WALL;
use crate::time::Nanos;

/// A rate that a clock may be off by at most, in millionths.
pub const DRIFT_MAX_PPM: i32 = 500_000;

/// How far a clock may be off at most, either way, in nanoseconds: a year.
pub const OFFSET_MAX: i64 = 365 * 24 * 3_600 * 1_000_000_000;

/// How wrong a host's clocks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// How far they are ahead when this is set, in nanoseconds; negative: behind. The monotonic
    /// clock is set so only before anything runs. Beyond [`OFFSET_MAX`] it is that.
    pub offset_nanos: i64,
    /// By how many millionths they are too fast; negative: too slow. Beyond [`DRIFT_MAX_PPM`] it
    /// is that.
    pub drift_ppm: i32,
}

impl Skew {
    /// The clocks are right.
    pub const NONE: Self = Self { offset_nanos: 0, drift_ppm: 0 };
}

/// The clocks of a host that are not right, or once were not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// When the rate was last set, in true time.
    set_at: Nanos,
    /// What the monotonic clock said then, in nanoseconds after [`Instant::ORIGIN`].
    then: i128,
    offset_nanos: i64,
    drift_ppm: i32,
}

const MILLION: i128 = 1_000_000;

impl Clocks {
    /// Clocks that are set for the first time.
    pub(super) fn new(now: Nanos, skew: Skew) -> Self {
        let offset_nanos = skew.offset_nanos.clamp(-OFFSET_MAX, OFFSET_MAX);
        // The timeline of machines begins twelve days before the run does.
        let least = -i128::from(Instant::ORIGIN.as_micros()) * 1_000;
        let then = (i128::from(now.0) + i128::from(offset_nanos)).max(least);
        let drift_ppm = skew.drift_ppm.clamp(-DRIFT_MAX_PPM, DRIFT_MAX_PPM);
        Self { set_at: now, then, offset_nanos, drift_ppm }
    }

    /// Sets them anew: the monotonic clock goes on from where it is.
    pub(super) fn set(&mut self, now: Nanos, skew: Skew) {
        let then = self.nanos(now);
        *self = Self { then, ..Self::new(now, skew) };
    }

    /// Nanoseconds after [`Instant::ORIGIN`] on the monotonic clock.
    fn nanos(&self, now: Nanos) -> i128 {
        self.then + self.passed(now)
    }

    /// What passed on either clock since they were set.
    fn passed(&self, now: Nanos) -> i128 {
        let passed = i128::from(now.0.saturating_sub(self.set_at.0));
        passed + (passed * i128::from(self.drift_ppm)).div_euclid(MILLION)
    }

    /// What the monotonic clock says.
    pub(super) fn instant(&self, now: Nanos) -> Instant {
        let micros = self.nanos(now).div_euclid(1_000) + i128::from(Instant::ORIGIN.as_micros());
        Instant::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX))
    }

    /// The first true time, from `now` on, at which the monotonic clock says `instant` or later.
    pub(super) fn when(&self, now: Nanos, instant: Instant) -> Nanos {
        let micros = i128::from(instant.as_micros()) - i128::from(Instant::ORIGIN.as_micros());
        let missing = micros * 1_000 - self.then;
        let rate = MILLION + i128::from(self.drift_ppm);
        // Rounded up: a little earlier the clock does not say it yet.
        let passed = -(-missing * MILLION).div_euclid(rate);
        let at = i128::from(self.set_at.0) + passed;
        now.max(Nanos(u64::try_from(at.max(0)).unwrap_or(u64::MAX)))
    }

    /// What the clock on the wall says.
    pub(super) fn wall(&self, now: Nanos) -> UnixTime {
        let nanos = i128::from(self.set_at.0) + i128::from(self.offset_nanos) + self.passed(now);
        let seconds = i128::from(WALL.0) + nanos.div_euclid(1_000_000_000);
        UnixTime(u64::try_from(seconds.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    const SECOND: u64 = 1_000_000_000;
    const AHEAD: i64 = 1_000_000_000;

    #[test]
    fn a_clock_is_ahead_and_gains() {
        let skew = Skew { offset_nanos: 5 * AHEAD, drift_ppm: 100 };
        let clocks = Clocks::new(Nanos(10 * SECOND), skew);
        let said = |at| clocks.instant(Nanos(at)).as_micros() - Instant::ORIGIN.as_micros();
        assert_eq!(said(10 * SECOND), 15_000_000);
        assert_eq!(said(10_010 * SECOND), 10_016_000_000);
        assert_eq!(clocks.wall(Nanos(10_010 * SECOND)), UnixTime(WALL.0 + 10_016));
    }

    #[test]
    fn setting_it_makes_the_wall_jump_and_nothing_else() {
        let mut clocks = Clocks::new(Nanos(0), Skew { offset_nanos: 0, drift_ppm: -1_000 });
        let before = clocks.instant(Nanos(1_000 * SECOND));
        clocks.set(Nanos(1_000 * SECOND), Skew { offset_nanos: -3_600 * AHEAD, drift_ppm: 0 });
        assert_eq!(clocks.instant(Nanos(1_000 * SECOND)), before);
        assert_eq!(clocks.wall(Nanos(1_000 * SECOND)), UnixTime(WALL.0 + 1_000 - 3_600));
        let later = clocks.instant(Nanos(1_001 * SECOND));
        assert_eq!(later.saturating_since(before).as_secs(), 1);
    }

    #[test]
    fn when_a_clock_will_say_something_is_the_first_moment_at_which_it_does() {
        let mut rng = Seed::from_number(1).stream("clock", 0);
        for _ in 0..20_000 {
            let drift_ppm = rng.below(1_000_001).cast_signed() - DRIFT_MAX_PPM;
            let offset_nanos = i64::from(rng.next_u32()) - (1 << 31);
            let set_at = Nanos(u64::from(rng.next_u32()));
            let clocks = Clocks::new(set_at, Skew { offset_nanos, drift_ppm });
            let wanted = clocks.instant(set_at).as_micros() + 1 + u64::from(rng.next_u32());
            let wanted = Instant::from_micros(wanted);
            let at = clocks.when(set_at, wanted);
            assert!(clocks.instant(at) >= wanted, "{clocks:?} {wanted:?} {at:?}");
            assert!(clocks.instant(Nanos(at.0 - 1)) < wanted, "{clocks:?} {wanted:?} {at:?}");
        }
    }

    #[test]
    fn a_clock_behind_the_beginning_of_time_stays_there() {
        let skew = Skew { offset_nanos: i64::MIN, drift_ppm: i32::MIN };
        let clocks = Clocks::new(Nanos(0), skew);
        assert_eq!(clocks.instant(Nanos(0)), Instant::from_micros(0));
        assert!(clocks.instant(Nanos(10 * SECOND)) > clocks.instant(Nanos(0)));
        assert_eq!(clocks.wall(Nanos(0)).0, WALL.0 - (OFFSET_MAX / AHEAD).cast_unsigned());
    }
}
