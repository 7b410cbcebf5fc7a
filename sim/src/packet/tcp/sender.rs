//! The end that sends: what is on its way, what was lost, and how much more may be sent.

use std::collections::VecDeque;

use teem_core::time::Duration;

use super::control::Control;
use super::ranges::Ranges;
use super::rtt::RoundTrip;
use super::{Ack, Config, MSS, Segment};
use crate::time::Nanos;

/// Times that nothing is heard before a connection is given up.
const TIMEOUTS_MAX: u32 = 15;

/// The payload of segments that get through where larger ones vanish, in bytes: IPv4 promises 576
/// with headers (RFC 1122), less the timestamps.
const MSS_SAFE: u16 = 524;

/// Timeouts in a row after which segments are taken to be too large.
const BLACK_HOLE_TIMEOUTS: u32 = 2;

/// Segments beyond a gap that say that it is one (RFC 6675, `DupThresh`).
const BEYOND: u64 = 3;

/// See the [module](super).
///
/// In the order of use: at the ends of thousands of connections, each segment costs about what it has
/// to fetch from memory. Whoever only receives touches the first line of the cache.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Sender {
    /// Everything before this was acknowledged.
    unacked: u64,
    /// Everything before this was sent.
    next: u64,
    /// The stream so far, and whether it ends there.
    end: u64,
    is_finished: bool,
    state: State,
    mss: u16,
    /// Timeouts since something was heard.
    silent: u32,
    /// Where the receiver's window ends.
    window_end: u64,
    /// Positions that are on their way, as far as can be told.
    flight: u64,
    /// Segments that were lost and wait to be sent again.
    to_repeat: u32,
    /// Segments that were sent again and are on their way.
    repeated: u32,
    /// The receiver has no room, and is to be asked.
    asks: bool,

    sent: VecDeque<Sent>,
    /// When the newest segment was sent that arrived.
    newest: Nanos,
    timer_from: Nanos,
    control: Control,
    trip: RoundTrip,
    /// What the receiver has beyond what it acknowledged.
    beyond: Ranges,
    /// Everything before this was looked at for losses.
    looked_upto: u64,
    last_sent: Nanos,
    /// None of those that wait to be sent again is before this.
    repeat_from: u64,
    /// The state ends when this is acknowledged.
    recover: u64,
    config: Config,
    counts: Counts,
    undo: Option<Undo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Losses are being repaired.
    Recovery,
    /// A timeout has come, and everything is sent anew.
    Loss,
}

/// How it was before a timeout.
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: u64,
    threshold: u64,
    at: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    seq: u64,
    at: Nanos,
    len: u16,
    finishes: bool,
    is_sacked: bool,
    is_lost: bool,
    /// It was lost, sent again, and is on its way.
    is_again: bool,
}

impl Sent {
    const fn flies(&self) -> bool {
        !self.is_sacked && (!self.is_lost || self.is_again)
    }
}

/// What a sender did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Segments that were sent, again or not.
    pub segments: u64,
    /// Of these, again.
    pub again: u64,
    /// Losses that acknowledgements told of, once a round trip.
    pub recoveries: u64,
    /// Times that nothing was heard for too long.
    pub timeouts: u64,
    /// Of these, those that turned out to be none.
    pub spurious: u64,
}

/// Where a sender stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The congestion window, in bytes.
    pub window_bytes: u64,
    /// Below it, slow start; none: no loss yet.
    pub threshold_bytes: Option<u64>,
    /// What is on its way, in bytes.
    pub flight_bytes: u64,
    /// The smoothed round trip; none: nothing was measured yet.
    pub round_trip: Option<Duration>,
    /// The shortest round trip; none: nothing was measured yet.
    pub round_trip_min: Option<Duration>,
    /// Bytes that were acknowledged.
    pub acked_bytes: u64,
    /// What it did so far.
    pub counts: Counts,
}

impl Sender {
    /// Nothing to send yet. `mss` is the most payload that a segment may have.
    pub fn new(config: Config, mss: u16) -> Self {
        let initial = u64::from(config.initial_segments) * u64::from(mss);
        Self {
            config,
            mss,
            control: Control::new(config.algorithm, initial),
            trip: RoundTrip::default(),
            unacked: 0,
            next: 0,
            end: 0,
            is_finished: false,
            window_end: u64::from(config.receive_buffer),
            sent: VecDeque::new(),
            beyond: Ranges::default(),
            flight: 0,
            to_repeat: 0,
            repeat_from: 0,
            looked_upto: 0,
            repeated: 0,
            state: State::Open,
            recover: 0,
            newest: Nanos::ZERO,
            timer_from: Nanos::ZERO,
            last_sent: Nanos::ZERO,
            silent: 0,
            undo: None,
            asks: false,
            counts: Counts::default(),
        }
    }

