//! A TCP connection whose network has segments, as they would be on a wire.
//!
//! The network knows positions in two streams, and when; a wire has numbers of 32 bits that begin
//! somewhere, clocks of milliseconds, windows that are shifted, and bytes. These are kept from when
//! a machine hands them over until they are acknowledged, so that a segment has its payload each
//! time it is sent.
//!
//! Nothing is added but the acknowledgement with which the host that called ends the handshake.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use super::{Flags, SACK_MAX, Segment, SegmentOptions};
use crate::packet::tcp::{Ack, MSS, Segment as Sent};
use crate::time::Nanos;

/// What timestamps take of a segment that is full.
const TIMESTAMPS_LEN: u16 = 12;

/// Windows are shifted by no more bits (RFC 7323, 2.3).
const WINDOW_SCALE_MAX: u8 = 14;

/// See the [module](self). Sides are 0, which called, and 1.
#[derive(Debug)]
pub(crate) struct Ends {
    sides: [End; 2],
    receive_buffer: u32,
    window_scale: u8,
    /// The host that called knows that it was answered.
    is_open: bool,
    /// It has said so.
    is_confirmed: bool,
}

#[derive(Debug)]
struct End {
    at: SocketAddr,
    /// The number of its call, or its answer.
    first: u32,
    /// What its clock adds to the time, in milliseconds.
    clock: u32,
    /// When it called, or answered.
    greeted: Nanos,
    /// Everything before this position was sent.
    next: u64,
    history: History,
}

/// What a stream has that was not acknowledged.
#[derive(Debug, Default)]
struct History {
    /// With the position of the first byte of each.
    parts: VecDeque<(u64, Bytes)>,
    end: u64,
}

impl Ends {
    /// Nothing was said yet. Each receives with a buffer of so many bytes.
    pub(crate) fn new(now: Nanos, addresses: [SocketAddr; 2], receive_buffer: u32) -> Self {
        // Numbers begin with a clock of 4 microseconds (RFC 9293, 3.4.1), two ends not the same.
        let first = (now.0 / 4_000) as u32;
        let other = first.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
        let end = |at: SocketAddr, first: u32| End {
            at,
            first,
            clock: first.wrapping_mul(0x85eb_ca6b).wrapping_add(0xc2b2_ae35),
            greeted: now,
            next: 0,
            history: History::default(),
        };
        let fits = |scale: &u8| u16::try_from(receive_buffer >> scale).is_ok();
        Self {
            sides: [end(addresses[0], first), end(addresses[1], other)],
            receive_buffer,
            window_scale: (0..WINDOW_SCALE_MAX).find(fits).unwrap_or(WINDOW_SCALE_MAX),
            is_open: false,
            is_confirmed: false,
        }
    }

    /// A machine hands over bytes; everything before a position was acknowledged.
    pub(crate) fn push(&mut self, side: u8, parts: &[Bytes], acked: u64) {
        let history = &mut self.sides[usize::from(side)].history;
        history.forget(acked);
        for part in parts {
            history.push(part.clone());
        }
    }

    /// A call.
    pub(crate) fn call(&mut self, now: Nanos) -> Segment {
        self.greet(now, 0, Flags::SYN)
    }

    /// The answer to it, of a host that takes it.
    pub(crate) fn answer(&mut self, now: Nanos) -> Segment {
        self.greet(now, 1, Flags::SYN | Flags::ACK)
    }

    /// The answer of a host that does not.
    pub(crate) fn refuse(&self) -> Segment {
        let mut segment = self.bare(1, Flags::RST | Flags::ACK);
        segment.ack = self.number(0, 0);
        segment
    }

    /// The host that called hears that it was taken. Returns whether that is news.
    pub(crate) const fn open(&mut self) -> bool {
        !std::mem::replace(&mut self.is_open, true)
    }

    /// What it says then; none if it was said.
    pub(crate) fn confirm(&mut self, now: Nanos) -> Option<Segment> {
        if std::mem::replace(&mut self.is_confirmed, true) {
            return None;
        }
        let nothing =
            Ack { upto: 0, sacked: Box::default(), window: self.receive_buffer, echo: Nanos::ZERO };
        let mut segment = self.said(now, 0, Flags::ACK, &nothing);
        segment.seq = self.number(0, 0);
        Some(segment)
    }

    /// The same, where the first that comes of it is this.
    pub(crate) fn confirm_before(&mut self, now: Nanos, first: &Segment) -> Option<Segment> {
        if !first.flags.has(Flags::ACK) {
            return None;
        }
        let mut segment = self.confirm(now)?;
        if let (Some(own), Some((clock, _))) =
            (&mut segment.options.timestamps, first.options.timestamps)
        {
            own.0 = clock;
        }
        Some(segment)
    }

