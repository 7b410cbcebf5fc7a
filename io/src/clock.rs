//! The clocks of this machine, as machines want them.
//!
//! The only place where a clock is read. Time goes on while the computer is suspended, where the
//! system can tell (Linux); elsewhere it stops, and everybody out there has gone on.

use std::time::{SystemTime, UNIX_EPOCH};

use teem_core::time::{Duration, Instant, UnixTime};

/// The wall clock is compared with the other this often.
const WALL_INTERVAL: Duration = Duration::from_secs(10);

/// The wall clock has jumped if it is this many seconds off.
const WALL_JUMP_S: u64 = 2;

/// A monotonic clock that starts at [`Instant::ORIGIN`], and a watch on the wall clock.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Reading,
    wall: Option<(Instant, UnixTime)>,
}

impl Clock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: Reading::now(), wall: None }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::ORIGIN + Reading::now().since(self.start)
    }

    /// The wall clock's time, when a machine is to be told: the first time, and when it has jumped
    /// against the other clock. Cheap to ask often.
    pub fn wall_news(&mut self, now: Instant) -> Option<UnixTime> {
        let passed = match self.wall {
            Some((at, _)) if now.saturating_since(at) < WALL_INTERVAL => return None,
            Some((at, _)) => now.saturating_since(at),
            None => Duration::ZERO,
        };
        let wall = wall();
        let expected = self.wall.map(|(_, wall)| wall.0 + passed.as_secs());
        self.wall = Some((now, wall));
        let same = expected.is_some_and(|expected| expected.abs_diff(wall.0) < WALL_JUMP_S);
        (!same).then_some(wall)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The wall clock's time.
#[expect(clippy::disallowed_methods, reason = "drivers read clocks, here")]
pub fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Clone, Copy, Debug)]
struct Reading(rustix::time::Timespec);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Reading {
    fn now() -> Self {
        Self(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
    }

    fn since(self, earlier: Self) -> Duration {
        let nanos = |at: rustix::time::Timespec| at.tv_sec * 1_000_000_000 + at.tv_nsec;
        let passed = nanos(self.0).saturating_sub(nanos(earlier.0));
        Duration::from_nanos(u64::try_from(passed).unwrap_or(0))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Clone, Copy, Debug)]
struct Reading(std::time::Instant);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Reading {
    #[expect(clippy::disallowed_methods, reason = "drivers read clocks, here")]
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_the_origin_and_runs_forward() {
        let clock = Clock::new();
        let first = clock.now();
        assert!(first >= Instant::ORIGIN);
        assert!(first.saturating_since(Instant::ORIGIN) < Duration::from_mins(1));
        assert!(clock.now() >= first);
    }

    #[test]
    fn the_wall_clock_is_told_once_and_again_only_when_it_jumped() {
        let mut clock = Clock::new();
        let now = Instant::ORIGIN;
        assert!(clock.wall_news(now).is_some());
        assert_eq!(clock.wall_news(now + Duration::from_secs(1)), None);
        // An hour by one clock, an instant by the other.
        assert!(clock.wall_news(now + Duration::from_hours(1)).is_some());
        assert_eq!(clock.wall_news(now + Duration::from_secs(3601)), None);
    }
}
