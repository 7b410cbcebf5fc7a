//! A link: packets leave it one after the other at its rate, and those that cannot leave yet wait.
//!
//! With tail drop, the time at which a packet leaves is known when it comes, so that nothing has to
//! be scheduled for it ([`Offered::Leaves`]). `CoDel` (RFC 8289) looks at packets as they leave, and
//! so does whoever drives it: [`Offered::Waits`], [`Link::wake_at`], [`Link::wake`].

use std::collections::VecDeque;

use teem_core::time::Duration;

use super::MTU;
use crate::time::Nanos;

/// How packets wait before a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Bytes that may wait or be on the wire; none: what the link carries in [`BUFFER`], at least
    /// [`BUFFER_MIN`]. A packet for which there is no room is dropped.
    pub limit_bytes: Option<u64>,
    /// Who is dropped beyond that.
    pub discipline: Discipline,
}

/// How much a link buffers where nothing else is said, in time at its rate.
pub const BUFFER: Duration = Duration::from_millis(200);

/// How much a link buffers at least where nothing else is said, in bytes.
pub const BUFFER_MIN: u64 = 32 * 1024;

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// Those for which there is no room.
    #[default]
    TailDrop,
    /// Also those at the head while all have waited too long: RFC 8289.
    CoDel(CoDel),
}

/// The parameters of `CoDel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoDel {
    /// How long packets may wait.
    pub target: Duration,
    /// For how long they may wait longer.
    pub interval: Duration,
}

impl CoDel {
    /// As RFC 8289 has it: 5 ms and 100 ms.
    pub const DEFAULT: Self =
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100) };
}

impl Queue {
    /// Tail drop, with room for [`BUFFER`].
    pub const DEFAULT: Self = Self { limit_bytes: None, discipline: Discipline::TailDrop };

    /// Tail drop, with room for so many bytes.
    pub const fn bytes(limit: u64) -> Self {
        Self { limit_bytes: Some(limit), discipline: Discipline::TailDrop }
    }
}

/// What became of a packet that was offered to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It has left when its last bit has, which is then.
    Leaves(Nanos),
    /// It waits: [`Link::wake`] tells when it leaves, or that it was dropped.
    Waits,
    /// There is no room for it.
    Dropped,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Link {
    rate_bytes_per_s: Option<u64>,
    queue: Queue,
    /// How long it takes to send all that may wait.
    room: u64,
    /// When all that left or will leave for certain has left.
    free_at: Nanos,
    /// Packets whose fate is open, in order.
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    codel: State,
    dropped: u64,
    sent_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    packet: u32,
    bytes: u32,
    since: Nanos,
}

/// Of `CoDel`, under the names of RFC 8289.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    first_above_time: Option<Nanos>,
    drop_next: Nanos,
    count: u32,
    last_count: u32,
    dropping: bool,
}

impl Link {
    /// A link of that many bytes per second, none: any number, with a queue before it.
    pub fn new(rate_bytes_per_s: Option<u64>, queue: Queue) -> Self {
        let mut link = Self {
            rate_bytes_per_s,
            queue,
            room: 0,
            free_at: Nanos::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            codel: State::default(),
            dropped: 0,
            sent_bytes: 0,
        };
        link.room = link.takes(link.limit());
        link
    }

    /// Bytes that may wait.
    fn limit(&self) -> u64 {
        let rate = self.rate_bytes_per_s.unwrap_or(u64::MAX);
        let usual = || (u128::from(rate) * BUFFER.as_nanos() / 1_000_000_000) as u64;
        self.queue.limit_bytes.unwrap_or_else(|| usual().max(BUFFER_MIN))
    }

