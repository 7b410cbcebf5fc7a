//! How hosts are attached, and what lies between them.
//!
//! There is nothing per pair of hosts: the way from one to another follows from how each is
//! attached, from their regions, and from the partitions that are in force.

use teem_core::rng::{Rng, Seed};
use teem_core::time::Duration;

use super::HostId;
use super::spread::{Curve, CurveId, Spread};
use crate::packet::line::Line;

/// How a host is attached to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Bytes per second that it can send; none: any number. `message` fidelity ignores it.
    pub up_bytes_per_s: Option<u64>,
    /// Bytes per second that it can receive; none: any number. `message` fidelity ignores it.
    pub down_bytes_per_s: Option<u64>,
    /// From the host to its region and back, each.
    pub latency: Spread,
    /// Losses each way, in millionths. Datagrams are lost; what a stream loses is sent again, and
    /// comes later (`message`) or slows it down (`flow`).
    pub loss_ppm: u32,
    /// Which region it is in; see [`Topology::set_distance`].
    pub region: u16,
    /// How its line treats packets, in `packet` fidelity; see [`Topology::add_line`].
    pub line: LineId,
    /// The groups that it is in, a bit each; see [`Topology::cut`].
    pub groups: u64,
}

/// Which [`Line`] of a network. The first is [`Line::CLEAR`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineId(pub u16);

impl Access {
    /// Without limits, at no distance.
    pub const PERFECT: Self = Self {
        up_bytes_per_s: None,
        down_bytes_per_s: None,
        latency: Spread::ZERO,
        loss_ppm: 0,
        region: 0,
        line: LineId(0),
        groups: 0,
    };
}

impl Default for Access {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// What lies between hosts.
#[derive(Debug)]
pub struct Topology {
    seed: Seed,
    between: Duration,
    /// Further distances, by the smaller and the larger region.
    distances: Vec<((u16, u16), Duration)>,
    cuts: Vec<(u64, u64)>,
    curves: Vec<Curve>,
    lines: Vec<Line>,
    attached: Vec<(Access, Rng)>,
}

impl Topology {
    pub(super) fn new(seed: Seed, between: Duration) -> Self {
        Self {
            seed,
            between,
            distances: Vec::new(),
            cuts: Vec::new(),
            curves: Vec::new(),
            lines: vec![Line::CLEAR],
            attached: Vec::new(),
        }
    }

    pub(super) fn attach(&mut self, access: Access) {
        let rng = self.seed.stream("link", self.attached.len() as u64);
        self.attached.push((access, rng));
    }

    /// What lines of one kind have in common, for [`Access::line`] of any host of this network. A
    /// line that is there already keeps its number.
    ///
    /// # Panics
    /// With more than 65,536 of them.
    pub fn add_line(&mut self, line: Line) -> LineId {
        let known = self.lines.iter().position(|known| *known == line);
        let place = known.unwrap_or_else(|| {
            self.lines.push(line);
            self.lines.len() - 1
        });
        LineId(u16::try_from(place).expect("not so many kinds of lines"))
    }

    /// What lines of that kind have in common.
    pub fn line(&self, id: LineId) -> &Line {
        &self.lines[usize::from(id.0)]
    }

    pub(super) fn line_of(&self, host: HostId) -> &Line {
        self.line(self.access(host).line)
    }

    /// How a host is attached.
    pub fn access(&self, host: HostId) -> &Access {
        &self.attached[host].0
    }

    pub(super) fn access_mut(&mut self, host: HostId) -> &mut Access {
        &mut self.attached[host].0
    }

    /// A measured distribution, for [`Spread::Empirical`] of any host of this network.
    ///
    /// # Panics
    /// With more than 65,536 of them.
    pub fn add_curve(&mut self, curve: Curve) -> CurveId {
        let id = u16::try_from(self.curves.len()).expect("not so many measurements");
        self.curves.push(curve);
        CurveId(id)
    }

    /// How far apart two regions are, one way, on top of what lies between all hosts. Within a
    /// region and where nothing is said it is nothing.
    pub fn set_distance(&mut self, one: u16, other: u16, distance: Duration) {
        let pair = (one.min(other), one.max(other));
        match self.distances.binary_search_by_key(&pair, |(pair, _)| *pair) {
            Ok(at) => self.distances[at].1 = distance,
            Err(at) => self.distances.insert(at, (pair, distance)),
        }
    }

