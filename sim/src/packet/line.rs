//! What befalls single packets on a host's line, beside rate, delay and independent losses.
//!
//! A [`Line`] is what hosts of one kind have in common, and is kept once; a [`Weather`] is one
//! direction of one host's line: its randomness and what it is going through.

use teem_core::rng::Rng;
use teem_core::time::Duration;

use super::MTU;
use super::queue::Queue;

/// How a line treats packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Before the link that sends.
    pub up: Queue,
    /// Before the link that receives.
    pub down: Queue,
    /// The largest packet that gets through, headers included, in bytes.
    pub mtu: u16,
    /// Whether larger packets vanish; otherwise whoever sent one is told the MTU (RFC 1191).
    pub black_hole: bool,
    /// Losses in bursts, each way, on top of [`Access::loss_ppm`](crate::net::Access::loss_ppm).
    pub bursts: Option<Bursts>,
    /// Packets that come twice, each way, in millionths.
    pub duplicate_ppm: u32,
    /// Packets that take a detour, each way, in millionths.
    pub reorder_ppm: u32,
    /// How much longer that is.
    pub reorder_by: Duration,
    /// Packets in which a bit is turned over, each way, in millionths. A segment of TCP is then
    /// dropped for its checksum; a datagram arrives as if its checksum had missed it.
    pub corrupt_ppm: u32,
}

impl Line {
    /// Nothing happens, and packets are as large as on Ethernet.
    pub const CLEAR: Self = Self {
        up: Queue::DEFAULT,
        down: Queue::DEFAULT,
        mtu: MTU,
        black_hole: false,
        bursts: None,
        duplicate_ppm: 0,
        reorder_ppm: 0,
        reorder_by: Duration::ZERO,
        corrupt_ppm: 0,
    };

    /// Whether packets meet nothing but queues.
    pub const fn is_fair(&self) -> bool {
        self.bursts.is_none()
            && self.duplicate_ppm == 0
            && self.reorder_ppm == 0
            && self.corrupt_ppm == 0
    }

    /// The share of packets that are lost in bursts, in millionths.
    pub fn burst_loss_ppm(&self) -> u32 {
        self.bursts.map_or(0, Bursts::loss_ppm)
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::CLEAR
    }
}

/// Losses by the model of Gilbert (1960): from the good state, in which nothing is lost, to the bad
/// one, in which everything is, and back, decided before each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// From good to bad, in millionths: p.
    pub begin_ppm: u32,
    /// From bad to good, in millionths: r. A burst takes 1/r packets in the mean.
    pub end_ppm: u32,
}

impl Bursts {
    /// The share of packets that are lost: p/(p+r), in millionths.
    pub fn loss_ppm(self) -> u32 {
        let (begin, end) = (u64::from(self.begin_ppm), u64::from(self.end_ppm));
        (begin * 1_000_000 / (begin + end).max(1)) as u32
    }
}

/// One direction of a host's line.
#[derive(Clone, Debug)]
pub struct Weather {
    rng: Rng,
    is_bad: bool,
}

/// What befalls a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// It is lost.
    pub is_lost: bool,
    /// It comes twice.
    pub is_doubled: bool,
    /// The bit that is turned over, as a draw from all numbers; none: it arrives as it was.
    pub flipped: Option<u64>,
    /// It takes this much longer.
    pub later: Duration,
}

impl Weather {
    /// Good, with randomness of its own.
    pub const fn new(rng: Rng) -> Self {
        Self { rng, is_bad: false }
    }

    fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.rng.below(1_000_000) < ppm
    }

    /// What befalls the next packet. What is lost is not drawn for anything else.
    pub fn next(&mut self, line: &Line) -> Fate {
        let mut fate = Fate::default();
        if let Some(bursts) = line.bursts {
            let turns = if self.is_bad { bursts.end_ppm } else { bursts.begin_ppm };
            self.is_bad ^= self.happens(turns);
            if self.is_bad {
                fate.is_lost = true;
                return fate;
            }
        }
        fate.is_doubled = self.happens(line.duplicate_ppm);
        if self.happens(line.reorder_ppm) {
            fate.later = line.reorder_by;
        }
        if self.happens(line.corrupt_ppm) {
            fate.flipped = Some(self.rng.next_u64());
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    fn fates(line: &Line, packets: usize) -> Vec<Fate> {
        let mut weather = Weather::new(Seed::from_number(4).stream("weather", 0));
        (0..packets).map(|_| weather.next(line)).collect()
    }

    /// Whether a count is within 99.9 % of a binomial distribution.
    fn is_likely(found: usize, of: usize, share: f64) -> bool {
        let sigma = (of as f64 * share * (1.0 - share)).sqrt();
        (found as f64 - of as f64 * share).abs() < 3.3 * sigma
    }

    #[test]
    fn bursts_lose_as_much_as_gilbert_says_and_are_as_long() {
        for (begin_ppm, end_ppm) in [(10_000, 250_000), (2_000, 100_000), (50_000, 500_000)] {
            let bursts = Bursts { begin_ppm, end_ppm };
            let line = Line { bursts: Some(bursts), ..Line::CLEAR };
            let fates = fates(&line, 1_000_000);
            let lost = fates.iter().filter(|fate| fate.is_lost).count() as f64;
            let (p, r) = (f64::from(begin_ppm) / 1e6, f64::from(end_ppm) / 1e6);
            let expected = p / (p + r);
            assert!((f64::from(line.burst_loss_ppm()) / 1e6 / expected - 1.0).abs() < 0.001);
            assert!((lost / 1e6 / expected - 1.0).abs() < 0.05, "{lost} {expected}");
            let begun = fates.windows(2).filter(|pair| !pair[0].is_lost && pair[1].is_lost).count();
            let length = lost / begun as f64;
            assert!((length * r - 1.0).abs() < 0.05, "{length} and not {}", 1.0 / r);
        }
    }

    #[test]
    fn copies_detours_and_damage_are_as_frequent_as_they_should_be() {
        let line = Line {
            duplicate_ppm: 20_000,
            reorder_ppm: 50_000,
            reorder_by: Duration::from_millis(3),
            corrupt_ppm: 1_000,
            ..Line::CLEAR
        };
        let fates = fates(&line, 200_000);
        let count = |of: fn(&Fate) -> bool| fates.iter().filter(|fate| of(fate)).count();
        assert!(is_likely(count(|fate| fate.is_doubled), 200_000, 0.02));
        assert!(is_likely(count(|fate| fate.later.as_millis() == 3), 200_000, 0.05));
        assert!(is_likely(count(|fate| fate.flipped.is_some()), 200_000, 0.001));
        assert_eq!(count(|fate| fate.is_lost), 0);
    }

    #[test]
    fn a_clear_line_does_nothing_and_draws_nothing() {
        assert!(fates(&Line::CLEAR, 1_000).iter().all(|fate| *fate == Fate::default()));
        let mut weather = Weather::new(Seed::from_number(4).stream("weather", 0));
        weather.next(&Line::CLEAR);
        let mut fresh = Seed::from_number(4).stream("weather", 0);
        assert_eq!(weather.rng.next_u64(), fresh.next_u64());
    }
}
