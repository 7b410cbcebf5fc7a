//! A TCP connection as one of its hosts would have seen it, where the network has only streams.
//!
//! ```text
//!              answer of the far host
//!    calling --------------------------+
//!       | near host closes             v      finish of both, or reset
//!       v                             open ----------------------------> over
//!   taken back                         ^
//!                                      |
//!    called ---------------------------+
//!              its answer is known to have arrived
//! ```
//!
//! The host that looks on is near, the other far. Calls become handshakes, bytes segments of at most
//! [`SEGMENT_MAX`], ends FIN or RST; numbers go on without gaps (RFC 9293). The near host
//! acknowledges at once; when the far one did is for the network to say. Nothing is ever sent twice
//! and windows never close, since streams tell of neither.

use std::net::SocketAddr;

use super::{Direction, Flags, Segment, SegmentOptions};

/// Bytes of a segment at most over IPv4: what Ethernet leaves, and timestamps, which are usual and
/// not made up here. Over IPv6, 20 less.
const SEGMENT_MAX: u16 = 1_448;

/// By how many bits windows are shifted: 8 MiB, more than any stream has on its way.
const WINDOW_SCALE: u8 = 7;

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Near,
    Far,
}

impl Who {
    const fn direction(self) -> Direction {
        match self {
            Self::Near => Direction::Out,
            Self::Far => Direction::In,
        }
    }
}

/// Takes segments, and the payload of each.
pub(crate) type Sink<'a> = dyn FnMut(Direction, &Segment, &[u8]) + 'a;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Conversation {
    near: SocketAddr,
    far: SocketAddr,
    state: State,
    /// Numbers of what each sends next.
    near_next: u32,
    far_next: u32,
    /// What of the near host's has arrived at the far one, ...
    arrived: u32,
    /// ... and what the near one knows of that.
    acknowledged: u32,
    near_finished: bool,
    far_finished: bool,
    reset_by: Option<Who>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The near host called, or will.
    Calling,
    /// It did, and closed what was no connection yet.
    TakenBack,
    /// The far host called, and may not know yet that it is answered.
    Called,
    Open,
}

impl Conversation {
    /// Nothing was said yet; the numbers of what each says first are these.
    pub(crate) const fn new(near: SocketAddr, far: SocketAddr, first: [u32; 2]) -> Self {
        let [near_next, far_next] = first;
        Self {
            near,
            far,
            state: State::Calling,
            near_next,
            far_next,
            arrived: near_next,
            acknowledged: near_next,
            near_finished: false,
            far_finished: false,
            reset_by: None,
        }
    }

    /// Somebody calls.
    pub(crate) fn call(&mut self, who: Who, out: &mut Sink<'_>) {
        if who == Who::Far {
            self.state = State::Called;
        }
        self.greet(who, Flags::SYN, out);
    }

    /// Whoever was called is there. What the near host answers has still to arrive:
    /// [`arrives`](Self::arrives).
    pub(crate) fn answer(&mut self, who: Who, out: &mut Sink<'_>) {
        if who == Who::Near {
            self.greet(who, Flags::SYN | Flags::ACK, out);
            return;
        }
        (self.arrived, self.acknowledged) = (self.near_next, self.near_next);
        self.greet(who, Flags::SYN | Flags::ACK, out);
        let is_wanted = self.state != State::TakenBack;
        self.state = State::Open;
        if is_wanted {
            self.say(Who::Near, Flags::ACK, &[], out);
        } else {
            self.reset(Who::Near, out);
        }
    }

    /// Nobody listens where the call went.
    pub(crate) fn refuse(&mut self, who: Who, out: &mut Sink<'_>) {
        let mut segment = self.segment(who, Flags::RST | Flags::ACK);
        (segment.seq, segment.window) = (0, 0);
        if who == Who::Far {
            segment.ack = self.near_next;
        }
        self.reset_by = Some(who);
        out(who.direction(), &segment, &[]);
    }

