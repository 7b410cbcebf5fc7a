//! A backlog that drains at a rate that changes: how much has left, and when the rest will.
//!
//! Owns the arithmetic between two changes of a rate, in whole bytes, whole nanoseconds and the
//! byte-nanoseconds left over, so that nothing drifts however often the rate changes. It refuses to
//! know what the bytes are, where they go and why the rate is what it is: [`super::Flows`] says the
//! rate, the caller keeps the queue.

use super::UNLIMITED;
use crate::time::Nanos;

/// Nanoseconds in a second: a rate of 1 byte per second moves 1 byte in this many.
const SECOND: u64 = 1_000_000_000;

/// One direction of one stream: the bytes ever queued, and those that have left.
///
/// Both count from the beginning of the stream, so a block's last byte keeps its number however
/// the rate changes, and the moment it leaves is [`Progress::when`] of that number.
///
/// - What was left at a time is a function of pushes and rates alone, not of how often anybody asked.
/// - Over any time `t` at a rate `r`, at most `r * t + 1` bytes leave.
/// - Time that passes with nothing queued earns nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Progress {
    queued: u64,
    sent: u64,
    at: Nanos,
    rate: u64,
    /// Byte-nanoseconds earned towards the next byte: below [`SECOND`].
    remainder: u32,
}

impl Progress {
    /// Nothing queued, nothing left, rate zero.
    pub const fn new(now: Nanos) -> Self {
        Self { queued: 0, sent: 0, at: now, rate: 0, remainder: 0 }
    }

    /// Bytes that had left when time last moved here: see [`Progress::advance`].
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes ever queued.
    pub const fn queued(&self) -> u64 {
        self.queued
    }

    /// Bytes that had not left when time last moved here.
    pub const fn backlog(&self) -> u64 {
        self.queued - self.sent
    }

    /// Bytes per second, since the last [`Progress::set_rate`].
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Moves time to `now` and says how many bytes have left by then, in all. An earlier `now` than
    /// the last changes nothing.
    pub fn advance(&mut self, now: Nanos) -> u64 {
        let elapsed = now.0.saturating_sub(self.at.0);
        self.at = self.at.max(now);
        let backlog = self.queued - self.sent;
        if backlog == 0 {
            return self.sent;
        }
        if self.rate == UNLIMITED {
            self.sent = self.queued;
            self.remainder = 0;
            return self.sent;
        }
        let earned = u128::from(self.rate) * u128::from(elapsed) + u128::from(self.remainder);
        // Nearly always the 64-bit division, which is several times as fast.
        let (bytes, remainder) = if let Ok(earned) = u64::try_from(earned) {
            (u128::from(earned / SECOND), earned % SECOND)
        } else {
            (earned / u128::from(SECOND), (earned % u128::from(SECOND)) as u64)
        };
        if bytes >= u128::from(backlog) {
            self.sent = self.queued;
            self.remainder = 0;
        } else {
            self.sent += bytes as u64;
            self.remainder = remainder as u32;
        }
        self.sent
    }

    /// Queues `bytes` more behind what is there.
    pub fn push(&mut self, now: Nanos, bytes: u64) {
        self.advance(now);
        self.queued = self.queued.checked_add(bytes).expect("a stream is shorter than 2^64 bytes");
    }

    /// From `now` on, bytes leave at `rate` bytes per second: zero stalls, [`UNLIMITED`] empties the
    /// backlog at once.
    pub fn set_rate(&mut self, now: Nanos, rate: u64) {
        self.advance(now);
        self.rate = rate;
    }

    /// Forgets what is queued and has not left by `now` (a stream that was reset), and says how many
    /// bytes that was.
    pub fn abandon(&mut self, now: Nanos) -> u64 {
        let lost = self.queued - self.advance(now);
        self.queued = self.sent;
        self.remainder = 0;
        lost
    }

    /// The earliest nanosecond at which `bytes` bytes in all have left, if the rate stays: the time
    /// of the last change if they had left by then, [`Nanos::NEVER`] if that many are not queued or
    /// the rate is zero.
    pub fn when(&self, bytes: u64) -> Nanos {
        if bytes <= self.sent {
            return self.at;
        }
        if bytes > self.queued || self.rate == 0 {
            return Nanos::NEVER;
        }
        if self.rate == UNLIMITED {
            return self.at;
        }
        let needed = u128::from(bytes - self.sent) * u128::from(SECOND);
        let needed = needed - u128::from(self.remainder);
        let wait = match u64::try_from(needed) {
            Ok(needed) => needed.div_ceil(self.rate),
            Err(_) => u64::try_from(needed.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX),
        };
        Nanos(self.at.0.saturating_add(wait))
    }

    /// When the backlog is empty, if the rate stays: see [`Progress::when`].
    pub fn done(&self) -> Nanos {
        self.when(self.queued)
    }
}