    /// Nanoseconds in which so many bytes leave.
    fn takes(&self, bytes: u64) -> u64 {
        let Some(rate) = self.rate_bytes_per_s else { return 0 };
        let rate = rate.max(1);
        if let Some(product) = bytes.checked_mul(1_000_000_000) {
            return product.div_ceil(rate);
        }
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Another rate from now on. Packets whose time was told keep it, and what comes later waits
    /// for as many bytes as were left.
    pub fn set_rate(&mut self, now: Nanos, rate_bytes_per_s: Option<u64>) {
        let left = self.backlog(now) - self.waiting_bytes;
        self.rate_bytes_per_s = rate_bytes_per_s;
        self.room = self.takes(self.limit());
        self.free_at = now + Duration::from_nanos(self.takes(left));
    }

    /// Bytes that wait or are on the wire.
    pub fn backlog(&self, now: Nanos) -> u64 {
        let Some(rate) = self.rate_bytes_per_s else { return 0 };
        let left = self.free_at.since(now).as_nanos() * u128::from(rate) / 1_000_000_000;
        left as u64 + self.waiting_bytes
    }

    /// Whether it has a rate: one that has none lets everything pass at once.
    pub const fn is_limited(&self) -> bool {
        self.rate_bytes_per_s.is_some()
    }

    /// Packets that were dropped.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes that left, or will for certain.
    pub const fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// A packet of so many bytes comes. `packet` names it where it has to wait.
    pub fn offer(&mut self, now: Nanos, packet: u32, bytes: u32) -> Offered {
        if self.rate_bytes_per_s.is_none() {
            self.sent_bytes += u64::from(bytes);
            return Offered::Leaves(now);
        }
        let takes = self.takes(u64::from(bytes));
        let starts = self.free_at.max(now);
        let waits = starts.0 - now.0;
        match self.queue.discipline {
            Discipline::TailDrop => {
                if waits + takes > self.room {
                    self.dropped += 1;
                    return Offered::Dropped;
                }
            }
            Discipline::CoDel(_) if waits == 0 && self.waiting.is_empty() => {
                // Nothing waits, so nothing has waited too long.
                self.codel.first_above_time = None;
                self.codel.dropping = false;
            }
            Discipline::CoDel(_) => {
                if self.backlog(now) + u64::from(bytes) > self.limit() {
                    self.dropped += 1;
                    return Offered::Dropped;
                }
                self.waiting.push_back(Waiting { packet, bytes, since: now });
                self.waiting_bytes += u64::from(bytes);
                return Offered::Waits;
            }
        }
        self.free_at = Nanos(starts.0 + takes);
        self.sent_bytes += u64::from(bytes);
        Offered::Leaves(self.free_at)
    }

    /// When [`wake`](Self::wake) has something to say; none: nothing waits.
    pub fn wake_at(&self) -> Option<Nanos> {
        (!self.waiting.is_empty()).then_some(self.free_at)
    }

    /// The next packet that waited leaves: it, and when its last bit has left. Packets that were
    /// dropped meanwhile go to `dropped`. To be called at [`wake_at`](Self::wake_at).
    pub fn wake(&mut self, now: Nanos, dropped: &mut Vec<u32>) -> Option<(u32, Nanos)> {
        let Discipline::CoDel(codel) = self.queue.discipline else { return None };
        if now < self.free_at {
            return None;
        }
        let next = self.dequeue(now, codel, dropped)?;
        self.free_at = now + Duration::from_nanos(self.takes(u64::from(next.bytes)));
        self.sent_bytes += u64::from(next.bytes);
        Some((next.packet, self.free_at))
    }

    /// RFC 8289, section 5.5.
    fn dequeue(&mut self, now: Nanos, codel: CoDel, dropped: &mut Vec<u32>) -> Option<Waiting> {
        let (mut next, mut late) = self.pull(now, codel);
        if self.codel.dropping {
            if !late {
                self.codel.dropping = false;
            }
            while self.codel.dropping && now >= self.codel.drop_next {
                let Some(lost) = next else { break };
                dropped.push(lost.packet);
                self.dropped += 1;
                self.codel.count = self.codel.count.saturating_add(1);
                (next, late) = self.pull(now, codel);
                if late {
                    let at = self.codel.drop_next;
                    self.codel.drop_next = law(at, codel.interval, self.codel.count);
                } else {
                    self.codel.dropping = false;
                }
            }
        } else if late && let Some(lost) = next {
            dropped.push(lost.packet);
            self.dropped += 1;
            (next, _) = self.pull(now, codel);
            self.codel.dropping = true;
            // What controlled the queue the last time is where it goes on, if that was lately.
            let delta = self.codel.count - self.codel.last_count;
            let lately = now.since(self.codel.drop_next) < codel.interval * 16;
            self.codel.count = if delta > 1 && lately { delta } else { 1 };
            self.codel.drop_next = law(now, codel.interval, self.codel.count);
            self.codel.last_count = self.codel.count;
        }
        next
    }

    /// The first that waits, and whether packets have waited too long for an interval.
    fn pull(&mut self, now: Nanos, codel: CoDel) -> (Option<Waiting>, bool) {
        let Some(next) = self.waiting.pop_front() else {
            self.codel.first_above_time = None;
            return (None, false);
        };
        self.waiting_bytes -= u64::from(next.bytes);
        let is_short = now.since(next.since) < codel.target;
        if is_short || self.waiting_bytes <= u64::from(MTU) {
            self.codel.first_above_time = None;
            return (Some(next), false);
        }
        match self.codel.first_above_time {
            None => {
                self.codel.first_above_time = Some(now + codel.interval);
                (Some(next), false)
            }
            Some(at) => (Some(next), now >= at),
        }
    }
}

/// The n-th drop comes an interval over the root of n after the one before.
fn law(at: Nanos, interval: Duration, count: u32) -> Nanos {
    // With 16 bits behind the point.
    let root = (u64::from(count.max(1)) << 32).isqrt();
    let nanos = (interval.as_nanos() << 16) / u128::from(root);
    at + Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::{Rng, Seed};

    const MILLI: u64 = 1_000_000;

    /// Offers packets at their times, wakes the link when it wants, and tells when each left, none:
    /// dropped.
    fn run(link: &mut Link, packets: &[(Nanos, u32)]) -> Vec<Option<Nanos>> {
        let mut left = vec![None; packets.len()];
        let mut lost = Vec::new();
        let mut wake = |link: &mut Link, until: Nanos, left: &mut Vec<Option<Nanos>>| {
            while let Some(at) = link.wake_at().filter(|at| *at <= until) {
                if let Some((packet, leaves)) = link.wake(at, &mut lost) {
                    left[packet as usize] = Some(leaves);
                }
            }
        };
        for (number, (at, bytes)) in (0..).zip(packets) {
            wake(link, *at, &mut left);
            if let Offered::Leaves(at) = link.offer(*at, number, *bytes) {
                left[number as usize] = Some(at);
            }
        }
        wake(link, Nanos::NEVER, &mut left);
        left
    }

    /// Exponentially distributed, in nanoseconds.
    fn exponential(rng: &mut Rng, mean_nanos: f64) -> u64 {
        let even = ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-even.ln() * mean_nanos / 1e9).as_nanos() as u64
    }