    /// A segment of this side; none: an acknowledgement. Puts its bytes in `payload`.
    pub(crate) fn segment(
        &mut self,
        now: Nanos,
        side: u8,
        sent: Option<&Sent>,
        ack: &Ack,
        payload: &mut Vec<u8>,
    ) -> Segment {
        let mut segment = self.said(now, side, Flags::ACK, ack);
        let end = &mut self.sides[usize::from(side)];
        let Some(sent) = sent else {
            segment.seq = self.number(side, self.sides[usize::from(side)].next);
            return segment;
        };
        if sent.len == 0 {
            // What a receiver has answers a question.
            segment.seq = self.number(side, sent.seq).wrapping_sub(1);
            return segment;
        }
        let upto = sent.seq + u64::from(sent.payload());
        end.history.copy(sent.seq, upto, payload);
        end.next = end.next.max(sent.seq + u64::from(sent.len));
        if sent.payload() > 0 && upto == end.history.end {
            segment.flags = segment.flags | Flags::PSH;
        }
        if sent.finishes {
            segment.flags = segment.flags | Flags::FIN;
        }
        segment.seq = self.number(side, sent.seq);
        segment
    }

    /// This side will have nothing to do with the connection any more; it has everything before a
    /// position.
    pub(crate) fn reset(&self, now: Nanos, side: u8, upto: u64) -> Segment {
        let ack = Ack { upto, sacked: Box::default(), window: 0, echo: Nanos::ZERO };
        let mut segment = self.said(now, side, Flags::RST | Flags::ACK, &ack);
        segment.seq = self.number(side, self.sides[usize::from(side)].next);
        segment
    }

    /// The number of a position.
    const fn number(&self, side: u8, position: u64) -> u32 {
        self.sides[side as usize].first.wrapping_add(1).wrapping_add(position as u32)
    }

    const fn clock(&self, side: u8, at: Nanos) -> u32 {
        self.sides[side as usize].clock.wrapping_add((at.0 / 1_000_000) as u32)
    }

    const fn bare(&self, side: u8, flags: Flags) -> Segment {
        let [from, to] = [self.sides[side as usize].at, self.sides[1 - side as usize].at];
        Segment { from, to, seq: 0, ack: 0, flags, window: 0, options: SegmentOptions::NONE }
    }

    fn greet(&mut self, now: Nanos, side: u8, flags: Flags) -> Segment {
        self.sides[usize::from(side)].greeted = now;
        let mut segment = self.bare(side, flags);
        segment.seq = self.sides[usize::from(side)].first;
        let mut echo = 0;
        if flags.has(Flags::ACK) {
            segment.ack = self.number(1 - side, 0);
            echo = self.clock(1 - side, self.sides[usize::from(1 - side)].greeted);
        }
        // Never shifted.
        segment.window = self.receive_buffer.min(u16::MAX.into()) as u16;
        segment.options = SegmentOptions {
            max_segment: Some(MSS + TIMESTAMPS_LEN),
            window_scale: Some(self.window_scale),
            sack_permitted: true,
            timestamps: Some((self.clock(side, now), echo)),
            ..SegmentOptions::NONE
        };
        segment
    }

    /// What this side says of what it has.
    fn said(&self, now: Nanos, side: u8, flags: Flags, ack: &Ack) -> Segment {
        let other = 1 - side;
        let mut segment = self.bare(side, flags);
        let shifted = ack.window.div_ceil(1 << self.window_scale);
        segment.window = shifted.min(u16::MAX.into()) as u16;
        if side == 0 && !self.is_open {
            // It gave the call up, and does not know the other's numbers yet.
            segment.flags = Flags(flags.0 & !Flags::ACK.0);
            segment.options.timestamps = Some((self.clock(side, now), 0));
            return segment;
        }
        segment.ack = self.number(other, ack.upto);
        // Before the first bytes, the greeting is all there is to echo.
        let echo = ack.echo.max(self.sides[usize::from(other)].greeted);
        segment.options.timestamps = Some((self.clock(side, now), self.clock(other, echo)));
        let mut sack = [None; SACK_MAX];
        for (place, (from, to)) in sack.iter_mut().zip(&ack.sacked) {
            *place = Some((self.number(other, *from), self.number(other, *to)));
        }
        segment.options.sack = sack;
        segment
    }
}

impl History {
    fn push(&mut self, part: Bytes) {
        let at = self.end;
        self.end += part.len() as u64;
        self.parts.push_back((at, part));
    }

    fn forget(&mut self, upto: u64) {
        while let Some((at, part)) = self.parts.front()
            && at + part.len() as u64 <= upto
        {
            self.parts.pop_front();
        }
    }

    /// Appends what is from one position to another.
    fn copy(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        let before = out.len() as u64;
        let first = self.parts.partition_point(|(at, part)| at + part.len() as u64 <= from);
        for (at, part) in self.parts.range(first..) {
            if *at >= to {
                break;
            }
            let low = from.saturating_sub(*at) as usize;
            let high = part.len().min((to - at) as usize);
            out.extend_from_slice(part.get(low..high).unwrap_or_default());
        }
        debug_assert_eq!(out.len() as u64 - before, to - from, "it was not acknowledged");
    }
}

#[cfg(test)]
mod tests {
    use teem_core::time::Duration;

    use super::*;

    const BUFFER: u32 = 4 * 1024 * 1024;