const _: () = assert!(size_of::<Progress>() <= 40, "one per active direction");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(rate: u64, bytes: u64) -> Progress {
        let mut progress = Progress::new(Nanos(7));
        progress.set_rate(Nanos(7), rate);
        progress.push(Nanos(7), bytes);
        progress
    }

    #[test]
    fn a_block_arrives_after_its_size_over_the_rate() {
        assert_eq!(at(1_000_000, 16_384).done(), Nanos(7 + 16_384_000));
        assert_eq!(at(16_384, 16_384).done(), Nanos(7 + 1_000_000_000));
        assert_eq!(at(3, 1).done(), Nanos(7 + 333_333_334), "rounded up to the nanosecond");
        assert_eq!(at(12_500_000_000, 25).done(), Nanos(7 + 2), "more than a byte a nanosecond");
    }

    #[test]
    fn blocks_back_to_back_are_spaced_by_their_size_over_the_rate() {
        let mut progress = at(3_000, 0);
        for block in 1..=900_u64 {
            progress.push(Nanos(7), 1);
            assert_eq!(progress.when(block), Nanos(7 + (block * SECOND).div_ceil(3_000)));
        }
        let mut stepped = progress;
        for block in 1..=900 {
            assert_eq!(stepped.advance(progress.when(block)), block, "and by then it has left");
            assert_eq!(stepped.done(), progress.done(), "asking on the way changes nothing");
        }
    }

    #[test]
    fn a_rate_of_zero_stalls_and_an_unlimited_one_does_not_wait() {
        let mut progress = at(0, 10);
        assert_eq!(progress.done(), Nanos::NEVER);
        assert_eq!(progress.advance(Nanos(1 << 60)), 0);
        progress.set_rate(Nanos(1 << 60), UNLIMITED);
        assert_eq!(progress.done(), Nanos(1 << 60));
        assert_eq!(progress.advance(Nanos(1 << 60)), 10);
        assert_eq!(progress.backlog(), 0);
    }

    #[test]
    fn idle_time_earns_nothing() {
        let mut progress = at(1_000, 10);
        assert_eq!(progress.advance(Nanos(60 * SECOND)), 10);
        progress.push(Nanos(60 * SECOND), 1);
        assert_eq!(progress.when(11), Nanos(60 * SECOND + SECOND / 1_000));
        assert_eq!(progress.when(12), Nanos::NEVER, "nobody queued it");
        assert_eq!(progress.when(3), Nanos(60 * SECOND), "gone before");
    }

    #[test]
    fn what_is_abandoned_never_leaves() {
        let mut progress = at(1_000, 10);
        let now = Nanos(7 + SECOND / 250);
        assert_eq!(progress.abandon(now), 6);
        assert_eq!((progress.sent(), progress.queued(), progress.done()), (4, 4, now));
    }

    #[test]
    fn time_that_runs_backwards_is_ignored() {
        let mut progress = at(1_000, 10);
        progress.advance(Nanos(SECOND));
        let before = progress;
        progress.advance(Nanos(5));
        assert_eq!(progress, before);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut progress = at(UNLIMITED - 1, u64::MAX);
        assert_eq!(progress.done(), Nanos(7 + SECOND + 1));
        assert_eq!(progress.advance(Nanos(u64::MAX)), u64::MAX);
        assert_eq!(at(1, u64::MAX).done(), Nanos::NEVER);
    }

    proptest! {
        #[test]
        fn many_changes_of_rate_lose_no_byte(
            steps in prop::collection::vec((0..5_000_000_000_u64, 0..3_000_000_000_u64), 1..200),
        ) {
            let mut progress = Progress::new(Nanos::ZERO);
            progress.push(Nanos::ZERO, u64::MAX);
            let (mut now, mut exact) = (0, 0_u128);
            for (rate, time) in steps {
                progress.set_rate(Nanos(now), rate);
                now += time;
                exact += u128::from(rate) * u128::from(time);
                let sent = progress.advance(Nanos(now));
                prop_assert_eq!(u128::from(sent), exact / u128::from(SECOND));
            }
        }

        #[test]
        fn when_is_the_first_nanosecond_at_which_the_bytes_have_left(
            rate in 1..20_000_000_000_u64, warm in 0..100_000_u64, bytes in 1..100_000_000_u64,
        ) {
            let mut progress = at(rate, 200_000_000);
            progress.advance(Nanos(7 + warm));
            let bytes = progress.sent() + bytes;
            prop_assume!(bytes <= progress.queued());
            let when = progress.when(bytes);
            prop_assert!(progress.clone().advance(when) >= bytes);
            prop_assert!(progress.clone().advance(Nanos(when.0 - 1)) < bytes);
        }

        #[test]
        fn no_window_carries_more_than_the_rate_allows(
            rate in 0..3_000_000_000_u64, asks in prop::collection::vec(0..2_000_000_000_u64, 2..50),
        ) {
            let mut progress = at(rate, u64::MAX);
            let (mut now, mut seen) = (7, vec![]);
            for ask in asks {
                now += ask;
                seen.push((now, progress.advance(Nanos(now))));
            }
            for (index, &(from, before)) in seen.iter().enumerate() {
                for &(to, after) in &seen[index..] {
                    let most = u128::from(rate) * u128::from(to - from) / u128::from(SECOND) + 1;
                    prop_assert!(u128::from(after - before) <= most);
                }
            }
        }
    }
}