    /// The stream is longer by so many bytes.
    pub const fn push(&mut self, bytes: u64) {
        debug_assert!(!self.is_finished, "the stream has ended");
        self.end += bytes;
    }

    /// The stream ends here: that takes a position of its own.
    pub const fn finish(&mut self) {
        if !self.is_finished {
            self.is_finished = true;
            self.end += 1;
        }
    }

    /// Positions that were never sent.
    pub const fn unsent(&self) -> u64 {
        self.end - self.next
    }

    /// Whether everything was acknowledged.
    pub const fn is_done(&self) -> bool {
        self.unacked == self.end
    }

    /// Whether nothing was heard for so long that the connection is to be given up.
    pub const fn has_given_up(&self) -> bool {
        self.silent > TIMEOUTS_MAX
    }

    /// What it did so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Where it stands.
    pub fn snapshot(&self) -> Snapshot {
        let known = |trip: Duration| (!trip.is_zero()).then_some(trip);
        Snapshot {
            window_bytes: self.control.window,
            threshold_bytes: Some(self.control.threshold)
                .filter(|threshold| *threshold < super::control::UNBOUNDED),
            flight_bytes: self.flight,
            round_trip: known(self.trip.smoothed()),
            round_trip_min: known(self.trip.least()),
            acked_bytes: self.unacked,
            counts: self.counts,
        }
    }

    /// When [`on_timer`](Self::on_timer) is due; none: nothing is waited for.
    pub fn timer_at(&self) -> Option<Nanos> {
        let waits = self.unacked < self.next || self.is_shut_out();
        waits.then(|| self.timer_from + self.trip.timeout())
    }

    /// Whether there is something to send and the receiver has no room for it.
    const fn is_shut_out(&self) -> bool {
        self.next < self.end && self.next >= self.window_end
    }

    /// Reads one number of each line of the cache that an acknowledgement needs.
    pub(crate) fn fetch(&self) -> u64 {
        let first = self.sent.front().map_or(0, |sent| sent.seq);
        let lines = [self.unacked, self.control.window, self.looked_upto, self.recover, first];
        lines.into_iter().fold(0, |all, one| all ^ one)
    }

    fn index(&self, seq: u64) -> usize {
        self.sent.partition_point(|sent| sent.seq + u64::from(sent.len) <= seq)
    }

    // What is heard.

    /// An acknowledgement came.
    pub fn on_ack(&mut self, now: Nanos, ack: &Ack) {
        if ack.upto < self.unacked || ack.upto > self.next {
            return;
        }
        let flight = self.flight;
        let outstanding = self.next - self.unacked;
        let acked = ack.upto - self.unacked;
        self.window_end = self.window_end.max(ack.upto + u64::from(ack.window));
        self.silent = 0;
        if acked > 0 {
            self.trip.measure(now.since(ack.echo));
            self.timer_from = now;
            self.release(ack.upto);
            self.take_back(ack.echo);
        }
        let has_news = self.take_sacked(ack);
        if has_news {
            self.find_lost();
        }
        if self.repeated > 0 {
            self.find_lost_again();
        }
        if self.state != State::Open && self.unacked >= self.recover {
            self.state = State::Open;
            self.undo = None;
        }
        if self.to_repeat > 0 && self.state == State::Open {
            self.counts.recoveries += 1;
            self.state = State::Recovery;
            self.recover = self.next;
            self.control.reduce(outstanding.min(self.control.window), self.mss.into());
        }
        // A window that is not used up says nothing about the network (RFC 7661).
        let mss = u64::from(self.mss);
        let used = if self.control.is_slow_start() { 2 * flight } else { flight + mss };
        if acked > 0 && self.state != State::Recovery && used >= self.control.window {
            let credit = if self.config.counts_bytes { acked } else { acked.min(mss) };
            self.control.grow(now, credit, mss, self.trip.smoothed());
        }
    }

    /// Everything before a position has arrived.
    fn release(&mut self, upto: u64) {
        while let Some(first) = self.sent.front_mut()
            && first.seq < upto
        {
            let whole = first.seq + u64::from(first.len) <= upto;
            let part = if whole { first.len } else { (upto - first.seq) as u16 };
            if first.flies() {
                self.flight -= u64::from(part);
            }
            self.newest = self.newest.max(first.at);
            if whole {
                self.to_repeat -= u32::from(first.is_lost && !first.is_again);
                self.repeated -= u32::from(first.is_again);
                self.sent.pop_front();
            } else {
                first.seq = upto;
                first.len -= part;
            }
        }
        self.unacked = upto;
        self.beyond.forget(upto);
        self.looked_upto = self.looked_upto.max(upto);
    }