    /// Its number, with which the one that called begins, is the last before zero.
    const START: Nanos = Nanos(u32::MAX as u64 * 4_000);

    fn ends() -> Ends {
        let address = |text: &str| text.parse().expect("an address");
        Ends::new(START, [address("10.0.0.1:1"), address("10.0.0.2:2")], BUFFER)
    }

    fn ack(upto: u64) -> Ack {
        Ack { upto, sacked: Box::default(), window: BUFFER, echo: Nanos::ZERO }
    }

    fn sent(seq: u64, len: u16) -> Sent {
        Sent { seq, len, finishes: false, sent_at: START, is_again: false }
    }

    #[test]
    fn a_handshake_agrees_on_everything_and_numbers_wrap() {
        let mut ends = ends();
        let call = ends.call(START);
        assert_eq!((call.seq, call.ack, call.flags), (u32::MAX, 0, Flags::SYN));
        assert_eq!((call.window, call.options.window_scale), (u16::MAX, Some(7)));
        assert_eq!((call.options.max_segment, call.options.sack_permitted), (Some(1_460), true));
        let later = START + Duration::from_millis(30);
        let answer = ends.answer(later);
        assert_eq!((answer.ack, answer.flags), (0, Flags::SYN | Flags::ACK));
        let clocks = |segment: &Segment| segment.options.timestamps.expect("always");
        assert_eq!(clocks(&answer).1, clocks(&call).0);
        assert!(ends.open() && !ends.open());
        let end = later + Duration::from_millis(30);
        let confirmed = ends.confirm(end).expect("the first time");
        assert_eq!((confirmed.seq, confirmed.ack), (0, answer.seq.wrapping_add(1)));
        assert_eq!((confirmed.flags, confirmed.window), (Flags::ACK, 1 << 15));
        assert_eq!(clocks(&confirmed), (clocks(&call).0.wrapping_add(60), clocks(&answer).0));
        assert_eq!(ends.confirm(end), None);
    }

    #[test]
    fn a_segment_has_its_bytes_each_time_until_they_are_acknowledged() {
        let mut ends = ends();
        ends.open();
        ends.push(0, &[Bytes::from_static(b"hello "), Bytes::from_static(b"world")], 0);
        let say = |ends: &mut Ends, seq, len| {
            let mut payload = Vec::new();
            let segment = ends.segment(START, 0, Some(&sent(seq, len)), &ack(0), &mut payload);
            (segment.seq, segment.flags, String::from_utf8(payload).expect("ASCII"))
        };
        assert_eq!(say(&mut ends, 0, 8), (0, Flags::ACK, "hello wo".into()));
        assert_eq!(say(&mut ends, 8, 3), (8, Flags::ACK | Flags::PSH, "rld".into()));
        assert_eq!(say(&mut ends, 4, 3), (4, Flags::ACK, "o w".into()));
        ends.push(0, &[Bytes::from_static(b"!")], 6);
        assert_eq!(ends.sides[0].history.parts.len(), 2);
        assert_eq!(say(&mut ends, 6, 6), (6, Flags::ACK | Flags::PSH, "world!".into()));
        // What says nothing goes on from there; a question does not.
        let mut rest = Vec::new();
        assert_eq!(ends.segment(START, 0, None, &ack(0), &mut rest).seq, 12);
        assert_eq!(ends.segment(START, 0, Some(&sent(12, 0)), &ack(0), &mut rest).seq, 11);
        let end = Sent { finishes: true, ..sent(12, 1) };
        let end = ends.segment(START, 0, Some(&end), &ack(0), &mut rest);
        assert_eq!((end.seq, end.flags), (12, Flags::FIN | Flags::ACK));
        assert_eq!((ends.reset(START, 0, 0).seq, rest.len()), (13, 0));
    }

    #[test]
    fn what_was_received_is_told_in_the_other_numbers() {
        let mut ends = ends();
        let ack = Ack { sacked: [(20, 30), (14, 16)].into(), window: 1, ..ack(10) };
        let segment = ends.segment(START, 1, None, &ack, &mut Vec::new());
        assert_eq!((segment.ack, segment.window), (10, 1), "never none where there is some");
        assert_eq!(segment.options.sack, [Some((20, 30)), Some((14, 16)), None]);
        // Whoever gives a call up knows nothing of the other end.
        let segment = ends.reset(START, 0, 0);
        assert_eq!((segment.flags, segment.ack), (Flags::RST, 0));
    }

    #[test]
    fn any_buffer_fits_a_window() {
        for (buffer, scale) in [(65_535, 0), (65_536, 1), (BUFFER, 7), (u32::MAX, 14)] {
            let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
            let ends = Ends::new(START, [address(1), address(2)], buffer);
            assert_eq!(ends.window_scale, scale);
            let full = Ack { window: buffer, ..ack(0) };
            let told = ends.said(START, 1, Flags::ACK, &full).window;
            let least = buffer.min(u32::from(u16::MAX) << scale);
            assert!(u32::from(told) << scale >= least, "{buffer}");
        }
    }
}
