//! What happens when: by time, and by order of scheduling within one nanosecond.
//!
//! ```text
//!   pop <-- present: sorted <-- 512 slices of a millisecond, in no order <-- later: a heap
//!       <-- added to it: a heap
//! ```
//!
//! Where hosts share links or packets cross a network there are tens of thousands of entries, and most
//! of them happen within a fraction of a second. One heap of them all would be fetched from afar,
//! level by level, so that only what is about to happen is in order; and what is about to happen can be
//! [told ahead](Agenda::ahead). Elsewhere there is one heap and nothing else.
//!
//! Entries are small and are never taken back. Whoever schedules remembers the time it counts on,
//! and ignores entries of other times (they were moved) when they come up.

mod heap;

use std::cmp::Reverse;
use std::num::NonZeroU32;

use teem_core::ids::Key;

use self::heap::Heap;
use crate::time::Nanos;

/// One connection, and which of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId {
    slot: u32,
    generation: NonZeroU32,
}

impl Key for ConnectionId {
    fn from_parts(slot: u32, generation: u32) -> Self {
        Self { slot, generation: NonZeroU32::new(generation).unwrap_or(NonZeroU32::MIN) }
    }

    fn slot(self) -> u32 {
        self.slot
    }

    fn generation(self) -> u32 {
        self.generation.get()
    }
}

/// Which end of a connection: 0 dialled.
pub(super) type Side = u8;

/// Something to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A host's machine may be due.
    Timer(u32),
    /// A job of a host may be done.
    Job(u32),
    /// A call arrives at the other end, or would have.
    Dial(ConnectionId),
    /// The answer to it arrives.
    Answer(ConnectionId),
    /// What this side sent arrives.
    Arrive(ConnectionId, Side),
    /// Bytes of this side have left for the network.
    Left(ConnectionId, Side),
    /// This side hears that there is room again.
    Room(ConnectionId, Side),
    /// This side learns that a NAT has forgotten the connection.
    Broken(ConnectionId, Side),
    /// A datagram arrives, by its number.
    Datagram(u32),
    /// A packet of so many bytes comes to the line of a host, by its number.
    Comes { packet: u32, host: u32, bytes: u16 },
    /// A packet is there, by its number.
    Packet(u32),
    /// What waits before a link may leave, by the number of the link.
    Wake(u32),
    /// This side may have to send again.
    Resend(ConnectionId, Side),
    /// This side may have to acknowledge.
    Acknowledge(ConnectionId, Side),
}

/// 24 bytes: half of the cost of a large heap is to fetch it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Nanos,
    /// From the highest bit on: the order of scheduling, what there is to say in 16 bits, and which
    /// kind of [`What`] in 8.
    order: u64,
    slot: u32,
    generation: u32,
}

impl Entry {
    fn new(at: Nanos, number: u64, what: What) -> Self {
        let mut bits = 0;
        let (kind, slot, generation) = match what {
            What::Timer(host) => (0, host, 0),
            What::Job(host) => (1, host, 0),
            What::Datagram(number) => (2, number, 0),
            What::Dial(id) => (3, id.slot(), id.generation()),
            What::Answer(id) => (4, id.slot(), id.generation()),
            What::Arrive(id, side) => (6 + u64::from(side), id.slot(), id.generation()),
            What::Left(id, side) => (8 + u64::from(side), id.slot(), id.generation()),
            What::Room(id, side) => (10 + u64::from(side), id.slot(), id.generation()),
            What::Packet(number) => (12, number, 0),
            What::Comes { packet, host, bytes } => {
                bits = bytes;
                (5, packet, host)
            }
            What::Wake(link) => (13, link, 0),
            What::Resend(id, side) => (14 + u64::from(side), id.slot(), id.generation()),
            What::Acknowledge(id, side) => (16 + u64::from(side), id.slot(), id.generation()),
            What::Broken(id, side) => (18 + u64::from(side), id.slot(), id.generation()),
        };
        Self { at, order: number << 24 | u64::from(bits) << 8 | kind, slot, generation }
    }

    fn what(&self) -> What {
        let id = || ConnectionId::from_parts(self.slot, self.generation);
        let side = (self.order & 1) as Side;
        match self.order & 0xff {
            0 => What::Timer(self.slot),
            1 => What::Job(self.slot),
            2 => What::Datagram(self.slot),
            3 => What::Dial(id()),
            4 => What::Answer(id()),
            5 => {
                let bytes = (self.order >> 8) as u16;
                What::Comes { packet: self.slot, host: self.generation, bytes }
            }
            6 | 7 => What::Arrive(id(), side),
            8 | 9 => What::Left(id(), side),
            10 | 11 => What::Room(id(), side),
            12 => What::Packet(self.slot),
            13 => What::Wake(self.slot),
            14 | 15 => What::Resend(id(), side),
            16 | 17 => What::Acknowledge(id(), side),
            _ => What::Broken(id(), side),
        }
    }

