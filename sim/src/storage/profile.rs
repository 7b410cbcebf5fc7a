//! How long a disk takes for what.

use teem_core::rng::Rng;

use super::counts::JobKind;

/// What one kind of job costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Least time before the first byte, in nanoseconds.
    pub latency_min_ns: u64,
    /// Most time before the first byte; drawn evenly from the least to this. The same as the least
    /// (or less): nothing is drawn.
    pub latency_max_ns: u64,
    /// Bytes per second after that; zero: the number of bytes costs nothing.
    pub bytes_per_s: u64,
}

impl Cost {
    /// No time at all.
    pub const NOTHING: Self = Self::micros(0, 0, 0);

    /// From so many to so many microseconds, and a rate.
    pub const fn micros(min: u64, max: u64, bytes_per_s: u64) -> Self {
        Self { latency_min_ns: min * 1_000, latency_max_ns: max * 1_000, bytes_per_s }
    }

    /// Nanoseconds that a job of so many bytes takes.
    fn draw(self, bytes: u64, rng: &mut Rng) -> u64 {
        let width = self.latency_max_ns.saturating_sub(self.latency_min_ns);
        let drawn = if width == 0 {
            0
        } else {
            // A product of 64 and 128 bits keeps it even for any width.
            ((u128::from(rng.next_u64()) * (u128::from(width) + 1)) >> 64) as u64
        };
        let moved = (u128::from(bytes) * 1_000_000_000).checked_div(u128::from(self.bytes_per_s));
        let moved = u64::try_from(moved.unwrap_or(0)).unwrap_or(u64::MAX);
        self.latency_min_ns.saturating_add(drawn).saturating_add(moved)
    }
}

/// How a disk behaves in time.
///
/// It has some hands. A job occupies one of them for as long as it takes; only fences and hashes of
/// bytes in memory need none. Jobs wait for a hand in the order they were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    costs: [Cost; JobKind::COUNT],
    /// How many jobs are worked on at a time; never zero.
    hands: u16,
    /// Whether jobs complete when they are done, and overtake others where the rules allow it;
    /// else they complete in the order in which they were taken.
    reorders: bool,
}

impl Profile {
    /// Everything completes at once and in order, and nothing is drawn: for runs that are not about
    /// disks.
    pub const INSTANT: Self = Self::new(u16::MAX, false);

    /// A solid-state disk behind a page cache: tens of microseconds, eight jobs at a time.
    pub const SSD: Self = Self::new(8, true)
        .with(JobKind::Read, Cost::micros(60, 120, 2_000_000_000))
        .with(JobKind::Write, Cost::micros(20, 60, 1_000_000_000))
        .with(JobKind::Hash, Cost::micros(0, 0, 1_500_000_000))
        .with(JobKind::Open, Cost::micros(100, 400, 0))
        .with(JobKind::Flush, Cost::micros(500, 3_000, 0))
        .with(JobKind::Check, Cost::micros(20, 100, 0))
        .with(JobKind::Move, Cost::micros(200, 1_000, 0))
        .with(JobKind::Delete, Cost::micros(200, 1_000, 0))
        .with(JobKind::Close, Cost::micros(20, 100, 0))
        .with(JobKind::Save, Cost::micros(1_000, 5_000, 500_000_000));

    /// A spinning disk: about 10 ms of seeking for each job, one at a time.
    pub const HDD: Self = Self::new(1, true)
        .with(JobKind::Read, Cost::micros(4_000, 16_000, 150_000_000))
        .with(JobKind::Write, Cost::micros(4_000, 16_000, 150_000_000))
        .with(JobKind::Hash, Cost::micros(0, 0, 500_000_000))
        .with(JobKind::Open, Cost::micros(10_000, 40_000, 0))
        .with(JobKind::Flush, Cost::micros(20_000, 60_000, 0))
        .with(JobKind::Check, Cost::micros(4_000, 16_000, 0))
        .with(JobKind::Move, Cost::micros(20_000, 60_000, 0))
        .with(JobKind::Delete, Cost::micros(20_000, 60_000, 0))
        .with(JobKind::Close, Cost::micros(4_000, 16_000, 0))
        .with(JobKind::Save, Cost::micros(30_000, 90_000, 100_000_000));

