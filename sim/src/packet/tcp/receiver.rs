//! The end that receives: puts a stream in order, and says what it has.

use super::ranges::Ranges;
use super::{Ack, Config, MSS, Segment};
use crate::time::Nanos;

/// What a segment made of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Positions of the stream that are in order now and were not before.
    pub in_order: u64,
    /// Whether an acknowledgement is to be sent at once.
    pub acks_now: bool,
}

/// See the [module](super). In the order of use, as [`Sender`](super::Sender) is.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Receiver {
    /// Everything before this is here.
    next: u64,
    /// In order, and not taken by whoever reads.
    unread: u32,
    /// Positions since the last acknowledgement.
    unacked: u32,
    echo: Nanos,
    /// When to send one at the latest.
    ack_at: Option<Nanos>,
    /// The window that was told last, as where it ends.
    told: u64,
    config: Config,
    /// What is here beyond a gap.
    beyond: Ranges,
    /// The range that grew last, first to be told.
    latest: (u64, u64),
}

/// Ranges beyond a gap that a receiver keeps; more is dropped.
const BEYOND_MAX: usize = 256;

impl Receiver {
    /// Nothing is here yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            next: 0,
            beyond: Ranges::default(),
            latest: (0, 0),
            unread: 0,
            unacked: 0,
            ack_at: None,
            told: u64::from(config.receive_buffer),
            echo: Nanos::ZERO,
        }
    }

    /// Everything before this is here.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Reads one number of each line of the cache that a segment needs.
    pub(crate) fn fetch(&self) -> u64 {
        self.next ^ self.latest.0
    }

    /// When an acknowledgement is due; none: nothing is to be said.
    pub const fn timer_at(&self) -> Option<Nanos> {
        self.ack_at
    }

    /// A segment came.
    pub fn on_segment(&mut self, now: Nanos, segment: &Segment) -> Reply {
        let (from, to) = (segment.seq, segment.seq + u64::from(segment.len));
        // RFC 7323, section 4.3: what made the last acknowledgement move.
        if from <= self.next && self.unacked == 0 {
            self.echo = segment.sent_at;
        }
        if segment.len == 0 || to <= self.next {
            // A question, or what is here already.
            return Reply { in_order: 0, acks_now: true };
        }
        if to > self.next + u64::from(self.window()) {
            return Reply { in_order: 0, acks_now: true };
        }
        if from > self.next {
            if self.beyond.as_slice().len() < BEYOND_MAX {
                self.latest = self.beyond.insert(from, to, |_, _| ());
            }
            return Reply { in_order: 0, acks_now: true };
        }
        let before = self.next;
        let had_gap = !self.beyond.as_slice().is_empty();
        self.next = self.beyond.forget(to);
        let in_order = self.next - before;
        self.unread += in_order as u32;
        self.unacked += in_order as u32;
        let enough = u32::from(MSS).min(u32::from(segment.len)) * u32::from(self.config.ack_every);
        let acks_now = had_gap || self.unacked >= enough || segment.finishes;
        if !acks_now && self.ack_at.is_none() {
            self.ack_at = Some(now + self.config.ack_delay);
        }
        Reply { in_order, acks_now }
    }

    /// Bytes that there is room for.
    const fn window(&self) -> u32 {
        self.config.receive_buffer.saturating_sub(self.unread)
    }

    /// So many positions were read. Returns whether the sender is to hear of it: it was told of
    /// little room, and there is a good deal now.
    pub fn on_read(&mut self, positions: u32) -> bool {
        self.unread -= positions;
        let ends = self.next + u64::from(self.window());
        let more = ends.saturating_sub(self.told);
        let left = self.told.saturating_sub(self.next);
        left < 2 * u64::from(MSS) && more >= u64::from(self.config.receive_buffer / 4)
            || left == 0 && more >= u64::from(MSS)
    }

    /// What to tell the sender now.
    pub fn ack(&mut self) -> Ack {
        self.unacked = 0;
        self.ack_at = None;
        self.told = self.next + u64::from(self.window());
        let sacked = self.beyond.newest(self.latest);
        Ack { upto: self.next, sacked, window: self.window(), echo: self.echo }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::time::Duration;

    fn segment(seq: u64, len: u16) -> Segment {
        Segment { seq, len, finishes: false, sent_at: Nanos(seq), is_again: false }
    }

    fn receiver() -> Receiver {
        Receiver::new(Config { receive_buffer: 100_000, ..Config::DEFAULT })
    }

    #[test]
    fn every_second_full_segment_is_acknowledged_and_a_single_one_in_time() {
        let mut receiver = receiver();
        let now = Nanos(1_000);
        let reply = receiver.on_segment(now, &segment(0, MSS));
        assert_eq!(reply, Reply { in_order: u64::from(MSS), acks_now: false });
        assert_eq!(receiver.timer_at(), Some(now + Duration::from_millis(40)));
        assert!(receiver.on_segment(now, &segment(u64::from(MSS), MSS)).acks_now);
        let ack = receiver.ack();
        assert_eq!((ack.upto, ack.window), (2 * u64::from(MSS), 100_000 - 2 * u32::from(MSS)));
        // The first of those that it answers.
        assert_eq!((ack.echo, receiver.timer_at()), (Nanos(0), None));
    }

    #[test]
    fn what_comes_beyond_a_gap_is_told_at_once_and_the_newest_first() {
        let mut receiver = receiver();
        let now = Nanos::ZERO;
        for seq in [2_000, 6_000, 4_000] {
            let reply = receiver.on_segment(now, &segment(seq, 1_000));
            assert_eq!(reply, Reply { in_order: 0, acks_now: true });
        }
        let ack = receiver.ack();
        assert_eq!(ack.upto, 0);
        assert_eq!(*ack.sacked, [(4_000, 5_000), (6_000, 7_000), (2_000, 3_000)]);
        // Filled in between: one range; filled from the front: all of it in order.
        receiver.on_segment(now, &segment(3_000, 1_000));
        assert_eq!(*receiver.ack().sacked, [(2_000, 5_000), (6_000, 7_000)]);
        let reply = receiver.on_segment(now, &segment(0, 2_000));
        assert_eq!(reply, Reply { in_order: 5_000, acks_now: true });
        assert_eq!(receiver.ack().upto, 5_000);
    }

    #[test]
    fn what_is_here_already_is_answered_and_not_counted() {
        let mut receiver = receiver();
        receiver.on_segment(Nanos::ZERO, &segment(0, 1_000));
        let reply = receiver.on_segment(Nanos::ZERO, &segment(0, 1_000));
        assert_eq!(reply, Reply { in_order: 0, acks_now: true });
        let reply = receiver.on_segment(Nanos::ZERO, &segment(500, 1_000));
        assert_eq!(reply.in_order, 500);
    }

    #[test]
    fn the_window_closes_as_nobody_reads_and_is_told_when_it_opens() {
        let mut receiver = Receiver::new(Config { receive_buffer: 4_000, ..Config::DEFAULT });
        for at in 0..4 {
            assert_eq!(
                receiver.on_segment(Nanos::ZERO, &segment(at * 1_000, 1_000)).in_order,
                1_000
            );
        }
        assert_eq!(receiver.ack().window, 0);
        assert_eq!(receiver.on_segment(Nanos::ZERO, &segment(4_000, 1_000)).in_order, 0);
        assert!(!receiver.on_read(999));
        assert!(receiver.on_read(1));
        assert_eq!(receiver.ack().window, 1_000);
    }
}