    /// Bytes go. Those of the far host have arrived; they are acknowledged if somebody listens.
    pub(crate) fn send(&mut self, who: Who, bytes: &[u8], is_heard: bool, out: &mut Sink<'_>) {
        if bytes.is_empty() || !self.speaks(who, out) {
            return;
        }
        let parts = bytes.chunks(self.segment_max().into());
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            let push = if number == last { Flags::PSH } else { Flags::default() };
            self.say(who, Flags::ACK | push, part, out);
        }
        self.hear(who, is_heard, out);
    }

    /// Nothing more comes from there. Returns whether that was to be said.
    pub(crate) fn finish(&mut self, who: Who, is_heard: bool, out: &mut Sink<'_>) -> bool {
        if !self.speaks(who, out) {
            return false;
        }
        match who {
            Who::Near => self.near_finished = true,
            Who::Far => self.far_finished = true,
        }
        self.say(who, Flags::FIN | Flags::ACK, &[], out);
        self.advance(who, 1);
        self.hear(who, is_heard, out);
        true
    }

    /// Somebody says that the connection is dead. That can be said after the end, and again.
    pub(crate) fn reset(&mut self, who: Who, out: &mut Sink<'_>) {
        if self.reset_by == Some(Who::Far) || self.is_taken_back(who) {
            return;
        }
        self.open(who, out);
        self.reset_by = Some(who);
        self.say(who, Flags::RST | Flags::ACK, &[], out);
    }

    /// So many bytes of the near host's arrive at the far one; its answer and its end count as one
    /// each. Returns what the far host acknowledges then: [`acknowledge`](Self::acknowledge).
    pub(crate) const fn arrives(&mut self, count: u32) -> u32 {
        self.arrived = self.arrived.wrapping_add(count);
        self.arrived
    }

    /// The near host's end arrives at the far one, if nothing else of it is on its way. Returns what
    /// the far host acknowledges then.
    pub(crate) fn end_arrives(&mut self) -> Option<u32> {
        let lacks = self.near_next.wrapping_sub(self.arrived);
        (self.near_finished && lacks == 1).then(|| self.arrives(1))
    }

    /// The near host hears that everything before this number has arrived, if it is news.
    pub(crate) fn acknowledge(&mut self, before: u32, out: &mut Sink<'_>) {
        let news = before.wrapping_sub(self.acknowledged).cast_signed();
        if news > 0 && self.reset_by.is_none() {
            self.acknowledged = before;
            self.state = State::Open;
            self.say(Who::Far, Flags::ACK, &[], out);
        }
    }

    /// Whether somebody can say more.
    fn speaks(&mut self, who: Who, out: &mut Sink<'_>) -> bool {
        let is_finished = match who {
            Who::Near => self.near_finished,
            Who::Far => self.far_finished,
        };
        // What was on its way when the near host gave up comes all the same.
        let is_dead = self.reset_by.is_some_and(|by| who == Who::Near || by == Who::Far);
        if is_finished || is_dead || self.is_taken_back(who) {
            return false;
        }
        self.open(who, out);
        true
    }

    /// Whether the near host ends what is no connection yet, of which nobody is told; or did.
    fn is_taken_back(&mut self, who: Who) -> bool {
        if who == Who::Near && self.state == State::Calling {
            self.state = State::TakenBack;
        }
        self.state == State::TakenBack
    }

    /// Who called and says more has heard the answer.
    fn open(&mut self, who: Who, out: &mut Sink<'_>) {
        if who == Who::Far && self.state == State::Called {
            self.acknowledge(self.acknowledged.wrapping_add(1), out);
        }
    }

    fn hear(&mut self, who: Who, is_heard: bool, out: &mut Sink<'_>) {
        if who == Who::Far && is_heard && self.reset_by.is_none() {
            self.say(Who::Near, Flags::ACK, &[], out);
        }
    }

    fn greet(&mut self, who: Who, flags: Flags, out: &mut Sink<'_>) {
        let mut segment = self.segment(who, flags);
        if !flags.has(Flags::ACK) {
            segment.ack = 0;
        }
        segment.options.max_segment = Some(self.segment_max());
        segment.options.window_scale = Some(WINDOW_SCALE);
        self.advance(who, 1);
        out(who.direction(), &segment, &[]);
    }

    fn say(&mut self, who: Who, flags: Flags, payload: &[u8], out: &mut Sink<'_>) {
        let segment = self.segment(who, flags);
        self.advance(who, payload.len() as u32);
        out(who.direction(), &segment, payload);
    }

    const fn advance(&mut self, who: Who, count: u32) {
        let next = match who {
            Who::Near => &mut self.near_next,
            Who::Far => &mut self.far_next,
        };
        *next = next.wrapping_add(count);
    }

    const fn segment(&self, who: Who, flags: Flags) -> Segment {
        let (from, to, seq, ack) = match who {
            Who::Near => (self.near, self.far, self.near_next, self.far_next),
            Who::Far => (self.far, self.near, self.far_next, self.acknowledged),
        };
        Segment { from, to, seq, ack, flags, window: u16::MAX, options: SegmentOptions::NONE }
    }

    fn segment_max(&self) -> u16 {
        let is_v4 = |at: SocketAddr| at.ip().to_canonical().is_ipv4();
        if is_v4(self.near) && is_v4(self.far) { SEGMENT_MAX } else { SEGMENT_MAX - 20 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Direction, flags, number, acknowledgement and length, relative to what each said first.
    type Line = (char, &'static str, u32, u32, usize);

    /// Near begins with 100, far shortly before numbers wrap.
    const FIRST: [u32; 2] = [100, u32::MAX - 1];

    fn new() -> Conversation {
        between("10.0.0.1:1", "10.0.0.2:2")
    }

    fn between(near: &str, far: &str) -> Conversation {
        let address = |text: &str| text.parse().expect("an address");
        Conversation::new(address(near), address(far), FIRST)
    }

    /// A place for what is said.
    macro_rules! to {
        ($lines:ident) => {
            &mut |direction: Direction, segment: &Segment, payload: &[u8]| {
                $lines.push(line(direction, segment, payload));
            }
        };
    }

    fn line(direction: Direction, segment: &Segment, payload: &[u8]) -> Line {
        let (way, [own, other]) = match direction {
            Direction::Out => ('>', FIRST),
            Direction::In => ('<', [FIRST[1], FIRST[0]]),
        };
        let flags = match segment.flags.0 {
            0x02 => "S",
            0x12 => "SA",
            0x10 => "A",
            0x18 => "PA",
            0x11 => "FA",
            0x14 => "RA",
            other => panic!("{other:x}"),
        };
        let ack = if flags == "S" { segment.ack } else { segment.ack.wrapping_sub(other) };
        (way, flags, segment.seq.wrapping_sub(own), ack, payload.len())
    }

    /// The near host called and was answered.
    fn open() -> (Conversation, Vec<Line>) {
        let (mut it, mut lines) = (new(), Vec::new());
        let out = to!(lines);
        it.call(Who::Near, out);
        it.answer(Who::Far, out);
        (it, lines)
    }

    #[test]
    fn a_call_and_its_answer_are_a_handshake() {
        let wanted = [('>', "S", 0, 0, 0), ('<', "SA", 0, 1, 0), ('>', "A", 1, 1, 0)];
        assert_eq!(open().1, wanted);
        let (mut it, mut lines) = (new(), Vec::new());
        let out = to!(lines);
        it.call(Who::Far, out);
        it.answer(Who::Near, out);
        let arrived = it.arrives(1);
        it.acknowledge(arrived, out);
        it.acknowledge(arrived, out);
        let wanted = [('<', "S", 0, 0, 0), ('>', "SA", 0, 1, 0), ('<', "A", 1, 1, 0)];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn who_called_and_says_something_has_heard_the_answer() {
        let (mut it, mut lines) = (new(), Vec::new());
        let out = to!(lines);
        it.call(Who::Far, out);
        it.answer(Who::Near, out);
        let arrived = it.arrives(1);
        it.send(Who::Far, b"hello", true, out);
        it.acknowledge(arrived, out);
        let wanted = [('<', "A", 1, 1, 0), ('<', "PA", 1, 1, 5), ('>', "A", 1, 6, 0)];
        assert_eq!(lines[2..], wanted, "and it is not said twice");
    }

    #[test]
    fn bytes_are_cut_into_segments_and_acknowledged() {
        let (mut it, mut lines) = open();
        let out = to!(lines);
        it.send(Who::Near, &[0; 2 * 1_448 + 1], true, out);
        let first = it.arrives(2_000);
        it.acknowledge(first, out);
        it.send(Who::Far, &[0; 1_448], true, out);
        it.send(Who::Far, &[], true, out);
        let second = it.arrives(897);
        it.acknowledge(second, out);
        let wanted = [
            ('>', "A", 1, 1, 1_448),
            ('>', "A", 1_449, 1, 1_448),
            ('>', "PA", 2_897, 1, 1),
            ('<', "A", 1, 2_001, 0),
            ('<', "PA", 1, 2_001, 1_448),
            ('>', "A", 2_898, 1_449, 0),
            ('<', "A", 1_449, 2_898, 0),
        ];
        assert_eq!(lines[3..], wanted);
    }

    #[test]
    fn segments_are_shorter_over_ipv6() {
        let (mut it, mut lines) = (between("[fd00::1]:1", "[fd00::2]:2"), Vec::new());
        let out = to!(lines);
        it.call(Who::Near, out);
        it.answer(Who::Far, out);
        it.send(Who::Near, &[0; 1_500], true, out);
        assert_eq!(lines[3..], [('>', "A", 1, 1, 1_428), ('>', "PA", 1_429, 1, 72)]);
    }

    #[test]
    fn both_ends_finish_and_each_is_heard() {
        let (mut it, mut lines) = open();
        let out = to!(lines);
        assert!(it.finish(Who::Near, true, out));
        assert!(!it.finish(Who::Near, true, out));
        let arrived = it.arrives(1);
        it.acknowledge(arrived, out);
        it.send(Who::Far, b"last", true, out);
        assert!(it.finish(Who::Far, true, out));
        let wanted = [
            ('>', "FA", 1, 1, 0),
            ('<', "A", 1, 2, 0),
            ('<', "PA", 1, 2, 4),
            ('>', "A", 2, 5, 0),
            ('<', "FA", 5, 2, 0),
            ('>', "A", 2, 6, 0),
        ];
        assert_eq!(lines[3..], wanted);
    }

    #[test]
    fn an_end_arrives_after_all_else() {
        let (mut it, mut lines) = open();
        let out = to!(lines);
        assert_eq!(it.end_arrives(), None, "it has not finished");
        it.send(Who::Near, b"12", true, out);
        it.finish(Who::Near, true, out);
        assert_eq!(it.end_arrives(), None, "something is on its way");
        it.arrives(2);
        let before = it.end_arrives().expect("the last");
        assert_eq!(before.wrapping_sub(FIRST[0]), 4);
        assert_eq!(it.end_arrives(), None, "it has arrived");
    }

    #[test]
    fn a_call_that_is_taken_back_is_reset_when_it_is_answered() {
        let (mut it, mut lines) = (new(), Vec::new());
        let out = to!(lines);
        it.call(Who::Near, out);
        assert!(!it.finish(Who::Near, true, out), "there is no connection to end");
        it.answer(Who::Far, out);
        assert_eq!(lines, [('>', "S", 0, 0, 0), ('<', "SA", 0, 1, 0), ('>', "RA", 1, 1, 0)]);
    }

    #[test]
    fn a_refusal_is_a_reset_that_acknowledges_the_call() {
        let (mut it, mut lines) = (new(), Vec::new());
        let out = to!(lines);
        it.call(Who::Near, out);
        it.refuse(Who::Far, out);
        // Its number is zero, and not relative to anything.
        assert_eq!(lines[1..], [('<', "RA", 0_u32.wrapping_sub(FIRST[1]), 1, 0)]);
    }

    #[test]
    fn after_a_reset_only_what_was_on_its_way_comes() {
        let (mut it, mut lines) = open();
        let out = to!(lines);
        it.send(Who::Near, b"12", true, out);
        it.reset(Who::Near, out);
        let arrived = it.arrives(2);
        it.acknowledge(arrived, out);
        it.send(Who::Near, b"no", true, out);
        it.send(Who::Far, b"345", false, out);
        it.reset(Who::Near, out);
        let wanted = [
            ('>', "PA", 1, 1, 2),
            ('>', "RA", 3, 1, 0),
            ('<', "PA", 1, 1, 3),
            ('>', "RA", 3, 4, 0),
        ];
        assert_eq!(lines[3..], wanted);
        let (mut it, mut lines) = open();
        let out = to!(lines);
        it.reset(Who::Far, out);
        it.send(Who::Far, b"no", true, out);
        it.send(Who::Near, b"no", true, out);
        it.reset(Who::Near, out);
        assert_eq!(lines[3..], [('<', "RA", 1, 1, 0)]);
    }

    proptest! {
        #[test]
        fn numbers_have_no_gaps_and_nobody_hears_what_was_not_said(
            first in any::<[u32; 2]>(),
            near_calls in any::<bool>(),
            steps in prop::collection::vec((0..5_u8, 0..5_000_usize), 0..40),
        ) {
            let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 1));
            let mut it = Conversation::new(address(1), address(2), first);
            // Numbers that each says next, and that the other acknowledged.
            let (mut next, mut heard) = (first, first);
            let mut told = Vec::new();
            let out = &mut |direction: Direction, segment: &Segment, payload: &[u8]| {
                told.push((direction, *segment, payload.len()));
            };
            let (who, other) = if near_calls { (Who::Near, Who::Far) } else { (Who::Far, Who::Near) };
            it.call(who, out);
            it.answer(other, out);
            // What the near host sent and has not arrived.
            let mut travels = u32::from(!near_calls);
            for (step, count) in steps {
                match step {
                    0 => {
                        it.send(Who::Near, &vec![0; count], true, out);
                        travels += if it.near_finished { 0 } else { count as u32 };
                    }
                    1 => it.send(Who::Far, &vec![0; count], count % 2 == 0, out),
                    2 => {
                        let some = travels.min(count as u32);
                        travels -= some;
                        let before = it.arrives(some);
                        it.acknowledge(before, out);
                    }
                    3 if count < 500 => {
                        it.finish(Who::Far, true, out);
                    }
                    4 if count < 500 => travels += u32::from(it.finish(Who::Near, true, out)),
                    _ => {}
                }
            }
            for (direction, segment, len) in told {
                let (own, other) = if direction == Direction::Out { (0, 1) } else { (1, 0) };
                prop_assert_eq!(segment.seq, next[own], "no gap, nothing twice");
                prop_assert!(len <= 1_448);
                let flags = segment.flags;
                next[own] = next[own]
                    .wrapping_add(len as u32)
                    .wrapping_add(u32::from(flags.has(Flags::SYN) || flags.has(Flags::FIN)));
                if flags.has(Flags::ACK) {
                    let said = next[other].wrapping_sub(segment.ack).cast_signed();
                    prop_assert!(said >= 0, "what was said and nothing else: {}", said);
                    prop_assert!(segment.ack.wrapping_sub(heard[other]).cast_signed() >= 0);
                    heard[other] = segment.ack;
                }
            }
        }
    }
}
