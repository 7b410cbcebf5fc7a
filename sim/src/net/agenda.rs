//! What happens when: a heap keyed by time, and by order of scheduling within one nanosecond.
//!
//! Entries are small and are never taken back. Whoever schedules remembers the time it counts on,
//! and ignores entries of other times (they were moved) when they come up.

use std::num::NonZeroU32;

use teem_core::ids::Key;

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
    /// A datagram arrives, by its number.
    Datagram(u32),
    /// A packet is at its next place, by its number.
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
    /// Above the lowest 8 bits the order of scheduling, below that which kind of [`What`].
    order: u64,
    slot: u32,
    generation: u32,
}

impl Entry {
    fn new(at: Nanos, number: u64, what: What) -> Self {
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
            What::Wake(link) => (13, link, 0),
            What::Resend(id, side) => (14 + u64::from(side), id.slot(), id.generation()),
            What::Acknowledge(id, side) => (16 + u64::from(side), id.slot(), id.generation()),
        };
        Self { at, order: number << 8 | kind, slot, generation }
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
            6 | 7 => What::Arrive(id(), side),
            8 | 9 => What::Left(id(), side),
            10 | 11 => What::Room(id(), side),
            12 => What::Packet(self.slot),
            13 => What::Wake(self.slot),
            14 | 15 => What::Resend(id(), side),
            _ => What::Acknowledge(id(), side),
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
    /// A heap in which each entry has [`CHILDREN`] below it, and none of them comes before it.
    heap: Vec<Entry>,
    scheduled: u64,
}

/// Four lie in two lines of the cache, and the heap is half as deep as with two.
const CHILDREN: usize = 4;

impl Agenda {
    pub(super) fn push(&mut self, at: Nanos, what: What) {
        self.scheduled += 1;
        let entry = Entry::new(at, self.scheduled, what);
        let mut place = self.heap.len();
        self.heap.push(entry);
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            let above = self.heap[parent];
            if above.is_before(&entry) {
                break;
            }
            self.heap[place] = above;
            place = parent;
        }
        self.heap[place] = entry;
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Option<Nanos> {
        self.heap.first().map(|entry| entry.at)
    }

    /// The next thing that is due, and when it was.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<(Nanos, What)> {
        let first = *self.heap.first().filter(|first| first.at <= now)?;
        let last = self.heap.pop()?;
        if !self.heap.is_empty() {
            self.sift_down(last);
        }
        Some((first.at, first.what()))
    }

    /// Puts an entry in place of the first.
    fn sift_down(&mut self, entry: Entry) {
        let mut place = 0;
        loop {
            let first = CHILDREN * place + 1;
            let Some(children) = self.heap.get(first..) else { break };
            // In pairs, which need not wait for each other.
            let least = if let [a, b, c, d, ..] = children {
                let (ab, cd) = (usize::from(b.is_before(a)), 2 + usize::from(d.is_before(c)));
                if children[cd].is_before(&children[ab]) { cd } else { ab }
            } else {
                let earlier =
                    |a: usize, b: usize| if children[b].is_before(&children[a]) { b } else { a };
                let Some(least) = (0..children.len()).reduce(earlier) else { break };
                least
            };
            let child = children[least];
            if !child.is_before(&entry) {
                break;
            }
            self.heap[place] = child;
            place = first + least;
        }
        self.heap[place] = entry;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_they_were_scheduled() {
        let mut agenda = Agenda::default();
        for (at, host) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4)] {
            agenda.push(Nanos(at), What::Timer(host));
        }
        let mut hosts = Vec::new();
        while let Some((_, What::Timer(host))) = agenda.pop(Nanos(5)) {
            hosts.push(host);
        }
        assert_eq!(hosts, [1, 3, 4, 0, 2]);
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

    proptest! {
        #[test]
        fn it_is_a_stable_queue_by_time(steps in prop::collection::vec(0..40_u64, 0..300)) {
            let (mut agenda, mut model) = (Agenda::default(), BTreeSet::new());
            for (number, step) in (0_u32..).zip(steps) {
                // A quarter of the steps take something out.
                if step < 10 {
                    let first: Option<(u64, u32)> = model.pop_first();
                    let expected = first.map(|(at, host)| (Nanos(at), What::Timer(host)));
                    prop_assert_eq!(agenda.pop(Nanos::NEVER), expected);
                } else {
                    agenda.push(Nanos(step), What::Timer(number));
                    model.insert((step, number));
                }
                let next = model.first().map(|(at, _)| Nanos(*at));
                prop_assert_eq!(agenda.next(), next);
            }
        }
    }
}
