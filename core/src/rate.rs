//! Rates: how fast something goes, and how fast it may.

use crate::time::{Duration, Instant};

/// Seconds over which a [`Rate`] is averaged, once there were that many.
const MEMORY: u64 = 5;

/// How fast bytes come, averaged over about five seconds. 24 bytes, updated when something comes.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    second: Instant,
    in_second: u64,
    /// In bytes per second, above [`SECONDS_BITS`] bits for the seconds that it is taken over.
    average_and_seconds: u64,
}

/// Enough for [`MEMORY`].
const SECONDS_BITS: u32 = 3;

const _: () = assert!(MEMORY < 1 << SECONDS_BITS && size_of::<Rate>() == 24);

impl Rate {
    /// Nothing has come yet.
    pub const fn new(now: Instant) -> Self {
        Self { second: now, in_second: 0, average_and_seconds: 0 }
    }

    /// `bytes` came.
    pub fn add(&mut self, now: Instant, bytes: usize) {
        self.roll(now);
        self.in_second += bytes as u64;
    }

    /// The average, in bytes per second.
    pub fn bytes_per_s(&self, now: Instant) -> u64 {
        let mut rolled = *self;
        rolled.roll(now);
        if rolled.seconds() == 0 {
            // Less than a second of history: what came so far, taken for a second's worth.
            return rolled.in_second;
        }
        rolled.average_and_seconds >> SECONDS_BITS
    }

    const fn seconds(&self) -> u64 {
        self.average_and_seconds & ((1 << SECONDS_BITS) - 1)
    }

    fn roll(&mut self, now: Instant) {
        let passed = now.saturating_since(self.second).as_secs();
        if passed == 0 {
            return;
        }
        self.second += Duration::from_secs(passed);
        for _ in 0..passed.min(8 * MEMORY) {
            let seconds = (self.seconds() + 1).min(MEMORY);
            let average = self.average_and_seconds >> SECONDS_BITS;
            let average = (average * (seconds - 1) + self.in_second) / seconds;
            self.average_and_seconds = average << SECONDS_BITS | seconds;
            self.in_second = 0;
        }
    }
}

/// A limit on how fast bytes may go, or none. What is not used within a tenth of a second is lost,
/// but for what two grants take, so no second holds much more than the rate.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Option<u64>,
    /// In bytes; below zero when more went than was allowed for.
    tokens: i64,
    filled: Instant,
}

/// Least rate that a limit may be set to, in bytes per second: below it nothing would move.
pub const RATE_MIN: u64 = 1024;

/// Least bytes to hand out at a time.
pub const GRANT_MIN: usize = crate::machine::RECV_CREDIT_MIN;

impl Bucket {
    /// No limit, or this many bytes per second (at least [`RATE_MIN`]).
    pub fn new(now: Instant, rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate.max(RATE_MIN)), tokens: 0, filled: now }
    }

    /// Changes the limit.
    pub fn set_rate(&mut self, now: Instant, rate: Option<u64>) {
        self.fill(now);
        self.rate = rate.map(|rate| rate.max(RATE_MIN));
        self.tokens = self.tokens.min(self.depth());
    }

    /// The limit in bytes per second, if there is one.
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Lets time pass.
    pub fn fill(&mut self, now: Instant) {
        let Some(rate) = self.rate else {
            self.filled = now;
            return;
        };
        let micros = u128::from(
            u64::try_from(now.saturating_since(self.filled).as_micros()).unwrap_or(u64::MAX),
        );
        let earned = micros * u128::from(rate) / 1_000_000;
        if earned == 0 {
            return;
        }
        // Only the time that whole bytes were earned for is spent.
        let spent = earned * 1_000_000 / u128::from(rate);
        self.filled += Duration::from_micros(u64::try_from(spent).unwrap_or(u64::MAX));
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(self.depth());
    }

    /// Bytes that may go now: zero, or at least [`GRANT_MIN`].
    pub fn available(&self) -> usize {
        if self.rate.is_none() {
            return usize::MAX;
        }
        match usize::try_from(self.tokens) {
            Ok(tokens) if tokens >= GRANT_MIN => tokens,
            _ => 0,
        }
    }

    /// `bytes` went.
    pub fn take(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens = self.tokens.saturating_sub_unsigned(bytes as u64);
        }
    }

    /// `bytes` did not go after all.
    pub fn give_back(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens = self.tokens.saturating_add_unsigned(bytes as u64).min(self.depth());
        }
    }

    /// When bytes may go again, if none may now.
    pub fn next(&self) -> Option<Instant> {
        let rate = self.rate?;
        let missing = 0_i64.saturating_add_unsigned(GRANT_MIN as u64).saturating_sub(self.tokens);
        let missing = u64::try_from(missing).ok().filter(|missing| *missing > 0)?;
        let micros = (u128::from(missing) * 1_000_000).div_ceil(u128::from(rate));
        Some(self.filled + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    fn depth(&self) -> i64 {
        let rate = self.rate.unwrap_or(0);
        i64::try_from((rate / 10).max(2 * GRANT_MIN as u64)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    #[test]
    fn a_steady_stream_is_measured_and_then_forgotten() {
        let mut rate = Rate::new(at(0));
        for step in 0..100 {
            rate.add(at(step * 100), 1_000);
        }
        assert_eq!(rate.bytes_per_s(at(10_000)), 10_000);
        assert!(rate.bytes_per_s(at(15_000)) < 4_000);
        assert!(rate.bytes_per_s(at(60_000)) < 10);
    }

    #[test]
    fn no_second_holds_more_than_the_rate_and_a_tenth() {
        let mut bucket = Bucket::new(at(0), Some(100_000));
        let mut went = std::vec![0_usize; 10];
        for milli in 0..10_000 {
            bucket.fill(at(milli));
            let grant = bucket.available().min(16_384);
            bucket.take(grant);
            went[milli as usize / 1_000] += grant;
        }
        assert!(went.iter().all(|sum| (90_000..=110_000).contains(sum)), "{went:?}");
        let total: usize = went.iter().sum();
        assert!((990_000..=1_010_000).contains(&total), "{total}");
    }

    #[test]
    fn a_dry_bucket_says_when_it_will_grant_again() {
        let mut bucket = Bucket::new(at(0), Some(4_096));
        assert_eq!(bucket.available(), 0);
        let next = bucket.next().expect("dry");
        assert_eq!(next, at(1_000));
        bucket.fill(next);
        assert_eq!(bucket.available(), GRANT_MIN);
        assert_eq!(bucket.next(), None);
        assert_eq!(Bucket::new(at(0), None).available(), usize::MAX);
    }
}
