//! The round trip, and how long to wait for an acknowledgement: RFC 6298.

use teem_core::time::Duration;

/// The least time to wait for an acknowledgement. RFC 6298 has a second; systems have this.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// The most.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_mins(2);

/// Before anything was measured.
const TIMEOUT_FIRST: Duration = Duration::from_secs(1);

/// In nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: u64,
    variation: u64,
    least: u64,
    /// How often the timeout was doubled.
    pub(super) backoff: u32,
}

impl RoundTrip {
    pub(super) fn measure(&mut self, sample: Duration) {
        let sample = (sample.as_nanos() as u64).max(1);
        self.backoff = 0;
        if self.smoothed == 0 {
            self.smoothed = sample;
            self.variation = sample / 2;
            self.least = sample;
            return;
        }
        self.least = self.least.min(sample);
        self.variation = (3 * self.variation + self.smoothed.abs_diff(sample)) / 4;
        self.smoothed = (7 * self.smoothed + sample) / 8;
    }

    /// The smoothed round trip; zero before anything was measured.
    pub(super) const fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed)
    }

    /// The shortest round trip; zero before anything was measured.
    pub(super) const fn least(&self) -> Duration {
        Duration::from_nanos(self.least)
    }

    pub(super) fn timeout(&self) -> Duration {
        let base = if self.smoothed == 0 {
            TIMEOUT_FIRST
        } else {
            // The variation counts for at least what systems take for it.
            let margin = Duration::from_nanos(4 * self.variation).max(TIMEOUT_MIN);
            self.smoothed() + margin
        };
        (base * (1 << self.backoff.min(16))).min(TIMEOUT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_round_trip_waits_the_least_longer() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.timeout(), Duration::from_secs(1));
        for _ in 0..100 {
            trip.measure(Duration::from_millis(50));
        }
        assert_eq!(trip.smoothed().as_millis(), 50);
        assert_eq!(trip.timeout().as_millis(), 250);
    }

    #[test]
    fn the_first_sample_and_the_next_are_weighed_as_rfc_6298_says() {
        let mut trip = RoundTrip::default();
        trip.measure(Duration::from_millis(800));
        assert_eq!(trip.timeout(), Duration::from_millis(800 + 4 * 400));
        trip.measure(Duration::from_millis(1_600));
        // 3/4 * 400 + 1/4 * 800, and 7/8 * 800 + 1/8 * 1600.
        assert_eq!(trip.timeout(), Duration::from_millis(900 + 4 * 500));
        assert_eq!(trip.least(), Duration::from_millis(800));
    }

    #[test]
    fn it_doubles_up_to_two_minutes_until_something_is_measured() {
        let mut trip = RoundTrip::default();
        for expected in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
            assert_eq!(trip.timeout(), Duration::from_secs(expected));
            trip.backoff += 1;
        }
        trip.measure(Duration::from_millis(10));
        assert!(trip.timeout() < Duration::from_secs(1));
    }
}