    /// Storage that is hardly there, such as a network share over a bad link: each job up to a
    /// fifth of a second, 2 MB/s, two at a time.
    pub const SLOW: Self = Self::new(2, true)
        .with(JobKind::Read, Cost::micros(50_000, 200_000, 2_000_000))
        .with(JobKind::Write, Cost::micros(50_000, 200_000, 2_000_000))
        .with(JobKind::Hash, Cost::micros(100, 1_000, 50_000_000))
        .with(JobKind::Open, Cost::micros(100_000, 1_000_000, 0))
        .with(JobKind::Flush, Cost::micros(200_000, 2_000_000, 0))
        .with(JobKind::Check, Cost::micros(50_000, 200_000, 0))
        .with(JobKind::Move, Cost::micros(200_000, 2_000_000, 0))
        .with(JobKind::Delete, Cost::micros(200_000, 2_000_000, 0))
        .with(JobKind::Close, Cost::micros(50_000, 200_000, 0))
        .with(JobKind::Save, Cost::micros(200_000, 2_000_000, 2_000_000));

    /// Nothing takes time; that many jobs at a time (at least one), and whether they overtake one
    /// another.
    pub const fn new(hands: u16, reorders: bool) -> Self {
        let hands = if hands == 0 { 1 } else { hands };
        Self { costs: [Cost::NOTHING; JobKind::COUNT], hands, reorders }
    }

    /// The same with another cost for one kind. A hash from storage costs a read as well.
    #[must_use]
    pub const fn with(mut self, kind: JobKind, cost: Cost) -> Self {
        self.costs[kind as usize] = cost;
        self
    }

    /// What a kind of job costs.
    pub const fn cost(&self, kind: JobKind) -> Cost {
        self.costs[kind as usize]
    }

    /// How many jobs are worked on at a time.
    pub const fn hands(&self) -> u16 {
        self.hands
    }

    /// Whether jobs overtake one another.
    pub const fn reorders(&self) -> bool {
        self.reorders
    }

    /// Nanoseconds that a job takes once it has a hand.
    pub(super) fn draw(&self, kind: JobKind, stored: bool, bytes: u64, rng: &mut Rng) -> u64 {
        let own = self.cost(kind).draw(bytes, rng);
        if kind == JobKind::Hash && stored {
            return own.saturating_add(self.cost(JobKind::Read).draw(bytes, rng));
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    #[test]
    fn a_latency_reaches_both_ends_of_its_range_and_no_further() {
        let mut rng = Seed::from_number(1).stream("disk", 0);
        let cost = Cost { latency_min_ns: 5, latency_max_ns: 8, bytes_per_s: 0 };
        let drawn: Vec<u64> = (0..200).map(|_| cost.draw(1 << 30, &mut rng)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&5), Some(&8)));
    }

    #[test]
    fn bytes_take_their_time_and_a_hash_from_storage_reads_first() {
        let mut rng = Seed::from_number(1).stream("disk", 0);
        let before = rng.clone();
        let profile = Profile::new(0, false)
            .with(JobKind::Read, Cost::micros(10, 10, 1_000_000))
            .with(JobKind::Hash, Cost::micros(1, 0, 0));
        assert_eq!(profile.hands(), 1);
        assert_eq!(profile.draw(JobKind::Read, true, 500, &mut rng), 10_000 + 500_000);
        assert_eq!(profile.draw(JobKind::Hash, true, 500, &mut rng), 1_000 + 510_000);
        assert_eq!(profile.draw(JobKind::Hash, false, 500, &mut rng), 1_000);
        assert_eq!(Profile::INSTANT.draw(JobKind::Save, false, 1 << 40, &mut rng), 0);
        assert_eq!(rng, before, "nothing was drawn");
    }
}