    /// Takes in what the receiver has beyond a gap. Returns whether that was news.
    fn take_sacked(&mut self, ack: &Ack) -> bool {
        let mut has_news = false;
        for (from, to) in &ack.sacked {
            let (from, to) = ((*from).max(self.unacked), (*to).min(self.next));
            if from >= to {
                continue;
            }
            let mut fresh = smallvec::SmallVec::<[(u64, u64); 4]>::new();
            self.beyond.insert(from, to, |low, high| fresh.push((low, high)));
            for (low, high) in fresh {
                has_news = true;
                self.mark_sacked(low, high);
            }
        }
        has_news
    }

    fn mark_sacked(&mut self, from: u64, to: u64) {
        let first = self.index(from);
        for sent in self.sent.range_mut(first..) {
            if sent.seq < from || sent.is_sacked {
                continue;
            }
            if sent.seq + u64::from(sent.len) > to {
                break;
            }
            if sent.flies() {
                self.flight -= u64::from(sent.len);
            }
            self.to_repeat -= u32::from(sent.is_lost && !sent.is_again);
            self.repeated -= u32::from(sent.is_again);
            self.newest = self.newest.max(sent.at);
            sent.is_sacked = true;
            sent.is_lost = false;
            sent.is_again = false;
        }
    }

    /// What is before three segments, or three ranges, that have arrived is lost (RFC 6675,
    /// `IsLost`).
    fn find_lost(&mut self) {
        let (mut bytes, mut ranges, mut lost_upto) = (0, 0, 0);
        for (from, to) in self.beyond.as_slice().iter().rev() {
            bytes += to - from;
            ranges += 1;
            if bytes > (BEYOND - 1) * u64::from(self.mss) || ranges >= BEYOND {
                lost_upto = *from;
                break;
            }
        }
        if lost_upto <= self.looked_upto {
            return;
        }
        let first = self.index(self.looked_upto);
        for sent in self.sent.range_mut(first..) {
            if sent.seq >= lost_upto {
                break;
            }
            if !sent.is_sacked && !sent.is_lost {
                sent.is_lost = true;
                self.flight -= u64::from(sent.len);
                self.to_repeat += 1;
                self.repeat_from = self.repeat_from.min(sent.seq);
            }
        }
        self.looked_upto = lost_upto;
    }

    /// What was sent again is lost again if something that was sent a good deal later has arrived
    /// (RFC 8985).
    fn find_lost_again(&mut self) {
        let slack = self.trip.least() / 4;
        let mut left = self.repeated;
        for sent in &mut self.sent {
            if left == 0 {
                break;
            }
            if !sent.is_again {
                continue;
            }
            left -= 1;
            if sent.at + slack < self.newest {
                sent.is_again = false;
                self.flight -= u64::from(sent.len);
                self.repeated -= 1;
                self.to_repeat += 1;
                self.repeat_from = self.repeat_from.min(sent.seq);
            }
        }
    }

    /// Takes a timeout back if what is acknowledged was sent before it (RFC 3522).
    fn take_back(&mut self, echo: Nanos) {
        let Some(undo) = self.undo.take() else { return };
        if echo >= undo.at {
            return;
        }
        self.counts.spurious += 1;
        self.control.window = undo.window;
        self.control.threshold = undo.threshold;
        self.state = State::Open;
        for sent in &mut self.sent {
            if sent.is_lost && !sent.is_again {
                self.flight += u64::from(sent.len);
            }
            sent.is_lost = false;
            sent.is_again = false;
        }
        self.to_repeat = 0;
        self.repeated = 0;
        self.looked_upto = self.unacked;
    }

    /// The path carries packets with no more payload than this.
    pub fn on_too_big(&mut self, mss: u16) {
        if mss >= self.mss || mss == 0 {
            return;
        }
        self.mss = mss;
        // What was too large will not arrive.
        for sent in &mut self.sent {
            if sent.len > mss && sent.flies() {
                self.flight -= u64::from(sent.len);
                self.repeated -= u32::from(sent.is_again);
                sent.is_again = false;
                sent.is_lost = true;
                self.to_repeat += 1;
            }
        }
        self.repeat_from = self.unacked;
    }