    /// Orders of scheduling are unique, so this is by time and then by that.
    const fn is_before(&self, other: &Self) -> bool {
        self.at.0 < other.at.0 || self.at.0 == other.at.0 && self.order < other.order
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// What happens in the present slice and was scheduled before it began, the first last.
    present: Vec<Entry>,
    /// How many of them [`Agenda::ahead`] did not tell of.
    untold: usize,
    /// What was scheduled later than that; without a wheel, everything.
    added: Heap,
    /// Which slice is the present one.
    slice: u64,
    /// What happens after it; none: everything is in the heap.
    wheel: Option<Box<Wheel>>,
    scheduled: u64,
}

/// Slices of time, and what happens in each.
#[derive(Debug)]
struct Wheel {
    /// Those after the present one, by their number modulo [`SLICES`], each in no order.
    slices: [Vec<Entry>; SLICES],
    /// Entries in them.
    filled: usize,
    /// Memory of slices that are over, for the next: the last is the most likely to be near.
    spare: Vec<Vec<Entry>>,
    /// What happens after all of these.
    later: Heap,
}

/// As many as have a number of their own: a million a second for twelve days.
const SCHEDULED_MAX: u64 = 1 << 40;

/// The length of a slice of time, as a power of two: a millisecond.
const SLICE_BITS: u32 = 20;

/// How many things are told of ahead: enough that what they need is waited for together, and few
/// enough that it stays near until they happen.
const AHEAD: usize = 32;

/// Slices of a [`Wheel`]: half a second, which is longer than most packets are on their way.
const SLICES: usize = 512;

/// Entries that memory is kept for when a slice is over: more of them come seldom.
const SPARE_MAX: usize = 256;

/// In which slice a time is.
const fn slice_of(at: Nanos) -> u64 {
    at.0 >> SLICE_BITS
}

impl Agenda {
    /// Where thousands of things happen in each hundredth of a second, as with packets.
    pub(super) fn busy() -> Self {
        let wheel = Wheel {
            slices: [const { Vec::new() }; SLICES],
            filled: 0,
            spare: Vec::new(),
            later: Heap::default(),
        };
        Self { wheel: Some(Box::new(wheel)), ..Self::default() }
    }

    pub(super) fn push(&mut self, at: Nanos, what: What) {
        self.scheduled += 1;
        assert!(self.scheduled < SCHEDULED_MAX, "a run ends before that");
        let entry = Entry::new(at, self.scheduled, what);
        match &mut self.wheel {
            Some(wheel) if slice_of(at) > self.slice => {
                wheel.push(self.slice, entry);
                self.turn();
            }
            _ => self.added.push(entry),
        }
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Option<Nanos> {
        let first = if self.is_present_first() { self.present.last() } else { self.added.first() };
        first.map(|entry| entry.at)
    }

    /// The next thing that is due, and when it was.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<(Nanos, What)> {
        let first = if self.is_present_first() {
            self.present.pop_if(|first| first.at <= now)?
        } else {
            self.added.pop(now)?
        };
        self.turn();
        Some((first.at, first.what()))
    }

    /// Whether the first of what is present comes before what was added.
    fn is_present_first(&self) -> bool {
        match (self.present.last(), self.added.first()) {
            (Some(present), Some(added)) => present.is_before(added),
            (present, _) => present.is_some(),
        }
    }

    /// The next [`AHEAD`] things that happen in the present slice, in no order, once all are over
    /// that were told of before. What is scheduled meanwhile is not among them.
    pub(super) fn ahead(&mut self) -> impl Iterator<Item = What> {
        let upto = self.present.len();
        let from = if upto > self.untold { upto } else { upto.saturating_sub(AHEAD) };
        self.untold = self.untold.min(from);
        self.present[from..].iter().map(Entry::what)
    }

    /// Makes the next slice in which something happens the present one, if this one is over.
    fn turn(&mut self) {
        let Some(wheel) = &mut self.wheel else { return };
        if !self.present.is_empty() || !self.added.is_empty() {
            return;
        }
        if wheel.filled == 0 {
            let Some(first) = wheel.later.first() else { return };
            // Nothing is in between.
            self.slice = slice_of(first.at) - 1;
        }
        while self.present.is_empty() {
            self.slice += 1;
            wheel.take(self.slice, &mut self.present);
        }
        self.present.sort_unstable_by_key(|entry| Reverse((entry.at, entry.order)));
        self.untold = self.present.len();
    }
}

impl Wheel {
    /// Something happens after the present slice.
    fn push(&mut self, present: u64, entry: Entry) {
        let slice = slice_of(entry.at);
        if slice - present >= SLICES as u64 {
            self.later.push(entry);
            return;
        }
        let entries = &mut self.slices[slice as usize % SLICES];
        if entries.capacity() == 0 {
            *entries = self.spare.pop().unwrap_or_default();
        }
        entries.push(entry);
        self.filled += 1;
    }

