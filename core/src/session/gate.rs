//! How fast peers may be received from and sent to: the session's limits, and a torrent's own.
//!
//! A [`Gate`] owns what may go now and who waits for more. Which streams stand behind it, and what
//! it means that one may go on, is its owner's part.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::StreamId;
use crate::rate::Bucket;
use crate::time::{Duration, Instant};

/// How often those who wait are let go on at most.
const GRANT_EVERY: Duration = Duration::from_millis(10);

/// Limits on what peers send us and on what we send them: all bytes of their connections, in bytes
/// per second and at least [`RATE_MIN`](crate::rate::RATE_MIN); none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimits {
    /// What peers send us.
    pub down_bytes_per_s: Option<u64>,
    /// What we send them.
    pub up_bytes_per_s: Option<u64>,
}

impl RateLimits {
    /// Whether nothing is limited.
    pub const fn is_none(self) -> bool {
        self.down_bytes_per_s.is_none() && self.up_bytes_per_s.is_none()
    }
}

/// Limits, and who waits for them.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) down: Bucket,
    pub(crate) up: Bucket,
    /// Streams that were told to wait before they send more, in order: those that had no turn yet,
    /// and then those that had one.
    waiting: Vec<StreamId>,
    /// How many of them had none.
    first_turns: u32,
    /// When to let them go on.
    grant_at: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(now: Instant, limits: RateLimits) -> Self {
        Self {
            down: Bucket::new(now, limits.down_bytes_per_s),
            up: Bucket::new(now, limits.up_bytes_per_s),
            waiting: Vec::new(),
            first_turns: 0,
            grant_at: None,
        }
    }

    /// Changes the limits. Those who wait are to be granted at once.
    pub(crate) fn set(&mut self, now: Instant, limits: RateLimits) {
        self.down.set_rate(now, limits.down_bytes_per_s);
        self.up.set_rate(now, limits.up_bytes_per_s);
    }

    /// `len` bytes came.
    pub(crate) fn received(&mut self, now: Instant, len: usize) {
        self.down.fill(now);
        self.down.take(len);
        if self.down.available() == 0 {
            self.schedule(now);
        }
    }

    /// How many bytes may be sent now.
    pub(crate) fn may_send(&mut self, now: Instant) -> usize {
        self.up.fill(now);
        self.up.available()
    }

    /// A stream may send nothing now, and waits.
    pub(crate) fn wait(&mut self, now: Instant, id: StreamId, had_turn: bool) {
        if had_turn {
            self.waiting.push(id);
        } else {
            self.waiting.insert(self.first_turns as usize, id);
            self.first_turns += 1;
        }
        self.schedule(now);
    }

    /// When to ask [`granted`](Self::granted) next, if anything waits for that.
    pub(crate) const fn grant_at(&self) -> Option<Instant> {
        self.grant_at
    }

    /// Whether [`granted`](Self::granted) is to be asked now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.grant_at.is_some_and(|at| at <= now)
    }

    /// Time has come: whether streams may be read again, and which may send again, in turn.
    pub(crate) fn granted(&mut self, now: Instant) -> (bool, Vec<StreamId>) {
        self.down.fill(now);
        self.up.fill(now);
        self.grant_at = None;
        // What is granted may be enough for one of them only.
        let mut may_send = Vec::new();
        if self.up.available() > 0 {
            may_send = core::mem::take(&mut self.waiting);
            self.first_turns = 0;
        }
        self.schedule(now);
        (self.down.available() > 0, may_send)
    }

    /// Everybody who waits to send, whatever the limit says: it is lifted.
    pub(crate) fn into_waiting(self) -> Vec<StreamId> {
        self.waiting
    }

    /// Notes when the next grant is due, unless it is noted already: whoever comes meanwhile does
    /// not put it off.
    fn schedule(&mut self, now: Instant) {
        if self.grant_at.is_some() {
            return;
        }
        let next = [self.down.next(), self.up.next()].into_iter().flatten().min();
        // Whoever waits to send does not wait for the other direction.
        let waits = !self.waiting.is_empty();
        let next = if waits && self.up.next().is_none() { Some(now) } else { next };
        self.grant_at = next.map(|next| next.max(now + GRANT_EVERY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Key;
    use std::vec;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    fn id(number: u32) -> StreamId {
        StreamId::from_parts(number, 1)
    }

    fn limited(up: u64) -> Gate {
        Gate::new(at(0), RateLimits { up_bytes_per_s: Some(up), down_bytes_per_s: None })
    }

    #[test]
    fn whoever_had_a_turn_comes_after_those_who_had_none() {
        let mut gate = limited(8_192);
        gate.wait(at(0), id(1), true);
        gate.wait(at(0), id(2), false);
        let due = gate.grant_at().expect("somebody waits");
        assert_eq!(due, at(500), "a grant is worth 4 KiB");
        assert_eq!(gate.granted(due), (true, vec![id(2), id(1)]));
        assert_eq!(gate.grant_at(), None);
    }

    #[test]
    fn those_who_had_no_turn_keep_their_order_and_so_do_the_others() {
        let mut gate = limited(8_192);
        for (number, had_turn) in [(1, true), (2, false), (3, true), (4, false), (5, false)] {
            gate.wait(at(0), id(number), had_turn);
        }
        let due = gate.grant_at().expect("somebody waits");
        assert_eq!(gate.granted(due).1, [2, 4, 5, 1, 3].map(id));
        gate.wait(due, id(6), true);
        gate.wait(due, id(7), false);
        assert_eq!(gate.into_waiting(), [id(7), id(6)]);
    }

    #[test]
    fn asking_again_does_not_put_a_grant_off() {
        let mut gate = limited(1 << 20);
        for milli in 0..9 {
            gate.wait(at(milli), id(milli as u32), false);
        }
        assert_eq!(gate.grant_at(), Some(at(10)));
    }

    #[test]
    fn a_lifted_limit_leaves_nobody_waiting() {
        let mut gate = limited(1_024);
        gate.wait(at(0), id(1), false);
        gate.set(at(1), RateLimits::default());
        assert_eq!(gate.granted(at(1)), (true, vec![id(1)]));
        let mut gate = limited(1_024);
        gate.wait(at(0), id(2), true);
        assert_eq!(gate.into_waiting(), [id(2)]);
    }
}