    /// The mean wait before packets leave, in mean service times, at a load in per cent.
    fn mean_wait(load: u32, is_fixed: bool) -> f64 {
        const PACKETS: u32 = 3_000_000;
        let mut rng = Seed::from_number(9).stream("queue", load.into());
        // A megabyte a second: a byte takes a microsecond.
        let mut link = Link::new(Some(1_000_000), Queue::bytes(u64::MAX / 1_000_000_000));
        let (mut now, mut waited) = (Nanos::ZERO, 0.0);
        for number in 0..PACKETS {
            now += Duration::from_nanos(exponential(&mut rng, 1e8 / f64::from(load)));
            let bytes = if is_fixed { 1_000 } else { exponential(&mut rng, 1_000.0) as u32 };
            let Offered::Leaves(left) = link.offer(now, number, bytes) else {
                panic!("there is room for everything");
            };
            waited += left.since(now).as_nanos() as f64 - f64::from(bytes) * 1_000.0;
        }
        waited / 1e6 / f64::from(PACKETS)
    }

    #[test]
    fn packets_of_one_size_wait_as_long_as_pollaczek_and_khinchine_say() {
        for (load, expected) in [(50, 0.5), (80, 2.0), (90, 4.5), (95, 9.5)] {
            let found = mean_wait(load, true);
            assert!((found / expected - 1.0).abs() < 0.03, "{load}: {found}");
        }
    }

    #[test]
    fn packets_of_exponential_size_wait_twice_as_long() {
        for (load, expected) in [(50, 1.0), (80, 4.0), (90, 9.0), (95, 19.0)] {
            let found = mean_wait(load, false);
            assert!((found / expected - 1.0).abs() < 0.04, "{load}: {found}");
        }
    }

    #[test]
    fn packets_leave_when_size_over_rate_says_and_one_after_the_other() {
        let mut link = Link::new(Some(750_000), Queue::DEFAULT);
        let packets = [(Nanos(5), 1_500), (Nanos(6), 1_500), (Nanos(90 * MILLI), 750)];
        let left = run(&mut link, &packets);
        let expected = [5 + 2 * MILLI, 5 + 4 * MILLI, 91 * MILLI].map(|at| Some(Nanos(at)));
        assert_eq!(left, expected);
    }