    /// From now on nothing gets from the one group to the other; the way back is another matter.
    /// Groups are bits of [`Access::groups`].
    pub(super) fn cut(&mut self, from: u64, to: u64) {
        if !self.cuts.contains(&(from, to)) {
            self.cuts.push((from, to));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing gets from one host to another now.
    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        if self.cuts.is_empty() {
            return false;
        }
        let (from, to) = (self.access(from).groups, self.access(to).groups);
        self.cuts.iter().any(|cut| cut.0 & from != 0 && cut.1 & to != 0)
    }

    /// One draw of the time from one host to another, from the sender's randomness.
    pub(super) fn delay(&mut self, from: HostId, to: HostId) -> Duration {
        let (there, region) = (self.access(to).latency, self.access(to).region);
        let (access, rng) = &mut self.attached[from];
        let pair = (access.region.min(region), access.region.max(region));
        let delay =
            self.between + access.latency.draw(rng, &self.curves) + there.draw(rng, &self.curves);
        match self.distances.binary_search_by_key(&pair, |(pair, _)| *pair) {
            Ok(at) => delay + self.distances[at].1,
            Err(_) => delay,
        }
    }

    /// How many millionths are lost from one host to another, in bursts or not.
    pub(super) fn loss_ppm(&self, from: HostId, to: HostId) -> u32 {
        let bursts = [from, to].map(|host| self.line_of(host).burst_loss_ppm());
        let alone = self.lone_loss_ppm(from, to);
        bursts.into_iter().fold(alone, either)
    }

    /// The same without bursts.
    fn lone_loss_ppm(&self, from: HostId, to: HostId) -> u32 {
        either(self.access(from).loss_ppm, self.access(to).loss_ppm)
    }

    /// Draws whether something is lost from one host to another, where bursts are not followed.
    pub(super) fn is_lost(&mut self, from: HostId, to: HostId) -> bool {
        let loss = self.loss_ppm(from, to);
        loss > 0 && self.attached[from].1.below(1_000_000) < loss
    }

    /// Draws whether something is lost by itself from one host to another.
    pub(super) fn is_lost_alone(&mut self, from: HostId, to: HostId) -> bool {
        let loss = self.lone_loss_ppm(from, to);
        loss > 0 && self.attached[from].1.below(1_000_000) < loss
    }

    /// Time to send and receive so many bytes at full speed, with nobody else about.
    pub(super) fn serialization(&self, from: HostId, to: HostId, bytes: usize) -> Duration {
        let up = self.access(from).up_bytes_per_s;
        let down = self.access(to).down_bytes_per_s;
        let Some(rate) = up.into_iter().chain(down).min() else { return Duration::ZERO };
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The most that a stream gets in bytes per second because of losses, by the formula of Mathis,
    /// Semke, Mahdavi and Ott (1997); none: nothing is lost.
    pub(super) fn loss_cap(&self, from: HostId, to: HostId, round_trip: Duration) -> Option<u64> {
        /// Payload of a full segment, in bytes.
        const MSS: u128 = 1448;
        let loss = u128::from(self.loss_ppm(from, to));
        if loss == 0 {
            return None;
        }
        // 1.22 * MSS / (round trip * sqrt(loss)), with the loss in millionths.
        let root = (loss * 1_000_000).isqrt();
        let micros = round_trip.as_micros().max(1_000);
        let rate = MSS * 1_220_000 * 1_000_000 / (micros * root).max(1);
        Some(u64::try_from(rate).unwrap_or(u64::MAX).max(MSS as u64))
    }
}

/// How likely one of two things is that have nothing to do with each other, in millionths.
fn either(one: u32, other: u32) -> u32 {
    let both = (u64::from(one) * u64::from(other) / 1_000_000) as u32;
    one.saturating_add(other).saturating_sub(both).min(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(access: &[Access]) -> Topology {
        let mut topology = Topology::new(Seed::from_number(1), Duration::from_millis(10));
        for access in access {
            topology.attach(*access);
        }
        topology
    }

    #[test]
    fn a_distance_is_made_of_both_ends_and_their_regions() {
        let at = |region, millis| Access {
            region,
            latency: Spread::Constant(Duration::from_millis(millis)),
            ..Access::PERFECT
        };
        let mut topology = topology(&[at(0, 1), at(1, 2), at(0, 4)]);
        topology.set_distance(1, 0, Duration::from_millis(40));
        assert_eq!(topology.delay(0, 1), Duration::from_millis(53));
        assert_eq!(topology.delay(1, 0), Duration::from_millis(53));
        assert_eq!(topology.delay(0, 2), Duration::from_millis(15));
    }

    #[test]
    fn a_cut_is_one_way_and_between_groups() {
        let in_groups = |groups| Access { groups, ..Access::PERFECT };
        let mut topology = topology(&[in_groups(1), in_groups(2), in_groups(3)]);
        topology.cut(1, 2);
        assert!(topology.is_cut(0, 1) && !topology.is_cut(1, 0));
        assert!(topology.is_cut(0, 2) && topology.is_cut(2, 1));
        topology.heal();
        assert!(!topology.is_cut(0, 1));
    }

    #[test]
    fn losses_slow_a_stream_down_as_mathis_says() {
        let lossy = |loss_ppm| Access { loss_ppm, ..Access::PERFECT };
        // MSS 1448, round trip 100 ms: megabits per second.
        for (loss_ppm, expected) in
            [(100, 14_100), (1_000, 4_470), (10_000, 1_410), (20_000, 1_000)]
        {
            let topology = topology(&[lossy(loss_ppm), Access::PERFECT]);
            let cap = topology.loss_cap(0, 1, Duration::from_millis(100)).expect("a cap");
            let kilobits = cap * 8 / 1000;
            assert!(kilobits.abs_diff(expected) * 100 <= expected * 2, "{loss_ppm}: {kilobits}");
        }
        assert_eq!(topology(&[lossy(0); 2]).loss_cap(0, 1, Duration::from_millis(100)), None);
    }

    #[test]
    fn losses_are_as_many_as_they_should_be() {
        let mut topology = topology(&[Access { loss_ppm: 20_000, ..Access::PERFECT }; 2]);
        assert_eq!(topology.loss_ppm(0, 1), 39_600);
        let lost = (0..100_000).filter(|_| topology.is_lost(0, 1)).count();
        // Within 99.9 % of a binomial distribution.
        let sigma = (100_000.0 * 0.0396 * 0.9604_f64).sqrt();
        assert!((lost as f64 - 3_960.0).abs() < 3.3 * sigma, "{lost}");
    }
}