    /// A slice becomes the present one: what happens in it is taken out, in no order, and what is
    /// within reach now is brought in.
    fn take(&mut self, slice: u64, present: &mut Vec<Entry>) {
        let entries = std::mem::take(&mut self.slices[slice as usize % SLICES]);
        if !entries.is_empty() {
            self.filled -= entries.len();
            let over = std::mem::replace(present, entries);
            if (1..=SPARE_MAX).contains(&over.capacity()) {
                self.spare.push(over);
            }
        }
        while let Some(first) = self.later.first()
            && slice_of(first.at) < slice + SLICES as u64
            && let Some(first) = self.later.pop(first.at)
        {
            if slice_of(first.at) > slice {
                self.push(slice, first);
            } else {
                present.push(first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_they_were_scheduled() {
        for (mut agenda, unit) in
            [(Agenda::default(), 1), (Agenda::busy(), 1), (Agenda::busy(), SLICE)]
        {
            for (at, host) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4)] {
                agenda.push(Nanos(unit * at), What::Timer(host));
            }
            let mut hosts = Vec::new();
            while let Some((_, What::Timer(host))) = agenda.pop(Nanos(unit * 5)) {
                hosts.push(host);
            }
            assert_eq!(hosts, [1, 3, 4, 0, 2]);
        }
    }

    #[test]
    fn everything_comes_out_as_it_went_in() {
        let id = ConnectionId::from_parts(u32::MAX, u32::MAX);
        let all = [
            What::Timer(1),
            What::Job(2),
            What::Datagram(u32::MAX),
            What::Dial(id),
            What::Answer(id),
            What::Arrive(id, 0),
            What::Arrive(id, 1),
            What::Left(id, 0),
            What::Left(id, 1),
            What::Room(id, 0),
            What::Room(id, 1),
            What::Packet(3),
            What::Comes { packet: u32::MAX, host: u32::MAX, bytes: u16::MAX },
            What::Wake(4),
            What::Resend(id, 0),
            What::Resend(id, 1),
            What::Acknowledge(id, 0),
            What::Acknowledge(id, 1),
        ];
        let mut agenda = Agenda::default();
        for what in all {
            agenda.push(Nanos(3), what);
        }
        assert_eq!(agenda.pop(Nanos(2)), None);
        let out: Vec<_> = std::iter::from_fn(|| agenda.pop(Nanos(4))).collect();
        assert_eq!(out, all.map(|what| (Nanos(3), what)));
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn slices_that_are_over_leave_little_memory_behind() {
        let mut agenda = Agenda::busy();
        for slice in 1..3 * SLICES as u64 {
            // A burst now and then.
            let count = if slice.is_multiple_of(100) { 40 * SPARE_MAX as u64 } else { 100 };
            for number in 0..count {
                agenda.push(Nanos((slice + number % 4) * SLICE), What::Timer(0));
            }
            while agenda.pop(Nanos(slice * SLICE)).is_some() {}
        }
        let wheel = agenda.wheel.expect("it is busy");
        let kept: Vec<usize> = wheel
            .spare
            .iter()
            .chain(&wheel.slices)
            .map(Vec::capacity)
            .filter(|it| *it > 0)
            .collect();
        // As many as there are in use at a time.
        assert!((1..=4).contains(&kept.len()), "{kept:?}");
        assert!(kept.iter().all(|kept| *kept <= SPARE_MAX), "{kept:?}");
    }

    /// A slice of time, in nanoseconds.
    const SLICE: u64 = 1 << SLICE_BITS;

    proptest! {
        #[test]
        fn it_is_a_stable_queue_by_time(
            is_busy: bool,
            // From a few in a slice to many slices without any.
            unit in prop::sample::select(vec![1, SLICE / 8, 3 * SLICE, SLICES as u64 * SLICE / 4]),
            steps in prop::collection::vec(0..40_u64, 0..300),
        ) {
            let mut agenda = if is_busy { Agenda::busy() } else { Agenda::default() };
            let (mut model, mut now) = (BTreeSet::new(), 0);
            for (number, step) in (0_u32..).zip(steps) {
                // A quarter of the steps take something out, and time moves there.
                if step < 10 {
                    let first: Option<(u64, u32)> = model.pop_first();
                    let expected = first.map(|(at, host)| (Nanos(at), What::Timer(host)));
                    prop_assert_eq!(agenda.pop(Nanos::NEVER), expected);
                    now = first.map_or(now, |first| first.0);
                } else {
                    let at = now + unit * (step - 10);
                    agenda.push(Nanos(at), What::Timer(number));
                    model.insert((at, number));
                }
                let next = model.first().map(|(at, _)| Nanos(*at));
                prop_assert_eq!(agenda.next(), next);
            }
        }
    }
}