    #[test]
    fn a_queue_holds_no_more_than_its_limit_and_delays_by_as_much() {
        // 200 kB at 50 kB/s: four seconds.
        let mut link = Link::new(Some(50_000), Queue::bytes(200_000));
        let packets: Vec<_> = (0..300).map(|_| (Nanos::ZERO, 1_000)).collect();
        let left = run(&mut link, &packets);
        assert_eq!(left.iter().flatten().count(), 200);
        assert_eq!(left[199], Some(Nanos(4_000 * MILLI)));
        assert_eq!((left[200], link.dropped()), (None, 100));
        assert_eq!(link.backlog(Nanos::ZERO), 200_000);
        assert_eq!(link.backlog(Nanos(1_000 * MILLI)), 150_000);
    }

    #[test]
    fn no_window_of_time_sends_more_than_the_rate() {
        let mut rng = Seed::from_number(2).stream("queue", 0);
        let mut link = Link::new(Some(333_333), Queue::bytes(50_000));
        let mut now = 0;
        let packets: Vec<_> = (0..5_000)
            .map(|_| {
                now += u64::from(rng.below(4_000_000));
                (Nanos(now), 40 + rng.below(1_461))
            })
            .collect();
        let left = run(&mut link, &packets);
        let sent: Vec<_> = left
            .iter()
            .zip(&packets)
            .filter_map(|(left, (_, bytes))| Some(((*left)?, u64::from(*bytes))))
            .collect();
        for first in 0..sent.len() {
            let mut bytes = 0;
            for (at, more) in &sent[first + 1..] {
                bytes += more;
                let window = u128::from(at.0 - sent[first].0.0);
                assert!(u128::from(bytes) * 1_000_000_000 <= 333_333 * window);
            }
        }
    }

    #[test]
    fn another_rate_counts_for_what_comes_later() {
        let mut link = Link::new(Some(100_000), Queue::bytes(1 << 20));
        assert_eq!(link.offer(Nanos::ZERO, 0, 1_000), Offered::Leaves(Nanos(10 * MILLI)));
        // Half of it has left.
        link.set_rate(Nanos(5 * MILLI), Some(50_000));
        let expected = Nanos(5 * MILLI + 10 * MILLI + 20 * MILLI);
        assert_eq!(link.offer(Nanos(5 * MILLI), 1, 1_000), Offered::Leaves(expected));
    }

    fn codel() -> Queue {
        Queue { limit_bytes: Some(10_000_000), discipline: Discipline::CoDel(CoDel::DEFAULT) }
    }

    #[test]
    fn codel_leaves_a_queue_alone_that_empties_in_time() {
        let mut link = Link::new(Some(1_000_000), codel());
        // Bursts of 40 ms, ten times a second.
        let packets: Vec<_> = (0..1_000).map(|at| (Nanos(at / 40 * 100 * MILLI), 1_000)).collect();
        let left = run(&mut link, &packets);
        assert!(left.iter().all(Option::is_some));
    }

    #[test]
    fn codel_drops_ever_faster_while_a_load_does_not_yield() {
        // Six packets come where five can leave.
        let mut link = Link::new(Some(1_000_000), codel());
        let gap = 1_000_000_000 / 1_200;
        let packets: Vec<_> = (0..60_000).map(|at| (Nanos(at * gap), 1_000)).collect();
        let left = run(&mut link, &packets);
        let drops: Vec<u64> =
            (0..).zip(&left).filter(|(_, left)| left.is_none()).map(|(at, _)| at * gap).collect();
        // The n-th gap between drops is the first over the root of n; times are those of arrival,
        // and what waits makes the first ones coarse.
        let gaps: Vec<f64> = drops.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (early, later) = (mean(&gaps[4..12]), mean(&gaps[64..128]));
        let law = (8.0_f64 / 96.0).sqrt();
        assert!((later / early / law - 1.0).abs() < 0.2, "{early} {later}");
        // In the end a sixth is dropped and what waits is not much.
        let wait = |at: usize| left[at].map(|left| left.since(packets[at].0));
        let last: Vec<_> = (50_000..60_000).filter_map(wait).collect();
        let worst = last.iter().max().expect("some leave");
        assert!(*worst < Duration::from_millis(250), "{worst:?}");
        let dropped = 10_000 - last.len();
        assert!((1_500..2_100).contains(&dropped), "{dropped}");
        // Tail drop would have let ten seconds wait.
        let mut plain = Link::new(Some(1_000_000), Queue::bytes(10_000_000));
        let left = run(&mut plain, &packets);
        let wait = left[59_000].map(|left| left.since(packets[59_000].0));
        assert!(wait.is_some_and(|wait| wait > Duration::from_secs(9)), "{wait:?}");
    }
}