    /// The timer is due: nothing was heard for too long. Not to be called earlier.
    pub fn on_timer(&mut self, now: Nanos) {
        self.timer_from = now;
        if self.unacked == self.next {
            // The receiver has no room, or its word that it has some was lost.
            self.asks = self.is_shut_out();
            self.trip.backoff += 1;
            return;
        }
        self.counts.timeouts += 1;
        self.silent += 1;
        if self.silent >= BLACK_HOLE_TIMEOUTS && self.mss > MSS_SAFE {
            self.mss = MSS_SAFE;
        }
        if self.state != State::Loss {
            let control = &self.control;
            self.undo =
                Some(Undo { window: control.window, threshold: control.threshold, at: now });
            let outstanding = self.next - self.unacked;
            self.control.collapse(outstanding.min(control.window), self.mss.into());
        }
        self.control.window = self.mss.into();
        self.trip.backoff += 1;
        self.state = State::Loss;
        self.recover = self.next;
        self.flight = 0;
        self.to_repeat = 0;
        self.repeated = 0;
        for sent in &mut self.sent {
            sent.is_again = false;
            if !sent.is_sacked {
                sent.is_lost = true;
                self.to_repeat += 1;
            }
        }
        self.repeat_from = self.unacked;
        self.looked_upto = self.next;
    }

    // What is sent.

    /// The next segment that may be sent now.
    pub fn poll(&mut self, now: Nanos) -> Option<Segment> {
        if std::mem::take(&mut self.asks) {
            return Some(self.segment(now, self.next, 0, false, true));
        }
        if self.to_repeat > 0 {
            return self.repeat(now);
        }
        let left = self.end - self.next;
        if left == 0 {
            return None;
        }
        if self.unacked == self.next && now > self.last_sent + self.trip.timeout() {
            self.control.rest(u64::from(self.config.initial_segments) * u64::from(self.mss));
        }
        let len = left.min(self.mss.into());
        let is_free = self.flight == 0 || self.flight + len <= self.control.window;
        if !is_free || self.next >= self.window_end {
            return None;
        }
        let room = self.window_end - self.next;
        // No silly windows (RFC 1122): a part of what could be sent only if nothing else flies.
        if room < len && self.flight > 0 {
            return None;
        }
        let len = len.min(room);
        let finishes = self.is_finished && self.next + len == self.end;
        if self.unacked == self.next {
            self.timer_from = now;
        }
        let seq = self.next;
        self.next += len;
        self.flight += len;
        let len = len as u16;
        let sent =
            Sent { seq, at: now, len, finishes, is_sacked: false, is_lost: false, is_again: false };
        self.sent.push_back(sent);
        Some(self.segment(now, seq, len, finishes, false))
    }

    /// The first that was lost, again.
    fn repeat(&mut self, now: Nanos) -> Option<Segment> {
        let mut at = self.index(self.repeat_from);
        while self.sent.get(at).is_some_and(|sent| !sent.is_lost || sent.is_again) {
            at += 1;
        }
        let lost = *self.sent.get(at)?;
        if self.flight > 0 && self.flight + u64::from(lost.len.min(self.mss)) > self.control.window
        {
            return None;
        }
        if lost.len > self.mss {
            self.split(at);
        }
        let sent = &mut self.sent[at];
        sent.is_again = true;
        sent.at = now;
        let (seq, len, finishes) = (sent.seq, sent.len, sent.finishes);
        self.flight += u64::from(len);
        self.to_repeat -= 1;
        self.repeated += 1;
        self.repeat_from = seq + u64::from(len);
        if seq == self.unacked {
            self.timer_from = now;
        }
        Some(self.segment(now, seq, len, finishes, true))
    }

    /// Makes two of a segment that is too large.
    fn split(&mut self, at: usize) {
        let first = &mut self.sent[at];
        let mut rest = *first;
        first.len = self.mss;
        first.finishes = false;
        rest.seq += u64::from(self.mss);
        rest.len -= self.mss;
        self.to_repeat += 1;
        self.sent.insert(at + 1, rest);
    }

    fn segment(&mut self, now: Nanos, seq: u64, len: u16, finishes: bool, again: bool) -> Segment {
        self.counts.segments += 1;
        self.counts.again += u64::from(again && len > 0);
        self.last_sent = now;
        Segment { seq, len, finishes, sent_at: now, is_again: again }
    }

    /// The most payload that its segments have, in bytes: [`MSS`] or less.
    pub const fn mss(&self) -> u16 {
        if self.mss < MSS { self.mss } else { MSS }
    }
}
